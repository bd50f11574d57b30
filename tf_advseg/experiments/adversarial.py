"""Methods that take turns between a segmentor and an adversary, and their control.

The control is the same method without its adversary: the same start, the same batches in the same
order, the same number of the segmentor's steps, and the same choice among its evaluations.
"""
import dataclasses

import gin

from tf_advseg.adversaries import field_of_view
from tf_advseg.adversaries import label_maps
from tf_advseg.core import errors
from tf_advseg.data import pipeline
from tf_advseg.data import recipes
from tf_advseg.evaluation import metrics as figures
from tf_advseg.experiments import context as contexts
from tf_advseg.experiments import networks
from tf_advseg.methods import luc
from tf_advseg.models import segmentor as segmentors
from tf_advseg.training import alternation
from tf_advseg.training import loop
from tf_advseg.training import optimizers
from tf_advseg.training import schedules
from tf_advseg.training import stages

METHODS = ('luc',)
CONTROL = 'control'
KEEPS = ('best', 'last')


@gin.configurable
def adversarial_stage(epochs=20, steps=None, batch_size=8, augmentation='flip', keep='best',
                      evaluate_every_epochs=1, train_pictures=64, fine_tune_batch_norm=None,
                      diagnose_every=100):
    """The settings of the stage in which segmentor and adversary take turns.

    Args:
      epochs: of the segmentor's steps over the training pictures.
      steps: of the segmentor, in place of epochs.
      batch_size: pictures of a step of either network.
      augmentation: a recipe by name, see `data.recipes`.
      keep: 'best' keeps the evaluation with the largest mIoU on the hold-out ("to select the final
        model", Luc et al., section 4); 'last' the end of the training. Of the control alike.
      evaluate_every_epochs: how often the hold-out and some training pictures are evaluated; 0 for
        never.
      train_pictures: how many training pictures are evaluated (Luc et al., Fig. 4); 0 for none.
      fine_tune_batch_norm: see `stage_one`.
      diagnose_every: steps between two measurements of the gradients; 0 for never.

    Returns:
      dict of the settings.

    Raises:
      UserError: a value out of range.
    """
    settings = dict(locals())
    errors.require_one_of('adversarial_stage.keep', keep, KEEPS)
    for name, least in (('batch_size', 1), ('train_pictures', 0), ('diagnose_every', 0)):
        if settings[name] < least:
            raise errors.UserError(f'adversarial_stage.{name} = {settings[name]!r}: expected at '
                                   f'least {least}')
    if keep == 'best' and not evaluate_every_epochs:
        raise errors.UserError('adversarial_stage.keep = "best" chooses among evaluations, and '
                               'adversarial_stage.evaluate_every_epochs is 0; set one of the two')
    return settings


@gin.configurable(denylist=['steps'])
def segmentor_optimizer(steps, name='sgd', learning_rate=1e-3, momentum=0.9, nesterov=False,
                        schedule='constant'):
    """The segmentor's optimizer; schedules as in `stage_one`, over `steps`."""
    rate = schedules.make_schedule(schedule, learning_rate, steps)
    return optimizers.make_optimizer(name, rate, momentum, nesterov)


@gin.configurable
def adversary_optimizer(name='sgd', learning_rate=1e-3, momentum=0.9, nesterov=False):
    """The adversary's optimizer."""
    return optimizers.make_optimizer(name, learning_rate, momentum, nesterov)


def _luc(context, segmentor, optimizer, control):
    """`methods.luc.Luc` on a segmentor, or its control."""
    encoding = label_maps.label_maps(segmentor.num_classes, segmentors.padding_colour(segmentor))
    adversary = None if control else field_of_view.build_adversary(
        num_classes=segmentor.num_classes, channels=encoding.channels,
        seed=context.streams.seed_value)
    return luc.luc(segmentor, adversary, optimizer, None if control else adversary_optimizer(),
                   encoding, context.data.records.average_class_counts(context.data.train))


_BUILDERS = {'luc': _luc}


@dataclasses.dataclass
class Stage:
    """A stage that is put together; nothing is trained yet.

    Attributes:
      name: the method's, or 'control'.
      settings: of `adversarial_stage`.
      segmentor, method, plan: what is trained, by what, in which order.
      evaluate_every: steps of the segmentor, 0 for never.
    """
    name: str
    settings: dict
    segmentor: object
    method: object
    plan: object
    evaluate_every: int

    @property
    def steps(self):
        """Of the segmentor."""
        return self.plan.total if self.name == CONTROL else self.plan.segmentor_steps

    @property
    def checkpoint(self):
        """The folder below checkpoints/ that the result is kept in."""
        return CONTROL if self.name == CONTROL else self.settings['keep']


