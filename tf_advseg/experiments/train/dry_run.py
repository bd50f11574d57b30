"""What a run will take: what `train --dry_run` prints."""
import time

import numpy as np
import tensorflow as tf

from tf_advseg.core import configuration
from tf_advseg.experiments.train import method_stage
from tf_advseg.experiments.train import shared_control
from tf_advseg.lookahead import load_stage
from tf_advseg.methods.zhu import reconstruction_stage as redrawings
from tf_advseg.models import segmentor as segmentors
from tf_advseg.training import alternation


TRIED = 8  # pictures at most of a forward pass that is timed


def describe(context, segmentor, method, control=True, control_from=None):
    """Prints parameters, memory, disk and a guess of the time; takes no step.

    Args:
      context: run.context.Context.
      segmentor: built in the strategy's scope.
      method, control, control_from: see `training.experiment`.

    Raises:
      UserError: there is no run at `control_from`.
    """
    total, trainable = segmentors.parameter_count(segmentor)
    data = context.data
    print(f'segmentor: {total:,} parameters, {trainable:,} trainable, '
          f'{4 * total / 2 ** 20:.1f} MiB as float32')
    without = f' and {len(data.unlabelled)} without labels' if data.unlabelled else ''
    print(f'pictures: train {len(data.train)}{without}, hold-out {len(data.holdout)}, rest of val '
          f'{len(data.rest)}, test {len(data.test)}; crop {context.crop_size}')
    height, width = context.crop_size
    print(f'hold-out in memory: {4 * len(data.holdout) * height * width / 2 ** 20:.0f} MiB')
    if method in method_stage.METHODS:
        _describe_stages(context, segmentor, method, control)
        if control_from and control:
            path = shared_control.require(control_from)
            changed = shared_control.differences(
                (path / 'config.gin').read_text(encoding='utf-8'), configuration.config_text())
            print(f'control: trained here, {path} has another configuration: ' + '; '.join(changed)
                  if changed else f'control: taken over from {path}, if its start and its pictures '
                                  'are the same')
    if method != 'load':
        return
    loop = load_stage.build(context, segmentor)
    size = loop.buffer.estimate_bytes(len(data.train) + len(data.holdout), loop.data.map_shape)
    total, _ = segmentors.parameter_count(loop.method.discriminator)
    print(f'discriminator: {total:,} parameters')
    print(f'map buffer: at most {size.buffer / 1e6:.1f} MB, {size.on_disk / 1e6:.1f} MB while a '
          'slot is replaced')
    print(_expected_time(context, loop))


def _describe_stages(context, segmentor, method, control):
    """What the stages after Stage 1 take where two networks take turns."""
    alone = method_stage.adversarial_stage()['only_control']
    stage = method_stage.build(context, segmentor, method, control=alone)
    size = stage.settings['batch_size']
    tried = min(size, TRIED)  # of a large batch a few pictures tell as much
    pictures = np.zeros((tried, *context.crop_size, 3), np.float32)
    forward = _seconds(segmentor, pictures) * size / tried
    judged, adversary = 0.0, stage.method.adversary
    redrawn = _describe_redrawing(context, stage, pictures) * size / tried
    parameters, weights = segmentors.parameter_count(segmentor)[0], 0
    if adversary is not None:
        weights, _ = segmentors.parameter_count(adversary)
        print(f'adversary: {weights:,} parameters')
        labels = np.zeros(pictures.shape[:3], np.int32)
        maps = stage.method.fake_maps({'image': pictures, 'label': labels},
                                      segmentor(pictures, training=False))
        extra = {'image': pictures} if adversary.needs_image else {}
        judged = _seconds(lambda x, training: adversary(x, **extra), maps) * size / tried
    turns = 0 if alone else stage.plan.adversary_steps
    seconds = stage.steps * (3 * (forward + judged) + 2 * redrawn) + turns * (forward + 6 * judged)
    if stage.joint:  # one forward pass and one of the adversary over predictions serve both
        seconds = stage.steps * stage.pictures_of_a_step / size * 3 * (forward + 2 * judged)
    models = 1 if alone else 2 if control else 1
    copies = parameters * (2 + 3 * models) + 2 * weights + _redrawing_copies(stage)
    print(f'on disk: about {4 * copies / 1e6:.0f} MB')
    frozen = isinstance(stage.plan, alternation.Alone)
    others = '' if frozen else f', {turns} of the adversary'
    print(f'{stage.steps} steps of the segmentor{others}: about {seconds / 60:.0f} min'
          + (f', and {stage.steps * 3 * forward / 60:.0f} min for the control'
             if control and not alone else '')
          + ' (guessed from forward passes), evaluations not counted')


