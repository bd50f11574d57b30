"""LoAd and its control as stages, on a segmentor that Stage 1 has trained; LoAd's recipe."""
import dataclasses
import functools

import gin

from tf_advseg.adversaries import discriminators
from tf_advseg.adversaries import encodings
from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.lookahead import controller as controllers
from tf_advseg.lookahead import data as lookahead_data
from tf_advseg.lookahead import frozen_features
from tf_advseg.lookahead import head_only
from tf_advseg.lookahead import load_report
from tf_advseg.lookahead import map_buffer
from tf_advseg.lookahead import orchestrator
from tf_advseg.lookahead import screening
from tf_advseg.lookahead import settings as settings_lib
from tf_advseg.lookahead import snapshots
from tf_advseg.methods import cue_audit
from tf_advseg.methods import load as load_method
from tf_advseg.methods import objective
from tf_advseg.methods import recipe
from tf_advseg.run import averaged
from tf_advseg.run import networks
from tf_advseg.run import stage_optimizers
from tf_advseg.training import averaging

controller = gin.external_configurable(controllers.Controller, name='controller',
                                       module='tf_advseg.lookahead')
buffer = gin.external_configurable(map_buffer.MapBuffer, name='map_buffer',
                                   module='tf_advseg.lookahead', denylist=['folder', 'kind'])


def build(context, segmentor, arm, max_propagations=None, panel=None):
    """Puts a LoAd run together; nothing is trained yet.

    Args:
      context: run.context.Context.
      segmentor: as Stage 1 left it, built in the strategy's scope.
      arm: methods.recipe.Arm. The control has no discriminator and no buffer; only the cap ends it.
      max_propagations: a cap that overrides the controller's, or None.
      panel: function(LookAhead) -> uint8 [H, W, 3] for TensorBoard, or None.

    Returns:
      lookahead.orchestrator.LookAhead.

    Raises:
      UserError: a setting out of range.
    """
    settings, losses = settings_lib.lookahead_settings(), load_method.load_settings()
    control = arm is recipe.Arm.CONTROL
    folder = context.run.path / 'control' if control else context.run.lookahead
    with files.disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    known = head_only.prepare(context, segmentor, settings) if settings.head_only else None
    with context.strategy.scope():
        if control:
            own = stage_optimizers.segmentor_optimizer(settings.budget_steps)
            method = objective.Control(segmentor, own, losses.pixel_loss)
        else:
            method = _method(context, segmentor, losses, settings.budget_steps)
        average = averaging.swa().build(segmentor)
    method.accumulate.require_images('lookahead.batch_size', settings.batch_size,
                                     context.strategy.num_replicas_in_sync)
    caps = {} if max_propagations is None else {'max_propagations': max_propagations}
    if control:
        # LoAd's total of propagations ends it and nothing else.
        caps.update(max_cycles=None, max_total_cycles=None, reset_mu=True)
        settings = dataclasses.replace(settings, max_hours=None)
    data = lookahead_data.LookaheadData(
        context.data.records, context.data.train, context.data.holdout, context.crop_size,
        settings, context.streams, context.strategy, segmentor, losses.map_kind, known)
    journal_folder = folder if control else context.run.path
    try:
        rules = controller(**caps)
        maps = None if control else buffer(folder / 'buffer', kind=losses.map_kind)
    except ValueError as error:
        raise errors.UserError(f'LoAd\'s settings: {str(error).splitlines()[0]}') from error
    if average is not None and not control:
        _require_averaged(average, rules, settings.steps_per_propagation(len(context.data.train)))
    return orchestrator.LookAhead(
        arm, method, data, rules, maps,
        snapshots.SnapshotStore(folder / 'snapshots', context.chief, context.barrier, average),
        settings,
        lambda: (known or context).holdout_miou(segmentor, settings.evaluation_batch_size), folder,
        context.journal(journal_folder / 'journal.jsonl'),
        context.journal(journal_folder / 'metrics.jsonl'), context.streams, context.strategy,
        context.board('control' if control else 'load', panel),
        None if control or settings.screening_images == 0 else functools.partial(
            screening.screen, context, images=settings.screening_images))


