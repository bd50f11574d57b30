"""Adversarial losses against NumPy, finite differences and extreme logits."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.losses import adversarial

LOGITS = np.array([-3.0, -0.5, 0.0, 0.7, 4.0], np.float32)
EXTREME = tf.constant([-1e4, 1e4])


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-np.asarray(z, np.float64)))


def test_binary_cross_entropy_matches_numpy():
    real = np.array([True, False, True, False, True])
    weights = np.array([1.0, 2.0, 0.5, 0.0, 3.0])
    d = sigmoid(LOGITS)
    expected = -np.where(real, np.log(d), np.log(1 - d)) * weights
    losses = adversarial.binary_cross_entropy(LOGITS, real, weights)
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-7)
    assert losses.dtype == tf.float32


def test_soft_targets_are_mixtures():
    d = sigmoid(LOGITS)
    losses = adversarial.binary_cross_entropy(LOGITS, np.full(5, 0.9))
    np.testing.assert_allclose(losses, -0.9 * np.log(d) - 0.1 * np.log(1 - d), rtol=1e-5)


@pytest.mark.parametrize('loss, formula', [
    (adversarial.non_saturating, lambda z: -np.log(sigmoid(z))),
    (adversarial.saturating, lambda z: np.log(1 - sigmoid(z)))])
def test_generator_losses_and_their_gradients(loss, formula):
    z = tf.constant(LOGITS)
    with tf.GradientTape() as tape:
        tape.watch(z)
        losses = loss(z)
    np.testing.assert_allclose(losses, formula(LOGITS), rtol=1e-5)
    step = 1e-6
    wide = LOGITS.astype(np.float64)
    numeric = (formula(wide + step) - formula(wide - step)) / (2 * step)
    np.testing.assert_allclose(tape.gradient(losses, z), numeric, rtol=1e-4)


def test_both_generator_losses_pull_the_same_way_and_survive_extreme_logits():
    for loss in (adversarial.non_saturating, adversarial.saturating):
        with tf.GradientTape() as tape:
            tape.watch(EXTREME)
            total = tf.reduce_sum(loss(EXTREME))
        gradient = tape.gradient(total, EXTREME).numpy()
        assert np.isfinite(total.numpy()) and np.isfinite(gradient).all()
        assert np.all(gradient <= 0.0)


@pytest.mark.parametrize('sets', [0.4, 1, 2, 3, 7])
def test_fake_set_weights_balance_real_and_fake(sets):
    real, fake = adversarial.fake_set_weights(sets)
    assert real == pytest.approx(sets * fake)
    assert (real + sets * fake) / (sets + 1) == pytest.approx(1.0)


def test_no_fake_set_is_refused():
    with pytest.raises(ValueError, match='more than 0'):
        adversarial.fake_set_weights(0)
