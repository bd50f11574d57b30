"""Turns published weights into a model folder that every --checkpoint takes.

--source: TF1 checkpoint (prefix, as model.ckpt-30000, or its folder), .tar.gz of the model zoo as
downloaded, frozen graph (.pb), TFLite file, keras weights (.h5), or a run or model folder. --model:
a name of the official DeepLab zoo; other networks are spelt by gin. Another --num_classes starts
the last layer anew. --download fetches what --model names into the cache (~/.cache/tf_advseg, or
TF_ADVSEG_CACHE); else nothing is downloaded. Reading executes nothing in a file, --verify and
--graph run a graph that only computes.

Example:
  python tools/import_checkpoint.py --list
"""
import pathlib
import sys

if not __package__:  # started as a script from a checkout, from any directory
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tf_advseg.core import command_line  # noqa: E402  before absl: it says what is missing
from tf_advseg.core import runtime  # noqa: E402

from absl import flags  # noqa: E402

command_line.define_common_flags('model', 'source', 'output', 'num_classes', 'output_stride',
                                 'dataset', 'verify', 'input', 'gin_file', 'gin_param')
flags.DEFINE_boolean('backbone_only', False, 'Take the backbone; the head starts anew.')
flags.DEFINE_string('graph', None, 'Frozen graph (.pb) or TFLite file to --verify with.')
flags.DEFINE_boolean('download', False, 'Download the weights that --model names.')
flags.DEFINE_boolean('list', False, 'Print the catalogue of the model zoo.')

FLAGS = flags.FLAGS


def main(argv):
    """Flags, one call, what was assigned and what was not."""
    del argv
    from tf_advseg.core import configuration
    from tf_advseg.core.errors import UserError
    if FLAGS.model and FLAGS.gin_file:
        raise UserError('--model names a network of the zoo, --gin_file spells another: give one '
                        'of the two')
    runtime.configure()
    from tf_advseg.models.zoo import catalogue
    from tf_advseg.models.zoo import fetching
    if FLAGS.list:
        print(catalogue.listing(fetching.pin_of))
        return
    if FLAGS.download and (FLAGS.source or not FLAGS.model):
        raise UserError('--download fetches what --model=ZOO_NAME names: add that, and leave '
                        '--source out')
    from tf_advseg.experiments.convert import importing
    configuration.parse(FLAGS.gin_file, FLAGS.gin_param)
    outcome = importing.import_checkpoint(
        f'zoo:{FLAGS.model}' if FLAGS.download else FLAGS.source, FLAGS.output, FLAGS.model,
        FLAGS.num_classes, FLAGS.output_stride,
        FLAGS.dataset, FLAGS.backbone_only, FLAGS.verify,
        command_line.single(FLAGS.input, 'input'), FLAGS.graph)
    print(outcome.text())
    print(f'written: {outcome.folder} (use it as --checkpoint={outcome.folder})')


def run():
    """Console script."""
    command_line.run(main)


if __name__ == '__main__':
    run()
