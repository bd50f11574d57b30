"""What a foreign graph computes otherwise than the network of this package: every difference.

The network is traced, without its weights, into the form that the file's graph is brought into
(`graph_form`). Then the two are held against each other: how the image is scaled; stride, rate and
padding of each convolution; what lies between convolutions (activations, sums, resizes, pools);
and what comes behind the last. An output stride of the file's own is none: convolutions that took
no stride have a rate in its place.
"""
import functools

import numpy as np
import tensorflow as tf

from tf_advseg.models import inference, layers
from tf_advseg.models.zoo import assignment, graph_form, graph_nodes

_IMAGE = 'image'
_LEAST_CELLS = 4  # of the maps of the trace, less one: a map of one pixel is not resized
_CLAMPS = {'Relu': np.inf, 'Relu6': 6.0}
_NEAR, _NEAR_QUANTISED = 1e-3, 0.02  # of the span of an image's values, or of integers' range
# Behind the logits: making them larger, probabilities, several scales and flips, a cut-out.
_HARMLESS_BEHIND = (graph_form.PASSING, graph_form.SHAPING, graph_form.ADD, graph_form.CONCAT,
                    'Softmax', 'Slice', 'StridedSlice', 'Mean', 'Max', 'ReverseV2', 'Pack', 'Shape',
                    'Size', 'Rank')
_WAY = {'align_corners': True, 'half_pixel_centers': False}  # `resize.resize_bilinear`


def network_form(segmentor):
    """The `graph_form.Form` of a network of `tf_advseg.models`, traced without its weights."""
    stride = getattr(segmentor, 'output_stride', None) or 8
    crop = getattr(segmentor, 'crop_size', None) or (1, 1)
    crop = (crop, crop) if isinstance(crop, int) else crop
    sides = [max(side, _LEAST_CELLS * stride + 1) for side in crop]
    scopes = {}

    def convolve(layer, x, mode=None):
        del mode
        with tf.name_scope('kernels'):
            kernel = tf.raw_ops.Placeholder(dtype=tf.float32, shape=layer.kernel.shape)
        y = layer._convolve(tf.cast(x, tf.float32), kernel, trained=False)
        scopes[y.op] = layer.scope
        return layers.ACTIVATIONS[layer.activation](y)

    graph = tf.__internal__.FuncGraph('network')
    with graph.as_default(), inference.replaced_calls(segmentor, {layers.Convolution: convolve}):
        image = tf.raw_ops.Placeholder(dtype=tf.float32, shape=[1, *sides, 3], name=_IMAGE)
        segmentor(image, training=False)
    nodes = {node.name: node for node in graph.as_graph_def().node}
    found = {_convolution_behind(nodes, op.name): scope for op, scope in scopes.items()}
    return graph_nodes.form(nodes, found, [image.op.name])


def _convolution_behind(nodes, name):
    """The node that convolves, behind what TensorFlow puts around it for a rate."""
    while not nodes[name].op.startswith(('Conv2D', 'DepthwiseConv2d')):
        name = graph_nodes.inputs_of(nodes[name])[0]
    return name


def conflicts(form, segmentor, bytes_stand_for=None, floats=False):
    """What a file's graph does otherwise than a network.

    Args:
      form: `graph_form.Form` of the file's graph, by the network's scopes.
      segmentor: a network of `tf_advseg.models`.
      bytes_stand_for: what the bytes 0 and 255 of the image are in the graph, where it has 8 bits.
      floats: whether it is fed floats: scaled by whoever feeds it, if the graph does not.

    Yields:
      (what differs, whether the head alone is concerned), see `assignment.Found`.

    Raises:
      ValueError, KeyError, IndexError, TypeError, RecursionError: a damaged graph.
    """
    ours = network_form(segmentor)
    comparison = _Comparison(form, ours, segmentor)
    yield from comparison.images(bytes_stand_for, floats)
    yield from comparison.layers()
    yield from comparison.behind()


