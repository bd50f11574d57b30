"""The networks of Zhu et al. (2018), section 3.1: one reconstructs images from masks, one judges.

**Generator**: "4 convolutional layers and 4 de-convolutional layers, and a dropout layer is
followed with the rate as 0.5", "an encoder-decoder" with "skip connections [...] between each layer
i and layer n - i" that concatenate. Kernels, widths and the other activations are not printed;
"highly motivated by Pix2pix" (Isola et al. 2017), so from there:

    4x4 kernels of stride 2; 64, 128, 256 and 512 wide and back; LeakyReLU 0.2 on the way down, ReLU
    on the way up, tanh at the end: images in [-1, 1]; no normalisation in the first convolution
    and the last deconvolution; dropout on the innermost of the way up, at test time as well: it is
    the noise z ("applied on several layers of our generator at both training and test time")

Not as in pix2pix's code: ReLU is not applied to the bottleneck and the skips as well, D's loss is
not halved (eq. 7 is a sum), and batch norm has its moving statistics at test time.

A deconvolution doubles a side, so sides have to be multiples of 16. Here, and nowhere else, maps
are padded to that with zeros (no class) at the bottom and the right, and what is reconstructed is
cut back: 513 becomes 528 and 513 again, pixel by pixel where it was. Resizing would blur what is
compared.

**Discriminator**: a PatchGAN, "4 convolutional layers with the ReLU method as the activation
function followed every layer but excludes the last layer". 4x4 kernels; 64, 128, 256 and 1 wide;
stride 2, the last 1: a response sees 46 x 46 pixels. "All responses of this discriminator is
averaged to provide the final output of D": that is the method's to do. It resizes nothing, so that
a gradient penalty can be taken.

Both start from "isotropic Gaussian weights", of standard deviation 0.02 as pix2pix's; biases of 0.
Normalisation is not printed: 'instance' (keeps no statistics, and replicas need not agree on any),
'batch' (pix2pix's; over the global batch) or 'none'.
"""
import gin
import tensorflow as tf

from tf_advseg.core import arguments
from tf_advseg.core import errors
from tf_advseg.models import layers
from tf_advseg.models import precision

BATCH, INSTANCE, NONE = 'batch', 'instance', 'none'
NORMALISATIONS = (BATCH, INSTANCE, NONE)
WIDTHS = (64, 128, 256, 512)
SLOPE = 0.2  # of the generator's LeakyReLU
COLOURS = 3
_KERNEL = 4


class InstanceNorm(tf.keras.layers.Layer):
    """Each image's channels by their own mean and variance: tensorflow-addons' function.

    That layer's tf.nn.moments takes the mean in the variance as a constant, which is right in a
    gradient and wrong in a gradient's own, such as a gradient penalty's (some per cent off).

    Args:
      epsilon: what is added to the variance.
    """

    def __init__(self, epsilon, name=None):
        super().__init__(name=name, dtype='float32')  # statistics are, whatever the policy
        self.epsilon = epsilon

    def build(self, shape):
        """Makes gamma and beta [channels] for images of `shape`."""
        self.gamma = self.add_weight('gamma', shape=shape[-1:], initializer='ones')
        self.beta = self.add_weight('beta', shape=shape[-1:], initializer='zeros')
        super().build(shape)

    def call(self, x):
        """float32 [B, h, w, channels] -> the same."""
        x -= tf.reduce_mean(x, axis=[1, 2], keepdims=True)
        variance = tf.reduce_mean(tf.square(x), axis=[1, 2], keepdims=True)
        return x * (self.gamma * tf.math.rsqrt(variance + self.epsilon)) + self.beta


def _normalisation(kind, channels, name):
    """A layer that is built, or None."""
    if kind == NONE:
        return None
    if kind == INSTANCE:
        layer = InstanceNorm(epsilon=1e-5, name=name)
    else:  # of the global batch, so that two replicas are one device
        layer = tf.keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, synchronized=True,
                                                   name=name)
    layer.build([None, None, None, channels])
    return layer


class _Block(tf.keras.layers.Layer):
    """A (de)convolution of 4x4, with its normalisation."""

    def __init__(self, scope, kind, channels, filters, stride, normalisation, stddev, seed):
        super().__init__(name=scope.replace('/', '_'))
        self.convolution = kind(
            filters, _KERNEL, stride, padding='same', name='convolution',
            # A norm takes a bias out again, and Adam would make steps of its rounding errors.
            use_bias=normalisation == NONE,
            kernel_initializer=tf.keras.initializers.RandomNormal(
                stddev=stddev, seed=layers.derived_seed(seed, scope)))
        self.convolution.build([None, None, None, channels])
        self.norm = _normalisation(normalisation, filters, 'norm')
        self.built = True

    def call(self, x, training=False):
        """[B, h, w, channels] -> [B, h', w', filters]."""
        x = self.convolution(x)
        return x if self.norm is None else self.norm(x, training=training)


