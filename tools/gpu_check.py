"""Checks a GPU: every method's step on the CPU and on the GPU, compared and timed.

Prints versions, devices and a table, to be pasted into an issue: how far loss and update of the
weights lie from the CPU's, milliseconds a step, whether deterministic operations work, and, with
two GPUs, whether two replicas equal one device. Ends with exit code 1 where something differs.

Example (a machine with a GPU, some minutes):  python tools/gpu_check.py
"""
import os
import pathlib
import sys

if not __package__:  # started as a script from a checkout, from any directory
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tf_advseg.core import command_line  # noqa: E402  before absl: it says what is missing
from tf_advseg.core import runtime  # noqa: E402

from absl import flags  # noqa: E402

flags.DEFINE_enum('device', 'gpu', ('gpu', 'cpu'), 'What is compared with the CPU; cpu: two '
                  'logical CPUs with each other, which tries this tool.')
flags.DEFINE_multi_string('step', [], 'A step of the table, as "LoAd generator"; repeatable. '
                          'Default: all; with --device=cpu the quickest four.')
flags.DEFINE_multi_string('network', [], 'A network; repeatable. Default: all; with --device=cpu '
                          'farabet. Without --step all steps are taken on the first, Stage 1 on '
                          'the others.')
flags.DEFINE_integer('side', 33, 'Height and width of the images, 16 k + 1.', lower_bound=33)
flags.DEFINE_integer('repeats', 5, 'Steps that are timed.', lower_bound=1)

FLAGS = flags.FLAGS


def main(argv):
    """Flags, one call, its text."""
    del argv
    # The process with deterministic operations needs its share of the GPU's memory.
    os.environ.setdefault('TF_FORCE_GPU_ALLOW_GROWTH', 'true')
    runtime.configure(logical_cpus=2)
    from tf_advseg.core.errors import UserError
    from tf_advseg.experiments.benchmarks import gpu_comparison
    devices = gpu_comparison.find_devices(FLAGS.device)
    cases = gpu_comparison.chosen(FLAGS.device, FLAGS.step, FLAGS.network)
    lines = gpu_comparison.measure(devices, cases, gpu_comparison.checked_side(FLAGS.side),
                                   FLAGS.repeats)
    print(gpu_comparison.text(devices, lines, FLAGS.side))
    if not all(line.equal for line in lines):
        raise UserError('a step differs from the CPU\'s, see above')


def run():
    """Console script."""
    command_line.run(main)


if __name__ == '__main__':
    run()
