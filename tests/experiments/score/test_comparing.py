"""Which images are shown, and in which direction differences are told."""
import types

import numpy as np
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.data import spec as specs
from tf_advseg.evaluation import image_counts
from tf_advseg.experiments.score import comparing
from tf_advseg.experiments.score import evaluation_folder
from tf_advseg.reporting import tables as reporting_tables

SPEC = specs.DatasetSpec('two', ('sky', 'sea'), ((0, 0, 250), (0, 250, 0)))
LABEL = np.repeat(np.uint8([[0, 0, 0, 0, 1, 1, 1, 1]]), 2, axis=0)


def counted(wrong):
    """Counts of images of which so many columns are wrong (None: nothing is labelled)."""
    measure = image_counts.ImageIoU(SPEC)
    for number, columns in enumerate(wrong):
        label = LABEL if columns is not None else np.full_like(LABEL, 255)
        prediction = LABEL.copy()
        prediction[:, :columns or 0] = 1
        measure.update(f'p{number}', label, prediction)
    return measure.counts()


def test_the_worst_and_the_best_are_not_the_same_images():
    worst, best = comparing.extremes(counted([2, 0, None, 3, 1]), 6)
    assert worst == [3, 0] and best == [1, 4]
    worst, best = comparing.extremes(counted([2, 0, None, 3, 1]), 1)
    assert worst == [3] and best == [1]
    assert comparing.extremes(counted([1]), 6) == ([0], [])
    assert comparing.extremes(counted([None]), 6) == ([], [])


def test_images_that_differ_come_by_how_much():
    one, other = counted([0, 3, None, 1, 2]), counted([1, 0, None, 1, 2])
    assert comparing.most_different(one, other) == [1, 0]
    assert comparing.most_different(other, one, 1) == [1]
    assert comparing.most_different(one, one) == []


def scored(wrong):
    return types.SimpleNamespace(counts=counted(wrong), predictor=lambda images: [
        (image[..., 0], None) for image in images])


def test_the_first_is_told_minus_the_others():
    models = {'good': scored([0] * 12), 'bad': scored([2] * 12), 'worse': scored([3] * 12)}
    found = comparing.compare(models, SPEC)
    assert list(found) == ['bad', 'worse']
    assert (found['worse']['of'], found['worse']['minus']) == ('good', 'worse')
    assert 0 < found['bad']['miou']['delta'] < found['worse']['miou']['delta']
    assert found['bad']['miou']['low'] > 0 and set(found['bad']['class_iou']) == {'sky', 'sea'}
    tables = comparing.interval_tables({'models': models, 'comparisons': found})
    assert [table.title.split(',')[0] for table in tables] == [
        'IoU of good minus bad', 'IoU of good minus worse']
    assert comparing.interval_tables({'models': models}) == []


def test_one_csv_has_scores_and_intervals():
    models = {'good': scored([0] * 12), 'bad': scored([2] * 12)}
    scores = {name: {'class_iou': {'sky': 0.5, 'sea': 0.25}, 'miou': 0.375, 'pixel_accuracy': 0.5}
              for name in models}
    results = {'models': scores, 'comparisons': comparing.compare(models, SPEC)}
    table = reporting_tables.class_table(scores)
    found = [line.split(',') for line in reporting_tables.to_csv(
        comparing.with_intervals(table, results)).splitlines()]
    assert found[0] == ['class', 'good', 'bad', *(f'good minus bad: {name}' for name in (
        'images', 'difference', 'from', 'to', 'not 0'))]
    rows = {row[0]: row[1:] for row in found}
    assert rows['sky'][:3] == ['50.00', '50.00', '12'] and rows['mIoU'][-1] == '*'
    assert rows['pixel accuracy'][2:] == [''] * 5
    assert comparing.with_intervals(table, {'models': scores}) == table


def test_columns_are_named_by_what_tells_paths_apart(tmp_path):
    one, other = tmp_path / 'one' / 'run', tmp_path / 'other' / 'run'
    assert comparing.column_names([one, other], [None, None]) == ['one/run', 'other/run']
    # A folder and one inside it of the same name: the whole path, with one slash before it.
    names = comparing.column_names(['/run', '/run/run'], [None, None])
    assert names == ['/run', 'run/run']
    with pytest.raises(UserError, match='other/run: is the same model as .*one/run .*control'):
        comparing.column_names([one, other], [one / 'best', one / '..' / 'run' / 'best'])


def test_windows_are_told_as_each_network_used_them():
    assert comparing.windows_text({'window': {'a': [33, 49], 'b': [33, 49]}}) == 'windows 33x49'
    assert comparing.windows_text({'window': {'a': [33, 49], 'b': [33, 57]}}) == (
        'windows 33x49 or 33x57')


def test_files_of_models_with_like_names_are_numbered():
    names = evaluation_folder._file_names(['a/b', 'a_b_2', 'A b', 'c', '…'])
    assert names == {'a/b': 'a_b', 'a_b_2': 'a_b_2', 'A b': 'A_b_3', 'c': 'c', '…': 'model'}


def test_a_panel_has_every_models_prediction_and_both_scores(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        comparing.panels, 'panel_grid', lambda rows, titles, palette, names, captions: seen.update(
            rows=rows, titles=titles, captions=captions))
    image = np.zeros((*LABEL.shape, 3), np.uint8)
    image[..., 0] = 1
    records = types.SimpleNamespace(spec=SPEC, load=lambda image_id: (image, LABEL))
    images = types.SimpleNamespace(ids=['p0', 'p1'], records=records)
    comparing.panel(images, [1], {'a': scored([0, 2]), 'b': scored([0, 0])})
    assert seen['titles'] == ['image', 'truth', 'a', 'b'] and len(seen['rows']) == 1
    assert (seen['rows'][0][2] == 1).all()
    assert seen['captions'] == ['mIoU 58.3 / 100.0 %: p1']
    comparing.panel(images, [0], {'a': scored([0, 2])})
    assert seen['captions'] == ['mIoU 100.0 %: p0'] and seen['titles'][2] == 'prediction'


def test_compared_images_must_be_the_same():
    with pytest.raises(UserError, match='not the same in the same order'):
        comparing.compare({'a': scored([0, 1]), 'b': scored([0])}, SPEC)
