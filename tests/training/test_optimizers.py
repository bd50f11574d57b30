"""The optimizer of the official code against TensorFlow 1's own."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.run import stage_optimizers
from tf_advseg.training import optimizers, schedules

GRADIENTS = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)


def trained(optimizer, gradients, value=(1.0, 2.0, 3.0)):
    """The values of a variable after each gradient."""
    variable = tf.Variable(value)
    optimizer.build([variable])
    values = []
    for gradient in gradients:
        optimizer.apply_gradients([(tf.constant(gradient), variable)])
        values.append(variable.numpy())
    return np.stack(values)


@pytest.mark.parametrize('nesterov', [False, True])
def test_momentum_is_tensorflow_1s_while_the_rate_jumps(nesterov):
    rate = schedules.step_decay(0.1, 20, decay_steps=3, factor=0.5, slow_start_steps=2,
                                slow_start_rate=0.001)
    ours = trained(optimizers.make_optimizer('momentum', rate, 0.9, nesterov), GRADIENTS)
    variable, expected, step = tf.Variable([1.0, 2.0, 3.0]), [], 0
    theirs = tf.compat.v1.train.MomentumOptimizer(lambda: rate(step), 0.9, use_nesterov=nesterov)
    for step, gradient in enumerate(GRADIENTS):
        theirs.apply_gradients([(tf.constant(gradient), variable)])
        expected.append(variable.numpy())
    np.testing.assert_allclose(ours, expected, rtol=1e-6)
    keras = trained(optimizers.make_optimizer('sgd', rate, 0.9, nesterov), GRADIENTS)
    assert np.abs(keras - expected).max() > 1e-3


def test_at_a_constant_rate_momentum_is_keras_sgd():
    ours = trained(optimizers.make_optimizer('momentum', 0.1, 0.9), GRADIENTS)
    keras = trained(optimizers.make_optimizer('sgd', 0.1, 0.9), GRADIENTS)
    np.testing.assert_allclose(ours, keras, rtol=1e-5)


def test_momentum_goes_on_from_its_variables():
    whole = trained(optimizers.Momentum(0.1), GRADIENTS)
    first, resumed = optimizers.Momentum(0.1), optimizers.Momentum(0.1)
    variable = tf.Variable(trained(first, GRADIENTS[:3])[-1])
    resumed.build([variable])
    assert len(first.variables) == 2  # the iterations and one accumulator
    for mine, kept in zip(resumed.variables, first.variables):
        mine.assign(kept)
    for gradient in GRADIENTS[3:]:
        resumed.apply_gradients([(tf.constant(gradient), variable)])
    np.testing.assert_array_equal(variable, whole[-1])


def test_two_replicas_sum_their_gradients(two_replicas):
    with two_replicas.scope():
        variable = tf.Variable([1.0, 2.0])
        optimizer = optimizers.Momentum(0.1)
        optimizer.build([variable])
    gradient = two_replicas.experimental_distribute_values_from_function(
        lambda context: tf.constant([1.0, 10.0]) * (context.replica_id_in_sync_group + 1.0))

    @tf.function
    def step(gradient):
        two_replicas.run(lambda g: optimizer.apply_gradients([(g, variable)]), [gradient])

    step(gradient)
    np.testing.assert_allclose(variable.numpy(), [1.0 - 0.3, 2.0 - 3.0], rtol=1e-6)


def test_its_config_makes_it_again_and_unknown_names_are_refused():
    made = optimizers.make_optimizer('momentum', 0.25, 0.5, nesterov=True)
    again = optimizers.Momentum.from_config(made.get_config())
    assert again.momentum == 0.5 and again.nesterov and float(again.learning_rate) == 0.25
    with pytest.raises(UserError, match='momentum'):
        optimizers.make_optimizer('momentun', 0.1)


def test_nesterov_reaches_the_segmentors_optimizer():
    for name in ('sgd', 'momentum'):
        assert stage_optimizers.segmentor_optimizer(9, name=name, nesterov=True).nesterov
    assert not stage_optimizers.segmentor_optimizer(9).nesterov


@pytest.mark.parametrize('name, settings', [
    ('adam', {'nesterov': True}), ('adam', {'momentum': 0.9}), ('rmsprop', {'beta_1': 0.5}),
    ('sgd', {'beta_2': 0.9}), ('adagrad', {'momentum': 0.5})])
def test_a_setting_that_the_optimizer_does_not_read_is_one_line(name, settings):
    (setting, value), = settings.items()
    with pytest.raises(UserError) as caught:
        stage_optimizers.discriminator_optimizer(9, name=name, **settings)
    assert str(caught.value).startswith(
        f'discriminator_optimizer.{setting} = {value!r} has no effect on the optimizer {name}')
    stage_optimizers.discriminator_optimizer(9, name=name, **{setting: None})


def test_a_schedule_that_a_network_does_not_use_has_no_settings_of_it():
    configuration.parse([], ['segmentor_optimizer/polynomial_decay.power = 2.0'])
    with pytest.raises(UserError, match="polynomial_decay.power has no effect with "
                       "segmentor_optimizer.schedule = 'constant'"):
        stage_optimizers.segmentor_optimizer(9)
    assert stage_optimizers.segmentor_optimizer(9, schedule='poly') is not None
    assert stage_optimizers.discriminator_optimizer(9) is not None
    configuration.parse([], [])


def test_defaults_are_those_of_each_network():
    assert stage_optimizers.segmentor_optimizer(9).get_config()['momentum'] == 0.9
    ours = stage_optimizers.reconstruction_optimizer(9).get_config()
    assert (ours['beta_1'], ours['beta_2']) == (0.5, 0.999)
    assert stage_optimizers.reconstruction_optimizer(9, name='sgd').get_config()['momentum'] == 0


@pytest.mark.parametrize('settings, text', [
    (dict(learning_rate=-1.0), 'learning_rate = -1.0: expected a number of at least 0'),
    (dict(learning_rate='a'), "learning_rate = 'a'"), (dict(learning_rate=None), 'None'),
    (dict(learning_rate=float('inf')), 'learning_rate = inf'), (dict(learning_rate=True), 'True'),
    (dict(momentum=2), 'momentum = 2: expected a number of at least 0 and at most 1'),
    (dict(momentum='a'), "momentum = 'a'"), (dict(nesterov='yes'), 'expected True or False')])
def test_settings_out_of_range_are_told_in_one_line(settings, text):
    arguments = {'name': 'sgd', 'learning_rate': 0.1, **settings}
    with pytest.raises(UserError) as caught:
        optimizers.make_optimizer(**arguments, where='segmentor_optimizer')
    assert text in str(caught.value) and '\n' not in str(caught.value)
    assert str(caught.value).startswith('segmentor_optimizer.')


def test_rmsprop_without_momentum_is_the_wasserstein_gans():
    """Mean squares with a decay of 0.9, as published; w -= rate * g / sqrt(mean square)."""
    values, square, expected = np.array([1.0, 2.0, 3.0]), np.zeros(3), []
    for gradient in GRADIENTS.astype(np.float64):
        square = 0.9 * square + 0.1 * gradient ** 2
        values = values - 0.05 * gradient / np.sqrt(square + 1e-7)
        expected.append(values)
    ours = trained(optimizers.make_optimizer('rmsprop', 0.05, 0.7), GRADIENTS)
    np.testing.assert_allclose(ours, expected, rtol=1e-4)
    with pytest.raises(UserError, match='rmsprop has none'):
        optimizers.make_optimizer('rmsprop', 0.05, nesterov=True)


@pytest.mark.parametrize('name', optimizers.OPTIMIZERS)
def test_a_long_gradient_is_scaled_down_as_a_whole(name):
    rates = dict(learning_rate=0.1)
    free, clipped = (optimizers.make_optimizer(name, **rates, **more)
                     for more in ({}, {'clip_norm': 0.5}))
    norms = np.linalg.norm(GRADIENTS, axis=1, keepdims=True)
    shorter = GRADIENTS * np.minimum(1.0, 0.5 / norms)
    assert (norms > 0.5).any()
    np.testing.assert_allclose(trained(clipped, GRADIENTS), trained(free, shorter), rtol=1e-4,
                               atol=1e-6)


def test_replicas_clip_their_sum(two_replicas):
    """Each one's share may be short where the sum is long."""
    ends = []
    for strategy, parts in ((tf.distribute.OneDeviceStrategy('/cpu:0'), 1), (two_replicas, 2)):
        with strategy.scope():
            variable = tf.Variable([1.0, 2.0, 3.0])
            optimizer = optimizers.make_optimizer('sgd', 1.0, clip_norm=1.0)
            optimizer.build([variable])

        @tf.function
        def step():
            def on_replica():
                optimizer.apply_gradients([(tf.constant([3.0, 0.0, 4.0]) / parts, variable)])
            strategy.run(on_replica)
        step()
        ends.append(variable.numpy())
    np.testing.assert_allclose(ends[0], [0.4, 2.0, 2.2], rtol=1e-5)
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-5)


