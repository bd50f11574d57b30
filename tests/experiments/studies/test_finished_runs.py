"""What is tabled of a run; tests/tools/test_sweep_runs.py has the tables of finished runs."""
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.experiments.studies import finished_runs
from tf_advseg.experiments.studies import sweep_table
from tf_advseg.experiments.studies import tabled_measures


def results(seed, accuracy):
    """results.json of a run with a discriminator that knew `accuracy` of truths, half of fakes."""
    scores = {split: {'miou': 0.5 + 0.01 * seed} for split in ('holdout', 'test')}
    known = {} if accuracy is None else {'discriminator_accuracy': {'real': accuracy, 'fake': 0.5}}
    return {'models': {'control (CE)': scores, 'Luc': scores}, 'subject': 'Luc', 'seed': seed,
            'dataset': 'shapes', **known}


def test_the_discriminators_accuracy_is_the_method_s_alone():
    found = finished_runs.measured(results(0, 0.9))
    name = tabled_measures.DISCRIMINATOR
    assert found['models']['Luc']['test'][name] == found['models']['Luc']['holdout'][name] == 0.7
    assert name not in found['models']['control (CE)']['test']
    assert name not in finished_runs.measured(results(0, None))['models']['Luc']['test']


def test_a_name_before_a_kept_file_takes_that_cell_alone(tmp_path):
    path = tmp_path / 'kept.jsonl'
    finished_runs.keep({cell: {seed: finished_runs.measured(results(seed, None))
                               for seed in range(2)} for cell in ('a', 'b', 'c')}, path)

    def collected(*names):
        return finished_runs.collect(finished_runs.parse([f'{name}={path}' for name in names]))

    assert list(collected('c', 'a')) == ['c', 'a'] and list(collected('b')['b']) == [0, 1]
    assert list(finished_runs.collect(finished_runs.parse([str(path)]))) == ['a', 'b', 'c']
    with pytest.raises(UserError, match='kept.jsonl "d".*Known: a, b, c'):
        collected('d')


def test_two_arms_are_compared_by_their_discriminators():
    collected = {cell: {seed: finished_runs.measured(results(seed, accuracy + 0.02 * seed))
                        for seed in range(2)} for cell, accuracy in (('a', 0.8), ('b', 0.6))}
    row, = [row for row in sweep_table.compared(collected, ('a',), tabled_measures.DISCRIMINATOR)
            if row[0] == 'b' and row[3] == 'test']
    assert row[:3] == ('b', 'Luc', 'a: Luc') and row[-1].mean == pytest.approx(-10)