def _method(context, segmentor, losses, steps=None):
    """`methods.load.LoAd` with its discriminator."""
    encoding = encodings.input_encoding(segmentor.num_classes, context.crop_size,
                                        segmentor.logits_stride)
    features = None
    if losses.backbone_features:
        features = frozen_features.FrozenBackbone(context.description, segmentor, encoding.points)
    discriminator = discriminators.build_discriminator(
        channels=encoding.channels + (features.channels if features else 0), size=encoding.points,
        seed=context.streams.seed_value)
    return load_method.LoAd(
        segmentor, discriminator, stage_optimizers.segmentor_optimizer(steps),
        stage_optimizers.discriminator_optimizer(None), encoding, losses, features,
        settings_lib.lookahead_settings().null)


def _build(context, segmentor, plan):
    """See `recipe.Recipe.build`; LoAd's own loop has no plan."""
    del plan
    return _method(context, segmentor, load_method.load_settings(),
                   settings_lib.lookahead_settings().budget_steps)


def _require_averaged(average, rules, steps):
    """Raises UserError where the caps leave no step at which weights would be averaged."""
    caps = [rules.max_propagations] + [count and rules.patience * count
                                       for count in (rules.max_total_cycles, rules.max_cycles)]
    most = min((cap for cap in caps if cap), default=None)
    if most is not None and average.every > most * steps:
        raise errors.UserError(
            f'swa.every = {average.every}: about {most} propagations have {most * steps} steps, so '
            'nothing would be averaged; set swa.every lower (and with it swa.constant, if set)')


class LoadStage:
    """LoAd, or its control with as many propagations, as a stage of a run.

    It resumes from its own state.json, since what it has to remember is more than "done": a raised
    cap goes on where the run ended.

    Args:
      context, segmentor, arm, max_propagations: see `build`.

    Attributes:
      name: of its lines and seconds.
    """

    def __init__(self, context, segmentor, arm, max_propagations=None):
        self._context, self._segmentor, self._arm = context, segmentor, arm
        self._max_propagations = max_propagations
        self._control = arm is recipe.Arm.CONTROL
        self._layers = head_only.frozen_layers(segmentor) if (
            settings_lib.lookahead_settings().head_only) else []
        self.name = 'control' if self._control else 'load'

    @property
    def most_steps(self):
        """Of the segmentor, which end it at the latest; None where propagations are not capped."""
        if self._max_propagations is None:
            return None
        each = settings_lib.lookahead_settings().steps_per_propagation(
            len(self._context.data.train))
        return self._max_propagations * each

    def run(self):
        """Runs to the end, and saves the best model under checkpoints/.

        Where `averaging.swa` is on, the weights averaged along the way that led there are saved
        too, as checkpoints/averaged (control_averaged).

        Returns:
          dict with 'propagations', 'cycles', 'label', 'stop_reason', 'seconds', 'holdout_miou',
          'averaged': what `averaged.save` says, or None; and 'about': which null it is, or ''.
        """
        try:
            return self._run()
        finally:
            head_only.release(self._layers)

    def _run(self):
        context, segmentor = self._context, self._segmentor
        panel = None if self._control else load_report.panel_maker(context, segmentor)
        loop = build(context, segmentor, self._arm, self._max_propagations, panel)
        cue_audit.warn(context, loop.method)
        if loop.method.about and context.chief:
            print(f'LoAd: {loop.method.about}', flush=True)
        result = loop.run()
        networks.save(context.run.checkpoints / ('control' if self._control else 'best'), segmentor,
                      context.description, context.data.spec, context.chief, label=result.label,
                      holdout_miou=result.miou)
        context.barrier()
        found = None
        if loop.store.average is not None:
            found = averaged.save(
                context, segmentor, loop.store.average, averaging.swa(),
                context.run.checkpoints / ('control_averaged' if self._control else 'averaged'),
                loop.data.batches(0), label=result.label)
        return {'propagations': result.propagations, 'cycles': result.cycles,
                'label': result.label, 'stop_reason': result.stop_reason,
                'holdout_miou': result.miou, 'seconds': loop.watch.total(), 'averaged': found,
                'about': loop.method.about}

    def batch_streams(self):
        """As `method_stage.Stage.batch_streams`."""
        try:
            loop = build(self._context, self._segmentor, self._arm, self._max_propagations)
            return {'segmentor': loop.data.batches}
        finally:
            head_only.release(self._layers)

    def text(self, result):
        """A line for a reader on the result of `run`."""
        miou = f'best {result["label"]} with hold-out mIoU {100 * result["holdout_miou"]:.2f}'
        if self._control:
            return f'{result["propagations"]} propagations, {miou}'
        cycles = f'{result["cycles"]} cycle{"" if result["cycles"] == 1 else "s"}'
        return (f'{result["propagations"]} propagations in {cycles}, {miou} '
                f'({result["stop_reason"]})')

    def cost(self, forward):
        """The `methods.recipe.Cost`, guessed; `forward` is not looked at."""
        del forward
        try:
            loop = build(self._context, self._segmentor, recipe.Arm.METHOD, self._max_propagations)
            return (load_report.control_cost if self._control else load_report.cost)(
                self._context, self._segmentor, loop)
        finally:
            head_only.release(self._layers)


