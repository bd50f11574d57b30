"""Residual networks as dense feature extractors (He et al., CVPR 2016), in three layouts.

* slim v1 ('resnet_v1_50', 'resnet_v1_101', and '_beta' with its stem of three 3x3): what official
  DeepLab uses. The stride sits in the LAST unit of a block, in its 3x3; official scopes.
* caffe ('resnet_50', 'resnet_101'): what He et al. published, DeepLabv2, Hung et al. (BMVC 2018)
  and keras-applications use. The stride sits in the FIRST unit of a stage, in its first 1x1. It
  is the function of `tf.keras.applications.ResNet101`; `keras_names` leads to its weights.
* basic ('resnet_18', 'resnet_34'): two 3x3 a unit, the stride in the first of the first unit
  (He et al., Table 1). Durall et al. (2019), section 5.2, train these from scratch.

Past the output stride, strides turn into atrous rates: a convolution that would have strided keeps
the rate so far, those behind it dilate. So what comes out at stride 8 is, at every fourth place,
what comes out at stride 32, to the borders and for every image size.

Kernels start as slim's variance scaling (fan in, factor 2, truncated); official weight decay for
these networks is 1e-4 in slim's sense (wd * sum(w^2) / 2).
"""
import collections
import math
import re

import tensorflow as tf

from tf_advseg.core import arguments
from tf_advseg.core import errors
from tf_advseg.models import layers

OUTPUT_STRIDES = (8, 16, 32)
SLIM_NORM = layers.Norm(epsilon=1e-5, momentum=0.95)
KERAS_NORM = layers.Norm(epsilon=1.001e-5, momentum=0.99)
STEM_STRIDE = 4
# Channels of the 3x3 convolutions in blocks 1 to 4; a bottleneck ends in four times as many.
WIDTHS = (64, 128, 256, 512)
EXPANSION = 4
SKIP_UNIT = 1  # The decoder reads unit 2 of block 1: at stride 4 in every layout.

Variant = collections.namedtuple('Variant', ('scope', 'bottleneck', 'units', 'beta', 'slim'))
VARIANTS = {
    'resnet_v1_50': Variant('resnet_v1_50', True, (3, 4, 6, 3), False, True),
    'resnet_v1_50_beta': Variant('resnet_v1_50', True, (3, 4, 6, 3), True, True),
    'resnet_v1_101': Variant('resnet_v1_101', True, (3, 4, 23, 3), False, True),
    'resnet_v1_101_beta': Variant('resnet_v1_101', True, (3, 4, 23, 3), True, True),
    'resnet_50': Variant('resnet_50', True, (3, 4, 6, 3), False, False),
    'resnet_101': Variant('resnet_101', True, (3, 4, 23, 3), False, False),
    'resnet_18': Variant('resnet_18', False, (2, 2, 2, 2), False, False),
    'resnet_34': Variant('resnet_34', False, (3, 4, 6, 3), False, False),
}

# One unit's place: `rate` holds up to its own stride, `next_rate` from there on.
Place = collections.namedtuple('Place', ('block', 'unit', 'stride', 'rate', 'next_rate', 'grid'))


class Unit(layers.Layer):
    """relu(shortcut(x) + residual(x)), the residual of 1x1, 3x3, 1x1 or of two 3x3.

    Args:
      scope: of the unit; its convolutions are `<scope>/conv1` and on, and `<scope>/shortcut` where
        channels change. Otherwise the shortcut takes every stride-th pixel.
      in_channels, width: ints; width is that of the 3x3 convolutions.
      bottleneck: bool.
      strides, rates: one int for each convolution of the residual.
      norm: `layers.Norm`.
      seed: int.

    Attributes:
      channels: of what comes out.
    """

    def __init__(self, scope, in_channels, width, bottleneck, strides, rates, norm, seed):
        super().__init__(name=scope.replace('/', '_'))
        self.scope = scope
        self.channels = width * EXPANSION if bottleneck else width
        self.stride = math.prod(strides)
        shared = dict(norm=norm, seed=seed)
        self.shortcut = None
        if in_channels != self.channels:
            self.shortcut = convolution(f'{scope}/shortcut', in_channels, self.channels, 1,
                                        self.stride, **shared)
        sizes = (1, 3, 1) if bottleneck else (3, 3)
        widths = (in_channels,) + (width,) * (len(sizes) - 1) + (self.channels,)
        self.residual = []
        for index, size in enumerate(sizes):
            last = index == len(sizes) - 1
            self.residual.append(convolution(
                f'{scope}/conv{index + 1}', widths[index], widths[index + 1], size,
                strides[index], rates[index], activation=None if last else 'relu', **shared))

    def call(self, x, mode=layers.INFERENCE):
        """[B, h, w, in_channels] -> (output, residual before the sum)."""
        shortcut = x
        if self.shortcut is not None:
            shortcut = self.shortcut(x, mode=mode)
        elif self.stride > 1:
            shortcut = x[:, ::self.stride, ::self.stride]
        for layer in self.residual:
            x = layer(x, mode=mode)
        return tf.nn.relu(shortcut + x), x


