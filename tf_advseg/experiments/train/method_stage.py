"""The stage in which a method is trained from Stage 1's weights, and its control.

The control is the same training on the pixel-wise loss alone: the same start, the same batches in
the same order, the same number of the segmentor's steps, and the same choice among its evaluations.
"""
import dataclasses
import functools
from typing import Optional

import gin
import numpy as np
from absl import logging

from tf_advseg.core import arguments
from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.data import mixed
from tf_advseg.data.augmentation import recipes as augmentations
from tf_advseg.experiments.train import best_model
from tf_advseg.experiments.train import shared_control
from tf_advseg.experiments.train import stage_one
from tf_advseg.experiments.train import stage_training
from tf_advseg.methods import objective
from tf_advseg.methods import recipe as recipes
from tf_advseg.models import segmentor as segmentors
from tf_advseg.run import costs
from tf_advseg.run import dataset as datasets
from tf_advseg.run import stage_optimizers
from tf_advseg.training import alternation
from tf_advseg.training import averaging
from tf_advseg.training import stages

CONTROL = shared_control.STAGE
KEEPS = ('best', 'last')
_MAY_CHANGE = ('diagnose_every', 'only_control')  # nothing that a stage's result depends on
# Of the method alone: the control has no discriminator whose batches these are.
_OF_THE_METHOD = ('same_batches',)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of the stage, `adversarial_stage.…` in gin.

    Attributes:
      epochs: of the segmentor's steps over the training images.
      steps: of the segmentor, in place of epochs.
      batch_size: images of a step of either network.
      augmentation: a recipe by name, see `data.augmentation.recipes`.
      keep: 'best' keeps the evaluation with the largest mIoU on the hold-out ("to select the final
        model", Luc et al., section 4); 'last' the end of the training. Of the control alike.
      evaluate_every_epochs: how often the hold-out and some training images are evaluated; 0 for
        never.
      train_images: how many training images are evaluated (Luc et al., Fig. 4); 0 for none.
      fine_tune_batch_norm: see `stage_one`.
      only_control: train the control alone, without the method.
      diagnose_every: steps between two measurements of the gradients; 0 for never.
      same_batches: the discriminator's k-th step takes the segmentor's k-th batch (Durall et al.,
        Algorithm 1), in place of batches of its own.

    Raises:
      UserError: a value out of range.
    """
    epochs: float = 20
    steps: Optional[int] = None
    batch_size: int = 8
    augmentation: str = 'flip'
    keep: str = 'best'
    evaluate_every_epochs: float = 1
    train_images: int = 64
    fine_tune_batch_norm: Optional[bool] = None
    only_control: bool = False
    diagnose_every: int = 100
    same_batches: bool = False

    def __post_init__(self):
        where = 'adversarial_stage'
        errors.require_one_of(f'{where}.keep', self.keep, KEEPS)
        for name, least in (('batch_size', 1), ('train_images', 0), ('diagnose_every', 0)):
            arguments.require_number(where, name, getattr(self, name), least, whole=True)
        for name in ('epochs', 'evaluate_every_epochs'):
            arguments.require_number(where, name, getattr(self, name), 0)
        if self.steps is not None:
            arguments.require_number(where, 'steps', self.steps, 1, whole=True,
                                     hint='or None for epochs')
        for name in ('only_control', 'same_batches'):
            arguments.require_flag(where, name, getattr(self, name))
        if self.fine_tune_batch_norm is not None:
            arguments.require_flag(where, 'fine_tune_batch_norm', self.fine_tune_batch_norm)
        if not isinstance(self.augmentation, str):
            raise errors.UserError(f'{where}.augmentation = {self.augmentation!r}: expected the '
                                   "name of a recipe, such as 'flip'")
        augmentations.make_recipe(self.augmentation)
        if self.keep == 'best' and not self.evaluate_every_epochs:
            raise errors.UserError(f'{where}.keep = "best" chooses among evaluations, and '
                                   f'{where}.evaluate_every_epochs is 0; set one of the two')

    def steps_on(self, images):
        """Steps of the segmentor where there are so many training images.

        Raises:
          UserError: less than one.
        """
        steps = self.steps
        if steps is None:
            steps = round(self.epochs * images / self.batch_size)
        if steps < 1:
            raise errors.UserError(f'adversarial_stage.epochs = {self.epochs!r}: less than one '
                                   'step; give more, or adversarial_stage.steps')
        return steps


adversarial_stage = gin.external_configurable(Settings, name='adversarial_stage',
                                              module='tf_advseg.experiments')
configuration.renamed(adversarial_stage__train_pictures='adversarial_stage.train_images')


@dataclasses.dataclass
class Stage:
    """A stage that is put together; nothing is trained yet.

    Attributes:
      context: run.context.Context.
      recipe: methods.recipe.Recipe.
      arm: methods.recipe.Arm.
      settings: `Settings`.
      segmentor, method, plan: what is trained, by what, in which order.
      evaluate_every: steps of the segmentor, 0 for never.
      swa: averaging.Settings.
      average: averaging.WeightAverage of the segmentor, or None.
    """
    context: object
    recipe: object
    arm: object
    settings: object
    segmentor: object
    method: object
    plan: object
    evaluate_every: int
    swa: object
    average: object

    @property
    def is_control(self):
        """bool."""
        return self.arm is recipes.Arm.CONTROL

    @property
    def name(self):
        """Of its folder and its lines in metrics.jsonl: the method's, or 'control'."""
        return CONTROL if self.is_control else self.recipe.name

    @property
    def steps(self):
        """Of the segmentor."""
        return self.plan.segmentor_steps

    @property
    def learns_unlabelled(self):
        """bool: whether some steps take unlabelled images."""
        return alternation.UNLABELLED in self.plan.streams

    @property
    def images_of_a_step(self):
        """float: labelled and unlabelled ones, the mean over the segmentor's steps."""
        size = self.settings.batch_size
        more = self.method.batch_needs.unlabelled_batch_size or size
        return size + more * self.plan.share_of(alternation.UNLABELLED)

    @property
    def checkpoint(self):
        """The folder below checkpoints/ that the result is kept in."""
        return CONTROL if self.is_control else self.settings.keep

    @property
    def averaged_checkpoint(self):
        """The folder there of the averaged weights."""
        return 'control_averaged' if self.is_control else 'averaged'

    def run(self):
        """Runs the stage, or takes up its result; what is kept of it lies in checkpoints/ then.

        The segmentor starts as Stage 1 left it, and ends with other weights.

        Returns:
          dict with 'steps', 'seconds', of the kept model 'holdout_miou' (None for 'last') and
          'kept_step', 'averaged': what `averaged.save` says of the averaged weights, or None,
          'about', and 'records': what the images were. Of a control taken over 'taken_from', too.

        Raises:
          UserError: a loss is not finite; the hold-out has no labelled pixel to choose by.
        """
        context, live = self.context, self.settings.fine_tune_batch_norm
        frozen = self.segmentor.fine_tune_batch_norm
        if live is not None:
            self.segmentor.fine_tune_batch_norm = live
        result = stages.run_stage(
            context.run.stages, self.name, self.identity(), lambda folder: {
                **stage_training.StageTraining(context, self).run(folder),
                shared_control.RECORDS: datasets.fingerprint(context.data.records)}, context.chief)
        if context.chief:
            best_model.remove_aside(context.run.stages / self.name)
        self.segmentor.fine_tune_batch_norm = frozen
        context.barrier()
        return result

    def batch_streams(self):
        """{whose batches: function(first step) -> dataset of global batches}, for `browsing`."""
        return {stream: functools.partial(stage_training.stage_batches, self.context, self, stream)
                for stream in self.plan.streams}

    def text(self, result):
        """A line for a reader on the result of `run`."""
        miou = result['holdout_miou']
        return (f'{result["steps"]} steps, kept step {result["kept_step"]}'
                + ('' if miou is None else f' with hold-out mIoU {100 * miou:.2f}'))

    def identity(self):
        """All that the result depends on, JSON-able; the control's holds nothing of the method."""
        context, settings = self.context, dataclasses.asdict(self.settings)
        left_out = (*_MAY_CHANGE, *(_OF_THE_METHOD if self.is_control else ()), 'epochs', 'steps')
        augmentation = augmentations.make_recipe(self.settings.augmentation)
        found = {
            'start': _start(context), 'steps': self.steps,
            **{name: value for name, value in settings.items() if name not in left_out},
            'recipe': augmentation.identity, 'evaluate_every': self.evaluate_every,
            'optimizer': optimizer_settings(self.method.optimizer),
            'swa': dataclasses.asdict(self.swa) if self.swa.enabled else None,
            **self.method.identity, 'model': context.description,
            'seed': context.streams.seed_value, 'crop_size': list(context.crop_size),
            'train': stages.settings_hash(context.data.train),
            'holdout': stages.settings_hash(context.data.holdout)}
        if not self.is_control:
            found.update(method=self.recipe.name, plan=dataclasses.asdict(self.plan))
        if self.learns_unlabelled:
            found['unlabelled'] = [stages.settings_hash(context.data.unlabelled),
                                   datasets.fingerprint(context.data.unlabelled_records)]
        return found

    def cost(self, forward):
        """The `methods.recipe.Cost` of the stage, guessed.

        Args:
          forward: seconds of the segmentor on a batch of this stage.
        """
        weights = 3 * segmentors.parameter_count(self.segmentor)[0]
        if self.is_control:
            return recipes.Cost('control', f'{self.steps} steps of the segmentor',
                                self.steps * self.method.accumulate.passes * forward, weights)
        if self.recipe.cost is not None:
            return self.recipe.cost(self.context, self.segmentor, self, forward)
        return _guess(self, forward, weights)


def _guess(stage, forward, weights):
    """The Cost of a method with a discriminator of its segmentor's maps, or with none."""
    size, discriminator = stage.settings.batch_size, stage.method.discriminator
    forwards = stage.method.accumulate.passes * forward
    text, seconds = f'{stage.steps} steps of the segmentor', 0.0
    if discriminator is not None:
        parameters, _ = segmentors.parameter_count(discriminator)
        weights += 2 * parameters
        tried = min(size, costs.TRIED)
        seconds = costs.seconds_of(*_shown(stage, tried)) * size / tried
        text += (f', {stage.plan.discriminator_steps} of the discriminator '
                 f'({parameters:,} parameters)')
    if stage.plan.joint:  # one forward pass, and one of D over predictions, serve both
        total = stage.steps * stage.images_of_a_step / size * (forwards + 6 * seconds)
    else:
        total = (stage.steps * (forwards + 3 * seconds)
                 + stage.plan.discriminator_steps * (forward + 6 * seconds))
    return recipes.Cost(stage.recipe.title, text, total, weights)


def _shown(stage, size):
    """(function of maps, maps of so many images): what the discriminator is shown."""
    images = np.zeros((size, *stage.context.crop_size, 3), np.float32)
    labels = np.zeros(images.shape[:3], np.int32)
    maps = stage.method.fake_maps({'image': images, 'label': labels},
                                  stage.segmentor(images, training=False))
    discriminator = stage.method.discriminator
    extra = {'image': images} if getattr(discriminator, 'needs_image', False) else {}
    return (lambda x, training: discriminator(x, **extra)), maps


def build(context, segmentor, recipe, arm, steps=None):
    """Puts a stage together.

    Args:
      context: run.context.Context.
      segmentor: built in the strategy's scope.
      recipe: methods.recipe.Recipe.
      arm: methods.recipe.Arm.
      steps: of the segmentor; None for what `adversarial_stage` says.

    Returns:
      Stage.

    Raises:
      UserError: a setting out of range.
    """
    settings, images = adversarial_stage(), len(context.data.train)
    steps = settings.steps_on(images) if steps is None else steps
    control = arm is recipes.Arm.CONTROL
    plan = (alternation.Sequence(steps, lambda step: 'cross_entropy') if control
            else recipe.plan(steps))
    if alternation.UNLABELLED in plan.streams and not context.data.unlabelled:
        raise errors.UserError('there are no unlabelled images to learn from: '
                               + recipe.needs_unlabelled)
    if settings.keep == 'best' and not context.data.holdout:
        raise errors.UserError('adversarial_stage.keep = "best" chooses by the hold-out, and there '
                               'is none; set it to "last", or dataset.holdout_fraction')
    with context.strategy.scope():
        if control:
            method = objective.Control(segmentor, stage_optimizers.segmentor_optimizer(steps),
                                       recipe.pixel_loss(context))
        else:
            method = recipe.build(context, segmentor, plan)
        _require_batches(method, plan, settings, context.strategy.num_replicas_in_sync)
        method.accumulate.require_images('adversarial_stage.batch_size', settings.batch_size,
                                         context.strategy.num_replicas_in_sync)
        swa = averaging.swa()
        average = swa.build(segmentor, steps, settings.fine_tune_batch_norm)
    every = settings.evaluate_every_epochs * images / settings.batch_size
    return Stage(context, recipe, arm, settings, segmentor, method, plan,
                 max(1, round(every)) if every else 0, swa, average)


def _require_batches(method, plan, settings, replicas):
    """UserError where the method's batches cannot be made: said before Stage 1, not after it."""
    needs = method.batch_needs
    if alternation.UNLABELLED not in plan.streams:
        return
    more = needs.unlabelled_batch_size or settings.batch_size
    if needs.two_views is not None:
        mixed.require_views(needs.two_views, more,
                            augmentations.make_recipe(settings.augmentation))
    if needs.evenly:
        mixed.require_both_kinds(settings.batch_size, more, replicas,
                                 method.accumulate.micro_batches)


def optimizer_settings(optimizer):
    """An optimizer's own settings and its schedule's, JSON-able."""
    return {name: value for name, value in optimizer.get_config().items()
            if name not in ('name', 'jit_compile')}


def warn_of_frozen_statistics(segmentor):
    """Logs that a network of random weights keeps batch norm as it begins, where it does."""
    live = adversarial_stage().fine_tune_batch_norm
    if live is None:
        live = getattr(segmentor, 'fine_tune_batch_norm', False)
    if not live and any('moving_mean' in v.name for v in segmentor.non_trainable_variables):
        logging.warning('the network starts from random weights, and its batch norm is frozen as '
                        'it begins, so it learns little: set '
                        'adversarial_stage.fine_tune_batch_norm = True, or start from trained '
                        'weights, or with a Stage 1')


def _start(context):
    """What Stage 1 is recognised by; None where there was none."""
    marker = context.run.stages / stage_one.NAME / stages.DONE
    if not marker.is_file():
        return None
    with files.as_written(marker):
        return files.read_json(marker)['settings_hash']
