"""The multi-scale network of Farabet et al. (TPAMI 2013), as Luc et al. use it on Stanford.

Luc et al. (2016), section 3.2, cite it, train it patch-wise from scratch, and feed it RGB images
under local contrast normalisation (their supplement); Farabet et al. take YUV.

Of Farabet et al. we had no text: what is attributed to them here is written from memory of it and
from others' summaries, and may err in details. A Laplacian pyramid of three scales, each locally
normalised over 15x15; one network with the same weights at every scale, of 7x7 filters, 16, tanh,
2x2 max pooling, 64, tanh, 2x2 max pooling, 256 (a field of view of 46x46 pixels, so of 184x184 at
the coarsest scale); the coarser scales' maps enlarged to the finest and joined; a classifier of
each pixel with 1024 hidden units. A filter of the second layer sees 8 of the 16 maps, one of the
third 32 of the 64, drawn at random; with YUV, 10 of the first 16 see Y and 6 see U and V.

Ours entirely is `input_stride` 2, for machines without a GPU: the network first halves the image
(as the pyramid halves it) and is then the same network, with the same weights, on a quarter of the
pixels, with maps and logits at stride 8 of the image that was given.

Chosen here: SAME padding; pooling in steps of two, so maps are at stride 4 of the finest scale and
logits are too; tanh in the hidden layer; align-corners enlargement; the pyramid's 5-tap filter
(Burt & Adelson 1983); normal initial values of variance 1 / (inputs that are connected), cut at
two deviations; the draw of the connections, which no seed changes; a constant floor of the local
deviation (`contrast_floor`), so that logits do not depend on how much padding there is.
"""
import gin
import numpy as np
import tensorflow as tf

from tf_advseg.core import arguments
from tf_advseg.core import errors
from tf_advseg.models import layers, local_contrast
from tf_advseg.models.resize import resize_bilinear

SCALES = 3
FILTER = 7
# (channels, maps of the layer before that each filter sees).
STAGES = ((16, None), (64, 8), (256, 32))
LUMINANCE_FILTERS = 10
COLOURS = ('rgb', 'yuv')
LOGITS_STRIDE = 4  # of the image that the first convolution sees
INPUT_STRIDES = (1, 2)
PYRAMID_KERNEL = np.float32([1, 4, 6, 4, 1]) / 16


class SparseConvolution(layers.Convolution):
    """A 7x7 convolution with bias where each filter sees some of the input maps only.

    Args:
      scope: str.
      connected: bool [in_channels, filters], every filter connected to something.
      seed: int.
    """

    def __init__(self, scope, connected, seed):
        inputs = connected.sum(0).mean() * FILTER ** 2
        super().__init__(scope, *connected.shape, kernel_size=FILTER,
                         stddev=float(inputs) ** -0.5, seed=seed)
        self.connected = connected.astype(np.float32)

    def _convolve(self, x, kernel, trained=True):
        return super()._convolve(x, kernel * tf.cast(self.connected, kernel.dtype), trained)


class ScaleInvariantFeatures(layers.Layer):
    """Halving if asked for, pyramid, normalisation, and the network that every scale shares.

    Args:
      colour: 'rgb' (Luc et al.) or 'yuv' (Farabet et al.).
      sparse: bool, whether filters see some of the maps only (see the module).
      seed: int.
      contrast_floor: see `local_contrast.normalise`.
      input_stride: 1, or 2 to halve the image before anything else (see the module).

    Attributes:
      channels: 768, of what comes out.
      output_stride: 4 or 8, of what comes out in pixels of the image given.
    """

    def __init__(self, colour='rgb', sparse=True, seed=0,
                 contrast_floor=local_contrast.MEAN_DEVIATION, input_stride=1):
        super().__init__(name='features')
        self.colour, self.contrast_floor = colour, contrast_floor
        self.input_stride = int(input_stride)
        self.output_stride = LOGITS_STRIDE * self.input_stride
        self.stages = []
        in_channels = 3
        for index, (filters, seen) in enumerate(STAGES, start=1):
            connected = np.ones((in_channels, filters), bool)
            if sparse and seen:
                connected = _drawn(f'features/conv{index}', in_channels, filters, seen)
            elif sparse and colour == 'yuv':
                luminance = np.arange(filters) < LUMINANCE_FILTERS
                connected = np.stack([luminance, ~luminance, ~luminance])
            self.stages.append(SparseConvolution(f'features/conv{index}', connected, seed))
            in_channels = filters
        self.channels = in_channels * SCALES
        self.built = True

    def call(self, image):
        """RGB [B, h, w, 3] in 0..255 -> float32 [B, (h-1)//s+1, (w-1)//s+1, channels].

        s is `output_stride`; ((h-1)//2)//4 is (h-1)//8, so the contract holds for any size.
        """
        x = tf.cast(image, tf.float32)
        if self.input_stride == 2:
            x = halved(x)
        if self.colour == 'yuv':
            x = tf.image.rgb_to_yuv(x)
        maps = [self.features(local_contrast.normalise(level, floor=self.contrast_floor))
                for level in pyramid(x, SCALES)]
        size = _size(maps[0])
        return tf.concat([maps[0]] + [tf.cast(resize_bilinear(coarse, size), maps[0].dtype)
                                      for coarse in maps[1:]], -1)

    def features(self, x):
        """One scale: [B, h, w, 3] -> [B, (h-1)//4+1, (w-1)//4+1, 256]; the last is linear."""
        for stage in self.stages[:-1]:
            x = tf.nn.max_pool2d(tf.tanh(stage(x)), 2, 2, 'SAME')
        return self.stages[-1](x)