class ResNet(layers.Layer):
    """The backbone.

    Args:
      variant: a name in `VARIANTS`; it settles the layout, stride placement included.
      output_stride: 8, 16 or 32: input size over feature size.
      multi_grid: unit rates of block 4, which multiply its rate (Chen et al., arXiv:1706.05587,
        section 4.2.1); one int for each of its units. None is all ones.
      momentum: of the batch norms' moving averages; None is 0.95 (slim) or 0.99 (Keras).
      seed: int; with a layer's scope it fixes that layer's initial values.

    Attributes:
      channels, skip_channels: of the two maps that `call` returns; output_stride; units.

    Raises:
      UserError: no such variant or stride, or a multi_grid that is none for block 4.
    """

    def __init__(self, variant, output_stride=16, multi_grid=None, momentum=None, seed=0):
        errors.require_one_of('ResNet variant', variant, VARIANTS)
        layout = VARIANTS[variant]
        super().__init__(name=layout.scope)
        norm = SLIM_NORM if layout.slim else KERAS_NORM
        norm = norm if momentum is None else norm._replace(momentum=momentum)
        self.variant, self.output_stride = variant, output_stride
        self.slim = layout.slim
        self.stem = _stem(layout, norm, seed)
        self.channels = 128 if layout.beta else 64
        self.units = []
        for place in _places(variant, output_stride, multi_grid):
            strides, rates = _strides_and_rates(layout, place)
            scope = f'{layout.scope}/block{place.block}/unit_{place.unit}'
            self.units.append(Unit(scope + ('/bottleneck_v1' if layout.slim else ''),
                                   self.channels, WIDTHS[place.block - 1], layout.bottleneck,
                                   strides, rates, norm, seed))
            self.channels = self.units[-1].channels
        self.skip_channels = self.units[SKIP_UNIT].channels
        self.built = True

    def call(self, x, mode=layers.INFERENCE):
        """Extracts features.

        Args:
          x: float32 [B, h, w, 3], normalised.
          mode: of the batch norms: layers.INFERENCE, FROZEN or LIVE.

        Returns:
          dict: 'features' [B, (h-1)//s+1, (w-1)//s+1, channels] with s the output stride, and
          'skip' [B, (h-1)//4+1, (w-1)//4+1, skip_channels], for a decoder: the last batch norm of
          block 1's second unit, before the sum (official DeepLab).
        """
        for layer in self.stem:
            x = layer(x, mode=mode)
        x = self._pool(x)
        skip = None
        for index, unit in enumerate(self.units):
            x, residual = unit(x, mode=mode)
            if index == SKIP_UNIT:
                skip = residual
        return {'features': x, 'skip': skip}

    def _pool(self, x):
        """3x3 max pool of stride 2, to (size-1)//2+1.

        slim pads as SAME does: nothing at the top of an even side. The other layouts pad one pixel
        everywhere, as caffe and Keras do. PyTorch's `ceil_mode`, which Hung et al. use, agrees on
        odd sides (their 321 -> 161 -> 81) and adds a row and a column on even ones; not here, so
        that every image keeps the segmentor's contract.
        """
        if self.slim:
            return tf.nn.max_pool2d(x, 3, 2, 'SAME')
        # What is padded is never negative, so zeros are as good as minus infinity.
        return tf.nn.max_pool2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, 'VALID')


