"""LoAd and its control on a segmentor that Stage 1 has trained."""
import dataclasses

import gin

from tf_advseg.adversaries import discriminators
from tf_advseg.adversaries import encodings
from tf_advseg.core import errors
from tf_advseg.lookahead import controller as controllers
from tf_advseg.lookahead import data as lookahead_data
from tf_advseg.lookahead import map_buffer
from tf_advseg.lookahead import orchestrator
from tf_advseg.lookahead import settings as settings_lib
from tf_advseg.lookahead import snapshots
from tf_advseg.methods import load as load_method
from tf_advseg.run import averaged
from tf_advseg.run import networks
from tf_advseg.training import averaging
from tf_advseg.training import optimizers

controller = gin.external_configurable(controllers.Controller, name='controller',
                                       module='tf_advseg.lookahead')
buffer = gin.external_configurable(map_buffer.MapBuffer, name='map_buffer',
                                   module='tf_advseg.lookahead', denylist=['folder', 'kind'])


@gin.configurable
def generator_optimizer(name='sgd', learning_rate=5e-6, momentum=0.95, nesterov=False):
    """The generator's optimizer in stage 2; section 4: lr 5e-6, momentum 0.95."""
    return optimizers.make_optimizer(name, learning_rate, momentum, nesterov,
                                     where='generator_optimizer')


@gin.configurable
def discriminator_optimizer(name='adagrad', learning_rate=0.01):
    """The discriminator's optimizer; section 4: Adagrad, 0.01."""
    return optimizers.make_optimizer(name, learning_rate, where='discriminator_optimizer')


def build(context, segmentor, max_propagations=None, control=False, panel=None):
    """Puts a LoAd run together; nothing is trained yet.

    Args:
      context: run.context.Context.
      segmentor: as Stage 1 left it, built in the strategy's scope.
      max_propagations: a cap that overrides the controller's, or None.
      control: build the CE-only control instead (no discriminator, no buffer; only the cap ends
        it).
      panel: function(LookAhead) -> uint8 [H, W, 3] for TensorBoard, or None.

    Returns:
      lookahead.orchestrator.LookAhead.
    """
    settings = settings_lib.lookahead_settings()
    folder = context.run.path / 'control' if control else context.run.lookahead
    folder.mkdir(parents=True, exist_ok=True)
    encoding = encodings.input_encoding(segmentor.num_classes)
    with context.strategy.scope():
        discriminator = None if control else discriminators.build_discriminator(
            channels=encoding.channels, size=encoding.size, seed=context.streams.seed_value)
        method = load_method.load(
            segmentor, discriminator, generator_optimizer(),
            None if control else discriminator_optimizer(), encoding)
        average = averaging.swa().build(segmentor)
    caps = {} if max_propagations is None else {'max_propagations': max_propagations}
    if control:
        # LoAd's total of propagations ends it and nothing else.
        caps.update(max_cycles=None, max_total_cycles=None, reset_mu=True)
        settings = dataclasses.replace(settings, max_hours=None)
    data = lookahead_data.LookaheadData(
        context.data.records, context.data.train, context.data.holdout, context.crop_size,
        settings, context.streams, context.strategy, segmentor, method.map_kind)
    journal_folder = folder if control else context.run.path
    try:
        rules = controller(**caps)
        maps = None if control else buffer(folder / 'buffer', kind=method.map_kind)
    except ValueError as error:
        raise errors.UserError(f'LoAd\'s settings: {str(error).splitlines()[0]}') from error
    if average is not None and not control:
        _require_averaged(average, rules, settings.steps_per_propagation(len(context.data.train)))
    return orchestrator.LookAhead(
        method, data, rules, maps,
        snapshots.SnapshotStore(folder / 'snapshots', context.chief, context.barrier, average),
        settings,
        context.holdout_evaluator(segmentor, settings.evaluation_batch_size), folder,
        context.journal(journal_folder / 'journal.jsonl'),
        context.journal(journal_folder / 'metrics.jsonl'), context.streams, context.strategy,
        context.board('control' if control else 'load', panel))


def _require_averaged(average, rules, steps):
    """Raises UserError where the caps leave no step at which weights would be averaged."""
    caps = [rules.max_propagations] + [count and rules.patience * count
                                       for count in (rules.max_total_cycles, rules.max_cycles)]
    most = min((cap for cap in caps if cap), default=None)
    if most is not None and average.every > most * steps:
        raise errors.UserError(
            f'swa.every = {average.every}: about {most} propagations have {most * steps} steps, so '
            'nothing would be averaged; set swa.every lower (and with it swa.constant, if set)')


def run(context, segmentor, max_propagations=None, control=False, panel=None):
    """Runs LoAd (or the control) to its end and saves its best model under checkpoints/.

    Where `averaging.swa` is on, the weights averaged along the way that led there are saved too,
    as checkpoints/averaged (control_averaged).

    Returns:
      (controller.RunResult, the LookAhead, what `averaged.save` says or None).
    """
    loop = build(context, segmentor, max_propagations, control, panel)
    result = loop.run()
    networks.save(context.run.checkpoints / ('control' if control else 'best'), segmentor,
                  context.description, context.data.spec, context.chief, label=result.label,
                  holdout_miou=result.miou)
    context.barrier()
    found = None
    if loop.store.average is not None:
        found = averaged.save(
            context, segmentor, loop.store.average, averaging.swa(),
            context.run.checkpoints / ('control_averaged' if control else 'averaged'),
            loop.data.batches(0), label=result.label)
    return result, loop, found
