"""Metrics against definitions spelt out pixel by pixel, and against Keras' MeanIoU."""
import json
import math

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.evaluation import metrics


def pixels(seed, num_classes, absent=()):
    """(truth, prediction) int arrays without the absent classes."""
    rng = np.random.default_rng(seed)
    present = [c for c in range(num_classes) if c not in absent]
    truth = rng.choice(present, 500)
    return truth, np.where(rng.random(500) < 0.6, truth, rng.choice(present, 500))


def matrix_of(truth, prediction, num_classes):
    matrix = np.zeros([num_classes, num_classes], np.int64)
    for t, p in zip(truth, prediction):
        matrix[t, p] += 1
    return matrix


@pytest.mark.parametrize('absent', [(), (0,), (1, 3)])
@pytest.mark.parametrize('seed', range(3))
def test_definitions_over_sets_of_pixels(seed, absent):
    num_classes = 5
    truth, prediction = pixels(seed, num_classes, absent)
    matrix = matrix_of(truth, prediction, num_classes)
    ious, recalls, weighted = [], [], 0.0
    for c in range(num_classes):
        t, p = set(np.flatnonzero(truth == c)), set(np.flatnonzero(prediction == c))
        ious.append(len(t & p) / len(t | p) if t | p else float('nan'))
        recalls.append(len(t & p) / len(t) if t else float('nan'))
        weighted += len(t) / len(truth) * (ious[-1] if t else 0.0)
    np.testing.assert_allclose(metrics.class_iou(matrix), ious, rtol=1e-12)
    np.testing.assert_allclose(metrics.class_accuracy(matrix), recalls, rtol=1e-12)
    assert metrics.pixel_accuracy(matrix) == np.mean(truth == prediction)
    assert math.isclose(metrics.frequency_weighted_iou(matrix), weighted)
    assert math.isclose(metrics.mean_iou(matrix), np.nanmean(ious))
    assert math.isclose(metrics.mean_class_accuracy(matrix), np.nanmean(recalls))
    assert np.isnan(ious).sum() == len(absent)


def test_mean_iou_is_what_tensorflow_averages():
    truth, prediction = pixels(7, 6, absent=(2,))
    reference = tf.keras.metrics.MeanIoU(6)
    reference.update_state(truth, prediction)
    matrix = matrix_of(truth, prediction, 6)
    assert math.isclose(metrics.mean_iou(matrix), reference.result().numpy(), rel_tol=1e-6)


