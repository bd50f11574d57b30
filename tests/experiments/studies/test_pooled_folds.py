"""mIoU pooled over folds: against counting by hand, and its jackknife against known cases."""
import json
import statistics

import numpy as np
import pytest
from scipy import stats

from tf_advseg.core.errors import UserError
from tf_advseg.evaluation import metrics
from tf_advseg.experiments.studies import finished_runs
from tf_advseg.experiments.studies import pooled_folds
from tf_advseg.experiments.studies import sweep_table

COUNT = 4


def run_of(seed, gain=0, count=COUNT, models=('control (CE)', 'Luc')):
    """A finished run on a fold; the method has `gain` more pixels right in class 1."""
    matrices = {}
    for number, model in enumerate(models):
        matrix = np.random.default_rng(seed).integers(20, 100, [3, 3]) + 200 * np.eye(3, dtype=int)
        matrix[1, 1] += gain * number
        matrices[model] = {'matrix': matrix.tolist(), 'absent': 'left_out'}
    return {'subject': models[-1], 'dataset': 'shapes', 'confusion': matrices,
            'fold': {'count': count, 'number': seed % count},
            'models': {model: {'test': {'miou': metrics.mean_iou(np.array(each['matrix']))}}
                       for model, each in matrices.items()}}


def test_rounds_are_whole_ones():
    runs = {seed: run_of(seed) for seed in (0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11)}
    found = pooled_folds.rounds(runs)
    assert list(found) == [0, 2] and all(list(each) == [0, 1, 2, 3] for each in found.values())
    assert found[2][1] is runs[9]
    assert not pooled_folds.rounds({0: {'models': {}}})
    assert not pooled_folds.rounds({0: run_of(0), 1: run_of(1, count=5)})


def test_pixels_are_counted_together():
    runs = {seed: run_of(seed) for seed in range(COUNT)}
    total = sum(np.array(run['confusion']['Luc']['matrix']) for run in runs.values())
    hits = np.diag(total)
    expected = 100 * np.mean(hits / (total.sum(0) + total.sum(1) - hits))
    members = pooled_folds.rounds(runs)[0]
    np.testing.assert_allclose(pooled_folds.miou(members, 'Luc'), expected)
    left = pooled_folds.miou(members, 'Luc', left_out=2)
    del members[2]
    np.testing.assert_allclose(left, pooled_folds.miou(members, 'Luc'))


def test_the_jackknife_of_a_mean_is_students_interval():
    """Where leaving a fold out gives the mean of the others, the interval is the plain one."""
    values = [1.0, 2.5, -0.5, 3.0, 0.75]

    def without(left_out=None):
        return statistics.fmean(value for k, value in enumerate(values) if k != left_out)

    found = pooled_folds.difference([(without, lambda left_out=None: 0.0)], range(len(values)))
    np.testing.assert_allclose(found.mean, statistics.fmean(values))
    np.testing.assert_allclose(found.deviation, statistics.stdev(values))
    half = stats.t.ppf(0.975, 4) * statistics.stdev(values) / np.sqrt(5)
    np.testing.assert_allclose(found.half_width, half)


def test_the_table_has_the_pooled_gain_and_its_interval():
    collected = {'a': {seed: run_of(seed, gain=40) for seed in range(2 * COUNT)},
                 'b': {seed: run_of(seed, gain=0) for seed in range(COUNT)}}
    rows = {(row[0], row[3]): row for row in pooled_folds.table(collected).texts()[1:]}
    assert set(rows) == {('a', 'control (CE)'), ('b', 'control (CE)'), ('b', 'a: Luc')}
    gained = rows['a', 'control (CE)']
    np.testing.assert_allclose(float(gained[6].split()[0]), float(gained[2]) - float(gained[4]),
                               atol=0.011)
    assert gained[5] == '2' and float(gained[6].split()[0]) > 0
    assert list(rows['b', 'control (CE)'][5:]) == ['1', '+0.00 [+0.00, +0.00]']


def test_runs_without_folds_have_no_such_table():
    run = {key: value for key, value in run_of(0).items() if key not in ('fold', 'confusion')}
    assert pooled_folds.table({'a': {0: run, 1: run}}) is None


def test_runs_of_one_fold_count_as_one():
    """Four folds of two seeds each: the interval is that of four means."""
    runs = {seed: run_of(seed, gain=10 * (seed + 1)) for seed in range(2 * COUNT)}
    (*_, found), = [row for row in sweep_table.compared({'a': runs}) if row[3] == 'test']
    gains = [100 * (run['models']['Luc']['test']['miou']
                    - run['models']['control (CE)']['test']['miou']) for run in runs.values()]
    means = [statistics.fmean(gains[k::COUNT]) for k in range(COUNT)]
    assert found.count == COUNT
    np.testing.assert_allclose((found.mean, found.deviation),
                               (statistics.fmean(gains), statistics.stdev(means)))


def test_what_is_kept_of_a_fold_comes_back(tmp_path):
    collected = {'a': {seed: run_of(seed) for seed in range(COUNT)}}
    finished_runs.keep(collected, tmp_path / 'kept.jsonl')
    assert finished_runs.collect(finished_runs.parse([str(tmp_path / 'kept.jsonl')])) == collected


def test_a_runs_results_give_its_fold():
    results = {'models': {'control (CE)': {'test': {
        'miou': 0.5, 'confusion_matrix': [[3, 1], [1, 3]], 'absent': 'zero'}}},
        'subject': 'Luc', 'dataset': 'shapes', 'fold': {'count': 5, 'number': 1}}
    found = finished_runs.measured(results)
    assert found['fold'] == results['fold'] and found['confusion'] == {
        'control (CE)': {'matrix': [[3, 1], [1, 3]], 'absent': 'zero'}}


@pytest.mark.parametrize('change', [
    {'fold': {'count': 4, 'number': 4}}, {'fold': 3}, {'fold': {'count': 4}},
    {'confusion': {'Luc': {'matrix': [[1, 2, 3]], 'absent': 'zero'}}},
    {'confusion': {'Luc': {'matrix': [[1, -2], [0, 1]], 'absent': 'zero'}}},
    {'confusion': {'Luc': {'matrix': [[1, 2], [0, 1]], 'absent': 'none'}}},
    {'confusion': None}])
def test_a_line_that_is_no_run_on_a_fold(tmp_path, change):
    path = tmp_path / 'kept.jsonl'
    path.write_text(json.dumps({'cell': 'a', 'seed': 0, **run_of(0), **change}) + '\n')
    with pytest.raises(UserError, match='line 1 is no run'):
        finished_runs.collect(finished_runs.parse([str(path)]))
