"""Class maps by a file of one size: where an image lies in it, what its classes are called."""
import pathlib

import numpy as np
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.evaluation import file_predictor


class _Red:
    """As `map_file.MapFile`: the class of a pixel is its red value; it keeps what it was shown."""
    path, num_classes = pathlib.Path('red.tflite'), 256

    def __init__(self, size, padding_colour=(127.5,) * 3, resized=False):
        self.size, self.padding_colour, self.resized = size, padding_colour, resized

    def __call__(self, image):
        self.shown = image
        return image[..., 0].copy()


def _image(*size):
    return np.random.default_rng(0).integers(0, 250, (*size, 3), np.uint8)


def test_smaller_images_are_padded_at_the_bottom_and_the_right():
    file, image = _Red((9, 11), (123.68, 116.78, 103.94)), _image(7, 5)
    (ids, confidence), = file_predictor.FilePredictor(file)([image])
    np.testing.assert_array_equal(ids, image[..., 0])
    assert confidence is None and file.shown.shape == (9, 11, 3)
    np.testing.assert_array_equal(file.shown[:7, :5], image)
    np.testing.assert_array_equal(file.shown[7:].reshape(-1, 3), [[124, 117, 104]] * 22)
    file_predictor.FilePredictor(file := _Red((9, 11)))([image])
    assert (file.shown[:, 5:] == 127).all()  # of 127.5


def test_an_image_of_the_files_size_and_a_file_of_any_see_it_as_it_is():
    for size in ((7, 5), None):
        file, image = _Red(size), _image(7, 5)
        (ids, _), = file_predictor.FilePredictor(file)([image])
        np.testing.assert_array_equal(file.shown, image)
        np.testing.assert_array_equal(ids, image[..., 0])


@pytest.mark.parametrize('size', [(10, 5), (7, 12)])
def test_larger_ones_are_refused(size):
    predictor = file_predictor.FilePredictor(_Red((9, 11)))
    with pytest.raises(UserError, match='9x11 at most'):
        predictor([_image(*size)])
    with pytest.raises(UserError, match=f'^street.png: has {size[0]}x{size[1]}'):
        predictor.require_size(size, 'street.png')


def test_where_it_resizes_the_map_has_the_images_size_again():
    file = _Red((9, 9), resized=True)
    image = np.zeros((36, 18, 3), np.uint8)
    image[:18] = 200
    (ids, _), = file_predictor.FilePredictor(file)([image])
    assert ids.shape == (36, 18) and (file.shown[:, 4:] == 127).all()  # 9x4 of its 9x9
    assert (ids[:16] == 200).all() and (ids[20:] == 0).all()
    predictor = file_predictor.FilePredictor(_Red((9, 17), resized=True))
    with pytest.raises(UserError, match='17x8 pixels after resizing'):
        predictor([image])  # its longer side is the file's shorter one


def test_classes_are_called_as_the_data_call_them():
    image = np.array([[[0] * 3, [1] * 3, [2] * 3]], np.uint8)
    file = _Red((1, 3))
    (ids, _), = file_predictor.FilePredictor(file, translation=[2, -1, 0])([image])
    np.testing.assert_array_equal(ids, [[2, 255, 0]])
    with pytest.raises(UserError, match='a choice among some of its classes needs probabilities'):
        file_predictor.FilePredictor(file, translation=[2, -1, 0], only_named=True)
    file.num_classes = 2
    with pytest.raises(UserError, match='gave class 2, and has 2'):
        file_predictor.FilePredictor(file)([image])


def test_what_is_no_image():
    with pytest.raises(UserError, match='expected uint8'):
        file_predictor.FilePredictor(_Red((9, 9)))([_image(7, 5).astype(np.float32)])
