"""Methods that take turns between a segmentor and an adversary, and their control.

The control is the same method without its adversary: the same start, the same batches in the same
order, the same number of the segmentor's steps, and the same choice among its evaluations.
"""
import dataclasses

import gin
from absl import logging

from tf_advseg.core import arguments
from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.data.augmentation import recipes
from tf_advseg.experiments.train import method_builders
from tf_advseg.experiments.train import shared_control
from tf_advseg.experiments.train import stage_one
from tf_advseg.experiments.train import stage_training
from tf_advseg.run import stage_optimizers
from tf_advseg.training import alternation
from tf_advseg.training import averaging
from tf_advseg.training import stages

METHODS = tuple(method_builders.BUILDERS)
CONTROL = 'control'
KEEPS = ('best', 'last')
_MAY_CHANGE = ('diagnose_every', 'only_control')  # nothing that a stage's result hangs on
# Settings that came later: at these values they are left out of what a stage is recognised by.
_LATER = {'same_batches': False}


@gin.configurable
def adversarial_stage(epochs=20, steps=None, batch_size=8, augmentation='flip', keep='best',
                      evaluate_every_epochs=1, train_pictures=64, fine_tune_batch_norm=None,
                      only_control=False, diagnose_every=100, same_batches=False):
    """The settings of the stage in which segmentor and adversary take turns.

    Args:
      epochs: of the segmentor's steps over the training pictures.
      steps: of the segmentor, in place of epochs.
      batch_size: pictures of a step of either network.
      augmentation: a recipe by name, see `data.augmentation.recipes`.
      keep: 'best' keeps the evaluation with the largest mIoU on the hold-out ("to select the final
        model", Luc et al., section 4); 'last' the end of the training. Of the control alike.
      evaluate_every_epochs: how often the hold-out and some training pictures are evaluated; 0 for
        never.
      train_pictures: how many training pictures are evaluated (Luc et al., Fig. 4); 0 for none.
      fine_tune_batch_norm: see `stage_one`.
      only_control: train the control alone, without an adversary.
      diagnose_every: steps between two measurements of the gradients; 0 for never.
      same_batches: the adversary's k-th step takes the segmentor's k-th batch (Durall et al.,
        Algorithm 1), in place of batches of its own.

    Returns:
      dict of the settings.

    Raises:
      UserError: a value out of range.
    """
    settings = dict(locals())
    errors.require_one_of('adversarial_stage.keep', keep, KEEPS)
    for name, least in (('batch_size', 1), ('train_pictures', 0), ('diagnose_every', 0)):
        arguments.require_number('adversarial_stage', name, settings[name], least, whole=True)
    for name in ('epochs', 'evaluate_every_epochs'):
        arguments.require_number('adversarial_stage', name, settings[name], 0)
    if steps is not None:
        arguments.require_number('adversarial_stage', 'steps', steps, 1, whole=True,
                                 hint='or None for epochs')
    for name in ('only_control', 'same_batches'):
        arguments.require_flag('adversarial_stage', name, settings[name])
    if fine_tune_batch_norm is not None:
        arguments.require_flag('adversarial_stage', 'fine_tune_batch_norm', fine_tune_batch_norm)
    if not isinstance(augmentation, str):
        raise errors.UserError(f'adversarial_stage.augmentation = {augmentation!r}: expected the '
                               "name of a recipe, such as 'flip'")
    recipes.make_recipe(augmentation)
    if keep == 'best' and not evaluate_every_epochs:
        raise errors.UserError('adversarial_stage.keep = "best" chooses among evaluations, and '
                               'adversarial_stage.evaluate_every_epochs is 0; set one of the two')
    return settings


@dataclasses.dataclass
class Stage:
    """A stage that is put together; nothing is trained yet.

    Attributes:
      name: the method's, or 'control'.
      settings: of `adversarial_stage`.
      segmentor, method, plan: what is trained, by what, in which order.
      evaluate_every: steps of the segmentor, 0 for never.
      swa: averaging.Settings.
      average: averaging.WeightAverage of the segmentor, or None.
    """
    name: str
    settings: dict
    segmentor: object
    method: object
    plan: object
    evaluate_every: int
    swa: object
    average: object

    @property
    def steps(self):
        """Of the segmentor."""
        return self.plan.total if self.name == CONTROL else self.plan.segmentor_steps

    @property
    def learns_unlabelled(self):
        """bool: whether some steps take unlabelled pictures."""
        return any(stream == alternation.UNLABELLED
                   for _, _, stream in getattr(self.plan, 'periods', ()))

    @property
    def joint(self):
        """bool: whether each step moves both networks."""
        return isinstance(self.plan, alternation.Joint)

    @property
    def pictures_of_a_step(self):
        """float: labelled and unlabelled ones, the mean over the steps."""
        size = self.settings['batch_size']
        if not self.learns_unlabelled:
            return size
        late = self.plan.total - min(
            first for first, _, stream in self.plan.periods if stream == alternation.UNLABELLED)
        more = self.method.settings.unlabelled_batch_size or size
        return size + more * late / self.plan.total

    @property
    def checkpoint(self):
        """The folder below checkpoints/ that the result is kept in."""
        return CONTROL if self.name == CONTROL else self.settings['keep']

    @property
    def averaged_checkpoint(self):
        """The folder there of the averaged weights."""
        return 'control_averaged' if self.name == CONTROL else 'averaged'


