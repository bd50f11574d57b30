"""EL-GAN: the embedding loss by hand, and what its gradient reaches."""
import numpy as np
import one_layer
import pytest
import tensorflow as tf

from tf_advseg.adversaries import encoder_decoder
from tf_advseg.adversaries import label_maps
from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.methods import el_gan
from tf_advseg.training import optimizers

CLASSES, SIDE = 3, 17
SEED = np.array([1, 2], np.int32)


@pytest.fixture
def method():
    encoding = label_maps.LabelMaps(CLASSES, 'product')
    return el_gan.ElGan(
        one_layer.OneLayer(CLASSES),
        encoder_decoder.build_pixel_discriminator(encoding.channels, 'image', 2, (4, 8)),
        optimizers.make_optimizer('sgd', 0.1), optimizers.make_optimizer('sgd', 0.1), encoding,
        el_gan.Settings(0.7))


@pytest.fixture
def batch():
    random = np.random.default_rng(7)
    label = random.integers(0, CLASSES, (4, SIDE, SIDE)).astype(np.int32)
    label[0, :5] = 255
    return {'image': tf.constant(random.uniform(0, 255, (4, SIDE, SIDE, 3)), tf.float32),
            'label': tf.constant(label)}


def features(method, maps):
    """The embedding by its convolutions, one after another."""
    for convolution in method.discriminator.encoder.convolutions:
        maps = tf.nn.leaky_relu(convolution(maps), 0.2)
    return maps.numpy().astype(np.float64)


def test_the_embedding_loss_is_the_mean_squared_difference(method, batch):
    logits = method.logits(batch, SEED)
    truth = method.encoding.real(batch['image'], batch['label'], logits)
    fake = method.encoding.fake(batch['image'], batch['label'], logits)
    expected = np.square(features(method, truth) - features(method, fake)).mean()
    (weight, share), = method.terms(batch, logits, SEED)[0].values()
    assert weight == 0.7 and float(share) == pytest.approx(expected, rel=1e-5)
    found = {name: float(value) for name, value in method.segmentor_step(batch, SEED).items()}
    assert found['loss/embedding'] == pytest.approx(expected, rel=1e-5)
    assert found['loss/total'] == pytest.approx(
        found['loss/ce'] + 0.7 * found['loss/embedding'], rel=1e-5)


def test_its_gradient_reaches_the_prediction_and_not_the_truth(method, batch):
    """A prediction that is the truth has no embedding loss, whatever the discriminator is."""
    sure = 100.0 * tf.one_hot(label_maps.labels_at(
        batch['label'], tf.shape(method.logits(batch, SEED))[1:3]), CLASSES)
    assert float(method.terms(batch, sure, SEED)[0]['embedding'][1]) < 1e-6
    logits = method.logits(batch, SEED)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        share = method.terms(batch, logits, SEED)[0]['embedding'][1]
    assert float(tf.norm(tape.gradient(share, logits))) > 0


def test_the_discriminator_learns_to_tell_them_apart(method, batch):
    before = [v.numpy() for v in method.segmentor.variables]
    losses = [float(method.discriminator_step(batch, SEED)['loss/disc']) for _ in range(20)]
    assert losses[0] == pytest.approx(2 * np.log(2), rel=0.2) and losses[-1] < losses[0]
    for old, variable in zip(before, method.segmentor.variables):
        np.testing.assert_array_equal(old, variable)


def test_a_weight_out_of_range_is_told_in_one_line():
    configuration.parse([], ['el_gan.embedding_weight = -1'])
    with pytest.raises(UserError, match='el_gan.embedding_weight = -1: expected'):
        el_gan.el_gan_settings()
