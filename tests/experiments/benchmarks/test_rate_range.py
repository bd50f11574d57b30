"""The range test of Stage 1 against steps whose rate is set by hand."""
import itertools

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core import configuration, errors, random_streams, run_directory
from tf_advseg.experiments.benchmarks import rate_range
from tf_advseg.experiments.train import stage_one, training
from tf_advseg.run import context as contexts
from tf_advseg.run import dataset as datasets
from tf_advseg.run import networks
from tf_advseg.training import loop, schedules

OPTIONS = {'num_train': 6, 'num_val': 4, 'num_test': 1, 'size': (40, 40), 'smallest': (33, 33)}
SMALL = ('experiment.crop_size = 33', "dataset.reader = 'shapes'",
         f'dataset.options = {OPTIONS!r}', 'dataset.holdout_fraction = 0.5',
         'stage_one.batch_size = 2', 'stage_one.momentum = 0.5')
FARABET = networks.describe('farabet', num_classes=8, seed=1, hidden=4)
GENTLE = rate_range.Settings(least=1e-4, most=1e-2, steps=10)


@pytest.fixture
def opened(tmp_path):
    """Function (strategy, bindings...) -> (context, network) of an open run."""
    runs = itertools.count()

    def open_run(*bindings, strategy=None):
        configuration.parse([], [*SMALL, *bindings])
        strategy = strategy or tf.distribute.get_strategy()
        run = run_directory.RunDirectory(tmp_path / f'run{next(runs)}')
        run.open(configuration.config_text(), training.MAY_CHANGE)
        with strategy.scope():
            segmentor = networks.build(FARABET)
        return contexts.Context(
            run=run, data=datasets.dataset(run.path), strategy=strategy,
            streams=random_streams.RandomStreams(0), crop_size=(33, 33),
            description=FARABET), segmentor
    return open_run


@pytest.mark.parametrize('weighted', [0, 4])
def test_it_is_stage_one_with_a_rate_that_rises(opened, weighted):
    """The first phase's loss, its batches, its momentum: by hand, to the bit."""
    binding = f'stage_one.weighted_epochs = {weighted}'
    context, segmentor = opened(binding)
    curve = rate_range.measure(context, segmentor, GENTLE)
    context, segmentor = opened(binding)
    settings = stage_one.stage_one()
    method = stage_one._method(context, segmentor, settings, 10)
    batches = stage_one.batch_streams(context, segmentor, settings)['segmentor'](0)
    stepper, losses = loop.Stepper(method, context.strategy), []
    for step, batch in enumerate(batches.take(10)):
        method.optimizer.learning_rate = np.float32(1e-4 * 100 ** (step / 9))
        batch.pop('image_id')
        losses.append(stepper('weighted' if weighted else 'segmentor', batch,
                              context.streams.seed('dropout', step, 0))['loss/ce'])
    np.testing.assert_array_equal(curve.losses, losses)
    np.testing.assert_allclose(curve.rates, np.geomspace(1e-4, 1e-2, 10), rtol=1e-12)
    assert not curve.diverged and len(set(losses)) == 10


def test_two_replicas_see_the_same_curve(opened, two_replicas):
    one, two = (rate_range.measure(*opened(strategy=strategy), GENTLE)
                for strategy in (None, two_replicas))
    np.testing.assert_allclose(two.losses, one.losses, rtol=1e-4)


def test_it_ends_where_the_loss_diverges_and_writes_nothing(opened):
    context, segmentor = opened('stage_one.momentum = 0.0')
    before = sorted(context.run.path.rglob('*'))
    curve = rate_range.measure(context, segmentor, rate_range.Settings(1e-3, 1e12, 40))
    assert curve.diverged and len(curve.losses) < 40 and curve.divergent == curve.rates[-1]
    assert sorted(context.run.path.rglob('*')) == before


def test_the_rate_rises_by_one_factor_to_its_last():
    schedule = schedules.RisingRate(1e-6, 1.0, 7)
    found = [float(schedule(step)) for step in range(7)]
    np.testing.assert_allclose(found, 10.0 ** np.arange(-6, 1), rtol=1e-6)
    assert schedules.RisingRate.from_config(schedule.get_config()).rates.tolist() == (
        schedule.rates.tolist())


@pytest.mark.parametrize('given, words', [
    ({'least': 0}, 'lr_range.least = 0: '), ({'most': 1e-7}, 'lr_range.most = 1e-07: '),
    ({'steps': 5}, 'lr_range.steps = 5: '), ({'steps': 50.5}, 'lr_range.steps = 50.5: ')])
def test_settings_out_of_range_are_one_line(given, words):
    with pytest.raises(errors.UserError) as caught:
        rate_range.Settings(**given)
    assert str(caught.value).startswith(words) and '\n' not in str(caught.value)


def test_a_stage_one_without_steps_has_no_rate(opened):
    context, segmentor = opened('stage_one.epochs = 0', 'stage_one.weighted_epochs = 0')
    with pytest.raises(errors.UserError, match='Stage 1 takes no step'):
        rate_range.measure(context, segmentor, GENTLE)
