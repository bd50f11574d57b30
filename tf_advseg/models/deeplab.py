"""DeepLabv3 and DeepLabv3+ (Chen et al., arXiv:1706.05587 and ECCV 2018), as the official code.

Head: [image pooling, 1x1, atrous separable convolutions] -> concat projection -> dropout
-> optional decoder at stride 4 -> 1x1 logits. The zoo's MobileNetV2 models use image pooling and
the 1x1 branch only, its Xception models everything.
"""
import gin
import tensorflow as tf

from tf_advseg.core import arguments
from tf_advseg.core.errors import require_one_of
from tf_advseg.models import layers, mobilenet_v2, precision, resnet, xception
from tf_advseg.models.resize import resize_bilinear, scale_dimension

HEAD_NORM = layers.Norm(epsilon=1e-5, momentum=0.9997)
HEAD_CHANNELS = 256
SKIP_PROJECTION_CHANNELS = 48
DECODER_STRIDE = 4
OUTPUT_STRIDES = (8, 16, 32)
BLOCK_UNITS = 3  # of the last block of Xception (its convolutions) and of slim's ResNets
RESNETS = ('resnet_v1_50', 'resnet_v1_50_beta', 'resnet_v1_101', 'resnet_v1_101_beta')


class SeparableConvolution(layers.Layer):
    """Depthwise 3x3 and pointwise 1x1, batch norm and ReLU after both (ASPP and decoder)."""

    def __init__(self, scope, in_channels, filters, rate, norm, seed):
        super().__init__(name=scope.replace('/', '_'))
        shared = dict(norm=norm, activation='relu', seed=seed)
        self.depthwise = layers.Convolution(f'{scope}_depthwise', in_channels, None, 3, rate=rate,
                                            stddev=0.33, **shared)
        self.pointwise = layers.Convolution(f'{scope}_pointwise', in_channels, filters,
                                            stddev=0.06, **shared)

    def call(self, x, mode=layers.INFERENCE):
        """[B, h, w, in_channels] -> [B, h, w, filters]."""
        return self.pointwise(self.depthwise(x, mode=mode), mode=mode)


class Decoder(layers.Layer):
    """DeepLabv3+ decoder: [upsampled head, 48 channels of the skip] -> two separable 3x3."""

    def __init__(self, skip_channels, norm, seed):
        super().__init__(name='decoder')
        self.projection = layers.Convolution(
            'decoder/feature_projection0', skip_channels, SKIP_PROJECTION_CHANNELS, norm=norm,
            activation='relu', seed=seed)
        self.convolutions = [
            SeparableConvolution(f'decoder/decoder_conv{i}', channels, HEAD_CHANNELS, 1, norm, seed)
            for i, channels in enumerate((HEAD_CHANNELS + SKIP_PROJECTION_CHANNELS, HEAD_CHANNELS))]

    def call(self, x, skip, mode=layers.INFERENCE):
        """x at the output stride, skip at stride 4 -> [B, h/4, w/4, 256]."""
        projected = self.projection(skip, mode=mode)
        x = tf.cast(resize_bilinear(x, _size(projected)), projected.dtype)
        x = tf.concat([x, projected], -1)
        for convolution in self.convolutions:
            x = convolution(x, mode=mode)
        return x


