"""Designs of LoAd's discriminator, screened side by side from one start.

Each design is trained on the maps of one Stage 1 and screened (lookahead/screening.py). No
segmentor is trained. What comes out says which of them is worth a run.
"""
import hashlib
import json
import pathlib
import time
import types

import tensorflow as tf

from tf_advseg.core import configuration
from tf_advseg.core import files
from tf_advseg.core import journal as journals
from tf_advseg.experiments import small_methods
from tf_advseg.lookahead import load_stage
from tf_advseg.lookahead import screening
from tf_advseg.methods.recipe import Arm
from tf_advseg.reporting import tables

RESULTS = 'screening.jsonl'


# At the logits' own points an epoch takes a second: there is time to learn.
_LONGER = ("discriminator_optimizer.name = 'adam'", 'discriminator_optimizer.learning_rate = 1e-3',
           'lookahead.min_epochs = 10', 'lookahead.max_epochs = 40', 'lookahead.patience = 5')


def _design(name='patch', size="'logits'", kind='concat', truth='scaling', *further):
    longer = () if name == 'mobilenet' else _LONGER
    return (f"build_discriminator.name = '{name}'", f'input_encoding.size = {size}',
            f"input_encoding.kind = '{kind}'", f"input_encoding.truth = '{truth}'",
            "load.map_kind = 'soft'", 'load.backbone_features = False',
            'lookahead.discriminator_pairs = False', 'lookahead.target_accuracy = None',
            "lookahead.criterion = 'log_loss'", *longer, *further)


_BEATABLE = ('lookahead.target_accuracy = 0.75',)
_SMOOTH = ('load.real_target = 0.9', 'load.r1_weight = 1.0')
_PAIRS = 'lookahead.discriminator_pairs = True'
_FEATURES = 'load.backbone_features = True'


def _hard(*further):
    return _design('patch', "'logits'", 'concat', 'sampled', "load.map_kind = 'hard'", *further)


DESIGNS = {
    'as printed: MobileNet, 224, product': _design('mobilenet', 224, 'product', 'sampled'),
    'grid, concat, truth as it is': _design(truth='sampled'),
    'grid, concat, scaling': _design(),
    'grid, map alone, scaling': _design(kind='map'),
    'grid, concat, scaling, target 0.75': _design('patch', "'logits'", 'concat', 'scaling',
                                                  *_BEATABLE),
    'grid, concat, hard maps': _hard(),
    'grid, concat, hard maps, pairs': _hard(_PAIRS),
    'grid, concat, hard maps, pairs, features': _hard(_PAIRS, _FEATURES),
    'grid, concat, hard maps, pairs, features, R1 and smoothing': _hard(_PAIRS, _FEATURES,
                                                                        *_SMOOTH),
    'grid, concat, hard maps, pairs, features, spectral norm': _hard(
        _PAIRS, _FEATURES, 'build_discriminator.spectral_norm = True'),
    'grid, concat, swapped': _design(truth='swapped'),
    'grid, concat, swapped, pairs': _design('patch', "'logits'", 'concat', 'swapped', _PAIRS),
    'grid, concat, swapped, pairs, features': _design('patch', "'logits'", 'concat', 'swapped',
                                                      _PAIRS, _FEATURES),
    '64, concat, swapped, pairs, one decision': _design('small_cnn', 64, 'concat', 'swapped',
                                                        _PAIRS),
}


def screen(context, segmentor, folder, start, designs=None, images=None):
    """Screens designs one after another; those that `folder` knows already are not done again.

    Args:
      context: run.context.Context.
      segmentor: with Stage 1's weights, which it has again afterwards.
      start: text: what these weights are.
      folder: where screening.jsonl is written.
      designs: {name: gin bindings}; None for `DESIGNS`.
      images: training images whose gradients are taken; None for all.

    Yields:
      dict of `Screening.to_json`, 'design', 'log_loss' (of D on its hold-out) and 'seconds' of D's
      training, the drawing of g_0's maps included.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / RESULTS
    known = {line['key']: line for line in journals.Journal.read(path)} if path.exists() else {}
    kept = [(variable, variable.numpy()) for variable in segmentor.variables]
    for name, bindings in (designs or DESIGNS).items():
        # Whatever the figures depend on: another of it is another line, and another folder.
        key = hashlib.sha256(files.to_json(
            [name, bindings, configuration.config_text(), start, images]).encode()).hexdigest()[:12]
        if key not in known:
            with small_methods.bound((*bindings, 'lookahead.screening_images = 0')):
                known[key] = {'design': name, 'key': key,
                              **_one(context, segmentor, folder / key, images)}
            with open(path, 'a', encoding='utf-8') as file:
                file.write(json.dumps({'event': 'design', **known[key]}) + '\n')
            for variable, value in kept:
                variable.assign(value)
            tf.keras.backend.clear_session()
        yield known[key]


def _one(context, segmentor, folder, images):
    run = types.SimpleNamespace(path=folder, lookahead=folder / 'lookahead',
                                tensorboard=folder / 'tensorboard')
    folder.mkdir(parents=True, exist_ok=True)
    of_design = type(context)(run, context.data, context.strategy, context.streams,
                              context.crop_size, context.description)
    loop = load_stage.build(of_design, segmentor, Arm.METHOD)
    began = time.time()
    loop.train_discriminator()
    took = time.time() - began
    trained = [line for line in journals.Journal.read(folder / 'journal.jsonl')
               if line['event'] == 'retrain'][-1]
    loop.store.restore('start', segmentor)
    found = screening.screen(of_design, loop.method, loop.stepper, images,
                             trained['disc/accuracy'])
    return {**found.to_json(), 'log_loss': trained['disc/log_loss'], 'seconds': took}


def table(results):
    """tables.Table of what `screen` yields."""
    def pair(ends, form):
        return tables.MISSING if ends is None else (
            f'[{format(ends[0], form)}, {format(ends[1], form)}]')
    rows = tuple((tables.Cell(line['design']), tables.Cell(f'{100 * line["accuracy"]:.1f} %'),
                  tables.Cell(line['log_loss']), tables.Cell(line['signal']),
                  tables.Cell(pair(line['signal_interval'], '.3f')),
                  tables.Cell(line['cosine']), tables.Cell(pair(line['cosine_interval'], '+.3f')),
                  tables.Cell(f'{line["seconds"]:.0f}'))
                 for line in results)
    first = results[0]
    return tables.Table(
        ('discriminator', 'hold-out accuracy', 'log-loss', 'signal', '95 %', 'cosine with CE',
         '95 % ', 'seconds'), rows,
        f'adversarial gradients of {first["images"]} images at g0; CE of {first["unseen"]} images '
        f'that chose nothing (its own signal {first["ce_signal"] or 0:.3f})', 3)