def convolution(scope, in_channels, filters, kernel_size, stride=1, rate=1, **kwargs):
    """A `layers.Convolution` with slim's fixed padding and variance scaling (see the module)."""
    # slim divides by the spread that a normal loses when it is cut at two deviations: sqrt(1.3).
    stddev = math.sqrt(1.3 * 2.0 / (kernel_size ** 2 * in_channels))
    return layers.Convolution(scope, in_channels, filters, kernel_size, stride, rate,
                              stddev=stddev, padding=layers.FIXED, **kwargs)


def normalisation(variant):
    """The layer from RGB 0..255 to what the weights of a variant were trained on.

    caffe layout: BGR minus caffe's mean; plain slim v1: RGB minus the mean colour; beta (official
    DeepLab) and basic blocks, which nobody pretrained for us: x * 2 / 255 - 1.
    """
    layout = VARIANTS[variant]
    if layout.beta or not layout.bottleneck:
        return layers.SymmetricNormalisation(name='normalisation')
    mean = layers.IMAGENET_MEAN if layout.slim else layers.CAFFE_MEAN
    return layers.MeanSubtraction(mean, bgr=not layout.slim, name='normalisation')


def keras_names(scope):
    """Where a scope of the caffe layout has its weights in keras-applications' ResNet50/101.

    The files of keras-applications give every convolution a bias, which ours do not have: it is
    subtracted from the batch norm's moving mean, which is the same function. `gamma`, `beta`,
    `moving_mean` and `moving_variance` are called so in both.

    Args:
      scope: of a `Convolution`, such as 'resnet_101/block3/unit_2/conv1'.

    Returns:
      (convolution's layer name, batch norm's), here ('conv4_block2_1_conv', 'conv4_block2_1_bn');
      None for a scope of anything but a caffe-layout ResNet.
    """
    found = re.fullmatch(r'resnet_(?:50|101)/(?:conv1|block(\d)/unit_(\d+)/(?:conv(\d)|shortcut))',
                         scope)
    if not found:
        return None
    block, unit, number = found.groups()
    base = 'conv1' if block is None else f'conv{int(block) + 1}_block{unit}_{number or 0}'
    return base + '_conv', base + '_bn'


def _stem(layout, norm, seed):
    shared = dict(norm=norm, activation='relu', seed=seed)
    if not layout.beta:
        return [convolution(f'{layout.scope}/conv1', 3, 64, 7, 2, **shared)]
    return [convolution(f'{layout.scope}/conv1_1', 3, 64, 3, 2, **shared),
            convolution(f'{layout.scope}/conv1_2', 64, 64, 3, **shared),
            convolution(f'{layout.scope}/conv1_3', 64, 128, 3, **shared)]


def _places(variant, output_stride, multi_grid):
    """Yields the `Place` of every unit."""
    layout = VARIANTS[variant]
    if output_stride not in OUTPUT_STRIDES:
        raise errors.UserError(f'{variant}: output_stride is {output_stride!r}, expected one of '
                               + ', '.join(map(str, OUTPUT_STRIDES)))
    grid = arguments.as_grid(variant, multi_grid, layout.units[-1])
    reached, rate = STEM_STRIDE, 1
    for block, units in enumerate(layout.units, start=1):
        strided = (units if block < 4 else None) if layout.slim else (1 if block > 1 else None)
        for unit in range(1, units + 1):
            stride = 2 if unit == strided else 1
            next_rate = rate
            if reached == output_stride:
                next_rate, stride = rate * stride, 1
            reached *= stride
            yield Place(block, unit, stride, rate, next_rate, grid[unit - 1] if block == 4 else 1)
            rate = next_rate


def _strides_and_rates(layout, place):
    """Strides and rates of the convolutions of one unit."""
    dilated = place.rate * place.grid
    if layout.slim:
        return (1, place.stride, 1), (1, dilated, 1)
    if layout.bottleneck:
        return (place.stride, 1, 1), (1, place.next_rate * place.grid, 1)
    # The first 3x3 is the one that strides: it sees the map before the stride, at the rate so far,
    # and the grid's factor, which belongs to the map behind it, does not apply.
    striding = place.stride > 1 or place.next_rate > place.rate
    return (place.stride, 1), (place.rate if striding else dilated, place.next_rate * place.grid)