class DeepLab(tf.keras.Model):
    """DeepLab on any backbone that returns {'features', 'skip'}.

    Args:
      backbone: a layer with `output_stride`, `channels`, `skip_channels`.
      num_classes: int.
      atrous_rates: rates of the ASPP branches beside 1x1 and image pooling; () for none.
      decoder: bool, the DeepLabv3+ decoder at stride 4.
      image_pooling: bool, the image-level branch.
      crop_size: int, (height, width) or None: fixes the window of image pooling (see `_pooled`).
      dropout_rate: after the concat projection, in training.
      fine_tune_batch_norm: whether training uses and updates batch statistics.
      batch_norm_momentum: of the head; None is the official 0.9997.
      seed: int, for the initial values.
      normalisation: layer from RGB 0..255 to what the backbone takes; None is x * 2 / 255 - 1.

    Attributes:
      num_classes, output_stride, logits_stride, crop_size (pair or None).
      fine_tune_batch_norm, and dropout.rate: Python values read when a function is traced; set
        them before, or between traces.
    """

    def __init__(self, backbone, num_classes, atrous_rates=(), decoder=False, image_pooling=True,
                 crop_size=None, dropout_rate=0.1, fine_tune_batch_norm=False,
                 batch_norm_momentum=None, seed=0, name='deeplab', normalisation=None):
        super().__init__(name=name)
        norm = HEAD_NORM if batch_norm_momentum is None else HEAD_NORM._replace(
            momentum=batch_norm_momentum)
        shared = dict(norm=norm, activation='relu', seed=seed)
        self.num_classes = int(num_classes)
        self.output_stride = backbone.output_stride
        self.logits_stride = DECODER_STRIDE if decoder else backbone.output_stride
        self.crop_size = crop_size if crop_size is None else tuple(crop_size)
        self.fine_tune_batch_norm = bool(fine_tune_batch_norm)
        self.normalisation = normalisation or layers.SymmetricNormalisation(name='normalisation')
        self.backbone = backbone
        channels = backbone.channels
        self.image_pooling = layers.Convolution(
            'image_pooling', channels, HEAD_CHANNELS, **shared) if image_pooling else None
        self.branches = [layers.Convolution('aspp0', channels, HEAD_CHANNELS, **shared)]
        self.branches += [
            SeparableConvolution(f'aspp{i}', channels, HEAD_CHANNELS, rate, norm, seed)
            for i, rate in enumerate(atrous_rates, start=1)]
        width = HEAD_CHANNELS * (len(self.branches) + bool(image_pooling))
        self.concat_projection = layers.Convolution('concat_projection', width, HEAD_CHANNELS,
                                                    **shared)
        self.dropout = layers.StatelessDropout(dropout_rate, name='dropout')
        self.decoder = Decoder(backbone.skip_channels, norm, seed) if decoder else None
        self.logits = layers.Convolution('logits/semantic', HEAD_CHANNELS, self.num_classes,
                                         stddev=0.01, seed=seed)
        self.built = True

    def build(self, input_shape=None):
        """Nothing to do: the variables exist from the start, for any image size."""
        self.built = True

    def call(self, image, training=False, dropout_seed=None):
        """Logits of a batch of images.

        Args:
          image: [B, h, w, 3] RGB in 0..255, float32 or uint8, of any size.
          training: Python bool: dropout, and batch statistics where `fine_tune_batch_norm`.
          dropout_seed: int32[2]; needed in training unless the dropout rate is 0.

        Returns:
          float32 [B, (h-1)//s+1, (w-1)//s+1, num_classes], s = logits_stride.
        """
        maps = self.backbone(self.normalisation(image), mode=self._mode(training))
        return self.head(maps, training, dropout_seed)

    def head(self, maps, training=False, dropout_seed=None):
        """The logits of what the backbone has made of a batch of images.

        Args:
          maps: dict with 'features' float [B, h', w', channels] and, for the decoder, 'skip'.
          training, dropout_seed: see `call`.

        Returns:
          As `call`.
        """
        training, mode = bool(training), self._mode(training)
        features = maps['features']
        parts = [branch(features, mode=mode) for branch in self.branches]
        if self.image_pooling is not None:
            pooled = self.image_pooling(self._pooled(features), mode=mode)
            pooled = resize_bilinear(pooled, _size(features))
            parts.insert(0, tf.cast(pooled, parts[0].dtype))
        x = self.concat_projection(tf.concat(parts, -1), mode=mode)
        x = self.dropout(x, training=training, seed=dropout_seed)
        if self.decoder is not None:
            x = self.decoder(x, maps['skip'], mode=mode)
        return tf.cast(self.logits(x), tf.float32)

    def _mode(self, training):
        """How batch norms run."""
        if not training:
            return layers.INFERENCE
        return layers.LIVE if self.fine_tune_batch_norm else layers.FROZEN

    def _pooled(self, features):
        """Average over the window that the crop size gives, VALID, at every place it fits.

        Without a crop size, or where the map is smaller than the window, it is the mean over the
        whole map: [B, 1, 1, C]. So an image of the crop's size has one mean, a larger one a
        smooth field of local means, as in the official code. Means are float32.
        """
        features = precision.raised(features)

        def mean():
            return tf.reduce_mean(features, [1, 2], keepdims=True)

        if self.crop_size is None:
            return mean()
        window = [scale_dimension(side, 1.0 / self.output_stride) for side in self.crop_size]
        size = _size(features)
        if not tf.is_tensor(size):
            if size == window or size[0] < window[0] or size[1] < window[1]:
                return mean()
            return tf.nn.avg_pool2d(features, window, 1, 'VALID')
        return tf.cond(tf.reduce_all(size >= window),
                       lambda: tf.nn.avg_pool2d(features, window, 1, 'VALID'), mean)


def _size(x):
    """[height, width] of a map as Python ints where they are known, else an int32 tensor."""
    static = x.shape[1:3].as_list()
    return tf.shape(x)[1:3] if None in static else static


@gin.configurable
def deeplab_mobilenet_v2(num_classes, output_stride=16, depth_multiplier=1.0, atrous_rates=(),
                         decoder=False, crop_size=None, dropout_rate=0.1, seed=0,
                         image_pooling=True, fine_tune_batch_norm=False, batch_norm_momentum=None):
    """DeepLabv3(+) on MobileNetV2; the defaults are the zoo's mobilenetv2_coco_voc_* networks.

    Args:
      num_classes: int, at least 1.
      output_stride: 8, 16 or 32.
      depth_multiplier: float above 0.
      batch_norm_momentum: for all batch norms; None is the official 0.997 (backbone) and 0.9997
        (head), far too slow for a short training from scratch (0.9 to 0.99 there).
      atrous_rates, decoder, crop_size, dropout_rate, seed, image_pooling, fine_tune_batch_norm:
        see `DeepLab`.

    Returns:
      A `DeepLab` whose variables exist.

    Raises:
      UserError: an argument is out of range.
    """
    name = 'deeplab_mobilenet_v2'
    arguments.require(name, depth_multiplier > 0, 'depth_multiplier', depth_multiplier,
                      'a number above 0')
    crop_size = _checked(name, num_classes, output_stride, atrous_rates, dropout_rate, crop_size)
    backbone = mobilenet_v2.MobileNetV2(output_stride, depth_multiplier, batch_norm_momentum, seed)
    return DeepLab(backbone, num_classes, atrous_rates, decoder, image_pooling, crop_size,
                   dropout_rate, fine_tune_batch_norm, batch_norm_momentum, seed, name=name)


