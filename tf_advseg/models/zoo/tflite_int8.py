"""Eight bits that agree with the network: quantisation after training, by calibration alone.

TensorFlow's own way takes the least and the largest value of each map over the calibration images
and rounds every weight to the nearest step. What that costs is for the most part no noise but a
shift: each channel's mean is off by the same in all images (`tools/export.py
--debug_quantization`), a hundredth of its standard deviation in the first layers, a whole one in
the logits. Three steps mend it; none of them knows the network.

1. A map's range is the one that makes the mean of |error|^4 least, in place of its extremes.
2. The weights of a depthwise kernel are rounded so that their sum is kept: their input is smooth,
   and sees the sum of their errors. What rounding still does to a channel's mean is taken off the
   bias (Nagel et al., ICCV 2019, section 4.2, analytic bias correction).
3. The operations are run in eight bits one after another; after each convolution its bias is
   corrected until the means of its channels are the float network's (the same section, empirical
   correction). A clipped channel's mean moves only as far as its values are not clipped: so the
   correction is a Newton step, and is taken twice.
"""
import dataclasses

import numpy as np
import tensorflow as tf
from tensorflow.lite.python import convert as tensorflow_convert
from tensorflow.lite.python import util as tensorflow_util

from tf_advseg.core.quiet import quiet
from tf_advseg.models.zoo import tflite_graph

SAMPLES = 4000      # of a map, of each image, by which its range is chosen
EXPONENT = 4.0      # of the error that a range is chosen by
SHARES = np.linspace(1.0, 0.2, 33)  # of the extremes, tried as ranges
RUN_IMAGES = 8      # that the operations are run on one by one, spread over all
GROUP_BYTES = 2 ** 30  # of float maps that are held at once
CORRECTIONS = 2     # of a bias
LEAST_ACTIVE = 0.2  # share of a channel's values that must not be clipped
LEVELS = 127        # of a weight, either side of 0


@dataclasses.dataclass(frozen=True)
class LayerError:
    """What eight bits do to one convolution's output, over the calibration images.

    All are root mean squares over channels, in units of the channels' standard deviation in the
    float network.

    Attributes:
      name: of the output's tensor.
      step: of the integers.
      shift: of the channels' means, before this layer's bias was corrected.
      left: the same afterwards.
    """
    name: str
    step: float
    shift: float
    left: float


@dataclasses.dataclass(frozen=True)
class _Statistics:
    """Of a float map over images: least, largest, mean [C], deviation [C] and some values."""
    least: float
    largest: float
    mean: np.ndarray
    deviation: np.ndarray
    values: np.ndarray


def quantise(calibrated, images):
    """A file in eight bits throughout: uint8 image in (scale 1, zero point 0), uint8 out.

    Args:
      calibrated: a float file as bytes, with the ranges that the converter leaves in it where
        `_experimental_calibrate_only` is set; its input is one float32 image of 0..255.
      images: uint8 [H, W, 3] images of its size.

    Returns:
      (the file as bytes, [LayerError] in the order of the operations).
    """
    graph = tflite_graph.Graph(calibrated)
    statistics = _statistics(graph, images)
    for tensor, found in statistics.items():
        graph.set_range(tensor, *_range(found))
    graph.set_range(graph.inputs[0], 0.0, 255.0)
    for operator in filter(graph.is_convolution, graph.operators):
        _round_weights(graph, operator, statistics)
    with quiet():
        content = tensorflow_convert.mlir_quantize(graph.content())
    content, errors = _with_corrected_biases(
        content, {graph.name(tensor): found for tensor, found in statistics.items()},
        [images[i] for i in sorted({round(place) for place in np.linspace(
            0, len(images) - 1, RUN_IMAGES)})])
    return tensorflow_util.modify_model_io_type(content, tf.uint8, tf.uint8), errors


def _statistics(graph, images):
    """{tensor: _Statistics} of the float maps that have ranges."""
    written = {i for operator in graph.operators for i in operator.outputs}
    found, group = {}, []
    for tensor in (i for i in graph.with_ranges() if i in written):
        if group and sum(map(graph.bytes_of, [*group, tensor])) > GROUP_BYTES:
            found.update(_statistics_of(graph, images, group))
            group = []
        group.append(tensor)
    return {**found, **_statistics_of(graph, images, group)}


def _statistics_of(graph, images, tensors):
    """`_statistics` of some tensors, which are held in memory at once."""
    run, random = graph.runner(tensors), np.random.default_rng(0)
    seen = {tensor: [] for tensor in tensors}
    for image in images:
        for tensor, value in zip(tensors, run(np.asarray(image, np.float32)[None])):
            flat, channels = value.ravel(), value.reshape(-1, value.shape[-1])
            chosen = flat if flat.size <= SAMPLES else flat[
                random.integers(0, flat.size, SAMPLES)]
            squares = np.einsum('ij,ij->j', channels, channels, dtype=np.float64)
            seen[tensor].append((float(flat.min()), float(flat.max()),
                                 channels.mean(0, dtype=np.float64), squares / len(channels),
                                 chosen))
    found = {}
    for tensor, rows in seen.items():
        least, largest, means, squares, values = zip(*rows)
        mean = np.mean(means, 0)
        deviation = np.sqrt(np.maximum(np.mean(squares, 0) - mean ** 2, 0.0))
        found[tensor] = _Statistics(min(least), max(largest), mean, deviation,
                                    np.concatenate(values))
    return found


