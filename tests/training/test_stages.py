"""Stages of a run: done once, and refused when asked for with other settings."""
import json

import numpy as np
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.training import stages


def do(folder, settings, calls):
    """Runs the stage 'first'; counts how often it worked."""
    def work(_):
        calls.append(1)
        return {'found': len(calls)}
    return stages.run_stage(folder, 'first', settings, work, True)


def test_a_stage_is_done_once(tmp_path):
    calls = []
    assert do(tmp_path, {'steps': 3}, calls) == do(tmp_path, {'steps': 3}, calls) == {'found': 1}
    assert len(calls) == 1


@pytest.mark.parametrize('was, now, words', [
    ({'steps': 3}, {'steps': 4}, r'\(steps\)'),
    ({'zhu': {'bottleneck': None}}, {'zhu': {}}, r'\(zhu.bottleneck\)'),
    ({'zhu': {}}, {'zhu': {'bottleneck': None}}, r'\(zhu.bottleneck\)'),
    ({'steps': 3, 'gone': 1}, {'steps': 3}, r'\(gone\)')])
def test_the_settings_that_changed_are_named_even_where_only_one_has_them(tmp_path, was, now,
                                                                          words):
    do(tmp_path, was, [])
    with pytest.raises(UserError, match=f'other settings {words}'):
        do(tmp_path, now, [])


@pytest.mark.parametrize('spoil', [
    lambda done: done['result'].pop('steps'), lambda done: done['result'].update(steps='x'),
    lambda done: done.update(result=[]), lambda done: done.pop('result'),
    lambda done: done.pop('settings_hash')])
def test_a_marker_that_says_something_else_is_named(tmp_path, spoil):
    """What follows a stage reads its result, and would end in a traceback."""
    result = {'steps': 3, 'miou': float('nan'), 'mean': np.float64(0.1), 'path': tmp_path}
    for _ in range(2):
        stages.run_stage(tmp_path, 'one', {'a': 1}, lambda folder: result)
    marker = tmp_path / 'one' / stages.DONE
    done = json.loads(marker.read_text())
    spoil(done)
    marker.write_text(json.dumps(done))
    with pytest.raises(UserError, match='done.json: does not hold what it should'):
        stages.run_stage(tmp_path, 'one', {'a': 1}, None)


def test_a_marker_of_before_its_result_had_a_hash_counts(tmp_path):
    stages.run_stage(tmp_path, 'one', {}, lambda folder: {'steps': 3})
    marker = tmp_path / 'one' / stages.DONE
    done = json.loads(marker.read_text())
    del done['result_hash']
    marker.write_text(json.dumps(done))
    assert stages.run_stage(tmp_path, 'one', {}, None) == {'steps': 3}
