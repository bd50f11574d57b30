"""How fast one network is in the forms it can be exported to, beside its plain frozen TF1 graph.

All of them give the class map of one image of one size, in this process and in turns, as
`inference_benchmark` has it; ratios are of neighbours. Weights are random: times do not depend on
them.
"""
import dataclasses
import pathlib
import statistics
import tempfile

import numpy as np

from tf_advseg.core import errors
from tf_advseg.core import runtime
from tf_advseg.experiments.benchmarks import inference_benchmark
from tf_advseg.models.zoo import onnx_export
from tf_advseg.models.zoo import saved_model
from tf_advseg.models.zoo import tflite_export
from tf_advseg.models.zoo import tflite_runtime
from tf_advseg.reporting import tables
from tf_advseg.run import networks

PLAIN = 'plain TF1 graph'
INT8 = 'TFLite int8'


@dataclasses.dataclass(frozen=True)
class Timing:
    """One form of the network.

    Attributes:
      name: of the form, and by which runtime.
      seconds: an image, the median.
      ratio: to the plain graph, the median over neighbouring runs.
      agreement: share of pixels at which it agrees with the plain graph.
    """
    name: str
    seconds: float
    ratio: float
    agreement: float


def measure(network='deeplab_mobilenet_v2', output_stride=16, size=(513, 513), repeats=20):
    """Times every form that is installed.

    Args:
      network: a name in `networks.NETWORKS`.
      output_stride: of it.
      size: (height, width) of the image, and the crop size.
      repeats: runs of each.

    Returns:
      (list of Timing, the plain graph first; {form: why it was left out}).

    Raises:
      UserError: unknown network.
    """
    errors.require_one_of('network', network, networks.NETWORKS)
    segmentor = inference_benchmark.randomise(networks.build(networks.describe(
        network, num_classes=inference_benchmark.CLASSES, crop_size=size,
        output_stride=output_stride)))
    image = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
    forms = {PLAIN: inference_benchmark.plain_runner(segmentor, size)}
    with tempfile.TemporaryDirectory(prefix='tf_advseg-') as folder:
        saved_model.write(pathlib.Path(folder), segmentor)
        forms['SavedModel'] = inference_benchmark.exported_runner(folder)
    for form, kind in (('TFLite float32', 'float32'), (INT8, 'int8')):
        content = tflite_export.convert(segmentor, size, kind, list(image))
        forms[f'{form}, {tflite_runtime.name()}'] = _tflite(content)
    left_out = {}
    try:
        forms['ONNX Runtime'] = onnx_export.Session(onnx_export.class_map(segmentor))
    except errors.UserError as error:
        left_out['ONNX Runtime'] = str(error)
    expected = forms[PLAIN](image)
    seconds = inference_benchmark.interleaved(
        [lambda form=form: form(image) for form in forms.values()], repeats)
    return [Timing(name, statistics.median(row), float(np.median(row / seconds[0])),
                   float(np.mean(form(image) == expected)))
            for (name, form), row in zip(forms.items(), seconds)], left_out


def _tflite(content):
    """Function of uint8 [1, h, w, 3] that gives the class map."""
    interpreter = tflite_runtime.interpreter(content)
    run = interpreter.get_signature_runner(saved_model.CLASS_MAP)
    return lambda shown: run(image=shown)[saved_model.CLASS_MAP]


def table(timings, left_out, size, repeats):
    """tables.Table of `measure`'s result."""
    rows = [(t.name, f'{1e3 * t.seconds:.1f}', f'{t.ratio:.2f}',
             '' if t.name.startswith(INT8) else f'{100 * t.agreement:.3f} %') for t in timings]
    rows += [(name, '', '', f'left out: {why}') for name, why in left_out.items()]
    return tables.plain_table(
        ('form', 'ms an image', 'ratio', 'equal pixels'), rows,
        f'{size[0]}x{size[1]}, one image, medians of {repeats} runs in turns, oneDNN '
        f'{"on" if runtime.onednn_is_on() else "off"}; int8 of random weights agrees with nothing')
