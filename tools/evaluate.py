"""Evaluates a checkpoint: per-class IoU, mIoU and pixel accuracy on a split.

Without --data_dir it is the data of the run itself; its splits are train, holdout,
val_without_holdout and test. Raw data (a folder of images/ and labels/, or --dataset's official
folder or archive) will do as well as records. --eval_scales and --flip average over several
passes, as the official DeepLab evaluates (0.5, 0.75, 1, 1.25, 1.5, 1.75 and mirrored).

Example:
  python tools/evaluate.py --checkpoint=demo_run --compare=demo_run/checkpoints/control
"""
import pathlib
import sys

if not __package__:  # started as a script from a checkout, from any directory
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags  # noqa: E402

from tf_advseg.core import command_line  # noqa: E402
from tf_advseg.core import runtime  # noqa: E402

command_line.define_common_flags('checkpoint', 'which', 'data_dir', 'dataset', 'output',
                                 'compare', 'strategy', 'eval_scales', 'flip', split='test')

FLAGS = flags.FLAGS


def main(argv):
    """Flags, one call, the table."""
    del argv
    from tf_advseg.core.errors import UserError
    if not FLAGS.checkpoint:
        raise UserError('no checkpoint was given: add --checkpoint=RUN_DIRECTORY')
    if FLAGS.strategy == 'multi_worker':
        raise UserError('--strategy=multi_worker: one process evaluates; use one_device or '
                        'mirrored')
    # Two replicas where there is no GPU to replicate on: else mirrored would be one device.
    runtime.configure(logical_cpus=2 if FLAGS.strategy == 'mirrored' else 1)
    from tf_advseg.experiments import evaluating
    from tf_advseg.reporting import tables
    from tf_advseg.training import strategy
    output = evaluating.require_output(FLAGS.output) if FLAGS.output else None
    results = evaluating.evaluate(
        FLAGS.checkpoint, FLAGS.compare, FLAGS.which, FLAGS.data_dir, FLAGS.dataset, FLAGS.split,
        strategy.make_strategy(FLAGS.strategy), scales=FLAGS.eval_scales, flip=FLAGS.flip)
    print(tables.to_text(evaluating.table(results)))
    if output is not None:
        evaluating.write(output, results)
        print(f'\nwritten: {output}')


def run():
    """Console script."""
    command_line.run(main)


if __name__ == '__main__':
    run()
