"""Batch norm in its three modes, seeded dropout, initialisation by scope."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.models import layers

NORM = layers.Norm(epsilon=1e-3, momentum=0.9)
X = np.random.default_rng(1).normal(2.0, 3.0, (5, 4, 3, 6)).astype(np.float32)


def batch_norm():
    norm = layers.BatchNorm('a/BatchNorm', 6, NORM)
    random = np.random.default_rng(2)
    for variable in norm.weights:
        variable.assign(random.uniform(0.5, 2.0, 6))
    return norm


def test_frozen_and_inference_are_one_function_of_the_moving_statistics():
    norm = batch_norm()
    gamma, beta, mean, variance = (v.numpy() for v in (
        norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance))
    expected = (X - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    for mode in (layers.FROZEN, layers.INFERENCE):
        np.testing.assert_allclose(norm(X, mode=mode), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(norm.moving_mean, mean)
    np.testing.assert_array_equal(norm.moving_variance, variance)


def test_live_uses_the_batch_and_moves_the_averages():
    norm = batch_norm()
    before = norm.moving_mean.numpy(), norm.moving_variance.numpy()
    y = norm(X, mode=layers.LIVE)
    mean, variance = X.mean((0, 1, 2)), X.var((0, 1, 2))
    expected = (X - mean) / np.sqrt(variance + 1e-3) * norm.gamma + norm.beta
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    n = X.size / 6
    np.testing.assert_allclose(norm.moving_mean, 0.9 * before[0] + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(norm.moving_variance,
                               0.9 * before[1] + 0.1 * variance * n / (n - 1), rtol=1e-5)


@pytest.mark.parametrize('mode', [layers.FROZEN, layers.LIVE])
def test_two_replicas_of_3_and_2_are_one_device_of_5(two_replicas, mode):
    target = np.random.default_rng(4).normal(size=X.shape).astype(np.float32)

    def step(norm, x, goal):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(norm(x, mode=mode) - goal) * goal)
        return tape.gradient(loss, [norm.gamma, norm.beta])

    single = batch_norm()
    expected = step(single, X, target)
    with two_replicas.scope():
        shared = batch_norm()

    def shard(context):
        part = slice(0, 3) if context.replica_id_in_sync_group == 0 else slice(3, 5)
        return X[part], target[part]

    inputs = two_replicas.experimental_distribute_values_from_function(shard)
    gradients = tf.function(lambda: two_replicas.run(lambda v: step(shared, *v), (inputs,)))()
    for ours, wanted in zip(gradients, expected):
        total = two_replicas.reduce('SUM', ours, axis=None)
        np.testing.assert_allclose(total, wanted, rtol=1e-4, atol=1e-3)
    for ours, wanted in zip(shared.weights, single.weights):
        np.testing.assert_allclose(ours.numpy(), wanted.numpy(), rtol=1e-5)


@pytest.mark.parametrize('depthwise', [False, True])
def test_folding_the_batch_norm_changes_neither_output_nor_gradients(depthwise):
    unit = layers.Convolution('u', 6, None if depthwise else 4, 3, norm=NORM, activation='relu6',
                              stddev=0.3)
    random = np.random.default_rng(5)
    for variable in unit.norm.weights:
        variable.assign(random.uniform(0.5, 1.5, variable.shape))
    results = []
    for mode in (layers.FROZEN, layers.INFERENCE):
        with tf.GradientTape() as tape:
            y = unit(X, mode=mode)
            loss = tf.reduce_sum(tf.square(y))
        results.append([y] + tape.gradient(loss, unit.trainable_variables))
    assert len(results[0]) == 4  # output, kernel, gamma, beta
    for frozen, folded in zip(*results):
        np.testing.assert_allclose(frozen, folded, rtol=1e-3, atol=1e-4 * np.abs(frozen).max())


def test_dropout_is_a_function_of_its_seed():
    dropout = layers.StatelessDropout(0.5)
    ones = tf.ones([4, 100])
    first = dropout(ones, training=True, seed=tf.constant([1, 2]))
    np.testing.assert_array_equal(
        first, layers.StatelessDropout(0.5)(ones, training=True, seed=tf.constant([1, 2])))
    other = dropout(ones, training=True, seed=tf.constant([1, 3]))
    assert np.any(first.numpy() != other.numpy())
    assert 0.3 < (first.numpy() == 0).mean() < 0.7
    np.testing.assert_array_equal(np.unique(first), [0.0, 2.0])


def test_dropout_is_silent_outside_training_and_demands_a_seed_in_it():
    ones = tf.ones([2, 3])
    np.testing.assert_array_equal(layers.StatelessDropout(0.5)(ones), ones)
    np.testing.assert_array_equal(layers.StatelessDropout(0.0)(ones, training=True), ones)
    with pytest.raises(ValueError, match='dropout_seed'):
        layers.StatelessDropout(0.5)(ones, training=True)
    with pytest.raises(ValueError, match='0 <= rate < 1'):
        layers.StatelessDropout(1.0)


def test_replicas_draw_different_masks(two_replicas):
    dropout = layers.StatelessDropout(0.5)
    run = tf.function(lambda: two_replicas.run(
        lambda: dropout(tf.ones([200]), training=True, seed=tf.constant([1, 2]))))
    first, second = two_replicas.experimental_local_results(run())
    assert np.any(first.numpy() != second.numpy())
    alone = dropout(tf.ones([200]), training=True, seed=tf.constant([1, 2]))
    np.testing.assert_array_equal(first, alone)


def test_initial_values_depend_on_seed_and_scope_alone():
    def kernel(scope, seed):
        return layers.Convolution(scope, 3, 8, 3, norm=NORM, stddev=0.1, seed=seed).kernel.numpy()

    tf.random.set_seed(1)
    first = kernel('a/b', 0)
    tf.random.set_seed(2)
    kernel('another', 0)
    np.testing.assert_array_equal(first, kernel('a/b', 0))
    assert np.any(first != kernel('a/c', 0))
    assert np.any(first != kernel('a/b', 1))
    assert np.abs(first).max() <= 0.2  # truncated at two standard deviations


def test_reinitialise_restores_the_first_values():
    unit = layers.Convolution('u', 3, 8, 3, norm=NORM, stddev=0.1)
    before = [v.numpy() for v in unit.weights]
    for variable in unit.weights:
        variable.assign(variable + 1.0)
    unit.reinitialise()
    for variable, value in zip(unit.weights, before):
        np.testing.assert_array_equal(variable, value)


def test_stride_and_rate_together_are_refused():
    with pytest.raises(ValueError, match='rate'):
        layers.Convolution('u', 3, None, 3, stride=2, rate=2, norm=NORM)
