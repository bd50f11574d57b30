"""Phase 1 of Zhu et al.: the stage that trains the GAN which reconstructs images, or takes one."""
import dataclasses
import shutil
from typing import Optional

import gin
import numpy as np

from tf_advseg.adversaries import reconstruction_networks
from tf_advseg.core import arguments
from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.data import pipeline
from tf_advseg.data.augmentation import recipes
from tf_advseg.methods import recipe
from tf_advseg.methods.zhu import gan_folders
from tf_advseg.methods.zhu import gan_panels
from tf_advseg.methods.zhu import zhu
from tf_advseg.methods.zhu import zhu_settings
from tf_advseg.models import precision
from tf_advseg.models import segmentor as segmentors
from tf_advseg.reporting import panels
from tf_advseg.run import context as contexts
from tf_advseg.run import costs
from tf_advseg.run import dataset as datasets
from tf_advseg.run import shown_images
from tf_advseg.run import stage_optimizers
from tf_advseg.training import alternation
from tf_advseg.training import loop
from tf_advseg.training import stages

NAME = gan_panels.STAGE
TAKEN_FROM = 'taken_from'  # in the description of a GAN


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of phase 1, `reconstruction_stage.…` in gin.

    Attributes:
      epochs: of the generator's steps over the training images: "finished after a large number of
        iterations" (section 4.2); 200 are pix2pix's on CMP Facades.
      steps: of the generator, in place of epochs.
      batch_size: 8 (section 4.2).
      augmentation: a recipe by name, see `data.augmentation.recipes`; 'zhu' resizes, crops and
        mirrors.
      evaluate_every_epochs: how often l_C is measured on the hold-out; 0 for never.
      source: a run directory (or the folder of a GAN) whose finished phase 1 is taken over; None
        trains one. '{form}' in it stands for zhu_gan.form.
      only: stop after phase 1, so that many runs can take it over.

    Raises:
      UserError: a value out of range.
    """
    epochs: float = 200
    steps: Optional[int] = None
    batch_size: int = 8
    augmentation: str = 'zhu'
    evaluate_every_epochs: float = 10
    source: Optional[str] = None
    only: bool = False

    def __post_init__(self):
        where = 'reconstruction_stage'
        arguments.require_number(where, 'batch_size', self.batch_size, 1, whole=True)
        for name in ('epochs', 'evaluate_every_epochs'):
            arguments.require_number(where, name, getattr(self, name), 0)
        if self.steps is not None:
            arguments.require_number(where, 'steps', self.steps, 1, whole=True,
                                     hint='or None for epochs')
        arguments.require_flag(where, 'only', self.only)
        for name, value in (('augmentation', self.augmentation), ('source', self.source or '')):
            if not isinstance(value, str):
                raise errors.UserError(f'{where}.{name} = {value!r}: expected text')
        recipes.make_recipe(self.augmentation)


reconstruction_stage = gin.external_configurable(Settings, name='reconstruction_stage',
                                                 module='tf_advseg.methods')
configuration.renamed(redrawing_stage='reconstruction_stage')


def plan(context):
    """The turns of phase 1: alternation.CriticSteps.

    Raises:
      UserError: a setting out of range.
    """
    settings = reconstruction_stage()
    steps = settings.steps
    if steps is None:
        steps = round(settings.epochs * len(context.data.train) / settings.batch_size)
    if steps < 1:
        raise errors.UserError(
            f'reconstruction_stage.epochs = {settings.epochs!r} of {len(context.data.train)} '
            f'images in batches of {settings.batch_size} (reconstruction_stage.batch_size): less '
            'than one step; give more epochs, smaller batches, or reconstruction_stage.steps')
    turns = alternation.CriticSteps(steps, zhu_settings.zhu_gan().critic_steps)
    _optimizers(turns)
    return turns


def _optimizers(turns):
    """(the generator's, the discriminator's)."""
    return (stage_optimizers.reconstruction_optimizer(turns.generator_steps),
            stage_optimizers.discriminator_optimizer(turns.total))


def build(context):
    """The GAN of a run: of its finished phase 1, of its source, or with initial weights.

    Call it in the strategy's scope.

    Returns:
      methods.zhu.zhu.Reconstruction.

    Raises:
      UserError: a setting out of range, a source that does not fit, or a finished phase 1 whose
        GAN is no longer there.
    """
    settings, source = zhu_settings.zhu_gan(), reconstruction_stage().source
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


def method(context):
    """`zhu.ReconstructionGan` of a run, with initial weights; call it in the strategy's scope."""
    return zhu.ReconstructionGan(_fresh(context, zhu_settings.zhu_gan()),
                                 *_optimizers(plan(context)))


