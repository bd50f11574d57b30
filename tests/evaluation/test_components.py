"""Counts of connected components against a flood fill written out."""
import json

import numpy as np
import pytest

from label_maps import pair
from tf_advseg.evaluation.components import ComponentErrors, count_components


def flood(mask):
    """Components of a bool mask as sets of (y, x), 8-connected, by a stack."""
    left, parts = set(zip(*np.nonzero(mask))), []
    while left:
        part, stack = set(), [left.pop()]
        while stack:
            y, x = stack.pop()
            part.add((y, x))
            for step in ((v, u) for v in (y - 1, y, y + 1) for u in (x - 1, x, x + 1)):
                if step in left:
                    left.remove(step)
                    stack.append(step)
        parts.append(part)
    return parts


def by_hand(label, prediction, number):
    truth = flood(label == number)
    known = set(zip(*np.nonzero(label != 255)))
    predicted = [part for part in flood(prediction == number) if part & known]
    of_class = set().union(*truth)
    said = set().union(*predicted)
    return {'truth': len(truth), 'predicted': len(predicted),
            'missed': sum(not part & said for part in truth),
            'spurious': sum(not part & of_class for part in predicted),
            'difference': abs(len(truth) - len(predicted))}


@pytest.mark.parametrize('seed', range(30))
def test_counts_are_those_of_a_flood_fill(seed):
    label, prediction = pair(seed)
    for number in range(4):
        assert count_components(label, prediction, number) == by_hand(label, prediction, number)


def test_real_maps(real_pairs):
    for classes, label, prediction in real_pairs[1:2] + real_pairs[-1:]:
        label, prediction = label[:150, :150], prediction[:150, :150]
        for number in np.unique(label[label != 255]):
            assert (count_components(label, prediction, number)
                    == by_hand(label, prediction, number))


def make_image(*rows):
    return np.uint8([[255 if c == '?' else int(c) for c in row] for row in rows])


def test_what_counts_as_what():
    label = make_image('1100011', '1100000', '0000000', '1000000')
    assert count_components(label, label, 1) == {
        'truth': 3, 'predicted': 3, 'missed': 0, 'spurious': 0, 'difference': 0}
    prediction = make_image('1000000', '0100000', '0000010', '1000001')
    assert count_components(label, prediction, 1) == {
        'truth': 3, 'predicted': 3, 'missed': 1, 'spurious': 1, 'difference': 0}
    absent = make_image(*['0000000'] * 4)
    assert count_components(label, absent, 1) == {
        'truth': 3, 'predicted': 0, 'missed': 3, 'spurious': 0, 'difference': 3}
    assert count_components(label, label, 2) == dict.fromkeys(
        ('truth', 'predicted', 'missed', 'spurious', 'difference'), 0)


def test_a_region_that_runs_through_ignored_pixels_stays_one():
    label = make_image('11?0?', '11?00')
    reaching = make_image('11110', '11111')  # it leaks through the border that is not labelled
    assert count_components(label, reaching, 1)['spurious'] == 0
    inside = make_image('11001', '11000')  # altogether in an ignored pixel
    assert count_components(label, inside, 1)['predicted'] == 1
    beyond = make_image('11010', '11000')
    assert count_components(label, beyond, 1)['spurious'] == 1


def test_sums_and_means(spec_of):
    measure = ComponentErrors(spec_of(3))
    label = make_image('1100', '0000', '0001')
    measure.update('a', label, make_image('1100', '0000', '0202'))
    measure.update('b', label, make_image('0000', '0000', '0000'))
    measure.update('nothing', make_image('????'), make_image('0120'))
    result = measure.result()
    assert result['images'] == 2
    assert result['truth'] == {'total': 6, 'per_image': 3.0}
    assert result['missed'] == {'total': 3, 'per_image': 1.5}
    assert result['spurious'] == {'total': 2, 'per_image': 1.0}
    assert result['missed_share'] == 3 / 6 and result['spurious_share'] == 2 / 5
    assert result['difference']['total'] == 1 + 2 + 2
    assert result['classes']['c1'] == {'truth': 4, 'predicted': 1, 'missed': 3, 'spurious': 0,
                                       'difference': 3}
    assert result['classes']['c2']['spurious'] == 2
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_no_images(spec_of):
    result = ComponentErrors(spec_of(2)).result()
    assert result['missed'] == {'total': 0, 'per_image': None}
    assert result['missed_share'] is None
