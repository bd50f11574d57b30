"""Phase 1 of Zhu et al.: the stage that trains the GAN which redraws pictures, or takes one."""
import shutil

import gin
import numpy as np
import tensorflow as tf

from tf_advseg.adversaries import reconstruction
from tf_advseg.core import arguments
from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.data import pipeline
from tf_advseg.data.augmentation import official_preprocessing
from tf_advseg.data.augmentation import recipes
from tf_advseg.evaluation import prediction
from tf_advseg.experiments.train import run_results
from tf_advseg.experiments.train import shared_control
from tf_advseg.methods.zhu import gan_folders
from tf_advseg.methods.zhu import zhu
from tf_advseg.methods.zhu import zhu_settings
from tf_advseg.models import resize
from tf_advseg.reporting import panels
from tf_advseg.reporting.paper_figures import reconstruction_panels
from tf_advseg.run import context as contexts
from tf_advseg.run import stage_optimizers
from tf_advseg.training import alternation
from tf_advseg.training import loop
from tf_advseg.training import stages

NAME = 'gan'
TAKEN_FROM = 'taken_from'  # in the description of a GAN
SCORED = 64  # pictures of the hold-out that l_C is measured on
FROM_TRUTH = 'redrawn from the truth'


@gin.configurable
def redrawing_stage(epochs=200, steps=None, batch_size=8, augmentation='zhu',
                    evaluate_every_epochs=10, source=None, only=False):
    """The settings of phase 1.

    Args:
      epochs: of the generator's steps over the training pictures: "finished after a large number
        of iterations" (section 4.2); 200 are pix2pix's on CMP Facades.
      steps: of the generator, in place of epochs.
      batch_size: 8 (section 4.2).
      augmentation: a recipe by name, see `data.augmentation.recipes`; 'zhu' resizes, crops and mirrors.
      evaluate_every_epochs: how often l_C is measured on the hold-out; 0 for never.
      source: a run directory (or the folder of a GAN) whose finished phase 1 is taken over; None
        trains one. '{form}' in it stands for zhu_gan.form.
      only: stop after phase 1, so that many runs can take it over.

    Returns:
      dict of the settings.

    Raises:
      UserError: a value out of range.
    """
    settings = dict(locals())
    where = 'redrawing_stage'
    arguments.require_number(where, 'batch_size', batch_size, 1, whole=True)
    for name in ('epochs', 'evaluate_every_epochs'):
        arguments.require_number(where, name, settings[name], 0)
    if steps is not None:
        arguments.require_number(where, 'steps', steps, 1, whole=True, hint='or None for epochs')
    arguments.require_flag(where, 'only', only)
    for name, value in (('augmentation', augmentation), ('source', source or '')):
        if not isinstance(value, str):
            raise errors.UserError(f'{where}.{name} = {value!r}: expected text')
    recipes.make_recipe(augmentation)
    return settings


def plan(context):
    """The turns of phase 1: alternation.CriticSteps.

    Raises:
      UserError: a setting out of range.
    """
    settings = redrawing_stage()
    steps = settings['steps']
    if steps is None:
        steps = round(settings['epochs'] * len(context.data.train) / settings['batch_size'])
    if steps < 1:
        raise errors.UserError(
            f'redrawing_stage.epochs = {settings["epochs"]!r} of {len(context.data.train)} pictures '
            f'in batches of {settings["batch_size"]} (redrawing_stage.batch_size): less than one '
            'step; give more epochs, smaller batches, or redrawing_stage.steps')
    turns = alternation.CriticSteps(steps, zhu_settings.zhu_gan().critic_steps)
    _optimizers(turns)
    return turns


def _optimizers(turns):
    """(the generator's, the discriminator's)."""
    return (stage_optimizers.reconstruction_optimizer(turns.generator_steps),
            stage_optimizers.adversary_optimizer(turns.total))


