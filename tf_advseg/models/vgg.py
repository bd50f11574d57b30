"""VGG-16 as the dense front end of Yu & Koltun (ICLR 2016, section 4); Simonyan & Zisserman's net.

The last two poolings are left out, and what follows each is dilated by two more: conv5 by 2, fc6,
as a 7x7 convolution, by 4. So the weights of the classifier fit, and maps are at stride 8.

The published network pads the image by 186 reflected pixels and convolves VALID. Here every
convolution and pooling is SAME: an image of any size gives maps of (size-1)//8+1, as a segmentor
must; inside, the function is the same, and up to conv4_3 it is `tf.keras.applications.VGG16`.
"""
import math

import tensorflow as tf

from tf_advseg.models import layers

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # (channels, convolutions)
RATES = (1, 1, 1, 1, 2)
POOLED = 3  # stages that end in a pooling
FC6_SIZE, FC6_RATE = 7, 4


class VGG16(layers.Layer):
    """The backbone, up to fc7; scopes are caffe's names: 'conv1_1' to 'conv5_3', 'fc6', 'fc7'.

    Args:
      fc_channels: int, of fc6 and fc7; 4096 as published.
      dropout_rate: after fc6 and fc7, in training; 0.5 as published.
      seed: int, for the initial values (He et al.'s: fan in, factor 2; cut at two deviations).

    Attributes:
      output_stride (8), channels.
    """

    output_stride = 2 ** POOLED

    def __init__(self, fc_channels=4096, dropout_rate=0.5, seed=0):
        super().__init__(name='vgg_16')
        self.channels = fc_channels
        self.stages = []
        in_channels = 3
        for stage, ((channels, count), rate) in enumerate(zip(STAGES, RATES), start=1):
            self.stages.append([])
            for number in range(1, count + 1):
                self.stages[-1].append(_convolution(f'conv{stage}_{number}', in_channels, channels,
                                                    3, rate, seed))
                in_channels = channels
        self.fc6 = _convolution('fc6', in_channels, fc_channels, FC6_SIZE, FC6_RATE, seed)
        self.fc7 = _convolution('fc7', fc_channels, fc_channels, 1, 1, seed)
        self.dropout = layers.StatelessDropout(dropout_rate, name='dropout')
        self.built = True

    def maps(self, x):
        """The outputs of the five stages, before their poolings; x float32 [B, h, w, 3]."""
        outputs = []
        for index, stage in enumerate(self.stages):
            for convolution in stage:
                x = convolution(x)
            outputs.append(x)
            if index < POOLED:
                # caffe's size: a last row of odd height is pooled alone, not dropped (Keras).
                x = tf.nn.max_pool2d(x, 2, 2, 'SAME')
        return outputs

    def call(self, x, training=False, dropout_seed=None):
        """Extracts features.

        Args:
          x: float32 [B, h, w, 3], normalised.
          training: Python bool: dropout.
          dropout_seed: int32[2]; needed in training unless the dropout rate is 0.

        Returns:
          dict: 'features' [B, (h-1)//8+1, (w-1)//8+1, channels].
        """
        x = self.maps(x)[-1]
        for index, layer in enumerate((self.fc6, self.fc7)):
            seed = dropout_seed
            if seed is not None:
                seed = tf.random.experimental.stateless_fold_in(tf.cast(seed, tf.int32), index)
            x = self.dropout(layer(x), training=training, seed=seed)
        return {'features': x}


def keras_names(scope):
    """Where a scope has its weights in the files of keras-applications' VGG16.

    'conv1_1' is in 'block1_conv1'. With the classifier on top, 'fc6' is in 'fc1' and 'fc7' in
    'fc2': dense kernels, [25088, 4096] and [4096, 4096], which, reshaped to our [7, 7, 512, 4096]
    and [1, 1, 4096, 4096], are in order as they are.

    Returns:
      (layer's name,), or None for a scope that no such file has.
    """
    if scope in ('fc6', 'fc7'):
        return ('fc1' if scope == 'fc6' else 'fc2',)
    known = {f'conv{stage}_{number}': f'block{stage}_conv{number}'
             for stage, (_, count) in enumerate(STAGES, start=1) for number in range(1, count + 1)}
    return (known[scope],) if scope in known else None


def _convolution(scope, in_channels, filters, kernel_size, rate, seed):
    stddev = math.sqrt(1.3 * 2.0 / (kernel_size ** 2 * in_channels))
    return layers.Convolution(scope, in_channels, filters, kernel_size, rate=rate,
                              activation='relu', stddev=stddev, seed=seed)
