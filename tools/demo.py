"""LoAd from nothing to a report, with the time left: generated images, Stage 1, cycles, control.

Needs no data. Prints the table of Stage 1, the CE-only control and LoAd on test images, writes
report.html, and says what to try next on your own data. Started again it goes on.

Example:
  python tools/demo.py --smallest --workdir=demo_smallest
"""
import pathlib
import sys

if not __package__:  # started as a script from a checkout, from any directory
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tf_advseg.core import command_line  # noqa: E402  before absl: it says what is missing
from tf_advseg.core import runtime  # noqa: E402

from absl import flags  # noqa: E402

command_line.define_common_flags('gin_param', 'seed', workdir='demo_run')
flags.DEFINE_boolean('smallest', False, 'A first look: few images, short cycles; it says first how '
                     'long it takes here. Its numbers mean nothing.')

FLAGS = flags.FLAGS


def main(argv):
    """Flags, configuration, one call, the table."""
    del argv
    print(f'demo in {FLAGS.workdir}: generated images, Stage 1, LoAd, control, report', flush=True)
    runtime.configure(deterministic=True)
    from tf_advseg.experiments.train import demonstration
    from tf_advseg.training import strategy
    name = 'demo_smallest.gin' if FLAGS.smallest else 'demo.gin'
    if not demonstration.finished(FLAGS.workdir):
        print(demonstration.expected_time(name, demonstration.first_step_seconds()), flush=True)
    bindings = [] if FLAGS.seed is None else [f'experiment.seed = {FLAGS.seed}']
    results, before = demonstration.run(
        FLAGS.workdir, name, bindings + list(FLAGS.gin_param), strategy.make_strategy('one_device'))
    demonstration.print_outcome(results, FLAGS.workdir, before)


def run():
    """Console script."""
    command_line.run(main, resumes=True)


if __name__ == '__main__':
    run()
