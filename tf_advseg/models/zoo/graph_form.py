"""What a graph computes between its convolutions, in one form for every kind of file.

`graph_nodes` (GraphDef) and `graph_operators` (TFLite) turn each operation into an `Operation`.
`Form` reads from them, for every convolution of a known scope, its stride, rate and padding, and
what it is given: an expression (`Expr`) over other convolutions and the image. Operations that
change no value (Identity, FakeQuant, a cast) are looked through, and so is what belongs to a
convolution: its batch norm, its bias, padding before it, the sandwich of SpaceToBatchND around it.
No operation is run.
"""
import dataclasses
from typing import Any, Mapping, Optional

import numpy as np

CONVOLUTION, IMAGE, POOL, RESIZE = 'Convolution', 'Image', 'average pool', 'ResizeBilinear'
PAD, SPLIT, JOIN, MAX_POOL = 'Pad', 'SpaceToBatchND', 'BatchToSpaceND', 'MaxPool'
SUBSAMPLE = 'every few pixels'
ADD, CONCAT, CHOICE = 'Add', 'Concat', 'ArgMax'
PASSING, SHAPING, NORM = 'Identity', 'Reshape', 'batch norm'
ARITHMETIC = (ADD, 'Sub', 'Mul', 'Div', NORM)
REVERSE = 'reversed channels'
# What may stand between an image and its network: where it lies in the frame and how large it is.
_FRAMING = (PASSING, SHAPING, PAD, RESIZE, 'ResizeNearestNeighbor', 'ResizeBicubic', 'ResizeArea',
            SUBSAMPLE, 'Slice', 'StridedSlice', 'Switch', 'Merge', 'CropAndResize', 'ReverseV2')
_DEEPEST = 150  # nested operations without a convolution; ResNet-101 has 46


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation of a graph.

    Attributes:
      name: of its node or tensor, for people.
      kind: see the names above; the operation's own name for any other.
      data: keys of the inputs that may be maps.
      settings: what decides what it computes, name -> value.
      constant: of arithmetic with a constant, array of 1 or 3 values; None for another constant.
      first: whether the constant is the first operand.
      span: the least and the largest value that integers of its output stand for, or None.
      size: (height, width) of what it is given, or None where that is open.
    """
    name: str
    kind: str
    data: tuple = ()
    settings: Mapping = dataclasses.field(default_factory=dict)
    constant: Any = None
    first: bool = False
    span: Optional[tuple] = None
    size: Optional[tuple] = None


@dataclasses.dataclass(frozen=True, eq=False)
class Expr:
    """What is computed of convolutions and the image, without the convolutions themselves.

    Attributes:
      kind, name, settings, span: as `Operation`; of a convolution the name is its key.
      inputs: `Expr`s.
      scope: of a convolution; the key where it has no scope.
    """
    kind: str
    name: str
    settings: Mapping = dataclasses.field(default_factory=dict)
    inputs: tuple = ()
    scope: str = ''
    span: Optional[tuple] = None

    def text(self):
        """For people."""
        if self.kind in (CONVOLUTION, IMAGE):
            return self.scope or 'the image'
        told = ', '.join(f'{name}={value}' for name, value in self.settings.items())
        return self.kind + (f'({told})' if told else '')


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution where it is used.

    Attributes:
      scope, name: official, and of the node.
      given: `Expr` of its input.
      settings: 'stride', 'rate' (pairs), 'padding' ('SAME', or pixels ((top, bottom), (left,
        right)), of which None is not known), and whatever else a file says.
      size: (height, width) of its input before any padding, or None.
    """
    scope: str
    name: str
    given: Expr
    settings: Mapping
    size: Optional[tuple]


@dataclasses.dataclass(frozen=True)
class Scaling:
    """An image's way to its network: x -> matrix x + offset, x an RGB pixel in 0..255.

    Attributes:
      matrix, offset: [3, 3], [3].
      source: key of what is fed.
      name: of the operation nearest to the network that takes part, or ''.
      foreign: `Operation` that does something else to it, or None.
    """
    matrix: np.ndarray
    offset: np.ndarray
    source: str
    name: str = ''
    foreign: Optional[Operation] = None