def _redrawing_copies(stage):
    """How many weights of Zhu et al.'s GAN a run writes down: with Adam's slots, and the result."""
    redrawing = getattr(stage.method, 'redrawing', None)
    if redrawing is None:
        return 0
    weights = sum(segmentors.parameter_count(network)[0] for network in
                  (redrawing.generator, redrawing.discriminator))
    return weights * (1 if redrawings.redrawing_stage()['source'] else 4)


def _describe_redrawing(context, stage, pictures):
    """Prints what Zhu et al.'s phase 1 takes; returns the seconds of a pass of the GAN, else 0."""
    redrawing = getattr(stage.method, 'redrawing', None)
    if redrawing is None:
        return 0.0
    if redrawings.redrawing_stage()['only']:
        print('ends after phase 1: what follows below is of later runs')
    for name in ('generator', 'discriminator'):
        parameters = segmentors.parameter_count(getattr(redrawing, name))[0]
        print(f'{name} of pictures: {parameters:,} parameters')
    labels = np.zeros(pictures.shape[:3], np.int32)

    def judged(image, training):
        del training
        shown = redrawing.pictures(image, labels)
        masks = redrawing.true_masks(labels)
        drawn = redrawing.redrawn(masks, shown, labels, None)
        return redrawing.responses(drawn, redrawing.condition(masks, shown))

    seconds = _seconds(judged, pictures)
    settings = redrawings.redrawing_stage()
    if settings['source']:
        print(f'phase 1: taken over from {settings["source"]}')
    else:
        turns = redrawings.plan(context)
        batch = settings['batch_size'] / len(pictures)
        print(f'phase 1: {turns.generator_steps} steps of the generator, {turns.total} of its '
              f'discriminator: about {turns.total * 4 * seconds * batch / 60:.0f} min (guessed)')
    return seconds


def _expected_time(context, loop):
    """A rough guess from the time of two forward passes; a gradient costs about three."""
    settings, method = loop.settings, loop.method
    pictures = np.zeros((settings.batch_size, *context.crop_size, 3), np.float32)
    inputs = np.zeros((settings.discriminator_batch_size, method.encoding.size,
                       method.encoding.size, method.encoding.channels), np.float32)
    picture = _seconds(method.segmentor, pictures) / settings.batch_size
    judged = _seconds(method.discriminator, inputs) / settings.discriminator_batch_size
    propagation = (3 * settings.batch_size * (picture + judged)
                   * settings.steps_per_propagation(len(context.data.train))
                   + len(context.data.holdout) * picture)
    items = len(context.data.train) * (1 + loop.buffer.policy.max_slots)
    epoch = 3 * items * judged
    cycle = loop.controller.patience * propagation + settings.min_epochs * epoch
    return (f'about {propagation:.1f} s a propagation and {epoch / 60:.1f} min an epoch of the '
            f'discriminator with a full buffer, so {cycle / 60:.0f} min or more a cycle (guessed '
            'from two forward passes; `tools/benchmark.py load` measures)')


def _seconds(network, inputs):
    function = tf.function(lambda x: network(x, training=False))
    function(inputs)
    began = time.perf_counter()
    function(inputs)
    return time.perf_counter() - began
