"""DeepLabv3 and DeepLabv3+ (Chen et al., arXiv:1706.05587 and ECCV 2018), as the official code.

Head: [image pooling, 1x1, atrous separable convolutions] -> concat projection -> dropout
-> optional decoder at stride 4 -> 1x1 logits. The zoo's MobileNetV2 models use image pooling and
the 1x1 branch only.
"""
import numbers

import gin
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.models import layers, mobilenet_v2
from tf_advseg.models.resize import resize_bilinear, scale_dimension

HEAD_NORM = layers.Norm(epsilon=1e-5, momentum=0.9997)
HEAD_CHANNELS = 256
SKIP_PROJECTION_CHANNELS = 48
DECODER_STRIDE = 4


class SeparableConvolution(tf.keras.layers.Layer):
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


class Decoder(tf.keras.layers.Layer):
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
        x = tf.concat([resize_bilinear(x, _size(projected)), projected], -1)
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

    Attributes:
      num_classes, output_stride, logits_stride, crop_size (pair or None).
      fine_tune_batch_norm, and dropout.rate: Python values read when a function is traced; set
        them before, or between traces.
    """

    def __init__(self, backbone, num_classes, atrous_rates=(), decoder=False, image_pooling=True,
                 crop_size=None, dropout_rate=0.1, fine_tune_batch_norm=False,
                 batch_norm_momentum=None, seed=0, name='deeplab'):
        super().__init__(name=name)
        norm = HEAD_NORM if batch_norm_momentum is None else HEAD_NORM._replace(
            momentum=batch_norm_momentum)
        shared = dict(norm=norm, activation='relu', seed=seed)
        self.num_classes = int(num_classes)
        self.output_stride = backbone.output_stride
        self.logits_stride = DECODER_STRIDE if decoder else backbone.output_stride
        self.crop_size = crop_size if crop_size is None else tuple(crop_size)
        self.fine_tune_batch_norm = bool(fine_tune_batch_norm)
        self.normalisation = layers.SymmetricNormalisation(name='normalisation')
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
        """Nothing to do: the variables exist from the start, for any picture size."""
        self.built = True

    def call(self, image, training=False, dropout_seed=None):
        """Logits of a batch of pictures.

        Args:
          image: [B, h, w, 3] RGB in 0..255, float32 or uint8, of any size.
          training: Python bool: dropout, and batch statistics where `fine_tune_batch_norm`.
          dropout_seed: int32[2]; needed in training unless the dropout rate is 0.

        Returns:
          float32 [B, (h-1)//s+1, (w-1)//s+1, num_classes], s = logits_stride.
        """
        training = bool(training)
        mode = layers.INFERENCE
        if training:
            mode = layers.LIVE if self.fine_tune_batch_norm else layers.FROZEN
        maps = self.backbone(self.normalisation(image), mode=mode)
        features = maps['features']
        parts = [branch(features, mode=mode) for branch in self.branches]
        if self.image_pooling is not None:
            pooled = self.image_pooling(self._pooled(features), mode=mode)
            parts.insert(0, resize_bilinear(pooled, _size(features)))
        x = self.concat_projection(tf.concat(parts, -1), mode=mode)
        x = self.dropout(x, training=training, seed=dropout_seed)
        if self.decoder is not None:
            x = self.decoder(x, maps['skip'], mode=mode)
        return tf.cast(self.logits(x), tf.float32)

    def _pooled(self, features):
        """Average over the window that the crop size gives, VALID, at every place it fits.

        Without a crop size, or where the map is smaller than the window, it is the mean over the
        whole map: [B, 1, 1, C]. So a picture of the crop's size has one mean, a larger one a
        smooth field of local means, as in the official code.
        """
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
    _check(_is_count(num_classes), 'num_classes', num_classes, 'an integer of at least 1')
    _check(output_stride in mobilenet_v2.OUTPUT_STRIDES, 'output_stride', output_stride,
           'one of ' + ', '.join(map(str, mobilenet_v2.OUTPUT_STRIDES)))
    _check(depth_multiplier > 0, 'depth_multiplier', depth_multiplier, 'a number above 0')
    _check(all(map(_is_count, atrous_rates)), 'atrous_rates', atrous_rates,
           'integers of at least 1, such as (6, 12, 18)')
    _check(0.0 <= dropout_rate < 1.0, 'dropout_rate', dropout_rate, '0 <= rate < 1')
    if isinstance(crop_size, numbers.Integral):
        crop_size = (crop_size, crop_size)
    _check(crop_size is None or len(crop_size) == 2, 'crop_size', crop_size,
           'a number of pixels, (height, width) or None')
    backbone = mobilenet_v2.MobileNetV2(output_stride, depth_multiplier, batch_norm_momentum, seed)
    return DeepLab(backbone, num_classes, atrous_rates, decoder, image_pooling, crop_size,
                   dropout_rate, fine_tune_batch_norm, batch_norm_momentum, seed,
                   name='deeplab_mobilenet_v2')


def _is_count(value):
    return isinstance(value, numbers.Integral) and value >= 1


def _check(good, argument, value, expected):
    if not good:
        raise UserError(f'deeplab_mobilenet_v2: {argument} is {value!r}, expected {expected}')
