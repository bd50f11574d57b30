"""The same network for inference only: constants for variables, and nothing computed twice.

What is done, and why (TensorFlow 2.15 on a CPU; `tools/benchmark.py inference` measures it):

* Batch norm is folded into kernel and bias, which are constants: oneDNN then keeps the kernels in
  its own layout, and TensorFlow joins convolution, bias, activation and residual sum into one op.
* A depthwise convolution with a rate works on the map's phases (every rate-th row and column),
  where it has no rate. `tf.nn.depthwise_conv2d` does so too, but pads first: at rate 18 it copies
  five times the map.
* MobileNetV2's blocks of one rate follow each other, and 1x1 convolutions do not mind where a
  pixel lies: the phases stay apart from the first of these blocks to the last, each of its own
  size, so that no position is computed that SAME padding says is 0.
* The bias of a depthwise convolution that a 1x1 convolution follows directly goes into the
  latter's bias (Xception). ReLU after ReLU is left out.
* FIXED padding before a stride of 2 is SAME padding where sides are odd; that spares a copy.
* Image pooling is projected before it is enlarged: half of MobileNetV2's concat projection is
  computed for one pixel in place of a thousand.
* Class ids come from `top_k`, whose loop TensorFlow vectorises, unlike `argmax`; the number of
  classes is rounded up to a multiple of 8, which does as much for the bilinear resize.
"""
import contextlib
import functools

import numpy as np
import tensorflow as tf

from tf_advseg.models import deeplab, layers, mobilenet_v2, xception
from tf_advseg.models.resize import resize_bilinear, scale_dimension

NEVER = -1e30  # the logit of a class that does not exist
LANES = 8      # floats of a vector register (AVX2)
KERNEL, BIAS = 'kernel', 'bias'  # leaves of the constants' names


@contextlib.contextmanager
def replaced_calls(network, rules):
    """Gives layers of a network another `call` while the block lasts.

    Args:
      network: tf.keras.Model or layer.
      rules: dict of class -> function(layer, *arguments of its call); the first that fits counts.
    """
    changed = []
    try:
        for layer in network._flatten_layers():
            rule = next((r for cls, r in rules.items() if isinstance(layer, cls)), None)
            if rule is not None:
                call = tf.autograph.experimental.do_not_convert(functools.partial(rule, layer))
                # Past Keras' __setattr__, which tracks what it is given.
                object.__setattr__(layer, 'call', call)
                changed.append(layer)
        yield
    finally:
        for layer in changed:
            object.__delattr__(layer, 'call')


def folded(layer):
    """Kernel and bias of a `layers.Convolution` with its batch norm multiplied in.

    Returns:
      (kernel, bias), float64 arrays, so that what is added to them is rounded once.
    """
    with tf.init_scope():
        kernel = layer.kernel.numpy().astype(np.float64)
        if layer.norm is None:
            return kernel, layer.bias.numpy().astype(np.float64)
        norm = layer.norm
        gamma, beta, mean, variance = (variable.numpy().astype(np.float64) for variable in (
            norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance))
    scale = gamma / np.sqrt(variance + norm.epsilon)
    return kernel * (scale[:, None] if layer.depthwise else scale), beta - mean * scale


