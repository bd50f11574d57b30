"""frozen_inference_graph.pb -> arrays under official names, by the graph's structure.

Every convolution is found with its kernel and with what follows it: a batch norm, or the bias that
is left of one that was folded. The fake quantisation of a graph that was trained for 8 bits is
looked through. No node is run, no op is loaded.
"""
import contextlib
import dataclasses
import pathlib

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from tf_advseg.core.errors import UserError
from tf_advseg.models.resize import scale_dimension
from tf_advseg.models.zoo import assignment, graph_comparison, graph_nodes

KIND, QUANTISED_KIND = 'frozen graph', 'quantised frozen graph'
INPUT, OUTPUT = 'ImageTensor', 'SemanticPredictions'

_CONVOLUTIONS = ('Conv2D', 'DepthwiseConv2dNative')
_FUSED = ('FusedBatchNorm', 'FusedBatchNormV2', 'FusedBatchNormV3')
_ADDITIONS = ('BiasAdd', 'BiasAddV1', 'Add', 'AddV2')
_PASSING = ('Identity', 'Cast', 'StopGradient')  # between a constant and what takes it
_SHAPING = ('BatchToSpaceND', 'Identity')  # between a convolution and its batch norm
_FAKE = 'FakeQuant'  # how the names of the operations begin that round as 8 bits would
_LEAVES = ('weights', 'depthwise_weights', 'biases', 'BatchNorm/gamma', 'BatchNorm/beta',
           'BatchNorm/moving_mean', 'BatchNorm/moving_variance')
_DAMAGE = (DecodeError, ValueError, TypeError, KeyError, IndexError, AttributeError, MemoryError,
           OverflowError, UnicodeDecodeError, RecursionError, ZeroDivisionError)


@dataclasses.dataclass(frozen=True)
class Convolution:
    """One convolution of a graph.

    Attributes:
      name: of its node.
      kernel: name of its constant.
      values: leaf of an official name -> name of the constant.
      epsilon: of the batch norm, or None.
      stride, rate: int.
      folded: whether an addition follows and no batch norm.
    """
    name: str
    kernel: str
    values: dict
    epsilon: float
    stride: int
    rate: int
    folded: bool


def load(path):
    """The GraphDef in a file.

    Raises:
      UserError: unreadable, truncated or foreign.
    """
    path = pathlib.Path(path)
    graph = tf.compat.v1.GraphDef()
    try:
        graph.ParseFromString(path.read_bytes())
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from error
    except _DAMAGE as error:
        raise UserError(f'{path}: a truncated or damaged frozen graph, or not one; fetch it '
                        'again') from error
    if not graph.node:
        raise UserError(f'{path}: a graph without nodes, not a frozen inference graph')
    return graph


