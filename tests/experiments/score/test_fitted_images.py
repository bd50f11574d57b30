"""Images brought to one size: shrunk or padded, spread over a folder."""
import numpy as np
import pytest
from PIL import Image

from tf_advseg.core.errors import UserError
from tf_advseg.experiments.score import fitted_images


def test_they_are_shrunk_until_they_fit_and_padded_with_grey(tmp_path):
    Image.fromarray(np.full((40, 20, 3), 200, np.uint8)).save(tmp_path / 'a.png')
    (large,), text = fitted_images.read(tmp_path / 'a.png', (10, 10))
    assert (large[:, :5] == 200).all() and (large[:, 5:] == 127).all()
    assert text == f'1 images of {tmp_path / "a.png"}'
    (small,), _ = fitted_images.read(tmp_path / 'a.png', (50, 30))
    assert (small[:40, :20] == 200).all() and (small[40:] == 127).all()


def test_of_many_some_are_taken_that_lie_evenly(tmp_path):
    for number in range(10):
        Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(tmp_path / f'{number}.png')
    found, text = fitted_images.read(tmp_path, (4, 4), most=5)
    assert [int(image[0, 0, 0]) for image in found] == [0, 2, 4, 6, 8]
    assert text == f'5 images of {tmp_path}'


def test_without_any_they_are_made_up_and_differ():
    found, text = fitted_images.read(None, (33, 49))
    assert 'made-up' in text and {image.shape for image in found} == {(33, 49, 3)}
    assert len({image.tobytes() for image in found}) == fitted_images.SYNTHETIC
    with pytest.raises(UserError, match='no/such'):
        fitted_images.read('no/such', (33, 49))
