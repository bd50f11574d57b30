"""Differences with intervals: numbers, stars, dots."""
import pytest

from tf_advseg.evaluation import bootstrap
from tf_advseg.reporting import comparison, tables


def entry(delta, low, high, images=30):
    return {'delta': delta, 'low': low, 'high': high, 'images': images}


FOUND = {'miou': entry(0.011, -0.002, 0.02), 'images': 30, 'samples': 2000, 'level': 0.95,
         'class_iou': {'sky': entry(0.05, 0.01, 0.08), 'sea': entry(-0.04, -0.06, -0.01),
                       'sand': entry(None, None, None, 0), 'rock': entry(0.0, None, None, 9)}}


def test_table_has_points_and_marks_what_leaves_out_zero():
    table = comparison.interval_table(FOUND, 'load', 'control')
    rows = {row[0]: row[1:] for row in table.texts()[1:]}
    assert rows['sky'] == ['30', '+5.00', '+1.00', '+8.00', '*']
    assert rows['sea'] == ['30', '-4.00', '-6.00', '-1.00', '*']
    assert rows['sand'] == ['0', '–', '–', '–', '']
    assert rows['rock'] == ['9', '0.00', '–', '–', '']
    assert rows['mIoU'] == ['30', '+1.10', '-0.20', '+2.00', ''] and table.strong == (4,)
    assert 'load minus control' in table.title and '95 % intervals over 30 images' in table.title
    assert 'images' in comparison.NOTE and 'sweep.py' in comparison.NOTE
    assert f'below {bootstrap.FEWEST_IMAGES} images' in comparison.NOTE
    assert 'too narrow' in comparison.NOTE and 'one class in twenty' in comparison.NOTE
    assert tables.to_csv(table).splitlines()[1] == 'sky,30,5.00,1.00,8.00,*'


def test_figure_has_a_line_for_each_interval_in_the_colour_of_its_sign():
    axes = comparison.interval_figure(FOUND, 'load', 'control').axes[0]
    intervals = {line.get_ydata()[0]: line for line in axes.lines
                 if len(line.get_ydata()) == 2 and line.get_ydata()[0] == line.get_ydata()[1]}
    assert set(intervals) == {0, 1, 2}  # mIoU, sky, sea
    assert list(intervals[1].get_xdata()) == pytest.approx([1.0, 8.0])
    colours = [intervals[i].get_color() for i in range(3)]
    assert len(set(colours)) == 3
    labels = [t.get_text() for t in axes.get_yticklabels()]
    assert labels == ['mIoU', 'sky', 'sea', 'sand', 'rock']
