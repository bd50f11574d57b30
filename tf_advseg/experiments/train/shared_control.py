"""A control that another run has trained already, taken over where it is the same training.

The control knows no method: runs that differ in their methods alone would train the same one, step
for step. A sweep over methods, over lambda or over discriminators trains it once a seed. Whether it
is the same is not left to names: all that the stage depends on, the weights of either start, the
images of either split and what either's records were made of are compared.
"""
import dataclasses
import pathlib
import shutil

import numpy as np

from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import journal
from tf_advseg.core import run_directory
from tf_advseg.experiments import recipe_registry as recipes
from tf_advseg.experiments.train import stage_one
from tf_advseg.run import dataset as datasets
from tf_advseg.run import networks
from tf_advseg.training import averaging
from tf_advseg.training import checkpoints
from tf_advseg.training import loop
from tf_advseg.training import stages

STAGE = 'control'
RECORDS = 'records'  # in the result of a stage: what its images were, see `fingerprint`
TAKEN, OWN, REFUSED = 'taken over', 'its own', 'refused'
# What a control does not depend on, beside what every recipe names.
_NOT_OF_THE_CONTROL = ('paper_figures', 'experiment.method', 'experiment.control',
                       'experiment.control_from', 'semi_supervised.unlabelled_dir',
                       'semi_supervised.rare_below', 'adversarial_stage.only_control',
                       'adversarial_stage.diagnose_every', 'adversarial_stage.same_batches',
                       'adversarial_stage.steps')
# Where the other run's training stood: it is over, and its journal is another.
_LEFT_BEHIND = ('step-', 'best-', loop.STATE, files.TEMPORARY)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of taking over.

    Attributes:
      kind: TAKEN; OWN where the run has begun its own already, or has taken one over; REFUSED.
      source: the other run's directory, as given.
      reason: why it was refused, else None.
    """
    kind: str
    source: str
    reason: object = None

    @property
    def text(self):
        """A line for the reader; '' where nothing has happened."""
        return {TAKEN: f'control: taken over from {self.source}', OWN: '',
                REFUSED: f'control: trained here, not taken over from {self.source}: '
                         f'{self.reason}'}[self.kind]


def key(text, recipe):
    """Identifies the control of a configuration, before any network is built.

    Args:
      text: from `configuration.config_text`; the configuration is the one that gin holds.
      recipe: methods.recipe.Recipe of its method.

    Returns:
      Text; two runs of one seed with the same key train the same control.
    """
    known = recipes.load_all().values()
    left_out = {*_NOT_OF_THE_CONTROL, *(name for other in known for name in other.method_only),
                *(other.name for other in known if other.trains)}
    if not averaging.swa().enabled:  # its other settings are then nobody's
        left_out.add('swa')
    bindings = {name: repr(value) for name, value in configuration.bindings(text).items()
                if not left_out.intersection(selectors(name))}
    loss = dataclasses.asdict(recipe.pixel_loss(NoData()))
    steps = recipe.control_steps() or configuration.bound('adversarial_stage.steps')
    return files.to_json([bindings, loss, steps])


class NoData:
    """A context without data, to read a method's settings by.

    Of one seed and configuration, class counts are the same, so they tell no two controls apart.
    """

    @staticmethod
    def average_class_counts():
        """No counts."""
        return ()


def selectors(name):
    """What a binding's full name can be left out by.

    Returns:
      ('configurable.parameter', 'configurable', scopes...); () of a macro, which has no dot.
    """
    *scopes, rest = name.split('/')
    parts = rest.split('.')
    if len(parts) < 2:
        return ()
    return '.'.join(parts[-2:]), parts[-2], *scopes


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

    With several workers each passes the same three barriers, whatever it finds: none looks before
    all are there, and the chief copies only when all have looked. `source` is to be seen by all.

    Args:
      context: run.context.Context; Stage 1 is done.
      source: the other run's directory.
      identity: what the stage depends on, see `stages.run_stage`.

    Returns:
      Outcome. A copied stage's result says 'taken_from': `source` as given.

    Raises:
      UserError: there is no run at `source`; the disk is full.
    """
    context.barrier()
    found = _examined(context, source, identity)
    context.barrier()
    if found.kind == TAKEN and context.chief:
        _copy(context, found, identity)
    context.barrier()
    return found


def _examined(context, source, identity):
    """`take_over` without the copy: read from the files alone, the same on every worker."""
    given = str(source)
    if (context.run.stages / STAGE).exists():
        return Outcome(OWN, given)
    path = require(source)
    try:
        reason = _refusal(context, path, identity)
    except errors.UserError as error:  # the other run's damage stops no training here
        reason = f'it cannot be read ({error})'
    return Outcome(TAKEN, given) if reason is None else Outcome(REFUSED, given, reason)


