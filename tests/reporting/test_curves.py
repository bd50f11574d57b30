"""Curves: the story of LoAd's Fig. 1 read back from events, and drawn from whole and torn runs."""
import sys

import pytest

from tf_advseg.reporting import curves, training_curves


def _drawn(figure):
    """A figure that renders; its texts."""
    assert curves.encode(figure).startswith(b'\x89PNG')
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_history_tells_the_story_of_figure_1(run):
    cycles = curves.history(run.events, run.metrics)
    assert [c.start_label for c in cycles] == ['g0', 'g0', 'g1', 'g1', 'g2', 'g2']
    assert [c.start_miou for c in cycles] == [0.66, 0.66, 0.69, 0.69, 0.715, 0.715]
    assert [c.peak and c.peak['label'] for c in cycles] == [None, 'g1', None, 'g2', None, None]
    assert [c.end['label'] for c in cycles] == ['e00', 'e01', 'e10', 'e11', 'e20', 'e21']
    assert [c.start for c in cycles] == [0, 20, 45, 65, 90, 110]
    assert [len(c.steps) for c in cycles] == [20, 25, 20, 25, 20, 20]


def test_the_last_peak_of_a_cycle_counts(run):
    second = curves.history(run.events, run.metrics)[1]
    assert second.peak['miou'] == 0.69 and second.peak['budget_step'] == 34


def test_a_peak_told_at_the_end_of_its_cycle_stands_where_the_curve_has_it(run):
    events = []
    for event in run.events:
        if event['event'] == 'peak':
            step = next(e['budget_step'] for e in run.events
                        if e['event'] == 'end' and e['cycle'] == event['cycle'])
            event = dict(event, budget_step=step)
        events.append(event)
    cycles = curves.history(events, run.metrics)
    assert [cycle.peak_step for cycle in cycles if cycle.peak] == [34, 79]
    assert [cycle.level for cycle in cycles] == [0, 0, 14, 14, 28, 28]
    # Without the curve the event's own step is all there is.
    assert curves.history(events)[1].peak_step == 45


def test_axis_of_iterations_goes_back_at_a_rewind(run):
    cycles = curves.history(run.events, run.metrics)
    # g1 lies 14 propagations behind g0, g2 another 14 behind g1.
    assert [c.level for c in cycles] == [0, 0, 14, 14, 28, 28]
    assert cycles[3].iteration(cycles[3].steps[0]) == 15


def test_history_of_a_run_without_metrics_or_without_start(run):
    cycles = curves.history(run.events)
    assert [c.mious[-1] for c in cycles] == [0.605, 0.63, 0.637, 0.66, 0.66, 0.67]
    assert curves.history([]) == [] and curves.history([{'event': 'resume'}], run.metrics) == []


@pytest.mark.parametrize('label, peak, text', [
    ('g0', None, '$g_{0}$'), ('g12', None, '$g_{12}$'), ('g*', None, '$g^*$'),
    ('e01', 0, '$g^e_{0,1}$'), ('e110', 1, '$g^e_{1,10}$'), ('e110', 11, '$g^e_{11,0}$'),
    ('e10_2', None, '$g^e_{10,2}$'), ('e01', None, '$g^e_{0,1}$'), ('odd $', None, r'odd \$')])
def test_pretty(label, peak, text):
    assert curves.pretty(label, peak) == text


@pytest.mark.parametrize('axis', ['spent', 'iterations'])
def test_convergence_graph_marks_peaks_and_ends(run, control, axis):
    figure = curves.convergence_graph(run.events, run.metrics, control.events, control.metrics,
                                      beta_u=0.001, beta_l=0.05, axis=axis)
    texts = _drawn(figure)
    expected = ['$g_{0}$', '$g_{1}$', '$g_{2}$', '$g^e_{0,0}$', '$g^e_{0,1}$', '$g^e_{1,0}$',
                '$g^e_{1,1}$', '$g^e_{2,0}$', '$g^e_{2,1}$']
    assert sorted(text for text in texts if text) == sorted(expected)
    arrows = [text for text in figure.axes[0].texts if getattr(text, 'arrow_patch', None)]
    assert len(arrows) == 5
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert 'control (CE only)' in legend


def test_lines_start_at_the_rewind_point(run):
    axes = curves.convergence_graph(run.events, run.metrics).axes[0]
    lines = [line for line in axes.lines if len(line.get_xdata()) >= 20]
    assert [round(line.get_ydata()[0], 1) for line in lines] == [66, 66, 69, 69, 71.5, 71.5]
    assert [line.get_xdata()[0] for line in lines] == [0, 20, 45, 65, 90, 110]
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert 'control (CE only)' not in legend


