"""Two local processes share a run: the same decisions, one set of files, one process's result."""
import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

from tf_advseg.run import networks

pytestmark = pytest.mark.slow  # three processes a run; .ci/run has them
LOAD = (pathlib.Path(__file__).parents[2] / 'lookahead' / 'tiny.py',
        'controller.max_total_cycles = 1', 'controller.patience = 3', 'stage_one.epochs = 1')
LUC = (pathlib.Path(__file__).parents[2] / 'helpers' / 'tiny_luc.py',)
# Of weights that differ by rounding some pixel may tie. One pixel of a class of 50 to 100, as the
# small images have them, is 1/50 of its IoU and of a confused one's, over 8 classes: 5e-3.
MIOU = 1e-2


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(('localhost', 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _start(program, workdir, **environment):
    script, *words = program
    return subprocess.Popen([sys.executable, str(script), str(workdir), *words],
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, **environment})


def _wait(process):
    try:
        _, errors = process.communicate(timeout=600)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail('a worker waits for ever: ' + process.communicate()[1][-2000:])
    assert process.returncode == 0, errors[-3000:]


def _runs(program, folder):
    """(run of one process, run of two workers)."""
    cluster = {'worker': [f'localhost:{port}' for port in _free_ports(2)]}
    workers = [_start(program, folder / 'two', TF_CONFIG=json.dumps(
        {'cluster': cluster, 'task': {'type': 'worker', 'index': index}})) for index in range(2)]
    try:
        for worker in workers:
            _wait(worker)
    finally:
        for worker in workers:
            worker.kill()
    _wait(_start(program, folder / 'one'))
    return folder / 'one', folder / 'two'


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """LoAd's runs."""
    return _runs(LOAD, tmp_path_factory.mktemp('workers'))


@pytest.fixture(scope='module')
def luc_runs(tmp_path_factory):
    """Luc's runs."""
    return _runs(LUC, tmp_path_factory.mktemp('luc_workers'))


def _lines(path, event):
    return [line for line in map(json.loads, path.read_text().splitlines())
            if line['event'] == event]


def test_both_workers_end_and_one_writes(runs):
    _, two = runs
    assert len(_lines(two / 'journal.jsonl', 'finished')) == 1
    assert len(_lines(two / 'journal.jsonl', 'start')) == 1
    assert (two / 'results.json').exists() and (two / 'report.html').exists()
    assert not list(two.rglob('.tmp-*'))


def test_the_first_propagations_are_those_of_one_process(runs):
    one, two = (_lines(run / 'metrics.jsonl', 'propagation') for run in runs)
    assert len(one) == len(two)
    for a, b in zip(one[:3], two[:3]):
        assert a['loss/ce'] == pytest.approx(b['loss/ce'], abs=1e-4)
        assert a['miou'] == pytest.approx(b['miou'], abs=MIOU)


def test_stage_one_is_that_of_one_process(runs):
    one, two = (_lines(run / 'metrics.jsonl', 'stage') for run in runs)
    assert [line['step'] for line in one] == [line['step'] for line in two]
    one, two = ([line['loss/ce'] for line in lines if 'loss/ce' in line] for lines in (one, two))
    assert len(one) >= 1 and one == pytest.approx(two, abs=1e-4)


def _numbers(line):
    """(a line's floats in one row, what else it holds); the clock time is left out."""
    values = [(name, value) for name, found in line.items() if name != 'time'
              for value in (found if isinstance(found, list) else [found])]
    return ([value for _, value in values if isinstance(value, float)],
            [(name, value) for name, value in values if not isinstance(value, float)])


def test_lucs_turns_and_control_are_those_of_one_process(luc_runs):
    for event in ('stage', 'gradients', 'evaluation'):
        one, two = (_lines(run / 'metrics.jsonl', event) for run in luc_runs)
        assert len(one) == len(two) >= 2
        for a, b in zip(one, two):
            (floats, others), (floats_of_two, others_of_two) = _numbers(a), _numbers(b)
            assert others == others_of_two and floats
            bound = MIOU if event == 'evaluation' else 2e-3
            assert floats_of_two == pytest.approx(floats, rel=1e-3, abs=bound)
    lines = _lines(luc_runs[1] / 'metrics.jsonl', 'stage')
    assert {line['stage'] for line in lines} == {'luc', 'control'}
    assert any('loss/disc' in line for line in lines) and any('loss/adv' in line for line in lines)


def test_lucs_models_and_scores_are_those_of_one_process(luc_runs):
    one, two = (json.loads((run / 'results.json').read_text()) for run in luc_runs)
    assert list(one['models']) == list(two['models']) == ['control (CE)', 'Luc']
    for column, splits in one['models'].items():
        for split, scores in splits.items():
            for measure in ('miou', 'pixel_accuracy'):
                assert two['models'][column][split][measure] == pytest.approx(
                    scores[measure], abs=MIOU)
    for name in ('best', 'control'):
        models = [networks.load(run / 'checkpoints' / name)[0] for run in luc_runs]
        for a, b in zip(*(model.variables for model in models)):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    assert all((run / 'report.html').exists() for run in luc_runs)
    assert not list(luc_runs[1].rglob('.tmp-*'))
