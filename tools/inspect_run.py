"""Shows a run directory as text: state, buffer, snapshots, seconds, the journal line by line.

Works while the run goes on. Damaged files are named, and the exit code is then 1.

Example:
  python tools/inspect_run.py --workdir=demo_run
"""
import pathlib
import sys

if not __package__:  # started as a script from a checkout, from any directory
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tf_advseg.core import command_line  # noqa: E402  before absl: it says what is missing

from absl import flags  # noqa: E402

command_line.define_common_flags('workdir')
flags.DEFINE_boolean('checksums', True, 'Compare every checksum; --nochecksums only sizes, '
                     'which is quicker where the buffer is large.')

FLAGS = flags.FLAGS


def main(argv):
    """Flags, one call, its lines."""
    del argv
    from tf_advseg.core.errors import UserError
    from tf_advseg.experiments.score import inspecting
    if not FLAGS.workdir:
        raise UserError('no run directory was given: add --workdir=runs/NAME')
    inspection = inspecting.Inspection(FLAGS.workdir, FLAGS.checksums)
    for line in inspection.lines():
        print(line)
    if inspection.damaged:
        raise UserError(f'{FLAGS.workdir}: {len(inspection.damaged)} damaged or missing: '
                        f'{inspection.damaged[0]}')


def run():
    """Console script."""
    command_line.run(main)


if __name__ == '__main__':
    run()