def test_convergence_graph_of_a_run_still_going(run):
    for cut in range(len(run.events) + 1):
        curves.history(run.events[:cut], run.metrics)
    figure = curves.convergence_graph(run.events[:3], run.metrics[:130])
    assert '$g_{0}$' in _drawn(figure)
    assert _drawn(curves.convergence_graph([])) == ['not started yet']
    assert _drawn(curves.convergence_graph([{'event': 'start', 'budget_step': 0,
                                             'miou': float('nan')}])) == ['not started yet']
    with pytest.raises(ValueError, match='axis'):
        curves.convergence_graph([], axis='time')


def test_values_that_are_no_number_leave_a_gap(run):
    metrics = [dict(line) for line in run.metrics]
    for line in metrics[::7]:
        line['miou'] = None
        line['disc/acc_real'] = float('nan')
    assert '$g_{1}$' in _drawn(curves.convergence_graph(run.events, metrics))
    _drawn(training_curves.discriminator_curve(metrics, run.events))


def test_many_cycles_stay_readable():
    events, step = [{'event': 'start', 'budget_step': 0, 'miou': 0.5, 'label': 'g0'}], 0
    for cycle in range(45):
        step += 5
        common = {'budget_step': step, 'cycle': cycle}
        events += [{'event': 'peak', **common, 'label': f'g{cycle + 1}', 'miou': 0.5 + cycle / 200},
                   {'event': 'end', **common, 'label': f'e{cycle}0', 'miou': 0.4},
                   {'event': 'rewind', **common, 'to': f'g{cycle + 1}', 'miou': 0.5 + cycle / 200},
                   {'event': 'aggregate', 'cycle': cycle,
                    'slots': [f'g{cycle + 1}', f'e{cycle}0']}]
    texts = [text.get_text() for text in curves.convergence_graph(events).axes[0].texts]
    texts = [text for text in texts if text]        # arrows are texts without words
    assert '$g_{45}$' in texts and len(texts) < 40
    timeline = curves.buffer_timeline(events)
    texts = [text.get_text() for axes in timeline.axes for text in axes.texts]
    assert len(timeline.axes) == 3 and len(texts) == 1 + 2 * 45
    assert '$g^e_{10,0}$' in texts and '$g^e_{44,0}$' in texts


def test_buffer_timeline_is_figure_1b(run):
    figure = curves.buffer_timeline(run.events)
    axes = figure.axes[0]
    held = {}
    for text in axes.texts:
        x, y = text.get_position()
        held.setdefault(int(x), {})[int(y)] = text.get_text()
    columns = [[cells[y] for y in sorted(cells)] for _, cells in sorted(held.items())]
    g, e = '$g_{%d}$', '$g^e_{%d,%d}$'
    assert columns == [[g % 0], [g % 0, e % (0, 0)], [g % 1, e % (0, 1)],
                       [g % 1, e % (0, 1), e % (1, 0)], [g % 2, e % (1, 1)],
                       [g % 2, e % (1, 1), e % (2, 0)], [g % 2, e % (2, 0), e % (2, 1)]]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]      # slot 0 on top
    _drawn(figure)


def test_an_initial_aggregation_is_not_drawn_twice(run):
    events = [run.events[0], {'event': 'aggregate', 'cycle': 0, 'slots': ['g0']}]
    assert len(_drawn(curves.buffer_timeline(events))) == 1
    assert _drawn(curves.buffer_timeline([])) == ['no maps aggregated yet']


def test_training_curves(run):
    discriminator = training_curves.discriminator_curve(run.metrics, run.events)
    labels = [line.get_label() for line in discriminator.axes[0].lines]
    assert {'real', 'fake', 'epoch kept'} <= set(labels)
    kept = next(line for line in discriminator.axes[0].lines if line.get_label() == 'epoch kept')
    assert list(kept.get_xdata()) == [3, 8, 13, 18, 23, 28]
    stages = training_curves.stage_loss_curve(run.metrics)
    ends = [max(line.get_xdata()) for line in stages.axes[0].lines]
    assert ends == [98, 98, 196, 196]       # the second stage is put behind the first
    ratio = training_curves.gradient_ratio_curve(run.metrics)
    assert len(ratio.axes) == 2 and ratio.axes[0].get_yscale() == 'log'
    for figure in (discriminator, stages, ratio):
        _drawn(figure)


@pytest.mark.parametrize('curve', [training_curves.discriminator_curve,
                                   training_curves.stage_loss_curve,
                                   training_curves.gradient_ratio_curve])
def test_training_curves_without_data_say_so(curve):
    for metrics in ([], [{'event': 'propagation', 'budget_step': 1, 'grad_ratio/adv_ce': None}]):
        texts = _drawn(curve(metrics))
        assert len(texts) == 1 and len(texts[0]) > 10


def test_no_global_state(run):
    curves.encode(curves.convergence_graph(run.events, run.metrics), 'svg')
    pyplot = sys.modules.get('matplotlib.pyplot')
    assert pyplot is None or pyplot.get_fignums() == []
