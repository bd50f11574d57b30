"""Stage 1 with the official recipe's settings, on a small network and small scenes."""
import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core import configuration, errors, random_streams, run_directory
from tf_advseg.data.augmentation import recipes
from tf_advseg.experiments.train import stage_one
from tf_advseg.experiments.train import training
from tf_advseg.models import layers
from tf_advseg.run import context as contexts
from tf_advseg.run import dataset as datasets
from tf_advseg.run import networks
from tf_advseg.training import averaging

SIDE = 49
OPTIONS = {'num_train': 6, 'num_val': 4, 'num_test': 1, 'size': (SIDE, SIDE),
           'smallest': (40, 40)}
SMALL = (f'experiment.crop_size = {SIDE}', "dataset.reader = 'shapes'",
         f'dataset.options = {OPTIONS!r}', 'dataset.holdout_fraction = 0.5',
         'stage_one.batch_size = 3', 'stage_one.epochs = 2',
         'polynomial_decay.slow_start_steps = 1')


SMALLEST = networks.describe('deeplab_mobilenet_v2', num_classes=8, seed=1, crop_size=(SIDE, SIDE),
                             depth_multiplier=0.25)


def trained(path, *bindings, description=SMALLEST):
    """(result, moves, metrics, network) of Stage 1: the official piece and further bindings."""
    configuration.parse(['gin/methods/official_deeplab.gin'], [*SMALL, *bindings])
    with run_directory.RunDirectory(path) as run:
        run.open(configuration.config_text(), training.MAY_CHANGE)
        segmentor = networks.build(description)
        before = [v.numpy() for v in segmentor.trainable_variables]
        context = contexts.Context(
            run=run, data=datasets.dataset(run.path), strategy=tf.distribute.get_strategy(),
            streams=random_streams.RandomStreams(0), crop_size=(SIDE, SIDE),
            description=description)
        result = stage_one.run(context, segmentor, 'nothing')
        moved = [v.numpy() - b for v, b in zip(segmentor.trainable_variables, before)]
        lines = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    configuration.parse([], [])
    return result, moved, lines, segmentor


@pytest.mark.slow
def test_the_official_recipe_trains(tmp_path):
    result, moved, lines, _ = trained(tmp_path / 'official')
    assert result['steps'] == 4 and 0.0 <= result['holdout_miou'] <= 1.0
    assert all(np.isfinite(m).all() for m in moved) and max(np.abs(m).max() for m in moved) > 0
    assert lines


@pytest.mark.slow
def test_the_official_scaling_matters(tmp_path):
    moved, unscaled = (trained(tmp_path / name, *bindings)[1] for name, bindings in (
        ('official', ()), ('unscaled', ('stage_one.max_scale = 1.0', 'stage_one.min_scale = 1.0'))))
    assert any(not np.allclose(a, b, atol=1e-7) for a, b in zip(moved, unscaled))


def test_settings_that_came_later_leave_older_runs_alone():
    settings = stage_one._resolved(stage_one.stage_one(), networks.build(SMALLEST))
    # What a default Stage 1 was recognised by when the first runs were made.
    assert stage_one._identity(settings) == {
        'weighted_epochs': 4, 'epochs': 8, 'batch_size': 7, 'learning_rate': 1e-4,
        'schedule': 'constant', 'momentum': 0.9, 'fine_tune_batch_norm': False, 'flip': True,
        'evaluate_every_epochs': 1}
    settings = dataclasses.replace(settings, min_scale=0.5, nesterov=True)
    assert stage_one._identity(settings)['min_scale'] == 0.5
    assert stage_one._identity(settings)['nesterov'] is True


@pytest.mark.slow
@pytest.mark.parametrize('said', [None, False])
def test_batch_norm_is_as_the_network_has_it_unless_stage_one_says_otherwise(tmp_path, said):
    description = {**SMALLEST, 'arguments': {**SMALLEST['arguments'], 'fine_tune_batch_norm': True}}
    _, _, _, segmentor = trained(
        tmp_path / 'run', f'stage_one.fine_tune_batch_norm = {said}', 'stage_one.epochs = 1',
        'stage_one.evaluate_every_epochs = 0', description=description)
    assert segmentor.fine_tune_batch_norm is True  # what LoAd goes on with
    moved = [bool(np.any(layer.norm.moving_mean.numpy() != 0.0))
             for layer in layers.convolutions(segmentor) if layer.norm is not None]
    assert all(moved) if said is None else not any(moved)


