"""What is tabled of a run; tests/tools/test_sweep_runs.py has the tables of finished runs."""
import json

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


def test_a_row_says_how_its_run_was_made(tmp_path):
    """Anyone can run it again: the settings as given, what it took; no path of this machine."""
    run = tmp_path / 'run'
    run.mkdir()
    (run / 'results.json').write_text(json.dumps(
        {**results(3, None), 'seconds': {'stage1': 0.0, 'luc': 61.23456}}))
    settings = ['--gin_file=methods/luc.gin', '--gin_file=gin/protocols/shapes.gin',
                '--gin_param=luc.adversarial_weight = 0.2']
    (run / 'environment.json').write_text(json.dumps({'commit': '0123abc+', 'argv': [
        '/x/train.py', settings[0], '--gin_file', 'gin/protocols/shapes.gin', settings[2],
        "--gin_param=experiment.control_from = '/x/runs/a'", '--seed=3', '--workdir=/x/runs/b']}))
    groups = finished_runs.parse([f'Luc={run}'])
    collected = finished_runs.collect(groups)
    assert collected['Luc'][3]['settings'] == settings
    assert collected['Luc'][3]['commit'] == '0123abc+'
    assert collected['Luc'][3]['seconds'] == {'stage1': 0.0, 'luc': 61.2}
    finished_runs.keep(collected, tmp_path / 'kept.jsonl')
    assert '/x/' not in (tmp_path / 'kept.jsonl').read_text()
    assert finished_runs.collect(finished_runs.parse([str(tmp_path / 'kept.jsonl')])) == collected
    (run / 'environment.json').unlink()
    assert 'settings' not in finished_runs.collect(groups)['Luc'][3]


@pytest.mark.parametrize('change', [{'seconds': {'luc': 'long'}}, {'seconds': 3}, {'settings': 3}])
def test_a_line_that_does_not_say_how_it_was_made_is_refused(tmp_path, change):
    path = tmp_path / 'kept.jsonl'
    line = {'cell': 'a', 'seed': 0, **finished_runs.measured(results(0, None))}
    path.write_text(json.dumps({**line, **change}) + '\n')
    with pytest.raises(UserError, match='line 1 is no run'):
        finished_runs.collect(finished_runs.parse([str(path)]))
