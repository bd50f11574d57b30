"""Balanced crops: a rare class is in them as often as a frequent one, and they fit."""
import numpy as np
import tensorflow as tf

from tf_advseg.data.augmentation import augment, balanced_crop, recipes


def seed(number):
    return tf.constant([11, number], tf.int32)


def _label():
    """Class 0 everywhere, 3 in a corner of four pixels, some ignored."""
    label = np.zeros((60, 80), np.uint8)
    label[:30, :5] = 255
    label[57:59, 77:79] = 3
    return label


def test_a_rare_class_is_in_half_of_the_crops_of_two_classes():
    label, crop = _label(), (15, 17)
    function = tf.function(lambda s: balanced_crop.offsets(tf.constant(label), crop, s))
    plain = tf.function(lambda s: augment.random_crop_offsets(60, 80, crop, s))

    def share(offsets):
        hits, places = 0, set()
        for n in range(200):
            top, left = (int(value) for value in offsets(seed(n)))
            assert 0 <= top <= 60 - crop[0] and 0 <= left <= 80 - crop[1]
            places.add((top, left))
            hits += 3 in label[top:top + crop[0], left:left + crop[1]]
        assert len(places) > 30
        return hits / 200

    balanced = share(function)
    assert 0.35 < balanced < 0.7
    assert share(plain) < 0.15 < balanced


def test_the_drawn_pixel_is_inside_wherever_it_lies():
    label = np.full((20, 30), 255, np.uint8)
    for place in ((0, 0), (19, 29), (10, 0), (7, 13)):
        only = label.copy()
        only[place] = 2
        tops = set()
        for n in range(12):
            top, left = (int(v) for v in balanced_crop.offsets(tf.constant(only), (6, 8), seed(n)))
            assert only[top:top + 6, left:left + 8].min() == 2
            tops.add((top, left))
        assert len(tops) > 1 or place in ((0, 0), (19, 29))


def test_images_without_labels_and_of_the_crops_size():
    nothing = tf.fill([20, 30], tf.constant(255, tf.uint8))
    found = {tuple(int(v) for v in balanced_crop.offsets(nothing, (6, 8), seed(n)))
             for n in range(20)}
    assert len(found) > 5 and max(top for top, _ in found) <= 14
    assert [int(v) for v in balanced_crop.offsets(nothing, (20, 30), seed(0))] == [0, 0]


def test_a_recipe_cuts_so_and_pads_what_is_smaller():
    recipe = recipes.make_recipe('flip+balanced')
    assert recipe.balanced and not recipe.keeps_shape and recipe.identity['balanced'] is True
    label = _label()
    image = np.repeat(label[..., None], 3, -1)
    seen = []
    for n in range(30):
        shown, ids = recipe.apply(image, label, (15, 91), seed(n), 0.0)
        ids = ids.numpy()
        assert shown.shape == (15, 91, 3) and (ids[:, :11] == 255).all() | (
            ids[:, 80:] == 255).all()
        known = ids != 255
        np.testing.assert_array_equal(shown.numpy()[..., 0][known], ids[known])
        seen.append(3 in ids)
    assert 6 <= sum(seen) <= 27
    assert recipes.make_recipe('flip+balanced').plain.balanced
