"""Align-corners resizing against NumPy."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.data.augmentation import official_preprocessing
from tf_advseg.models import resize

MAP = np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype(np.float32)


def numpy_bilinear(x, size):
    rows, cols = (np.linspace(0, n - 1, m) for n, m in zip(x.shape[1:3], size))
    x = np.stack([np.stack([np.stack([
        np.interp(rows, np.arange(x.shape[1]), x[b, :, j, c]) for j in range(x.shape[2])], 1)
        for c in range(x.shape[3])], -1) for b in range(x.shape[0])])
    return np.stack([np.stack([np.stack([
        np.interp(cols, np.arange(x.shape[2]), x[b, i, :, c]) for i in range(x.shape[1])])
        for c in range(x.shape[3])], -1) for b in range(x.shape[0])])


@pytest.mark.parametrize('size', [(7, 9), (13, 33), (2, 3), (4, 9)])
def test_bilinear_aligns_corners(size):
    ours = resize.resize_bilinear(MAP, size).numpy()
    np.testing.assert_allclose(ours, numpy_bilinear(MAP, size), atol=1e-5)
    np.testing.assert_array_equal(ours[:, [0, 0, -1, -1], [0, -1, 0, -1]],
                                  MAP[:, [0, 0, -1, -1], [0, -1, 0, -1]])


def test_nearest_keeps_type_and_corners():
    labels = np.arange(12, dtype=np.uint8).reshape(1, 3, 4, 1)
    ours = resize.resize_nearest(labels, (5, 7)).numpy()
    assert ours.dtype == np.uint8 and ours.shape == (1, 5, 7, 1)
    np.testing.assert_array_equal(ours[0, ::2, ::2, 0], labels[0, :, :, 0])


@pytest.mark.parametrize('size', [(7, 9), (2, 3)])
def test_images_and_labels_are_resized_by_the_same_rule(size):
    """The room of the data, below this one, has the two ops for itself."""
    np.testing.assert_array_equal(official_preprocessing.resized_map(tf.constant(MAP[0]), size),
                                  resize.resize_bilinear(MAP, size)[0])
    labels = np.arange(20, dtype=np.uint8).reshape(4, 5)
    np.testing.assert_array_equal(
        official_preprocessing.resized_map(tf.constant(labels), size),
        resize.resize_nearest(labels[None, ..., None], size)[0, ..., 0])


def test_same_size_is_free_and_a_size_may_be_a_tensor():
    x = tf.constant(MAP)
    assert resize.resize_bilinear(x, (4, 5)) is x
    np.testing.assert_array_equal(resize.resize_bilinear(x, tf.constant([7, 9])),
                                  resize.resize_bilinear(x, (7, 9)))


def test_half_precision_becomes_float32():
    assert resize.resize_bilinear(tf.cast(MAP, tf.float16), (4, 5)).dtype == tf.float32


def test_scale_dimension_is_the_official_rule():
    sides = [resize.scale_dimension(side, 1 / 16) for side in (513, 321, 128, 192, 1)]
    assert sides == [33, 21, 8, 12, 1]
    assert resize.scale_dimension(513, 0.5) == 257
    assert int(resize.scale_dimension(tf.constant(321), 1 / 16)) == 21
