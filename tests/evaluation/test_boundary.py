"""Boundary F and trimaps against their definitions in plain NumPy: pixel by pixel, all pairs."""
import json
import math

import numpy as np
import pytest

from label_maps import pair
from tf_advseg.core.errors import UserError
from tf_advseg.evaluation import boundary
from tf_advseg.evaluation.boundary import BoundaryF, Trimap


def boundary_by_hand(mask, counted):
    """(y, x) of the pixels of a bool mask with a counted 4-neighbour outside it, one by one."""
    points = []
    for y, x in zip(*np.nonzero(mask & counted)):
        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            inside = 0 <= v < mask.shape[0] and 0 <= u < mask.shape[1]
            if inside and counted[v, u] and not mask[v, u]:
                points.append((y, x))
                break
    return np.array(points, np.int64).reshape(-1, 2)


def share_by_hand(points, others, size, smallest, pixels):
    """Share of points nearer than the tolerance to one of the others: every pair's distance."""
    squares = ((points[:, None] - others[None]) ** 2).sum(axis=-1)
    diagonal = size[0] ** 2 + size[1] ** 2
    near = (squares * smallest < pixels ** 2 * diagonal).any(axis=1)
    return int(near.sum()) / len(points)


def f_by_hand(label, prediction, classes, smallest, pixels):
    """F of each class of one image, nan where it is not scored."""
    counted, scores = label != 255, []
    for c in range(classes):
        truth, predicted = label == c, prediction == c
        if not ((truth | predicted) & counted).any():
            scores.append(math.nan)
            continue
        edges = [boundary_by_hand(mask, counted) for mask in (truth, predicted)]
        lengths = [len(edge) for edge in edges]
        if lengths == [0, 0]:
            areas = [set(zip(*np.nonzero(mask & counted))) for mask in (truth, predicted)]
            fills = areas[0] == areas[1] == set(zip(*np.nonzero(counted)))
            scores.append(1.0 if fills else math.nan if all(areas) else 0.0)
            continue
        if 0 in lengths:
            scores.append(0.0)
            continue
        precision = share_by_hand(edges[1], edges[0], label.shape, smallest, pixels)
        recall = share_by_hand(edges[0], edges[1], label.shape, smallest, pixels)
        scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return scores


def smallest_of(pairs):
    return min(label.shape[0] ** 2 + label.shape[1] ** 2 for label, _ in pairs)


def test_bf_is_the_plain_definition_on_120_cases(spec_of):
    pairs = [pair(seed, classes=3) for seed in range(120)]
    sizes = [label.shape for label, _ in pairs]
    seen = set()
    for turn, pixels in enumerate((1, 2, 5)):
        measure = BoundaryF(spec_of(3), sizes, pixels)
        expected = []
        for number, (label, prediction) in enumerate(pairs):
            if number // 3 % 3 != turn:  # the kinds of maps go by number % 3
                continue
            measure.update(str(number), label, prediction)
            expected.append(f_by_hand(label, prediction, 3, smallest_of(pairs), pixels))
            seen.update(value for value in expected[-1] if not math.isnan(value))
        means = [np.nanmean(scores) for scores in expected]
        assert len(expected) in (39, 42)
        result = measure.result()
        assert result['mean'] == pytest.approx(np.mean(means), rel=1e-13)
        assert result['std'] == pytest.approx(np.std(means), rel=1e-12)
        by_class = np.nanmean(np.array(expected), axis=0)
        np.testing.assert_allclose(list(result['class_f'].values()), by_class, rtol=1e-13)
    assert {0.0, 1.0} < seen and len(seen) > 100  # the cases are not all of one kind


@pytest.mark.parametrize('seed', range(12))
def test_each_class_equals_the_definition_exactly(spec_of, seed):
    """Not only means: the same integers and the same one rounding, class by class."""
    label, prediction = pair(seed, classes=4, size=(23, 31))
    measure = BoundaryF(spec_of(4), [label.shape], 3)
    measure.update('one', label, prediction)
    expected = f_by_hand(label, prediction, 4, 23 ** 2 + 31 ** 2, 3)
    found = [math.nan if f is None else f for f in measure.result()['class_f'].values()]
    np.testing.assert_array_equal(found, expected)