class Graph:
    """A GraphDef's convolutions and constants.

    Args:
      graph: GraphDef.
    """

    def __init__(self, graph):
        self.nodes = {node.name: node for node in graph.node}
        self.consumers = {}
        for node in graph.node:
            for place, name in enumerate(_inputs(node)):
                self.consumers.setdefault(name, []).append((node, place))

    def constant(self, name):
        """Name of the constant that feeds this input, or None."""
        for _ in range(8):
            node = self.nodes.get(name)
            if node is None or node.op == 'Const':
                return name if node is not None else None
            if not _passes(node) or not _inputs(node):
                return None
            name = _inputs(node)[0]
        return None

    def kernel(self, name):
        """(name of the constant behind a kernel's input or None, whether it is scaled on the way).

        Training for 8 bits multiplies kernels with their batch norm before it rounds them.
        """
        plain = self.constant(name)
        if plain is not None:
            return plain, False
        for _ in range(8):
            node = self.nodes.get(name)
            if node is None or node.op != 'Mul':
                if node is None or not _passes(node) or not _inputs(node):
                    return None, False
                name = _inputs(node)[0]
                continue
            factors = [self.constant(factor) for factor in _inputs(node)]
            kernels = [f for f in factors if f and f.endswith(_LEAVES[:2])]
            return (kernels[0], True) if len(kernels) == 1 else (None, False)
        return None, False

    @property
    def quantised(self):
        """Whether it rounds as 8 bits would."""
        return any(node.op.startswith(_FAKE) for node in self.nodes.values())

    def value(self, name):
        """A constant's array, or None where it is no float."""
        tensor = self.nodes[name].attr['value'].tensor
        if not tf.as_dtype(tensor.dtype).is_floating:
            return None
        size = int(np.prod([side.size for side in tensor.tensor_shape.dim], dtype=np.float64))
        if size > 1 << 28:  # one number can stand for any shape
            raise ValueError(f'{name}: {size} values')
        return np.asarray(tf.make_ndarray(tensor), np.float32)

    def floats(self):
        """Names of all float constants."""
        return [name for name, node in self.nodes.items() if node.op == 'Const'
                and tf.as_dtype(node.attr['dtype'].type).is_floating]

    def convolutions(self):
        """Every `Convolution` whose kernel is a constant, in the graph's order."""
        return [self._convolution(node) for node in self.nodes.values()
                if node.op in _CONVOLUTIONS and self.kernel(_inputs(node)[1])[0]]

    def _convolution(self, node):
        kernel, scaled = self.kernel(_inputs(node)[1])
        values = {'depthwise_weights' if node.op.startswith('Depthwise') else 'weights': kernel}
        # Beside a scaled kernel its batch norm is spelt out: those constants have their names.
        follower, place = (None, 0) if scaled else self._follower(node.name)
        epsilon = None
        if follower is not None and follower.op in _FUSED and place == 0:
            names = [self.constant(name) for name in _inputs(follower)[1:5]]
            values.update(zip(_LEAVES[3:], names))
            epsilon = follower.attr['epsilon'].f
        elif follower is not None and follower.op in _ADDITIONS:
            values['biases'] = self.constant(_inputs(follower)[1 - place])
        values = {leaf: name for leaf, name in values.items() if name is not None}
        return Convolution(node.name, kernel, values, epsilon, int(node.attr['strides'].list.i[1]),
                           self._rate(node), 'biases' in values)

    def _follower(self, name):
        """The (node, place of its input) that makes something of a convolution's output."""
        for _ in range(4):
            users = self.consumers.get(name, ())
            for node, place in users:
                if node.op in _FUSED or (node.op in _ADDITIONS and self.constant(
                        _inputs(node)[1 - place])):
                    return node, place
            passing = [node for node, place in users if place == 0 and (
                node.op in _SHAPING or node.op.startswith(_FAKE))]
            if not passing:
                break
            name = passing[0].name
        return None, 0

    def _rate(self, node):
        """The atrous rate: of a SpaceToBatchND before the convolution, else its dilations."""
        before = self.nodes.get(_inputs(node)[0])
        if before is not None and before.op == 'SpaceToBatchND':
            block = self.constant(_inputs(before)[1])
            if block is not None:
                return int(tf.make_ndarray(self.nodes[block].attr['value'].tensor).reshape(-1)[0])
        dilations = list(node.attr['dilations'].list.i)
        return int(dilations[1]) if len(dilations) == 4 else 1


def read(path, segmentor):
    """Reads a frozen graph for a network, batch norm present or folded.

    Args:
      path: of the .pb.
      segmentor: a network of `tf_advseg.models`.

    Returns:
      assignment.Found.

    Raises:
      UserError: damaged or foreign; two convolutions of one name with different kernels.
    """
    ours = assignment.official_layers(path, segmentor)
    definition = load(path)
    with _damage(path):
        return _read(path, Graph(definition), ours, segmentor)


def _read(path, graph, ours, segmentor):
    convolutions = _scoped(graph, list(ours))
    by_scope = _by_scope(path, convolutions)
    arrays, origins, epsilons, used = {}, {}, _spelt_epsilons(graph), set()
    for scope, convolution in by_scope.items():
        layer = ours.get(scope)
        values = {leaf: graph.value(name) for leaf, name in convolution.values.items()}
        used.update(convolution.values.values())
        if layer is not None and layer.norm is not None and convolution.folded:
            kernel = values.get('depthwise_weights', values.get('weights'))
            named = assignment.unfolded(layer, kernel, values['biases'])
        else:
            named = {f'{scope}/{leaf}': value for leaf, value in values.items()}
        arrays.update(named)
        origins.update({name: convolution.values.get(name[len(scope) + 1:], convolution.kernel)
                        for name in named})
        if convolution.epsilon is not None:
            epsilons[scope] = convolution.epsilon
    for name in graph.floats():  # batch norm spelt out in multiplications still has its names
        plain = name.split(':')[0]
        if scope_of_variable(plain) in ours and plain not in arrays and name not in used:
            arrays[plain] = graph.value(name)
            used.add(name)
    unused = tuple((name, assignment.training_leftover(name)
                    or 'an argument of the graph, not a weight')
                   for name in graph.floats() if name not in used)
    return assignment.Found(QUANTISED_KIND if graph.quantised else KIND, arrays, origins, unused,
                            epsilons, conflicts=_conflicts(graph, convolutions, segmentor),
                            remarks=tuple(_remarks(path, graph, segmentor)))


