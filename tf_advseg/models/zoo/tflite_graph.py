"""A TFLite file whose constants can be changed, and that can be run one operation at a time."""
import copy

import flatbuffers
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from tf_advseg.models.zoo import tflite_runtime

_MAGIC = b'TFL3'
CONV = schema.BuiltinOperator.CONV_2D
DEPTHWISE = schema.BuiltinOperator.DEPTHWISE_CONV_2D
_INT8, _UINT8 = schema.TensorType.INT8, schema.TensorType.UINT8
_NUMPY = {schema.TensorType.FLOAT32: np.float32, _INT8: np.int8, _UINT8: np.uint8,
          schema.TensorType.INT32: np.int32}


class Graph:
    """The first subgraph of a file.

    Args:
      content: the file as bytes.

    Attributes:
      operators: in the order in which they run; each has `inputs` and `outputs`, numbers of
        tensors.
      inputs: numbers of the tensors that are fed.
    """

    def __init__(self, content):
        self._model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
        self._graph = self._model.subgraphs[0]
        self.operators, self.inputs = self._graph.operators, list(self._graph.inputs)
        self._unshare()

    def _unshare(self):
        """Gives each convolution its own kernel and bias: the converter merges equal ones."""
        taken = set()
        for operator in filter(self.is_convolution, self.operators):
            for place in (1, 2):
                tensor = operator.inputs[place]
                buffer = self._graph.tensors[tensor].buffer
                if tensor in taken or buffer in {self._graph.tensors[i].buffer for i in taken}:
                    copied = copy.deepcopy(self._graph.tensors[tensor])
                    self._model.buffers.append(copy.copy(self._model.buffers[buffer]))
                    copied.buffer = len(self._model.buffers) - 1
                    self._graph.tensors.append(copied)
                    tensor = len(self._graph.tensors) - 1
                    operator.inputs = [*operator.inputs[:place], tensor,
                                       *operator.inputs[place + 1:]]
                taken.add(tensor)

    def content(self):
        """The file as bytes."""
        return _packed(self._model)

    def code(self, operator):
        """What an operator does, a value of `schema.BuiltinOperator`."""
        found = self._model.operatorCodes[operator.opcodeIndex]
        return max(found.builtinCode, found.deprecatedBuiltinCode)

    def is_convolution(self, operator):
        """Whether it is a convolution with a bias."""
        return self.code(operator) in (CONV, DEPTHWISE) and len(operator.inputs) == 3 and (
            operator.inputs[2] >= 0)

    def clips(self, operator):
        """Whether a convolution ends in an activation (ReLU, ReLU6, …)."""
        return bool(operator.builtinOptions.fusedActivationFunction)

    def name(self, tensor):
        """A tensor's name."""
        return self._graph.tensors[tensor].name.decode('utf-8', 'replace')

    def has_range(self, tensor):
        """Whether calibration gave it a least and a largest value."""
        quantization = self._graph.tensors[tensor].quantization
        return quantization is not None and quantization.min is not None and bool(
            len(quantization.min))

    def with_ranges(self):
        """Numbers of the tensors that have them."""
        return [i for i in range(len(self._graph.tensors)) if self.has_range(i)]

    def set_range(self, tensor, least, largest):
        """Gives a tensor the range that its eight bits are to cover."""
        quantization = self._graph.tensors[tensor].quantization
        quantization.min = np.array([least], np.float32)
        quantization.max = np.array([largest], np.float32)

    def scale(self, tensor):
        """float64 [1 or channels]: what a step of the integers is worth."""
        return np.asarray(self._graph.tensors[tensor].quantization.scale, np.float64)

    def constant(self, tensor):
        """A constant tensor as an array, which is a copy."""
        described = self._graph.tensors[tensor]
        data = self._model.buffers[described.buffer].data
        return np.frombuffer(bytes(data), _NUMPY[described.type]).reshape(described.shape).copy()

    def set_constant(self, tensor, value):
        """Replaces the values of a constant tensor."""
        described = self._graph.tensors[tensor]
        value = np.ascontiguousarray(value, _NUMPY[described.type])
        self._model.buffers[described.buffer].data = np.frombuffer(value.tobytes(), np.uint8)

    def as_numbers(self, tensor, value):
        """float32: what an array of a tensor's type stands for."""
        if value.dtype.kind == 'f':
            return value
        quantization = self._graph.tensors[tensor].quantization
        scale, zero = np.float32(quantization.scale[0]), int(quantization.zeroPoint[0])
        return (value.astype(np.float32) - zero) * scale

    def is_eight_bits(self, tensor):
        """Whether a tensor holds integers of eight bits."""
        return self._graph.tensors[tensor].type in (_INT8, _UINT8)

    def limits(self, tensor):
        """(least, largest) float that a tensor of int8 with one scale can stand for."""
        quantization = self._graph.tensors[tensor].quantization
        scale, zero = float(quantization.scale[0]), int(quantization.zeroPoint[0])
        return scale * (-128 - zero), scale * (127 - zero)

    def runner(self, outputs):
        """A function of the fed image that returns the arrays of any tensors.

        Args:
          outputs: numbers of tensors that operators write.

        Returns:
          Function of an array -> list of arrays.
        """
        model = copy.copy(self._model)
        graph = copy.copy(self._graph)
        # As outputs no two of them share memory, which an addition and its summand may do.
        graph.outputs = list(outputs)
        model.subgraphs, model.signatureDefs = [graph], []
        made = tflite_runtime.interpreter(_packed(model), delegates=False)
        fed = made.get_input_details()[0]['index']

        def run(image):
            made.set_tensor(fed, image)
            made.invoke()
            return [made.get_tensor(i) for i in outputs]
        return run

    def bytes_of(self, tensor):
        """How large a float tensor is."""
        return 4 * int(np.prod(self._graph.tensors[tensor].shape))

    def fed_to(self, operator):
        """Numbers of an operator's inputs that are no constants."""
        return [i for i in dict.fromkeys(operator.inputs) if i >= 0 and not self._is_constant(i)]

    def _is_constant(self, tensor):
        data = self._model.buffers[self._graph.tensors[tensor].buffer].data
        return data is not None and len(data) > 0

    def single(self, operator):
        """A function that runs one operator.

        Args:
          operator: of `operators`.

        Returns:
          Function of a list of arrays, in the order of `fed_to` -> list of arrays, its outputs.
        """
        places, graph = {}, schema.SubGraphT()
        model = schema.ModelT()
        model.version, model.operatorCodes = self._model.version, self._model.operatorCodes
        model.subgraphs, model.buffers = [graph], [schema.BufferT()]
        graph.tensors, graph.name = [], b'main'
        for i in (*operator.inputs, *operator.outputs):
            if i < 0 or i in places:
                continue
            tensor = copy.copy(self._graph.tensors[i])
            if self._is_constant(i):
                model.buffers.append(self._model.buffers[tensor.buffer])
            tensor.buffer = len(model.buffers) - 1 if self._is_constant(i) else 0
            places[i] = len(graph.tensors)
            graph.tensors.append(tensor)
        alone = copy.copy(operator)
        alone.inputs = [places.get(i, -1) for i in operator.inputs]
        alone.outputs = [places[i] for i in operator.outputs]
        graph.operators, graph.outputs = [alone], alone.outputs
        graph.inputs = [places[i] for i in self.fed_to(operator)]
        made = tflite_runtime.interpreter(_packed(model))
        fed = [detail['index'] for detail in made.get_input_details()]
        read = [detail['index'] for detail in made.get_output_details()]

        def run(values):
            for index, value in zip(fed, values):
                made.set_tensor(index, value)
            made.invoke()
            return [made.get_tensor(index) for index in read]
        return run


def _packed(model):
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), _MAGIC)
    return bytes(builder.Output())
