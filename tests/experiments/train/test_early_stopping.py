"""Early stopping of Stage 1: the rule on any trace, what is kept, resumes and replicas."""
import json
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tf_advseg.core import configuration, errors, random_streams, run_directory
from tf_advseg.experiments.train import best_model, run_results, stage_one, training
from tf_advseg.run import context as contexts
from tf_advseg.run import dataset as datasets
from tf_advseg.run import networks
from tf_advseg.training import loop

OPTIONS = {'num_train': 6, 'num_val': 4, 'num_test': 1, 'size': (40, 40), 'smallest': (33, 33)}
SMALL = ('experiment.crop_size = 33', "dataset.reader = 'shapes'",
         f'dataset.options = {OPTIONS!r}', 'dataset.holdout_fraction = 0.5', 'farabet.hidden = 4',
         'stage_one.batch_size = 2', 'stage_one.learning_rate = 0.05', 'stage_one.epochs = 3',
         'stage_one.weighted_epochs = 1')
FARABET = networks.describe('farabet', num_classes=8, seed=1, hidden=4)
# Evaluations are after every third step, of 12; those after step 3 do not count.
MIOUS = {3: 0.9, 6: 0.4, 9: 0.3, 12: 0.5}


def trained(path, *bindings, strategy=None):
    """(result of Stage 1, its kept weights, lines of metrics.jsonl)."""
    configuration.parse([], [*SMALL, *bindings])
    strategy = strategy or tf.distribute.get_strategy()
    with run_directory.RunDirectory(path) as run:
        run.open(configuration.config_text(), training.MAY_CHANGE)
        with strategy.scope():
            segmentor = networks.build(FARABET)
        context = contexts.Context(
            run=run, data=datasets.dataset(run.path), strategy=strategy,
            streams=random_streams.RandomStreams(0), crop_size=(33, 33), description=FARABET)
        result = stage_one.run(context, segmentor, 'nothing')
        lines = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    configuration.parse([], [])
    return result, [v.numpy() for v in segmentor.variables], lines


@pytest.fixture
def scripted(monkeypatch):
    """Function: evaluations find these mIoUs, by step; at some steps the process is killed."""
    def script(mious, killed_at=()):
        look, killed = best_model.EarlyStopping.look, set(killed_at)

        def looked(self, done, miou):
            del miou
            if done in killed:
                killed.remove(done)
                raise KeyboardInterrupt
            return look(self, done, mious[done])
        monkeypatch.setattr(best_model.EarlyStopping, 'look', looked)
    return script


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.integers(1, 4), st.integers(0, 3))
def test_any_trace_ends_where_the_best_was_so_many_evaluations_ago(trace, patience, first):
    memory, saved = {}, []

    class Best:
        def offer(self, done, miou):
            better = miou > memory.get('miou', -1)
            if better:
                saved.append(done)
                memory.update(miou=miou, step=done)
            return better

    stopping = best_model.EarlyStopping(patience, first, Best(), memory)
    taken = []
    for done, miou in enumerate(trace, start=1):
        stopping.look(done, miou)
        taken.append(done)
        if loop.ENDED in memory:
            break
    counted = [done for done in range(first + 1, len(trace) + 1)]
    # The plain rule: the first evaluation that the best of those counted lies `patience` before.
    ends = next((done for done in counted if done - min(
        (d for d in counted if d <= done), key=lambda d: (-trace[d - 1], d)) >= patience), None)
    assert memory.get(loop.ENDED) == ends
    assert taken[-1] == (ends or len(trace))
    seen = [d for d in counted if d <= taken[-1]]
    if seen:
        assert saved[-1] == min(seen, key=lambda d: (-trace[d - 1], d))


def test_stage_one_ends_and_its_best_model_is_the_result(tmp_path, scripted):
    scripted(MIOUS)
    result, weights, lines = trained(tmp_path / 'run', 'stage_one.patience = 1')
    assert result['steps'] == 9
    assert result['early_stopping'] == {
        'patience': 1, 'planned': 12, 'steps': 9, 'kept_step': 6, 'holdout_miou': 0.4}
    assert [(line['step'], line['waited'], line['ended'])
            for line in lines if line['event'] == 'early_stopping'] == [
                (3, 0, False), (6, 0, False), (9, 1, True)]
    shorter, expected, _ = trained(tmp_path / 'shorter', 'stage_one.epochs = 1')
    assert shorter['steps'] == 6 and 'early_stopping' not in shorter
    for found, value in zip(weights, expected):
        np.testing.assert_array_equal(found, value)
    assert not list((tmp_path / 'run').glob('stages/*/best-*'))
    again, taken_up, _ = trained(tmp_path / 'run', 'stage_one.patience = 1')
    assert again == result
    np.testing.assert_array_equal(taken_up[0], weights[0])


