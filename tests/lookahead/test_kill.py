"""A run killed again and again ends as one that was never killed, to the last bit."""
import json
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.slow  # each start takes half a minute; .ci/run has them
TINY = pathlib.Path(__file__).with_name('tiny.py')
# Each start is killed at the given call of a function since that start: in Stage 1 before its first
# checkpoint, inside the writing of g0's maps, in a retraining, in a cycle, inside a later slot, ...
POINTS = (('step', 3), ('slot', 5), ('epoch', 2), ('propagation', 4), ('slot', 9), ('rename', 3),
          ('state', 4), ('snapshot', 3), ('control', 4))
# Of a run of one cycle, for a quick look: -k few.
FEW, ONE_CYCLE = (('propagation', 4),), 'controller.max_total_cycles = 1'
# With hard maps in pairs from memory, the discriminator's own hold-out, and shuffled targets.
GRID = ("build_discriminator.name = 'patch'", 'build_discriminator.dropout = 0.0',
        "input_encoding.size = 'logits'", "input_encoding.kind = 'concat'",
        "input_encoding.truth = 'sampled'", "load.map_kind = 'hard'",
        'lookahead.discriminator_pairs = True',
        'lookahead.discriminator_holdout = 0.3', "lookahead.null = 'shuffled'",
        'load.r1_weight = 0.1', 'lookahead.min_epochs = 2')  # null's D trains for min_epochs
VOLATILE = ('time', 'seconds')


def _start(workdir, *point):
    return subprocess.Popen([sys.executable, str(TINY), str(workdir), *map(str, point)],
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _wait(process, expected):
    _, errors = process.communicate(timeout=900)
    assert process.returncode == expected, errors[-3000:]


def _lines(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in VOLATILE} for line in lines
            if line['event'] != 'resume']


def _weights(folder):
    import tensorflow as tf
    reader = tf.train.load_checkpoint(str(folder / 'weights' / 'state'))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
            if not name.startswith(('_CHECKPOINTABLE', 'save_counter'))}


@pytest.fixture(scope='module', params=[
    pytest.param((FEW, ONE_CYCLE), id='few'), pytest.param((POINTS,), id='all'),
    pytest.param(((('epoch', 2), ('screening', 1), *FEW), ONE_CYCLE, *GRID), id='grid')])
def runs(request, tmp_path_factory):
    """Folders of the run never killed and of the one killed at every point, and the points."""
    folder = tmp_path_factory.mktemp('kill')
    whole, killed = folder / 'whole', folder / 'killed'
    points, *bindings = request.param
    never_killed = _start(whole, *bindings)  # beside the others: each keeps to one thread
    for point in points:
        _wait(_start(killed, *point, *bindings), -signal.SIGKILL)
    _wait(_start(killed, *bindings), 0)
    _wait(never_killed, 0)
    return whole, killed, points


def test_the_run_was_killed_and_resumed(runs):
    _, killed, points = runs
    resumes = [line for line in (killed / 'journal.jsonl').read_text().splitlines()
               if '"resume"' in line]
    # A kill before the next durable state takes the line of the resume before it along.
    assert len(resumes) >= max(1, min(4, len(points) - 1))
    starts = json.loads((killed / 'environment.json').read_text())['earlier_starts']
    assert len(starts) == len(points)


@pytest.mark.parametrize('name', ['journal.jsonl', 'metrics.jsonl', 'control/journal.jsonl',
                                  'control/metrics.jsonl'])
def test_journals_are_equal(runs, name):
    whole, killed, _ = runs
    assert _lines(whole / name) == _lines(killed / name)
    assert len(_lines(whole / name)) > 2


@pytest.mark.parametrize('model', ['best', 'control'])
def test_weights_are_bit_identical(runs, model):
    whole, killed = (_weights(run / 'checkpoints' / model) for run in runs[:2])
    assert whole.keys() == killed.keys() and len(whole) >= 8
    for name in whole:
        np.testing.assert_array_equal(whole[name], killed[name], err_msg=name)


def test_scores_are_equal(runs):
    whole, killed = (json.loads((run / 'results.json').read_text())['models'] for run in runs[:2])
    assert whole == killed


def test_nothing_half_written_is_left(runs):
    for run in runs[:2]:
        assert not list(run.rglob('.tmp-*'))
        roles = json.loads((run / 'lookahead/state.json').read_text())['snapshots']['roles']
        folders = {path.name for path in (run / 'lookahead/snapshots').iterdir()}
        assert folders == set(roles.values())


def test_a_diagnostic_switched_off_changes_no_result(tmp_path):
    whole, plain = tmp_path / 'whole', tmp_path / 'plain'
    _wait(_start(whole, ONE_CYCLE), 0)
    _wait(_start(plain, ONE_CYCLE, 'lookahead.diagnostics_every = 0'), 0)
    assert any(line['event'] == 'diagnostics' for line in _lines(whole / 'metrics.jsonl'))
    assert not any(line['event'] == 'diagnostics' for line in _lines(plain / 'metrics.jsonl'))
    first, second = _weights(whole / 'checkpoints/best'), _weights(plain / 'checkpoints/best')
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
