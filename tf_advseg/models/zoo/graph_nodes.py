"""A GraphDef as a `graph_form.Form`: every node's operation, with the attributes that count."""
import numpy as np
import tensorflow as tf

from tf_advseg.models.zoo import graph_form

_SIZES = ('Shape', 'ShapeN', 'Size', 'Rank')  # of these no map is made
_AS_THEY_ARE = ('Identity', 'Cast', 'StopGradient', 'CheckNumerics', 'EnsureShape', 'Snapshot',
                'PlaceholderWithDefault', 'PreventGradient', 'IdentityN')
_ARITHMETIC = {'Add': graph_form.ADD, 'AddV2': graph_form.ADD, 'BiasAdd': graph_form.ADD,
               'BiasAddV1': graph_form.ADD, 'AddN': graph_form.ADD, 'Sub': 'Sub', 'Mul': 'Mul',
               'Div': 'Div', 'RealDiv': 'Div', 'FusedBatchNorm': graph_form.NORM,
               'FusedBatchNormV2': graph_form.NORM, 'FusedBatchNormV3': graph_form.NORM}
_ONE_MAP = ('ResizeBilinear', 'ResizeNearestNeighbor', 'ResizeBicubic', 'ResizeArea', 'Reshape',
            'ExpandDims', 'Squeeze', 'Slice', 'StridedSlice', 'Pad', 'PadV2', 'MirrorPad', 'ArgMax',
            'Mean', 'AvgPool', 'MaxPool', 'SpaceToBatchND', 'BatchToSpaceND', 'Reverse',
            'ReverseV2', 'Switch', 'CropAndResize')  # other inputs are sizes and places
_CONVOLUTIONS = ('Conv2D', 'DepthwiseConv2dNative')
# Operation -> attributes that decide what it computes -> the value where the file is silent.
_ATTRIBUTES = {
    'ResizeBilinear': {'align_corners': False, 'half_pixel_centers': False},
    'ResizeNearestNeighbor': {'align_corners': False, 'half_pixel_centers': False},
    'ResizeBicubic': {'align_corners': False, 'half_pixel_centers': False},
    'LeakyRelu': {'alpha': 0.2}, 'LRN': {'depth_radius': 5, 'bias': 1.0, 'alpha': 1.0,
                                         'beta': 0.5}}
_FLAT = 1 << 16  # numbers of a constant that is looked at


def form(nodes, scopes, images, owned=lambda scope, sources: False):
    """The `graph_form.Form` of a graph.

    Args:
      nodes: name -> NodeDef.
      scopes: name of a convolution's node -> its scope.
      images: names of the nodes that are fed.
      owned: function (scope, names of the constants that an operand is made of) -> whether it is
        part of that convolution's batch norm, or its bias.

    Raises:
      ValueError, KeyError, IndexError, TypeError: a damaged graph.
    """
    reader = _Reader(nodes)
    made = {name: reader.operation(node) for name, node in nodes.items()}

    def belongs(scope, name):
        return owned(scope, set().union(*(reader.sources(i) for i in reader.constants(name))))

    return graph_form.Form(made, scopes, images, belongs)


