"""The forest plot draws each difference where it is, and its interval as wide as it is."""
import pytest

from tf_advseg.reporting import curves
from tf_advseg.reporting import forest_plot
from tf_advseg.reporting import paired


def test_over_folds_the_corrected_interval_decides_on_the_colour():
    found = paired.Difference(10, 1.0, 1.1, 0.8)  # corrected: 1.2
    for folds, colour in ((None, curves.PEAK), (10, curves.CONTROL)):
        axes, = forest_plot.forest([forest_plot.Panel('points', [('a', found, None)], True,
                                                      folds)]).axes
        assert axes.containers[0][0].get_color() == colour


def test_marks_and_intervals_lie_where_they_should():
    clear, unclear = paired.Difference(8, 1.0, 0.6, 0.5), paired.Difference(8, -0.2, 0.6, 0.5)
    parts = [forest_plot.Panel('points', [('a', clear, None), ('b', unclear, 2.1)]),
             forest_plot.Panel('regions', [('a', clear, None)], False, 8)]
    figure = forest_plot.forest(parts)
    first, second = figure.axes
    assert [text.get_text() for text in first.get_yticklabels()] == ['a', 'b']
    assert (first.get_xlabel(), second.get_xlabel()) == ('points', 'regions')
    for place, (found, colour) in enumerate(((clear, curves.PEAK), (unclear, curves.CONTROL))):
        mark, _, (line,) = first.containers[place]
        assert mark.get_xydata().tolist() == [[found.mean, place]]
        assert mark.get_color() == colour
        (low, _), (high, _) = line.get_segments()[0]
        assert (low, high) == pytest.approx((found.mean - 0.5, found.mean + 0.5))
    assert second.containers[0][0].get_color() == curves.END  # more regions are worse
    claim, = [line for line in first.lines if line.get_marker() == 'D']
    assert claim.get_xydata().tolist() == [[2.1, 1]]  # the paper's gain, in the row of its cell
    assert claim.get_markerfacecolor() == 'none' and 'paper' in claim.get_label()
    assert all(line.get_marker() != 'D' for line in second.lines)
    for axes, counted in ((first, '8 runs'), (second, '8 folds')):
        assert all(text.get_text().endswith(counted) for text in axes.texts)
    top, bottom = first.get_ylim()
    assert top > bottom  # the first row is at the top
    assert 'b' not in [text.get_text() for text in second.get_yticklabels()]
    assert forest_plot.described(parts).splitlines() == [
        'points', 'a: +1.00 [+0.50, +1.50], 8 runs',
        "b: -0.20 [-0.70, +0.30], 8 runs; the paper's +2.10",
        'regions', 'a: +1.00 [+0.50, +1.50], 8 folds']
