"""The ground truth as an oracle would predict it at a stride."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.adversaries import bottleneck
from tf_advseg.models import resize

C = 4


def labels_of(seed=0, side=33):
    """int32 [2, side, side] of blocks, with an ignored corner."""
    generator = np.random.default_rng(seed)
    labels = np.kron(generator.integers(0, C, (2, 6, 6)), np.ones((1, 6, 6), int))[:, :side, :side]
    labels[:, :5, :5] = 255
    return tf.constant(labels, tf.int32)


@pytest.mark.parametrize('stride', [1, 4, 8])
def test_the_oracle_is_right_at_its_points_and_as_sure_as_asked(stride):
    labels = labels_of()
    found = tf.nn.softmax(bottleneck.oracle_logits(labels, C, stride, unsure=0.1)).numpy()
    at = labels.numpy()[:, ::stride, ::stride]
    assert found.shape == (*at.shape, C)
    known = at != 255
    np.testing.assert_array_equal(found.argmax(-1)[known], at[known])
    np.testing.assert_allclose(found.max(-1)[known], 0.9 + 0.1 / C, rtol=1e-5)
    np.testing.assert_allclose(found.max(-1)[~known], 0.9 + 0.1 / C, rtol=1e-5)


def test_unlabelled_points_get_the_class_of_a_nearest_labelled_one():
    generator = np.random.default_rng(3)
    labels = generator.integers(0, C, (3, 12, 9))
    known = generator.random(labels.shape) < [[[0.6]], [[0.03]], [[0.0]]]
    one_hot = np.eye(C, dtype=np.float32)[labels] * known[..., None]
    found = bottleneck.continued(tf.constant(one_hot)).numpy()
    np.testing.assert_array_equal(found[known], one_hot[known])
    assert not found[2].any()  # nothing is known of that image
    for number in range(2):
        places = np.argwhere(known[number])
        for place in np.ndindex(labels.shape[1:]):
            distances = np.abs(places - place).max(-1)  # a round goes one point in every direction
            nearest = places[distances == distances.min()]
            assert found[number][place].sum() == 1.0
            assert found[number][place].argmax() in labels[number][tuple(nearest.T)]


def test_the_truth_through_the_bottleneck_is_what_the_oracle_predicts():
    labels = labels_of(1)
    for size, temperature in (((33, 33), 1.0), ((17, 11), 0.5)):
        logits = bottleneck.oracle_logits(labels, C, 8)
        predicted = tf.nn.softmax(resize.resize_bilinear(logits, size) / temperature)
        np.testing.assert_allclose(
            bottleneck.truth_map(labels, C, 8, size, temperature), predicted, atol=1e-6)


def test_sides_that_are_no_multiple_of_the_stride():
    assert bottleneck.grid_of((30, 33), 8) == (4, 5)
    assert bottleneck.labels_on_grid(labels_of()[:, :30], 8).shape == (2, 4, 5)
