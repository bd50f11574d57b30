"""Stages of a run: done once, and refused when asked for with other settings."""
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