def _refusal(context, path, identity):
    """Why the control of the run at `path` is not this run's; None where it is."""
    marker = path / 'stages' / STAGE / stages.DONE
    if path.resolve() == context.run.path.resolve():
        return 'it is this very run'
    if not marker.is_file():
        return 'it has no finished control'
    if run_directory.lane_of(path) not in (None, run_directory.lane_of(context.run.path)):
        return 'it was trained with another TensorFlow (environment.json)'
    with files.as_written(marker):
        done = dict(files.read_json(marker))
    if not _same_start(path, context.run.path):
        return f'it starts from other weights (checkpoints/{stage_one.NAME})'
    other = _other_parts(path, context.data)
    if other:
        return f'it has other images (split.json: {", ".join(other)})'
    known = _records_of(path, done, marker)
    if known != datasets.fingerprint(context.data.records):
        return ('it was trained on other records (reader, classes, split or source files)' if known
                else 'nothing says which records it was trained on')
    was = done.get('settings', {})
    if done.get('settings_hash') != stages.settings_hash(was):
        return 'its stage was done with other settings (not known which)'
    changed = differences(was, identity)
    if changed:
        return f'its stage was done with other settings ({", ".join(changed)})'
    _require_whole(path, _models(identity))
    return None


def differences(old, new):
    """Names of the settings in which two controls differ, the name of the start left out.

    Args:
      old, new: from `method_stage.Stage.identity`; the weights of the start are compared by
        themselves.
    """
    return [name for name in {**new, **old} if name != 'start'
            and stages.settings_hash(old.get(name)) != stages.settings_hash(new.get(name))]


def _models(identity):
    """Folders below checkpoints/ that a control leaves."""
    return (STAGE, f'{STAGE}_averaged') if identity['swa'] else (STAGE,)


def _require_whole(path, models):
    """Raises UserError unless all that is to be copied is there and undamaged."""
    for name in models:
        networks.read_description(path / 'checkpoints' / name)
        files.check_manifest(path / 'checkpoints' / name / networks.WEIGHTS)
    journal.Journal.read(path / 'metrics.jsonl')


def _same_start(*runs):
    """Whether two runs left Stage 1 with the same weights, to the bit."""
    folders = [run / 'checkpoints' / stage_one.NAME / networks.WEIGHTS for run in runs]
    old, new = (files.check_manifest(folder)['files'] for folder in folders)
    if old == new:
        return True
    old, new = map(_variables, folders)  # another strategy writes other bytes
    return set(old) == set(new) and all(
        old[key].dtype == new[key].dtype and np.array_equal(old[key], new[key]) for key in old)


def _variables(folder):
    """{key: array} of a checkpoint that `checkpoints.write_state` wrote."""
    reader = checkpoints.reader(folder)
    return {key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map()
            if key.endswith('/.ATTRIBUTES/VARIABLE_VALUE')}


def _other_parts(path, data):
    """Names of the parts of the data that hold other images, or in another order."""
    content = files.read_json(path / 'split.json')
    with files.as_written(path / 'split.json'):
        there = dict(content.get('splits', {}))
    own = {'train': data.train, 'holdout': data.holdout, 'val_without_holdout': data.rest,
           'test': data.test}
    return [name for name, ids in own.items() if there.get(name) != list(ids)]


def _records_of(path, done, marker):
    """`fingerprint` of what the control of a run was trained on; None where nothing says it.

    A control of before this was written down was trained on the records that its configuration
    leads to, if these have not been made anew since.
    """
    with files.as_written(marker):
        known = done.get('result', {}).get(RECORDS)
    if known:
        return known
    found = configuration.bindings(configuration.read(path / 'config.gin'))
    given = [value for name, value in found.items() if name.endswith('experiment.data_dir')]
    for folder in (*(pathlib.Path(value) for value in given if value), path / 'records'):
        manifest = folder / files.MANIFEST
        if manifest.is_file() and manifest.stat().st_mtime <= marker.stat().st_mtime:
            with files.as_written(manifest):
                identity = files.read_json(manifest).get('identity')
            return stages.settings_hash(identity)
    return None


def _copy(context, found, identity):
    """Models first, then the curves' lines, the stage's folder last: only then does it count."""
    path = require(found.source)
    for name in _models(identity):
        shutil.rmtree(context.run.checkpoints / name, ignore_errors=True)
        with files.atomic_folder(context.run.checkpoints / name) as folder:
            shutil.copytree(path / 'checkpoints' / name, folder, dirs_exist_ok=True)
    _copy_lines(path / 'metrics.jsonl', context.run.metrics_path)
    with files.atomic_folder(context.run.stages / STAGE) as folder:
        for item in (path / 'stages' / STAGE).iterdir():
            if not item.name.startswith(_LEFT_BEHIND):
                (shutil.copytree if item.is_dir() else shutil.copy2)(item, folder / item.name)
        done = files.read_json(folder / stages.DONE)
        with files.as_written(path / 'stages' / STAGE / stages.DONE):
            done['result']['taken_from'] = found.source
        # The start has another name here, its weights are the same.
        stages.write_done(folder / stages.DONE, identity, done['result'])


def _copy_lines(source, target):
    """The control's lines of a metrics.jsonl, in place of any that a killed start has left."""
    theirs, (rest, left) = _by_stage(source)[1], _by_stage(target)
    if left != theirs:
        with files.atomic_file(target, 'w') as file:
            file.writelines(files.to_json(line) + '\n' for line in (*rest, *theirs))


def _by_stage(path):
    """(other lines, the control's) of a metrics.jsonl, which need not be there."""
    lines = journal.Journal.read(path) if path.is_file() else []
    return ([line for line in lines if line.get('stage') != STAGE],
            [line for line in lines if line.get('stage') == STAGE])
