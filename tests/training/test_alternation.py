"""Whose turn it is: against a plain list of blocks, and its limits."""
import gin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_advseg.core import random_streams
from tf_advseg.core.errors import UserError
from tf_advseg.experiments import recipe_registry as recipes
from tf_advseg.training import alternation
from tf_advseg.training import loop


def written_out(steps, every, pretraining, first):
    """The phases as section 4 tells them: blocks in turn, until the segmentor has its steps."""
    phases, taken = ['discriminator'] * pretraining, 0
    turn = first
    while taken < steps:
        block = every if turn == 'discriminator' else min(every, steps - taken)
        phases += [turn] * block
        taken += block if turn == 'segmentor' else 0
        turn = 'discriminator' if turn == 'segmentor' else 'segmentor'
    return phases


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 40), st.integers(1, 12), st.integers(0, 7),
       st.sampled_from(['discriminator', 'segmentor']))
def test_blocks_in_turn_until_the_segmentor_has_its_steps(steps, every, pretraining, first):
    plan = alternation.Alternation(steps, every, pretraining, first)
    turns = [plan.turn(step) for step in range(plan.total)]
    expected = written_out(steps, every, pretraining, first)
    assert [turn.phase for turn in turns] == expected
    for phase in ('discriminator', 'segmentor'):  # no batch of a network is left out or taken twice
        own = [turn for turn in turns if turn.stream == phase]
        assert [turn.index for turn in own] == list(range(expected.count(phase)))
        assert {turn.phase for turn in own} <= {phase}


def test_the_papers_two_schemes():
    fast = alternation.Alternation(3, 1)
    assert [fast.turn(i).phase[0] for i in range(fast.total)] == list('dsdsds')
    slow = alternation.alternation(1200)
    assert slow.every == 500 and slow.total == 3 * 500 + 1200
    assert [slow.turn(i).phase for i in (0, 499, 500, 999, 1000)] == [
        'discriminator', 'discriminator', 'segmentor', 'segmentor', 'discriminator']
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
    (dict(first='discriminater'), 'Did you mean "discriminator"')])
def test_what_is_no_scheme_is_refused_in_one_line(words, text):
    with pytest.raises(UserError) as caught:
        alternation.alternation(10, **words)
    assert text in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('terms, starts, phases', [
    ('adv', (3, None), 'ssssssss'), ('adv+semi', (3, None), 'sssuuuuu'),
    ('adv+semi', (3, 0), 'aaauuuuu'), ('adv+semi', (5, 2), 'ssaaauuu'),
    ('adv+semi', (0, 0), 'uuuuuuuu'), ('semi', (3, 0), 'sssuuuuu'),
    ('self_training', (3, 0), 'sssuuuuu')])
def test_unlabelled_images_come_in_when_they_are_due(terms, starts, phases):
    """Section 5: after 5000 steps on labelled ones. The code lets L_adv begin before L_semi."""
    names = {'s': ('supervised', 'segmentor'), 'a': ('unlabelled_adversarial', 'unlabelled'),
             'u': ('unlabelled', 'unlabelled')}
    gin.bind_parameter('hung.terms', terms)
    gin.bind_parameter('hung.semi_start', starts[0])
    gin.bind_parameter('hung.adversarial_start', starts[1])
    plan = recipes.find('hung').plan(8)
    assert plan.total == plan.segmentor_steps == plan.discriminator_steps == 8  # both move in each
    assert [plan.turn(step) for step in range(8)] == [
        alternation.Turn(*names[name], step) for step, name in enumerate(phases)]


def test_steps_of_each_network_in_all():
    assert alternation.Alternation(1200, 500).discriminator_steps == 1500
    assert alternation.Joint(7, ((0, 'supervised', 'segmentor'),)).discriminator_steps == 7


def test_steps_with_unlabelled_images_are_the_segmentors_own():
    """The loop's dropout, lines and averages go on as if no stream had changed."""
    plan = alternation.Joint(6, ((0, 'supervised', 'segmentor'), (2, 'unlabelled', 'unlabelled')))
    streams = random_streams.RandomStreams(3)
    for step in range(6):
        turn, alone = plan.turn(step), alternation.Turn('cross_entropy', 'segmentor', step)
        own, theirs = (streams.seed('dropout', t.index, loop._salt(t.stream))
                       for t in (turn, alone))
        assert list(own) == list(theirs) and loop._is_own(turn)
        assert loop._place('hung', turn, step + 1) == {
            'stage': 'hung', 'step': step + 1, 'segmentor_step': step + 1}
    discriminator = alternation.Turn('discriminator', 'discriminator', 2)
    assert loop._salt('discriminator') == 'adversary' and not loop._is_own(discriminator)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 20), st.integers(1, 6))
def test_a_critic_has_its_steps_before_each_of_the_generators(generator_steps, critic_steps):
    """Arjovsky et al., Algorithm 1: n_critic steps of the critic, the last of them on the batch
    that moves the generator, too; no batch of a stream is left out or taken twice."""
    plan = alternation.CriticSteps(generator_steps, critic_steps)
    turns = [plan.turn(step) for step in range(plan.total)]
    assert [turn.phase for turn in turns] == (
        ['discriminator'] * (critic_steps - 1) + ['both']) * generator_steps
    for stream, phase in (('segmentor', 'both'), ('discriminator', 'discriminator')):
        own = [turn for turn in turns if turn.stream == stream]
        assert [turn.index for turn in own] == list(range(len(own)))
        assert {turn.phase for turn in own} <= {phase}
    assert loop._is_own(turns[-1])  # the last step is the generator's, so that it is evaluated


def test_the_segmentor_against_a_frozen_adversary_takes_the_controls_steps():
    plan = recipes.find('zhu').plan(7)
    assert (plan.total, plan.segmentor_steps, plan.discriminator_steps) == (7, 7, 0)
    control = alternation.Sequence(7, lambda step: 'cross_entropy')
    for step in range(7):
        turn, other = plan.turn(step), control.turn(step)
        assert turn == alternation.Turn('segmentor', 'segmentor', step)
        assert (turn.stream, turn.index) == (other.stream, other.index)
