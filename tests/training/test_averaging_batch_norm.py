"""Statistics of batch norm for averaged weights: NumPy's, two replicas', none where frozen."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.models import layers
from tf_advseg.training import averaging

SINGLE = tf.distribute.OneDeviceStrategy('/cpu:0')


class OneLayer(tf.keras.Model):
    """A segmentor of one convolution with batch norm, ours or Keras'."""

    def __init__(self, keras=False, live=True):
        super().__init__(name='one_layer')
        self.num_classes, self.logits_stride, self.output_stride, self.crop_size = 4, 1, 1, None
        self.fine_tune_batch_norm = live
        self.convolution = layers.Convolution('only', 3, 4, norm=None if keras else layers.Norm(
            1e-3, 0.9), seed=1)
        self.norm = tf.keras.layers.BatchNormalization(momentum=0.9) if keras else None
        if keras:
            self.norm.build([None, None, None, 4])
        self.built = True

    def call(self, image, training=False):
        """Logits of the size of the image."""
        live = training and self.fine_tune_batch_norm
        if self.norm is not None:
            return self.norm(self.convolution(image), training=live)
        return self.convolution(image, mode=layers.LIVE if live else layers.INFERENCE)


IMAGES = np.random.default_rng(0).uniform(0, 255, (10, 5, 7, 3)).astype(np.float32)


def make_images(size=4):
    return tf.data.Dataset.from_tensor_slices({'image': IMAGES}).batch(size)


def statistics_of(network, size):
    """Float64: the mean over the batches of the batches' mean and (Bessel's) variance."""
    kernel = network.convolution.kernel.numpy().astype(np.float64)
    features = IMAGES.astype(np.float64) @ kernel[0, 0]
    parts = [features[place:place + size].reshape(-1, 4) for place in range(0, 10, size)]
    shares = [len(part) / (10 * 35) for part in parts]
    return (sum(s * p.mean(0) for s, p in zip(shares, parts)),
            sum(s * p.var(0, ddof=1) for s, p in zip(shares, parts)))


def norm_of(network):
    return network.norm if network.norm is not None else network.convolution.norm


@pytest.mark.parametrize('keras', [False, True], ids=['ours', 'keras'])
def test_statistics_are_the_mean_over_the_batches(keras):
    network = OneLayer(keras)
    trainable = [v.numpy() for v in network.trainable_variables]
    norm_of(network).moving_mean.assign(tf.fill([4], 1e4))
    found = []
    for _ in range(2):
        assert averaging.reestimate_batch_norm(network, make_images(), SINGLE) == 3
        norm = norm_of(network)
        found.append((norm.moving_mean.numpy(), norm.moving_variance.numpy()))
    for values, expected in zip(found[0], statistics_of(network, 4)):
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found[0], found[1])  # not a bit of what was there before
    assert norm_of(network).momentum == 0.9
    for variable, before in zip(network.trainable_variables, trainable):
        np.testing.assert_array_equal(variable, before)


def test_two_replicas_find_the_statistics_of_one_device(two_replicas):
    with two_replicas.scope():
        network = OneLayer()
    averaging.reestimate_batch_norm(network, make_images(), two_replicas)
    norm = norm_of(network)
    for variable, expected in zip((norm.moving_mean, norm.moving_variance),
                                  statistics_of(network, 4)):
        here = two_replicas.experimental_local_results(variable)
        assert len(here) == 2
        for replica in here:
            np.testing.assert_allclose(replica, expected, rtol=1e-4, atol=1e-4)


def test_frozen_statistics_are_left_alone_and_no_batches_are_a_mistake():
    network = OneLayer(live=False)
    before = [v.numpy() for v in network.variables]
    assert averaging.reestimate_batch_norm(network, make_images(), SINGLE) == 0
    for variable, value in zip(network.variables, before):
        np.testing.assert_array_equal(variable, value)
    with pytest.raises(ValueError, match='at least one batch'):
        averaging.reestimate_batch_norm(OneLayer(), make_images().take(0), SINGLE)


def test_the_momentum_comes_back_when_the_network_fails():
    network = OneLayer()
    with pytest.raises(ValueError):
        averaging.reestimate_batch_norm(
            network, tf.data.Dataset.from_tensors({'image': np.zeros((1, 5, 5, 2), np.float32)}),
            SINGLE)
    assert norm_of(network).momentum == 0.9