def _require_maps(network, maps, channels, what):
    """UserError unless maps are [B, h, w, channels]."""
    shape = tuple(getattr(maps, 'shape', ()))
    if len(shape) != 4 or shape[-1] not in (channels, None):
        raise errors.UserError(f'{network.name} got {what} {shape}: expected [B, h, w, {channels}]'
                               '; build it with the number of classes of the data set')


class ReconstructionGenerator(tf.keras.Model):
    """Made by `build_reconstruction_generator`.

    Args:
      num_classes, sees_image, widths, normalisation, dropout_rate, dropout_layers, stddev, seed:
        see there.

    Attributes:
      channels: of what it is given.
      sees_image: whether the image itself is among them.
      multiple: int, what sides are padded to a multiple of.
      fine_tune_batch_norm: whether there are moving statistics, which follow in training.
      arguments: dict, what `build_reconstruction_generator` builds the same network from.
    """

    def __init__(self, num_classes, sees_image, widths, normalisation, dropout_rate,
                 dropout_layers, stddev, seed, name='reconstruction_generator'):
        super().__init__(name=name)
        self.num_classes, self.sees_image = num_classes, sees_image
        self.channels = num_classes + (COLOURS if sees_image else 0)
        self.multiple = 2 ** len(widths)
        # See `methods.step_parts.statistics_kept`.
        self.fine_tune_batch_norm = normalisation == BATCH
        self.arguments = {'num_classes': num_classes, 'sees_image': sees_image,
                          'widths': list(widths), 'normalisation': normalisation,
                          'dropout_rate': dropout_rate, 'dropout_layers': dropout_layers,
                          'stddev': stddev}
        self.encoder, self.decoder, channels = [], [], self.channels
        for index, width in enumerate(widths, 1):
            self.encoder.append(_Block(
                f'{name}/encoder{index}', tf.keras.layers.Conv2D, channels, width, 2,
                normalisation if index > 1 else NONE, stddev, seed))
            channels = width
        for index, width in enumerate((*reversed(widths[:-1]), COLOURS), 1):
            last = index == len(widths)
            self.decoder.append(_Block(
                f'{name}/decoder{index}', tf.keras.layers.Conv2DTranspose, channels, width, 2,
                NONE if last else normalisation, stddev, seed))
            channels = 2 * width  # the skip beside it
        self.dropout = layers.StatelessDropout(dropout_rate, name='dropout')
        self.dropout_layers = dropout_layers
        self.built = True

    def __call__(self, maps, training=False, dropout_seed=None):
        """See `call`; before it, since Keras adds lines of its own to an error in there."""
        _require_maps(self, maps, self.channels, 'maps')
        return super().__call__(maps, training=training, dropout_seed=dropout_seed)

    def call(self, maps, training=False, dropout_seed=None):
        """Reconstructs images.

        Args:
          maps: float [B, h, w, channels]: class by class, then the image where it sees it.
          training: Python bool, of batch norm alone.
          dropout_seed: int32 [2], the noise z; None for none.

        Returns:
          float32 [B, h, w, 3] in [-1, 1].

        Raises:
          UserError: maps of another number of channels.
        """
        size = tf.shape(maps)[1:3]
        margin = -size % self.multiple
        x = tf.pad(tf.cast(maps, tf.float32),
                   [[0, 0], [0, margin[0]], [0, margin[1]], [0, 0]])
        skips = []
        for block in self.encoder:
            x = tf.nn.leaky_relu(block(x, training=training), SLOPE)
            skips.append(x)
        skips.pop()  # the bottleneck is x itself
        for index, block in enumerate(self.decoder):
            x = block(x, training=training)
            if index < self.dropout_layers and dropout_seed is not None:
                x = self.dropout(x, training=True, seed=tf.random.experimental.stateless_fold_in(
                    tf.cast(dropout_seed, tf.int32), index))
            if skips:
                x = tf.concat([tf.nn.relu(x), tf.cast(skips.pop(), x.dtype)], axis=-1)
        return tf.tanh(tf.cast(x, tf.float32))[:, :size[0], :size[1]]


