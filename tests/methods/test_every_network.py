"""Every network through Stage 1's step and LoAd's two, on one device and on two replicas."""
import numpy as np
import pytest
import steps
import tensorflow as tf

from tf_advseg.adversaries import discriminators, encodings
from tf_advseg.methods import cross_entropy, load
from tf_advseg.models import deeplab, deeplab_residual, deeplab_v2, dilated8, farabet, layers
from tf_advseg.training import optimizers

CLASSES, CROP, SIZE = 3, 33, 32
FIXED = dict(dropout_rate=0.0, seed=1)
# The smallest of each builder; those that take long to trace on two replicas are slow.
LIGHT = {
    'farabet': lambda: farabet.farabet(CLASSES, hidden=16, seed=1)}
HEAVY = {
    'deeplab_residual': lambda: deeplab_residual.deeplab_residual(CLASSES, **FIXED),
    'dilated8': lambda: dilated8.dilated8(CLASSES, 'basic', fc_channels=8, **FIXED),
    'deeplab_mobilenet_v2': lambda: deeplab.deeplab_mobilenet_v2(
        CLASSES, depth_multiplier=0.25, **FIXED),
    'deeplab_v2_resnet': lambda: deeplab_v2.deeplab_v2_resnet(CLASSES, 'resnet_50', seed=1),
    'deeplab_xception': lambda: deeplab.deeplab_xception(CLASSES, 'xception_41', **FIXED),
    'deeplab_resnet': lambda: deeplab.deeplab_resnet(CLASSES, 'resnet_v1_50_beta', **FIXED)}


def global_batch(**more):
    """Five images, an ignored strip of another width in each."""
    random = np.random.default_rng(3)
    label = random.integers(0, CLASSES, (5, CROP, CROP)).astype(np.int32)
    for number in range(5):
        label[number, :2 * number] = 255
    image = random.uniform(0, 255, (5, CROP, CROP, 3)).astype(np.float32)
    return {'image': image, 'label': label, **more}


def start(builder):
    """Values for a network whose frozen batch norms have the statistics of the images.

    Behind statistics that were never taken a fresh network is all but silent, and nothing moves;
    Dilated-8's scores are, by their small initial values.
    """
    network = builder()
    for convolution in layers.convolutions(network):
        if convolution.norm is not None:
            convolution.norm.momentum = 0.0
    network.fine_tune_batch_norm = True
    network(global_batch()['image'], training=True)
    if isinstance(network, dilated8.Dilated8):
        kernel = network.logits.scores.kernel
        kernel.assign(1000.0 * kernel)
    return network.get_weights()


def trained(builder, weights, strategy):
    """[(step, scalars, variables before, variables after)], each step from `weights`."""
    encoding = encodings.Encoding(CLASSES, SIZE)
    with strategy.scope():
        segmentor = builder()
        segmentor.fine_tune_batch_norm = False
        discriminator = discriminators.build_discriminator('small_cnn', encoding.channels, SIZE,
                                                           dropout=0.0, seed=2)
        stage_one = cross_entropy.CrossEntropy(
            segmentor, optimizers.make_optimizer('momentum', 1e-2, 0.9), l2_weight=1e-4)
        stage_two = load.LoAd(segmentor, discriminator,
                              optimizers.make_optimizer('sgd', 1e-2, 0.95),
                              optimizers.make_optimizer('adagrad', 0.01), encoding)
    segmentor.set_weights(weights)
    maps = stage_two.maps(global_batch()['image']).numpy()
    fakes = global_batch(map=maps, is_real=np.float32([1, 0, 1, 0, 0]))
    results = []
    for name, method, phase, network, batch, scalars in (
            ('stage 1', stage_one, 'segmentor', segmentor, global_batch(), {}),
            ('LoAd', stage_two, 'segmentor', segmentor, global_batch(),
             {'adversarial_weight': 1.0}),
            ('D', stage_two, 'discriminator', discriminator, fakes,
             {'weight_real': 1.0, 'weight_fake': 0.5})):
        segmentor.set_weights(weights)
        before = {v.name: v.numpy() for v in network.trainable_variables}
        outputs, = steps.take(method, strategy, batch, [phase], **scalars)
        results.append((name, outputs, before,
                        {v.name: v.numpy() for v in network.trainable_variables}))
    return results


@pytest.mark.parametrize('builder', [
    *(pytest.param(builder, id=name) for name, builder in LIGHT.items()),
    *(pytest.param(builder, id=name, marks=pytest.mark.slow) for name, builder in HEAVY.items())])
def test_three_steps_on_one_device_and_on_two_replicas(two_replicas, builder):
    weights = start(builder)
    one = trained(builder, weights, tf.distribute.OneDeviceStrategy('/cpu:0'))
    two = trained(builder, weights, two_replicas)
    assert [len(row[2]) for row in one] == [len(row[2]) for row in two]
    for (step, outputs, before, after), (_, outputs_two, _, after_two) in zip(one, two):
        assert outputs.keys() == outputs_two.keys()
        for name, value in outputs.items():
            assert np.isfinite(value), (step, name)
            assert value == pytest.approx(outputs_two[name], rel=1e-4, abs=1e-5), (step, name)
        for name, value in after.items():
            assert np.isfinite(value).all(), (step, name)
            moved = np.linalg.norm(value - before[name])
            assert moved > 0.0, (step, name)
            # A norm: where rounding takes an activation over its kink, single elements differ.
            off = np.linalg.norm(value - after_two[name])
            rounding = 2 * np.linalg.norm(np.spacing(np.abs(value)))
            assert off <= 0.02 * moved + rounding, (step, name, off / moved)
