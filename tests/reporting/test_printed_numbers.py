"""A paper's numbers and ours as a chart: what is drawn where."""
import statistics

from tf_advseg.reporting import curves, printed_numbers

PARTS = [('mIoU', [('control', 66.5, [65.0, 67.5]), ('method', None, [64.0]), ('other', 70.0, [])]),
         ('class accuracy', [('control', 70.0, [])])]


def lines(axes):
    """{label: [(x, y)]} of what is drawn as marks."""
    return {line.get_label(): list(zip(*line.get_data())) for line in axes.get_lines()
            if not line.get_label().startswith('_')}


def test_every_number_stands_in_its_row():
    figure = printed_numbers.figure(PARTS, 'on shapes')
    first, second = figure.axes
    assert lines(first)["the paper's"] == [(66.5, 0), (70.0, 2)]
    assert lines(first)['here on shapes, a run'] == [(65.0, 0), (67.5, 0), (64.0, 1)]
    assert lines(second) == {"the paper's": [(70.0, 0)]}
    assert [tick.get_text() for tick in first.get_yticklabels()] == ['control', 'method', 'other']
    assert curves.encode(figure).startswith(b'\x89PNG')


def test_a_mean_with_its_deviation_is_that_of_two_runs_or_more():
    first, second = printed_numbers.figure(PARTS).axes
    (container,), values = first.containers, PARTS[0][1][0][2]
    (mean, place), = zip(*container.lines[0].get_data())
    assert (mean, place) == (statistics.mean(values), 0)
    low, high = container.lines[2][0].get_segments()[0][:, 0]
    assert high - low == 2 * statistics.stdev(values)
    assert not second.containers
