"""Small data sets in the layouts the readers know, in a temporary folder."""
import pathlib
import sys

import pytest
from PIL import Image

# The tests run in importlib mode, which puts no test folder on the path.
sys.path.insert(0, str(pathlib.Path(__file__).parent))
from data_layouts import draw_pair, write_folder  # noqa: E402


@pytest.fixture
def own_folder(tmp_path):
    """Ten PNG pairs in the flat folder layout."""
    return write_folder(tmp_path / 'own', [f'p{i}' for i in range(10)])


@pytest.fixture
def mini_stanford(tmp_path):
    """Six images in the official layout of Stanford Background."""
    folder = tmp_path / 'iccv09Data'
    (folder / 'images').mkdir(parents=True)
    (folder / 'labels').mkdir()
    for number in range(6):
        image, label = draw_pair(number, classes=8)
        ids = label.astype(int)
        ids[label == 255] = -1 - number  # any negative number means unknown
        Image.fromarray(image).save(folder / 'images' / f'{number:07d}.jpg', quality=90)
        text = '\n'.join(' '.join(str(v) for v in row) for row in ids) + '\n'
        (folder / 'labels' / f'{number:07d}.regions.txt').write_text(text)
        (folder / 'labels' / f'{number:07d}.layers.txt').write_text(text)
    return folder
