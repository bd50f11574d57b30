"""mIoU pooled over folds: against counting by hand, and its jackknife against known cases."""
import json
import statistics

import numpy as np
import pytest
from scipy import stats

from tf_advseg.core.errors import UserError
from tf_advseg.evaluation import metrics
from tf_advseg.experiments.studies import document_tables
from tf_advseg.experiments.studies import finished_runs
from tf_advseg.experiments.studies import pooled_folds
from tf_advseg.experiments.studies import sweep_chart
from tf_advseg.experiments.studies import sweep_table
from tf_advseg.reporting import forest_plot
from tf_advseg.reporting import paired

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
    other = {seed: run_of(seed) for seed in range(COUNT)}
    other[1]['fold']['seed'] = 7
    assert not pooled_folds.rounds(other)


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


def test_a_class_that_one_fold_alone_shows_is_left_out_without_it():
    """Class 2 is in fold 0's images alone: without these the mean is over the other two."""
    runs = {seed: run_of(seed) for seed in range(COUNT)}
    for run in list(runs.values())[1:]:
        for each in run['confusion'].values():
            each['matrix'] = [[*row[:2], 0] for row in each['matrix'][:2]] + [[0, 0, 0]]
    members = pooled_folds.rounds(runs)[0]
    total = sum(np.array(members[number]['confusion']['Luc']['matrix']) for number in (1, 2, 3))
    hits = np.diag(total)[:2]
    expected = 100 * np.mean(hits / (total.sum(0) + total.sum(1) - np.diag(total))[:2])
    np.testing.assert_allclose(pooled_folds.miou(members, 'Luc', left_out=0), expected)
    found = pooled_folds.difference(
        [tuple(lambda left_out=None, model=model: pooled_folds.miou(members, model, left_out)
               for model in ('Luc', 'control (CE)'))], range(COUNT))
    assert np.isfinite([found.mean, found.half_width]).all()


def test_the_interval_holds_what_it_should():
    """Of 400 data sets of a known gain in mIoU, 95 % of the intervals have it in them.

    Images differ in size of classes, one of which is small; folds are independent, as this needs.
    """
    random = np.random.default_rng(0)
    rates = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.3, 0.1, 0.6]])
    models, sizes = (rates * 0.97 + 0.03 * np.eye(3), rates), np.array([600.0, 300.0, 40.0])
    gain = 100 * float(np.subtract(*(metrics.mean_iou(np.round(1e6 * sizes[:, None] * each).astype(
        int)) for each in models)))
    held = 0
    for _ in range(400):
        pixels = random.poisson(sizes * random.gamma(0.5, 2.0, (5, 30, 3)))
        counts = [np.stack([random.multinomial(pixels[..., true], each[true]).sum(1)
                            for true in range(3)], 1) for each in models]

        def pooled(model, counts=tuple(counts)):
            return lambda left_out=None: 100 * metrics.mean_iou(np.delete(
                counts[model], [] if left_out is None else [left_out], 0).sum(0))

        found = pooled_folds.difference([(pooled(0), pooled(1))], range(5))
        held += abs(found.mean - gain) <= found.half_width
    assert 367 <= held <= 393  # 380, and three standard deviations to both sides


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
    assert list(rows['b', 'control (CE)'][5:]) == ['1', '+0.00 [+0.00, +0.00]', '0.00', '0.00',
                                                   '2', '0.00']
    found, = [each for *names, each in pooled_folds.compared(collected) if names[0] == 'a']
    assert found.count == COUNT  # of folds, two rounds or one
    assert list(gained[7:]) == [f'{found.deviation:.2f}', f'{found.half_width:.2f}',
                                str(paired.runs_for(found.deviation, 0.5)),
                                f'{found.half_width * (1 + COUNT / (COUNT - 2)) ** 0.5:.2f}']


