"""Table 7 and its course: numbers come from the lines, and none is made up where they are not."""
import pytest

from tf_advseg.reporting import tables
from tf_advseg.reporting.paper_figures import confidence_tables

FOUND = {'points': 100, 'accuracy': 0.8, 'disc/auc': 0.65, 'softmax/auc': 0.85,
         'disc/share@0': 1.0, 'disc/accuracy@0': 0.8, 'softmax/accuracy@0': 0.8,
         'disc/share@0.2': 0.25, 'disc/accuracy@0.2': 0.9, 'softmax/accuracy@0.2': 0.975,
         'softmax/cutoff@0.2': 0.99, 'disc/share@0.3': 0.0, 'disc/accuracy@0.3': None,
         'softmax/accuracy@0.3': None}


def line(step, stage='hung', **fields):
    return {'event': 'confidence', 'stage': stage, 'segmentor_step': step, **FOUND, **fields}


def test_table_7():
    table = confidence_tables.selection_table(FOUND, 'Hold-out')
    assert table.texts() == [
        ['T', 'selected (%)', 'accuracy (%)', 'softmax at this share', 'difference'],
        ['0', '100.00', '80.00', '80.00', '0.00'], ['0.2', '25.00', '90.00', '97.50', '-7.50'],
        ['0.3', '0.00', tables.MISSING, tables.MISSING, tables.MISSING]]
    assert table.title == 'Hold-out; AUC: discriminator 0.650, softmax 0.850'


def test_the_softmax_alone():
    found = {'points': 9, 'accuracy': 0.5, 'softmax/auc': None, 'softmax/share@0.9': 0.5,
             'softmax/accuracy@0.9': 0.75}
    table = confidence_tables.selection_table(found)
    assert table.texts() == [['T', 'selected (%)', 'accuracy (%)'], ['0.9', '50.00', '75.00']]
    assert table.title == ''


def test_the_last_line_of_a_stage():
    metrics = [line(10), {'event': 'evaluation', 'stage': 'hung'}, line(20), line(5, 'other')]
    assert confidence_tables.last_line(metrics, 'hung')['segmentor_step'] == 20
    assert confidence_tables.last_line(metrics)['stage'] == 'other'
    assert confidence_tables.last_line(metrics[1:2], 'hung') is None


def curves_of(axes):
    return {one.get_label(): (list(one.get_xdata()), list(one.get_ydata()))
            for one in axes.get_lines()}


def test_curves_are_of_the_threshold_and_have_gaps_where_nothing_was_selected():
    metrics = [line(10), line(20, **{'disc/accuracy@0.2': None, 'disc/share@0.2': 0.0}), line(30),
               {'event': 'stage', 'stage': 'hung', 'segmentor_step': 10, 'semi/selected': 0.2},
               {'event': 'stage', 'stage': 'other', 'segmentor_step': 10, 'semi/selected': 0.9}]
    share, accuracy, auc = confidence_tables.selection_curves(metrics, 'hung').axes
    assert curves_of(share)['hold-out'] == ([10, 20, 30], [25.0, 0.0, 25.0])
    assert curves_of(share)['of unlabelled batches, in training'] == ([10], [20.0])
    steps, values = curves_of(accuracy)['selected by the discriminator']
    assert steps == [10, 20, 30] and values[0] == pytest.approx(90) and values[1] != values[1]
    assert curves_of(accuracy)['by the softmax, as many'][1] == pytest.approx([97.5] * 3)
    assert curves_of(auc)['discriminator'][1] == [0.65] * 3
    assert 'T = 0.2' in share.get_ylabel()


def test_the_nearest_threshold_is_shown_and_no_line_is_a_note():
    share = confidence_tables.selection_curves([{**line(10), 'threshold': 0.28}]).axes[0]
    assert 'T = 0.3' in share.get_ylabel()
    note, = confidence_tables.selection_curves([], 'hung').axes
    assert note.texts[0].get_text() == 'no confidence was measured yet'


def test_coverage_has_a_line_a_judge_and_marks():
    series = {'discriminator': ([0.001, 0.5, 1.0], [1.0, 0.9, 0.8]),
              'softmax': ([0.5, 1.0], [0.95, 0.8])}
    axes, = confidence_tables.coverage_figure(
        series, [('0.2', 0.5, 0.9), ('1', 0.0, None)]).axes
    drawn = curves_of(axes)
    assert drawn['discriminator'] == ([50.0, 100.0], [90.0, 80.0])  # a few points are noise
    assert drawn['softmax'] == ([50.0, 100.0], [95.0, 80.0])
    assert [text.get_text() for text in axes.texts] == ['T = 0.2']