class Classifier(layers.Layer):
    """Class scores of each pixel by itself, over a layer `hidden` wide, or linear where it is 0."""

    def __init__(self, in_channels, num_classes, hidden, seed):
        super().__init__(name='classifier')
        self.hidden = None
        if hidden:
            self.hidden = layers.Convolution('classifier/hidden', in_channels, hidden,
                                             stddev=in_channels ** -0.5, seed=seed)
            in_channels = hidden
        self.scores = layers.Convolution('classifier/logits', in_channels, num_classes,
                                         stddev=in_channels ** -0.5, seed=seed)

    def call(self, x):
        """[B, h, w, in_channels] -> [B, h, w, num_classes]."""
        return self.scores(x if self.hidden is None else tf.tanh(self.hidden(x)))


class Farabet(tf.keras.Model):
    """The segmentor; the parts are `backbone` and `logits` (`Classifier`), whole images in.

    Args:
      backbone: `ScaleInvariantFeatures`.
      num_classes, hidden, seed: see `Classifier`.
      crop_size: pair or None; kept for who predicts (it changes nothing in the network).
    """

    def __init__(self, backbone, num_classes, hidden=1024, crop_size=None, seed=0, name='farabet'):
        super().__init__(name=name)
        self.num_classes = int(num_classes)
        self.output_stride = self.logits_stride = backbone.output_stride
        self.crop_size = crop_size
        self.fine_tune_batch_norm = False  # there is none
        self.backbone = backbone
        self.logits = Classifier(backbone.channels, self.num_classes, hidden, seed)
        self.built = True

    def build(self, input_shape=None):
        """Nothing to do: the variables exist from the start, for any image size."""
        self.built = True

    def call(self, image, training=False, dropout_seed=None):
        """Logits of a batch of images.

        Args:
          image: [B, h, w, 3] RGB in 0..255, float32 or uint8, of any size.
          training, dropout_seed: not used; there is neither batch norm nor dropout.

        Returns:
          float32 [B, (h-1)//s+1, (w-1)//s+1, num_classes], s = `logits_stride`.
        """
        del training, dropout_seed
        return tf.cast(self.logits(self.backbone(image)), tf.float32)


def halved(x):
    """Blurs x and takes every second pixel, from the corner on (so corners stay aligned).

    Args:
      x: float32 [B, h, w, C].

    Returns:
      float32 [B, (h-1)//2+1, (w-1)//2+1, C].
    """
    return local_contrast.blurred(x, PYRAMID_KERNEL)[:, ::2, ::2]


def pyramid(x, scales):
    """Laplacian pyramid: what each halving loses, and the last, coarsest image.

    Args:
      x: float32 [B, h, w, C].
      scales: int, number of levels.

    Returns:
      list of float32 [B, (h-1)//2**i+1, (w-1)//2**i+1, C], i = 0, 1, ...
    """
    levels = []
    for _ in range(scales - 1):
        coarse = halved(x)
        levels.append(x - resize_bilinear(coarse, _size(x)))
        x = coarse
    return levels + [x]


@gin.configurable
def farabet(num_classes, colour='rgb', hidden=1024, sparse=True, crop_size=None, seed=0,
            contrast_floor=local_contrast.MEAN_DEVIATION, input_stride=1):
    """The multi-scale network of Farabet et al.; the defaults are Luc et al.'s on Stanford.

    Args:
      num_classes: int, at least 1.
      colour: 'rgb', as Luc et al. have it, or 'yuv', as Farabet et al.
      hidden: int, width of the classifier's hidden layer; 0 for a linear classifier.
      sparse: bool; False connects every filter to every map.
      crop_size: int, (height, width) or None; see `Farabet`.
      seed: int, for the initial values.
      contrast_floor: grey levels; a smaller local deviation is not divided by. None is the mean of
        each image's own deviations (Jarrett et al.), padding included.
      input_stride: 1, as published, with logits at stride 4; 2: the network halves the image
        first, with logits at stride 8 and a quarter of the arithmetic. The weights are of the same
        shapes, and contrast is normalised after the halving, over 15x15 pixels of what is left.

    Returns:
      A `Farabet` whose variables exist.

    Raises:
      UserError: an argument is out of range.
    """
    name = 'farabet'
    arguments.require_classes(name, num_classes)
    errors.require_one_of(f'{name}.colour', colour, COLOURS)
    arguments.require(name, hidden == 0 or arguments.is_count(hidden), 'hidden', hidden,
                      'an integer of at least 0')
    arguments.require(name, contrast_floor is None or contrast_floor > 0, 'contrast_floor',
                      contrast_floor, 'a number above 0, or None')
    arguments.require(name, input_stride in INPUT_STRIDES, 'input_stride', input_stride, '1 or 2')
    backbone = ScaleInvariantFeatures(colour, bool(sparse), seed, contrast_floor, input_stride)
    return Farabet(backbone, num_classes, hidden, arguments.as_pair(name, crop_size), seed,
                   name=name)


def _drawn(scope, in_channels, filters, seen):
    """bool [in_channels, filters], `seen` of each column, the same in every process."""
    random = np.random.Generator(np.random.PCG64(layers.derived_seed(0, f'{scope}/connections')))
    # Raw doubles are part of PCG64's definition; numpy's own shuffles may change between versions.
    order = random.random((in_channels, filters)).argsort(0, kind='stable')
    return order.argsort(0, kind='stable') < seen


def _size(x):
    """[height, width] of a map as Python ints where they are known, else an int32 tensor."""
    static = x.shape[1:3].as_list()
    return tf.shape(x)[1:3] if None in static else static
