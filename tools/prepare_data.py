"""Turns a data set into records: checked files that training reads in any order.

--dataset is one of
  folder               your own: images/*.jpg|png and labels/*.png of class ids under one name,
                       255 = ignore; splits/*.txt, sub-folders or chance say train, val, test;
                       names in classes.txt
  stanford_background  dags.stanford.edu/projects/scenedataset.html: iccv09Data.tar.gz
  shapes               generated; nothing to download
--source is a folder or an archive (.tar, .tar.gz, .tgz, .tar.xz, .zip). Done again, it checks
what is there; stopped, it goes on.

Example:
  python tools/prepare_data.py --dataset=shapes --output=records --option=num_train=20
"""
import pathlib
import sys

if not __package__:  # started as a script from a checkout, from any directory
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags  # noqa: E402

from tf_advseg.core import command_line  # noqa: E402
from tf_advseg.core import runtime  # noqa: E402

command_line.define_common_flags('source', 'output', dataset='folder')
flags.DEFINE_multi_string('option', [], 'Option of the reader, as seed=1 or '
                          'class_names=["sky","sea"]; repeatable.')

FLAGS = flags.FLAGS


def main(argv):
    """Flags, one call, what the records hold."""
    del argv
    from tf_advseg.core.errors import UserError
    if not FLAGS.output:
        raise UserError('no folder for the records was given: add --output=FOLDER')
    runtime.configure()
    from tf_advseg.experiments import preparing
    from tf_advseg.reporting import tables
    records = preparing.prepare(FLAGS.dataset, FLAGS.source, FLAGS.output, FLAGS.option)
    print(tables.to_text(preparing.summary(records)))
    print(f'\nrecords: {FLAGS.output}')


def run():
    """Console script."""
    command_line.run(main, resumes=True)


if __name__ == '__main__':
    run()
