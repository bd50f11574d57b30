"""How well a network agrees with a published graph of the same weights, run by TensorFlow itself.

A frozen graph is imported and fed an image; a TFLite file is run by its interpreter; both only if
all their operations are known to do nothing but compute (`harmless`). The network is compared at
the graph's own output stride and crop, which are read off the graph.
"""
import dataclasses
import pathlib
from typing import Optional

import numpy as np
import tensorflow as tf
from PIL import Image

from tf_advseg.core.errors import UserError
from tf_advseg.models import layers
from tf_advseg.models.resize import resize_bilinear
from tf_advseg.models.zoo import flatbuffer, frozen_graph, harmless

MARGIN = 1e-2  # where a network's two best classes are nearer, rounding decides
FLOAT_AGREEMENT, QUANTISED_AGREEMENT = 0.999, 0.98
LOGITS_TOLERANCE = 1e-3  # of the largest |logit|
_LOGITS = ('logits/semantic/BiasAdd', 'logits/semantic/add', 'logits/semantic/Add',
           'logits/semantic/AddV2')
_USUAL_SIZE = 513
_CELLS, _GRAINS = (3, 7, 17, 40, 90), 20  # of `hard_image`, a side; from how many on with edges


class CannotCompareError(UserError):
    """A sound graph that is of another form than what can be compared here: there is no proof."""


@dataclasses.dataclass(frozen=True)
class Parity:
    """Agreement of a network with a graph on one image.

    Attributes:
      reference: path of the graph.
      kind: 'frozen graph' or 'TFLite model', and 'quantised' before it where it rounds to 8 bits.
      size: (height, width) of the image.
      output_stride: at which both ran.
      agreement: share of equal classes among all pixels.
      clear_agreement: the same where our two best classes differ by more than MARGIN.
      clear_share: share of such pixels.
      max_delta: max |logits difference|, or None where the graph gives no logits.
      max_logit: max |logit| of the graph, or None.
    """
    reference: str
    kind: str
    size: tuple
    output_stride: int
    agreement: float
    clear_agreement: float
    clear_share: float
    max_delta: Optional[float] = None
    max_logit: Optional[float] = None

    @property
    def good(self):
        """Whether classes, and logits where there are some, agree as this kind of graph allows."""
        return self.clear_agreement >= self._required() and (
            not self._bounds_logits() or self.max_delta <= LOGITS_TOLERANCE * self.max_logit)

    def expected(self):
        """What makes it good, for people."""
        logits = (f', and logits within {LOGITS_TOLERANCE:g} of the largest'
                  if self._bounds_logits() else '')
        return f'the same class at {100 * self._required():g} % of the clear pixels{logits}'

    def _quantised(self):
        return self.kind.startswith('quantised')

    def _required(self):
        return QUANTISED_AGREEMENT if self._quantised() else FLOAT_AGREEMENT

    def _bounds_logits(self):
        return self.max_delta is not None and not self._quantised()

    def text(self):
        """One line for people."""
        logits = 'gives no logits'
        if self.max_delta is not None:
            logits = f'max |logits difference| {self.max_delta:.2e} at logits up to ' \
                     f'{self.max_logit:.3g}'
        return (f'{self.reference} ({self.kind}, stride {self.output_stride}, '
                f'{self.size[0]}x{self.size[1]}): {logits}; same class at '
                f'{100 * self.agreement:.3f} % of the pixels, {100 * self.clear_agreement:.3f} % '
                f'where the choice is clear ({100 * self.clear_share:.1f} %)')


