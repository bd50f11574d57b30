"""A TFLite file as a `graph_form.Form`: every operator, with the options that count."""
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from tf_advseg.models.zoo import graph_form, graph_nodes

_AS_THEY_ARE = ('QUANTIZE', 'DEQUANTIZE', 'CAST', 'FAKE_QUANT')
_ARITHMETIC = {'ADD': graph_form.ADD, 'SUB': 'Sub', 'MUL': 'Mul', 'DIV': 'Div'}
_NAMES = {'RELU': 'Relu', 'RELU6': 'Relu6', 'RESIZE_BILINEAR': graph_form.RESIZE,
          'RESIZE_NEAREST_NEIGHBOR': 'ResizeNearestNeighbor', 'CONCATENATION': graph_form.CONCAT,
          'ARG_MAX': graph_form.CHOICE, 'SOFTMAX': 'Softmax', 'SLICE': 'Slice', 'ADD_N': 'Add',
          'RESHAPE': graph_form.SHAPING, 'SQUEEZE': graph_form.SHAPING,
          'EXPAND_DIMS': graph_form.SHAPING, 'STRIDED_SLICE': 'StridedSlice'}
_CONVOLUTIONS = ('CONV_2D', 'DEPTHWISE_CONV_2D')
# Operator -> class of its options -> what of them decides what it computes.
_OPTIONS = {
    'RESIZE_BILINEAR': ('ResizeBilinearOptions', {'align_corners': 'AlignCorners',
                                                  'half_pixel_centers': 'HalfPixelCenters'}),
    'RESIZE_NEAREST_NEIGHBOR': ('ResizeNearestNeighborOptions', {
        'align_corners': 'AlignCorners', 'half_pixel_centers': 'HalfPixelCenters'}),
    'LEAKY_RELU': ('LeakyReluOptions', {'alpha': 'Alpha'}),
    'CONCATENATION': ('ConcatenationOptions', {'axis': 'Axis'}),
    'CONV_2D': ('Conv2DOptions', {}), 'DEPTHWISE_CONV_2D': ('DepthwiseConv2DOptions', {}),
    'MAX_POOL_2D': ('Pool2DOptions', {}), 'AVERAGE_POOL_2D': ('Pool2DOptions', {}),
    'ADD': ('AddOptions', {}), 'SUB': ('SubOptions', {}), 'MUL': ('MulOptions', {}),
    'DIV': ('DivOptions', {})}
_WITH_ACTIVATION = ('CONV_2D', 'DEPTHWISE_CONV_2D', 'MAX_POOL_2D', 'AVERAGE_POOL_2D', 'ADD', 'SUB',
                    'MUL', 'DIV', 'CONCATENATION')
_ACTIVATIONS = {schema.ActivationFunctionType.RELU: 'Relu',
                schema.ActivationFunctionType.TANH: 'Tanh',
                schema.ActivationFunctionType.RELU6: 'Relu6',
                schema.ActivationFunctionType.RELU_N1_TO_1: 'ReluN1To1',
                schema.ActivationFunctionType.SIGN_BIT: 'SignBit'}


def form(graph, scopes):
    """The `graph_form.Form` of a file.

    Args:
      graph: `flatbuffer.Graph`.
      scopes: index of a convolution's operator -> its scope.

    Raises:
      What `flatbuffer.DAMAGE` lists: a damaged file.
    """
    made, keys = {}, {}
    for index, (operator, kind) in enumerate(zip(graph.operators, graph.kinds)):
        operation, fused = _operation(graph, operator, kind), _fused(operator, kind)
        for output in (int(i) for i in operator.OutputsAsNumpy()):
            key = output if fused is None else (output, 'before its activation')
            made[key] = operation
            if fused is not None:
                made[output] = graph_form.Operation(operation.name, fused, (key,),
                                                    span=operation.span)
            if index in scopes:
                keys[key] = scopes[index]
    fed = [int(graph.graph.Inputs(i)) for i in range(graph.graph.InputsLength())]
    for index in fed:
        made.setdefault(index, graph_form.Operation(graph.name(index), 'input'))
    return graph_form.Form(made, keys, fed)


