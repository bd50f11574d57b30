"""Trains the stage of a method or its control: batches, evaluations, what is kept.

A stage is put together in experiments/train/method_stage.py; training/loop.py takes the steps.
"""
import numpy as np

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.data import mixed
from tf_advseg.data import pipeline
from tf_advseg.data.augmentation import recipes
from tf_advseg.evaluation import metrics as figures
from tf_advseg.experiments.train import best_model
from tf_advseg.methods import cue_audit
from tf_advseg.models import segmentor as segmentors
from tf_advseg.run import averaged
from tf_advseg.run import context as contexts
from tf_advseg.run import networks
from tf_advseg.run import shown_images
from tf_advseg.training import alternation
from tf_advseg.training import loop

MASKS = 'masks'  # there: class maps of the panel's images, at some evaluations


def stage_batches(context, stage, stream, first):
    """Batches of one network's steps; the discriminator's own come in an order of their own.

    Those with unlabelled images have the labelled ones of the segmentor's batch of that step.

    Args:
      context: run.context.Context.
      stage: experiments.train.method_stage.Stage.
      stream: of `stage.plan.streams`.
      first: the first step's number in that stream.

    Returns:
      tf.data.Dataset of global batches.
    """
    data, settings = context.data, stage.settings
    size, given = settings.batch_size, {
        'crop_size': context.crop_size, 'streams': context.streams,
        'first_step': first, 'recipe': recipes.make_recipe(settings.augmentation),
        'pad_value': segmentors.padding_colour(stage.segmentor)}
    needs = stage.method.batch_needs
    truths = needs.independent_ground_truth
    if stream == alternation.UNLABELLED:
        return mixed.mixed_batches(
            data.records, data.train, data.unlabelled_records, data.unlabelled, size,
            needs.unlabelled_batch_size or size, independent_ground_truth=truths,
            two_views=needs.two_views, unpadded_truths=needs.unpadded_truths,
            evenly=needs.evenly, **given)
    if truths:
        return mixed.labelled_batches(data.records, data.train, size,
                                      independent_ground_truth=True,
                                      unpadded_truths=needs.unpadded_truths, **given)
    own = stream == alternation.SEGMENTOR or settings.same_batches
    return pipeline.training_batches(
        data.records, data.train, size, **given,
        stream='data' if own else 'disc_data',
        augment_stream='augment' if own else 'disc_augment')


