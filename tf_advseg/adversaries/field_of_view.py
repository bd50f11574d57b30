"""The fully convolutional adversaries of Luc et al. (2016): four for VOC, one for Stanford.

All take label maps at the segmentor's resolution and return a map of logits, large for "truth": two
2x2 poolings leave 4x4 = 16 times fewer of them than the label map has positions (section 3.2).

**VOC** (supplement, Table 1: LargeFOV, SmallFOV and their light variants), in `LAYERS`, layer by
layer. With C = 21 classes they have, for C (Basic, Scaling) and 3C (Product) input channels,

    LargeFOV-light  0.87 / 0.91 M      LargeFOV  2.35 / 2.39 M      field of view 34x34
    SmallFOV-light  0.49 / 0.53 M      SmallFOV  1.57 / 1.61 M      field of view 18x18

parameters, computed from the layers. The last two rows of that table print 2.4 M for SmallFOV and
0.91 M for SmallFOV-light with 3C channels; these are LargeFOV's and LargeFOV-light's numbers,
copied. The last layer's two channels, on which the paper has a softmax, are given as their
difference z1 - z0: the softmax's second output is the sigmoid of that.

**Stanford** (section 3.2; supplement, Figure 1, of which we had the caption alone). Named in the
text: a branch for the label map and one for the RGB image under local contrast normalisation, 64
channels each where they are joined, then convolutions and max poolings, a sigmoid at the end, two
poolings from label map to output. What the text leaves open is ours:
  * label map: 3x3 64. Image: 3x3 16, 3x3 64. Joined: pool, 3x3 128, pool, 3x3 256, 3x3 512,
    3x3 1; ReLU after all but the last. All widths are parameters. A position of its output sees
    34x34 of the label map.
  * the image is normalised at its own resolution, over the window and with the constant floor of
    the segmentor (models/farabet.py), then brought to the size of the label map with aligned
    corners: at a whole stride, such as 8, bilinear weights of 1 and 0, which is taking every 8th
    pixel as it is (nothing is averaged).

Ours for all five: SAME convolutions and poolings, so that maps of any size down to 1x1 are judged,
with ceil(h'/4) x ceil(w'/4) logits; and the initial values, which are not printed (see
`build_fov_discriminator`). There is no batch norm and no dropout: training and inference are one
function.
"""
import gin
import tensorflow as tf

from tf_advseg.core import arguments
from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.models import layers
from tf_advseg.models import local_contrast
from tf_advseg.models.resize import resize_bilinear

POOL = 'pool'
# (side of the kernel, filters) from the input on; the last has no ReLU.
LAYERS = {
    'large_fov': ((3, 96), (3, 128), (3, 128), POOL, (3, 256), (3, 256), POOL, (3, 512), (3, 2)),
    'large_fov_light': ((3, 96), (3, 128), (3, 128), POOL, (3, 128), (3, 128), POOL, (3, 256),
                        (3, 2)),
    'small_fov': ((3, 96), (1, 128), POOL, (3, 256), (1, 256), POOL, (3, 512), (1, 2)),
    'small_fov_light': ((3, 96), (1, 128), POOL, (3, 128), (1, 128), POOL, (3, 256), (1, 2)),
}
STANFORD = 'stanford'
NAMES = (*LAYERS, STANFORD)
OUTPUT_STRIDE = 4

# Variance of a kernel's values times the inputs that one output adds up.
INITS = {
    'he': 2.0,  # He et al. 2015: a ReLU network keeps the size of its signal
    'lecun': 1.0,
    'torch': None,  # no such variance: Torch7's own, which the authors may have had
}
# Standard deviation of a unit normal cut at two.
_CUT_DEVIATION = 0.87962566


def truncated_deviation(gain, inputs):
    """Standard deviation before the cut at two of them that leaves a variance of gain / inputs."""
    return (gain / inputs) ** 0.5 / _CUT_DEVIATION


class Stack(layers.Layer):
    """Convolutions with ReLU and 2x2 poolings, one after the other.

    Args:
      name: of the scope; with the seed it settles the initial values.
      channels: int, of the input.
      entries: sequence of (kernel side, filters) and POOL.
      seed: int.
      gain: variance of a kernel's values times the inputs that one output adds up; None for
        kernels and biases as Torch7 draws them, whatever the `share`.
      share: of the input's channels, how many are not 0 at a position (1 / classes for a map).
      last_gain: None for a ReLU after every convolution; else the last has none, and its initial
        values are multiplied by this.

    Attributes:
      channels: of what comes out.
    """

    def __init__(self, name, channels, entries, seed, gain, share=1.0, last_gain=None):
        super().__init__(name=name)
        self.steps = []
        last = max(index for index, entry in enumerate(entries) if entry != POOL)
        for index, entry in enumerate(entries):
            if entry == POOL:
                self.steps.append(POOL)
                continue
            side, filters = entry
            linear = last_gain is not None and index == last
            factor, inputs = last_gain if linear else 1.0, side * side * channels
            if gain is None:
                spread = {'limit': factor / inputs ** 0.5}
            else:
                spread = {'stddev': factor * truncated_deviation(gain, inputs * share)}
            self.steps.append(layers.Convolution(
                f'{name}/conv{index + 1}', channels, filters, side, seed=seed,
                activation=None if linear else 'relu', **spread))
            channels, share = filters, 1.0
        self.channels = channels
        self.built = True

    def call(self, x):
        """float32 [B, h, w, C] -> [B, ceil(h/2^p), ceil(w/2^p), channels] with p poolings."""
        for step in self.steps:
            x = tf.nn.max_pool2d(x, 2, 2, 'SAME') if step == POOL else step(x)
        return x


