"""Turns a data set into records: checked files that training reads in any order.

--dataset is one of (nothing is downloaded: get the official files and agree to their terms)
  folder               your own: images/*.jpg|png, labels/*.png of ids (255 = ignore), splits/*.txt
  pictures             any folder of .jpg, .jpeg and .png that have no labels
  shapes               generated
  stanford_background  dags.stanford.edu/projects/scenedataset.html: iccv09Data.tar.gz
  pascal_voc_2012      host.robots.ox.ac.uk/pascal/VOC/voc2012: VOCtrainval_11-May-2012.tar; SBD:
                       eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours
  cityscapes           cityscapes-dataset.com: leftImg8bit_trainvaltest.zip, gtFine_...
  ade20k               sceneparsing.csail.mit.edu: ADEChallengeData2016.zip
  cmp_facades          cmp.felk.cvut.cz/~tylecr1/facade: CMP_facade_DB_base.zip, ..._extended.zip
  segtrack_v2          web.engr.oregonstate.edu/~lif/SegTrack2: SegTrackv2.zip
--source is an archive (.tar, .tar.gz, .tgz, .tar.xz, .zip), or a folder with all that belongs
together, unpacked. Stopped, it goes on; done again, it checks. Options: see the reader's class.

Example: python tools/prepare_data.py --dataset=shapes --output=records --option=num_train=20
"""
import pathlib
import sys

if not __package__:  # started as a script from a checkout, from any directory
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tf_advseg.core import command_line  # noqa: E402  before absl: it says what is missing
from tf_advseg.core import runtime  # noqa: E402

from absl import flags  # noqa: E402

command_line.define_common_flags('source', 'output', 'option', dataset='folder')

FLAGS = flags.FLAGS


def main(argv):
    """Flags, one call, what the records hold."""
    del argv
    from tf_advseg.core.errors import UserError
    if not FLAGS.output:
        raise UserError('no folder for the records was given: add --output=FOLDER')
    runtime.configure()
    from tf_advseg.experiments.convert import preparing
    from tf_advseg.reporting import tables
    records = preparing.prepare(FLAGS.dataset, FLAGS.source, FLAGS.output, FLAGS.option)
    print(tables.to_text(preparing.summary(records)))
    print(f'\nrecords: {FLAGS.output}')


def run():
    """Console script."""
    command_line.run(main, resumes=True)


if __name__ == '__main__':
    run()