def test_a_residual_network_from_nothing_has_live_batch_norm_by_default():
    configuration.parse(['gin/models/deeplab_residual.gin'])
    network = networks.build(networks.describe('deeplab_residual', num_classes=2))
    assert stage_one._resolved(stage_one.stage_one(), network).fine_tune_batch_norm is True
    configuration.parse([], [])


@pytest.mark.parametrize('momentum, live, steps, warned', [
    (0.99, True, 36, True), (0.99, True, 180, False), (0.9, True, 36, False),
    (0.99, False, 36, False)])
def test_too_few_steps_for_batch_norm_are_told(momentum, live, steps, warned, caplog):
    network = networks.build(networks.describe(
        'deeplab_mobilenet_v2', num_classes=2, depth_multiplier=0.25, batch_norm_momentum=momentum))
    settings = stage_one.Settings(fine_tune_batch_norm=live)
    stage_one.warn_of_short_statistics(network, settings, steps)
    assert ('Stage 1 has 36 steps, too few for batch norm: 70 % of its' in caplog.text) == warned
    assert bool(caplog.text) == warned


def test_statistics_are_estimated_anew_for_the_weights_that_are_kept(tmp_path):
    live = 'stage_one.fine_tune_batch_norm = True'
    plain, anew = (trained(tmp_path / name, live, f'stage_one.reestimate_batches = {count}')[3]
                   for name, count in (('plain', 0), ('anew', 2)))
    for one, other in zip(plain.trainable_variables, anew.trainable_variables):
        np.testing.assert_array_equal(one, other)
    norms = [averaging.batch_norms(network) for network in (plain, anew)]
    assert norms[0] and not all(np.array_equal(one.moving_variance, other.moving_variance)
                                for one, other in zip(*norms))
    with run_directory.RunDirectory(tmp_path / 'plain') as run:
        configuration.parse(['gin/methods/official_deeplab.gin'], [*SMALL, live])
        context = contexts.Context(
            run=run, data=datasets.dataset(run.path), strategy=tf.distribute.get_strategy(),
            streams=random_streams.RandomStreams(0), crop_size=(SIDE, SIDE), description=SMALLEST)
        batches = stage_one.batch_streams(context, plain, stage_one.stage_one())['segmentor'](0)
        plain.fine_tune_batch_norm = True
        assert averaging.reestimate_batch_norm(plain, batches.take(2), context.strategy) == 2
    for one, other in zip(*norms):
        np.testing.assert_array_equal(one.moving_mean, other.moving_mean)
        np.testing.assert_array_equal(one.moving_variance, other.moving_variance)


def test_scales_that_are_none_are_refused():
    with pytest.raises(errors.UserError, match='0 < minimum <= maximum'):
        _ = stage_one.Settings(min_scale=3.0).recipe
    recipe = stage_one.Settings(size_range=(33, 49, 16)).recipe
    assert recipe.size_range.size(40, 49).numpy().tolist() == [33, 49]
    assert not recipe.random_scale.active and recipe.flip


def test_a_recipe_by_name_is_what_a_stage_is_recognised_by():
    named = stage_one.Settings(augmentation='hung+photometric')
    assert named.recipe == recipes.make_recipe('hung+photometric')
    plain = stage_one._identity(named)
    configuration.parse([], ['hung_recipe.max_scale = 1.5', 'photometric.hue = 0.1'])
    changed = stage_one._identity(named)
    assert changed['augmentation'] == plain['augmentation'] == 'hung+photometric'
    assert plain['recipe']['random_scale']['maximum'] == 1.6
    assert changed['recipe']['random_scale']['maximum'] == 1.5
    assert changed['recipe']['photometric']['hue'] == 0.1
    assert json.loads(json.dumps(changed)) == changed
    with pytest.raises(errors.UserError, match='stage_one.min_scale = 0.5 both say'):
        _ = dataclasses.replace(named, min_scale=0.5).recipe
