"""Trains a segmentor: Stage 1 (cross-entropy), a method, the CE-only control, the report.

Started again with the same command it goes on where it stopped. A gin file says what to run;
flags override it. Without --workdir the run goes to runs/ and the name of the gin file.

Example (scenes that it draws itself; --dry_run says how long it takes here):
  python tools/train.py --gin_file=gin/demo_smallest.gin --workdir=runs/first
"""
import pathlib
import sys

if not __package__:  # started as a script from a checkout, from any directory
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tf_advseg.core import command_line  # noqa: E402  before absl: it says what is missing
from tf_advseg.core import runtime  # noqa: E402

from absl import flags  # noqa: E402

command_line.define_common_flags('gin_file', 'gin_param', 'workdir', 'data_dir', 'checkpoint',
                                 'strategy', 'seed', 'dry_run')
flags.DEFINE_boolean('control', None, 'Also run the CE-only control: as many steps of the '
                     'segmentor as the method took (gin: experiment.control).')
flags.DEFINE_boolean('deterministic', True, 'Deterministic operations: the same command gives the '
                     'same bits on one machine.')
flags.DEFINE_string('profile', None, 'Steps of this process that TensorBoard\'s profiler looks at, '
                    'as 10,20.')
flags.DEFINE_list('track', [], 'Also write what TensorBoard gets to wandb, mlflow, or both '
                  '(gin: tracking.to).')
flags.DEFINE_integer('logical_cpus', 1, 'Devices the CPU appears as; replicas for '
                     '--strategy=mirrored.', lower_bound=1)

FLAGS = flags.FLAGS


def _bindings():
    """The flags that are settings of the experiment, as gin bindings: they count as its config."""
    bindings = []
    for name in ('data_dir', 'checkpoint', 'seed', 'control'):
        value = getattr(FLAGS, name)
        if value is not None:
            bindings.append(f'experiment.{name} = {value!r}')
    if FLAGS.track:
        bindings.append(f'tracking.to = {tuple(FLAGS.track)!r}')
    return bindings


def _default_workdir():
    """runs/ and the configuration's name below the current directory; created there, and said."""
    name = pathlib.Path(FLAGS.gin_file[-1]).stem
    folder = pathlib.Path('runs') / (name if FLAGS.seed is None else f'{name}_seed{FLAGS.seed}')
    if not FLAGS.dry_run:
        folder.parent.mkdir(exist_ok=True)
        print(f'run directory: {folder}', flush=True)
    return str(folder)


def main(argv):
    """Flags, configuration, one call."""
    del argv
    from tf_advseg.core import configuration
    from tf_advseg.core.errors import UserError
    if not FLAGS.gin_file:
        raise UserError('no configuration was given: add --gin_file=gin/papers/load/... or '
                        'gin/demo.gin')
    workdir = FLAGS.workdir or _default_workdir()
    runtime.configure(deterministic=FLAGS.deterministic, logical_cpus=FLAGS.logical_cpus)
    from tf_advseg.experiments.train import training
    from tf_advseg.training import profiling
    from tf_advseg.training import strategy
    profile = FLAGS.profile and profiling.Profile(
        *profiling.parse(FLAGS.profile), pathlib.Path(workdir) / 'tensorboard')
    distribution = strategy.make_strategy(FLAGS.strategy)
    configuration.parse(FLAGS.gin_file, _bindings() + list(FLAGS.gin_param))
    with profiling.active(profile):
        results = training.experiment(workdir=workdir, strategy=distribution,
                                      dry_run=FLAGS.dry_run, given=FLAGS.gin_param)
    if profile and not FLAGS.dry_run:
        print(profile.text())
    if results is not None:
        training.print_summary(results, workdir)


def run():
    """Console script."""
    command_line.run(main, resumes=True)


if __name__ == '__main__':
    run()
