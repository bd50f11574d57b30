"""Learning curves: means and bands are where they should be, control and method look apart."""
import statistics

import pytest

from tf_advseg.reporting import curves
from tf_advseg.reporting import learning_curves
from tf_advseg.reporting import paired

RUNS = (((100, 50.0), (200, 56.0), (300, 60.0)), ((100, 52.0), (200, 57.0)),
        ((100, 51.0), (200, 61.0)))
METHOD = learning_curves.Curve('luc', RUNS, cell=0)
OTHER = learning_curves.Curve('another with a very long name of its own', RUNS[:1], cell=1)
CONTROL = learning_curves.Curve('control', RUNS, True, None)


def lines(axes):
    """[(points, matplotlib line)] of the lines that have points."""
    return [(list(map(tuple, line.get_xydata())), line) for line in axes.get_lines()
            if len(line.get_xydata())]


def test_a_mean_goes_through_the_steps_that_all_runs_have():
    axes, = learning_curves.figure([METHOD]).axes
    drawn = {tuple(points): line for points, line in lines(axes)}
    assert set(drawn) == {((100, 51.0), (200, 58.0)), RUNS[0][1:]}
    mean, thin = (drawn[points] for points in (((100, 51.0), (200, 58.0)), RUNS[0][1:]))
    assert thin.get_linewidth() < mean.get_linewidth()
    band, = axes.collections
    edges = band.get_paths()[0].vertices
    for step, values in learning_curves.shared_steps(RUNS):
        found = sorted(y for x, y in edges if x == step)
        middle, half = statistics.fmean(values), statistics.stdev(values)
        assert (found[0], found[-1]) == pytest.approx((middle - half, middle + half))


def test_runs_without_a_common_step_are_lines_of_their_own():
    runs = (((100, 50.0), (200, 51.0)), ((150, 50.0), (250, 52.0)))
    axes, = learning_curves.figure([learning_curves.Curve('luc', runs)]).axes
    assert {tuple(points) for points, _ in lines(axes)} == set(runs)
    assert not axes.collections
    legend, = axes.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ['luc (2 runs)']


def test_a_control_is_dashed_and_grey_or_of_its_cells_colour():
    own = learning_curves.Curve('control of luc', RUNS[1:], True, 0)
    axes, = learning_curves.figure([METHOD, OTHER, CONTROL, own]).axes
    looks = {}
    for curve, handle in zip((METHOD, OTHER, CONTROL, own), axes.figure.legends[0].get_lines()):
        looks[curve] = (handle.get_color(), handle.is_dashed())
    assert [dashed for _, dashed in looks.values()] == [False, False, True, True]
    assert looks[CONTROL][0] == curves.QUIET
    assert looks[own][0] == looks[METHOD][0] != looks[OTHER][0]
    note = axes.get_title(loc='right')
    assert 'dashed: control' in note and '± standard deviation' in note
    assert learning_curves.figure([OTHER]).axes[0].get_title(loc='right') == ''


def test_seventeen_cells_look_apart():
    cells = [learning_curves.Curve(f'cell {number}', RUNS[:1], cell=number)
             for number in range(17)]
    figure = learning_curves.figure(cells)
    looks = {(line.get_color(), line.get_marker()) for line in figure.legends[0].get_lines()}
    assert len(looks) == len(cells)


def test_no_text_lies_over_the_lines():
    figure = learning_curves.figure([METHOD, OTHER, CONTROL], [METHOD])
    assert curves.encode(figure).startswith(b'\x89PNG')  # lays it out
    panel = figure.axes[0].get_window_extent()
    legend = figure.legends[0].get_window_extent()
    assert legend.y1 < figure.axes[1].get_window_extent().y0
    assert 0 <= legend.x0 and legend.x1 <= figure.bbox.width
    assert figure.axes[0].title.get_window_extent().y0 >= panel.y1 - 1


def test_gains_have_a_panel_with_the_interval_of_pairs():
    gain = learning_curves.Curve('luc', (((100, 1.0),), ((100, 3.0),)), cell=0)
    above, below = learning_curves.figure([METHOD, CONTROL], [gain]).axes
    assert above.get_xlabel() == '' and 'points' in below.get_ylabel()
    heights = below.collections[0].get_paths()[0].vertices[:, 1]
    half = paired.difference([(1.0, 0.0), (3.0, 0.0)]).half_width
    assert (min(heights), max(heights)) == pytest.approx((2.0 - half, 2.0 + half))
    assert 'interval' in below.get_title(loc='right')
