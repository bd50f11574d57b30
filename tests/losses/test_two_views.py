"""The consistency term and its rise, against arithmetic."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.losses import two_views

LOGITS, TARGETS = np.random.default_rng(1).normal(size=(2, 2, 3, 4, 5)).astype(np.float32) * 3
WEIGHTS = np.random.default_rng(2).uniform(size=(2, 3, 4)).astype(np.float32)


def softmax(values):
    values = np.exp(values - values.max(-1, keepdims=True))
    return values / values.sum(-1, keepdims=True)


@pytest.mark.parametrize('soft', [False, True])
def test_cross_entropy_with_the_others_class_or_probabilities(soft):
    sums, counts = two_views.cross_entropy(LOGITS, TARGETS, WEIGHTS, soft)
    target = softmax(TARGETS) if soft else np.eye(5)[TARGETS.argmax(-1)]
    losses = -(target * np.log(softmax(LOGITS))).sum(-1)
    np.testing.assert_allclose(sums, (losses * WEIGHTS).sum((1, 2)), rtol=1e-4)
    np.testing.assert_allclose(counts, WEIGHTS.sum((1, 2)), rtol=1e-5)


@pytest.mark.parametrize('soft', [False, True])
def test_the_target_and_its_weights_are_constant(soft):
    logits, targets, weights = (tf.Variable(part) for part in (LOGITS, TARGETS, WEIGHTS))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(two_views.cross_entropy(logits, targets, weights, soft)[0])
    own, *others = tape.gradient(total, [logits, targets, weights])
    assert others == [None, None] and np.abs(own).max() > 1e-3


def test_the_weight_rises_to_one():
    rise = [float(two_views.ramp_up(step, 10)) for step in range(13)]
    assert rise[0] == pytest.approx(np.exp(-5)) and rise[5] == pytest.approx(np.exp(-1.25))
    assert rise[10:] == [1.0] * 3 and sorted(rise) == rise
    assert float(two_views.ramp_up(0, 0)) == 1.0