class StageTraining:
    """Trains one stage.

    Args:
      context: run.context.Context.
      stage: experiments.train.method_stage.Stage.
    """

    def __init__(self, context, stage):
        self._context, self._stage = context, stage
        self._stepper = loop.Stepper(stage.method, context.strategy)
        self._bundles = {} if stage.is_control else stage.recipe.bundles(stage.method)
        self._folder, self._monitors = None, ()
        self._memory, self._best = {}, None  # what `best_model` remembers; durable
        shown = context.streams.generator('diagnostics').permutation(len(context.data.train))
        shown = sorted(shown[:stage.settings.train_images])
        self._parts = {'train': [context.data.train[i] for i in shown],
                       'holdout': context.data.holdout}
        self._parts = {name: ids for name, ids in self._parts.items() if ids}

    def run(self, folder):
        """Trains from what `folder` holds; see `method_stage.Stage.run`."""
        context, stage, self._folder = self._context, self._stage, folder
        self._best = best_model.BestModel(folder, self._memory, self._save, context.chief)
        board = context.board(stage.name)
        if not stage.is_control:
            self._monitors = tuple(stage.recipe.monitors(context, stage.method, board))
        metrics = contexts.BoardedJournal(context.journal(context.run.metrics_path), board)
        cue_audit.warn(context, stage.method)
        seconds = loop.train(
            self._stepper, stage.method, self._batches, stage.plan, folder, context.strategy,
            context.streams, metrics, stage.name, evaluate_every=stage.evaluate_every,
            evaluate=self._evaluate, diagnose=self._diagnose, memory=self._memory,
            diagnose_every=(stage.settings.diagnose_every
                            if stage.method.compares_gradients else 0),
            average=stage.average)
        found = None if stage.average is None else averaged.save(
            context, stage.segmentor, stage.average, stage.swa,
            context.run.checkpoints / stage.averaged_checkpoint,
            self._batches(alternation.SEGMENTOR, 0), label=stage.name)
        miou, step = None, stage.steps
        if stage.settings.keep == 'best':
            if not self._memory:
                raise errors.UserError(
                    f'{context.data.records.folder}: no image of the hold-out has a labelled '
                    'pixel to choose by; set adversarial_stage.keep = "last"')
            miou, step = self._memory['miou'], self._memory['step']
            networks.load_weights(self._best.path, stage.segmentor)
            for name, bundle in self._bundles.items():
                bundle.restore(self._best.path / name)
        self._save(context.run.checkpoints / stage.checkpoint, step, miou)
        return {'steps': stage.steps, 'seconds': seconds, 'holdout_miou': miou, 'kept_step': step,
                'averaged': found, 'about': stage.method.about}

    def _batches(self, stream, first):
        return stage_batches(self._context, self._stage, stream, first)

    def _diagnose(self, batch, seed):
        return self._stepper(self._stage.method.gradient_balance, batch, seed)

    def _evaluate(self, done):
        """One line for each part of the data; keeps the best by the hold-out, and a few masks."""
        lines = [self._evaluated(split, ids) for split, ids in self._parts.items()]
        if self._stage.settings.keep == 'best':
            self._best.offer(done, lines[-1]['miou'])
        average, holdout = self._stage.average, self._parts.get('holdout')
        # Statistics estimated anew would cost a pass over the training images each time.
        if average is not None and holdout and not self._stage.swa.reestimates(
                self._stage.segmentor):
            with average.swapped(self._stage.segmentor):
                lines.append(self._evaluated('holdout_averaged', holdout))
        self._keep_masks(done)
        return lines + [line for monitor in self._monitors for line in monitor.lines(done)]

    def _evaluated(self, split, ids):
        """The line of metrics.jsonl on some images."""
        counts = (self._context.holdout_counts(self._stage.segmentor)
                  if ids is self._parts.get('holdout')
                  else self._context.counts(self._stage.segmentor, ids))
        absent = self._context.data.spec.absent
        classes = {'class_accuracy': figures.class_accuracy(counts),
                   'class_iou': figures.class_iou(counts)}
        return {'event': 'evaluation', 'split': split,
                'miou': figures.plain(figures.mean_iou(counts, absent)),
                'pixel_accuracy': figures.plain(figures.pixel_accuracy(counts)),
                'mean_class_accuracy': figures.plain(figures.mean_class_accuracy(counts)),
                **{name: [figures.plain(value) for value in values]
                   for name, values in classes.items()}}

    def _keep_masks(self, done):
        """The class maps of the panel's images at this moment (Durall et al., Fig. 5)."""
        context = self._context
        images = shown_images.load(context, shown_images.test_ids(context))
        masks = shown_images.masks(context, self._stage.segmentor, images)
        if context.chief:
            folder = self._folder / MASKS
            with files.disk_errors(folder):
                folder.mkdir(exist_ok=True)
            with files.atomic_file(folder / f'{done:07d}.npz') as file:
                np.savez_compressed(file, *masks)
            # Numbers of evaluations: the last one may come before its turn.
            paths = {-(-int(path.stem) // self._stage.evaluate_every) - 1: path
                     for path in folder.glob('[0-9]*.npz')}
            latest = -(-done // self._stage.evaluate_every) - 1
            for number in shown_images.passed_over(paths, latest):
                paths[number].unlink()

    def _save(self, folder, done, miou):
        context = self._context
        networks.save(folder, self._stage.segmentor, context.description, context.data.spec,
                      context.chief, label=self._stage.name, holdout_miou=miou, kept_step=done)
        for name, bundle in self._bundles.items():  # every worker takes part in writing
            bundle.save(folder / name, context.chief)
        context.barrier()