@gin.configurable
def deeplab_xception(num_classes, variant='xception_65', output_stride=16,
                     atrous_rates=(6, 12, 18), decoder=True, crop_size=None, dropout_rate=0.1,
                     seed=0, image_pooling=True, fine_tune_batch_norm=False,
                     batch_norm_momentum=None, multi_grid=(1, 1, 1)):
    """DeepLabv3+ on Xception; the defaults are the zoo's xception65_* networks.

    The official rates are (6, 12, 18) at output stride 16 and (12, 24, 36) at 8.

    Args:
      num_classes: int, at least 1.
      variant: 'xception_41', 'xception_65' or 'xception_71'.
      output_stride: 8, 16 or 32.
      multi_grid: three factors of the rates in the backbone's last block; None is all ones.
      batch_norm_momentum: for all batch norms; None is the official 0.9997.
      atrous_rates, decoder, crop_size, dropout_rate, seed, image_pooling, fine_tune_batch_norm:
        see `DeepLab`.

    Returns:
      A `DeepLab` whose variables exist.

    Raises:
      UserError: an argument is out of range, or an unknown variant.
    """
    name = 'deeplab_xception'
    require_one_of(f'{name}.variant', variant, xception.VARIANTS)
    crop_size = _checked(name, num_classes, output_stride, atrous_rates, dropout_rate, crop_size)
    multi_grid = arguments.as_grid(name, multi_grid, BLOCK_UNITS)
    backbone = xception.Xception(variant, output_stride, multi_grid, batch_norm_momentum, seed)
    return DeepLab(backbone, num_classes, atrous_rates, decoder, image_pooling, crop_size,
                   dropout_rate, fine_tune_batch_norm, batch_norm_momentum, seed, name=name)


@gin.configurable
def deeplab_resnet(num_classes, variant='resnet_v1_101_beta', output_stride=16,
                   atrous_rates=(6, 12, 18), decoder=True, crop_size=None, dropout_rate=0.1,
                   seed=0, image_pooling=True, fine_tune_batch_norm=False,
                   batch_norm_momentum=None, multi_grid=(1, 2, 4)):
    """DeepLabv3(+) on ResNet-v1, as the official code.

    The multi-grid (1, 2, 4) is DeepLabv3's (section 4.2), by a flag of the official code, which has
    (1, 1, 1) without it.

    The beta variants (three 3x3 convolutions for the 7x7 one) take x * 2 / 255 - 1, the plain
    ones the image minus the mean colour of ImageNet.

    Args:
      num_classes: int, at least 1.
      variant: 'resnet_v1_50_beta', 'resnet_v1_101_beta', 'resnet_v1_50' or 'resnet_v1_101'.
      output_stride: 8, 16 or 32.
      multi_grid: three factors of the rates in the backbone's last block; None is all ones.
      batch_norm_momentum: for all batch norms; None is the official 0.95 (backbone) and 0.9997.
      atrous_rates, decoder, crop_size, dropout_rate, seed, image_pooling, fine_tune_batch_norm:
        see `DeepLab`.

    Returns:
      A `DeepLab` whose variables exist.

    Raises:
      UserError: an argument is out of range, or an unknown variant.
    """
    name = 'deeplab_resnet'
    require_one_of(f'{name}.variant', variant, RESNETS)
    crop_size = _checked(name, num_classes, output_stride, atrous_rates, dropout_rate, crop_size)
    multi_grid = arguments.as_grid(name, multi_grid, BLOCK_UNITS)
    backbone = resnet.ResNet(variant, output_stride, multi_grid, batch_norm_momentum, seed)
    normalisation = None if variant.endswith('_beta') else layers.MeanSubtraction(
        layers.IMAGENET_MEAN, name='normalisation')
    return DeepLab(backbone, num_classes, atrous_rates, decoder, image_pooling, crop_size,
                   dropout_rate, fine_tune_batch_norm, batch_norm_momentum, seed, name=name,
                   normalisation=normalisation)


def _checked(name, num_classes, output_stride, atrous_rates, dropout_rate, crop_size):
    """Raises UserError for an argument out of range; returns crop_size as a pair or None."""
    arguments.require_classes(name, num_classes)
    arguments.require(name, output_stride in OUTPUT_STRIDES, 'output_stride', output_stride,
                      'one of ' + ', '.join(map(str, OUTPUT_STRIDES)))
    arguments.require_rates(name, atrous_rates)
    arguments.require_dropout(name, dropout_rate)
    return arguments.as_pair(name, crop_size)