def test_a_class_that_is_only_predicted_counts_as_zero():
    matrix = np.int64([[8, 2, 0], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(metrics.class_iou(matrix), [0.8, 0.0, np.nan])
    assert metrics.mean_iou(matrix) == 0.4
    np.testing.assert_array_equal(metrics.class_accuracy(matrix), [0.8, np.nan, np.nan])
    assert metrics.mean_class_accuracy(matrix) == 0.8


def test_no_pixels_give_no_figures():
    matrix = np.zeros([3, 3], np.int64)
    assert all(math.isnan(figure(matrix)) for figure in (
        metrics.mean_iou, metrics.pixel_accuracy, metrics.mean_class_accuracy,
        metrics.frequency_weighted_iou))


def test_counts_beyond_float32_stay_exact():
    matrix = np.int64([[2 ** 40 + 1, 0], [0, 1]])
    assert metrics.pixel_accuracy(matrix) == 1.0
    assert metrics.summary(matrix, ('a', 'b'))['pixels']['a'] == 2 ** 40 + 1


def test_summary_is_strict_json():
    matrix = np.int64([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    summary = metrics.summary(matrix, ('sky', 'tree', 'cow'))
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary['class_iou'] == {'sky': 0.75, 'tree': 0.8, 'cow': None}
    assert summary['mean_iou'] == pytest.approx(0.775)
    assert summary['pixel_accuracy'] == 7 / 8
    assert summary['confusion_matrix'] == matrix.tolist()


@pytest.mark.parametrize('matrix, word', [
    (np.zeros([2, 4], np.int64), 'square'), (np.zeros([3, 2], np.int64), 'square'),
    (np.zeros([2, 2]), 'counts'),
    (-np.eye(2, dtype=np.int64), 'negative')])
def test_what_is_no_confusion_matrix_is_refused(matrix, word):
    with pytest.raises(ValueError, match=word):
        metrics.mean_iou(matrix)


def test_summary_needs_a_name_for_each_class():
    with pytest.raises(ValueError, match='2 class names'):
        metrics.summary(np.eye(3, dtype=np.int64), ('a', 'b'))


def test_absent_classes_left_out_or_as_zero():
    matrix = np.int64([[8, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 9]])
    there = [8 / 11, 0.0, 9 / 10]  # class 1 is only predicted, class 2 nowhere
    assert metrics.mean_iou(matrix) == pytest.approx(np.mean(there))
    assert metrics.mean_iou(matrix, absent='zero') == pytest.approx(np.sum(there) / 4)
    assert math.isnan(metrics.mean_iou(np.zeros([3, 3], np.int64), absent='zero'))
    with pytest.raises(UserError, match='Did you mean "zero"'):
        metrics.mean_iou(matrix, absent='zeros')


def test_zero_is_what_scene_parsing_averages():
    """Its evaluation divides every class's sum of intersections by eps + the sum of unions."""
    truth, prediction = pixels(3, 9, absent=(4, 6))
    matrix = matrix_of(truth, prediction, 9)
    intersection, union = np.zeros(9), np.zeros(9)
    for c in range(9):
        intersection[c] = np.logical_and(truth == c, prediction == c).sum()
        union[c] = np.logical_or(truth == c, prediction == c).sum()
    expected = np.mean(intersection / (np.spacing(1) + union))
    assert math.isclose(metrics.mean_iou(matrix, absent='zero'), expected, rel_tol=1e-12)


def test_a_stack_of_ious_is_averaged_row_by_row():
    iou = np.array([[0.5, np.nan, 1.0], [np.nan] * 3, [0.0, 0.2, 0.4]])
    for absent in metrics.ABSENT:
        rows = [metrics.mean_over_classes(row, absent) for row in iou]
        np.testing.assert_allclose(metrics.mean_over_classes(iou, absent), rows, rtol=1e-15)
    assert math.isnan(metrics.mean_over_classes(iou)[1])


def test_further_column_is_wrong_for_the_truth_alone():
    square = np.int64([[6, 1], [2, 7]])
    wider = np.concatenate([square, np.int64([[3], [0]])], axis=1)
    assert metrics.class_iou(wider).tolist() == [6 / 12, 7 / 10]
    assert metrics.class_accuracy(wider).tolist() == [6 / 10, 7 / 9]
    assert metrics.pixel_accuracy(wider) == 13 / 19
    nothing = np.concatenate([square, np.zeros([2, 1], np.int64)], axis=1)
    assert {**metrics.summary(nothing, 'ab'), 'confusion_matrix': 0} == {
        **metrics.summary(square, 'ab'), 'confusion_matrix': 0}


def test_categories_are_the_classes_of_pixels_renamed():
    truth, prediction = pixels(5, 6)
    categories = ('x', 'y', 'x', 'z', 'y', 'x')
    place = np.int64([0, 1, 0, 2, 1, 0])
    names, grouped = metrics.category_matrix(matrix_of(truth, prediction, 6), categories)
    assert names == ('x', 'y', 'z')
    expected = matrix_of(place[truth], place[prediction], 3)
    np.testing.assert_array_equal(grouped, expected)
    wider = np.concatenate([matrix_of(truth, prediction, 6), np.full([6, 1], 2)], axis=1)
    np.testing.assert_array_equal(metrics.category_matrix(wider, categories)[1][:, -1], [6, 4, 2])
    figures = metrics.summary(matrix_of(truth, prediction, 6), 'abcdef', categories=categories)
    assert figures['category_iou'] == dict(zip(names, metrics.class_iou(expected)))
    assert figures['mean_category_iou'] == metrics.mean_iou(expected)


def test_the_mean_over_categories_has_the_rule_for_absent_ones():
    matrix = np.zeros([4, 4], np.int64)
    matrix[0, 0], matrix[1, 1] = 3, 5
    for absent, mean in (('left_out', 1.0), ('zero', 2 / 3)):
        figures = metrics.summary(matrix, 'abcd', absent, categories=('x', 'x', 'y', 'z'))
        assert figures['category_iou'] == {'x': 1.0, 'y': None, 'z': None}
        assert figures['mean_category_iou'] == (1.0 if absent == 'left_out' else 1 / 3)
        figures = metrics.summary(matrix, 'abcd', absent, categories='xyzz')
        assert figures['mean_category_iou'] == mean and figures['absent'] == absent


def test_durall_equation_8_in_both_readings():
    hits, truth, predicted = np.int64([
        [[2, 0, 0], [3, 1, 0], [0, 0, 0]],
        [[3, 1, 0], [3, 1, 0], [0, 0, 0]],
        [[2, 0, 2], [3, 1, 0], [0, 0, 0]]])
    by_classes = metrics.image_miou(hits, truth, predicted)
    # The first image: classes 0, 1 (never predicted) and 2 (only predicted); the second is right.
    np.testing.assert_allclose(by_classes, [(2 / 3 + 0 + 0) / 3, 1.0, np.nan])
    literal = metrics.image_miou(hits, truth, predicted, 'pixels')
    np.testing.assert_allclose(literal, [2 / 6, 1.0, np.nan])
    with pytest.raises(UserError, match='unknown reading'):
        metrics.image_miou(hits, truth, predicted, 'literal')


@pytest.mark.parametrize('scale', [2 ** 31, 2 ** 33 + 1])
def test_counts_beyond_int32_change_no_figure(scale):
    truth, prediction = pixels(11, 5)
    matrix = matrix_of(truth, prediction, 5)
    large, small = metrics.summary(matrix * scale, 'abcde'), metrics.summary(matrix, 'abcde')
    assert large['pixels'] == {name: count * scale for name, count in small['pixels'].items()}
    for name in ('mean_iou', 'pixel_accuracy', 'class_iou', 'class_accuracy'):
        assert large[name] == small[name]  # one correctly rounded division each
    with_one_more = matrix * scale
    with_one_more[0, 0] += 1
    assert metrics.summary(with_one_more, 'abcde')['pixels']['a'] == large['pixels']['a'] + 1
