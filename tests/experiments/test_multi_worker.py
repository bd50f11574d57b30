"""Two local processes share a run: the same decisions, one set of files, a result as of one process."""
import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest

TINY = pathlib.Path(__file__).parents[1] / 'lookahead' / 'tiny.py'
FEWER = 'controller.max_total_cycles = 2'


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(('localhost', 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _start(workdir, **environment):
    return subprocess.Popen([sys.executable, str(TINY), str(workdir), FEWER],
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, **environment})


def _wait(process):
    try:
        _, errors = process.communicate(timeout=600)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail('a worker waits for ever: ' + process.communicate()[1][-2000:])
    assert process.returncode == 0, errors[-3000:]


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """(run of one process, run of two workers)."""
    folder = tmp_path_factory.mktemp('workers')
    cluster = {'worker': [f'localhost:{port}' for port in _free_ports(2)]}
    workers = [_start(folder / 'two', TF_CONFIG=json.dumps(
        {'cluster': cluster, 'task': {'type': 'worker', 'index': index}})) for index in range(2)]
    try:
        for worker in workers:
            _wait(worker)
    finally:
        for worker in workers:
            worker.kill()
    _wait(_start(folder / 'one'))
    return folder / 'one', folder / 'two'


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
        assert a['miou'] == pytest.approx(b['miou'], abs=2e-3)


def test_stage_one_is_that_of_one_process(runs):
    one, two = (_lines(run / 'metrics.jsonl', 'stage') for run in runs)
    assert [line['step'] for line in one] == [line['step'] for line in two]
    one, two = ([line['loss/ce'] for line in lines if 'loss/ce' in line] for lines in (one, two))
    assert len(one) >= 1 and one == pytest.approx(two, abs=1e-4)
