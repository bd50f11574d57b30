"""Pixel losses against NumPy and finite differences."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.losses import pixel

RANDOM = np.random.default_rng(3)
LOGITS = RANDOM.normal(size=(3, 4, 5, 6)).astype(np.float32)
LABELS = RANDOM.integers(0, 6, (3, 4, 5)).astype(np.int32)
LABELS[0, 0, :3] = 255
LABELS[1, 2] = 255
WEIGHTS = RANDOM.uniform(0.1, 3.0, LABELS.shape).astype(np.float32)


def numpy_sums(logits, labels, weights):
    logits = logits.astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    picked = np.take_along_axis(log_p, np.where(labels == 255, 0, labels)[..., None], -1)[..., 0]
    return (-picked * weights * (labels != 255)).sum((1, 2))


@pytest.mark.parametrize('weights', [None, WEIGHTS])
def test_cross_entropy_matches_numpy(weights):
    sums, counts = pixel.cross_entropy(LOGITS, LABELS, pixel_weights=weights)
    factor = np.ones_like(WEIGHTS) if weights is None else weights
    np.testing.assert_allclose(sums, numpy_sums(LOGITS, LABELS, factor), rtol=1e-5)
    assert counts.numpy().tolist() == (LABELS != 255).sum((1, 2)).tolist()
    assert sums.dtype == counts.dtype == tf.float32


def gradient(logits, labels, weights=None):
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        sums, _ = pixel.cross_entropy(logits, labels, pixel_weights=weights)
        total = tf.reduce_sum(sums)
    return total.numpy(), tape.gradient(total, logits).numpy()


def test_gradient_matches_finite_differences_and_is_zero_where_ignored():
    _, analytic = gradient(LOGITS, LABELS, WEIGHTS)
    assert np.all(analytic[LABELS == 255] == 0.0)
    for place in [(0, 1, 1, 2), (2, 3, 4, 5), (1, 0, 0, 0), (0, 0, 1, 3)]:
        step = np.zeros(LOGITS.shape)
        step[place] = 1e-5
        numeric = (numpy_sums(LOGITS + step, LABELS, WEIGHTS).sum()
                   - numpy_sums(LOGITS - step, LABELS, WEIGHTS).sum()) / 2e-5
        assert analytic[place] == pytest.approx(numeric, abs=1e-4)


def test_nothing_but_ignored_pixels_is_zero_without_nan():
    total, gradients = gradient(LOGITS, np.full_like(LABELS, 255))
    assert total == 0.0
    assert np.all(gradients == 0.0)
    _, counts = pixel.cross_entropy(LOGITS, np.full_like(LABELS, 255))
    assert np.all(counts.numpy() == 0.0)


def test_another_ignore_label():
    sums, counts = pixel.cross_entropy(LOGITS, np.zeros_like(LABELS), ignore_label=0)
    assert np.all(sums.numpy() == 0.0) and np.all(counts.numpy() == 0.0)


def test_half_precision_logits_give_a_float32_loss():
    sums, _ = pixel.cross_entropy(tf.cast(LOGITS, tf.float16), LABELS)
    assert sums.dtype == tf.float32
    np.testing.assert_allclose(sums, numpy_sums(LOGITS, LABELS, np.ones_like(WEIGHTS)), rtol=1e-2)


@pytest.mark.parametrize('reading', ['per_class', 'global'])
def test_image_class_weights_match_the_sentence_of_the_paper(reading):
    average = np.array([4.0, 2.0, 7.5, 0.0, 1.0, 3.0])
    weights = pixel.image_class_weights(LABELS, 6, average, reading=reading).numpy()
    expected = np.zeros_like(weights)
    for b, y, x in np.ndindex(LABELS.shape):
        c = LABELS[b, y, x]
        if c != 255:
            numerator = average[c] if reading == 'per_class' else average.mean()
            expected[b, y, x] = numerator / (LABELS[b] == c).sum()
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_per_class_weights_turn_an_image_of_average_counts_into_plain_cross_entropy():
    counts = np.bincount(LABELS[2].ravel(), minlength=6)
    weights = pixel.image_class_weights(LABELS[2:], 6, counts)
    np.testing.assert_allclose(weights, np.ones((1, 4, 5)), rtol=1e-6)


def test_class_weights_are_bounded_on_request_and_checked():
    average = np.full(6, 1000.0)
    assert pixel.image_class_weights(LABELS, 6, average, maximum=5.0).numpy().max() == 5.0
    with pytest.raises(ValueError, match='per_class'):
        pixel.image_class_weights(LABELS, 6, average, reading='perclass')


@pytest.mark.parametrize('fraction', [0.1, 0.5, 1.0])
def test_mining_takes_the_largest_losses_of_the_flat_batch(fraction):
    picked = np.where(LABELS == 255, 0, LABELS)[..., None]
    log_p = LOGITS - np.log(np.exp(LOGITS).sum(-1, keepdims=True))
    losses = -np.take_along_axis(log_p, picked, -1)[..., 0] * WEIGHTS * (LABELS != 255)
    expected = np.sort(losses.ravel())[::-1][:int(np.float32(fraction) * losses.size)]
    total, count = pixel.hard_example_cross_entropy(LOGITS, LABELS, fraction,
                                                    pixel_weights=WEIGHTS)
    assert float(total) == pytest.approx(expected.sum(), rel=1e-5)
    assert float(count) == (expected > 0).sum()


def test_mining_gives_no_gradient_to_easy_and_ignored_pixels():
    logits = tf.constant(LOGITS)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        total, count = pixel.hard_example_cross_entropy(logits, LABELS, 0.25)
    touched = np.abs(tape.gradient(total, logits).numpy()).max(-1) > 0
    assert touched.sum() == float(count) == 15 and not touched[LABELS == 255].any()


def test_the_mined_share_comes_down_in_a_line():
    shares = [float(pixel.annealed_fraction(0.25, step, 100)) for step in (0, 50, 100, 1000)]
    assert shares == pytest.approx([1.0, 0.625, 0.25, 0.25])
    assert float(pixel.annealed_fraction(0.25, 7, 0)) == 0.25


def test_fixed_class_weights_by_pixel():
    weights = pixel.class_weights(LABELS, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).numpy()
    np.testing.assert_array_equal(weights, np.where(LABELS == 255, 0, LABELS + 1))


@pytest.mark.parametrize('gamma', [0.0, 1.0, 2.5])
def test_focal_loss_is_eq_4_of_valid_pixels(gamma):
    random = np.random.default_rng(1)
    logits = random.normal(size=(2, 3, 4, 5)).astype(np.float32) * 3
    labels = random.integers(0, 5, (2, 3, 4)).astype(np.int32)
    labels[0, 0] = 255
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    known = np.where(labels == 255, 0, labels)
    of_truth = np.take_along_axis(chances, known[..., None], -1)[..., 0]
    expected = np.where(labels == 255, 0.0, -(1 - of_truth) ** gamma * np.log(of_truth))
    sums, counts = pixel.focal(logits, labels, gamma)
    np.testing.assert_allclose(sums, expected.sum((1, 2)), rtol=1e-4)
    np.testing.assert_array_equal(counts, (labels != 255).sum((1, 2)))
    sure = np.eye(5, dtype=np.float32)[np.where(labels == 255, 0, labels)] * 100
    variable = tf.Variable(sure)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(pixel.focal(variable, labels, 0.5)[0])
    assert np.isfinite(tape.gradient(total, variable).numpy()).all()
