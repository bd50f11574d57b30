"""The self-taught loss (Hung et al., eq. 5) and what selects its points, against plain NumPy."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.losses import self_taught

RANDOM = np.random.default_rng(11)
LOGITS = RANDOM.normal(size=(3, 5, 4, 6)).astype(np.float32) * 3
JUDGED = RANDOM.normal(size=(3, 5, 4)).astype(np.float32) * 3
VALID = RANDOM.random((3, 5, 4)) < 0.7
VALID[2] = False  # an image of padding alone


def softmax(logits):
    powers = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


PROBABILITIES = softmax(LOGITS)


@pytest.mark.parametrize('selected', [VALID & (JUDGED > 0), np.ones_like(VALID),
                                      np.zeros_like(VALID)])
def test_the_loss_is_minus_log_of_the_largest_probability(selected):
    sums, counts = self_taught.self_taught_cross_entropy(LOGITS, selected)
    expected = np.zeros(3)
    for b, i, j in np.argwhere(selected):
        probabilities = PROBABILITIES[b, i, j]
        expected[b] -= np.log(probabilities[np.argmax(probabilities)])
    np.testing.assert_allclose(sums, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(counts, selected.sum((1, 2)))
    assert sums.dtype == counts.dtype == tf.float32


def test_target_and_mask_are_constants():
    """With both constant the gradient is softmax - one-hot where selected, and none elsewhere."""
    logits, judged = tf.constant(LOGITS), tf.constant(JUDGED)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([logits, judged])
        selected = self_taught.selected_by_discriminator(judged + 0 * logits[..., 0], VALID, 0.3)
        loss = tf.reduce_sum(self_taught.self_taught_cross_entropy(logits, selected)[0])
    one_hot = np.eye(6)[LOGITS.argmax(-1)]
    expected = (PROBABILITIES - one_hot) * selected.numpy()[..., None]
    np.testing.assert_allclose(tape.gradient(loss, logits), expected, atol=1e-6)
    assert tape.gradient(loss, judged) is None


@pytest.mark.parametrize('threshold', [0.1, 0.2, 0.5, 0.97])
def test_the_discriminator_selects_where_its_probability_is_above_the_threshold(threshold):
    probability = 1 / (1 + np.exp(-JUDGED.astype(np.float64)))
    selected = self_taught.selected_by_discriminator(JUDGED, VALID, threshold)
    np.testing.assert_array_equal(selected, VALID & (probability > threshold))
    assert 0 < np.sum(selected) < VALID.sum()


def test_threshold_0_trusts_all_and_1_nothing():
    """Table 5: "when T = 0, we trust all the pixel predictions"; T = 1.0 is L_adv alone."""
    extreme = np.where(JUDGED > 0, 1e4, -1e4).astype(np.float32)
    assert np.any(tf.sigmoid(extreme) == 0) and np.any(tf.sigmoid(extreme) == 1)
    for judged in (JUDGED, extreme, np.full_like(JUDGED, np.inf)):
        for none, everything in ((1, 0), (1.0, 0.0)):
            selected = self_taught.selected_by_discriminator(judged, VALID, everything)
            np.testing.assert_array_equal(selected, VALID)
            assert not np.any(self_taught.selected_by_discriminator(judged, VALID, none))


def test_equal_to_the_threshold_is_not_above_it():
    judged = np.zeros([1, 1, 2], np.float32) + np.float32([0, 1e-6])
    selected = self_taught.selected_by_discriminator(judged, np.ones([1, 1, 2], bool), 0.5)
    np.testing.assert_array_equal(selected, [[[False, True]]])


@pytest.mark.parametrize('threshold', [0.0, 0.5, 0.9, 1.0])
def test_softmax_selects_where_the_largest_probability_is_above(threshold):
    selected = self_taught.selected_by_softmax(LOGITS, VALID, threshold)
    np.testing.assert_array_equal(selected, VALID & (PROBABILITIES.max(-1) > threshold))


@pytest.mark.parametrize('share', [0.0, 0.05, 0.3, 0.7, 1.0])
def test_a_share_takes_the_surest_points_of_each_image(share):
    selected = self_taught.selected_share(LOGITS, VALID, share).numpy()
    certainty = PROBABILITIES.max(-1)
    for mine, sure, valid in zip(selected, certainty, VALID):
        wanted = int(np.round(share * valid.sum()))
        assert mine.sum() == wanted and not np.any(mine & ~valid)
        order = np.argsort(-np.where(valid, sure, -1), axis=None)
        np.testing.assert_array_equal(np.flatnonzero(mine), np.sort(order[:wanted]))


@pytest.mark.parametrize('share', [0.0, 0.3, 0.7, 1.0])
def test_a_share_of_classes_takes_the_surest_points_of_each_class(share):
    selected = self_taught.selected_share_of_classes(LOGITS, VALID, share).numpy()
    named, certainty = LOGITS.argmax(-1), PROBABILITIES.max(-1)
    for mine, classes, sure, valid in zip(selected, named, certainty, VALID):
        assert not np.any(mine & ~valid)
        for one in np.unique(classes):
            of_it = valid & (classes == one)
            wanted = int(np.round(share * of_it.sum()))
            assert mine[of_it].sum() == wanted
            rest = sure[of_it & ~mine]
            assert not wanted or not rest.size or sure[of_it & mine].min() >= rest.max() - 1e-5


@pytest.mark.parametrize('one', [0, 149])
def test_the_surest_of_a_late_class_are_told_apart_as_those_of_the_first(one):
    """Certainties that a hundred-thousandth parts, the surest last."""
    probability = 0.9 + 2e-6 * np.arange(10)
    logits = np.zeros([1, 2, 5, 150], np.float32)
    logits[0, ..., one] = np.log(149 * probability / (1 - probability)).reshape(2, 5)
    selected = self_taught.selected_share_of_classes(logits, np.ones([1, 2, 5], bool), 0.5)
    np.testing.assert_array_equal(selected, [[[False] * 5, [True] * 5]])


@pytest.mark.parametrize('share', [0.0, 0.3, 0.7, 1.0])
def test_a_share_takes_the_points_that_the_discriminator_is_most_convinced_by(share):
    """By its order alone: however sure it is that all of them are false."""
    for shift in (0.0, -60.0):
        selected = self_taught.selected_share_by_discriminator(JUDGED + shift, VALID, share).numpy()
        for mine, judged, valid in zip(selected, JUDGED, VALID):
            wanted = int(np.round(share * valid.sum()))
            assert mine.sum() == wanted and not np.any(mine & ~valid)
            rest = judged[valid & ~mine]
            assert not wanted or not rest.size or judged[mine].min() > rest.max()


def test_a_share_takes_points_that_are_as_sure_too():
    logits = np.zeros([1, 2, 3, 2], np.float32)
    logits[0, 0, :, 0] = [5, 1, 1]
    selected = self_taught.selected_share(logits, np.ones([1, 2, 3], bool), 0.34)
    np.testing.assert_array_equal(selected, [[[True, True, True], [False] * 3]])


@pytest.mark.parametrize('select', [
    lambda logits: self_taught.selected_by_softmax(logits, VALID, 0.5),
    lambda logits: self_taught.selected_share(logits, VALID, 0.5),
    lambda logits: self_taught.selected_share_of_classes(logits, VALID, 0.5)])
def test_selections_by_softmax_are_constant_too(select):
    logits = tf.constant(LOGITS)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        selected = tf.cast(select(logits), tf.float32)
    assert np.any(selected) and tape.gradient(selected, logits) is None
