"""Convolutions and constants of a TFLite file, read in Python.

tf.lite.Interpreter crashes the process (SIGSEGV) on a truncated file; a flatbuffer read in Python
raises at worst. Only what weights need is read: constants, their quantisation, who consumes them.
"""
import dataclasses
import pathlib
import struct
from typing import Optional

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from tf_advseg.core.errors import UserError

TYPES = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.FLOAT16: np.float16,
         schema.TensorType.INT32: np.int32, schema.TensorType.UINT8: np.uint8,
         schema.TensorType.INT8: np.int8, schema.TensorType.INT64: np.int64}
DAMAGE = (struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError,
          MemoryError, UnicodeDecodeError)
# Custom operations that compilers for chips put in the place of a network -> the chip.
COMPILED = {'edgetpu-custom-op': 'an Edge TPU', 'ethos-u': 'an Arm Ethos-U',
            'DISPATCH_OP': 'an NPU', 'mtk-neuron-op': 'a MediaTek NPU'}
OPERATORS = {code: name for name, code in vars(schema.BuiltinOperator).items()
             if not name.startswith('_')}


@dataclasses.dataclass(frozen=True)
class Convolution:
    """One convolution of the file with its folded batch norm.

    Attributes:
      name: of the kernel's tensor.
      depthwise: bool.
      kernel: float32 [kh, kw, in, out], depthwise [kh, kw, channels, 1]: TensorFlow's layout.
      bias: float32 [out].
      source: index of the tensor it reads.
      pooled: whether an average pool made that tensor.
      quantised: whether the file holds the kernel as integers.
      operator: its index among the file's operators.
    """
    name: str
    depthwise: bool
    kernel: np.ndarray
    bias: np.ndarray
    source: int
    pooled: bool = False
    quantised: bool = False
    operator: int = -1


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes:
      convolutions: `Convolution`s in the file's order.
      others: (name, reason) of every other constant.
      custom: names of the operations that are not TFLite's own.
      graph: `Graph` that all this was read from.
    """
    convolutions: tuple
    others: tuple
    custom: tuple = ()
    graph: Optional['Graph'] = None


def read_convolutions(path):
    """Reads a TFLite file's convolutions, dequantised.

    Args:
      path: of a TFLite file, float32, float16, or quantised per tensor or per channel.

    Returns:
      Contents.

    Raises:
      UserError: unreadable, truncated, foreign or compiled for a chip.
    """
    path = pathlib.Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from error
    if data[4:8] != b'TFL3':
        raise UserError(f'{path}: not a TFLite model (no TFL3 mark), or an empty file')
    try:
        graph = Graph(data)
        _require_uncompiled(path, graph.custom)
        return graph.contents()
    except DAMAGE as error:
        raise UserError(f'{path}: a truncated or damaged TFLite model ({len(data)} bytes): '
                        'fetch it again') from error


def _require_uncompiled(path, custom):
    """UserError for a file whose weights lie in the code of a chip."""
    for name in custom:
        if name in COMPILED:
            raise UserError(f'{path}: compiled for {COMPILED[name]}: its weights are inside the '
                            f'operation "{name}", in a form of the chip alone; give the .tflite '
                            'file that it was compiled from')


def _shape(tensor):
    """Sides of a tensor; [] of a scalar."""
    return [int(tensor.Shape(i)) for i in range(tensor.ShapeLength())]


class Graph:
    """The first subgraph of a file.

    Args:
      data: the file as bytes.

    Attributes:
      operators, kinds: schema.Operator and the name of what it does, in the file's order.
      graph: schema.SubGraph.
      custom: see `Contents`.
      producer: index of a tensor -> index of the operator that writes it.
    """

    def __init__(self, data):
        self.model = schema.Model.GetRootAs(data, 0)
        self.graph = self.model.Subgraphs(0)
        lengths = (self.graph.TensorsLength(), self.graph.OperatorsLength(),
                   self.model.BuffersLength(), self.model.OperatorCodesLength())
        if not all(0 < length < len(data) for length in lengths):
            raise ValueError(f'impossible lengths {lengths}')
        codes = [self.model.OperatorCodes(i) for i in range(lengths[3])]
        customs = [(c.CustomCode() or b'?').decode() for c in codes]
        codes = [max(c.BuiltinCode(), c.DeprecatedBuiltinCode()) for c in codes]
        self.custom = tuple(name for name, code in zip(customs, codes)
                            if code == schema.BuiltinOperator.CUSTOM)
        self.operators = [self.graph.Operators(i) for i in range(lengths[1])]
        self.kinds = [OPERATORS[codes[op.OpcodeIndex()]] for op in self.operators]
        self.producer = {int(out): i for i, op in enumerate(self.operators)
                         for out in op.OutputsAsNumpy()}

    def contents(self):
        """See `Contents`."""
        convolutions, used = [], set()
        for index, (operator, kind) in enumerate(zip(self.operators, self.kinds)):
            if kind not in ('CONV_2D', 'DEPTHWISE_CONV_2D'):
                continue
            source, kernel, bias = (int(i) for i in operator.InputsAsNumpy()[:3])
            kernel, bias = self.behind_dequantize(kernel), self.behind_dequantize(bias)
            used.update((kernel, bias))
            # [out, kh, kw, in], depthwise [1, kh, kw, channels]: the same turn serves both.
            convolutions.append(Convolution(
                self.name(kernel), kind.startswith('DEPTHWISE'),
                np.ascontiguousarray(self.value(kernel).transpose(1, 2, 3, 0)), self.value(bias),
                source, self.kinds[self.producer.get(source, 0)] in ('AVERAGE_POOL_2D', 'MEAN'),
                np.dtype(TYPES[self.graph.Tensors(kernel).Type()]).kind != 'f',
                index))
        return Contents(tuple(convolutions), tuple(self.others(used)), self.custom, self)

    def span(self, index):
        """What the least and the largest integer of a tensor stand for; None for other types."""
        tensor = self.graph.Tensors(index)
        quantisation = tensor.Quantization()
        least = {schema.TensorType.UINT8: 0, schema.TensorType.INT8: -128}.get(tensor.Type())
        if least is None or quantisation is None or not quantisation.ScaleLength():
            return None
        scale = float(quantisation.ScaleAsNumpy()[0])
        zero = int(quantisation.ZeroPointAsNumpy()[0]) if quantisation.ZeroPointLength() else 0
        return scale * (least - zero), scale * (least + 255 - zero)

    def size(self, index):
        """(height, width) of a map; None for another tensor, or where it is open."""
        shape = _shape(self.graph.Tensors(index))
        return tuple(shape[1:3]) if len(shape) == 4 and min(shape) > 0 else None

    def is_floating(self, index):
        """Whether a tensor holds floats."""
        return self.graph.Tensors(index).Type() in (schema.TensorType.FLOAT32,
                                                    schema.TensorType.FLOAT16)

    def constant(self, index):
        """A constant as the numbers that it stands for, or None for what an operator writes."""
        index = self.behind_dequantize(index)
        tensor = self.graph.Tensors(index)
        if index in self.producer or not self.model.Buffers(tensor.Buffer()).DataLength():
            return None
        if tensor.Type() in (schema.TensorType.INT32, schema.TensorType.INT64):
            raw = self.model.Buffers(tensor.Buffer()).DataAsNumpy().tobytes()
            return np.frombuffer(raw, TYPES[tensor.Type()]).reshape(_shape(tensor))
        return self.value(index)

    def behind_dequantize(self, index):
        """The constant that a DEQUANTIZE turns into this tensor (float16 files), or the tensor."""
        producer = self.producer.get(index)
        if producer is not None and self.kinds[producer] == 'DEQUANTIZE':
            return int(self.operators[producer].InputsAsNumpy()[0])
        return index

    def others(self, used):
        """(name, reason) of every constant outside `used`."""
        for index in range(self.graph.TensorsLength()):
            buffer = self.model.Buffers(self.graph.Tensors(index).Buffer())
            if index in used or index in self.producer or not buffer.DataLength():
                continue
            takers = sorted({kind for op, kind in zip(self.operators, self.kinds)
                             if index in op.InputsAsNumpy()})
            yield self.name(index), (f'an argument of {", ".join(takers)}, not a weight'
                                     if takers else 'no operation takes it')

    def name(self, index):
        """Tensor's name."""
        return self.graph.Tensors(index).Name().decode()

    def value(self, index):
        """A constant as float32: scale * (q - zero), per tensor or per channel."""
        tensor = self.graph.Tensors(index)
        raw = self.model.Buffers(tensor.Buffer()).DataAsNumpy()
        value = np.frombuffer(raw.tobytes(), TYPES[tensor.Type()]).reshape(_shape(tensor))
        quantisation = tensor.Quantization()
        if quantisation is None or not quantisation.ScaleLength():
            if value.dtype.kind != 'f':
                raise ValueError(f'{self.name(index)}: integers without a scale')
            return value.astype(np.float32)
        scale = quantisation.ScaleAsNumpy().astype(np.float64)
        zero = quantisation.ZeroPointAsNumpy().astype(np.float64)
        if scale.size > 1:
            along = [1] * value.ndim
            along[quantisation.QuantizedDimension()] = -1
            scale, zero = scale.reshape(along), zero.reshape(along)
        return ((value.astype(np.float64) - zero) * scale).astype(np.float32)
