"""Bars in groups begin at 0 and end at the mean of their runs."""
import pytest

from tf_advseg.reporting import curves
from tf_advseg.reporting.paper_figures import grouped_bars

GROUPS = {'ResNet-18': {'baseline': [40.0, 42.0], 'proposed': [43.0]},
          'ResNet-34': {'baseline': [44.5], 'proposed': []}}


def test_bars_are_means_from_zero():
    axes, = grouped_bars.figure(GROUPS, 'mIoU').axes
    found = {(round(bar.get_x() + bar.get_width() / 2, 3), bar.get_y(), bar.get_height())
             for bar in axes.patches}
    assert {height for _, _, height in found} == {41.0, 43.0, 44.5}
    assert {low for _, low, _ in found} == {0.0} and axes.get_ylim()[0] == 0
    centres = sorted(place for place, _, _ in found)
    assert centres[0] < 0 < centres[1] < 0.5 < centres[2]  # of the first group two
    assert [text.get_text() for text in axes.texts] == ['41.00', '44.50', '43.00']


def test_runs_of_several_are_dots_below_the_number():
    figure = grouped_bars.figure(GROUPS, 'mIoU')
    axes, = figure.axes
    assert curves.encode(figure).startswith(b'\x89PNG')
    dots = [line for line in axes.get_lines() if line.get_marker() == '.']
    assert [list(line.get_ydata()) for line in dots] == [[40.0, 42.0]]
    assert axes.texts[0].xy[1] >= 41.0 + 2 ** 0.5 - 1e-9  # above the deviation
    box = axes.get_legend().get_window_extent()
    assert box.y0 >= axes.get_window_extent().y1 - 1


@pytest.mark.parametrize('names', [1, 3])
def test_groups_do_not_touch(names):
    groups = {group: {str(number): [50.0] for number in range(names)} for group in 'ab'}
    axes, = grouped_bars.figure(groups, 'mIoU').axes
    edges = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches)
    assert all(end < begin for (_, end), (begin, _) in zip(edges, edges[1:]))
