"""The discriminators of Durall et al. (2019): one decision for every pixel, or one for an image.

**Pixel-wise** (section 3.1 and Fig. 2): "an encoder-decoder structure [...] which resembles an
Auto-Encoder (AE) but without an explicit latent layer (bottleneck). It has H x W x C as an input
image size and H x W x 1 as an output confidence map size." Of Fig. 2 we had the caption alone,
so widths, kernels and activations are ours:

    encoder   4x4 convolutions of stride 2 with LeakyReLU 0.2, 64, 128, 256 and 512 wide: those of
              the discriminator of Hung et al. (2018), on whose code Durall's segmentor is based
    decoder   the encoder mirrored: for 256, 128 and 64, twice the size, a 3x3 convolution and
              LeakyReLU; then twice the size and a 3x3 convolution to the one logit of each pixel

"No latent layer" we take as: nothing between the two halves, neither a dense layer nor a narrower
one. There are no skips, no batch norm and no dropout: training and inference are one function. All
paddings are SAME. Twice the size is every value repeated, at the place that it was taken from (the
middle of a stride-2 window lies between the two pixels that the value comes back to); where a side
was odd, the one pixel too many is cut off. So maps of any size down to 1x1 come back at that size.
With C = 21 classes it has 4,324,289 parameters, and a decision sees 62 to 78 pixels along a side of
the map, by its place.

**Standard** (Table 4, one decision for an image): the same encoder, the mean over all positions
and a dense layer to one logit.
"""
import gin
import tensorflow as tf

from tf_advseg.adversaries import field_of_view
from tf_advseg.core import arguments
from tf_advseg.core import errors
from tf_advseg.models import layers

PIXEL, IMAGE = 'pixel', 'image'
KINDS = (PIXEL, IMAGE)
WIDTHS = (64, 128, 256, 512)
SLOPE = 0.2  # of LeakyReLU

# Variance of a kernel's values times the inputs that one output adds up (He et al. 2015, eq. 15).
_GAIN = 2.0 / (1.0 + SLOPE ** 2)


def _convolution(scope, channels, filters, side, seed, stride=1, share=1.0, factor=1.0):
    """A `layers.Convolution` whose kernel keeps the size of the signal; bias 0.

    Args:
      share: of the input's channels, how many are not 0 at a position (1 / classes for a map).
      factor: on the initial values.
    """
    stddev = field_of_view.truncated_deviation(_GAIN, side * side * channels * share)
    return layers.Convolution(scope, channels, filters, side, stride, seed=seed,
                              stddev=factor * stddev)


def twice(x, size):
    """Repeats every value twice along both sides and cuts off what is too much.

    Args:
      x: [B, h, w, C].
      size: (height, width), ints or scalar tensors, each 2h or 2h - 1 (2w or 2w - 1).

    Returns:
      [B, height, width, C].
    """
    shape, channels = tf.shape(x), x.shape[-1]
    x = tf.tile(tf.reshape(x, [-1, shape[2], channels]), [1, 1, 2])
    x = tf.tile(tf.reshape(x, [-1, 2 * shape[2] * channels]), [1, 2])
    x = tf.reshape(x, [-1, 2 * shape[1], 2 * shape[2], channels])
    return x[:, :size[0], :size[1]]


class Encoder(layers.Layer):
    """4x4 convolutions of stride 2 with LeakyReLU.

    Args:
      name: of the scope; with the seed it settles the initial values.
      num_classes: C, channels of the maps.
      widths: filters of each convolution.
      seed: int.
    """

    def __init__(self, name, num_classes, widths, seed):
        super().__init__(name=f'{name}/encoder'.replace('/', '_'))
        channels, share = num_classes, 1.0 / num_classes
        self.convolutions = []
        for index, width in enumerate(widths, 1):
            self.convolutions.append(_convolution(f'{name}/encoder{index}', channels, width, 4,
                                                  seed, stride=2, share=share))
            channels, share = width, 1.0
        self.channels = channels
        self.built = True

    def call(self, maps):
        """float32 [B, h, w, C] -> the feature, and the (h, w) of what each convolution was given.

        Returns:
          float32 [B, ceil(h / 2^n), ceil(w / 2^n), channels] of n convolutions; list of n int32
          [2], that of the maps first.
        """
        x, sizes = maps, []
        for convolution in self.convolutions:
            sizes.append(tf.shape(x)[1:3])
            x = tf.nn.leaky_relu(convolution(x), SLOPE)
        return x, sizes


class _Discriminator(tf.keras.Model):
    """What both kinds share: the encoder, and the check of what is to be judged."""

    decides = None
    needs_image = False

    def __init__(self, num_classes, widths, seed, name):
        super().__init__(name=name)
        self.num_classes = self.channels = num_classes
        self.encoder = Encoder(name, num_classes, widths, seed)
        self.built = True

    def __call__(self, maps, image=None, training=False):
        """See `call`; before it, since Keras adds lines of its own to an error in there."""
        if len(maps.shape) != 4 or maps.shape[-1] not in (self.channels, None):
            raise errors.UserError(
                f'discriminator {self.name} got maps {tuple(maps.shape)}: expected [B, h, w, '
                f'{self.channels}]; build it with the number of classes of the data set')
        return super().__call__(maps, image=image, training=training)