def synthetic_image(height, width):
    """uint8 [height, width, 3]: blocks of colour with shading, the same on every machine."""
    rows, columns = np.mgrid[:height, :width]
    block = (rows * 9 // height) * 31 + (columns * 9 // width) * 17
    channels = [(block * factor + rows * 3 // 2 % 24 + columns * 5 // 4 % 24) % 256
                for factor in (7, 11, 13)]
    return np.stack(channels, -1).astype(np.uint8)


def hard_image(height, width):
    """uint8 [height, width, 3]: clouds with grains of every size, the same on every machine.

    Networks see more classes in it, with finer borders, than in `synthetic_image`: what is made
    larger in another way differs here at one pixel in twelve, and there at one in two hundred.
    """
    random, total = np.random.default_rng(0), np.zeros((height, width, 3))
    for cells in _CELLS:
        cloud = Image.fromarray(random.integers(0, 256, (cells, cells, 3)).astype(np.uint8))
        way = Image.BICUBIC if cells < _GRAINS else Image.NEAREST
        total += np.asarray(cloud.resize((width, height), way), np.float64) / cells ** 0.5
    total -= total.min()
    return (total * (255.0 / max(total.max(), 1.0))).astype(np.uint8)


def compare(path, build, image=None):
    """Runs a graph and the network on one image.

    Args:
      path: a frozen graph (.pb) or a TFLite file.
      build: function (output_stride, crop_size) -> the network with the imported weights.
      image: uint8 [h, w, 3] RGB, brought to the graph's size; None is `hard_image`.

    Returns:
      Parity.

    Raises:
      CannotCompareError: the graph has other outputs, or no output stride gives its layers.
      UserError: it is damaged, or has operations that do more than compute; it was not run.
    """
    path = pathlib.Path(path)
    if path.suffix == '.tflite':
        return _compare_tflite(path, build, image)
    return _compare_frozen(path, build, image)


def _compare_frozen(path, build, image):
    definition = frozen_graph.load(path)
    harmless.require_harmless(path, definition)
    graph = frozen_graph.Graph(definition)
    for name in (frozen_graph.INPUT, frozen_graph.OUTPUT):
        if name not in graph.nodes:
            raise CannotCompareError(f'{path}: has no node {name}: not an inference graph of the '
                                     'official export; it cannot be run for comparison')
    window = frozen_graph.pooling_window(path, graph)

    def crop(stride):
        return None if window is None else tuple((side - 1) * stride + 1 for side in window)

    segmentor = _at_stride(path, build, crop, frozen_graph.geometry(
        path, graph, [layer.scope for layer in layers.convolutions(build(16, None))]))
    size = segmentor.crop_size or (_USUAL_SIZE, _USUAL_SIZE)
    image = _fitted(image, size)
    logits_name = next((name for name in _LOGITS if name in graph.nodes), None)
    classes, logits = _run_frozen(path, definition, image, logits_name)
    kind = frozen_graph.QUANTISED_KIND if graph.quantised else frozen_graph.KIND
    return _parity(path, kind, segmentor, image, classes, logits)


def _at_stride(path, build, crop, geometry):
    """The network at the output stride whose strides and rates are the graph's."""
    for stride in (16, 8, 32):
        segmentor = build(stride, crop(stride))
        ours = {layer.scope: (layer.stride, layer.rate)
                for layer in layers.convolutions(segmentor)}
        # A 1x1 kernel has no rate to speak of.
        wide = [layer.scope for layer in layers.convolutions(segmentor)
                if layer.kernel.shape[0] > 1]
        if all(geometry.get(scope) == ours[scope] for scope in wide):
            return segmentor
    raise CannotCompareError(f'{path}: its strides and atrous rates are those of this network at '
                             'no output stride (32, 16, 8); it cannot be run for comparison')


def _run_frozen(path, definition, image, logits_name):
    """(classes int [h, w], logits [h', w', C] or None)."""
    fetches = [f'{frozen_graph.OUTPUT}:0'] + ([f'{logits_name}:0'] if logits_name else [])
    try:
        wrapped = tf.compat.v1.wrap_function(
            lambda: tf.compat.v1.import_graph_def(definition, name=''), [])
        run = wrapped.prune(f'{frozen_graph.INPUT}:0', fetches)
        feed = tf.constant(image[None], wrapped.graph.get_tensor_by_name(
            f'{frozen_graph.INPUT}:0').dtype)
        outputs = [output.numpy() for output in run(feed)]
    except (tf.errors.OpError, ValueError, KeyError, TypeError) as error:
        first = (str(error).strip().splitlines() or [''])[0][:200]
        raise CannotCompareError(f'{path}: TensorFlow cannot run this graph ({first})') from error
    return np.squeeze(outputs[0]), outputs[1][0] if len(outputs) > 1 else None


def _compare_tflite(path, build, image):
    # A damaged file crashes the interpreter's process: it is read in Python first.
    contents = flatbuffer.read_convolutions(path)
    if contents.custom:  # TensorFlow's own come in this guise, those that write files, too
        raise UserError(f'{path}: not run: has the custom operation {contents.custom[0]}, which '
                        'may do more than compute; import without running the graph')
    # The delegate of the default resolver announces itself on stderr.
    interpreter = tf.lite.Interpreter(
        model_content=pathlib.Path(path).read_bytes(), experimental_op_resolver_type=(
            tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES))
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()[0]
    size = tuple(int(side) for side in details['shape'][1:3])
    # By the kernels: our float files take bytes, too.
    quantised = any(convolution.quantised for convolution in contents.convolutions)
    image = _fitted(image, size)
    feed = image
    if details['dtype'] == np.float32:
        feed = image.astype(np.float32) * np.float32(2 / 255) - 1
    elif details['dtype'] == np.int8:
        feed = (image.astype(np.int16) - 128).astype(np.int8)
    interpreter.set_tensor(details['index'], feed[None])
    interpreter.invoke()
    output = interpreter.get_tensor(interpreter.get_output_details()[0]['index'])[0]
    kind = 'quantised TFLite model' if quantised else 'TFLite model'
    stride = _tflite_stride(path, interpreter, contents, size)
    segmentor = build(stride, size)
    classes = output.argmax(-1) if output.ndim == 3 else output
    logits = output if output.ndim == 3 and not quantised else None
    return _parity(path, kind, segmentor, image, classes, logits)


def _tflite_stride(path, interpreter, contents, size):
    """The output stride: size of the image over that of the map aspp0 reads."""
    heads = [c for c in contents.convolutions if 'aspp0/' in c.name] or contents.convolutions[-3:]
    shapes = {d['index']: d['shape'] for d in interpreter.get_tensor_details()}
    height = int(shapes[heads[0].source][1])
    for stride in (16, 8, 32):
        if (size[0] - 1) // stride + 1 == height:
            return stride
    raise CannotCompareError(f'{path}: no output stride of 32, 16 or 8 gives maps of {height} rows '
                             f'from {size[0]}')


def _parity(path, kind, segmentor, image, classes, logits):
    ours = segmentor(image[None].astype(np.float32)).numpy()
    size = image.shape[:2]
    upsampled = resize_bilinear(ours, size).numpy()[0]
    if classes.shape != size:
        raise CannotCompareError(f'{path}: gives a map of {classes.shape} for an image of {size}; '
                                 'it cannot be compared')
    equal = upsampled.argmax(-1) == classes
    best = np.partition(upsampled, -2, -1) if upsampled.shape[-1] > 1 else None
    clear = np.ones(size, bool) if best is None else best[..., -1] - best[..., -2] > MARGIN
    delta = largest = None
    same = next((x for x in (ours[0], upsampled) if logits is not None
                 and x.shape == logits.shape), None)
    if same is not None:
        delta, largest = float(np.abs(logits - same).max()), float(np.abs(logits).max())
    return Parity(str(path), kind, size, segmentor.output_stride, float(equal.mean()),
                  float(equal[clear].mean()) if clear.any() else 1.0, float(clear.mean()), delta,
                  largest)


def _fitted(image, size):
    """The image at a graph's size: resized to fit, padded at the bottom and right with 127."""
    if image is None:
        return hard_image(*size)
    scale = min(size[0] / image.shape[0], size[1] / image.shape[1])
    height, width = (max(1, min(limit, round(side * scale)))
                     for limit, side in zip(size, image.shape[:2]))
    resized = np.asarray(Image.fromarray(image).resize((width, height), Image.BILINEAR))
    padded = np.full((*size, 3), 127, np.uint8)
    padded[:height, :width] = resized
    return padded