def test_real_maps_give_the_definition(spec_of, real_pairs):
    cases = [real_pairs[0], real_pairs[1], real_pairs[-1]]
    for classes, label, prediction in cases:
        label, prediction = label[40:110, 60:170], prediction[40:110, 60:170]
        measure = BoundaryF(spec_of(classes), [label.shape])
        measure.update('real', label, prediction)
        expected = f_by_hand(label, prediction, classes, 70 ** 2 + 110 ** 2, 5)
        found = [math.nan if f is None else f for f in measure.result()['class_f'].values()]
        np.testing.assert_array_equal(found, expected)


def halves(at, size=(40, 30)):
    """Two classes, left and right of a column."""
    ids = np.zeros(size, np.uint8)
    ids[:, at:] = 1
    return ids


def bf(spec, label, prediction, **options):
    options.setdefault('sizes', [label.shape])
    measure = BoundaryF(spec, **options)
    measure.update('one', label, prediction)
    return measure.result()


def test_the_tolerance_is_five_pixels_at_the_smallest_diagonal(spec_of):
    spec = spec_of(2)
    label = halves(12)
    for shift in range(1, 8):
        found = bf(spec, label, halves(12 + shift))['mean']
        assert found == (1.0 if shift < 5 else 0.0)  # exactly 5 is not nearer than 5
    # In a split whose smallest image has half the diagonal, this one's tolerance is 10.
    sizes = [(20, 15), (40, 30)]
    assert bf(spec, label, halves(21), sizes=sizes)['mean'] == 1.0
    assert bf(spec, label, halves(22), sizes=sizes)['mean'] == 0.0
    tolerance = bf(spec, label, label, sizes=sizes)['tolerance']
    assert tolerance == {'pixels': 5, 'theta': 0.2, 'smallest_diagonal': 25.0}


def test_perfect_maps_have_f_one_and_f_does_not_care_which_is_the_truth(spec_of):
    for seed in range(8):
        label, prediction = pair(seed, ignored=False)
        assert bf(spec_of(4), label, label)['mean'] == 1.0
        there, back = (bf(spec_of(4), *maps)
                       for maps in ((label, prediction), (prediction, label)))
        assert there['class_f'] == back['class_f']
        assert (there['precision'], there['recall']) == (back['recall'], back['precision'])


def test_neither_the_frame_nor_ignored_pixels_make_boundaries(spec_of):
    label = np.zeros([20, 20], np.uint8)
    assert bf(spec_of(3), label, label)['class_f'] == {'c0': 1.0, 'c1': None, 'c2': None}
    label[:, 9:] = 1
    label[:, 7:12] = 255  # as VOC does: the border between the two is not labelled
    prediction = halves(9, (20, 20))
    nothing = bf(spec_of(3), label, prediction)  # right or not, nobody knows how well bounded
    assert nothing['class_f'] == {'c0': None, 'c1': None, 'c2': None}
    assert (nothing['mean'], nothing['scored'], nothing['without_boundary']) == (None, 0, 1.0)
    anything = np.where(label == 255, 2, prediction).astype(np.uint8)
    assert bf(spec_of(3), label, anything) == bf(spec_of(3), label, prediction)
    wrong = prediction.copy()
    wrong[:, 14:] = 2  # a boundary where the truth is known to have none
    assert bf(spec_of(3), label, wrong)['class_f'] == {'c0': None, 'c1': 0.0, 'c2': 0.0}


def test_a_network_that_sees_background_only_gains_nothing_by_void_rims(spec_of):
    label = np.zeros([30, 30], np.uint8)
    label[8:22, 8:22], label[10:20, 10:20] = 255, 1
    found = bf(spec_of(2), label, np.zeros_like(label))
    assert found['class_f'] == {'c0': None, 'c1': 0.0} and found['mean'] == 0.0
    assert (found['scored'], found['images'], found['without_boundary']) == (1, 1, 1.0)
    open_rim = np.where(label == 255, 0, label).astype(np.uint8)
    found = bf(spec_of(2), open_rim, open_rim)
    assert (found['mean'], found['scored'], found['without_boundary']) == (1.0, 2, 0.0)


def test_images_weigh_the_same_whatever_their_size(spec_of):
    measure = BoundaryF(spec_of(2), [(40, 30), (80, 60)])
    measure.update('right', halves(12), halves(12))
    measure.update('wrong', halves(12, (80, 60)), halves(40, (80, 60)))
    measure.update('empty', np.full([40, 30], 255, np.uint8), halves(12))
    result = measure.result()
    assert (result['mean'], result['std'], result['images']) == (0.5, 0.5, 2)
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_predictions_of_no_class_bound_the_others(spec_of):
    label, prediction = halves(12), halves(12)
    prediction[prediction == 1] = 255
    result = bf(spec_of(2), label, prediction)
    assert result['class_f'] == {'c0': 1.0, 'c1': 0.0}


