"""MobileNetV2 as a dense feature extractor (Sandler et al., CVPR 2018; DeepLab's official use).

Up to expanded_conv_16 (320 channels at depth multiplier 1); the 1x1 layer of 1280 channels of the
classifier is not part of it. Past the output stride, strides turn into atrous rates.
"""
from tf_advseg.models import layers

NORM = layers.Norm(epsilon=1e-3, momentum=0.997)
STDDEV = 0.09

# Table 2 of the paper, one entry per block: (expansion, output channels, stride).
BLOCKS = ((1, 16, 1), (6, 24, 2), (6, 24, 1), (6, 32, 2), (6, 32, 1), (6, 32, 1), (6, 64, 2),
          (6, 64, 1), (6, 64, 1), (6, 64, 1), (6, 96, 1), (6, 96, 1), (6, 96, 1), (6, 160, 2),
          (6, 160, 1), (6, 160, 1), (6, 320, 1))
# The decoder reads the depthwise output of this block (stride 4, after ReLU6).
SKIP_BLOCK = 2


def divisible(value, divisor, minimum):
    """The multiple of `divisor` nearest to value, at least minimum and at least 0.9 value."""
    rounded = max(minimum, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def scaled_channels(channels, depth_multiplier):
    """Channels under a depth multiplier: multiples of 8 at 1.0, not rounded at any other."""
    step = 8 if depth_multiplier == 1.0 else 1
    return divisible(channels * depth_multiplier, step, step)


class InvertedResidual(layers.Layer):
    """expand 1x1 (ReLU6), depthwise 3x3 (ReLU6), project 1x1 (linear), and the input added.

    The input is added where stride is 1 and channels agree. Blocks of expansion 1 have no expand
    layer. Expanded channels are multiples of 8 whatever the depth multiplier.
    """

    def __init__(self, scope, in_channels, channels, expansion, stride, rate, norm, seed):
        super().__init__(name=scope.replace('/', '_'))
        self.scope = scope
        self.expanded_channels = in_channels
        shared = dict(norm=norm, stddev=STDDEV, seed=seed)
        self.expand = None
        if expansion > 1:
            self.expanded_channels = divisible(in_channels * expansion, 8, 8)
            self.expand = layers.Convolution(f'{scope}/expand', in_channels,
                                             self.expanded_channels, activation='relu6', **shared)
        self.depthwise = layers.Convolution(f'{scope}/depthwise', self.expanded_channels, None, 3,
                                            stride, rate, activation='relu6', **shared)
        self.project = layers.Convolution(f'{scope}/project', self.expanded_channels, channels,
                                          **shared)
        self.residual = stride == 1 and in_channels == channels

    def call(self, x, mode=layers.INFERENCE):
        """Returns (output, depthwise output after ReLU6)."""
        expanded = x if self.expand is None else self.expand(x, mode=mode)
        depthwise = self.depthwise(expanded, mode=mode)
        y = self.project(depthwise, mode=mode)
        return (x + y if self.residual else y), depthwise


class MobileNetV2(layers.Layer):
    """The backbone.

    Args:
      output_stride: 8, 16 or 32: input size over feature size.
      depth_multiplier: float above 0.
      momentum: of the batch norms' moving averages; None is the official 0.997.
      seed: int; with a layer's scope it fixes that layer's initial values.

    Attributes:
      channels, skip_channels: of the two maps that `call` returns; output_stride; blocks.
    """

    def __init__(self, output_stride=16, depth_multiplier=1.0, momentum=None, seed=0):
        super().__init__(name='MobilenetV2')
        self.output_stride = output_stride
        self.depth_multiplier = depth_multiplier
        norm = NORM if momentum is None else NORM._replace(momentum=momentum)
        self.channels = scaled_channels(32, depth_multiplier)
        self.stem = layers.Convolution('MobilenetV2/Conv', 3, self.channels, 3, 2, norm=norm,
                                       activation='relu6', stddev=STDDEV, seed=seed)
        self.blocks = []
        reached, next_rate = 2, 1
        for index, (expansion, channels, stride) in enumerate(BLOCKS):
            rate = 1
            if reached == output_stride:
                # The block that would have strided keeps the rate so far; those after it dilate.
                rate, next_rate, stride = next_rate, next_rate * stride, 1
            reached *= stride
            channels = scaled_channels(channels, depth_multiplier)
            scope = 'MobilenetV2/expanded_conv' + (f'_{index}' if index else '')
            self.blocks.append(InvertedResidual(scope, self.channels, channels, expansion, stride,
                                                rate, norm, seed))
            self.channels = channels
        self.skip_channels = self.blocks[SKIP_BLOCK].expanded_channels
        self.built = True

    def call(self, x, mode=layers.INFERENCE):
        """Extracts features.

        Args:
          x: float32 [B, h, w, 3], normalised.
          mode: of the batch norms: layers.INFERENCE, FROZEN or LIVE.

        Returns:
          dict: 'features' [B, (h-1)//s+1, (w-1)//s+1, channels] with s the output stride, and
          'skip' [B, (h-1)//4+1, (w-1)//4+1, skip_channels], for a decoder.
        """
        x = self.stem(x, mode=mode)
        skip = None
        for index, block in enumerate(self.blocks):
            x, depthwise = block(x, mode=mode)
            if index == SKIP_BLOCK:
                skip = depthwise
        return {'features': x, 'skip': skip}
