"""A quantised TFLite file as a TensorFlow function that can be differentiated.

The file's own operations, one by one, in float32: after each its output is rounded to the eight
bits that the file gives it (`tf.quantization.fake_quant_with_min_max_vars`), and the gradient
passes the rounding as if it were none (the straight-through estimator; Jacob et al., CVPR 2018,
section 3). Kernels and biases are variables, in units of the file's own steps.
"""
import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from tf_advseg.core import errors
from tf_advseg.models import atrous
from tf_advseg.models.zoo import tflite_graph

_OPERATOR, _ACTIVATION = schema.BuiltinOperator, schema.ActivationFunctionType
_ACTIVATIONS = {_ACTIVATION.NONE: tf.identity, _ACTIVATION.RELU: tf.nn.relu,
                _ACTIVATION.RELU6: tf.nn.relu6}
_PADDINGS = {schema.Padding.SAME: 'SAME', schema.Padding.VALID: 'VALID'}
_NAMES = {value: name for name, value in vars(_OPERATOR).items() if isinstance(value, int)}
LEVELS = 127  # of a weight, either side of 0


class Simulation:
    """The part of a quantised file that makes its logits.

    Args:
      graph: `tflite_graph.Graph` of a file in eight bits.

    Attributes:
      variables: of each convolution the kernel, in steps of its output channels' weights, and the
        bias, in steps of the map that it makes.
      output: number of the tensor that `__call__` computes: what the class map is the argmax of,
        before it is enlarged.

    Raises:
      UserError: it has an operation that is not known here, or ends in no argmax.
    """

    def __init__(self, graph):
        self._graph = graph
        self.output = logits(graph)
        self._operators = _needed(graph, self.output)
        unknown = sorted({_NAMES[graph.code(one)] for one in self._operators
                          if graph.code(one) not in _RULES or _is_bare(graph, one)})
        if unknown:
            raise errors.UserError('fine-tuning does not know the operations '
                                   f'{", ".join(unknown)} of this network; leave '
                                   '--fine_tune_steps out')
        self._learnt = {id(one): self._variables_of(one) for one in self._operators
                        if graph.is_convolution(one)}
        self.variables = [variable for pair in self._learnt.values() for variable in pair]

    def _variables_of(self, operator):
        _, kernel, bias = operator.inputs
        return (tf.Variable(self._graph.constant(kernel).astype(np.float32)),
                tf.Variable((self._graph.constant(bias) * self._bias_scale(operator)).astype(
                    np.float32)))

    def _bias_scale(self, operator):
        """Of the file's integers, in steps of the map that the convolution makes."""
        return self._graph.scale(operator.inputs[2]) / self._graph.scale(operator.outputs[0])

    def __call__(self, images):
        """float32 [B, H, W, 3] in 0..255 -> float32, what the file has in `output`."""
        graph, values = self._graph, {self._graph.inputs[0]: images}
        for operator in self._operators:
            if id(operator) in self._learnt:
                inputs = [values[operator.inputs[0]], *self._learnt_inputs(operator)]
            else:
                inputs = [values[i] if i in values else self._constant(i)
                          for i in operator.inputs]
            y = _RULES[graph.code(operator)](operator.builtinOptions, *inputs)
            values[operator.outputs[0]] = self._rounded_map(operator.outputs[0], y)
        return values[self.output]

    def _learnt_inputs(self, operator):
        """Kernel and bias as numbers, the kernel rounded."""
        kernel, bias = self._learnt[id(operator)]
        kernel = tf.clip_by_value(kernel, -LEVELS, LEVELS)
        kernel += tf.stop_gradient(tf.round(kernel) - kernel)
        scale = self._graph.scale(operator.inputs[1]).astype(np.float32)
        depthwise = self._graph.code(operator) == tflite_graph.DEPTHWISE
        kernel *= scale if depthwise else scale[:, None, None, None]
        return kernel, bias * np.float32(self._graph.scale(operator.outputs[0]))

    def _constant(self, tensor):
        value = self._graph.constant(tensor)
        return self._graph.as_numbers(tensor, value) if self._graph.is_eight_bits(tensor) else value

    def _rounded_map(self, tensor, value):
        if not self._graph.is_eight_bits(tensor):
            return value
        return tf.quantization.fake_quant_with_min_max_vars(value, *self._graph.limits(tensor))

    def write(self):
        """Puts the variables into the graph."""
        for operator in self._operators:
            if id(operator) not in self._learnt:
                continue
            kernel, bias = (variable.numpy() for variable in self._learnt[id(operator)])
            self._graph.set_constant(operator.inputs[1],
                                     np.clip(np.round(kernel), -LEVELS, LEVELS))
            steps = np.round(bias / self._bias_scale(operator))
            self._graph.set_constant(operator.inputs[2], np.clip(steps, -2 ** 31, 2 ** 31 - 1))


