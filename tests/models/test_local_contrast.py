"""Local contrast normalisation, against the definition written out for single pixels."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.models import local_contrast


def make_image(height=23, width=31, channels=2):
    random = np.random.default_rng(7)
    return random.uniform(0, 255, (1, height, width, channels)).astype(np.float32)


def written_out(x, window):
    """Jarrett et al., section 2, one pixel after the other; [h, w], float64."""
    line = local_contrast.gaussian(window).astype(np.float64)
    half = window // 2

    def mean(values):
        result = np.empty_like(values)
        for row, column in np.ndindex(values.shape):
            rows = np.arange(max(0, row - half), min(values.shape[0], row + half + 1))
            columns = np.arange(max(0, column - half), min(values.shape[1], column + half + 1))
            weights = np.outer(line[rows - row + half], line[columns - column + half])
            result[row, column] = (weights * values[np.ix_(rows, columns)]).sum() / weights.sum()
        return result

    centred = x - mean(x)
    deviation = np.sqrt(mean(centred ** 2))
    return centred / np.maximum(deviation, deviation.mean())


def test_it_is_the_definition_for_each_channel_on_its_own():
    x = make_image()
    ours = local_contrast.normalise(x, window=9).numpy()
    for channel in range(2):
        expected = written_out(x[0, ..., channel].astype(np.float64), 9)
        np.testing.assert_allclose(ours[0, ..., channel], expected, atol=2e-4)


def test_brightness_and_contrast_do_not_matter():
    x = make_image()
    np.testing.assert_allclose(local_contrast.normalise(0.3 * x + 50),
                               local_contrast.normalise(x), atol=1e-3)


@pytest.mark.parametrize('grey', [0.0, 77.7, 255.0])
def test_a_constant_image_is_nothing_and_breaks_nothing(grey):
    x = tf.fill([1, 20, 17, 3], grey)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = local_contrast.normalise(x)
        loss = tf.reduce_sum(tf.square(y))
    assert np.abs(y).max() < 1e-2
    assert np.isfinite(tape.gradient(loss, x)).all()


def test_flat_regions_are_not_blown_up_unless_the_floor_says_so():
    x = np.full((1, 40, 40, 1), 100, np.float32)
    x[0, :, 20:] += 100 * np.random.default_rng(0).uniform(size=(40, 20, 1)).astype(np.float32)
    x[0, :, :20] += np.random.default_rng(1).uniform(size=(40, 20, 1)).astype(np.float32)
    flat = np.s_[0, :, :8]
    assert local_contrast.normalise(x).numpy()[flat].std() < 0.1
    assert local_contrast.normalise(x, floor=0.1).numpy()[flat].std() > 0.5


def test_a_batch_is_its_images():
    x = np.concatenate([make_image(), make_image()[:, ::-1] * 0.2])
    together = local_contrast.normalise(x)
    for index in range(2):
        np.testing.assert_allclose(together[index:index + 1],
                                   local_contrast.normalise(x[index:index + 1]), atol=1e-5)


def test_blurring_keeps_constants_up_to_the_border():
    blurred = local_contrast.blurred(tf.fill([2, 11, 6, 3], 3.0), local_contrast.gaussian(15))
    np.testing.assert_allclose(blurred, np.full((2, 11, 6, 3), 3.0), rtol=1e-5)
    assert local_contrast.gaussian(15).sum() == pytest.approx(1.0, abs=1e-6)