def build(context):
    """The GAN of a run: of its finished phase 1, of its source, or with initial weights.

    Call it in the strategy's scope.

    Returns:
      methods.zhu.zhu.Redrawing.

    Raises:
      UserError: a setting out of range, a source that does not fit, or a finished phase 1 whose
        GAN is no longer there.
    """
    settings, source = zhu_settings.zhu_gan(), redrawing_stage()['source']
    own = context.run.checkpoints / gan_folders.FOLDER
    if (own / gan_folders.DESCRIPTION).is_file():
        return gan_folders.load(own, settings)
    if source:
        folder = gan_folders.find(source, settings.form)
        gan_folders.require_fitting(folder, context.data)
        return gan_folders.load(folder, settings)
    if (context.run.stages / NAME / stages.DONE).exists():
        raise errors.UserError(
            f'{own}: this run\'s phase 1 is done, but its GAN is missing; put the folder back, or '
            f'delete {context.run.stages / NAME} to train another')
    return _fresh(context, settings)


def _fresh(context, settings):
    """With initial weights."""
    classes, seed = context.data.spec.num_classes, context.streams.seed_value
    generator = reconstruction.build_reconstruction_generator(
        classes, settings.generator_sees == 'mask_and_picture', seed)
    discriminator = reconstruction.build_patch_discriminator(
        settings.condition_channels(classes), seed)
    penalised = settings.form == zhu_settings.WGAN and settings.lipschitz == 'penalty'
    if penalised and discriminator.arguments['normalisation'] == reconstruction.BATCH:
        raise errors.UserError(
            "zhu_gan.lipschitz = 'penalty' is of each example's gradient, and batch norm mixes "
            "them; set build_patch_discriminator.normalisation = 'instance' or 'none'")
    return zhu.Redrawing(generator, discriminator, settings)


def run(context):
    """Runs phase 1, takes it over, or takes up its result; it lies in checkpoints/gan then.

    Args:
      context: run.context.Context.

    Returns:
      dict with 'steps' of the generator, 'seconds' and 'content': l_C on the hold-out, 'own' and
      'other' (None without a hold-out, or one of a single picture); of a GAN taken over 'taken_from' in place of seconds.

    Raises:
      UserError: a setting out of range, a source that does not fit, a loss that is not finite.
    """
    settings, found = redrawing_stage(), zhu_settings.zhu_gan()
    if settings['source']:
        return _take_over(context, settings, found)
    turns = plan(context)
    with context.strategy.scope():
        fresh = _fresh(context, found)
    result = stages.run_stage(
        context.run.stages, NAME, _identity(context, settings, fresh, turns),
        lambda folder: _Training(context, settings, fresh, turns).run(folder), context.chief)
    context.barrier()
    return result


def run_and_tell(context):
    """`run`, and prints what came of it; returns {'gan': seconds}, or {} of a GAN taken over."""
    result = run(context)
    taken, content = result.get('taken_from'), result['content']
    told = f'phase 1: {result["steps"]} steps of the generator'
    if taken:
        told += f', taken over from {taken}: its GAN, as it was trained there'
    if content and content['own'] is not None:
        told += f', hold-out l_C {content["own"]:.4f}'
    if content and content['other'] is not None:
        told += f', with the mask of another picture {content["other"]:.4f}'
    print(told, flush=True)
    if redrawing_stage()['only']:
        print(f'phase 2 takes it with redrawing_stage.source = {str(context.run.path)!r}',
              flush=True)
    return {} if taken else {NAME: result['seconds']}


def _identity(context, settings, redrawing, turns):
    """What phase 1 hangs on, see `stages.run_stage`."""
    return {**redrawing.settings.identity, 'generator': redrawing.generator.arguments,
            'discriminator': redrawing.discriminator.arguments, 'steps': turns.generator_steps,
            **{name: settings[name] for name in ('batch_size', 'augmentation')},
            'seed': context.streams.seed_value, 'crop_size': list(context.crop_size),
            'train': stages.settings_hash(context.data.train),
            'records': shared_control.fingerprint(context.data.records)}


