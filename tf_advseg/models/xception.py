"""Xception-41, 65 and 71 as dense feature extractors: DeepLab's modified Xception.

Chollet, CVPR 2017, as changed by Chen et al., ECCV 2018, section 4.2: max pools become strided
separable convolutions, and batch norm follows every depthwise convolution. Details that only the
official code has (padding, where ReLU stands, scopes) are said where they matter. Past the
output stride, strides turn into atrous rates.
"""
import collections

import tensorflow as tf

from tf_advseg.models import layers

NORM = layers.Norm(epsilon=1e-3, momentum=0.9997)
STDDEV = 0.09

CONVOLUTION, SUM, NONE = 'conv', 'sum', 'none'  # what joins a module's input to its output

Block = collections.namedtuple('Block', ('scope', 'depths', 'skip', 'relu_inside', 'units',
                                         'stride'))
Block.__doc__ = """A row of equal modules: the output channels of the three separable convolutions,
how the input is joined, whether ReLU follows both halves of them, how many, and the stride."""

# The decoder reads separable_conv2_pointwise of this block (stride 4).
SKIP_BLOCKS = {'xception_41': 'entry_flow/block2', 'xception_65': 'entry_flow/block2',
               'xception_71': 'entry_flow/block3'}


def _blocks(entry, middle_units):
    blocks = [Block(f'entry_flow/block{i}', (depth,) * 3, CONVOLUTION, False, 1, stride)
              for i, (depth, stride) in enumerate(entry, start=1)]
    return tuple(blocks) + (
        Block('middle_flow/block1', (728,) * 3, SUM, False, middle_units, 1),
        Block('exit_flow/block1', (728, 1024, 1024), CONVOLUTION, False, 1, 2),
        Block('exit_flow/block2', (1536, 1536, 2048), NONE, True, 1, 1))


VARIANTS = {
    'xception_41': _blocks(((128, 2), (256, 2), (728, 2)), 8),
    'xception_65': _blocks(((128, 2), (256, 2), (728, 2)), 16),
    'xception_71': _blocks(((128, 2), (256, 1), (256, 2), (728, 1), (728, 2)), 16),
}
MULTI_GRID_BLOCK = 'exit_flow/block2'


class SeparableConvolution(layers.Layer):
    """Depthwise 3x3 and pointwise 1x1, a batch norm after each.

    With `relu_inside` ReLU follows both halves. Otherwise ReLU comes first and nothing follows,
    so that a module's sum is linear.
    """

    def __init__(self, scope, in_channels, filters, stride, rate, relu_inside, norm, seed):
        super().__init__(name=scope.replace('/', '_'))
        self.relu_inside = relu_inside
        shared = dict(norm=norm, stddev=STDDEV, seed=seed,
                      activation='relu' if relu_inside else None)
        self.depthwise = layers.Convolution(f'{scope}_depthwise', in_channels, None, 3, stride,
                                            rate, padding=layers.FIXED, **shared)
        self.pointwise = layers.Convolution(f'{scope}_pointwise', in_channels, filters, **shared)

    def call(self, x, mode=layers.INFERENCE):
        """[B, h, w, in_channels] -> [B, (h-1)//stride+1, (w-1)//stride+1, filters]."""
        if not self.relu_inside:
            x = tf.nn.relu(x)
        return self.pointwise(self.depthwise(x, mode=mode), mode=mode)


class Module(layers.Layer):
    """Three separable convolutions, the stride in the last, and the input joined to the output."""

    def __init__(self, scope, in_channels, block, stride, rates, norm, seed):
        scope = f'{scope}/xception_module'
        super().__init__(name=scope.replace('/', '_'))
        self.scope, self.skip = scope, block.skip
        self.convolutions = []
        channels = in_channels
        for i, (depth, rate) in enumerate(zip(block.depths, rates), start=1):
            self.convolutions.append(SeparableConvolution(
                f'{scope}/separable_conv{i}', channels, depth, stride if i == 3 else 1, rate,
                block.relu_inside, norm, seed))
            channels = depth
        self.shortcut = layers.Convolution(
            f'{scope}/shortcut', in_channels, channels, 1, stride, norm=norm, stddev=STDDEV,
            seed=seed, padding=layers.FIXED) if block.skip == CONVOLUTION else None

    def call(self, x, mode=layers.INFERENCE):
        """Returns (output, output of the second separable convolution)."""
        first = self.convolutions[0](x, mode=mode)
        second = self.convolutions[1](first, mode=mode)
        y = self.convolutions[2](second, mode=mode)
        if self.skip == CONVOLUTION:
            y += self.shortcut(x, mode=mode)
        elif self.skip == SUM:
            y += x
        return y, second


class Xception(layers.Layer):
    """The backbone.

    Args:
      variant: 'xception_41', 'xception_65' or 'xception_71'.
      output_stride: 8, 16 or 32: input size over feature size.
      multi_grid: three factors of the rates in the last block.
      momentum: of the batch norms' moving averages; None is the official 0.9997.
      seed: int; with a layer's scope it fixes that layer's initial values.

    Attributes:
      channels (2048), skip_channels (256), output_stride, variant, modules.
    """

    def __init__(self, variant='xception_65', output_stride=16, multi_grid=(1, 1, 1),
                 momentum=None, seed=0):
        super().__init__(name=variant)
        self.variant, self.output_stride = variant, output_stride
        norm = NORM if momentum is None else NORM._replace(momentum=momentum)
        shared = dict(norm=norm, activation='relu', stddev=STDDEV, seed=seed,
                      padding=layers.FIXED)
        self.stem = [layers.Convolution(f'{variant}/entry_flow/conv1_1', 3, 32, 3, 2, **shared),
                     layers.Convolution(f'{variant}/entry_flow/conv1_2', 32, 64, 3, **shared)]
        self.modules, self.channels, self.skip_index = [], 64, None
        reached, rate = 2, 1
        for block in VARIANTS[variant]:
            grid = multi_grid if block.scope == MULTI_GRID_BLOCK else (1, 1, 1)
            for unit in range(1, block.units + 1):
                stride = block.stride
                if reached == output_stride:
                    stride, unit_rate, rate = 1, rate, rate * stride
                else:
                    unit_rate, reached = 1, reached * stride
                if block.scope == SKIP_BLOCKS[variant]:
                    self.skip_index = len(self.modules)
                self.modules.append(Module(
                    f'{variant}/{block.scope}/unit_{unit}', self.channels, block, stride,
                    [unit_rate * factor for factor in grid], norm, seed))
                self.channels = block.depths[-1]
        self.skip_channels = 256
        self.built = True

    def call(self, x, mode=layers.INFERENCE):
        """Extracts features.

        Args:
          x: float32 [B, h, w, 3], normalised.
          mode: of the batch norms: layers.INFERENCE, FROZEN or LIVE.

        Returns:
          dict: 'features' [B, (h-1)//s+1, (w-1)//s+1, channels] with s the output stride, and
          'skip' [B, (h-1)//4+1, (w-1)//4+1, skip_channels], before any ReLU, for a decoder.
        """
        for convolution in self.stem:
            x = convolution(x, mode=mode)
        skip = None
        for index, module in enumerate(self.modules):
            x, second = module(x, mode=mode)
            if index == self.skip_index:
                skip = second
        return {'features': x, 'skip': skip}
