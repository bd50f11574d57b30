"""The discriminator of Hung et al. (2018), section 4.1: fully convolutional, or not (Table 6).

    five convolutions 4x4 of stride 2, {64, 128, 256, 512, 1} wide, LeakyReLU 0.2 after each but the
    last, no normalisation; "an up-sampling layer is added to the last layer to rescale the output
    to the size of the input map"

Paddings are one zero on every side, as in the authors' code: a side of h becomes h // 2, and 32
points of a map become one decision. A decision sees 94 points along a side. Upsampling is
align-corners bilinear, of the logits. With C = 21 classes it has 2,783,169 parameters.

**Not fully convolutional** (`kind = 'image'`, Table 6): "we replace the last convolution layer of
the discriminator with a fully-connected layer that outputs a single neuron". A fully-connected
layer knows one size of map alone.

**Pointwise** (not in the paper): the same widths by 1x1 convolutions, at every point of the map. It
sees how sure a prediction is and of what, and nothing of shapes: what an adversary brings beyond
such a one comes from structure.
"""
import gin
import tensorflow as tf

from tf_advseg.core import arguments
from tf_advseg.core import errors
from tf_advseg.models import layers
from tf_advseg.models import resize

PIXEL, IMAGE = 'pixel', 'image'
KINDS = (PIXEL, IMAGE)
WIDTHS = (64, 128, 256, 512)
SLOPE = 0.2  # of LeakyReLU
INITIAL_VALUES = ('fan_in', 'he')

# Variance of a kernel's values times the inputs that one output adds up. 'fan_in' is what PyTorch's
# convolutions start from: evenly from -1/sqrt(n) to 1/sqrt(n).
_VARIANCES = {'fan_in': 1.0 / 3.0, 'he': 2.0 / (1.0 + SLOPE ** 2)}


def _limit(initial_values, inputs):
    """Half the width of the even distribution of the wanted variance."""
    return (3.0 * _VARIANCES[initial_values] / inputs) ** 0.5


class FullyConvolutional(tf.keras.Model):
    """Made by `build_fc_discriminator`.

    Args:
      num_classes, kind, widths, initial_values, map_size, seed, pointwise: see there.

    Attributes:
      channels, num_classes: C, of the maps it takes.
      decides: 'pixel' or 'image'.
      needs_image: False: `image` is not looked at.
      least_side: int, of the maps.
      map_size: (h, w) of the maps, or None for any.
      arguments: dict, what `build_fc_discriminator` builds the same network from, seed aside.
    """

    needs_image = False

    def __init__(self, num_classes, kind, widths, initial_values, map_size, seed, pointwise=False,
                 name='fully_convolutional'):
        super().__init__(name=name)
        self.num_classes = self.channels = num_classes
        self.decides = kind
        self.map_size = map_size if kind == IMAGE else None
        self.least_side = 1 if pointwise else 2 ** (len(widths) + (kind == PIXEL))
        self.arguments = {'num_classes': num_classes, 'kind': kind, 'widths': list(widths),
                          'initial_values': initial_values,
                          'map_size': None if self.map_size is None else list(self.map_size),
                          **({'pointwise': True} if pointwise else {})}
        size, place = (1, {}) if pointwise else (4, {'stride': 2, 'padding': layers.FIXED})
        self.convolutions, channels = [], num_classes
        for index, width in enumerate(widths, 1):
            self.convolutions.append(layers.Convolution(
                f'{name}/conv{index}', channels, width, size, **place,
                limit=_limit(initial_values, size ** 2 * channels), seed=seed))
            channels = width
        if kind == PIXEL:
            self.last = layers.Convolution(
                f'{name}/logits', channels, 1, size, **place,
                limit=_limit(initial_values, size ** 2 * channels), seed=seed)
        else:
            inputs = channels
            for side in map_size:
                inputs *= side // 2 ** len(widths)
            # A 1x1 convolution of one position is the fully-connected layer.
            self.last = layers.Convolution(f'{name}/logits', inputs, 1, 1, seed=seed,
                                           limit=_limit(initial_values, inputs))
        self.built = True

    def __call__(self, maps, image=None, training=False):
        """See `call`; before it, since Keras adds lines of its own to an error in there."""
        shape = tuple(maps.shape)
        if len(shape) != 4 or shape[-1] not in (self.channels, None):
            raise errors.UserError(
                f'discriminator {self.name} got maps {shape}: expected [B, h, w, {self.channels}]; '
                'build it with the number of classes of the data set')
        self.require_size(shape[1:3])
        if self.map_size is not None and None not in shape[1:3] and shape[1:3] != self.map_size:
            raise errors.UserError(
                f'discriminator {self.name} got maps of {shape[1]}x{shape[2]}: its fully-connected '
                f'layer takes {self.map_size[0]}x{self.map_size[1]} alone; build_fc_discriminator.'
                "kind = 'pixel' takes any size")
        return super().__call__(maps, image=image, training=training)

    def require_size(self, size):
        """Raises UserError for maps whose (height, width) is too small; None is not looked at."""
        if any(side is not None and side < self.least_side for side in size):
            raise errors.UserError(
                f'discriminator {self.name} is to judge maps of {size[0]}x{size[1]}: expected at '
                f'least {self.least_side} points a side; lower the method\'s map_stride, or take '
                'a larger crop')

    def call(self, maps, image=None, training=False):
        """Judges maps.

        Args:
          maps: float [B, h, w, C].
          image, training: not used.

        Returns:
          float32 [B, h, w], or [B] of kind 'image'; above 0 for "truth".

        Raises:
          UserError: maps of another number of channels, too small, or of a size that a
            fully-connected layer does not take.
        """
        del image, training
        x = tf.cast(maps, tf.float32)
        for convolution in self.convolutions:
            x = tf.nn.leaky_relu(convolution(x), SLOPE)
        if self.decides == PIXEL:
            return resize.resize_bilinear(self.last(x), tf.shape(maps)[1:3])[..., 0]
        flat = tf.reshape(x, [tf.shape(maps)[0], 1, 1, self.last.kernel.shape[2]])
        return tf.cast(tf.reshape(self.last(flat), [-1]), tf.float32)