def _range(found):
    """(least, largest) of a map's eight bits; 0 lies between them."""
    best, chosen = None, (min(found.least, 0.0), max(found.largest, 0.0))
    if chosen[1] - chosen[0] < 1e-9:
        return chosen
    for share in SHARES:
        least, largest = share * min(found.least, 0.0), share * max(found.largest, 0.0)
        step = (largest - least) / 255.0
        zero = np.round(-least / step)
        rounded = step * (np.clip(np.round(found.values / step + zero), 0, 255) - zero)
        error = float(np.mean(np.abs(rounded - found.values) ** EXPONENT))
        if best is None or error < best:
            best, chosen = error, (least, largest)
    return chosen


def _round_weights(graph, operator, statistics):
    """Step 2 of the module's docstring, in a float graph: values on the grid of eight bits."""
    shown, kernel_at, bias_at = operator.inputs
    depthwise = graph.code(operator) == tflite_graph.DEPTHWISE
    kernel = graph.constant(kernel_at).astype(np.float64)
    rounded = rounded_kernel(kernel, depthwise)
    graph.set_constant(kernel_at, rounded)
    if shown not in statistics:
        return
    error, mean = rounded - kernel, statistics[shown].mean
    if depthwise:
        moved = error.sum((0, 1, 2)) * np.repeat(mean, error.shape[-1] // mean.size)
    else:
        moved = error.sum((1, 2)) @ mean
    graph.set_constant(bias_at, graph.constant(bias_at) - moved)


def rounded_kernel(kernel, depthwise):
    """A kernel on the grid of eight bits that each output channel has.

    Args:
      kernel: float64, as TFLite has them: [out, h, w, in], or [1, h, w, out] where `depthwise`.
      depthwise: whether the sum of a channel's weights is kept to half a step, at the price of
        rounding some weights the other way.

    Returns:
      float64 of the same shape.
    """
    axes = (0, 1, 2) if depthwise else (1, 2, 3)
    step = np.abs(kernel).max(axes, keepdims=True) / LEVELS
    step = np.where(step > 0, step, 1.0)
    exact = kernel / step
    levels = np.round(exact)
    if depthwise:
        levels, flat = levels.reshape(-1, kernel.shape[-1]), exact.reshape(-1, kernel.shape[-1])
        for channel in range(levels.shape[1]):
            missing = flat[:, channel] - levels[:, channel]
            count = int(np.round(missing.sum()))
            way = np.sign(count)
            # Those that lie nearest to the other neighbour cost the least.
            for tap in np.argsort(-way * missing, kind='stable')[:abs(count)]:
                if abs(levels[tap, channel] + way) <= LEVELS:
                    levels[tap, channel] += way
    return levels.reshape(kernel.shape) * step


def _with_corrected_biases(content, statistics, images):
    """Step 3: (the file as bytes, [LayerError])."""
    graph, errors = tflite_graph.Graph(content), []
    last = {i: place for place, operator in enumerate(graph.operators) for i in operator.inputs}
    held = [{graph.inputs[0]: np.asarray(image, np.float32)[None]} for image in images]
    for place, operator in enumerate(graph.operators):
        found = statistics.get(graph.name(operator.outputs[0]))
        if graph.is_convolution(operator) and found is not None:
            outputs, error = _corrected(graph, operator, found, held)
            errors.append(error)
        else:
            outputs = _outputs(graph, operator, held)
        for values, output in zip(held, outputs):
            values.update(zip(operator.outputs, output))
            for i in operator.inputs:
                if last.get(i) == place:
                    values.pop(i, None)
    return graph.content(), errors


def _outputs(graph, operator, held):
    """An operator's outputs for each image."""
    run, fed = graph.single(operator), graph.fed_to(operator)
    return [run([values[i] for i in fed]) for values in held]


def _corrected(graph, operator, found, held):
    """Corrects a convolution's bias; (its outputs for each image, LayerError)."""
    output, bias_at = operator.outputs[0], operator.inputs[2]
    deviation = np.where(found.deviation > 0, found.deviation, np.inf)
    shifts = []
    for step in range(CORRECTIONS + 1):
        outputs = _outputs(graph, operator, held)
        numbers = np.concatenate([graph.as_numbers(output, one[0]).reshape(-1, found.mean.size)
                                  for one in outputs])
        shift = numbers.mean(0, dtype=np.float64) - found.mean
        shifts.append(float(np.sqrt(np.mean((shift / deviation) ** 2))))
        if step == CORRECTIONS:
            break
        free = np.ones(found.mean.size)
        if graph.clips(operator):
            free = ((numbers > numbers.min()) & (numbers < numbers.max())).mean(0)
        change = np.where(free >= LEAST_ACTIVE, shift / np.maximum(free, LEAST_ACTIVE), 0.0)
        bias = graph.constant(bias_at) - np.round(change / graph.scale(bias_at)).astype(np.int64)
        graph.set_constant(bias_at, np.clip(bias, -2 ** 31, 2 ** 31 - 1))
    size = float(graph.scale(output)[0]) / float(np.sqrt(np.mean(found.deviation ** 2)) or 1.0)
    return outputs, LayerError(graph.name(output), size, shifts[0], shifts[-1])
