"""Dilated-8 (Yu & Koltun, ICLR 2016): VGG-16 front end and context module; Luc et al.'s on VOC.

Luc et al. (2016), section 3.2, fine-tune the network that Yu & Koltun published for VOC. Its
context module is their "large" one (42, 42, 84, 168, 336, 672, 672, 21 channels), hence the
default, and is zero-padded by 33 once, before its first layer. The scopes are that network's.
Its padding of the image differs: see `vgg`.
"""
import gin
import numpy as np
import tensorflow as tf

from tf_advseg.core import arguments
from tf_advseg.core import errors
from tf_advseg.models import layers, vgg

SCORES_STDDEV = 0.001  # of the front end's class scores (the published training code)
# Table 1 of the paper: (scope, kernel, dilation, channels as multiples of the classes in the basic
# and in the large module).
CONTEXT = (('ct_conv1_1', 3, 1, 1, 2), ('ct_conv1_2', 3, 1, 1, 2), ('ct_conv2_1', 3, 2, 1, 4),
           ('ct_conv3_1', 3, 4, 1, 8), ('ct_conv4_1', 3, 8, 1, 16), ('ct_conv5_1', 3, 16, 1, 32),
           ('ct_fc1', 3, 1, 1, 32), ('ct_final', 1, 1, 1, 1))
CONTEXT_MARGIN = sum(rate * (size // 2) for _, size, rate, _, _ in CONTEXT)
CONTEXTS = ('none', 'basic', 'large')
# The paper's sigma is only "much smaller" than the weights it stands beside: chosen here.
RELATIVE_NOISE = 0.01


class IdentityInitializer(tf.keras.initializers.Initializer):
    """Equations 4 and 5 of the paper: a layer that passes on the class scores it gets.

    Of c channels in and d out, input a and output b belong to the classes floor(a C / c) and
    floor(b C / d). The centre of the kernel is C / d where these agree; all else is a little
    normal noise, or 0 where c = d = C (the basic module).

    Args:
      num_classes: C.
      seed: int, of the noise.
    """

    def __init__(self, num_classes, seed):
        self.num_classes = num_classes
        self.seed = seed

    def __call__(self, shape, dtype=tf.float32, **kwargs):
        height, width, inputs, outputs = [int(side) for side in shape]
        classes = self.num_classes
        weight = classes / outputs
        kernel = np.zeros((height, width, inputs, outputs))
        if (inputs, outputs) != (classes, classes):
            noise = np.random.Generator(np.random.PCG64(self.seed))
            kernel = noise.normal(0.0, RELATIVE_NOISE * weight, kernel.shape)
        same = (np.arange(inputs) * classes // inputs)[:, None] == (
            np.arange(outputs) * classes // outputs)
        kernel[height // 2, width // 2][same] = weight
        return tf.constant(kernel, dtype)


class IdentityConvolution(layers.Convolution):
    """A VALID `layers.Convolution` that starts as the identity on class scores."""

    def __init__(self, scope, in_channels, filters, kernel_size, rate, activation, num_classes,
                 seed):
        super().__init__(scope, in_channels, filters, kernel_size, rate=rate,
                         activation=activation, padding=layers.VALID, seed=seed)
        self._initializer = IdentityInitializer(
            num_classes, layers.derived_seed(seed, f'{scope}/weights'))
        self.reinitialise()


class ClassScores(layers.Layer):
    """Everything whose channels are classes: the front end's 1x1 and the context module.

    Args:
      in_channels, num_classes: ints.
      context: 'none' (the front end alone), 'basic' or 'large'.
      seed: int.
    """

    def __init__(self, in_channels, num_classes, context, seed):
        super().__init__(name='logits')
        self.scores = layers.Convolution('fc-final', in_channels, num_classes,
                                         stddev=SCORES_STDDEV, seed=seed)
        self.context = []
        channels = num_classes
        for scope, size, rate, basic, large in () if context == 'none' else CONTEXT:
            filters = num_classes * (large if context == 'large' else basic)
            activation = None if scope == CONTEXT[-1][0] else 'relu'
            self.context.append(IdentityConvolution(scope, channels, filters, size, rate,
                                                    activation, num_classes, seed))
            channels = filters

    def call(self, x):
        """[B, h, w, in_channels] -> [B, h, w, num_classes]."""
        x = self.scores(x)
        if self.context:
            side = [CONTEXT_MARGIN, CONTEXT_MARGIN]
            x = tf.pad(x, [[0, 0], side, side, [0, 0]])
        for convolution in self.context:
            x = convolution(x)
        return x


class Dilated8(tf.keras.Model):
    """The segmentor; the parts are `backbone` (to fc7) and `logits` (`ClassScores`).

    Args:
      backbone: `vgg.VGG16`.
      num_classes, context, seed: see `ClassScores`.
      crop_size: pair or None; kept for who predicts (it changes nothing in the network).
    """

    def __init__(self, backbone, num_classes, context='large', crop_size=None, seed=0,
                 name='dilated8'):
        super().__init__(name=name)
        self.num_classes = int(num_classes)
        self.output_stride = self.logits_stride = backbone.output_stride
        self.crop_size = crop_size
        self.fine_tune_batch_norm = False  # there is none
        self.normalisation = layers.MeanSubtraction(layers.CAFFE_MEAN, bgr=True,
                                                    name='normalisation')
        self.backbone = backbone
        self.logits = ClassScores(backbone.channels, self.num_classes, context, seed)
        self.built = True

    def build(self, input_shape=None):
        """Nothing to do: the variables exist from the start, for any image size."""
        self.built = True

    def call(self, image, training=False, dropout_seed=None):
        """Logits of a batch of images.

        Args:
          image: [B, h, w, 3] RGB in 0..255, float32 or uint8, of any size.
          training: Python bool: dropout.
          dropout_seed: int32[2]; needed in training unless the dropout rate is 0.

        Returns:
          float32 [B, (h-1)//8+1, (w-1)//8+1, num_classes].
        """
        features = self.backbone(self.normalisation(image), training=bool(training),
                                 dropout_seed=dropout_seed)['features']
        return tf.cast(self.logits(features), tf.float32)


@gin.configurable
def dilated8(num_classes, context='large', crop_size=None, dropout_rate=0.5, seed=0,
             fc_channels=4096):
    """Dilated-8; the defaults are the network that Luc et al. fine-tune on VOC.

    Args:
      num_classes: int, at least 1.
      context: 'large', 'basic', or 'none' for the front end alone, which Yu & Koltun train first.
      crop_size: int, (height, width) or None; see `Dilated8`.
      dropout_rate: after fc6 and fc7.
      seed: int, for the initial values.
      fc_channels: int; published weights have 4096.

    Returns:
      A `Dilated8` whose variables exist.

    Raises:
      UserError: an argument is out of range.
    """
    name = 'dilated8'
    arguments.require_classes(name, num_classes)
    errors.require_one_of(f'{name}.context', context, CONTEXTS)
    arguments.require_dropout(name, dropout_rate)
    arguments.require(name, arguments.is_count(fc_channels), 'fc_channels', fc_channels,
                      'an integer of at least 1')
    backbone = vgg.VGG16(fc_channels, dropout_rate, seed)
    return Dilated8(backbone, num_classes, context, arguments.as_pair(name, crop_size), seed,
                    name=name)