def _take_over(context, settings, found):
    """Copies a finished phase 1 into the run, which then hangs on nothing outside."""
    own, source = context.run.checkpoints / gan_folders.FOLDER, settings['source']
    if not (own / gan_folders.DESCRIPTION).is_file():
        folder = gan_folders.find(source, found.form)
        gan_folders.require_fitting(folder, context.data)
        with context.strategy.scope():
            gan_folders.load(folder, found)  # whole, and with these settings
        context.barrier()
        if context.chief:
            shutil.rmtree(own, ignore_errors=True)
            with files.atomic_folder(own) as temporary:
                shutil.copytree(folder, temporary, dirs_exist_ok=True)
                files.write_json(temporary / gan_folders.DESCRIPTION, {
                    **gan_folders.read(folder),
                    TAKEN_FROM: source.replace('{form}', found.form)})
        context.barrier()
    return {'steps': gan_folders.read(own)['steps'], 'content': None,
            'taken_from': taken_from(context)}


def taken_from(context):
    """Where the GAN of a run was taken over from, as given; None where it is the run's own."""
    own = context.run.checkpoints / gan_folders.FOLDER
    if not (own / gan_folders.DESCRIPTION).is_file():
        return None
    return gan_folders.read(own).get(TAKEN_FROM)


class _Training:
    """Trains the GAN of one run.

    Args:
      context: run.context.Context.
      settings: of `redrawing_stage`.
      redrawing: methods.zhu.zhu.Redrawing.
      turns: from `plan`.
    """

    def __init__(self, context, settings, redrawing, turns):
        self._context, self._settings, self._plan = context, settings, turns
        self._redrawing = redrawing
        with context.strategy.scope():
            self._method = zhu.RedrawingGan(redrawing, *_optimizers(turns))
        self._stepper = loop.Stepper(self._method, context.strategy)
        self._scored = None
        self._board = context.board(NAME)
        self._memory = {}

    def run(self, folder):
        """Trains from what `folder` holds; see `run`."""
        context, every = self._context, self._settings['evaluate_every_epochs']
        every *= len(context.data.train) / self._settings['batch_size']
        metrics = contexts.BoardedJournal(context.journal(context.run.metrics_path), self._board)
        seconds = loop.train(
            self._stepper, self._method, self._batches, self._plan, folder, context.strategy,
            context.streams, metrics, NAME, evaluate_every=max(1, round(every)) if every else 0,
            evaluate=self._evaluate, memory=self._memory)
        gan_folders.save(
            context.run.checkpoints / gan_folders.FOLDER, self._redrawing,
            gan_folders.describe(self._redrawing, context.data, self._plan.generator_steps),
            context.chief)
        context.barrier()
        return {'steps': self._plan.generator_steps, 'seconds': seconds,
                'content': self._memory.get('content')}

    def _batches(self, stream, first):
        """Batches of the steps that move both, or of the critic's further ones."""
        own = stream == alternation.SEGMENTOR
        return pipeline.training_batches(
            self._context.data.records, self._context.data.train, self._settings['batch_size'],
            self._context.crop_size, self._context.streams, first,
            recipe=recipes.make_recipe(self._settings['augmentation']),
            stream='data' if own else 'disc_data',
            augment_stream='augment' if own else 'disc_augment')

    def _evaluate(self, done):
        """l_C on the hold-out by the own and by another's masks; a few redrawn pictures."""
        ids = self._context.data.holdout
        if not ids:
            return []
        seed = self._context.streams.seed('diagnostics', 0, NAME)
        # In a video a picture's neighbour has nearly its mask: half the hold-out lies between.
        shift = min(len(ids), SCORED) // 2
        own, other = self._content(0, seed), self._content(shift, seed) if shift else None
        self._memory['content'] = {'own': own, 'other': other}
        grid = panel(self._context, self._redrawing, ids[:run_results.PANEL_ROWS])
        self._board.picture('redrawn', done, grid)
        if self._context.chief:
            panels.write_png(self._context.run.figures / 'redrawn_phase1.png', grid)
        return [{'event': 'redrawing', 'split': 'holdout', 'content/own': own,
                 'content/other': other}]

    def _content(self, shift, seed):
        """l_C where each picture is redrawn from the mask of the one `shift` further on."""
        if self._scored is None:
            self._scored = _resized(self._context)
        images, labels = self._scored
        size, total, points = self._settings['batch_size'], 0.0, 0.0
        given = np.roll(labels, shift, axis=0)
        redraw = self._stepper.local(self._redraw)
        for first in range(0, len(images), size):
            part = slice(first, first + size)
            pictures, redrawn, counted = (found.numpy() for found in redraw(
                images[part], labels[part], given[part], seed))
            total += np.abs(pictures - redrawn).sum(dtype=np.float64)
            points += counted.sum(dtype=np.float64) * pictures.shape[-1]
        return float(total / points) if points else None

    def _redraw(self, images, labels, given, seed):
        redrawing = self._redrawing
        pictures = redrawing.pictures(images, labels)
        redrawn = redrawing.redrawn(redrawing.true_masks(given), pictures, labels, seed)
        return pictures, redrawn, redrawing.labelled(labels)