class PatchDiscriminator(tf.keras.Model):
    """Made by `build_patch_discriminator`.

    Args:
      condition_channels, widths, normalisation, stddev, seed: see there.

    Attributes:
      condition_channels: of what it is given beside an image; 0 for nothing.
      arguments: dict, what `build_patch_discriminator` builds the same network from.
    """

    def __init__(self, condition_channels, widths, normalisation, stddev, seed,
                 name='patch_discriminator'):
        super().__init__(name=name)
        self.condition_channels = condition_channels
        self.arguments = {'condition_channels': condition_channels, 'widths': list(widths),
                          'normalisation': normalisation, 'stddev': stddev}
        self.blocks, channels = [], COLOURS + condition_channels
        for index, width in enumerate((*widths, 1), 1):
            last = index > len(widths)
            self.blocks.append(_Block(
                f'{name}/conv{index}', tf.keras.layers.Conv2D, channels, width, 1 if last else 2,
                NONE if last or index == 1 else normalisation, stddev, seed))
            channels = width
        self.built = True

    def __call__(self, images, condition=None, training=False):
        """See `call`; before it, since Keras adds lines of its own to an error in there."""
        _require_maps(self, images, COLOURS, 'images')
        if not self.condition_channels and condition is not None:
            raise errors.UserError(f'{self.name} got a condition, and was built for none')
        if self.condition_channels:
            _require_maps(self, condition, self.condition_channels, 'a condition')
        return super().__call__(images, condition=condition, training=training)

    def call(self, images, condition=None, training=False):
        """Judges patches of images.

        Args:
          images: float [B, h, w, 3] in [-1, 1].
          condition: float [B, h, w, condition_channels], or None where that is 0.
          training: Python bool, of batch norm alone.

        Returns:
          float32 [B, h', w'], a response a patch: larger for what is no reconstruction.

        Raises:
          UserError: another number of channels.
        """
        x = tf.cast(images, tf.float32)
        if self.condition_channels:
            x = tf.concat([x, tf.cast(condition, tf.float32)], axis=-1)
        for block in self.blocks[:-1]:
            x = tf.nn.relu(block(x, training=training))
        return tf.cast(tf.squeeze(self.blocks[-1](x, training=training), -1), tf.float32)


def _require_common(builder, widths, normalisation, stddev):
    errors.require_one_of(f'{builder}.normalisation', normalisation, NORMALISATIONS)
    arguments.require(builder, isinstance(widths, (list, tuple)) and len(widths) >= 1
                      and all(map(arguments.is_count, widths)), 'widths', widths,
                      'integers of at least 1, such as (64, 128, 256)')
    arguments.require_number(builder, 'stddev', stddev, above=0)


@gin.configurable(denylist=['num_classes', 'sees_image', 'seed'])
def build_reconstruction_generator(num_classes, sees_image=False, seed=0, widths=WIDTHS,
                                   normalisation=INSTANCE, dropout_rate=0.5, dropout_layers=2,
                                   stddev=0.02):
    """Builds the generator; its variables exist on return.

    Args:
      num_classes: C.
      sees_image: whether it is given the image beside the mask (section 3.1), or the mask alone
        (eq. 10).
      seed: int.
      widths: filters of the convolutions; the deconvolutions mirror them.
      normalisation: 'instance', 'batch' or 'none'.
      dropout_rate: 0.5 in the paper; 0 for no noise.
      dropout_layers: how many deconvolutions, from the innermost, it comes after ("several").
      stddev: of the initial kernels.

    Returns:
      `ReconstructionGenerator`. Build it inside a strategy's scope to use it on replicas.

    Raises:
      UserError: a value out of range.
    """
    where = 'build_reconstruction_generator'
    arguments.require_classes(where, num_classes)
    _require_common(where, widths, normalisation, stddev)
    arguments.require_dropout(where, dropout_rate)
    arguments.require_number(where, 'dropout_layers', dropout_layers, least=0, whole=True,
                             most=len(widths) - 1, hint='the last deconvolution draws the image')
    with precision.precision().keras_layers():
        return ReconstructionGenerator(num_classes, sees_image, tuple(widths), normalisation,
                                       dropout_rate, dropout_layers, stddev, seed)


@gin.configurable(denylist=['condition_channels', 'seed'])
def build_patch_discriminator(condition_channels, seed=0, widths=WIDTHS[:-1],
                              normalisation=INSTANCE, stddev=0.02):
    """Builds the discriminator; its variables exist on return.

    Args:
      condition_channels: int, of what it is given beside the image; 0 for nothing.
      seed: int.
      widths: filters of the convolutions before the last.
      normalisation: 'instance', 'batch' or 'none'; none in the first and the last convolution.
      stddev: of the initial kernels.

    Returns:
      `PatchDiscriminator`. Build it inside a strategy's scope to use it on replicas.

    Raises:
      UserError: a value out of range.
    """
    where = 'build_patch_discriminator'
    arguments.require_number(where, 'condition_channels', condition_channels, least=0, whole=True)
    _require_common(where, widths, normalisation, stddev)
    with precision.precision().keras_layers():
        return PatchDiscriminator(condition_channels, tuple(widths), normalisation, stddev, seed)
