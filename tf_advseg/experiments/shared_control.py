"""A control that another run has trained already, taken over where it is the same training.

The control has no adversary: of two runs that differ in nothing else, both would train the same
one, step for step. A sweep over lambda or over discriminators trains it once a seed.
"""
import pathlib
import shutil

from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import journal
from tf_advseg.training import stages

STAGE = 'control'
# What a control does not hang on: these builders, and these settings of the others.
_BUILDERS = ('build_adversary', 'build_pixel_discriminator', 'adversary_optimizer', 'alternation',
             'label_maps', 'paper_figures')
_SETTINGS = ('adversarial_weight', 'saturating', 'map_stride', 'control', 'only_control',
             'control_from', 'diagnose_every')


def differences(path, text):
    """What of a run's configuration would make its control another one.

    Args:
      path: the run directory.
      text: the configuration that is to have the same control.

    Returns:
      Lines 'name: was X, now Y'.
    """
    old = (pathlib.Path(path) / 'config.gin').read_text(encoding='utf-8')
    return [line for line in configuration.differences(old, text, _SETTINGS)
            if line.partition(':')[0].split('.')[-2:][0] not in _BUILDERS]


def require(source):
    """Path of the run directory that a control is to come from.

    Raises:
      UserError: there is no run.
    """
    path = pathlib.Path(source).expanduser()
    if not (path / 'config.gin').is_file():
        raise errors.UserError(f'experiment.control_from = {str(source)!r}: not a run directory; '
                               'give one whose control is done, or leave it out')
    return path


def take_over(context, source, identity):
    """Copies the finished control of another run, unless this run has begun its own.

    Args:
      context: experiments.context.Context.
      source: the other run's directory.
      identity: what the stage hangs on, see `stages.run_stage`.

    Returns:
      Why it was not taken over, as text; None where it was, or where there is one already.

    Raises:
      UserError: there is no run at `source`.
    """
    source, own = require(source), context.run.stages / STAGE
    if own.exists() or source.resolve() == context.run.path.resolve():
        return None
    marker = source / 'stages' / STAGE / stages.DONE
    if not marker.is_file():
        return 'it has no finished control'
    changed = differences(source, configuration.config_text())
    if changed:
        return f'it was made with another configuration ({changed[0]})'
    if files.read_json(marker)['settings_hash'] != stages.settings_hash(identity):
        return 'it has another start, other pictures or other settings'
    if context.chief:
        _copy(context, source, own)
    context.barrier()
    return None


def _copy(context, source, own):
    """Models first, the stage's folder last: only then does it count."""
    for model in (source / 'checkpoints').glob(f'{STAGE}*'):
        target = context.run.checkpoints / model.name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(model, target)
    lines = journal.Journal.read(source / 'metrics.jsonl')
    metrics = context.journal(context.run.metrics_path)
    for line in lines:
        if line.get('stage') == STAGE:
            metrics.append(line.pop('event'), **line)
    metrics.position()
    with files.atomic_folder(own) as folder:
        for path in (source / 'stages' / STAGE).iterdir():
            if path.name.startswith('step-') or path.name.startswith('best-'):
                continue  # where the training stood: it is over
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, folder / path.name)