class _Reader:
    """Args: nodes: name -> NodeDef."""

    def __init__(self, nodes):
        self.nodes, self._sources = nodes, {}

    def operation(self, node):
        """`graph_form.Operation` of a node."""
        op, inputs = node.op, inputs_of(node)
        if op in _SIZES or op == 'Const' or op.startswith('Placeholder') and not inputs:
            return graph_form.Operation(node.name, op)
        if op in _ARITHMETIC:
            return self._arithmetic(node, inputs)
        if op in _CONVOLUTIONS:
            return graph_form.Operation(node.name, graph_form.CONVOLUTION, inputs[:1], {
                'stride': _pair(node, 'strides', 1), 'rate': _pair(node, 'dilations', 1),
                'padding': self._padding(node), **_layout(node)})
        if op in _AS_THEY_ARE or op.startswith('FakeQuant'):
            return graph_form.Operation(node.name, graph_form.PASSING, inputs[:1])
        kind, settings = self._known(node, inputs)
        return graph_form.Operation(node.name, kind, inputs[:1] if op in _ONE_MAP else inputs,
                                    {**settings, **_layout(node)})

    def _known(self, node, inputs):
        """(kind, settings) of the other operations; of unknown ones the name says it all."""
        op = node.op
        settings = {name: _attribute(node, name, default)
                    for name, default in _ATTRIBUTES.get(op, {}).items()}
        if op in ('SpaceToBatchND', 'BatchToSpaceND'):
            return self._sandwich(node, inputs)
        if op in ('Pad', 'PadV2'):
            pads = self._constant(inputs[1])
            pads = None if pads is None else pads[1:3].tolist()
            settings = {'pads': _pairs(pads)}
            if len(inputs) > 2 and np.any(self._constant(inputs[2])):
                settings['value'] = self._constant(inputs[2])
                return 'PadV2', settings
            return graph_form.PAD, settings
        if op in ('Reshape', 'ExpandDims', 'Squeeze'):
            return graph_form.SHAPING, settings
        if op == 'ConcatV2':
            axis = self._constant(inputs[-1])
            axis = None if axis is None else int(axis) % 4
            return graph_form.CONCAT, {} if axis in (3, None) else {'axis': axis}
        if op in ('MaxPool', 'AvgPool'):
            return pool(op, _pair(node, 'ksize', 1), _pair(node, 'strides', 1),
                         _attribute(node, 'padding', b'SAME').decode())
        if op == 'Mean':
            axes = self._constant(inputs[1])
            axes = None if axes is None else sorted(np.reshape(axes, -1).tolist())
            return ((graph_form.POOL, {'whole': True}) if axes in ([1, 2], [-3, -2])
                    else (op, {'axes': axes}))
        if op == 'ReverseV2':
            axes = np.reshape(self._constant(inputs[1]), -1).tolist()
            return (graph_form.REVERSE, {}) if axes in ([3], [-1]) else (op, {'axes': axes})
        if op == 'StridedSlice':
            steps = self._constant(inputs[3])
            steps = [] if steps is None else np.reshape(steps, -1).tolist()
            if len(steps) > 2 and steps[1] == steps[2] and steps[1] > 1:
                return graph_form.SUBSAMPLE, {'stride': (steps[1], steps[2])}
        return op, settings

    def _sandwich(self, node, inputs):
        """The atrous rate of what lies inside, and the padding where it is written down."""
        block, pads = self._constant(inputs[1]), self._constant(inputs[2])
        if block is None or np.size(block) != 2:
            raise ValueError(f'{node.name}: a block of {block}')
        # How much the bottom has beyond the padding is so that the block divides it; in graphs of
        # open sizes the padding is computed, and is not compared.
        known = pads is not None and np.shape(pads) == (2, 2)
        pads = [[int(side[0]), None] for side in pads] if known else [[None] * 2] * 2
        kind = graph_form.SPLIT if node.op == 'SpaceToBatchND' else graph_form.JOIN
        return kind, {'block': tuple(int(side) for side in block), 'pads': _pairs(pads)}

    def _arithmetic(self, node, inputs):
        kind, first = _ARITHMETIC[node.op], False
        value = None
        if kind == graph_form.NORM:
            if _attribute(node, 'is_training', True):
                return graph_form.Operation(node.name, 'batch norm by the batch\'s statistics',
                                            inputs[:1])
            return graph_form.Operation(node.name, kind, inputs)
        if len(inputs) == 2:
            # Official code adds zeros for further channels to a mean colour.
            values = [self._constant(name, 'ConcatV2') for name in inputs]
            first = values[0] is not None
            value = values[0] if first else values[1]
        return graph_form.Operation(node.name, kind, inputs, constant=value, first=first)

    def constants(self, name):
        """Inputs of an arithmetic node that are no maps."""
        inputs = inputs_of(self.nodes[name])
        if len(inputs) > 2:  # a batch norm
            return inputs[1:]
        return [one for one in inputs if self.sources(one)]

    def sources(self, name):
        """Names of the constants that a value is made of; none where anything else is in it."""
        if name not in self._sources:
            found, left, seen = set(), [name], set()
            while left:
                name_of = left.pop()
                if name_of in seen:
                    continue
                seen.add(name_of)
                node = self.nodes[name_of]
                if node.op == 'Const':
                    found.add(name_of)
                elif node.op in _CONVOLUTIONS or node.op.startswith('Placeholder') or (
                        len(seen) > 100):
                    found, left = set(), []
                else:
                    left.extend(inputs_of(node))
            self._sources[name] = found
        return self._sources[name]

    def _constant(self, name, *through):
        """The array behind constants that are cast or reshaped, or None.

        `through` are further operations whose first input is taken.
        """
        for _ in range(8):
            node = self.nodes[name]
            if node.op == 'Const':
                tensor = node.attr['value'].tensor
                count = np.prod([side.size for side in tensor.tensor_shape.dim], dtype=np.float64)
                return tf.make_ndarray(tensor) if count <= _FLAT else None
            if node.op not in (*_AS_THEY_ARE, 'Reshape', 'ExpandDims', 'Squeeze', *through):
                return None
            name = inputs_of(node)[0]
        return None

    def _padding(self, node):
        way = _attribute(node, 'padding', b'SAME')
        if way == b'EXPLICIT':
            sides = list(node.attr['explicit_paddings'].list.i)
            return _pairs([sides[2:4], sides[4:6]])
        return 'SAME' if way == b'SAME' else ((0, 0), (0, 0))


def inputs_of(node):
    """Names of a node's inputs, without '^control' and ':0'."""
    return tuple(name.split(':')[0] for name in node.input if not name.startswith('^'))


def pool(op, window, stride, padding):
    """(kind, settings) of a pool that is not known to cover its whole map."""
    if op == 'AvgPool':
        # A window of stride 1 is that of a crop: `deeplab.DeepLab` has it, too.
        return graph_form.POOL, {'window': window} if (stride, padding) == ((1, 1), 'VALID') else {
            'window': window, 'stride': stride, 'padding': padding}
    if window == (1, 1):
        return graph_form.SUBSAMPLE, {'stride': stride}
    return graph_form.MAX_POOL, {'window': window, 'stride': stride, 'padding': padding}



def _attribute(node, name, default):
    """A plain attribute of the type that its default has."""
    if name not in node.attr:
        return default
    value = node.attr[name]
    for kind, field in ((bool, 'b'), (int, 'i'), (float, 'f'), (bytes, 's')):
        if isinstance(default, kind):
            return getattr(value, field)
    raise TypeError(name)


def _pair(node, name, default):
    """(along the height, along the width) of a list for four axes."""
    values = list(node.attr[name].list.i) if name in node.attr else []
    if not values:
        return default, default
    if len(values) != 4 or (values[0], values[3]) != (1, 1) or min(values) < 1:
        raise ValueError(f'{node.name}: {name} of {values}')
    return int(values[1]), int(values[2])


def _layout(node):
    layout = _attribute(node, 'data_format', b'NHWC')
    return {} if layout == b'NHWC' else {'data_format': layout.decode()}


def _pairs(sides):
    return ((None, None),) * 2 if sides is None else tuple(tuple(side) for side in sides)
