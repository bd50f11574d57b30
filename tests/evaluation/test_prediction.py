"""Whole-image prediction at the image's own size."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.evaluation.prediction import predict


class Brightness(tf.keras.Model):
    """Logits of 'dark' and 'light' at stride 16; keeps the sizes it was shown."""

    def __init__(self):
        super().__init__()
        self.shown, self.traces = [], []

    def call(self, image, training=False):
        self.traces.append(training)
        tf.py_function(lambda x: self.shown.append(tuple(x.shape[1:3])), [image], [])
        light = image[:, ::16, ::16, :1] - 127.5
        return tf.concat([-light, light], -1)


def make_image(height, width):
    """Left half dark, right half light, at multiples of 16."""
    image = np.zeros([height, width, 3], np.uint8)
    image[:, width // 2:] = 255
    return image


@pytest.mark.parametrize('height, width, crop_size, padded', [
    (40, 64, (65, 65), (65, 65)), (40, 64, 65, (65, 65)), (33, 65, None, (33, 65)),
    (40, 70, (65, 65), (65, 81)), (17, 34, None, (17, 49)), (1, 1, None, (1, 1))])
def test_any_size_is_padded_and_cropped_back(height, width, crop_size, padded):
    model = Brightness()
    ids = predict(model, make_image(height, width), crop_size)
    assert model.shown == [padded]
    assert ids.shape == (height, width) and ids.dtype == np.uint8
    if width > 32:
        np.testing.assert_array_equal(ids[:, :width // 2 - 16], 0)
        np.testing.assert_array_equal(ids[:, width // 2 + 16:], 1)


def test_probabilities_belong_to_the_ids():
    image = make_image(40, 70)
    ids, probabilities = predict(Brightness(), image, 65, probabilities=True)
    assert probabilities.shape == (40, 70, 2) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(-1), 1.0, atol=1e-6)
    np.testing.assert_array_equal(probabilities.argmax(-1), ids)
    np.testing.assert_array_equal(predict(Brightness(), image, 65), ids)


def test_images_of_any_size_compile_once():
    model = Brightness()
    for side in (40, 50, 60, 90):
        predict(model, make_image(side, side), 65)
    assert len(model.traces) == 1 and model.shown == [(65, 65)] * 3 + [(97, 97)]


def test_new_weights_are_seen():
    inputs = tf.keras.Input([None, None, 3])
    model = tf.keras.Model(inputs, tf.keras.layers.Conv2D(3, 1, 16, 'same')(inputs))
    model.layers[-1].kernel.assign(tf.zeros([1, 1, 3, 3]))
    for c in (2, 1):
        model.layers[-1].bias.assign(tf.one_hot(c, 3))
        np.testing.assert_array_equal(predict(model, make_image(20, 30)), c)


@pytest.mark.parametrize('image', [
    np.zeros([8, 8], np.uint8), np.zeros([8, 8, 4], np.uint8), np.zeros([8, 8, 3], np.float32),
    np.zeros([0, 8, 3], np.uint8)])
def test_what_is_no_image_is_refused(image):
    with pytest.raises(UserError, match='expected uint8'):
        predict(Brightness(), image)