def _fresh(context, settings):
    """With initial weights."""
    classes, seed = context.data.spec.num_classes, context.streams.seed_value
    generator = reconstruction_networks.build_reconstruction_generator(
        classes, settings.generator_sees == 'mask_and_image', seed)
    discriminator = reconstruction_networks.build_patch_discriminator(
        settings.condition_channels(classes), seed)
    penalised = settings.form == zhu_settings.WGAN and settings.lipschitz == 'penalty'
    if penalised and discriminator.arguments['normalisation'] == reconstruction_networks.BATCH:
        raise errors.UserError(
            "zhu_gan.lipschitz = 'penalty' is of each example's gradient, and batch norm mixes "
            "them; set build_patch_discriminator.normalisation = 'instance' or 'none'")
    return zhu.Reconstruction(generator, discriminator, settings)


class PhaseOne:
    """Phase 1 as a stage that comes before Stage 1, see `recipe.Recipe.stages_before`.

    Args:
      context: run.context.Context.

    Attributes:
      name: of its folder and of its lines in metrics.jsonl.
      ends_run: whether the run ends with it.
    """
    name = NAME

    def __init__(self, context):
        self._context, self._settings = context, reconstruction_stage()
        self.ends_run = self._settings.only

    def check(self):
        """Puts it together and trains nothing.

        Raises:
          UserError: a setting out of range, or a source that does not fit.
        """
        if not self._settings.source:
            plan(self._context)
        with self._context.strategy.scope():
            build(self._context)

    def run(self):
        """Trains the GAN, takes it over, or takes up its result, and prints what came of it.

        It lies in checkpoints/gan then.

        Returns:
          dict with 'steps' of the generator, 'seconds' and 'content': l_C on the hold-out, 'own'
          and 'other' (None without a hold-out, or one of a single image); of a GAN taken over
          'taken_from' in the place of seconds.

        Raises:
          UserError: a setting out of range, a source that does not fit, a loss that is not finite.
        """
        result = self._result()
        taken, content = result.get('taken_from'), result['content']
        text = f'phase 1: {result["steps"]} steps of the generator'
        if taken:
            text += f', taken over from {taken}: its GAN, as it was trained there'
        if content and content['own'] is not None:
            text += f', hold-out l_C {content["own"]:.4f}'
        if content and content['other'] is not None:
            text += f', with the mask of another image {content["other"]:.4f}'
        print(text, flush=True)
        if self.ends_run:
            print('phase 2 takes it with reconstruction_stage.source = '
                  f'{str(self._context.run.path)!r}', flush=True)
        return result

    def _result(self):
        context, settings, gan = self._context, self._settings, zhu_settings.zhu_gan()
        if settings.source:
            return _take_over(context, settings, gan)
        turns = plan(context)
        with context.strategy.scope():
            fresh = _fresh(context, gan)
        result = stages.run_stage(
            context.run.stages, NAME, _identity(context, settings, fresh, turns),
            lambda folder: _Training(context, settings, fresh, turns).run(folder), context.chief)
        context.barrier()
        return result

    def costs(self):
        """[recipe.Cost] of it, see `recipe.Recipe.stages_before`."""
        settings = self._settings
        with self._context.strategy.scope():
            reconstruction = build(self._context)
        weights = {name: segmentors.parameter_count(getattr(reconstruction, name))[0]
                   for name in ('generator', 'discriminator')}
        sizes = ', '.join(f'{name} of images {count:,} parameters'
                          for name, count in weights.items())
        if settings.source:
            return [recipe.Cost('phase 1', f'taken over from {settings.source}; {sizes}', 0.0,
                                sum(weights.values()))]
        turns = plan(self._context)
        size = min(settings.batch_size, costs.TRIED)
        seconds = pass_seconds(self._context, reconstruction, size) * settings.batch_size / size
        return [recipe.Cost(
            'phase 1', f'{turns.generator_steps} steps of the generator, {turns.total} of its '
            f'discriminator; {sizes}' + ('; the run ends after it, what follows is of later runs'
                                         if settings.only else ''),
            turns.total * 4 * seconds, 4 * sum(weights.values()))]


def pass_seconds(context, reconstruction, size):
    """Seconds of a forward pass of generator and discriminator on a batch of so many images."""
    images = np.zeros((size, *context.crop_size, 3), np.float32)
    labels = np.zeros(images.shape[:3], np.int32)

    def judged(image, training):
        del training
        shown = reconstruction.scaled_images(image, labels)
        masks = reconstruction.true_masks(labels)
        drawn = reconstruction.reconstructed(masks, shown, labels, None)
        return reconstruction.responses(drawn, reconstruction.condition(masks, shown))

    return costs.seconds_of(judged, images)