class FieldOfView(tf.keras.Model):
    """One of the four networks of the supplement's Table 1; made by `build_fov_discriminator`.

    Args:
      entries: of `LAYERS`.
      num_classes, channels, seed, last_gain: see `build_fov_discriminator`.
      gain: see `Stack`.
      name: str.

    Attributes:
      channels: of the maps it takes. num_classes: C.
      needs_image: False: `image` is not looked at.
      output_stride: 4, positions of the map to one of the output, along a side.
    """

    needs_image = False
    output_stride = OUTPUT_STRIDE

    def __init__(self, entries, num_classes, channels, seed, gain, last_gain, name):
        super().__init__(name=name)
        self.num_classes, self.channels = num_classes, channels
        self.stack = Stack(name, channels, entries, seed, gain, 1.0 / num_classes, last_gain)
        self.built = True

    def __call__(self, maps, image=None, training=False):
        """See `call`; before it, since Keras adds lines of its own to an error in there."""
        _require_maps(self, maps)
        return super().__call__(maps, image=image, training=training)

    def call(self, maps, image=None, training=False):
        """Judges every neighbourhood of the maps.

        Args:
          maps: float [B, h', w', channels].
          image, training: not used.

        Returns:
          float32 [B, ceil(h'/4), ceil(w'/4)]: z1 - z0, above 0 for "truth".

        Raises:
          UserError: maps of another number of channels.
        """
        del image, training
        z = tf.cast(self.stack(tf.cast(maps, tf.float32)), tf.float32)
        return z[..., 1] - z[..., 0]


class TwoBranches(tf.keras.Model):
    """The Stanford discriminator, which judges a label map beside its image; see
    `build_fov_discriminator`.

    Args:
      num_classes, seed, last_gain, label_widths, image_widths, joint_widths: see
        `build_fov_discriminator`.
      gain: see `Stack`.
      name: str.

    Attributes:
      channels, num_classes: C, of the maps it takes.
      needs_image: True.
      output_stride: 4, positions of the map to one of the output, along a side.
    """

    needs_image = True
    output_stride = OUTPUT_STRIDE

    def __init__(self, num_classes, seed, gain, last_gain, label_widths, image_widths,
                 joint_widths, name):
        super().__init__(name=name)
        self.num_classes = self.channels = num_classes
        self.label_branch = Stack(f'{name}/label', num_classes, _three_by_three(label_widths), seed,
                                  gain, 1.0 / num_classes)
        # Checkpoints find the variables by the attribute's name, so it stays what it was.
        self.picture_branch = Stack(f'{name}/image', 3, _three_by_three(image_widths), seed,
                                    gain)
        first, *others = _three_by_three(joint_widths)
        self.joint = Stack(f'{name}/joint', self.label_branch.channels
                           + self.picture_branch.channels, (POOL, first, POOL, *others, (3, 1)),
                           seed, gain, last_gain=last_gain)
        self.built = True

    def __call__(self, maps, image=None, training=False):
        """See `call`; before it, since Keras adds lines of its own to an error in there."""
        _require_maps(self, maps)
        if image is None:
            raise errors.UserError(f'discriminator {self.name} got no image, and it judges label '
                                   'maps beside their images: pass image=, [B, h, w, 3]')
        if len(image.shape) != 4 or image.shape[-1] not in (3, None):
            raise errors.UserError(f'discriminator {self.name} got an image {image.shape}: '
                                   'expected RGB [B, h, w, 3] in 0..255')
        return super().__call__(maps, image=image, training=training)

    def call(self, maps, image=None, training=False):
        """Judges every neighbourhood of the maps, given the image.

        Args:
          maps: float [B, h', w', C].
          image: [B, h, w, 3] RGB in 0..255, at the image's own resolution, not normalised.
          training: not used.

        Returns:
          float32 [B, ceil(h'/4), ceil(w'/4)], above 0 for "truth".

        Raises:
          UserError: maps of another number of channels; no image, or not an RGB one.
        """
        del training
        normalised = local_contrast.normalise(tf.cast(image, tf.float32),
                                              floor=local_contrast.MEAN_DEVIATION)
        normalised = resize_bilinear(normalised, tf.shape(maps)[1:3])
        joined = tf.concat([self.label_branch(tf.cast(maps, tf.float32)),
                            self.picture_branch(normalised)], -1)
        return tf.cast(tf.squeeze(self.joint(joined), -1), tf.float32)