def build(context, segmentor, method, control=False):
    """Puts a stage together.

    Args:
      context: run.context.Context.
      segmentor: built in the strategy's scope.
      method: one of METHODS.
      control: its control instead.

    Returns:
      Stage.

    Raises:
      UserError: a setting out of range.
    """
    settings = adversarial_stage()
    size, pictures = settings['batch_size'], len(context.data.train)
    steps = settings['steps']
    if steps is None:
        steps = round(settings['epochs'] * pictures / size)
    if steps < 1:
        raise errors.UserError(f'adversarial_stage.epochs = {settings["epochs"]!r}: less than one '
                               'step; give more, or adversarial_stage.steps')
    plan = (alternation.Sequence(steps, lambda step: 'cross_entropy') if control
            else method_builders.PLANS[method](steps))
    if not control:
        _require_unlabelled(context.data, plan)
    with context.strategy.scope():
        own = None
        if not control:
            own = (method_builders.FROZEN if isinstance(plan, alternation.Alone) else
                   stage_optimizers.adversary_optimizer(max(1, plan.adversary_steps)))
        built = method_builders.BUILDERS[method](
            context, segmentor, stage_optimizers.segmentor_optimizer(steps), own, steps)
        swa = averaging.swa()
        average = swa.build(segmentor, steps, settings['fine_tune_batch_norm'])
    every = settings['evaluate_every_epochs'] * pictures / size
    return Stage(CONTROL if control else method, settings, segmentor, built, plan,
                 max(1, round(every)) if every else 0, swa, average)


def warn_of_frozen_statistics(segmentor):
    """Logs that a network of random weights keeps batch norm as it begins, where it does."""
    live = adversarial_stage()['fine_tune_batch_norm']
    if live is None:
        live = getattr(segmentor, 'fine_tune_batch_norm', False)
    if not live and any('moving_mean' in v.name for v in segmentor.non_trainable_variables):
        logging.warning('the network starts from random weights, and its batch norm is frozen as '
                        'it begins, so it learns little: set '
                        'adversarial_stage.fine_tune_batch_norm = True, or start from trained '
                        'weights, or with a Stage 1')


def _require_unlabelled(data, plan):
    """UserError where a plan is of unlabelled pictures, and there are none or no steps for them."""
    starts = [first for first, _, stream in getattr(plan, 'periods', ())
              if stream == alternation.UNLABELLED]
    if starts and not data.unlabelled:
        raise errors.UserError(
            'there are no unlabelled pictures to learn from: set semi_supervised.fraction below 1, '
            "or semi_supervised.unlabelled_dir, or hung.terms = 'adv', which needs none")
    if starts and max(starts) >= plan.total:
        raise errors.UserError(
            f'hung.semi_start = {max(starts)}, and the stage has {plan.total} steps: unlabelled '
            "pictures would never come in; lower it, or set hung.terms = 'adv'")


def run(context, segmentor, method, control=False):
    """Runs a stage, or takes up its result; what is kept of it lies in checkpoints/ then.

    Args:
      context, segmentor, method, control: see `build`; the segmentor starts as Stage 1 left it,
        and ends with other weights.

    Returns:
      dict with 'steps', 'seconds', of the kept model 'holdout_miou' (None for 'last') and
      'kept_step', 'averaged': what `averaged.save` says of the averaged weights, or None, and
      'records': what the pictures were. Of a control taken over 'taken_from', too: from where.

    Raises:
      UserError: see `build`; a loss is not finite; the hold-out has no labelled pixel to choose by.
    """
    stage = build(context, segmentor, method, control)
    live = stage.settings['fine_tune_batch_norm']
    frozen = segmentor.fine_tune_batch_norm
    if live is not None:
        segmentor.fine_tune_batch_norm = live
    result = stages.run_stage(
        context.run.stages, stage.name, _identity(context, stage, method), lambda folder: {
            **stage_training.StageTraining(context, stage).run(folder),
            shared_control.RECORDS: shared_control.fingerprint(context.data.records)},
        context.chief)
    if context.chief:
        stage_training.remove_aside(context.run.stages / stage.name)
    segmentor.fine_tune_batch_norm = frozen
    context.barrier()
    return result


def take_control(context, segmentor, method, source):
    """Takes the control over from another run if it is the same, and prints what came of it.

    Args:
      context, segmentor, method: see `build`; Stage 1 is done.
      source: the other run's directory.

    Raises:
      UserError: see `shared_control.take_over`.
    """
    stage = build(context, segmentor, method, control=True)
    told = shared_control.take_over(context, source, _identity(context, stage, method)).text
    if told:
        print(told, flush=True)


def _identity(context, stage, method):
    """What a stage's result hangs on, see `stages.run_stage`."""
    return {
        'method': method, 'start': _start(context),
        **{name: value for name, value in stage.settings.items()
           if name not in _MAY_CHANGE and value != _LATER.get(name, ...)},
        **({'swa': dataclasses.asdict(stage.swa)} if stage.swa.enabled else {}),
        **stage.method.identity,
        **({'unlabelled': [stages.settings_hash(context.data.unlabelled),
                           shared_control.fingerprint(context.data.unlabelled_records)]}
           if stage.learns_unlabelled else {}),
        'plan': stage.steps if stage.name == CONTROL else dataclasses.asdict(stage.plan),
        'model': context.description, 'seed': context.streams.seed_value,
        'crop_size': list(context.crop_size),
        'train': stages.settings_hash(context.data.train)}


def _start(context):
    """What Stage 1 is recognised by; None where there was none."""
    marker = context.run.stages / stage_one.NAME / stages.DONE
    return files.read_json(marker)['settings_hash'] if marker.is_file() else None
