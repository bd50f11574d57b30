"""Averaged weights are compared with averaged ones, plain ones with plain."""
import pytest

from tf_advseg.reporting import like_with_like
from tf_advseg.reporting.pages import report

FOUR = {'control': 1, 'control + SWA': 1, 'Durall': 1, 'Durall + SWA': 1}


def without(*names):
    return {name: value for name, value in FOUR.items() if name not in names}


def test_the_mark_is_put_on_and_taken_off():
    assert [like_with_like.is_averaged(name) for name in ('a', 'a + SWA', 'a + SWA b')] == [
        False, True, False]
    assert [like_with_like.plain(name) for name in ('a', 'a + SWA', None)] == ['a', 'a', None]


@pytest.mark.parametrize('subject', ['Durall', 'Durall + SWA'])
@pytest.mark.parametrize('control', ['control', 'control + SWA'])
def test_no_pair_is_of_two_kinds(subject, control):
    both = [('Durall', 'control'), ('Durall + SWA', 'control + SWA')]
    assert like_with_like.pairs(FOUR, subject, control) == both
    assert like_with_like.pairs(without('control + SWA'), subject, control) == both[:1]
    assert like_with_like.pairs({**FOUR, 'control': None}, subject, control) == both[1:]
    assert like_with_like.averaging(FOUR, subject, control) == [
        ('control + SWA', 'control'), ('Durall + SWA', 'Durall')]
    assert like_with_like.averaging(without('Durall'), subject, None) == []
    assert like_with_like.pairs(FOUR, subject, None) == []
    assert like_with_like.pairs({**FOUR, 'Durall': 0.0}, subject, control) == both  # a score of 0


@pytest.mark.parametrize('columns, subject, control, expected', [
    (FOUR, 'Durall + SWA', 'control', ('Durall + SWA', 'control + SWA')),
    (FOUR, 'Durall', 'control', ('Durall', 'control')),
    (without('control + SWA'), 'Durall + SWA', 'control', ('Durall', 'control')),
    (without('control + SWA', 'Durall'), 'Durall + SWA', 'control', ('Durall + SWA', None)),
    (without('Durall', 'Durall + SWA'), 'control + SWA', 'control', ('control + SWA', 'control')),
    (FOUR, 'Durall + SWA', None, ('Durall + SWA', None)),
    ({}, 'durall', 'control', ('durall', 'control')),
    ({'LoAd': 1}, 'LoAd', 'control', ('LoAd', 'control'))])  # a control that has not run yet
def test_one_pair_is_the_pages(columns, subject, control, expected):
    assert like_with_like.chosen(columns, subject, control) == expected


def test_load_tells_like_with_like_too(make_summary, run):
    mious = {'start': 0.4, 'control': 0.5, 'control + SWA': 0.52, 'LoAd': 0.55, 'LoAd + SWA': 0.56}
    made = report.run_report('t', run.events, run.metrics, subject='LoAd + SWA',
                             test={name: make_summary(miou) for name, miou in mious.items()})
    text = ' '.join(made.summary)
    assert (made.subject, made.control) == ('LoAd + SWA', 'control + SWA')
    assert 'LoAd has 55.00 % mIoU: +15.00 points against start, +5.00 points against control.' \
        in text
    assert '+16.00 points against start, +4.00 points against control + SWA.' in text
    assert 'by +2.00 points for control and +1.00 points for LoAd.' in text


def test_a_control_alone_tells_what_averaging_gave(make_summary):
    made = report.RunReport(subject='control + SWA', control='control', start='Stage 1', test={
        'Stage 1': make_summary(0.4), 'control': make_summary(0.5),
        'control + SWA': make_summary(0.53)})
    assert report.gain_sentences(made) == [
        'On the test split control + SWA has 53.00 % mIoU: +13.00 points against Stage 1, +3.00 '
        'points against control.']
