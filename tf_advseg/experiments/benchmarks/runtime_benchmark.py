"""How fast one network is in the forms it can be exported to, and how far each agrees with it.

All of them give the class map of one image of one size, in this process and in turns, as
`inference_benchmark` has it; ratios are of neighbours. They are measured beside the network's plain
frozen TF1 graph. Of a checkpoint's weights the class maps of real images are compared, too; random
weights do for the times, which do not depend on them, but eight bits agree with nothing then.
"""
import dataclasses
import pathlib
import statistics
import tempfile

import numpy as np

from tf_advseg.core import errors
from tf_advseg.core import runtime
from tf_advseg.experiments.benchmarks import inference_benchmark
from tf_advseg.experiments.score import evaluating
from tf_advseg.experiments.score import fitted_images
from tf_advseg.models.zoo import onnx_export
from tf_advseg.models.zoo import saved_model
from tf_advseg.models.zoo import tflite_export
from tf_advseg.models.zoo import tflite_runtime
from tf_advseg.reporting import tables
from tf_advseg.run import networks

PLAIN = 'plain TF1 graph'
INT8 = 'TFLite int8'
OWN_INT8 = f"{INT8}, TensorFlow's own calibration"
SIZE = (513, 513)  # where nothing says another


@dataclasses.dataclass(frozen=True)
class Timing:
    """One form of the network.

    Attributes:
      name: of the form, and by which runtime.
      seconds: an image, the median.
      ratio: to the plain graph, the median over neighbouring runs.
      agreement: share of pixels at which it agrees with the plain graph, the mean over images.
      worst: the share in the image that agrees least.
    """
    name: str
    seconds: float
    ratio: float
    agreement: float
    worst: float


@dataclasses.dataclass(frozen=True)
class Measured:
    """What `measure` found.

    Attributes:
      timings: of Timing, the plain graph first.
      left_out: {form: why}.
      size: (height, width) of the image.
      repeats: runs of each.
      what: '' for random weights, else whose weights and which images, for people.
    """
    timings: list
    left_out: dict
    size: tuple
    repeats: int
    what: str = ''


def measure(network='deeplab_mobilenet_v2', output_stride=16, size=SIZE, repeats=20):
    """Times every form that is installed, of random weights.

    Args:
      network: a name in `networks.NETWORKS`.
      output_stride: of it.
      size: (height, width) of the image, and the crop size.
      repeats: runs of each.

    Returns:
      Measured.

    Raises:
      UserError: unknown network.
    """
    errors.require_one_of('network', network, networks.NETWORKS)
    segmentor = inference_benchmark.randomise(networks.build(networks.describe(
        network, num_classes=inference_benchmark.CLASSES, crop_size=size,
        output_stride=output_stride)))
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    return Measured(*_measured(segmentor, size, [image], [image], repeats, False), size, repeats)


def measure_checkpoint(checkpoint, size=None, images=None, calibration=None, repeats=20):
    """Times every form that is installed, of a trained network, and compares its class maps.

    Args:
      checkpoint: see `evaluating.load`.
      size: (height, width) of the images; None is the crop size.
      images: image, folder or pattern that class maps are compared on; None: a few made-up ones.
      calibration: the same for int8's ranges; None: `images`.
      repeats: runs of each, on the first image.

    Returns:
      Measured.

    Raises:
      UserError: no such checkpoint; no images there.
    """
    segmentor, _, content = evaluating.load(checkpoint)
    crop = evaluating.crop_size(content)
    size = tuple(size or crop or SIZE)
    compared, compared_on = fitted_images.read(images, size)
    ranges, ranges_of = fitted_images.read(calibration or images, size,
                                           tflite_export.CALIBRATION_IMAGES)
    if crop is not None and tuple(crop) != size:  # all forms are of one size, and pad nothing
        segmentor = networks.load(pathlib.Path(checkpoint).expanduser(), crop_size=size)[0]
    same = '' if calibration else ', with which they are compared'
    return Measured(*_measured(segmentor, size, compared, ranges, repeats, True), size, repeats,
                    f'{checkpoint}; equal pixels: on {compared_on}; int8 calibrated with '
                    f'{ranges_of}{same}')


def _measured(segmentor, size, images, calibration, repeats, trained):
    """([Timing], {form: why it was left out})."""
    forms, left_out = {PLAIN: inference_benchmark.plain_runner(segmentor, size)}, {}
    for name, make in _makers(segmentor, size, calibration, trained).items():
        try:
            forms[name] = make()
        except errors.UserError as error:
            left_out[name] = str(error)
    expected = [forms[PLAIN](image[None]) for image in images]
    shares = [[float(np.mean(form(image[None]) == theirs))
               for image, theirs in zip(images, expected)] for form in forms.values()]
    seconds = inference_benchmark.interleaved(
        [lambda form=form: form(images[0][None]) for form in forms.values()], repeats)
    return [Timing(name, statistics.median(row), float(np.median(row / seconds[0])),
                   float(np.mean(share)), min(share))
            for name, row, share in zip(forms, seconds, shares)], left_out


def _makers(segmentor, size, calibration, trained):
    """{form: function of nothing -> function of uint8 [1, h, w, 3] that gives the class map}."""
    def exported():
        with tempfile.TemporaryDirectory(prefix='tf_advseg-') as folder:
            saved_model.write(pathlib.Path(folder), segmentor)
            return inference_benchmark.exported_runner(folder)

    def tflite(kind):
        return lambda: _tflite(tflite_export.convert(segmentor, size, kind, calibration))

    runner = tflite_runtime.name()
    makers = {'SavedModel': exported, f'TFLite float32, {runner}': tflite('float32')}
    if trained:
        makers[f'TFLite float16, {runner}'] = tflite('float16')
        makers[OWN_INT8] = lambda: _tflite(tflite_export.plain_int8(segmentor, size, calibration))
    makers[f'{INT8}, {runner}'] = tflite('int8')
    makers['ONNX Runtime'] = lambda: onnx_export.Session(onnx_export.class_map(segmentor))
    return makers


def _tflite(content):
    """Function of uint8 [1, h, w, 3] that gives the class map."""
    try:
        interpreter = tflite_runtime.interpreter(content)
    except (RuntimeError, ValueError) as error:
        raise errors.UserError('TensorFlow Lite cannot run it: '
                               f'{errors.first_line(error)}') from error
    run = interpreter.get_signature_runner(saved_model.CLASS_MAP)
    return lambda shown: run(image=shown)[saved_model.CLASS_MAP].copy()


def table(found):
    """tables.Table of `Measured`."""
    rows = [(t.name, f'{1e3 * t.seconds:.1f}', f'{t.ratio:.2f}', *_shares(t, found.what))
            for t in found.timings]
    rows += [(name, '', '', f'left out: {why}', '') for name, why in found.left_out.items()]
    return tables.plain_table(
        ('form', 'ms an image', 'ratio', 'equal pixels', 'worst image'), rows,
        f'{found.size[0]}x{found.size[1]}, one image, medians of {found.repeats} runs in turns, '
        f'oneDNN {"on" if runtime.onednn_is_on() else "off"}; '
        + (found.what or 'int8 of random weights agrees with nothing'))


def _shares(timing, what):
    if not what and timing.name.startswith(INT8):
        return '', ''
    return f'{100 * timing.agreement:.3f} %', f'{100 * timing.worst:.3f} %'
