"""CutMix: where its boxes lie, how large they are, and what they bring over."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.data.augmentation import cutmix

SIZE = (40, 61)


def boxes(count=60, **given):
    made = cutmix.CutMix(**given)
    return [made.box(tf.constant([3, n], tf.int32), SIZE).numpy() for n in range(count)]


def test_a_box_is_a_rectangle_of_the_area_asked_for():
    areas, forms = [], []
    for box in boxes(probability=1.0, least=0.1, most=0.3):
        rows, columns = (np.flatnonzero(box.any(axis)) for axis in (1, 0))
        assert box[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1].all()
        assert box.sum() == len(rows) * len(columns)
        areas.append(box.mean())
        forms.append(len(rows) / len(columns))
    # A side that would stand out is cut, so an area may be smaller than asked, and sides round.
    assert max(areas) < 0.33 and min(areas) > 0.05 and np.ptp(areas) > 0.08
    assert min(forms) < 0.6 and max(forms) > 1.2


def test_boxes_reach_every_border():
    found = np.stack(boxes(200, probability=1.0))
    assert found[:, 0].any() and found[:, -1].any()
    assert found[:, :, 0].any() and found[:, :, -1].any()
    rows, columns = found.mean((0, 2)), found.mean((0, 1))
    assert rows.min() > 0.002 and columns.min() > 0.002  # no place is left out


def test_as_often_as_asked_and_by_the_seed():
    found = boxes(probability=0.5)
    assert 15 <= sum(box.any() for box in found) <= 45
    assert not any(box.any() for box in boxes(probability=0.0))
    for box, again in zip(found, boxes(probability=0.5)):
        np.testing.assert_array_equal(box, again)


def test_what_a_box_holds_is_the_next_images():
    images = np.arange(3)[:, None, None, None] * np.ones((3, 4, 5, 2), np.float32)
    where = np.zeros((3, 4, 5), bool)
    where[0, :2], where[2, :, 3:] = True, True
    mixed = cutmix.from_the_next(images, where).numpy()
    assert (mixed[0, :2] == 1).all() and (mixed[0, 2:] == 0).all()
    assert (mixed[1] == 1).all()
    assert (mixed[2, :, 3:] == 0).all() and (mixed[2, :, :3] == 2).all()
    first = np.array([True, False, False])[:, None, None] & np.ones_like(where)
    flags = cutmix.from_the_next(first, where)
    assert flags.dtype == tf.bool and not flags[0, 0].numpy().any() and flags[0, 3].numpy().all()


@pytest.mark.parametrize('given, words', [
    ({'probability': -0.1}, 'cutmix.probability'), ({'most': 1.5}, 'cutmix.most'),
    ({'least': 0.5, 'most': 0.4}, 'cutmix.most')])
def test_out_of_range_is_one_line(given, words):
    with pytest.raises(UserError, match=words):
        cutmix.CutMix(**given)
