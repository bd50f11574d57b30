"""What prepare_data says of what it has made."""
import numpy as np
import pytest
from PIL import Image

from tf_advseg.core.errors import UserError
from tf_advseg.experiments.convert import preparing


@pytest.fixture
def source(tmp_path):
    """Four images of 8x8 pixels; class 2 is shown by "c" alone."""
    folder = tmp_path / 'source'
    for part in ('images', 'labels'):
        (folder / part).mkdir(parents=True)
    for number, name in enumerate('abcd'):
        labels = np.tile([0, 1, 2 if name == 'c' else 1, 0], (8, 2)).astype(np.uint8)
        Image.fromarray(np.full((8, 8, 3), 40 * number, np.uint8)).save(
            folder / 'images' / f'{name}.png')
        Image.fromarray(labels).save(folder / 'labels' / f'{name}.png')
    (folder / 'splits').mkdir()
    return folder


def split(source, **parts):
    """Writes split lists."""
    for name, ids in parts.items():
        (source / 'splits' / f'{name}.txt').write_text('\n'.join(ids) + '\n')


@pytest.mark.parametrize('train, warned', [('ab', True), ('ac', False)])
def test_a_class_that_no_training_image_shows_is_warned_of(source, tmp_path, caplog, train, warned):
    rest = sorted(set('abcd') - set(train))
    split(source, train=train, val=rest[:1], test=rest[1:])
    preparing.prepare('folder', source, tmp_path / 'records', show=False)
    assert ('no image of split "train" shows "class_2", which other images do' in caplog.text) == warned


def test_a_damaged_image_is_told_with_how_to_find_all_others(source, tmp_path):
    (source / 'images' / 'b.png').write_bytes(b'no image')
    with pytest.raises(UserError, match=r'b\.png.*; tools/doctor\.py names all such images'):
        preparing.prepare('folder', source, tmp_path / 'records', show=False)
