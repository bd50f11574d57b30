"""Accuracy over training: which lines are read, what is drawn solid, dashed, left and right."""
import numpy as np
import pytest

from tf_advseg.reporting import curves
from tf_advseg.reporting.paper_figures import class_curves


@pytest.fixture
def metrics(make_evaluations):
    return make_evaluations('luc', 0.1) + make_evaluations('control', 0.2)


def _drawn(axes):
    """{(is it solid?, colour): (xs, ys)} of the curves, without the empty ones of the legend."""
    return {(line.get_linestyle() == '-', str(line.get_color())):
            (list(line.get_xdata()), np.asarray(line.get_ydata(), float))
            for line in axes.lines if len(line.get_xdata())}


def _texts(figure):
    assert curves.encode(figure).startswith(b'\x89PNG')
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_evaluations_of_one_stage_in_order_and_the_last_of_a_step(metrics):
    again = dict(metrics[0], miou=0.9)
    lines = class_curves.evaluations([metrics[4], *metrics, again, {'event': 'stage'}], 'luc',
                                     'train')
    assert [line['segmentor_step'] for line in lines] == [0, 100, 200]
    assert [line['stage'] for line in lines] == ['luc'] * 3 and lines[0]['miou'] == 0.9
    assert class_curves.evaluations(metrics, 'hung', 'train') == []


def test_gaps_are_train_minus_hold_out(metrics):
    assert class_curves.gaps(metrics, 'luc') == pytest.approx(
        dict.fromkeys(class_curves.MEASURES, 0.1))
    assert class_curves.gaps(metrics, 'control', at=100) == pytest.approx(
        dict.fromkeys(class_curves.MEASURES, 0.1))
    assert class_curves.gaps(metrics, 'luc', at=50) == class_curves.gaps([], 'luc') == {}
    half = [line for line in metrics if line['split'] == 'train' or line['segmentor_step'] == 0]
    assert set(class_curves.gaps(half, 'luc').values()) == {0.0}
    del half[0]['miou']
    assert 'miou' not in class_curves.gaps(half, 'luc')


def test_few_classes_share_two_axes(metrics):
    figure = class_curves.class_accuracy_curves(metrics, 'luc', ['sky', 'tree', 'road'],
                                                names=('Luc', 'standard'))
    left, right = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ['train', 'hold-out']
    for axes, top in ((left, 0.75), (right, 0.65)):
        drawn = _drawn(axes)
        assert len(drawn) == 6
        ends = sorted(ys[-1] for (solid, _), (_, ys) in drawn.items() if solid)
        assert ends == pytest.approx([100 * top - 2, 100 * top, 100 * top + 2])
        for (_, colour), (xs, _) in drawn.items():
            assert xs == [0, 100, 200]
            assert (True, colour) in drawn and (False, colour) in drawn     # a colour a class
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ['sky', 'tree', 'road', 'Luc', 'standard']
    _texts(figure)


def test_without_a_control_nothing_is_dashed(metrics, make_evaluations):
    for control in ('control', None):
        figure = class_curves.class_accuracy_curves(
            make_evaluations('luc', 0.1), 'luc', 'abc', control=control, steps_per_epoch=50)
        assert all(solid for axes in figure.axes for solid, _ in _drawn(axes))
        assert list(_drawn(figure.axes[0]).values())[0][0] == [0, 2, 4]
        assert figure.axes[0].get_xlabel() == 'epochs'
        assert len(figure.legends[0].get_texts()) == 4


@pytest.mark.parametrize('num_classes', [11, 21])
def test_many_classes_have_small_axes_of_their_own(make_evaluations, num_classes):
    metrics = (make_evaluations('luc', 0.1, num_classes)
               + make_evaluations('control', 0.2, num_classes))
    for line in metrics:
        line['class_accuracy'][4] = None
    names = [f'class {number}' for number in range(num_classes)]
    figure = class_curves.class_accuracy_curves(metrics, 'luc', names)
    used = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in used] == names
    assert len(figure.axes) - len(used) <= 3
    assert [len(_drawn(axes)) for axes in used] == [4] * num_classes
    assert _texts(figure) == ['no pixel']
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ['train', 'hold-out', 'luc', 'control']