@gin.configurable(denylist=['num_classes', 'map_size', 'seed'])
def build_fc_discriminator(num_classes=None, kind=PIXEL, widths=WIDTHS, initial_values='fan_in',
                           map_size=None, seed=0, pointwise=False):
    """Builds a discriminator of Hung et al.; its variables exist on return.

    Args:
      num_classes: C.
      kind: 'pixel', fully convolutional; or 'image', with a fully-connected last layer.
      widths: filters of the convolutions before the last layer.
      initial_values: 'fan_in', those that the authors' framework gives by default (not printed); or
        'he', of He et al.'s variance for LeakyReLU, 2.4 times as large.
      map_size: (h, w) of the maps, for kind 'image'.
      seed: int, the run's. Equal seeds give equal weights.
      pointwise: 1x1 convolutions of stride 1 in the place of those of 4x4: a discriminator that
        sees no neighbour of a point, to compare with. Of kind 'pixel' alone.

    Returns:
      `FullyConvolutional`: discriminator(maps, image=None, training=False) -> float32 logits. Build
      it inside a strategy's scope to use it on replicas.

    Raises:
      UserError: an unknown kind, or a value out of range.
    """
    where = 'build_fc_discriminator'
    errors.require_one_of(f'{where}.kind', kind, KINDS)
    errors.require_one_of(f'{where}.initial_values', initial_values, INITIAL_VALUES)
    arguments.require_classes(where, num_classes)
    arguments.require(where, isinstance(widths, (list, tuple)) and len(widths) >= 1
                      and all(map(arguments.is_count, widths)), 'widths', widths,
                      'integers of at least 1, such as (64, 128, 256, 512)')
    arguments.require_flag(where, 'pointwise', pointwise)
    if kind == IMAGE:
        arguments.require(where, not pointwise, 'pointwise', pointwise,
                          "False: kind 'image' sees the whole map")
        least = 2 ** len(widths)
        arguments.require(where, map_size is not None and all(side >= least for side in map_size),
                          'map_size', map_size, f'(h, w) of at least {least}; lower '
                          'the method\'s map_stride, or take a larger crop')
    return FullyConvolutional(num_classes, kind, tuple(widths), initial_values,
                              map_size and tuple(map_size), seed, pointwise)