def _propagations(settings, images):
    """How many propagations `lookahead.budget_steps` are, where there are so many images.

    Raises:
      UserError: no whole number, or another cap is set as well.
    """
    steps = settings.steps_per_propagation(images)
    if settings.budget_steps % steps:
        raise errors.UserError(f'lookahead.budget_steps = {settings.budget_steps}: expected a '
                               f'multiple of the {steps} steps of a propagation')
    if configuration.bound('controller.max_propagations') is not None:
        raise errors.UserError('lookahead.budget_steps and controller.max_propagations both say '
                               'when LoAd ends; set one of them')
    return settings.budget_steps // steps


def _arm_stage(context, segmentor, arm, results):
    """See `recipe.Recipe.arm_stage`: the control has LoAd's own number of propagations."""
    settings = settings_lib.lookahead_settings()
    most = None
    if arm is recipe.Arm.METHOD and settings.budget_steps is not None:
        most = _propagations(settings, len(context.data.train))
    if arm is recipe.Arm.CONTROL and results is not None:
        most = results[recipe.Arm.METHOD]['propagations']
        if not most:
            return None
    return LoadStage(context, segmentor, arm, most)


def _shown(text, size, truth, recommended=False, *further):
    """A `recipe.ShownAs` of `input_encoding`."""
    size = f"'{size}'" if isinstance(size, str) else size
    return recipe.ShownAs(text, (
        f'input_encoding.size = {size}', f"input_encoding.truth = '{truth}'",
        "build_discriminator.name = 'patch'", *further), recommended)


recipe.register(recipe.Recipe(
    'load', 'LoAd', lambda context: load_method.load_settings().pixel_loss, _build,
    arm_stage=_arm_stage,
    control_steps=lambda: settings_lib.lookahead_settings().budget_steps,
    own_control="LoAd's control has as many propagations as LoAd took, so it is not trained alone "
                "and is no other run's; set lookahead.budget_steps to compare LoAd with an "
                'ordinary control, which experiment.control_from can take over',
    method_only=('load.map_kind', 'load.discriminator_training_mode', 'load.real_target',
                 'load.r1_weight', 'load.backbone_features', 'lookahead', 'controller',
                 'map_buffer', 'discriminator_optimizer',
                 'build_discriminator', 'input_encoding'),
    report=load_report.report, averages_are_the_result=False,
    encodings=(
        _shown('224, as printed', 224, 'sampled'), _shown('128', 128, 'sampled'),
        _shown('64', 64, 'sampled'), _shown("the logits' grid", 'logits', 'sampled'),
        _shown('224, hard', 224, 'sampled', False, "load.map_kind = 'hard'"),
        _shown("the logits' grid, hard", 'logits', 'sampled', True, "load.map_kind = 'hard'"),
        _shown('64, truth through the bottleneck', 64, 'bottleneck', True),
        _shown('224, truth through the bottleneck', 224, 'bottleneck', True),
        _shown("the logits' grid, scaling", 'logits', 'scaling', True),
        _shown('64, scaling', 64, 'scaling', True),
        _shown("the logits' grid, swapped", 'logits', 'swapped'),
        _shown('64, swapped', 64, 'swapped')),
    small=("build_discriminator.name = 'small_cnn'", 'build_discriminator.dropout = 0.0',
           'input_encoding.size = 32',
           'controller.patience = 2', 'controller.max_total_cycles = 1', 'lookahead.min_epochs = 1',
           'lookahead.max_epochs = 1', 'lookahead.batch_size = 2',
           'lookahead.discriminator_batch_size = 4'),
    silent=('lookahead.adversarial_weight = 0.0',),
    silent_scalars={'adversarial_weight': 0.0}))