class Form:
    """What a graph computes.

    Args:
      operations: key -> `Operation`.
      scopes: key of a convolution -> its scope, in the graph's order.
      images: keys of what is fed.
      owned: function (scope, key of an arithmetic operation) -> whether its constants are the
        batch norm or the bias of that convolution.
    """

    def __init__(self, operations, scopes, images, owned=lambda scope, key: False):
        self.operations, self.scopes, self._owned = operations, scopes, owned
        self._takers = {}
        for key, operation in operations.items():
            for source in operation.data:
                self._takers.setdefault(source, []).append(key)
        convolutions = [key for key, one in operations.items() if one.kind == CONVOLUTION]
        self._features = self._downstream(convolutions)
        self._fed = self._features | self._downstream(images)
        self._made, self._reaches, self._layers = {}, {}, {}

    @property
    def layers(self):
        """Every `Layer`, in the graph's order."""
        return [self.layer(key) for key in self.scopes]

    def _downstream(self, keys):
        """The keys, and those of all that is made of them."""
        found, left = set(keys), list(keys)
        while left:
            for taker in self._takers.get(left.pop(), ()):
                if taker not in found:
                    found.add(taker)
                    left.append(taker)
        return found

    def _data(self, key):
        """Inputs of an operation that carry an image or maps."""
        return [source for source in self.operations[key].data if source in self._fed]

    def layer(self, key):
        """The `Layer` of a convolution's key; None for one without a scope."""
        if key in self.scopes and self._layers.get(key, 0) == 0:
            self._layers[key] = None  # also what convolutions in a circle are told
            self._layers[key] = self._layer(key)
        return self._layers.get(key)

    def _layer(self, key):
        operation = self.operations[key]
        settings, source, size = dict(operation.settings), operation.data[0], operation.size
        pads = ((0, 0), (0, 0))
        while self.operations.get(source) is not None:
            before = self.operations[source]
            if before.kind == SPLIT:
                settings['rate'], pads = before.settings['block'], before.settings['pads']
            elif before.kind == PAD and settings['padding'] != 'SAME':
                pads = _summed(pads, before.settings['pads'])
            elif before.kind != PASSING:
                break
            size = before.size if before.kind != PASSING else size
            source = before.data[0]
        if settings['padding'] != 'SAME':
            settings['padding'] = _summed(settings['padding'], pads)
        return Layer(self.scopes[key], operation.name, self.expr(source), settings, size)

    def expr(self, key, depth=0):
        """`Expr` of an operation's output.

        Raises:
          ValueError: operations that feed themselves, or more of them than a network has.
        """
        if depth > _DEEPEST or self._made.get(key, 0) is None:
            raise ValueError(f'{key}: operations in a circle, or without end')
        if key not in self._made:
            self._made[key] = None
            self._made[key] = self._expr(key, depth)
        return self._made[key]

    def _expr(self, key, depth):
        operation = self.operations[key]
        if key not in self._features:
            return Expr(IMAGE, key)
        if operation.kind == CONVOLUTION:
            return Expr(CONVOLUTION, key, scope=self.scopes.get(key, key), span=operation.span)
        inputs = tuple(self.expr(source, depth + 1) for source in self._data(key))
        first = inputs[0]
        if operation.kind in (PASSING, JOIN) or (
                operation.kind == SHAPING and first.kind == POOL):
            return dataclasses.replace(first, span=operation.span or first.span)
        if operation.kind in ARITHMETIC and len(inputs) == 1:
            if first.kind == CONVOLUTION and self._owned(first.scope, key):
                return first
            return Expr(f'{operation.kind} of a constant', operation.name, inputs=inputs)
        if operation.kind == 'Relu' and first.kind in ('Relu', 'Relu6'):
            return first  # nothing below 0 is left; converters know it, too
        settings = operation.settings
        if operation.kind == RESIZE and (operation.size == (1, 1) or _is_pixel(first, self)):
            settings = {}  # one pixel is spread out alike whatever the corners are
        return Expr(operation.kind, operation.name, settings, inputs, span=operation.span)

    def reach(self, layer):
        """(stride at which a layer is given its map, stride of what it makes), or None.

        The stride is that of the map: the image's size over its own.
        """
        key = id(layer)
        if key not in self._reaches:
            self._reaches[key] = None  # also what convolutions in a circle are told
            before = self._stride(layer.given)
            if before is not None:
                self._reaches[key] = before, before * max(layer.settings['stride'])
        return self._reaches[key]

    def _stride(self, expr):
        if expr.kind == IMAGE:
            return 1
        if expr.kind == CONVOLUTION:
            layer = self.layer(expr.name)
            found = None if layer is None else self.reach(layer)
            return None if found is None else found[1]
        if expr.kind == RESIZE:
            return None
        known = [found for found in map(self._stride, expr.inputs) if found is not None]
        if not known:
            return None
        return known[0] * max(expr.settings.get('stride', (1,)))

    def scaling(self, key):
        """`Scaling` of the image up to an operation's output."""
        matrix, offset, name = np.eye(3), np.zeros(3), ''
        for _ in range(len(self.operations)):
            operation, data = self.operations[key], self._data(key)
            if not data:
                return Scaling(matrix, offset, key, name)
            if operation.kind == REVERSE:
                matrix, name = matrix[:, ::-1], name or operation.name
            elif operation.kind in ARITHMETIC:
                step = _step(operation) if len(data) == 1 else None
                if step is None:
                    return Scaling(matrix, offset, key, name, operation)
                offset = matrix @ (np.ones(3) * step[1]) + offset
                matrix, name = matrix * step[0], name or operation.name
            elif operation.kind not in _FRAMING:
                return Scaling(matrix, offset, key, name, operation)
            key = data[0]
        raise ValueError(f'{key}: operations in a circle')

    def behind(self, scopes):
        """Yields the `Operation`s between the last convolutions and the choice of classes.

        Args:
          scopes: those of the last convolutions.
        """
        left = [key for key, scope in self.scopes.items() if scope in scopes]
        seen = set(left)
        while left:
            for key in self._takers.get(left.pop(), ()):
                operation = self.operations[key]
                if key in seen or operation.kind == CHOICE:
                    continue
                seen.add(key)
                left.append(key)
                scope = self._made_of(key) if operation.kind in ARITHMETIC else None
                if scope is None:
                    yield operation

    def _made_of(self, key):
        """The scope whose bias an arithmetic operation adds, or None."""
        expr = self.expr(key)
        return expr.scope if expr.kind == CONVOLUTION else None


