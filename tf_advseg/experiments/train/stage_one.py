"""Stage 1 (LoAd, section 2): cross-entropy "up to a reasonable performance"."""
import dataclasses
import functools
from typing import Optional

import gin
from absl import logging

from tf_advseg.core import arguments
from tf_advseg.core import errors
from tf_advseg.data import pipeline
from tf_advseg.data.augmentation import recipes
from tf_advseg.evaluation import metrics as figures
from tf_advseg.experiments.train import best_model
from tf_advseg.methods import accumulation
from tf_advseg.methods import cross_entropy
from tf_advseg.methods import objective
from tf_advseg.methods import recipe
from tf_advseg.models import precision
from tf_advseg.models import segmentor as segmentors
from tf_advseg.run import averaged
from tf_advseg.run import context as contexts
from tf_advseg.run import networks
from tf_advseg.training import alternation
from tf_advseg.training import averaging
from tf_advseg.training import loop
from tf_advseg.training import optimizers
from tf_advseg.training import schedules
from tf_advseg.training import stages

NAME = 'stage1'
AVERAGED = 'stage1_averaged'
_KEPT = 0.25  # of batch norm's statistics at the start: beyond that scores suffer
# Settings that came later: at these values they are left out of what a stage is recognised by, so
# that a run that was begun before them goes on.
_LATER = {'optimizer': 'sgd', 'min_scale': 1.0, 'max_scale': 1.0, 'scale_step': 0.25,
          'size_range': None, 'nesterov': False, 'augmentation': None, 'clip_norm': None,
          'weight_decay': None, 'patience': None, 'reestimate_batches': 0}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of Stage 1; section 4 ("Stanford Background dataset") gives the defaults.

    Attributes:
      weighted_epochs: epochs of weighted CE, first.
      epochs: epochs of CE, then.
      batch_size: 7 in the paper.
      learning_rate: 1e-4 and constant in the paper. Not enough from the folded MobileNetV2 of the
        zoo: 5e-3 with schedule='poly' there.
      schedule: 'constant', 'poly' (power 0.9 over all epochs), 'step' or 'cosine'; the last three
        have settings of their own, slow start included: `schedules.polynomial_decay`, `step_decay`
        and `cosine_decay`.
      momentum: not printed; 0.9 is the official DeepLab code's.
      fine_tune_batch_norm: whether batch norm uses and updates batch statistics; None for what the
        network was built with: False, but for `deeplab_residual`, which starts from nothing.
      flip: random horizontal flips.
      evaluate_every_epochs: hold-out evaluations for the curve; 0 for none.
      optimizer: 'sgd' (Keras) or 'momentum' (TensorFlow 1's, the official DeepLab code's), or any
        other of `optimizers.OPTIMIZERS`.
      min_scale, max_scale, scale_step: random resizing before the crop, see
        `official_preprocessing.RandomScale`; 0.5, 2.0 and 0.25 in the official code, none here.
      size_range: (min_size, max_size, factor) of `official_preprocessing.SizeRange`, which resizes
        every image first; None for none. The hold-out's images are never resized.
      nesterov: of 'sgd' and 'momentum'; Hung et al. train their segmentor so.
      augmentation: a recipe by name (`data.augmentation.recipes`: 'flip', 'deeplab', 'hung', 'zhu',
        each with any of '+photometric', '+blur', '+rotation' and '+balanced') in place of flip, the
        scales and the size range; None for those.
      clip_norm, weight_decay: see `optimizers.make_optimizer`.
      patience: evaluations in a row without a higher hold-out mIoU after which Stage 1 ends; the
        best model by the hold-out is its result then, whether or not it ended early. Evaluations
        during the weighted epochs do not count where others follow. None for all epochs, and the
        last model. A schedule is over all epochs even so.
      reestimate_batches: batches of training images that the kept model's statistics of batch norm
        are estimated from when Stage 1 has ended (`averaging.reestimate_batch_norm`); 0 leaves the
        moving ones, which lag behind the weights in a short training.

    Raises:
      UserError: a value out of range.
    """
    weighted_epochs: float = 4
    epochs: float = 8
    batch_size: int = 7
    learning_rate: float = 1e-4
    schedule: str = 'constant'
    momentum: float = 0.9
    fine_tune_batch_norm: Optional[bool] = None
    flip: bool = True
    evaluate_every_epochs: float = 1
    optimizer: str = 'sgd'
    min_scale: float = 1.0
    max_scale: float = 1.0
    scale_step: float = 0.25
    size_range: Optional[tuple] = None
    nesterov: bool = False
    augmentation: Optional[str] = None
    clip_norm: Optional[float] = None
    weight_decay: Optional[float] = None
    patience: Optional[int] = None
    reestimate_batches: int = 0

    def __post_init__(self):
        where = 'stage_one'
        for name in ('weighted_epochs', 'epochs', 'evaluate_every_epochs'):
            arguments.require_number(where, name, getattr(self, name), 0)
        arguments.require_number(where, 'batch_size', self.batch_size, 1, whole=True)
        arguments.require_number(where, 'reestimate_batches', self.reestimate_batches, 0,
                                 whole=True)
        for name in ('clip_norm', 'weight_decay'):
            if getattr(self, name) is not None:  # named here as gin names them
                arguments.require_number(where, name, getattr(self, name), above=0, hint='or None')
        if self.weight_decay is not None and self.optimizer != 'adamw':
            raise errors.UserError(f'{where}.weight_decay = {self.weight_decay!r} has no effect on '
                                   f'the optimizer {self.optimizer}: only adamw reads it; set it '
                                   'to None')
        if self.patience is not None:
            arguments.require_number(where, 'patience', self.patience, 1, whole=True,
                                     hint='evaluations, or None')
            if not self.evaluate_every_epochs:
                raise errors.UserError(f'{where}.patience = {self.patience!r} has no effect with '
                                       f'{where}.evaluate_every_epochs = 0; set one of the two')

    @property
    def recipe(self):
        """The `recipes.Recipe` that the settings spell."""
        return recipes.of_settings('stage_one', self.augmentation, self.flip, self.min_scale,
                                   self.max_scale, self.scale_step, self.size_range)

    def steps(self, images):
        """(steps of weighted CE, steps in all) where there are so many training images."""
        # The last batch of an epoch runs into the next epoch: no image is left out.
        weighted = round(self.weighted_epochs * images / self.batch_size)
        return weighted, weighted + round(self.epochs * images / self.batch_size)

    def evaluate_every(self, images):
        """Steps between two evaluations; 0 for none.

        Raises:
          UserError: there would be none, and Stage 1 is to end by them.
        """
        every = round(self.evaluate_every_epochs * images / self.batch_size)
        if self.patience is not None and not every:
            raise errors.UserError(
                f'stage_one.evaluate_every_epochs = {self.evaluate_every_epochs!r} of {images} '
                'images are less than a step, so there would be no evaluation for '
                'stage_one.patience to count; raise it')
        return every


stage_one = gin.external_configurable(Settings, name='stage_one', module='tf_advseg.experiments')


def run(context, segmentor, start, average=False, random=False):
    """Runs Stage 1, or takes up its result.

    Args:
      context: run.context.Context.
      segmentor: built in the strategy's scope; ends with Stage 1's weights.
      start: JSON-able: what the weights are that it starts from.
      average: whether `averaging.swa` counts here: where Stage 1 is all there is. The averaged
        model lies in checkpoints/stage1_averaged then.
      random: whether some of the starting weights are random, to be logged again on a resume.

    Returns:
      dict with 'epochs', 'steps', 'seconds', 'random' and the mIoU on the hold-out; with averaged
      weights what `averaged.save` says of them, as 'averaged'; with patience what
      `best_model.EarlyStopping.result` says, as 'early_stopping'.

    Raises:
      UserError: a setting out of range.
    """
    settings = _resolved(stage_one(), segmentor)
    epochs = settings.weighted_epochs + settings.epochs
    swa = averaging.swa()
    average = average and swa.enabled and epochs > 0
    ran = []

    def work(folder):
        ran.append(True)
        result = _train(context, segmentor, settings, folder, swa if average else None) if (
            epochs) else {'steps': 0, 'seconds': 0.0}
        miou = context.holdout_miou(segmentor)
        networks.save(context.run.checkpoints / NAME, segmentor, context.description,
                      context.data.spec, context.chief, holdout_miou=miou)
        return {**result, 'epochs': epochs, 'holdout_miou': miou, 'random': random}

    result = stages.run_stage(context.run.stages, NAME, {
        'settings': _identity(settings), **objective.further_losses().identity,
        **accumulation.accumulate().identity, **precision.precision().identity, 'start': start,
        'model': context.description, 'seed': context.streams.seed_value,
        'crop_size': list(context.crop_size), 'train': stages.settings_hash(context.data.train),
        **({'swa': dataclasses.asdict(swa)} if average else {})}, work, context.chief)
    if context.chief:
        best_model.remove_aside(context.run.stages / NAME)
    context.barrier()
    if not ran:
        networks.load_weights(context.run.checkpoints / NAME, segmentor)
    return result


def check(context, segmentor):
    """Puts Stage 1 together and trains nothing: for what is long and comes before it.

    Args:
      context, segmentor: see `run`.

    Raises:
      UserError: a setting out of range.
    """
    settings = _resolved(stage_one(), segmentor)
    _ = settings.recipe  # raises
    _check(context, settings)
    _method(context, segmentor, settings, max(1, settings.steps(len(context.data.train))[1]))


def cost(context, segmentor, forward):
    """The `methods.recipe.Cost` of Stage 1, guessed.

    Args:
      context, segmentor: see `run`.
      forward: seconds of the segmentor on one image.
    """
    settings = _resolved(stage_one(), segmentor)
    steps = settings.steps(len(context.data.train))[1]
    if steps:
        check(context, segmentor)
        warn_of_short_statistics(segmentor, settings, steps)
    return recipe.Cost('Stage 1', f'{steps} steps of the segmentor',
                       steps * accumulation.accumulate().passes * forward * settings.batch_size,
                       3 * segmentors.parameter_count(segmentor)[0])


def first_steps(context, segmentor, rate):
    """Stage 1's step with another learning rate: what a range test takes in its place.

    Args:
      context, segmentor: see `run`; batch norm is as Stage 1 has it from here on.
      rate: a Keras schedule.

    Returns:
      (the method; the phase of Stage 1's first step; its batches, a tf.data.Dataset without end).

    Raises:
      UserError: a setting out of range, or Stage 1 takes no step.
    """
    settings = _resolved(stage_one(), segmentor)
    weighted, steps = settings.steps(len(context.data.train))
    if not steps:
        raise errors.UserError('Stage 1 takes no step; raise stage_one.epochs')
    _check(context, settings)
    segmentor.fine_tune_batch_norm = settings.fine_tune_batch_norm
    return (_method(context, segmentor, settings, steps, rate),
            'weighted' if weighted else 'segmentor',
            batch_streams(context, segmentor, settings)['segmentor'](0))


def _method(context, segmentor, settings, steps, rate=None):
    """`cross_entropy.CrossEntropy` with its optimizer, by another rate where one is given."""
    if rate is None:
        rate = schedules.make_schedule(settings.schedule, settings.learning_rate, steps,
                                       'stage_one')
    with context.strategy.scope():
        optimizer = optimizers.make_optimizer(settings.optimizer, rate, settings.momentum,
                                              settings.nesterov,
                                              clip_norm=settings.clip_norm,
                                              weight_decay=settings.weight_decay)
        return cross_entropy.cross_entropy(
            segmentor, optimizer, context.data.records.average_class_counts(context.data.train))


def _check(context, settings):
    """Raises UserError where Stage 1 is to end by evaluations that cannot be, or takes batches in
    more parts than they have images."""
    accumulation.accumulate().require_images('stage_one.batch_size', settings.batch_size,
                                             context.strategy.num_replicas_in_sync)
    settings.evaluate_every(len(context.data.train))
    if settings.patience is not None and not context.data.holdout:
        raise errors.UserError(f'stage_one.patience = {settings.patience!r}: there is no hold-out '
                               'to stop by, the data set has no validation images; set it to '
                               'None')


def warn_of_short_statistics(segmentor, settings, steps):
    """Logs where so few steps leave batch norm's moving statistics near where they began.

    A network then scores far below what it has learnt: it was trained with the batches' own
    statistics, and predicts with those of its start.

    Args:
      segmentor: the network.
      settings: `Settings`, resolved.
      steps: of Stage 1.
    """
    if settings.reestimate_batches:
        return
    norms = averaging.batch_norms(segmentor) if settings.fine_tune_batch_norm else []
    kept = max((layer.momentum for layer in norms), default=0.0) ** steps
    if kept > _KEPT:
        logging.warning(
            'Stage 1 has %d steps, too few for batch norm: %.0f %% of its moving statistics will '
            'be those of the start, and scores and maps far worse than the loss says; set '
            'stage_one.reestimate_batches=16, or with trained weights '
            'stage_one.fine_tune_batch_norm=False', steps,
            100 * kept)


def _resolved(settings, segmentor):
    """The settings with the network's own word on batch norm where they have none."""
    live = settings.fine_tune_batch_norm
    return dataclasses.replace(settings, fine_tune_batch_norm=bool(
        segmentor.fine_tune_batch_norm if live is None else live))


def _identity(settings):
    """The resolved settings that a finished Stage 1 is recognised by.

    A recipe by name stands there with all that it says, since gin may have changed it.
    """
    identity = {name: value for name, value in dataclasses.asdict(settings).items()
                if name not in _LATER or value != _LATER[name]}
    if settings.augmentation is not None:
        identity['recipe'] = settings.recipe.identity
    return identity


def batch_streams(context, segmentor, settings):
    """{'segmentor': function(first step) -> dataset of global batches}, for `browsing` too.

    Args:
      context: run.context.Context.
      segmentor: the network.
      settings: `Settings`.
    """
    return {'segmentor': functools.partial(
        pipeline.training_batches, context.data.records, context.data.train, settings.batch_size,
        context.crop_size, context.streams, recipe=settings.recipe,
        pad_value=segmentors.padding_colour(segmentor))}


def _train(context, segmentor, settings, folder, swa=None):
    """Trains; with `swa`, an `averaging.Settings`, the averaged model is saved as well."""
    data, memory = context.data, {}
    weighted, steps = settings.steps(len(data.train))
    _check(context, settings)
    warn_of_short_statistics(segmentor, settings, steps)
    frozen = segmentor.fine_tune_batch_norm
    segmentor.fine_tune_batch_norm = settings.fine_tune_batch_norm
    method = _method(context, segmentor, settings, steps)
    stopping, best = _stopping(context, segmentor, settings, folder, memory)
    with context.strategy.scope():
        average = None if swa is None else swa.build(
            segmentor, None if stopping is not None else steps)

    def evaluate(done):
        if not data.holdout:
            return []
        counts = context.holdout_counts(segmentor)
        miou = figures.plain(figures.mean_iou(counts, data.spec.absent))
        line = {'hold_out/miou': miou,
                'hold_out/pixel_accuracy': figures.plain(figures.pixel_accuracy(counts))}
        return [line] if stopping is None else [line, stopping.look(done, miou)]

    batches = batch_streams(context, segmentor, settings)['segmentor']

    metrics = contexts.BoardedJournal(context.journal(context.run.metrics_path),
                                      context.board(NAME))
    plan = alternation.Sequence(
        steps, lambda step: 'weighted' if step < weighted else 'segmentor')
    seconds = loop.train(loop.Stepper(method, context.strategy), method,
                         lambda _, first: batches(first), plan, folder, context.strategy,
                         context.streams, metrics, 'stage 1', memory=memory, average=average,
                         evaluate_every=settings.evaluate_every(len(data.train)),
                         evaluate=evaluate)
    result = {'steps': memory.get(loop.ENDED, steps), 'seconds': seconds}
    if average is not None:
        result['averaged'] = averaged.save(context, segmentor, average, swa,
                                           context.run.checkpoints / AVERAGED, batches(0))
    if stopping is not None:
        result['early_stopping'] = _kept(context, segmentor, stopping, best, steps)
    if settings.reestimate_batches:
        averaging.reestimate_batch_norm(segmentor, batches(0).take(settings.reestimate_batches),
                                        context.strategy)
    segmentor.fine_tune_batch_norm = frozen
    return result


def _stopping(context, segmentor, settings, folder, memory):
    """(`best_model.EarlyStopping`, `best_model.BestModel`) of a stage; None where there is none."""
    if settings.patience is None:
        return None, None

    def save(path, done, miou):
        networks.save(path, segmentor, context.description, context.data.spec, context.chief,
                      holdout_miou=miou, kept_step=done)
        context.barrier()

    weighted, steps = settings.steps(len(context.data.train))
    best = best_model.BestModel(folder, memory, save, context.chief)
    return best_model.EarlyStopping(settings.patience, weighted if weighted < steps else 0, best,
                                    memory), best


def _kept(context, segmentor, stopping, best, steps):
    """Puts the best weights into the network; returns what to say of it."""
    if best.path is None:
        raise errors.UserError(
            f'{context.data.records.folder}: no image of the hold-out has a labelled pixel to stop '
            'by; set stage_one.patience = None')
    networks.load_weights(best.path, segmentor)
    return stopping.result(steps)