def _operation(graph, operator, kind):
    inputs = [int(i) for i in operator.InputsAsNumpy() if i >= 0]
    output = int(operator.OutputsAsNumpy()[0])
    maps = tuple(i for i in inputs if graph.constant(i) is None)
    name, span = graph.name(output).split(';')[0], graph.span(output)
    settings = _settings(operator, kind)
    before = graph.size(inputs[0]) if inputs else None
    if kind in _CONVOLUTIONS:
        options = _read(operator, kind)
        padding = 'SAME' if options.Padding() == schema.Padding.SAME else ((0, 0), (0, 0))
        return graph_form.Operation(
            name, graph_form.CONVOLUTION, (inputs[0],), {
                'stride': (options.StrideH(), options.StrideW()),
                'rate': (max(options.DilationHFactor(), 1), max(options.DilationWFactor(), 1)),
                'padding': padding}, span=span, size=before)
    if kind in _AS_THEY_ARE or (kind.startswith('RESIZE_') and before == graph.size(output)):
        return graph_form.Operation(name, graph_form.PASSING, maps[:1], span=span, size=before)
    if kind in _ARITHMETIC:
        constants = [graph.constant(i) for i in inputs]
        first = constants[0] is not None
        value = next((one for one in constants if one is not None and one.size <= 3), None)
        return graph_form.Operation(name, _ARITHMETIC[kind], maps, constant=value, first=first,
                                    span=span, size=before)
    kind, settings = _shaped(graph, operator, kind, inputs, settings)
    return graph_form.Operation(name, kind, maps, settings, span=span, size=before)


def _shaped(graph, operator, kind, inputs, settings):
    """(kind, settings) of the operators whose constants or sizes say what they do."""
    if kind in ('MAX_POOL_2D', 'AVERAGE_POOL_2D'):
        options, size = _read(operator, kind), graph.size(inputs[0])
        window = options.FilterHeight(), options.FilterWidth()
        stride = options.StrideH(), options.StrideW()
        padding = 'SAME' if options.Padding() == schema.Padding.SAME else 'VALID'
        if kind.startswith('AVERAGE') and window == size and padding == 'VALID':
            return graph_form.POOL, {'whole': True}
        return graph_nodes.pool({'M': 'MaxPool', 'A': 'AvgPool'}[kind[0]], window, stride, padding)
    if kind == 'MEAN':
        axes = sorted(np.reshape(graph.constant(inputs[1]), -1).tolist())
        return (graph_form.POOL, {'whole': True}) if axes == [1, 2] else (kind, {'axes': axes})
    if kind == 'PAD':
        return graph_form.PAD, {'pads': _pairs(graph.constant(inputs[1])[1:3])}
    if kind in ('SPACE_TO_BATCH_ND', 'BATCH_TO_SPACE_ND'):
        block, pads = graph.constant(inputs[1]), graph.constant(inputs[2])
        return (graph_form.SPLIT if kind.startswith('SPACE') else graph_form.JOIN), {
            'block': tuple(int(i) for i in block),
            'pads': tuple((int(side[0]), None) for side in pads)}
    if kind == 'CONCATENATION':
        axis = settings['axis'] % 4
        return graph_form.CONCAT, {} if axis == 3 else {'axis': axis}
    if kind == 'REVERSE_V2':
        axes = np.reshape(graph.constant(inputs[1]), -1).tolist()
        return (graph_form.REVERSE, {}) if axes in ([3], [-1]) else (kind, {'axes': axes})
    if kind == 'STRIDED_SLICE':
        steps = np.reshape(graph.constant(inputs[3]), -1).tolist()
        if len(steps) > 2 and steps[1] == steps[2] and steps[1] > 1:
            return graph_form.SUBSAMPLE, {'stride': (steps[1], steps[2])}
    return _NAMES.get(kind, kind), settings


def _fused(operator, kind):
    """The activation that an operator ends in, or None."""
    options = _read(operator, kind) if kind in _WITH_ACTIVATION else None
    code = schema.ActivationFunctionType.NONE if options is None else (
        options.FusedActivationFunction())
    return None if code == schema.ActivationFunctionType.NONE else _ACTIVATIONS[code]


def _settings(operator, kind):
    _, wanted = _OPTIONS.get(kind, (None, {}))
    options = _read(operator, kind) if wanted else None
    return {name: getattr(options, method)() if options else 0 for name, method in wanted.items()}


def _read(operator, kind):
    """An operator's options, read as the class that its kind has; None where there are none."""
    table = operator.BuiltinOptions()
    if kind not in _OPTIONS or table is None:
        return None
    options = getattr(schema, _OPTIONS[kind][0])()
    options.Init(table.Bytes, table.Pos)
    return options


def _pairs(sides):
    return tuple(tuple(int(i) for i in side) for side in sides)
