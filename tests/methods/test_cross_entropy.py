"""Stage 1's steps on one device and on two replicas, weighted and plain."""
import numpy as np
import pytest
import steps
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.methods import cross_entropy
from tf_advseg.methods import step_parts
from tf_advseg.models import deeplab
from tf_advseg.training import optimizers

CLASSES, CROP = 4, 65


def build(strategy, optimizer='sgd', **settings):
    with strategy.scope():
        segmentor = deeplab.deeplab_mobilenet_v2(CLASSES, depth_multiplier=0.25, dropout_rate=0.0,
                                                 crop_size=CROP, seed=1)
        return cross_entropy.CrossEntropy(
            segmentor, optimizers.make_optimizer(optimizer, 0.05, 0.9),
            average_counts=[900.0, 1200.0, 1500.0, 400.0], l2_weight=1e-3, **settings)


def batch_of(size=5):
    generator = np.random.default_rng(3)
    label = generator.integers(0, CLASSES, (size, CROP, CROP)).astype(np.int32)
    label[0, :40] = 255
    return {'image': generator.uniform(0, 255, (size, CROP, CROP, 3)).astype(np.float32),
            'label': label}


def step(strategy, phase, **settings):
    method = build(strategy, **settings)
    scalars, = steps.take(method, strategy, batch_of(), [phase])
    return scalars, [v.numpy() for v in method.segmentor.trainable_variables]


@pytest.mark.slow  # test_every_network.py takes this step of a network that is traced sooner
@pytest.mark.parametrize('phase, settings', [
    ('segmentor', {}), ('weighted', {}),
    ('segmentor', {'optimizer': 'momentum', 'last_layer_gradient_multiplier': 10.0,
                   'bias_gradient_multiplier': 2.0}),
    ('weighted', {'upsample_logits': False, 'class_weights': [1.0, 2.0, 0.5, 1.0]})])
def test_two_replicas_equal_one_device(two_replicas, phase, settings):
    scalars, variables = step(tf.distribute.OneDeviceStrategy('/cpu:0'), phase, **settings)
    scalars_two, variables_two = step(two_replicas, phase, **settings)
    assert scalars['loss/total'] > scalars['loss/ce'] > 0
    for name in scalars:
        assert scalars[name] == pytest.approx(scalars_two[name], rel=1e-5, abs=1e-5)
    for a, b in zip(variables, variables_two):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_fit_trains_the_default_phase():
    method = build(tf.distribute.get_strategy())
    # The classes are about as frequent, so this bias alone costs a loss of 0.5 that its own
    # gradient takes away, whatever the network makes of noise: far more than rounding.
    method.segmentor.logits.bias.assign([0.0, 1.0, 2.0, 3.0])
    method.compile()
    before = method.segmentor.trainable_variables[0].numpy()
    history = method.fit(tf.data.Dataset.from_tensors(batch_of(2)).repeat(2), epochs=2, verbose=0)
    assert history.history['loss/ce'][1] < history.history['loss/ce'][0] - 0.01
    assert np.abs(method.segmentor.trainable_variables[0].numpy() - before).max() > 0


def gradients_applied(**settings):
    """What a step at rate 1 without momentum takes from each trainable variable."""
    strategy = tf.distribute.get_strategy()
    method = build(strategy, **settings)
    method.optimizer.learning_rate.assign(1.0)
    method.optimizer.momentum = 0.0
    before = [v.numpy() for v in method.segmentor.trainable_variables]
    method.segmentor_step(batch_of(2), np.array([1, 2], np.int32))
    return method, [b - v.numpy() for b, v in zip(before, method.segmentor.trainable_variables)]


def test_multipliers_act_on_the_whole_gradient_weight_decay_included():
    method, plain = gradients_applied()
    _, multiplied = gradients_applied(last_layer_gradient_multiplier=10.0,
                                      bias_gradient_multiplier=2.0)
    factors = step_parts.gradient_multipliers(method.segmentor, 10.0, 2.0)
    assert {1.0, 10.0, 20.0} == set(factors)
    for factor, one, other in zip(factors, plain, multiplied):
        np.testing.assert_allclose(other, factor * one, rtol=1e-3, atol=1e-5)


def test_mining_is_annealed_by_the_optimizers_steps():
    method, plain = (build(tf.distribute.get_strategy(), hard_example_fraction=fraction,
                           hard_example_steps=4) for fraction in (0.25, 1.0))
    for each in (method, plain):  # untrained logits are all but equal: let classes differ
        each.segmentor.logits.bias.assign([0.0, 1.0, 2.0, 3.0])
    batch, losses = batch_of(2), []
    for step in (0, 2, 4, 9):
        method.optimizer.iterations.assign(step)
        losses.append(float(method.losses(batch, np.zeros(2, np.int32))[0]))
    assert losses[0] < losses[1] < losses[2] == losses[3]
    assert losses[0] == pytest.approx(float(plain.losses(batch, np.zeros(2, np.int32))[0]),
                                      rel=1e-5)


def test_fixed_class_weights_multiply_the_loss_in_every_phase():
    twice = build(tf.distribute.get_strategy(), class_weights=[2.0] * CLASSES)
    once = build(tf.distribute.get_strategy())
    batch, seed = batch_of(2), np.zeros(2, np.int32)
    for weights in (None, np.full(batch['label'].shape, 3.0, np.float32)):
        ours, plain = twice.losses(batch, seed, weights)[0], once.losses(batch, seed, weights)[0]
        assert float(ours) == pytest.approx(2.0 * float(plain), rel=1e-5)


@pytest.mark.parametrize('settings, text', [
    ({'hard_example_fraction': 0.0}, 'hard_example_fraction'),
    ({'hard_example_steps': -1}, 'hard_example_steps'),
    ({'class_weights': [1.0, 2.0]}, '2 numbers for a network of 4 classes')])
def test_settings_out_of_range_are_one_line(settings, text):
    with pytest.raises(UserError, match=text):
        build(tf.distribute.get_strategy(), **settings)


def test_a_wrong_weighting_is_refused():
    with pytest.raises(ValueError, match='class_weighting'):
        build(tf.distribute.get_strategy(), class_weighting='median')