def _conflicts(graph, found, segmentor):
    """See `graph_comparison.conflicts`.

    Args:
      found: (scope, `Convolution`)s.
    """
    constants = {}
    for scope, convolution in found:
        constants.setdefault(scope, set()).update(convolution.values.values())

    def owned(scope, sources):
        return any(name in constants.get(scope, ()) or scope_of_variable(name) == scope
                   for name in sources)

    images = [node for node in graph.nodes.values() if node.op.startswith('Placeholder')]
    form = graph_nodes.form(graph.nodes, {one.name: scope for scope, one in found},
                            [node.name for node in images], owned)
    floats = all(tf.as_dtype(node.attr['dtype'].type).is_floating for node in images)
    return tuple(graph_comparison.conflicts(form, segmentor, floats=floats))


def _remarks(path, graph, segmentor):
    """See `assignment.ImportReport`: the crop that the window of image pooling stands for."""
    window, crop = pooling_window(path, graph), getattr(segmentor, 'crop_size', None)
    if window is not None and (crop is None or window not in [
            tuple(scale_dimension(side, 1.0 / stride) for side in crop) for stride in (8, 16, 32)]):
        yield (f'its image pooling has a window of {window[0]}x{window[1]} cells; the network\'s is '
               f'that of crop_size={crop}: on larger images they differ')


def _spelt_epsilons(graph):
    """dict: scope -> epsilon of each batch norm that is written as rsqrt(variance + epsilon)."""
    found = {}
    for node in graph.nodes.values():
        before = graph.nodes.get(_inputs(node)[0]) if node.op == 'Rsqrt' else None
        if before is not None and before.op in _ADDITIONS:
            variance, epsilon = (graph.constant(name) for name in _inputs(before))
            scope = scope_of_variable(variance or '')
            if scope is not None and epsilon is not None:
                found[scope] = float(np.reshape(graph.value(epsilon), -1)[0])
    return found


def scope_of_variable(name):
    """The scope of an official variable's name, or None for another name."""
    for leaf in _LEAVES:
        if name.endswith('/' + leaf):
            return name[:-len(leaf) - 1]
    return None


def _scoped(graph, scopes):
    """(scope, `Convolution`) of every convolution; of one that is run at several sizes several."""
    return [(scope_of_variable(one.kernel) or assignment.scope_of(one.kernel, scopes)
             or assignment.scope_of(one.name, scopes) or one.name, one)
            for one in graph.convolutions()]


def _by_scope(path, convolutions):
    """dict: scope -> the first `Convolution` of those that `_scoped` finds.

    UserError where two of a scope have different kernels.
    """
    found = {}
    for scope, convolution in convolutions:
        other = found.setdefault(scope, convolution)
        if other.kernel != convolution.kernel:
            raise UserError(f'{path}: two kernels claim {scope}: {other.kernel} and '
                            f'{convolution.kernel}')
    return found


def geometry(path, graph, scopes):
    """(stride, rate) of each of our layers in a graph, by official scope.

    Args:
      path: for messages.
      graph: `Graph`.
      scopes: official scopes.

    Returns:
      dict: scope -> (stride, rate).

    Raises:
      UserError: damaged; two convolutions of one name with different kernels.
    """
    with _damage(path):
        return {scope: (convolution.stride, convolution.rate)
                for scope, convolution in _by_scope(path, _scoped(graph, scopes)).items()}


def pooling_window(path, graph):
    """(height, width) of the graph's average pool in pixels of its map, or None.

    Raises:
      UserError: damaged.
    """
    with _damage(path):
        windows = {tuple(node.attr['ksize'].list.i[1:3]) for node in graph.nodes.values()
                   if node.op == 'AvgPool'}
        if any(len(window) != 2 or min(window) < 1 for window in windows):
            raise ValueError(f'a pool of {windows}')
        return windows.pop() if len(windows) == 1 else None


@contextlib.contextmanager
def _damage(path):
    """What nodes without their inputs or attributes raise, as one line."""
    try:
        yield
    except _DAMAGE as error:
        raise UserError(f'{path}: a damaged frozen graph ({error}); fetch it again') from error


def _passes(node):
    """Whether a node hands on the value of its first input, but for rounding."""
    return node.op in _PASSING or node.op.startswith(_FAKE)


def _inputs(node):
    """Names of a node's inputs, without '^control' and ':0'."""
    return [name.split(':')[0] for name in node.input if not name.startswith('^')]
