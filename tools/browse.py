"""Shows what a network is shown: augmented batches with their labels, before anything is trained.

Takes the configuration of a run (as train does) and writes the batches of its first steps, Stage
1's and the method's (of Zhu et al. not the GAN's): a page, batches.html, and TensorBoard's images.
Crop, augmentation, order and views are those the run will have; nothing is trained, and no run
directory is written.

Example:
  python tools/browse.py --gin_file=gin/demo.gin --output=batches
"""
import pathlib
import sys

if not __package__:  # started as a script from a checkout, from any directory
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tf_advseg.core import command_line  # noqa: E402  before absl: it says what is missing
from tf_advseg.core import runtime  # noqa: E402

from absl import flags  # noqa: E402

command_line.define_common_flags('gin_file', 'gin_param', 'data_dir', 'output', 'seed')
flags.DEFINE_integer('steps', 3, 'Steps whose batches are shown, of each network.', lower_bound=1)
flags.DEFINE_integer('first_step', 0, 'The first of them, from 0.', lower_bound=0)

FLAGS = flags.FLAGS


def main(argv):
    """Flags, configuration, one call."""
    del argv
    from tf_advseg.core import configuration
    from tf_advseg.core.errors import UserError
    if not FLAGS.gin_file:
        raise UserError('no configuration was given: add --gin_file=gin/own_data.gin or another')
    runtime.configure()
    from tf_advseg.experiments.train import browsing
    from tf_advseg.experiments.train import training
    from tf_advseg.training import strategy
    browser = browsing.browser(FLAGS.output, FLAGS.steps, FLAGS.first_step,
                               [FLAGS.data_dir, *FLAGS.gin_file])
    bindings = [f'experiment.{name} = {getattr(FLAGS, name)!r}' for name in ('data_dir', 'seed')
                if getattr(FLAGS, name) is not None]
    configuration.parse(FLAGS.gin_file, bindings + list(FLAGS.gin_param))
    training.experiment(workdir=None, strategy=strategy.make_strategy('one_device'),
                        instead=browser)


def run():
    """Console script."""
    command_line.run(main)


if __name__ == '__main__':
    run()