class InferenceNetwork:
    """Logits of a segmentor as it is now, by constants: later training does not reach it.

    Any network of `layers.Convolution`s is folded; DeepLab, MobileNetV2 and Xception get what the
    module's docstring says. Constants are called '<official scope>/kernel' and '/bias'.

    Args:
      segmentor: see `models.segmentor`.
      tuned: False folds only, and keeps the ops that converters know.
      exact_sizes: all images' sides are k * output_stride + 1.
    """

    def __init__(self, segmentor, tuned=True, exact_sizes=False):
        self.segmentor = segmentor
        backbone = getattr(segmentor, 'backbone', None)
        self._rules = {layers.Convolution: self._convolution}
        self._same_is_fixed = False
        self._positive = None  # the layer whose input ReLU has made positive
        if tuned:
            self._rules.update({mobilenet_v2.MobileNetV2: self._mobilenet_v2,
                                xception.SeparableConvolution: self._separable,
                                xception.Module: self._module})
            if getattr(segmentor, 'image_pooling', None) is not None:
                self._rules[deeplab.DeepLab] = self._deeplab
            if isinstance(backbone, xception.Xception):
                self._same_is_fixed = exact_sizes
                self._positive = backbone.modules[0].convolutions[0]
        self._tuned = tuned
        self._weights = {layer.scope: folded(layer) for layer in layers.convolutions(segmentor)}
        self._constants = {}

    def logits(self, image):
        """Traces the network: RGB 0..255 [B, h, w, 3] -> float32 logits, as the segmentor's."""
        self._constants = {}  # those of another graph are of no use in this one
        with replaced_calls(self.segmentor, self._rules):
            return self.segmentor(image, training=False)

    def _constant(self, scope, leaf, value):
        """The constant of this name in the graph that is being traced; `value` at its first use."""
        name = f'{scope}/{leaf}'
        if name not in self._constants:
            with tf.name_scope(f'{scope}/'):
                self._constants[name] = tf.constant(np.asarray(value, np.float32), name=leaf)
        return self._constants[name]

    def _convolution(self, layer, x, mode=None):
        """In place of `layers.Convolution.call`."""
        del mode
        if self._tuned and layer.depthwise and layer.rate > 1 and layer.padding == 'SAME':
            return self._atrous_depthwise(layer, x)
        return self._convolved(layer, x, *self._weights[layer.scope])

    def _convolved(self, layer, x, kernel, bias, rate=None):
        """Convolution, bias (None for none) and activation."""
        kernel = self._constant(layer.scope, KERNEL, kernel)
        if rate is not None or (layer.margin and self._same_is_fixed):
            rate = rate or layer.rate
            if layer.depthwise:
                y = tf.nn.depthwise_conv2d(x, kernel, [1, layer.stride, layer.stride, 1], 'SAME',
                                           dilations=[rate, rate])
            else:
                y = tf.nn.conv2d(x, kernel, layer.stride, 'SAME', dilations=rate)
        else:
            y = layer._convolve(x, kernel, trained=False)
        if bias is not None:
            y = tf.nn.bias_add(y, self._constant(layer.scope, BIAS, bias))
        return y if layer.activation is None else layers.ACTIVATIONS[layer.activation](y)

    def _atrous_depthwise(self, layer, x, bias=True):
        rate, (kernel, folded_bias) = layer.rate, self._weights[layer.scope]
        height, width = tf.unstack(tf.shape(x)[1:3])
        missing = [[0, -height % rate], [0, -width % rate]]
        y = self._convolved(layer, tf.space_to_batch(x, [rate, rate], missing), kernel,
                            folded_bias if bias else None, rate=1)
        return tf.batch_to_space(y, [rate, rate], missing)

    def _separable(self, layer, x, mode=None):
        """In place of `xception.SeparableConvolution.call`."""
        del mode
        if layer.relu_inside:
            return layer.pointwise(layer.depthwise(x))
        if layer is not self._positive:
            x = tf.nn.relu(x)
        kernel, inner = self._weights[layer.depthwise.scope]
        if layer.depthwise.rate > 1:
            x = self._atrous_depthwise(layer.depthwise, x, bias=False)
        else:
            x = self._convolved(layer.depthwise, x, kernel, None)
        kernel, outer = self._weights[layer.pointwise.scope]
        return self._convolved(layer.pointwise, x, kernel, outer + inner @ kernel[0, 0])

    def _module(self, module, x, mode=None):
        """In place of `xception.Module.call`.

        The sum goes on to a ReLU and to the next sum. Grappler's remapper now and then takes both
        for its own, fails, and leaves the whole graph unfused ("remapper failed: ... fanout
        exist for missing node"). What it cannot see through keeps them apart: Snapshot, which
        hands on a buffer that nobody else holds and copies nothing.
        """
        del mode
        y, second = xception.Module.call(module, x)
        return (tf.raw_ops.Snapshot(input=y) if module.skip != xception.NONE else y), second

    def _mobilenet_v2(self, backbone, x, mode=None):
        """In place of `mobilenet_v2.MobileNetV2.call`."""
        del mode
        x, skip = backbone.stem(x), None
        phases = Phases(x)
        for index, block in enumerate(backbone.blocks):
            phases = phases.at_rate(block.depthwise.rate)
            outputs = []
            for x in phases.maps:
                y = x if block.expand is None else block.expand(x)
                y = self._convolved(block.depthwise, y, *self._weights[block.depthwise.scope],
                                    rate=1)
                if index == mobilenet_v2.SKIP_BLOCK:
                    skip = y
                y = block.project(y)
                outputs.append(x + y if block.residual else y)
            phases = phases.with_maps(outputs)
        return {'features': phases.joined(), 'skip': skip}

    def _deeplab(self, model, image, training=False, dropout_seed=None):
        """In place of `deeplab.DeepLab.call`, with image pooling."""
        del training, dropout_seed
        maps = model.backbone(model.normalisation(image))
        features = maps['features']
        x = tf.concat([branch(features) for branch in model.branches], -1)
        pooled = model.image_pooling(_pooled(model, features))
        layer = model.concat_projection
        kernel, bias = self._weights[layer.scope]
        inner = int(pooled.shape[-1])
        parts = [self._constant(layer.scope, f'{KERNEL}_{i}', part)
                 for i, part in enumerate((kernel[:, :, :inner], kernel[:, :, inner:]))]
        pooled = resize_bilinear(tf.nn.conv2d(pooled, parts[0], 1, 'SAME'), tf.shape(x)[1:3])
        x = tf.nn.bias_add(tf.nn.conv2d(x, parts[1], 1, 'SAME'),
                           self._constant(layer.scope, BIAS, bias))
        x = layers.ACTIVATIONS[layer.activation](x + pooled)
        if model.decoder is not None:
            x = model.decoder(x, maps['skip'])
        return model.logits(x)