def test_mean_curves_show_both_splits_of_both(metrics):
    figure = class_curves.mean_curves(metrics, 'luc')
    assert [axes.get_title() for axes in figure.axes] == list(class_curves.MEASURES.values())
    accuracy = _drawn(figure.axes[1])
    assert len(accuracy) == 4
    assert sorted(ys[-1] for _, ys in accuracy.values()) == pytest.approx([60, 65, 75, 80])
    solid = [ys[-1] for (is_solid, _), (_, ys) in accuracy.items() if is_solid]
    assert sorted(solid) == pytest.approx([65, 75])
    _texts(figure)


def test_a_run_without_hold_out_or_without_evaluations(make_evaluations):
    train = [line for line in make_evaluations('luc', 0.1) if line['split'] == 'train']
    assert _texts(class_curves.class_accuracy_curves(train, 'luc', 'abc')) == [
        'hold-out has not been evaluated']
    assert len(_drawn(class_curves.mean_curves(train, 'luc').axes[0])) == 1
    for draw in (class_curves.mean_curves, lambda *given: class_curves.class_accuracy_curves(
            *given, class_names='abc')):
        texts = _texts(draw([{'event': 'stage', 'stage': 'luc', 'step': 3}], 'luc'))
        assert len(texts) == 1 and 'not been evaluated yet' in texts[0]


def test_lines_of_other_classes_are_refused(metrics):
    with pytest.raises(ValueError, match='3 classes, expected 2'):
        class_curves.class_accuracy_curves(metrics, 'luc', ['sky', 'tree'])


def test_pale_colours_are_darkened_for_white_paper():
    assert class_curves.on_white((20, 100, 180)) == (20 / 255, 100 / 255, 180 / 255)
    assert class_curves.on_white((0, 0, 0)) == (0, 0, 0)
    pale = class_curves.on_white((255, 255, 180))
    assert max(pale) < 0.75 and pale[0] == pale[1] > pale[2]


@pytest.fixture
def averaged(metrics):
    """Both stages with evaluations of averaged weights, 0.05 above the last ones."""
    return metrics + [dict(line, split='holdout_averaged', miou=line['miou'] + 0.05)
                      for line in metrics if line['split'] == 'holdout']


def test_miou_of_last_and_averaged_weights_with_names_at_the_ends(averaged):
    figure = class_curves.miou_curves(averaged, 'luc', names=('Luc', 'CE'), steps_per_epoch=50)
    axes = figure.axes[0]
    ends = {text.get_text(): (text.get_color(), text.get_position()[1]) for text in axes.texts}
    assert list(ends) == ['CE', 'Luc', 'CE + SWA', 'Luc + SWA']
    drawn = {line.get_color(): (list(line.get_xdata()), line.get_ydata()[-1])
             for line in axes.lines}
    lasts = {'CE': 50, 'Luc': 55, 'CE + SWA': 55, 'Luc + SWA': 60}
    for name, value in lasts.items():
        assert drawn[ends[name][0]] == ([0, 2, 4], pytest.approx(value))
    places = sorted(place for _, place in ends.values())
    low, high = axes.get_ylim()
    assert min(np.diff(places)) > 0.06 * (high - low) and places[-1] <= high
    assert axes.get_xlabel() == 'epochs'
    _texts(figure)


def test_miou_of_one_stage_or_of_none(metrics, averaged):
    assert class_curves.has_averaged(averaged, ['luc', 'control'])
    assert not class_curves.has_averaged(metrics, ['luc', 'control'])
    assert not class_curves.has_averaged(averaged, ['hung'])
    figure = class_curves.miou_curves(averaged, 'luc', control=None)
    assert _texts(figure) == ['luc', 'luc + SWA']
    assert 'not been evaluated yet' in _texts(class_curves.miou_curves(metrics[:1], 'luc'))[0]
