"""Examines a data set, image by image, and says what is wrong with it and where.

Images without labels, files that cannot be read, sizes, class ids, labels of colours; images
that are there twice, in two splits above all (leaks), or look alike; classes that a split lacks;
images and labels to be looked at. It does not stop at the first thing, as readers do.

--data_dir is a folder, an archive, or records. --output=NAME.html has the images in question and
samples of every class, NAME.json the findings as data. Exit code 1 where there are errors.

Example:
  python tools/doctor.py --dataset=shapes --option=num_train=30
"""
import pathlib
import sys

if not __package__:  # started as a script from a checkout, from any directory
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tf_advseg.core import command_line  # noqa: E402  before absl: it says what is missing
from tf_advseg.core import runtime  # noqa: E402

from absl import flags  # noqa: E402

command_line.define_common_flags('data_dir', 'dataset', 'option', 'output')

FLAGS = flags.FLAGS


def main(argv):
    """Flags, one call, the findings."""
    del argv
    from tf_advseg.core.errors import UserError
    runtime.configure()
    from tf_advseg.experiments.convert import examining
    from tf_advseg.reporting.pages import doctor_page
    output = examining.require_output(FLAGS.output)
    diagnosis = examining.examine(FLAGS.data_dir, FLAGS.dataset, FLAGS.option, output)
    print(doctor_page.text(diagnosis))
    if output is not None:
        print(f'written: {FLAGS.output}')
    errors = diagnosis.count('error')
    if errors:
        raise UserError(f'{diagnosis.source}: {doctor_page.counted(errors, "problem")} that must '
                        f'be mended; the first: {diagnosis.findings[0].message}')


def run():
    """Console script."""
    command_line.run(main)


if __name__ == '__main__':
    run()
