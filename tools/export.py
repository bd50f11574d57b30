"""Exports a checkpoint: SavedModel, TFLite, TF1 checkpoint; or proves that it costs no more.

The SavedModel takes uint8 images of any size. A side below the crop size is padded to it, a
longer one to the next k * stride + 1; image pooling keeps its window and slides (as the official
evaluation). --large=resize: it is resized to the crop size first, its class map back by nearest
neighbours (as the official export). --output is then a checkpoint itself. --format is a list with
commas: saved_model, tf1, tflite_float32, tflite_float16, tflite_int8, onnx; the TFLite ones take
uint8 images of --input_size, onnx those of any, and give the class map. --prove prints parameters,
FLOPs, size, latency.

Example:
  python tools/export.py --checkpoint=demo_run --output=exported --format=saved_model,tf1
"""
import pathlib
import sys

if not __package__:  # started as a script from a checkout, from any directory
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tf_advseg.core import command_line  # noqa: E402  before absl: it says what is missing
from tf_advseg.core import runtime  # noqa: E402

from absl import flags  # noqa: E402

command_line.define_common_flags('checkpoint', 'which', 'output', 'input_size', 'input', 'compare')
flags.DEFINE_string('format', 'saved_model', 'What to write, see above.')
flags.DEFINE_string('calibration', None, 'Images that give int8 its ranges; default: --input.')
flags.DEFINE_enum('large', 'pad', ['pad', 'resize'], 'Images of another size than the crop.')
flags.DEFINE_boolean('debug_quantization', False, 'Print what int8 does to each layer.')
flags.DEFINE_integer('fine_tune_steps', 0, 'Train int8 on --calibration: 300, say; no labels.')
flags.DEFINE_boolean('prove', False, 'Print what it costs beside --compare; write nothing.')

FLAGS = flags.FLAGS


def main(argv):
    """Flags, one call, what was written or compared."""
    del argv
    from tf_advseg.core.errors import UserError
    if not FLAGS.checkpoint:
        raise UserError('no checkpoint was given: add --checkpoint=RUN_DIRECTORY')
    size = command_line.parse_size(FLAGS.input_size) if FLAGS.input_size else None
    if FLAGS.prove and len(FLAGS.compare) != 1:
        raise UserError('--prove compares with one baseline: add --compare=BASELINE')
    runtime.configure()
    from tf_advseg.experiments.convert import exporting
    from tf_advseg.experiments.convert import importing
    formats = None if FLAGS.prove else exporting.require_formats(FLAGS.format)
    if FLAGS.compare and not FLAGS.prove:
        raise UserError('--compare belongs to --prove')
    checkpoint = importing.resolved(FLAGS.checkpoint, FLAGS.which)
    if FLAGS.prove:
        baseline = importing.resolved(FLAGS.compare[0])
        print(exporting.prove(checkpoint, baseline, FLAGS.which, size).text())
        return
    exported = exporting.export(
        checkpoint, FLAGS.output, formats, size, FLAGS.which,
        command_line.single(FLAGS.input, 'input'), FLAGS.calibration, FLAGS.large,
        FLAGS.debug_quantization, FLAGS.fine_tune_steps)
    print(exported.text())


def run():
    """Console script."""
    command_line.run(main)


if __name__ == '__main__':
    run()
