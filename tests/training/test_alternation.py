"""Whose turn it is: against a plain list of blocks, and its limits."""
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_advseg.core.errors import UserError
from tf_advseg.training import alternation


def written_out(steps, every, pretraining, first):
    """The phases as section 4 tells them: blocks in turn, until the segmentor has its steps."""
    phases, taken = ['adversary'] * pretraining, 0
    turn = first
    while taken < steps:
        block = every if turn == 'adversary' else min(every, steps - taken)
        phases += [turn] * block
        taken += block if turn == 'segmentor' else 0
        turn = 'adversary' if turn == 'segmentor' else 'segmentor'
    return phases


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 40), st.integers(1, 12), st.integers(0, 7),
       st.sampled_from(['adversary', 'segmentor']))
def test_blocks_in_turn_until_the_segmentor_has_its_steps(steps, every, pretraining, first):
    plan = alternation.Alternation(steps, every, pretraining, first)
    turns = [plan.turn(step) for step in range(plan.total)]
    expected = written_out(steps, every, pretraining, first)
    assert [turn.phase for turn in turns] == expected
    for phase in ('adversary', 'segmentor'):  # no batch of a network is left out or taken twice
        own = [turn for turn in turns if turn.stream == phase]
        assert [turn.index for turn in own] == list(range(expected.count(phase)))
        assert {turn.phase for turn in own} <= {phase}


def test_the_papers_two_schemes():
    fast = alternation.Alternation(3, 1)
    assert [fast.turn(i).phase[0] for i in range(fast.total)] == list('asasas')
    slow = alternation.alternation(1200)
    assert slow.every == 500 and slow.total == 3 * 500 + 1200
    assert [slow.turn(i).phase for i in (0, 499, 500, 999, 1000)] == [
        'adversary', 'adversary', 'segmentor', 'segmentor', 'adversary']
    assert slow.turn(2699) == alternation.Turn('segmentor', 'segmentor', 1199)


def test_the_segmentor_alone_takes_the_batches_it_takes_under_any_scheme():
    alone = alternation.Sequence(7, lambda step: 'weighted' if step < 2 else 'segmentor')
    plan = alternation.Alternation(7, 3, 2)
    own = [plan.turn(i) for i in range(plan.total) if plan.turn(i).stream == 'segmentor']
    assert [(t.stream, t.index) for t in own] == [
        (alone.turn(i).stream, alone.turn(i).index) for i in range(alone.total)]
    assert [alone.turn(i).phase for i in (1, 2)] == ['weighted', 'segmentor']


@pytest.mark.parametrize('words, text', [
    (dict(every=0), 'alternation.every = 0: expected a whole number of at least 1'),
    (dict(pretraining=-1), 'alternation.pretraining = -1'), (dict(every=1.5), '1.5'),
    (dict(every=True), 'True'),
    (dict(first='adversery'), 'Did you mean "adversary"')])
def test_what_is_no_scheme_is_refused_in_one_line(words, text):
    with pytest.raises(UserError) as caught:
        alternation.alternation(10, **words)
    assert text in str(caught.value) and '\n' not in str(caught.value)
