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


# Every design binds all that it depends on, so that it is the same under any configuration.
_COMMON = {
    'lookahead.criterion': 'log_loss', 'lookahead.target_accuracy': None,
    'lookahead.discriminator_pairs': False, 'lookahead.discriminator_holdout': None,
    'lookahead.discriminator_batch_size': 16, 'lookahead.map_images': 'all',
    'discriminator_optimizer.schedule': 'constant', 'load.map_kind': 'soft',
    'load.backbone_features': False, 'load.real_target': 1.0, 'load.r1_weight': 0.0,
    'input_encoding.temperature': 1.0, 'input_encoding.label_smoothing': 0.0,
    'input_encoding.tau': 0.9, 'input_encoding.image_range': 'unit',
    'build_discriminator.alpha': 1.0, 'build_discriminator.spectral_norm': False}
# At the logits' own points an epoch takes a second: there is time to learn.
_GRID = {
    **_COMMON, 'build_discriminator.name': 'patch', 'input_encoding.size': 'logits',
    'input_encoding.kind': 'concat', 'input_encoding.truth': 'sampled',
    'discriminator_optimizer.name': 'adam', 'discriminator_optimizer.learning_rate': 1e-3,
    'lookahead.min_epochs': 10, 'lookahead.max_epochs': 40, 'lookahead.patience': 5}
_PRINTED = {
    **_COMMON, 'build_discriminator.name': 'mobilenet', 'build_discriminator.dropout': 0.01,
    'input_encoding.size': 224, 'input_encoding.kind': 'product',
    'input_encoding.truth': 'sampled',
    'discriminator_optimizer.name': 'adagrad', 'discriminator_optimizer.learning_rate': 0.01,
    'lookahead.min_epochs': 2, 'lookahead.max_epochs': 4, 'lookahead.patience': 1}
_SCALING = {**_GRID, 'input_encoding.truth': 'scaling'}
_HARD = {**_GRID, 'load.map_kind': 'hard'}
_SWAPPED = {**_GRID, 'input_encoding.truth': 'swapped'}
_ONE_DECISION = {**_SWAPPED, 'build_discriminator.name': 'small_cnn', 'input_encoding.size': 64,
                 'build_discriminator.dropout': 0.0}
_PAIRS = {'lookahead.discriminator_pairs': True}
_FEATURES = {'load.backbone_features': True}
_SEEING = {**_HARD, **_PAIRS, **_FEATURES}
_SMOOTH = {'load.real_target': 0.9, 'load.r1_weight': 1.0}
_SPECTRAL = {'build_discriminator.spectral_norm': True}
_ALONE = {'input_encoding.kind': 'map'}


def _bindings(settings):
    """gin bindings of {name: value}."""
    return tuple(f'{name} = {value!r}' for name, value in settings.items())


DESIGNS = {name: _bindings(settings) for name, settings in {
    'as printed: MobileNet, 224, product': _PRINTED,
    'grid, concat, truth as it is': _GRID,
    'grid, concat, scaling': _SCALING,
    'grid, map alone, scaling': {**_SCALING, **_ALONE},
    'grid, concat, scaling, target 0.75': {**_SCALING, 'lookahead.target_accuracy': 0.75},
    'grid, concat, hard maps': _HARD,
    'grid, concat, hard maps, pairs': {**_HARD, **_PAIRS},
    'grid, concat, hard maps, pairs, features': _SEEING,
    'grid, concat, hard maps, pairs, features, R1 and smoothing': {**_SEEING, **_SMOOTH},
    'grid, concat, hard maps, pairs, features, spectral norm': {**_SEEING, **_SPECTRAL},
    # gin/papers/load/stanford_background_cells.gin has it.
    'grid, concat, hard maps, pairs, features, half as wide, 6 epochs': {
        **_SEEING, 'build_discriminator.alpha': 0.5, 'lookahead.min_epochs': 6,
        'lookahead.max_epochs': 6, 'lookahead.discriminator_holdout': 0.1},
    'grid, concat, swapped': _SWAPPED,
    'grid, map alone, swapped, features': {**_SWAPPED, **_ALONE, **_FEATURES},
    'grid, concat, swapped, R1 and smoothing': {**_SWAPPED, **_SMOOTH},
    'grid, concat, swapped, spectral norm': {**_SWAPPED, **_SPECTRAL},
    'grid, concat, swapped, pairs': {**_SWAPPED, **_PAIRS},
    'grid, concat, swapped, pairs, features': {**_SWAPPED, **_PAIRS, **_FEATURES},
    '64, concat, swapped, one decision': _ONE_DECISION,
    '64, concat, swapped, pairs, one decision': {**_ONE_DECISION, **_PAIRS},
    '64, concat, bottleneck, one decision': {**_ONE_DECISION,
                                             'input_encoding.truth': 'bottleneck'},
}.items()}


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
                             {name: trained[f'disc/{name}'] for name in ('accuracy', 'log_loss')})
    return {**found.to_json(), 'seconds': took}


def table(results):
    """tables.Table of what `screen` yields."""
    def pair(ends, form):
        return tables.MISSING if ends is None else (
            f'[{format(ends[0], form)}, {format(ends[1], form)}]')
    def worst(line):
        cue = max(line['cues'], key=line['cues'].get)
        return f'{cue} {line["cues"][cue]:.2f}'
    rows = tuple((tables.Cell(line['design'] + (' (blind)' if line['blind'] else '')),
                  tables.Cell(f'{100 * line["accuracy"]:.1f} %'),
                  tables.Cell(line['log_loss']), tables.Cell(line['signal']),
                  tables.Cell(pair(line['signal_interval'], '.3f')),
                  tables.Cell(line['cosine']), tables.Cell(pair(line['cosine_interval'], '+.3f')),
                  tables.Cell(worst(line)), tables.Cell(f'{line["seconds"]:.0f}'))
                 for line in results)
    first = results[0]
    return tables.Table(
        ('discriminator', 'hold-out accuracy', 'log-loss', 'signal', '95 %', 'cosine with CE',
         '95 % ', 'worst cue (AUC)', 'seconds'), rows,
        f'adversarial gradients of {first["images"]} images at g0; CE of {first["unseen"]} images '
        f'that chose nothing (its own signal {first["ce_signal"] or 0:.3f})', 3)