def _step(operation):
    """(factors, summands) of arithmetic with a constant, or None."""
    value, kind = operation.constant, operation.kind
    if value is None or kind == NORM or np.size(value) not in (1, 3):
        return None
    value = np.asarray(value, np.float64).reshape(-1) * np.ones(3)
    if kind == ADD:
        return np.ones(3), value
    if kind == 'Sub':
        return (-np.ones(3), value) if operation.first else (np.ones(3), -value)
    if kind == 'Mul':
        return value, np.zeros(3)
    return None if operation.first or not value.all() else (1 / value, np.zeros(3))


def _summed(one, other):
    """Two paddings after each other; None where one is not known."""
    return tuple(tuple(None if None in pair else sum(pair) for pair in zip(*sides))
                 for sides in zip(one, other))


def _is_pixel(expr, form):
    """Whether a map is one pixel by what makes it: the mean of a map, and layers of that alone."""
    for _ in range(_DEEPEST):
        if expr.kind == POOL:
            return bool(expr.settings.get('whole', False))
        if expr.kind == CONVOLUTION:
            layer = form.layer(expr.name)
            expr = layer.given if layer is not None else None
        elif len(expr.inputs) == 1:
            expr = expr.inputs[0]
        else:
            return False
        if expr is None:
            return False
    return False
