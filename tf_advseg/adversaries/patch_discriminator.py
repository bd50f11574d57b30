"""A discriminator of patches: a map of decisions an image, from few points and without batch norm.

Each decision is about a patch of the map (Isola et al. 2017, section 3.2.2): it is asked of local
arrangement and not of the whole image at once. The loss and the accuracy of an image are means over
its decisions. `spectral_norm` bounds each layer's slope by 1 (Miyato et al. 2018), so that a
discriminator that is sure of itself still has a gradient.
"""
import math

import numpy as np
import tensorflow as tf

WIDTH, DEEPER = 64, 128
_FEWEST = 10  # points of a side down to which strides of 2 may go
_POWER_STEPS = 8  # of the power iteration, from a fixed start: no state to keep or to replicate


def largest_singular_value(kernel):
    """The spectral norm of a convolution's kernel as a matrix [inputs, filters], float32 scalar.

    By a power iteration from a fixed vector at each call: the same kernel gives the same number on
    any replica, and there is no vector to store. Its gradient takes the singular vectors as given
    (Miyato et al. 2018, section 2.1).
    """
    matrix = tf.reshape(kernel, [-1, kernel.shape[-1]])
    start = np.random.default_rng(0).normal(size=(matrix.shape[1], 1)).astype(np.float32)
    vector = tf.constant(start)
    fixed = tf.stop_gradient(matrix)
    for _ in range(_POWER_STEPS):
        vector = tf.math.l2_normalize(tf.matmul(fixed, tf.matmul(fixed, vector), transpose_a=True))
    return tf.norm(tf.matmul(matrix, vector))


class SpectralConv2D(tf.keras.layers.Conv2D):
    """A convolution whose kernel is divided by its largest singular value."""

    def convolution_op(self, inputs, kernel):
        """See tf.keras.layers.Conv2D."""
        largest = largest_singular_value(tf.cast(kernel, tf.float32))
        return super().convolution_op(
            inputs, kernel / tf.cast(tf.maximum(largest, 1e-12), inputs.dtype))


class PatchDiscriminator(tf.keras.Model):
    """Encoder and a 1x1 convolution: encoded input [B, h, w, channels] -> logits [B, h', w'].

    Attributes:
      encoder: keras model giving features [B, h', w', F].
      has_batch_norm: False.
    """

    def __init__(self, encoder, spectral_norm=False, name='discriminator_patch'):
        super().__init__(name=name)
        self.encoder = encoder
        self.logits = _layer(spectral_norm)(1, 1, name='logits')
        with tf.name_scope('logits'):
            self.logits.build(encoder.output_shape)
        self.has_batch_norm = False
        self.built = True

    def call(self, x, training=False, dropout_seed=None):
        """Judges x float [B, h, w, channels].

        Args:
          training, dropout_seed: have no effect; every discriminator takes them.

        Returns:
          logits float32 [B, h', w']; large for "real".
        """
        del training, dropout_seed
        return tf.cast(tf.squeeze(self.logits(self.encoder(x)), axis=-1), tf.float32)


def _layer(spectral_norm):
    return SpectralConv2D if spectral_norm else tf.keras.layers.Conv2D


def encoder(channels, points, alpha, spectral_norm):
    """3x3 convolutions with LeakyReLU(0.2): 64, then 128 wide (times alpha).

    The second one and as many more have a stride of 2 as leave about ten points a side. An input of
    more than 64 channels (a backbone's features) is brought to 64 by a linear 1x1 convolution
    first; without it the first 3x3 convolution would take nine tenths of the time.

    Args:
      channels: of the input.
      points: (h, w) of the input.
      alpha: width multiplier.
      spectral_norm: whether kernels are divided by their spectral norm.
    """
    halvings = max(1, int(math.log2(max(2.0, min(points) / _FEWEST))))
    strides = [1] + [2] * halvings + [1]
    inputs = x = tf.keras.Input((*points, channels))
    if channels > WIDTH:
        x = _layer(spectral_norm)(WIDTH, 1, use_bias=False, name='squeeze')(x)
    for index, stride in enumerate(strides, 1):
        width = WIDTH if index == 1 else DEEPER
        x = _layer(spectral_norm)(max(1, int(width * alpha)), 3, strides=stride, padding='same',
                                  name=f'conv{index}')(x)
        x = tf.keras.layers.LeakyReLU(0.2, name=f'conv{index}_leaky')(x)
    return tf.keras.Model(inputs, x, name='patch')