def test_adamw_is_algorithm_2_and_leaves_biases_alone():
    rate, decay, first, second = 0.1, 0.5, 0.9, 0.999
    start = np.array([[1.0, 2.0, 3.0]], np.float32)
    kernel, bias = tf.Variable(start), tf.Variable(start[0])
    optimizer = optimizers.make_optimizer('adamw', rate, weight_decay=decay)
    optimizer.build([kernel, bias])
    expected, m, v = start.astype(float), 0.0, 0.0
    plain = start[0].astype(float)
    for number, gradient in enumerate(GRADIENTS, 1):
        optimizer.apply_gradients([(tf.constant(gradient[None]), kernel),
                                   (tf.constant(gradient), bias)])
        m, v = first * m + (1 - first) * gradient, second * v + (1 - second) * gradient ** 2
        move = rate * (m / (1 - first ** number)) / (np.sqrt(v / (1 - second ** number)) + 1e-7)
        expected, plain = expected - rate * decay * expected - move, plain - move
    np.testing.assert_allclose(kernel, expected, rtol=1e-4)
    np.testing.assert_allclose(bias, plain, rtol=1e-4)


def test_clipping_is_by_the_norm_over_all_variables():
    optimizer = optimizers.make_optimizer('sgd', 1.0, clip_norm=1.0)
    variables = [tf.Variable([0.0]), tf.Variable([0.0, 0.0])]
    optimizer.build(variables)
    optimizer.apply_gradients(zip([tf.constant([3.0]), tf.constant([0.0, 4.0])], variables))
    np.testing.assert_allclose(variables[0], [-0.6], rtol=1e-5)
    np.testing.assert_allclose(variables[1], [0.0, -0.8], rtol=1e-5)


@pytest.mark.parametrize('binding, words', [
    ('segmentor_optimizer.weight_decay = 0.1', 'weight_decay = 0.1 has no effect'),
    ('segmentor_optimizer.clip_norm = 0', 'clip_norm'),
    ('segmentor_optimizer.clip_norm = "1"', 'clip_norm')])
def test_settings_of_clipping_and_decay_are_checked(binding, words):
    configuration.parse([], [binding])
    with pytest.raises(UserError, match=words):
        stage_optimizers.segmentor_optimizer(10)