def _identity(context, settings, reconstruction, turns):
    """What phase 1 depends on, see `stages.run_stage`."""
    generator = dict(reconstruction.generator.arguments)
    # So that runs of earlier versions go on: their markers have this name.
    generator[gan_folders.OLD_ARGUMENT] = generator.pop(gan_folders.ARGUMENT)
    return {**reconstruction.settings.identity, **precision.precision().identity,
            'generator': generator,
            'discriminator': reconstruction.discriminator.arguments, 'steps': turns.generator_steps,
            **{name: getattr(settings, name) for name in ('batch_size', 'augmentation')},
            'seed': context.streams.seed_value, 'crop_size': list(context.crop_size),
            'train': stages.settings_hash(context.data.train),
            'records': datasets.fingerprint(context.data.records)}


def _take_over(context, settings, found):
    """Copies a finished phase 1 into the run, which then depends on nothing outside."""
    own, source = context.run.checkpoints / gan_folders.FOLDER, settings.source
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
      settings: of `reconstruction_stage`.
      reconstruction: methods.zhu.zhu.Reconstruction.
      turns: from `plan`.
    """

    def __init__(self, context, settings, reconstruction, turns):
        self._context, self._settings, self._plan = context, settings, turns
        self._reconstruction = reconstruction
        with context.strategy.scope():
            self._method = zhu.ReconstructionGan(reconstruction, *_optimizers(turns))
        self._stepper = loop.Stepper(self._method, context.strategy)
        self._scored = None
        self._board = context.board(NAME)
        self._memory = {}

    def run(self, folder):
        """Trains from what `folder` holds; see `run`."""
        context, every = self._context, self._settings.evaluate_every_epochs
        every *= len(context.data.train) / self._settings.batch_size
        metrics = contexts.BoardedJournal(context.journal(context.run.metrics_path), self._board)
        seconds = loop.train(
            self._stepper, self._method, self._batches, self._plan, folder, context.strategy,
            context.streams, metrics, NAME, evaluate_every=max(1, round(every)) if every else 0,
            evaluate=self._evaluate, memory=self._memory)
        gan_folders.save(
            context.run.checkpoints / gan_folders.FOLDER, self._reconstruction,
            gan_folders.describe(self._reconstruction, context.data, self._plan.generator_steps),
            context.chief)
        context.barrier()
        return {'steps': self._plan.generator_steps, 'seconds': seconds,
                'content': self._memory.get('content')}

    def _batches(self, stream, first):
        """Batches of the steps that move both, or of the critic's further ones."""
        own = stream == alternation.SEGMENTOR
        return pipeline.training_batches(
            self._context.data.records, self._context.data.train, self._settings.batch_size,
            self._context.crop_size, self._context.streams, first,
            recipe=recipes.make_recipe(self._settings.augmentation),
            stream='data' if own else 'disc_data',
            augment_stream='augment' if own else 'disc_augment')

    def _evaluate(self, done):
        """l_C on the hold-out by the own and by another's masks; a few reconstructed images."""
        ids = self._context.data.holdout
        if not ids:
            return []
        seed = self._context.streams.seed('diagnostics', 0, NAME)
        # In a video an image's neighbour has nearly its mask: half the hold-out lies between.
        shift = min(len(ids), gan_panels.SCORED) // 2
        own, other = self._content(0, seed), self._content(shift, seed) if shift else None
        self._memory['content'] = {'own': own, 'other': other}
        grid = gan_panels.panel(self._context, self._reconstruction, ids[:shown_images.ROWS])
        self._board.image('reconstructed', done, grid)
        if self._context.chief:
            panels.write_png(self._context.run.figures / 'reconstructed_phase1.png', grid)
        return [{'event': 'reconstruction', 'split': 'holdout', 'content/own': own,
                 'content/other': other}]

    def _content(self, shift, seed):
        """l_C where each image is reconstructed from the mask of the one `shift` further on."""
        if self._scored is None:
            self._scored = gan_panels.resized_holdout(self._context)
        images, labels = self._scored
        size, total, points = self._settings.batch_size, 0.0, 0.0
        given = np.roll(labels, shift, axis=0)
        reconstruct = self._stepper.local(self._reconstruct)
        for first in range(0, len(images), size):
            part = slice(first, first + size)
            scaled, reconstructed, counted = (found.numpy() for found in reconstruct(
                images[part], labels[part], given[part], seed))
            total += np.abs(scaled - reconstructed).sum(dtype=np.float64)
            points += counted.sum(dtype=np.float64) * scaled.shape[-1]
        return float(total / points) if points else None

    def _reconstruct(self, images, labels, given, seed):
        reconstruction = self._reconstruction
        scaled = reconstruction.scaled_images(images, labels)
        reconstructed = reconstruction.reconstructed(
            reconstruction.true_masks(given), scaled, labels, seed)
        return scaled, reconstructed, reconstruction.labelled(labels)
