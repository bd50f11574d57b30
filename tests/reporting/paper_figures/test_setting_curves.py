"""A measure over a setting: lines go through means, what does not depend on it is level."""
import statistics

from tf_advseg.reporting import curves
from tf_advseg.reporting.paper_figures import setting_curves

LAMBDA = setting_curves.Panel(
    'λ', {'with D': {0.01: [66.0, 67.0], 0.001: [65.0, 65.5], 0.1: []},
          'with D + SWA': {0.01: [67.0], 0.001: [], 0.1: []}},
    {'CE': [64.0, 65.0], 'CE + SWA': []}, 0.01, True)
START = setting_curves.Panel('start', {'CE + SWA': {0.0: [65.0], 0.5: [64.0]}}, {'CE': [64.5]})


def test_each_mean_stands_over_its_value():
    figure = setting_curves.figure([LAMBDA, START], 'mIoU')
    assert curves.encode(figure).startswith(b'\x89PNG')
    first, second = figure.axes
    lines = [list(map(tuple, line.get_xydata())) for line in first.get_lines()]
    assert [(0.001, 65.25), (0.01, 66.5)] in lines and [(0.01, 67.0)] in lines
    assert [(0.01, 66.0), (0.01, 67.0)] in lines  # single runs
    assert first.get_xscale() == 'log' and second.get_xscale() == 'linear'
    assert [tick.get_text() for tick in first.get_xticklabels()] == ['0.001', '0.01', '0.1']
    heights = [line.get_ydata()[0] for line in first.get_lines()
               if len(set(line.get_ydata())) == 1 and len(line.get_xdata()) == 2]
    assert statistics.mean(LAMBDA.levels['CE']) in heights
    assert first.get_ylim() == second.get_ylim()


def test_the_legend_names_what_is_there_and_lies_below():
    figure = setting_curves.figure([LAMBDA, START], 'mIoU')
    curves.encode(figure)
    legend, = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        'with D', 'with D + SWA', 'CE', "the paper's choice", 'CE + SWA']
    assert legend.get_window_extent().y1 <= min(axes.get_window_extent().y0
                                                for axes in figure.axes)