def _resized(context):
    """(float32 [n, h, w, 3], int32 [n, h, w]): the hold-out's pictures, squeezed into the crop."""
    images, labels = [], []
    for image_id in context.data.holdout[:SCORED]:
        image, label = official_preprocessing.resized(
            *map(tf.constant, context.data.records.load(image_id)), list(context.crop_size),
            official_preprocessing.CENTRES)
        images.append(image.numpy())
        labels.append(label.numpy().astype(np.int32))
    return np.stack(images), np.stack(labels)


def panel(context, redrawing, ids, segmentors=None):
    """Original and redrawn pictures (Fig. 3): uint8 [H, W, 3].

    Args:
      context: run.context.Context.
      redrawing: methods.zhu.zhu.Redrawing.
      ids: of the pictures.
      segmentors: {title: function() -> segmentor} whose soft maps are redrawn, too, one after
        another (they may be one network with other weights), or None.
    """
    pictures = [context.data.records.load(image_id) for image_id in ids]
    seed = context.streams.seed('diagnostics', 0, NAME)
    columns = {FROM_TRUTH: [_drawn(redrawing, image, label, None, seed)
                            for image, label in pictures]}
    for title, segmentor in (segmentors or {}).items():
        network = segmentor()
        columns[title] = [_drawn(redrawing, image, label, prediction.predict(
            network, image, context.crop_size, probabilities=True)[1], seed)
            for image, label in pictures]
    rows = [(image, label, {title: found[i] for title, found in columns.items()})
            for i, (image, label) in enumerate(pictures)]
    spec = context.data.spec
    return reconstruction_panels.redrawn_panel(rows, spec.palette, spec.class_names, list(ids))


def _drawn(redrawing, image, label, probabilities, seed):
    """uint8 [h', w', 3]: one picture redrawn from its truth, or from probabilities [h, w, C]."""
    labels = tf.constant(label[None], tf.int32)
    pictures = redrawing.pictures(tf.constant(image[None], tf.float32), labels)
    if probabilities is None:
        masks = redrawing.true_masks(labels)
    else:
        masks = resize.resize_bilinear(probabilities[None], redrawing.grid(labels))
        masks *= redrawing.labelled(labels)
    redrawn = redrawing.redrawn(masks, pictures, labels, seed)[0].numpy()
    return np.clip(np.round((redrawn + 1.0) * 127.5), 0, 255).astype(np.uint8)