def test_the_forest_plot_begins_with_the_pooled_gain():
    """The measure that a protocol on folds names first; its claim is that of the cell's mIoU."""
    collected = {'a': {seed: run_of(seed, gain=40) for seed in range(2 * COUNT)},
                 'b': {seed: run_of(seed, gain=10) for seed in range(COUNT)}}
    parts = sweep_chart.panels(collected, claims={'a': 2.0})
    first, second = parts
    assert 'pooled over the folds' in first[0] and 'pooled' not in second[0]
    assert [part[2:] for part in parts] == [(True, COUNT)] * 2
    expected = {(cell, less): found for cell, _, _, less, *_, found in
                pooled_folds.compared(collected)}
    assert [(found, claim) for _, found, claim in first[1]] == [
        (expected['a', 'control (CE)'], 2.0), (expected['b', 'control (CE)'], None),
        (expected['b', 'a: Luc'], None)]
    line = forest_plot.described(parts).splitlines()[1]
    assert line.endswith(f"{COUNT} folds; the paper's +2.00")
    assert len(forest_plot.forest(parts).axes) == 2
    # Nor is mIoU drawn where it is not asked for.
    assert not sweep_chart.panels(collected, measures=('boundary',))


def test_a_document_has_the_pooled_gain_with_its_spread():
    collected = {'a': {seed: run_of(seed, gain=40) for seed in range(COUNT)}}
    header, _, row = (line.strip('| ').split(' | ') for line in document_tables.markdown(
        collected, (), ['miou']).splitlines())
    found, = [each for *_, each in pooled_folds.compared(collected)]
    assert header[-3:] == ['mIoU pooled over folds, points', 'its SD', 'folds for ±0.5']
    assert row[-3:] == [f'**{found}**', f'{found.deviation:.2f}',
                        str(paired.runs_for(found.deviation, 0.5))]


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


def test_differences_of_runs_on_folds_are_counted_by_folds():
    collected = {'a': {seed: run_of(seed) for seed in range(2 * COUNT)}}
    (_, differences), = [each for each in sweep_table.of_measures(collected)
                         if each[0] == '_differences']
    header, row = differences.texts()
    assert header[4] == 'folds' and header[-2:] == ['folds for ±0.5', 'corrected']
    assert row[4] == str(COUNT)
    assert 'mean over folds' in differences.title
    assert sweep_table.counted({'a': {0: {'models': {}}}}) == 'runs'


@pytest.mark.parametrize('change', [{'number': 1}, {'seed': 3}, {'count': 5}, None])
def test_runs_of_other_folds_are_no_pairs(change):
    """Two cells whose runs of seed 0 are tested on other images: no difference is made of them."""
    collected = {'a': {seed: run_of(seed) for seed in range(COUNT)},
                 'b': {seed: run_of(seed) for seed in range(COUNT)}}
    for seed, run in collected['b'].items():
        run['fold'] = None if change is None else {**run['fold'], **change}
        if change == {'number': 1}:
            run['fold'] = {'count': COUNT, 'number': (seed + 1) % COUNT}
    rows = sweep_table.compared(collected)
    assert {row[0] for row in rows if row[2] == 'control (CE)'} == {'a', 'b'}
    assert not [row for row in rows if row[2] == 'a: Luc']
    if change != {'number': 1}:  # which images are in a fold is the same there
        assert not [row for row in pooled_folds.compared(collected) if row[3] == 'a: Luc']


def test_a_table_has_folds_of_one_draw(tmp_path):
    """Runs on folds, on others, and on the data set's own splits are not tabled together."""
    plain = {key: value for key, value in run_of(1).items() if key not in ('fold', 'confusion')}
    other = run_of(1)
    other['fold']['seed'] = 2
    for name, run in (('plain', plain), ('other', other), ('five', run_of(1, count=5))):
        path = tmp_path / f'{name}.jsonl'
        finished_runs.keep({'a': {0: run_of(0)}, 'b': {1: run}}, path)
        with pytest.raises(UserError, match='cut into 4 folds .folds.seed = 0.; give runs of one'):
            finished_runs.collect(finished_runs.parse([str(path)]))


def test_what_is_kept_of_a_fold_comes_back(tmp_path):
    collected = {'a': {seed: run_of(seed) for seed in range(COUNT)}}
    for run in collected['a'].values():
        run['fold']['seed'] = 3
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