def _pooled(model, features):
    """`deeplab.DeepLab._pooled`, with the mean where the window covers the map."""
    window = None if model.crop_size is None else [
        scale_dimension(side, 1.0 / model.output_stride) for side in model.crop_size]

    def mean():
        return tf.reduce_mean(features, [1, 2], keepdims=True)

    if window is None:
        return mean()
    size = tf.shape(features)[1:3]
    larger = tf.reduce_all(size >= window) & tf.reduce_any(size > window)
    return tf.cond(larger, lambda: tf.nn.avg_pool2d(features, window, 1, 'VALID'), mean)


class Phases:
    """A map as `rate * rate` maps of every rate-th row and column, in order of their offsets.

    Where sides are no multiples of the rate the later phases are a row or a column smaller: they
    hold nothing that the map does not. (But none is empty: TensorFlow's fused convolutions give
    empty maps a wrong shape. Phases of a side shorter than the rate may hold a single row or
    column of padding, which meets no other phase and is cropped when they are joined.)

    Attributes:
      maps: list of [B, ceil((h - i) / rate), ceil((w - j) / rate), C] for i, j below rate; every
        side at least 1.
      rate: int.
    """

    def __init__(self, x, rate=1):
        self.rate = rate
        self._size = tf.unstack(tf.shape(x)[1:3])
        self.maps = [x] if rate == 1 else _split(x, rate)

    def with_maps(self, maps):
        """These phases, of another map of the same size."""
        other = object.__new__(Phases)
        other.rate, other._size, other.maps = self.rate, self._size, maps
        return other

    def at_rate(self, rate):
        """The same map at a rate that is a multiple of this one, or, joined first, at any other."""
        if rate == self.rate:
            return self if rate > 1 else Phases(self.maps[0])
        if rate % self.rate:
            return Phases(self.joined(), rate)
        if self.rate == 1:
            return Phases(self.maps[0], rate)
        factor, maps = rate // self.rate, {}
        for index, x in enumerate(self.maps):
            i, j = divmod(index, self.rate)
            for inner, phase in enumerate(_split(x, factor)):
                u, v = divmod(inner, factor)
                maps[i + self.rate * u, j + self.rate * v] = phase
        other = self.with_maps([maps[place] for place in sorted(maps)])
        other.rate = rate
        return other

    def joined(self):
        """The map, [B, h, w, C]."""
        if self.rate == 1:
            return self.maps[0]
        tall, wide = (-(-side // self.rate) for side in self._size)
        equal = []
        for x in self.maps:
            height, width = tf.unstack(tf.shape(x)[1:3])
            equal.append(tf.pad(x, [[0, 0], [0, tall - height], [0, wide - width], [0, 0]]))
        crops = [[0, -side % self.rate] for side in self._size]
        return tf.batch_to_space(tf.concat(equal, 0), [self.rate, self.rate], crops)


def _split(x, rate):
    """The phases of a map, see `Phases`.

    By space_to_batch and slices that are whole rows: TensorFlow's strided slice is slower.
    """
    height, width = tf.unstack(tf.shape(x)[1:3])
    batches = tf.split(
        tf.space_to_batch(x, [rate, rate], [[0, -height % rate], [0, -width % rate]]), rate ** 2)
    rows = [tf.maximum(-(-(height - i) // rate), 1) for i in range(rate)]
    columns = [tf.maximum(-(-(width - j) // rate), 1) for j in range(rate)]
    return [batches[i * rate + j][:, :rows[i], :columns[j]]
            for i in range(rate) for j in range(rate)]


def upsampled(logits, size):
    """Logits at an image's size, with classes that never win up to a multiple of `LANES`.

    Args:
      logits: float32 [B, h', w', C].
      size: int32 [2].

    Returns:
      float32 [B, height, width, C rounded up].
    """
    missing = -logits.shape[-1] % LANES
    logits = tf.pad(logits, [[0, 0], [0, 0], [0, 0], [0, missing]], constant_values=NEVER)
    return resize_bilinear(logits, size)


def class_ids(logits):
    """Argmax over the last axis, uint8 [B, h, w]; of equal logits the first, as argmax has it.

    Args:
      logits: float32 [B, h, w, C], C <= 256, all numbers.
    """
    flat = tf.reshape(logits, [-1, logits.shape[-1]])
    ids = tf.cast(tf.math.top_k(flat, 1).indices, tf.uint8)
    return tf.reshape(ids, tf.shape(logits)[:3])
