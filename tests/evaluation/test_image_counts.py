"""Counts of images against scikit-learn, and as JSON and back."""
import json

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from label_maps import pair
from tf_advseg.core.errors import UserError
from tf_advseg.evaluation import metrics
from tf_advseg.evaluation.image_counts import ImageCounts, ImageIoU, count_image


def assert_equals_scikit_learn(classes, label, prediction):
    """Matrix, IoU and recall of one image, all equal to the last digit."""
    matrix = count_image(label, prediction, classes)
    assert matrix.dtype == np.int64 and not matrix[:, -1].any()
    matrix = matrix[:, :-1]
    truth, predicted = label[label != 255], prediction[label != 255]
    names = np.arange(classes)
    expected = sklearn_metrics.confusion_matrix(truth, predicted, labels=names)
    np.testing.assert_array_equal(matrix, expected)
    # It has no nan for a class that is in neither; where it says so, 0 and nan are told apart.
    iou = sklearn_metrics.jaccard_score(truth, predicted, labels=names, average=None,
                                        zero_division=0)
    there = np.isin(names, np.union1d(truth, predicted))
    np.testing.assert_array_equal(metrics.class_iou(matrix), np.where(there, iou, np.nan))
    recall = sklearn_metrics.recall_score(truth, predicted, labels=names, average=None,
                                          zero_division=np.nan)
    np.testing.assert_array_equal(metrics.class_accuracy(matrix), recall)
    assert metrics.pixel_accuracy(matrix) == sklearn_metrics.accuracy_score(truth, predicted)


@pytest.mark.parametrize('seed', range(24))
def test_random_maps_give_what_scikit_learn_gives(seed):
    assert_equals_scikit_learn(5, *pair(seed, classes=5))


def test_real_maps_give_what_scikit_learn_gives(real_pairs):
    for classes, label, prediction in real_pairs:
        assert (label == 255).any() == (classes == 21)  # VOC's borders
        # scikit-learn takes seconds a million pixels; every third column is a real map, too.
        assert_equals_scikit_learn(classes, label[:, ::3], prediction[:, ::3])


def counted(spec, pairs):
    measure = ImageIoU(spec)
    for number, (label, prediction) in enumerate(pairs):
        measure.update(f'p{number}', label, prediction)
    return measure


def test_the_matrix_is_the_sum_and_the_images_add_up(spec_of):
    pairs = [pair(seed) for seed in range(9)]
    counts = counted(spec_of(4), pairs).counts()
    matrices = [count_image(*maps, 4)[:, :-1] for maps in pairs]
    np.testing.assert_array_equal(counts.matrix, np.sum(matrices, axis=0))
    assert counts.matrix.dtype == counts.hits.dtype == np.int64
    for place, matrix in enumerate(matrices):
        np.testing.assert_array_equal(counts.hits[place], np.diag(matrix))
        np.testing.assert_array_equal(counts.truth[place], matrix.sum(axis=1))
        np.testing.assert_array_equal(counts.predicted[place], matrix.sum(axis=0))
        assert counts.image_miou()[place] == metrics.mean_iou(matrix)
    assert counts.ids == tuple(f'p{number}' for number in range(9))


def test_json_and_back(spec_of):
    label, prediction = pair(1)
    prediction[0, 0], label[0, 0] = 255, 2
    counts = counted(spec_of(6), [pair(0), (label, prediction), pair(5)]).counts()
    again = ImageCounts.from_json(json.loads(json.dumps(counts.to_json(), allow_nan=False)))
    assert again.ids == counts.ids
    for name in ('hits', 'truth', 'predicted', 'matrix'):
        np.testing.assert_array_equal(getattr(again, name), getattr(counts, name))


@pytest.mark.parametrize('spoil', [
    lambda fields: fields.pop('matrix'), lambda fields: fields['counts'].pop(),
    lambda fields: fields['counts'][0].pop(), lambda fields: fields['ids'].append('more'),
    lambda fields: fields['counts'][0].append([99, 1, 1, 1])])
def test_other_json_is_refused_in_one_line(spec_of, spoil):
    fields = counted(spec_of(4), [pair(0), pair(3)]).counts().to_json()
    spoil(fields)
    with pytest.raises(UserError, match='not the counts of an evaluation'):
        ImageCounts.from_json(fields)


def test_no_class_is_wrong_for_the_truth_and_no_mistake_of_another_class(spec_of):
    label = np.uint8([[0, 0, 1, 1, 255]])
    prediction = np.uint8([[0, 255, 1, 1, 255]])
    measure = counted(spec_of(2), [(label, prediction)])
    np.testing.assert_array_equal(measure.counts().matrix, [[1, 0, 1], [0, 2, 0]])
    result = measure.result()
    assert result['class_iou'] == {'c0': 0.5, 'c1': 1.0}
    assert result['pixel_accuracy'] == 0.75
    assert result['pixels'] == {'c0': 2, 'c1': 2}
    assert result['image_miou_pixels'] == 3 / 5


def test_the_result_follows_the_rules_of_the_data_set(spec_of):
    label, prediction = np.uint8([[0, 0, 1]]), np.uint8([[0, 0, 0]])
    result = counted(spec_of(4), [(label, prediction)]).result()
    assert result['mean_iou'] == pytest.approx((2 / 3 + 0) / 2)
    zero = spec_of(4, absent='zero', categories=('a', 'a', 'b', 'b'))
    result = counted(zero, [(label, prediction)]).result()
    assert result['mean_iou'] == pytest.approx((2 / 3 + 0) / 4)
    assert result['absent'] == 'zero'
    assert result['category_iou'] == {'a': 1.0, 'b': None}
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_images_without_labelled_pixels_count_nowhere(spec_of):
    ignored = np.full([4, 4], 255, np.uint8)
    label, prediction = pair(2)
    with_it = counted(spec_of(4), [(label, prediction), (ignored, ignored)]).result()
    without = counted(spec_of(4), [(label, prediction)]).result()
    assert with_it.pop('images') == 2 and without.pop('images') == 1
    assert with_it == without


def test_no_images_give_no_figures(spec_of):
    result = counted(spec_of(3), []).result()
    assert result['mean_iou'] is result['image_miou'] is None
    assert result['images'] == 0


@pytest.mark.parametrize('label, prediction, error, words', [
    ([[4]], [[0]], UserError, 'street: label 4 is out of range; expected 0 to 3'),
    ([[0]], [[9]], ValueError, 'prediction 9'),
    ([[0, 1]], [[0], [1]], ValueError, 'one size'),
    ([[0.0]], [[0]], ValueError, 'whole numbers')])
def test_what_cannot_be_counted_is_told(label, prediction, error, words):
    with pytest.raises(error, match=words):
        count_image(np.array(label), np.array(prediction), 4, 'street')