@pytest.mark.parametrize('killed_at', [6, 9])
def test_a_killed_stage_one_ends_at_the_same_step_with_the_same_bits(tmp_path, scripted, killed_at):
    """With patience 2 from step 6 on: 0.4, 0.3 and 0.2."""
    scripted({**MIOUS, 12: 0.2, 15: 0.9, 18: 0.9}, [killed_at])
    given = ('stage_one.patience = 2', 'stage_one.epochs = 5')
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / 'killed', *given)
    found, weights, lines = trained(tmp_path / 'killed', *given)
    whole, expected, whole_lines = trained(tmp_path / 'whole', *given)
    assert found['early_stopping'] == whole['early_stopping']
    assert found['steps'] == 12 and found['early_stopping']['kept_step'] == 6
    for one, other in zip(weights, expected):
        np.testing.assert_array_equal(one, other)
    assert [{k: v for k, v in line.items() if k != 'time'} for line in lines] == [
        {k: v for k, v in line.items() if k != 'time'} for line in whole_lines]


def test_two_replicas_stop_where_one_device_does(tmp_path, scripted, two_replicas):
    scripted(MIOUS)
    one, weights, _ = trained(tmp_path / 'one', 'stage_one.patience = 1')
    two, others, _ = trained(tmp_path / 'two', 'stage_one.patience = 1', strategy=two_replicas)
    assert one['early_stopping'] == two['early_stopping'] and two['steps'] == 9
    for found, value in zip(others, weights):
        np.testing.assert_allclose(found, value, rtol=1e-4, atol=1e-5)


def test_without_a_stop_the_best_is_kept_and_said(tmp_path, scripted):
    scripted(MIOUS)
    result, _, _ = trained(tmp_path / 'run', 'stage_one.patience = 3')
    assert result['steps'] == 12 and result['early_stopping']['kept_step'] == 12
    results = {'models': {}, 'subject': 'Stage 1', 'early_stopping': result['early_stopping']}
    assert run_results.notes_on_training(results) == [
        'Stage 1 took all of its 12 steps (patience: 3 evaluations); kept is the best by the '
        'hold-out, of step 12.']
    results['early_stopping'] = {**result['early_stopping'], 'patience': 1, 'steps': 9}
    assert run_results.notes_on_training(results)[0].startswith(
        'Stage 1 ended after 9 of 12 steps: 1 evaluation without a higher hold-out mIoU; kept ')


@pytest.mark.parametrize('bindings, words', [
    (['stage_one.patience = 0'], r'stage_one.patience = 0: expected a whole number of at least 1'),
    (['stage_one.patience = 2.5'], r'stage_one.patience = 2.5: expected a whole'),
    (['stage_one.patience = 2', 'stage_one.evaluate_every_epochs = 0'], 'has no effect with'),
    (['stage_one.patience = 2', 'stage_one.evaluate_every_epochs = 0.01'], 'less than a step')])
def test_what_stage_one_cannot_end_by_is_refused_in_a_line(tmp_path, bindings, words):
    with pytest.raises(errors.UserError, match=words) as caught:
        trained(tmp_path / 'run', *bindings)
    assert '\n' not in str(caught.value)


def test_a_run_without_a_hold_out_has_nothing_to_end_by():
    context = mock.Mock()
    context.data.train, context.data.holdout = ['a'] * 6, []
    stage_one._check(context, stage_one.Settings())
    with pytest.raises(errors.UserError, match='there is no hold-out'):
        stage_one._check(context, stage_one.Settings(patience=2))


def test_an_unlabelled_hold_out_is_named(tmp_path, scripted):
    scripted(dict.fromkeys(MIOUS))
    with pytest.raises(errors.UserError, match='labelled pixel to stop by') as caught:
        trained(tmp_path / 'run', 'stage_one.patience = 1')
    assert '\n' not in str(caught.value)
