"""Metrics against definitions spelt out pixel by pixel, and against Keras' MeanIoU."""
import json
import math

import numpy as np
import pytest
import tensorflow as tf

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
    (np.zeros([2, 3], np.int64), 'square'), (np.zeros([2, 2]), 'counts'),
    (-np.eye(2, dtype=np.int64), 'negative')])
def test_what_is_no_confusion_matrix_is_refused(matrix, word):
    with pytest.raises(ValueError, match=word):
        metrics.mean_iou(matrix)


def test_summary_needs_a_name_for_each_class():
    with pytest.raises(ValueError, match='2 class names'):
        metrics.summary(np.eye(3, dtype=np.int64), ('a', 'b'))
