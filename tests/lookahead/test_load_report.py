"""What LoAd's report says of its cost and of the screening."""
from tf_advseg.lookahead import load_report

EVENTS = [{'event': 'start', 'time': 100.0},
          {'event': 'finished', 'time': 400.0, 'best': 'g1', 'miou': 0.6}]
METRICS = [{'event': 'propagation', 'time': 100.0 + 50.0 * i, 'miou': miou}
           for i, miou in enumerate((0.5, 0.58, 0.6, 0.61))]  # the last is within beta_u: no peak
SECONDS = {'stage1': 200.0, 'load': 300.0, 'control': 150.0}


def test_wall_time_is_beside_stage_1_and_the_control():
    first, second = load_report.wall_time_sentences(SECONDS, EVENTS, METRICS)
    assert '2.50 times as long as Stage 1, and 1.50 times to the best model' in first
    assert second == 'LoAd took 2.00 times as long as its control.'


def test_without_a_peak_or_stopped_in_between_there_is_no_time_to_the_best():
    start = [EVENTS[0], {**EVENTS[1], 'best': 'g0'}]
    stopped = [EVENTS[0], {'event': 'resume', 'time': 250.0}, EVENTS[1]]
    for events in (start, stopped, EVENTS[:1]):
        first = load_report.wall_time_sentences(SECONDS, events, METRICS)[0]
        assert 'to the best' not in first
    early = [EVENTS[0], {'event': 'resume', 'time': 150.0}, EVENTS[1]]
    assert '1.50 times to the best' in load_report.wall_time_sentences(SECONDS, early, METRICS)[0]
    assert load_report.wall_time_sentences({'load': 3.0}, EVENTS, METRICS) == []
    assert load_report.wall_time_sentences({**SECONDS, 'stage1': 0.0}, EVENTS, METRICS) == [
        'LoAd took 2.00 times as long as its control.']


def line(**changes):
    """A journal's line of a screening."""
    return {'event': 'screening', 'images': 40, 'signal': 0.2, 'signal_interval': [0.1, 0.3],
            'points_nowhere': False, 'blind': False, 'cosine': None, 'cosine_interval': None,
            'accuracy': 0.8, **changes}


def test_the_screening_is_a_sentence():
    text, = load_report._screening_sentences([line()])
    assert text == ('Screening at g0: the adversarial gradients of 40 images have a signal of 0.200 '
                    '[0.100, 0.300] (0: nothing in common).')
    text, = load_report._screening_sentences([line(
        points_nowhere=True, blind=True, accuracy=0.5, cosine=-0.1, signal_interval=None)])
    for part in ('points nowhere', 'right in 50.0 %', '-0.100'):
        assert part in text
    assert load_report._screening_sentences([]) == []
