"""Measures confidence maps: what a discriminator selects, how often that is right (Table 7).

Beside it stands the softmax's own confidence at the same share. A run of Hung et al.'s method keeps
its discriminator beside the model; of any other checkpoint the softmax alone is measured. --output
is a folder for the table, maps of a few images (Fig. 3) and a page.

Example:
  python tools/confidence.py --checkpoint=runs/hung --output=runs/hung_confidence
"""
import pathlib
import sys

if not __package__:  # started as a script from a checkout, from any directory
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tf_advseg.core import command_line  # noqa: E402  before absl: it says what is missing
from tf_advseg.core import runtime  # noqa: E402

from absl import flags  # noqa: E402

command_line.define_common_flags('checkpoint', 'which', 'data_dir', 'dataset', 'output',
                                 split='test')
flags.DEFINE_string('discriminator', None, 'Run directory or folder of another discriminator.')
flags.DEFINE_list('thresholds', None, 'T, from 0 to 1. Default: 0,0.1,0.2,0.3; of softmax alone '
                  '0,0.5,0.9,0.99.')
flags.DEFINE_integer('images', 4, 'Images whose maps are drawn.', lower_bound=0)

FLAGS = flags.FLAGS


def main(argv):
    """Flags, one call, the table."""
    del argv
    from tf_advseg.core.errors import UserError
    if not FLAGS.checkpoint:
        raise UserError('no checkpoint was given: add --checkpoint=RUN_DIRECTORY')
    runtime.configure()
    from tf_advseg.experiments.convert import importing
    from tf_advseg.experiments.score import measuring_confidence
    checkpoint = importing.resolved(FLAGS.checkpoint, FLAGS.which)
    output = measuring_confidence.require_output(FLAGS.output, [
        path for path in (checkpoint, FLAGS.discriminator, FLAGS.data_dir) if path])
    results = measuring_confidence.judge(
        checkpoint, output, FLAGS.which, FLAGS.discriminator, FLAGS.data_dir, FLAGS.dataset,
        FLAGS.split, FLAGS.thresholds, FLAGS.images)
    print(measuring_confidence.text(results))
    print(f'\nwritten: {FLAGS.output}')


def run():
    """Console script."""
    command_line.run(main)


if __name__ == '__main__':
    run()