class EncoderDecoder(_Discriminator):
    """The pixel-wise discriminator; made by `build_pixel_discriminator`.

    Args:
      num_classes, widths, seed, last_gain: see there.
      name: str.

    Attributes:
      channels, num_classes: C, of the maps it takes.
      decides: 'pixel'.
      needs_image: False: `image` is not looked at.
    """

    decides = PIXEL

    def __init__(self, num_classes, widths, seed, last_gain, name='encoder_decoder'):
        super().__init__(num_classes, widths, seed, name)
        channels, self.decoder = self.encoder.channels, []
        for index, width in enumerate(reversed(widths[:-1]), 1):
            self.decoder.append(_convolution(f'{name}/decoder{index}', channels, width, 3, seed))
            channels = width
        self.last = _convolution(f'{name}/logits', channels, 1, 3, seed, factor=last_gain)

    def call(self, maps, image=None, training=False):
        """Judges every pixel of the maps.

        Args:
          maps: float [B, h, w, C].
          image, training: not used.

        Returns:
          float32 [B, h, w], above 0 for "truth".

        Raises:
          UserError: maps of another number of channels.
        """
        del image, training
        x, sizes = self.encoder(tf.cast(maps, tf.float32))
        for convolution in self.decoder:
            x = tf.nn.leaky_relu(convolution(twice(x, sizes.pop())), SLOPE)
        return tf.cast(tf.squeeze(self.last(twice(x, sizes.pop())), -1), tf.float32)


class ImageDecision(_Discriminator):
    """The standard discriminator of Table 4; made by `build_pixel_discriminator`.

    Args:
      num_classes, widths, seed, last_gain: see there.
      name: str.

    Attributes:
      channels, num_classes: C, of the maps it takes.
      decides: 'image'.
      needs_image: False: `image` is not looked at.
    """

    decides = IMAGE

    # The initial values are drawn by the name, so it stays what it was.
    def __init__(self, num_classes, widths, seed, last_gain, name='picture_decision'):
        super().__init__(num_classes, widths, seed, name)
        # A 1x1 convolution of the pooled feature is the dense layer, with our initial values.
        self.last = _convolution(f'{name}/logits', self.encoder.channels, 1, 1, seed,
                                 factor=last_gain)

    def call(self, maps, image=None, training=False):
        """Judges whole maps.

        Args:
          maps: float [B, h, w, C].
          image, training: not used.

        Returns:
          float32 [B], above 0 for "truth".

        Raises:
          UserError: maps of another number of channels.
        """
        del image, training
        x, _ = self.encoder(tf.cast(maps, tf.float32))
        pooled = tf.reduce_mean(tf.cast(x, tf.float32), [1, 2], keepdims=True)
        return tf.cast(tf.reshape(self.last(pooled), [-1]), tf.float32)


@gin.configurable(denylist=['num_classes', 'seed'])
def build_pixel_discriminator(num_classes=None, kind=PIXEL, seed=0, widths=WIDTHS, last_gain=0.1):
    """Builds a discriminator of Durall et al.; its variables exist on return.

    Initial values (not printed in the paper): truncated normal kernels of He et al.'s variance for
    LeakyReLU, 2 / (1.04 n), n the inputs that one output adds up; biases of 0. In the first layer n
    counts one class of the C, since a map's others are 0 or share what is left to 1. The last
    kernel is a tenth of that: an untrained discriminator has no opinion, and its gradient into the
    segmentor begins small. Equal seeds give equal weights, on any strategy and in any order of
    building; the two kinds of one seed have encoders of different weights.

    Args:
      num_classes: C.
      kind: 'pixel' or 'image' (Table 4's "standard").
      seed: int, the run's.
      widths: filters of the encoder's convolutions, each of which halves the size; the decoder
        mirrors them.
      last_gain: factor on the last layer's initial values; 1 treats it as the others.

    Returns:
      `EncoderDecoder` or `ImageDecision`: discriminator(maps, image=None, training=False) ->
      logits float32 [B, h, w] or [B]. Build it inside a strategy's scope to use it on replicas.

    Raises:
      UserError: an unknown kind, or a value out of range.
    """
    errors.require_one_of('build_pixel_discriminator.kind', kind, KINDS)
    arguments.require_classes('build_pixel_discriminator', num_classes)
    arguments.require_number('build_pixel_discriminator', 'last_gain', last_gain, above=0)
    arguments.require('build_pixel_discriminator', isinstance(widths, (list, tuple))
                      and len(widths) >= 1 and all(map(arguments.is_count, widths)), 'widths',
                      widths, 'integers of at least 1, such as (64, 128, 256, 512)')
    model = EncoderDecoder if kind == PIXEL else ImageDecision
    return model(num_classes, tuple(widths), seed, last_gain)
