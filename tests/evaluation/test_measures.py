"""Measures by name: what they share."""
import json

import numpy as np
import pytest

from label_maps import pair
from tf_advseg.core.errors import UserError
from tf_advseg.data.official_specs import SPECS
from tf_advseg.evaluation.measures import MEASURES, make_measures

SPEC = SPECS['cityscapes']


def frames(number=3):
    """[(image_id, label, prediction, instances)] in Cityscapes' train ids."""
    found = []
    for seed in range(number):
        label, prediction = pair(seed, classes=19, size=(24, 30))
        official = np.array([*SPEC.official_ids, *[0] * 237])[label].astype(np.int32)
        instances = np.where((label >= 11) & (label != 255), official * 1000 + 1, official)
        found.append((f'p{seed}', label, prediction, instances))
    return found


def test_iou_is_always_there_and_first(spec_of):
    spec, sizes = spec_of(3), [(4, 5)]
    assert list(make_measures([], spec, sizes)) == ['iou']
    assert list(make_measures('boundary, iou,trimap', spec, sizes)) == ['iou', 'boundary', 'trimap']
    assert list(make_measures(('components', 'components'), spec, sizes)) == ['iou', 'components']
    assert list(make_measures(list(MEASURES), SPEC, sizes)) == list(MEASURES)


@pytest.mark.parametrize('dtype', [np.uint8, np.int32, np.int64])
def test_every_measure_keeps_the_contract(dtype):
    measures = make_measures(list(MEASURES), SPEC, [(24, 30)])
    for image_id, label, prediction, instances in frames():
        before = label.copy(), prediction.copy(), instances.copy()
        for measure in measures.values():
            measure.update(image_id, label.astype(dtype), prediction.astype(dtype), instances)
        for array, old in zip((label, prediction, instances), before):
            np.testing.assert_array_equal(array, old)
    for measure in measures.values():
        result = measure.result()
        assert json.loads(json.dumps(result, allow_nan=False)) == result
        assert measure.result() == result  # asking changes nothing


@pytest.mark.parametrize('name', list(MEASURES))
def test_ignored_pixels_count_nowhere(name):
    """Whatever is predicted there. (Objects of Cityscapes lie in labelled pixels.)"""
    results = []
    for said in (0, 7):
        measure = make_measures([name], SPEC, [(24, 30)])[name]
        for image_id, label, prediction, instances in frames():
            # An ignored frame as wide as a component needs to stay apart from the rest.
            label[:6], label[6:8], prediction[6:8] = 255, 3, 3
            prediction[:6], instances[:8] = said, 0
            prediction[6:8] = 12
            measure.update(image_id, label, prediction, instances)
        results.append(measure.result())
    assert results[0] == results[1]


@pytest.mark.parametrize('name', list(MEASURES))
def test_the_order_of_images_changes_no_figure(name):
    results = []
    for order in (frames(), frames()[::-1]):
        measure = make_measures([name], SPEC, [(24, 30)])[name]
        for frame in order:
            measure.update(*frame)
        results.append(json.dumps(measure.result()))
    first, second = (json.loads(text, parse_float=lambda v: round(float(v), 12))
                     for text in results)
    assert first == second


@pytest.mark.parametrize('name', list(MEASURES))
def test_right_predictions_have_the_best_figures(name):
    measure = make_measures([name], SPEC, [(24, 30)])[name]
    for image_id, label, _, instances in frames():
        measure.update(image_id, label, np.where(label == 255, 0, label), instances)
    result = measure.result()
    best = {'iou': lambda: result['mean_iou'] == result['image_miou'] == 1,
            'boundary': lambda: result['mean'] == 1 and result['std'] == 0,
            'trimap': lambda: {w['mean_iou'] for w in result['widths'].values()} == {1.0},
            'components': lambda: result['missed']['total'] == 0,
            'instances': lambda: result['mean_iou'] == result['mean_iiou'] == 1}
    assert best[name]()


def test_what_does_not_exist_is_told(spec_of):
    with pytest.raises(UserError, match='Did you mean "boundary"'):
        make_measures('boundry', spec_of(3), [(4, 4)])
    with pytest.raises(UserError, match='iIoU'):
        make_measures('instances', spec_of(3), [(4, 4)])


@pytest.mark.parametrize('name', list(MEASURES))
def test_a_label_out_of_range_is_told_with_the_image(name):
    measure = make_measures([name], SPEC, [(24, 30)])[name]
    label = np.full([4, 4], 19, np.uint8)
    with pytest.raises(UserError, match='p7: label 19 is out of range; expected 0 to 18'):
        measure.update('p7', label, np.zeros([4, 4], np.uint8), np.zeros([4, 4], np.int32))
