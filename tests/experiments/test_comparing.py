"""Which pictures are shown, and in which direction differences are told."""
import types

import numpy as np
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.data import spec as specs
from tf_advseg.evaluation import picture_counts
from tf_advseg.experiments import comparing

SPEC = specs.DatasetSpec('two', ('sky', 'sea'), ((0, 0, 250), (0, 250, 0)))
LABEL = np.repeat(np.uint8([[0, 0, 0, 0, 1, 1, 1, 1]]), 2, axis=0)


def counted(wrong):
    """Counts of pictures of which so many columns are wrong (None: nothing is labelled)."""
    measure = picture_counts.PictureIoU(SPEC)
    for number, columns in enumerate(wrong):
        label = LABEL if columns is not None else np.full_like(LABEL, 255)
        prediction = LABEL.copy()
        prediction[:, :columns or 0] = 1
        measure.update(f'p{number}', label, prediction)
    return measure.counts()


def test_the_worst_and_the_best_are_not_the_same_pictures():
    worst, best = comparing.extremes(counted([2, 0, None, 3, 1]), 6)
    assert worst == [3, 0] and best == [1, 4]
    worst, best = comparing.extremes(counted([2, 0, None, 3, 1]), 1)
    assert worst == [3] and best == [1]
    assert comparing.extremes(counted([1]), 6) == ([0], [])
    assert comparing.extremes(counted([None]), 6) == ([], [])


def test_pictures_that_differ_come_by_how_much():
    one, other = counted([0, 3, None, 1, 2]), counted([1, 0, None, 1, 2])
    assert comparing.most_different(one, other) == [1, 0]
    assert comparing.most_different(other, one, 1) == [1]
    assert comparing.most_different(one, one) == []


def scored(wrong):
    return types.SimpleNamespace(counts=counted(wrong), predictor=lambda images: [
        (image[..., 0], None) for image in images])


def test_the_first_is_told_minus_the_others():
    models = {'good': scored([0] * 8), 'bad': scored([2] * 8), 'worse': scored([3] * 8)}
    found = comparing.compare(models, SPEC)
    assert list(found) == ['bad', 'worse']
    assert 0 < found['bad']['miou']['delta'] < found['worse']['miou']['delta']
    assert found['bad']['miou']['low'] > 0 and set(found['bad']['class_iou']) == {'sky', 'sea'}
    tables = comparing.interval_tables({'models': models, 'comparisons': found})
    assert [table.title.split(',')[0] for table in tables] == [
        'IoU of good minus bad', 'IoU of good minus worse']
    assert comparing.interval_tables({'models': models}) == []


def test_a_panel_has_every_models_prediction_and_both_scores(monkeypatch):
    told = {}
    monkeypatch.setattr(
        comparing.panels, 'panel_grid', lambda rows, titles, palette, names, captions: told.update(
            rows=rows, titles=titles, captions=captions))
    image = np.zeros((*LABEL.shape, 3), np.uint8)
    image[..., 0] = 1
    records = types.SimpleNamespace(spec=SPEC, load=lambda image_id: (image, LABEL))
    pictures = types.SimpleNamespace(ids=['p0', 'p1'], records=records)
    comparing.panel(pictures, [1], {'a': scored([0, 2]), 'b': scored([0, 0])})
    assert told['titles'] == ['picture', 'truth', 'a', 'b'] and len(told['rows']) == 1
    assert (told['rows'][0][2] == 1).all()
    assert told['captions'] == ['p1: mIoU a 58.3 %, b 100.0 %']
    comparing.panel(pictures, [0], {'a': scored([0, 2])})
    assert told['captions'] == ['p0: mIoU 100.0 %'] and told['titles'][2] == 'prediction'


def test_compared_pictures_must_be_the_same():
    with pytest.raises(UserError, match='not the same in the same order'):
        comparing.compare({'a': scored([0, 1]), 'b': scored([0])}, SPEC)