@gin.configurable(denylist=['num_classes', 'channels', 'seed'])
def build_fov_discriminator(name='large_fov', num_classes=None, channels=None, seed=0, init='he',
                            last_gain=0.1, label_widths=(64,), image_widths=(16, 64),
                            joint_widths=(128, 256, 512)):
    """Builds a discriminator of Luc et al.; its variables exist on return.

    Initial values (not printed in the paper): 'he' and 'lecun' are truncated normal kernels of
    variance 2 / n (He et al.) and 1 / n, n the inputs that one output adds up, and biases of 0. In
    the first layer on a label map n counts one class of the C, since the others are 0 (or share
    what is left to 1): so maps of many classes are heard as loudly as images. The last kernel is
    a tenth of that: an untrained discriminator has no opinion and its gradient into the segmentor
    begins small. 'torch' is the default of Torch7's SpatialConvolution: kernels and biases uniform
    between -1 / sqrt(n) and 1 / sqrt(n) (variance 1/3 over n), n all inputs in every layer; with
    last_gain 1 it is the original. Equal seeds give equal weights, on any strategy and in any order
    of building.

    Which learning rate works depends on `init` (tried on toy maps of 21 classes, losses averaged,
    150 steps; 'torch' with last_gain 1 and small_fov_light): under 1e-3, the paper's for Stanford,
    'he' learns, with momentum 0.9 within tens of steps, and 'torch' stands still; under 0.1, of the
    paper's range for VOC, 'he' diverges or goes dead and 'torch' begins to learn. With momentum
    0.9, or under 0.5, 'torch' set out sooner and fell back to no opinion.

    Args:
      name: 'large_fov', 'large_fov_light', 'small_fov', 'small_fov_light' or 'stanford'.
      num_classes: C.
      channels: of the maps: C, or 3C for the encoding 'product'; None is C. 'stanford' takes C.
      seed: int, the run's.
      init: 'he', 'lecun' or 'torch', see above.
      last_gain: factor on the last layer's initial values; 1 treats it as the others.
      label_widths, image_widths: of 'stanford': filters of each branch's 3x3 convolutions.
      joint_widths: of 'stanford': filters of the 3x3 convolutions after the branches are joined, at
        least two; a pooling stands before the first and before the second.

    Returns:
      `FieldOfView` or `TwoBranches`: discriminator(maps, image=None, training=False) -> logits
      float32 [B, ceil(h'/4), ceil(w'/4)]. Build it inside a strategy's scope to use it on replicas.

    Raises:
      UserError: an unknown name, or a value out of range.
    """
    errors.require_one_of('discriminator', name, NAMES)
    errors.require_one_of('build_fov_discriminator.init', init, INITS)
    arguments.require_classes(f'discriminator {name}', num_classes)
    arguments.require_number('build_fov_discriminator', 'last_gain', last_gain, above=0)
    channels = num_classes if channels is None else channels
    if name != STANFORD:
        arguments.require(f'discriminator {name}', channels in (num_classes, 3 * num_classes),
                          'channels', channels, f'{num_classes} (one for each class) or '
                          f'{3 * num_classes} (encoding "product")')
        return FieldOfView(LAYERS[name], num_classes, channels, seed, INITS[init], last_gain, name)
    arguments.require(f'discriminator {name}', channels == num_classes, 'channels', channels,
                      f'{num_classes}: it sees the image in a branch of its own, so choose the '
                      'encoding "basic" or "scaling"')
    widths = {'label_widths': (label_widths, 1), 'image_widths': (image_widths, 1),
              'joint_widths': (joint_widths, 2)}
    for argument, (value, least) in widths.items():
        arguments.require(f'discriminator {name}', isinstance(value, (list, tuple))
                          and len(value) >= least and all(map(arguments.is_count, value)),
                          argument, value, f'at least {least} integer{"s" * (least > 1)} above 0')
    return TwoBranches(num_classes, seed, INITS[init], last_gain, label_widths, image_widths,
                       joint_widths, name)


configuration.renamed(
    build_fov_discriminator__picture_widths='build_fov_discriminator.image_widths')


def _three_by_three(widths):
    return [(3, width) for width in widths]


def _require_maps(model, maps):
    """Raises UserError unless `maps` is [B, h', w', model.channels], as far as is known."""
    if len(maps.shape) != 4 or maps.shape[-1] not in (model.channels, None):
        raise errors.UserError(
            f'discriminator {model.name} got maps {tuple(maps.shape)}: expected [B, h, w, '
            f'{model.channels}]; build it with the channels of the encoding in use')
