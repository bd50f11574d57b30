"""Evaluates checkpoints on a split: per-class IoU, mIoU, further measures, gains with intervals.

Without --data_dir it is the run's own data: train, holdout, val_without_holdout, test. Raw data do
as well as records. --output is a .json, a .csv, or a folder for scores, matrix, panels and page.
A .tflite or .onnx file beside the export.json that lists it is scored as it is run (see predict).

Example:
  python tools/evaluate.py --checkpoint=demo_run --compare=demo_run/checkpoints/control
"""
import pathlib
import sys

if not __package__:  # started as a script from a checkout, from any directory
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tf_advseg.core import command_line  # noqa: E402  before absl: it says what is missing
from tf_advseg.core import runtime  # noqa: E402

from absl import flags  # noqa: E402

command_line.define_common_flags('checkpoint', 'which', 'data_dir', 'dataset', 'output',
                                 'compare', 'strategy', 'eval_scales', 'flip', 'window',
                                 'padding', 'backend', split='test')
flags.DEFINE_enum('damaged', 'refuse', ('refuse', 'skip'), 'What to do about damaged records.')
flags.DEFINE_list('measures', [], 'Also boundary, trimap, components, instances (Cityscapes).')

FLAGS = flags.FLAGS
MODELS = 9  # words that may follow --compare


def main(argv):
    """Flags, one call, the table."""
    from tf_advseg.core.errors import UserError
    if argv[1:] and not FLAGS.compare:
        raise UserError(f'unexpected argument "{argv[1]}"; a flag is written --name=value, see '
                        '--help')
    checkpoints = [*([FLAGS.checkpoint] if FLAGS.checkpoint else []), *FLAGS.compare, *argv[1:]]
    if not checkpoints:
        raise UserError('no checkpoint was given: add --checkpoint=RUN_DIRECTORY')
    if not all(checkpoints):
        raise UserError('--compare= names nothing; give a run directory or a model folder')
    if FLAGS.strategy in ('multi_worker', 'tpu'):
        raise UserError(f'--strategy={FLAGS.strategy}: one process evaluates; use one_device or '
                        'mirrored')
    window = command_line.parse_size(FLAGS.window, 'window') if FLAGS.window else None
    # Two replicas where there is no GPU to replicate on: else mirrored would be one device.
    runtime.configure(logical_cpus=2 if FLAGS.strategy == 'mirrored' else 1)
    from tf_advseg.experiments.score import evaluating
    from tf_advseg.training import strategy
    from tf_advseg.experiments.convert import importing
    checkpoints = [importing.resolved(checkpoint) for checkpoint in checkpoints]
    output = evaluating.require_output(FLAGS.output, checkpoints) if FLAGS.output else None
    results = evaluating.evaluate(
        checkpoints[0], checkpoints[1:], FLAGS.which, FLAGS.data_dir, FLAGS.dataset, FLAGS.split,
        strategy.make_strategy(FLAGS.strategy), measures=FLAGS.measures, output=output,
        scales=FLAGS.eval_scales, flip=FLAGS.flip, padding=FLAGS.padding, window=window,
        damaged=FLAGS.damaged, backend=FLAGS.backend)
    print(evaluating.text(results))
    if output is not None:
        print(f'\nwritten: {FLAGS.output}')


def run():
    """Console script."""
    command_line.run(main, positional=MODELS)


if __name__ == '__main__':
    run()
