"""Algorithm 1 on names: Fig. 1b, small buffers, Retain, and any run."""
import pytest
from hypothesis import given, settings, strategies as st

from tf_advseg.lookahead.buffer_policy import ENDING, PEAK, BufferPolicy


def story(policy, cycles):
    """The labels after each of `cycles`, 'g1 e01' or 'e10', as one string a cycle."""
    entries, seen = policy.aggregate((), 'g0', None).entries, []
    for cycle in cycles:
        *peak, end = cycle.split()
        entries = policy.aggregate(entries, peak[0] if peak else None, end).entries
        seen.append(' '.join(entry.label for entry in entries))
    return seen


FIGURE_1 = ['e00', 'g1 e01', 'e10', 'g2 e11', 'e20', 'e21']


def test_flush_is_algorithm_1():
    assert story(BufferPolicy(3), FIGURE_1) == [
        'g0 e00', 'g1 e01', 'g1 e01 e10', 'g2 e11', 'g2 e11 e20', 'g2 e20 e21']


@pytest.mark.parametrize('policy, expected', [
    (BufferPolicy(1), ['g0', 'g1', 'g1', 'g2', 'g2', 'g2']),
    (BufferPolicy(2), ['g0 e00', 'g1 e01', 'g1 e10', 'g2 e11', 'g2 e20', 'g2 e21']),
    (BufferPolicy(3, 'retain', 1),
     ['g0 e00', 'g1 g0 e01', 'g1 g0 e10', 'g2 g1 e11', 'g2 g1 e20', 'g2 g1 e21']),
    (BufferPolicy(3, 'retain', 1, count_peaks=False),
     ['g0 e00', 'g1 g0 e01', 'g1 g0 e01 e10', 'g2 g1 e11', 'g2 g1 e11 e20', 'g2 g1 e20 e21']),
    (BufferPolicy(4, 'retain', 2),
     ['g0 e00', 'g1 g0 e01', 'g1 g0 e01 e10', 'g2 g1 g0 e11', 'g2 g1 g0 e20', 'g2 g1 g0 e21']),
    (BufferPolicy(3, 'retain', 0), story(BufferPolicy(3), FIGURE_1))])
def test_small_buffers_and_retain(policy, expected):
    assert story(policy, FIGURE_1) == expected


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5), st.sampled_from(['flush', 'retain']), st.integers(0, 3), st.booleans(),
       st.lists(st.sampled_from(['peak', 'ending', 'failed', 'peak only']), max_size=30))
def test_policy_holds_for_any_run(capacity, kind, retain, count_peaks, cycles):
    if kind == 'retain' and count_peaks and retain > max(capacity - 2, 0):
        with pytest.raises(ValueError, match='do not fit'):
            BufferPolicy(capacity, kind, retain, count_peaks)
        return
    policy = BufferPolicy(capacity, kind, retain, count_peaks)
    entries, newest = policy.aggregate((), 'g0', None).entries, 'g0'
    for n, cycle in enumerate(cycles, 1):
        peak = f'g{n}' if cycle.startswith('peak') else None
        end = f'e{n}' if cycle in ('peak', 'ending') else None
        plan = policy.aggregate(entries, peak, end)
        assert set(plan.entries) == set(entries) - set(plan.dropped) | set(plan.added)
        assert len(entries) + len(plan.added) <= policy.max_slots_on_disk
        entries, newest = plan.entries, peak or newest
        assert 1 <= len(entries) <= policy.max_slots
        assert len(entries) <= capacity or not count_peaks
        assert entries[0].label == newest and entries[0].role == PEAK
        roles = [entry.role for entry in entries]
        assert roles == sorted(roles, reverse=True), 'peaks first'
        endings = [int(entry.label[1:]) for entry in entries if entry.role == ENDING]
        assert endings == sorted(endings), 'the oldest ending first'
        assert end is None or capacity == 1 or entries[-1].label == end


def test_policy_refuses_nonsense():
    for arguments in (dict(capacity=0), dict(policy='keep'), dict(retain=-1)):
        with pytest.raises(ValueError):
            BufferPolicy(**arguments)
    with pytest.raises(ValueError, match='empty'):
        BufferPolicy().aggregate((), None, 'e00')
    entries = BufferPolicy().aggregate((), 'g0', None).entries
    with pytest.raises(ValueError, match='already'):
        BufferPolicy().aggregate(entries, 'g0', 'e00')
