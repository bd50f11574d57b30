"""Dice and Lovász-softmax against plain arithmetic, and what they leave alone."""
import itertools

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.losses import region

CLASSES = 4
RANDOM = np.random.default_rng(1)
LOGITS = RANDOM.normal(size=(3, 5, 6, CLASSES)).astype(np.float32) * 2
LABELS = RANDOM.integers(0, CLASSES - 1, (3, 5, 6)).astype(np.int32)  # the last class is not shown
LABELS[0, :2] = 255
LABELS[2] = 255


def softmax(values):
    values = np.exp(values - values.max(-1, keepdims=True))
    return values / values.sum(-1, keepdims=True)


def by_image(loss_of_class, maps=LOGITS):
    """[B]: the mean over shown classes of a loss of (probabilities, truths) of valid pixels."""
    found = []
    for logits, labels in zip(maps, LABELS):
        valid = labels != 255
        chances, truths = softmax(logits)[valid], labels[valid]
        shown = np.unique(truths)
        found.append(np.mean([loss_of_class(chances[:, c], truths == c) for c in shown])
                     if len(shown) else 0.0)
    return np.array(found)


def plain_dice(chances, truths):
    return 1 - (2 * (chances * truths).sum() + 1) / (chances.sum() + truths.sum() + 1)


def test_dice():
    expected = by_image(plain_dice)
    np.testing.assert_allclose(region.dice(LOGITS, LABELS), expected, rtol=1e-4)


def plain_lovasz(chances, truths):
    """Algorithm 1 of the paper, pixel by pixel."""
    errors = np.where(truths, 1 - chances, chances)
    order = np.argsort(-errors, kind='stable')
    before, loss = 0.0, 0.0
    seen_true = seen_false = 0
    for place in order:
        seen_true += truths[place]
        seen_false += not truths[place]
        now = 1 - (truths.sum() - seen_true) / (truths.sum() + seen_false)
        loss += errors[place] * (now - before)
        before = now
    return loss


def test_lovasz_softmax():
    expected = by_image(plain_lovasz)
    np.testing.assert_allclose(region.lovasz_softmax(LOGITS, LABELS), expected, rtol=1e-4)


@pytest.mark.parametrize('loss, plain', [(region.dice, plain_dice),
                                         (region.lovasz_softmax, plain_lovasz)])
def test_gradients_are_those_of_finite_differences(loss, plain):
    """Of the plain arithmetic in float64, along directions; Lovász's has kinks where errors tie."""
    logits = tf.Variable(LOGITS)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(loss(logits, LABELS))
    slope, step = tape.gradient(total, logits).numpy().astype(np.float64), 1e-6
    for seed in range(5):
        direction = np.random.default_rng(seed).normal(size=LOGITS.shape)
        ahead, behind = (by_image(plain, LOGITS.astype(np.float64) + sign * step * direction).sum()
                         for sign in (1, -1))
        assert np.sum(slope * direction) == pytest.approx((ahead - behind) / (2 * step), rel=1e-3,
                                                          abs=1e-5)


def test_of_sure_predictions_lovasz_is_one_minus_iou():
    """At the corners of the cube the extension is the function itself."""
    truth = np.array([[0, 0, 1, 1, 1]])
    for guess in itertools.product((0, 1), repeat=5):
        logits = np.eye(2, dtype=np.float32)[np.array([guess])][:, None] * 60
        found = region.lovasz_softmax(logits, truth[:, None].astype(np.int32)).numpy()[0]
        said, ious = np.array(guess), []
        for c in (0, 1):
            ours, its = said == c, truth[0] == c
            ious.append((ours & its).sum() / (ours | its).sum())
        assert found == pytest.approx(1 - np.mean(ious), abs=1e-5)


@pytest.mark.parametrize('loss', [region.dice, region.lovasz_softmax])
def test_ignored_pixels_have_no_gradient_and_others_have(loss):
    logits = tf.Variable(LOGITS)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(loss(logits, LABELS))
    slope = np.abs(tape.gradient(total, logits).numpy()).sum(-1)
    assert (slope[LABELS == 255] == 0).all() and (slope[LABELS != 255] > 0).mean() > 0.9
    assert float(loss(LOGITS, LABELS)[2]) == 0.0  # nothing is labelled


@pytest.mark.parametrize('loss', [region.dice, region.lovasz_softmax])
def test_a_better_map_loses_less(loss):
    sure = np.eye(CLASSES, dtype=np.float32)[np.where(LABELS == 255, 0, LABELS)] * 60
    np.testing.assert_allclose(loss(sure, LABELS), 0.0, atol=1e-4)
    halfway = loss(0.5 * LOGITS + 0.05 * sure, LABELS).numpy()
    assert (halfway[:2] < loss(LOGITS, LABELS).numpy()[:2]).all()
