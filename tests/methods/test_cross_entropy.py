"""Stage 1's steps on one device and on two replicas, weighted and plain."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.methods import cross_entropy
from tf_advseg.models import deeplab
from tf_advseg.training import loop
from tf_advseg.training import optimizers

CLASSES, CROP = 4, 65


def build(strategy, **settings):
    with strategy.scope():
        segmentor = deeplab.deeplab_mobilenet_v2(CLASSES, depth_multiplier=0.25, dropout_rate=0.0,
                                                 crop_size=CROP, seed=1)
        return cross_entropy.CrossEntropy(
            segmentor, optimizers.make_optimizer('sgd', 0.05, 0.9),
            average_counts=[900.0, 1200.0, 1500.0, 400.0], l2_weight=1e-3, **settings)


def batch_of(size=5):
    generator = np.random.default_rng(3)
    label = generator.integers(0, CLASSES, (size, CROP, CROP)).astype(np.int32)
    label[0, :40] = 255
    return {'image': generator.uniform(0, 255, (size, CROP, CROP, 3)).astype(np.float32),
            'label': label}


def step(strategy, phase):
    method = build(strategy)
    batch = batch_of()
    dataset = tf.data.Dataset.from_tensors(batch).unbatch().batch(5)
    shares = next(iter(loop.distribute(dataset, strategy)))
    scalars = loop.Stepper(method, strategy)(phase, shares, np.array([1, 2], np.int32))
    return scalars, [v.numpy() for v in method.segmentor.trainable_variables]


@pytest.mark.parametrize('phase', ['segmentor', 'weighted'])
def test_two_replicas_equal_one_device(two_replicas, phase):
    scalars, variables = step(tf.distribute.OneDeviceStrategy('/cpu:0'), phase)
    scalars_two, variables_two = step(two_replicas, phase)
    assert scalars['loss/total'] > scalars['loss/ce'] > 0
    for name in scalars:
        assert scalars[name] == pytest.approx(scalars_two[name], abs=1e-5)
    for a, b in zip(variables, variables_two):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_fit_trains_the_default_phase():
    method = build(tf.distribute.get_strategy())
    method.compile()
    before = method.segmentor.trainable_variables[0].numpy()
    history = method.fit(tf.data.Dataset.from_tensors(batch_of(2)).repeat(2), epochs=2, verbose=0)
    assert history.history['loss/ce'][1] < history.history['loss/ce'][0]
    assert np.abs(method.segmentor.trainable_variables[0].numpy() - before).max() > 0


def test_a_wrong_weighting_is_refused():
    with pytest.raises(ValueError, match='class_weighting'):
        build(tf.distribute.get_strategy(), class_weighting='median')