def build(context, segmentor, method, control=False):
    """Puts a stage together.

    Args:
      context: experiments.context.Context.
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
        raise errors.UserError(f'the adversarial stage has {steps} steps of the segmentor; set '
                               'adversarial_stage.epochs or adversarial_stage.steps')
    with context.strategy.scope():
        built = _BUILDERS[method](context, segmentor, segmentor_optimizer(steps), control)
    plan = (alternation.Sequence(steps, lambda step: 'cross_entropy') if control
            else alternation.alternation(steps))
    every = settings['evaluate_every_epochs'] * pictures / size
    return Stage(CONTROL if control else method, settings, segmentor, built, plan,
                 max(1, round(every)) if every else 0)


def run(context, segmentor, method, control=False):
    """Runs a stage, or takes up its result; what is kept of it lies in checkpoints/ then.

    Args:
      context, segmentor, method, control: see `build`; the segmentor starts as Stage 1 left it,
        and ends with other weights.

    Returns:
      dict with 'steps', 'seconds', and of the kept model 'holdout_miou' (None for 'last') and
      'kept_step'.
    """
    stage = build(context, segmentor, method, control)
    live = stage.settings['fine_tune_batch_norm']
    frozen = segmentor.fine_tune_batch_norm
    if live is not None:
        segmentor.fine_tune_batch_norm = bool(live)
    result = stages.run_stage(context.run.stages, stage.name, {
        'method': method, 'settings': stage.settings,
        'plan': dataclasses.asdict(stage.plan) if not control else stage.steps,
        'model': context.description, 'seed': context.streams.seed_value,
        'crop_size': list(context.crop_size),
        'train': stages.settings_hash(context.data.train)},
        lambda folder: _Runner(context, stage).run(folder), context.chief)
    segmentor.fine_tune_batch_norm = frozen
    context.barrier()
    return result


class _Runner:
    """Trains one stage."""

    def __init__(self, context, stage):
        self._context, self._stage = context, stage
        self._stepper = loop.Stepper(stage.method, context.strategy)
        self._folder = context.run.checkpoints / stage.checkpoint
        shown = context.streams.generator('diagnostics').permutation(len(context.data.train))
        shown = sorted(shown[:stage.settings['train_pictures']])
        self._parts = {'train': [context.data.train[i] for i in shown],
                       'holdout': context.data.holdout}
        self._parts = {name: ids for name, ids in self._parts.items() if ids}

    def run(self, folder):
        """Trains from what `folder` holds; see `adversarial.run`."""
        context, stage = self._context, self._stage
        metrics = contexts.BoardedJournal(context.journal(context.run.metrics_path),
                                          context.board(stage.name))
        seconds = loop.train(
            self._stepper, stage.method, self._batches, stage.plan, folder, context.strategy,
            context.streams, metrics, stage.name, evaluate_every=stage.evaluate_every,
            evaluate=self._evaluate, diagnose=self._diagnose,
            diagnose_every=0 if stage.name == CONTROL else stage.settings['diagnose_every'])
        if stage.settings['keep'] == 'last':
            self._save(stage.steps, None)
        kept = networks.read_description(self._folder)
        return {'steps': stage.steps, 'seconds': seconds, 'holdout_miou': kept['holdout_miou'],
                'kept_step': kept['kept_step']}

    def _batches(self, stream, first):
        """Batches of one network's steps; the adversary's come in an order of its own."""
        data, own = self._context.data, stream == alternation.SEGMENTOR
        return pipeline.training_batches(
            data.records, data.train, self._stage.settings['batch_size'], self._context.crop_size,
            self._context.streams, first,
            recipe=recipes.make_recipe(self._stage.settings['augmentation']),
            pad_value=segmentors.padding_colour(self._stage.segmentor),
            stream='data' if own else 'disc_data',
            augment_stream='augment' if own else 'disc_augment')

    def _diagnose(self, batch, seed):
        return self._stepper(self._stage.method.gradient_balance, batch, seed)

    def _evaluate(self, done):
        """One line for each part of the data; keeps the best by the hold-out."""
        lines = []
        for split, ids in self._parts.items():
            counts = self._context.counts(self._stage.segmentor, ids)
            classes = {'class_accuracy': figures.class_accuracy(counts),
                       'class_iou': figures.class_iou(counts)}
            absent = self._context.data.spec.absent
            lines.append({
                'event': 'evaluation', 'split': split,
                'miou': figures.plain(figures.mean_iou(counts, absent)),
                'pixel_accuracy': figures.plain(figures.pixel_accuracy(counts)),
                'mean_class_accuracy': figures.plain(figures.mean_class_accuracy(counts)),
                **{name: [figures.plain(value) for value in values]
                   for name, values in classes.items()}})
        if self._stage.settings['keep'] == 'best':
            self._keep(done, lines[-1]['miou'])
        return lines

    def _keep(self, done, miou):
        """Keeps the model if it is the best so far; the first of equals stays."""
        best = -1.0
        if (self._folder / networks.DESCRIPTION).is_file():
            best = networks.read_description(self._folder)['holdout_miou']
        self._context.barrier()  # all have read before the chief writes
        if miou is not None and miou > best:
            self._save(done, miou)

    def _save(self, done, miou):
        context = self._context
        networks.save(self._folder, self._stage.segmentor, context.description, context.data.spec,
                      context.chief, label=self._stage.name, holdout_miou=miou, kept_step=done)
        context.barrier()