class _Comparison:
    """Of the `graph_form.Form` of a file and that of a network."""

    def __init__(self, theirs, ours, segmentor):
        self.theirs, self.ours = theirs, ours
        self._backbone = assignment.backbone_scopes(segmentor)
        self._kernels = {layer.scope: layer.kernel.shape.as_list()[:2]
                         for layer in layers.convolutions(segmentor)}
        self._by_scope = {}
        for layer in ours.layers:
            self._by_scope.setdefault(layer.scope, []).append(layer)
        self._common = {layer.scope for layer in theirs.layers} & set(self._by_scope)
        self._ratio = self._strides()

    def _is_head(self, scope):
        return bool(self._backbone) and scope not in self._backbone

    def _strides(self):
        """(output stride of the file, of the network), by the last map of the backbone."""
        found = []
        for form in (self.theirs, self.ours):
            reached = [form.reach(layer) for layer in form.layers
                       if layer.scope in self._backbone & self._common]
            found.append(max((pair[1] for pair in reached if pair), default=None))
        return None if None in found else tuple(found)

    # The image.

    def images(self, bytes_stand_for, floats):
        """Conflicts of how the image is scaled before the first convolution."""
        places = {(self._source(layer), self._source(other))
                  for layer in self.theirs.layers if layer.scope in self._common
                  for other in self._by_scope[layer.scope]}
        for source, other in sorted(places, key=str):
            if source is not None and other is not None:
                text = self._scaled(self.theirs.scaling(source), self.ours.scaling(other),
                                    bytes_stand_for, floats)
                if text:
                    yield text, False

    @staticmethod
    def _source(layer):
        """Key of the image that a layer is given, or None."""
        return layer.given.name if layer.given.kind == graph_form.IMAGE else None

    def _scaled(self, theirs, ours, bytes_stand_for, floats):
        if ours.foreign is not None:  # more than a scaling: not to be told in three numbers
            return None
        if theirs.foreign is not None:
            return (f'{theirs.foreign.name} ({theirs.foreign.kind}) makes something else of the '
                    'image than the network does')
        if floats and not theirs.name:
            return None
        low, high = bytes_stand_for or (0.0, 255.0)
        matrix = theirs.matrix * ((high - low) / 255.0)
        offset = theirs.matrix @ np.full(3, low) + theirs.offset
        span = 255.0 * np.abs(ours.matrix).max()
        near = (_NEAR if bytes_stand_for is None else _NEAR_QUANTISED) * span
        if (255.0 * np.abs(matrix - ours.matrix).max() <= near
                and np.abs(offset - ours.offset).max() <= near):
            return None
        where = f' by {theirs.name}' if theirs.name else ''
        return (f'its image is scaled{where} to {_colours(matrix, offset)}, the network\'s to '
                f'{_colours(ours.matrix, ours.offset)}')

    # Convolutions, and what they are given.

    def layers(self):
        """Conflicts of each convolution's own attributes and of what lies before it."""
        for layer in self.theirs.layers:
            if layer.scope not in self._common:
                continue
            expected = self._by_scope[layer.scope]
            text = self._attributes(layer, expected[0]) or self._given(layer, expected)
            if text:
                yield text, self._is_head(layer.scope)

    def _attributes(self, layer, ours):
        kernel = self._kernels[layer.scope]
        stride, rate = self._at_their_stride(layer, ours)
        wide = max(kernel) > 1
        rows = [('stride', layer.settings['stride'], stride)]
        if wide:
            rows.append(('atrous rate', layer.settings['rate'], rate))
        rows += [(name, value, 'none') for name, value in layer.settings.items()
                 if name not in ('stride', 'rate', 'padding')]
        for name, value, wanted in rows:
            if value != wanted:
                return (f'{layer.name} has {name} {_told(value)}, {layer.scope} of the network '
                        f'{_told(wanted)}{self._remark()}')
        pads = _pads(layer.settings, kernel, layer.size)
        expected = [_pads({**layer.settings, 'padding': padding}, kernel, layer.size)
                    for padding in self._paddings(layer, ours, kernel)]
        if not any(map(functools.partial(_agree, pads), expected)):
            return (f'{layer.name} has padding {_told(pads)}, {layer.scope} of the network '
                    f'{_told(expected[0])}')
        return None

    def _remark(self):
        """At which output stride our numbers are told, where it is not ours."""
        if self._ratio is None or self._ratio[0] == self._ratio[1]:
            return ''
        return f' at the file\'s output stride of {self._ratio[0]}'

    def _at_their_stride(self, layer, ours):
        """Our layer's (stride, rate) in a network of the file's output stride."""
        theirs, mine = self.theirs.reach(layer), self.ours.reach(ours)
        stride, rate = ours.settings['stride'], ours.settings['rate']
        if None in (self._ratio, theirs, mine) or self._ratio[0] == self._ratio[1]:
            return stride, rate
        # Distances between taps, in pixels of the image, are those of every output stride.
        least = min(self._ratio)
        file_in, file_out = (_clipped(reach, self._ratio[0], least) for reach in theirs)
        our_in, our_out = (_clipped(reach, self._ratio[1], least) for reach in mine)
        spacing = [one * mine[0] for one in rate]
        wanted = tuple(one // theirs[0] if one % theirs[0] == 0 else one for one in spacing)
        same = (file_in, file_out) == (our_in, our_out)
        return (layer.settings['stride'] if same else stride), wanted

    def _paddings(self, layer, ours, kernel):
        """The paddings that our layer may have, the network's own first."""
        found = [ours.settings['padding']]
        if layer.settings['stride'] != ours.settings['stride']:
            # Where a stride came or went: with none, SAME and fixed padding are one.
            edge = [(side - 1) // 2 * rate for side, rate in zip(kernel, layer.settings['rate'])]
            found = ['SAME', tuple((one, one) for one in edge)]
        elif found[0] != 'SAME' and layer.settings['rate'] != ours.settings['rate']:
            found = ['SAME']
        return found

    def _given(self, layer, expected):
        """What lies between other convolutions and this one, if it is not the network's."""
        differences = []
        for ours in expected:
            if not (_scopes(layer.given) | _scopes(ours.given)) <= self._common:
                return None  # of another network: `assignment` says which part is which
            given = ours.given
            if given.kind == graph_form.POOL != layer.given.kind and layer.size == (1, 1):
                given = given.inputs[0]  # the mean of one pixel is that pixel: converters know
            differences.append(difference(layer.given, given))
        if not differences or None in differences:
            return None
        theirs, ours = differences[0]
        where = f'{theirs.name} is ' if theirs.kind not in (
            graph_form.CONVOLUTION, graph_form.IMAGE) else ''
        return (f'before {layer.scope}, {where}{theirs.text()}, where the network has '
                f'{ours.text()}')

    # Logits.

    def behind(self):
        """Conflicts of what is done to the logits."""
        last = {layer.scope for layer in self.ours.layers}
        last -= {scope for layer in self.ours.layers for scope in _scopes(layer.given)}
        for operation in self.theirs.behind(last & self._common):
            if operation.kind == graph_form.RESIZE:
                ways = {**_WAY, **operation.settings}
                if ways != _WAY:
                    yield (f'{operation.name}: ' + assignment.enlarged_otherwise(
                        ways['align_corners'], ways['half_pixel_centers'])), True
            elif operation.kind not in _HARMLESS_BEHIND:
                yield (f'{operation.name} ({operation.kind}) makes something else of the logits '
                       'than the network does'), True


def difference(theirs, ours):
    """The first pair of `graph_form.Expr` that is not the same, outermost first; None for none."""
    return _difference(theirs, ours, {})


def _difference(theirs, ours, known):
    key = id(theirs), id(ours)
    if key not in known:
        known[key] = _compared(theirs, ours, known)
    return known[key]


def _compared(theirs, ours, known):
    if theirs.kind != ours.kind:
        # Where sizes are equal there is nothing to resize; integers can end where ReLU6 does.
        if ours.kind == graph_form.RESIZE or _clamps(theirs.span, ours.kind):
            return _difference(theirs, ours.inputs[0], known)
        return theirs, ours
    if len(theirs.inputs) != len(ours.inputs) or not _same_settings(theirs, ours) or (
            ours.kind == graph_form.CONVOLUTION and theirs.scope != ours.scope):
        return theirs, ours
    found = _first_difference(theirs.inputs, ours.inputs, known)
    if found and ours.kind == graph_form.ADD and _first_difference(
            theirs.inputs[::-1], ours.inputs, known) is None:
        return None
    return found


def _first_difference(theirs, ours, known):
    return next((found for one, other in zip(theirs, ours)
                 if (found := _difference(one, other, known))), None)


def _same_settings(theirs, ours):
    if ours.kind == graph_form.POOL:  # its window is that of a crop, which may be another
        return 'stride' not in theirs.settings
    if ours.kind == graph_form.RESIZE:  # of one pixel: any; of pools of a crop: as the networks do
        return theirs.settings in ({}, ours.settings or _WAY)
    return dict(theirs.settings) == dict(ours.settings)


def _clamps(span, kind):
    """Whether the range of integers does what an activation would."""
    if span is None or kind not in _CLAMPS:
        return False
    low, high = span
    return abs(low) <= _NEAR_QUANTISED * (high - low) and high <= _CLAMPS[kind] * (
        1 + _NEAR_QUANTISED)


def _scopes(expr):
    """Scopes of the convolutions in an expression."""
    found, left, seen = set(), [expr], set()
    while left:
        one = left.pop()
        if id(one) not in seen:
            seen.add(id(one))
            left.extend(one.inputs)
            found |= {one.scope} if one.kind == graph_form.CONVOLUTION else set()
    return found


def _clipped(reach, output_stride, least):
    """A map's stride in a network of a lesser output stride."""
    return min(reach, least) if reach <= output_stride else reach * least // output_stride


def _pads(settings, kernel, size):
    """Padding in pixels, ((top, bottom), (left, right)), or 'SAME' where the size decides."""
    if settings['padding'] != 'SAME':
        return settings['padding']
    found = []
    for axis in range(2):
        stride, extent = settings['stride'][axis], (kernel[axis] - 1) * settings['rate'][axis] + 1
        if stride == 1 or extent == 1:
            total = extent - 1
        elif size is None:
            return 'SAME'
        else:
            total = max((-(-size[axis] // stride) - 1) * stride + extent - size[axis], 0)
        found.append((total // 2, total - total // 2))
    return tuple(found)


def _agree(one, other):
    """Whether two paddings are one, as far as both are known."""
    if 'SAME' in (one, other):
        return one == other
    return all(a == b or None in (a, b) for side, same in zip(one, other)
               for a, b in zip(side, same))


def _told(value):
    if value == 'SAME' or not isinstance(value, tuple):
        return str(value)
    if isinstance(value[0], tuple):
        names = zip(('top', 'bottom', 'left', 'right'), value[0] + value[1])
        return ' '.join(f'{name} {side}' for name, side in names if side is not None)
    return 'x'.join(map(str, value)) if value[0] != value[1] else str(value[0])


def _colours(matrix, offset):
    """The values of black and white for people."""
    # Rounded, and no -0: the factors are float32.
    black, white = (np.round(one, 4) + 0.0 for one in (
        offset, matrix @ np.full(3, 255.0) + offset))
    if np.ptp(black) or np.ptp(white) or not np.allclose(matrix, np.diag(np.diag(matrix))):
        return ', '.join(f'{low:.4g} .. {high:.4g}' for low, high in zip(black, white)) + (
            '' if np.allclose(matrix, np.diag(np.diag(matrix))) else ' in BGR order')
    return f'{black[0]:.3g} .. {white[0]:.3g}'