def _is_bare(graph, operator):
    """Whether it is a convolution without a bias, with a kernel that is computed, or in floats."""
    return graph.code(operator) in (tflite_graph.CONV, tflite_graph.DEPTHWISE) and (
        not graph.is_convolution(operator) or len(graph.fed_to(operator)) != 1
        or not graph.is_eight_bits(operator.outputs[0]))


def logits(graph):
    """The tensor that a file's class map is the argmax of, before it is enlarged.

    Raises:
      UserError: it ends in no argmax.
    """
    made = {i: one for one in graph.operators for i in one.outputs}
    ends = [one for one in graph.operators if graph.code(one) == _OPERATOR.ARG_MAX]
    if len(ends) != 1:
        raise errors.UserError('fine-tuning needs a file whose one argmax makes its class map; '
                               'leave --fine_tune_steps out')
    tensor = ends[0].inputs[0]
    while tensor in made and graph.code(made[tensor]) == _OPERATOR.RESIZE_BILINEAR:
        tensor = made[tensor].inputs[0]
    return tensor


def _needed(graph, output):
    """The operators that a tensor is made by, in their order."""
    wanted, needed = {output}, []
    for one in reversed(graph.operators):
        if wanted & set(one.outputs):
            wanted |= set(one.inputs)
            needed.append(one)
    return needed[::-1]


def _convolution(options, x, kernel, bias):
    kernel, rate = tf.transpose(kernel, [1, 2, 3, 0]), options.dilationHFactor
    padding = _PADDINGS[options.padding]
    if rate > 1:
        y = atrous.conv2d(x, kernel, rate, padding)
    else:
        y = tf.nn.conv2d(x, kernel, [options.strideH, options.strideW], padding)
    return _ACTIVATIONS[options.fusedActivationFunction](tf.nn.bias_add(y, bias))


def _depthwise(options, x, kernel, bias):
    kernel = tf.reshape(kernel, [*kernel.shape[1:3], x.shape[-1], -1])
    y = tf.nn.depthwise_conv2d(
        x, kernel, [1, options.strideH, options.strideW, 1], _PADDINGS[options.padding],
        dilations=[options.dilationHFactor, options.dilationWFactor])
    return _ACTIVATIONS[options.fusedActivationFunction](tf.nn.bias_add(y, bias))


def _binary(function):
    return lambda options, x, y: _ACTIVATIONS[options.fusedActivationFunction](function(x, y))


def _mean(options, x, axes):
    return tf.reduce_mean(x, axes.tolist(), keepdims=options.keepDims)


def _resize(options, x, size):
    return tf.raw_ops.ResizeBilinear(
        images=x, size=size, align_corners=options.alignCorners,
        half_pixel_centers=options.halfPixelCenters)


def _concatenation(options, *parts):
    return _ACTIVATIONS[options.fusedActivationFunction](tf.concat(parts, options.axis))


def _pool(function):
    def pool(options, x):
        y = function(x, [options.filterHeight, options.filterWidth],
                     [options.strideH, options.strideW], _PADDINGS[options.padding])
        return _ACTIVATIONS[options.fusedActivationFunction](y)
    return pool


def _slice(options, x, begin, end, strides):
    # The file's batch is one image; all of a larger one are taken.
    return tf.strided_slice(x, begin, end, strides, begin_mask=options.beginMask | 1,
                            end_mask=options.endMask | 1,
                            shrink_axis_mask=options.shrinkAxisMask)


_RULES = {
    tflite_graph.CONV: _convolution, tflite_graph.DEPTHWISE: _depthwise,
    _OPERATOR.ADD: _binary(tf.add), _OPERATOR.SUB: _binary(tf.subtract),
    _OPERATOR.MUL: _binary(tf.multiply), _OPERATOR.MEAN: _mean,
    _OPERATOR.RESIZE_BILINEAR: _resize, _OPERATOR.CONCATENATION: _concatenation,
    _OPERATOR.AVERAGE_POOL_2D: _pool(tf.nn.avg_pool2d),
    _OPERATOR.MAX_POOL_2D: _pool(tf.nn.max_pool2d),
    _OPERATOR.PAD: lambda options, x, sides: tf.pad(x, sides),
    _OPERATOR.RELU: lambda options, x: tf.nn.relu(x),
    _OPERATOR.RELU6: lambda options, x: tf.nn.relu6(x),
    _OPERATOR.QUANTIZE: lambda options, x: x, _OPERATOR.DEQUANTIZE: lambda options, x: x,
    _OPERATOR.ADD_N: lambda options, *parts: tf.add_n(parts),
    _OPERATOR.REVERSE_V2: lambda options, x, axes: tf.reverse(x, axes),
    _OPERATOR.STRIDED_SLICE: _slice,
    _OPERATOR.RESHAPE: lambda options, x, shape: tf.reshape(x, [-1, *shape[1:]]),
    _OPERATOR.SPACE_TO_BATCH_ND: lambda options, x, block, sides: tf.space_to_batch(
        x, block, sides),
    _OPERATOR.BATCH_TO_SPACE_ND: lambda options, x, block, crops: tf.batch_to_space(
        x, block, crops),
}