def test_squared_distances_are_exact():
    rng = np.random.default_rng(0)
    points, others = rng.integers(0, 3000, [2, 300, 2])
    expected = ((points[:, None] - others) ** 2).sum(axis=-1).min(axis=1)
    np.testing.assert_array_equal(boundary.squared_distances(points, others), expected)
    near = boundary.squared_distances(points, others, reach=40)
    np.testing.assert_array_equal(near[expected <= 1600], expected[expected <= 1600])
    assert (near[expected > 1600] > 1600).all()


@pytest.mark.parametrize('options, words', [
    ({'sizes': []}, 'sizes'), ({'sizes': [(4, 4)], 'pixels': 0}, 'more than 0')])
def test_a_tolerance_that_makes_no_sense_is_told(spec_of, options, words):
    with pytest.raises(UserError, match=words):
        BoundaryF(spec_of(2), **options)


def band_by_hand(label, width, void):
    """Labelled pixels nearer than width to a labelled pixel beside another class (or void)."""
    known = label != 255
    edge = np.zeros(label.shape, bool)
    for c in np.unique(label[known]):
        for y, x in boundary_by_hand(label == c, np.ones_like(known) if void else known):
            edge[y, x] = True
    points = np.argwhere(edge)
    band = np.zeros(label.shape, bool)
    for y, x in np.argwhere(known):
        squares = ((points - (y, x)) ** 2).sum(axis=1)
        band[y, x] = bool((squares < width ** 2).any())
    return band


@pytest.mark.parametrize('void', [False, True])
@pytest.mark.parametrize('seed', range(6))
def test_trimap_is_the_iou_inside_the_band(spec_of, seed, void):
    label, prediction = pair(seed, size=(19, 26))
    measure = Trimap(spec_of(4), widths=(1, 2, 4), void=void)
    measure.update('one', label, prediction)
    widths = measure.result()['widths']
    assert list(widths) == ['1', '2', '4']
    for width in (1, 2, 4):
        band = band_by_hand(label, width, void)
        found = widths[str(width)]
        assert found['pixels'] == band.sum()
        for c in range(4):
            truth, predicted = (label == c) & band, (prediction == c) & band
            union = (truth | predicted).sum()
            expected = (truth & predicted).sum() / union if union else None
            assert found['class_iou'][f'c{c}'] == expected


@pytest.mark.parametrize('absent, mean', [('left_out', 1.0), ('zero', 0.5)])
def test_the_band_has_the_data_set_s_rule_for_absent_classes(spec_of, absent, mean):
    measure = Trimap(spec_of(4, absent=absent), widths=(3,))
    measure.update('one', halves(12), halves(12))
    result = measure.result()
    assert result['absent'] == absent and result['widths']['3']['mean_iou'] == mean


def test_bands_are_nested_and_end_in_the_whole_image(spec_of):
    label, prediction = pair(5, size=(30, 30), ignored=False)
    measure = Trimap(spec_of(4), widths=(1, 3, 5, 60))
    measure.update('one', label, prediction)
    widths = measure.result()['widths']
    pixels = [widths[width]['pixels'] for width in ('1', '3', '5', '60')]
    assert pixels == sorted(pixels) and pixels[-1] == 900
    assert widths['60']['pixel_accuracy'] == (label == prediction).mean()


def test_voc_has_its_band_round_void(spec_of):
    label = np.zeros([9, 9], np.uint8)
    label[:, 4] = 255
    plain = Trimap(spec_of(2))
    voc = Trimap(spec_of(2).__class__('pascal_voc_2012', ('a', 'b'), ((0, 0, 0), (1, 1, 1))))
    for measure in (plain, voc):
        measure.update('one', label, label)
    assert plain.result()['widths']['3']['pixels'] == 0
    assert voc.result()['widths']['3']['pixels'] == 9 * 6
    assert voc.result()['void'] and not plain.result()['void']


@pytest.mark.parametrize('widths', [(), (0,), (1.5,)])
def test_widths_that_make_no_sense_are_told(spec_of, widths):
    with pytest.raises(UserError, match='whole pixels'):
        Trimap(spec_of(2), widths)
