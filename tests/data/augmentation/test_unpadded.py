"""Truths without padding: large images as they are, small ones by the published code's loop."""
import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.data.augmentation import official_preprocessing
from tf_advseg.data.augmentation import recipes
from tf_advseg.data.augmentation import unpadded
from tf_advseg.data.augmentation.official_preprocessing import CENTRES, RandomScale

CROP = (33, 49)
SCALES = RandomScale(0.5, 1.6, 0.1)
ONCE = RandomScale()  # never


def made(height, width):
    """An image that says where each pixel is, and a label in which each row is a class."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows, columns, rows], -1).astype(np.float32)
    return tf.constant(image), tf.constant((rows % 7).astype(np.uint8))


def published(image, label, scale, seed):
    """The loop of VOCGTDataSet.__getitem__ after its first factor; (image, label, factors)."""
    factors = []
    while len(factors) < 9 and (np.array(label.shape) < CROP).any():
        drawn = scale.draw(tf.random.experimental.stateless_fold_in(
            tf.random.experimental.stateless_fold_in(seed, 9), len(factors) + 1))
        factors.append(float(drawn))
        size = [max(int(np.round(np.float32(side) * drawn.numpy())), 1) for side in label.shape]
        image, label = official_preprocessing.resized(image, label, size, CENTRES)
    if (np.array(label.shape) < CROP).any():
        image, label = official_preprocessing.resized(image, label, CROP, CENTRES)
    return image, label, factors


def test_an_image_that_is_large_enough_stays_as_it_is():
    for scale in (SCALES, ONCE):
        image, label = made(33, 60)
        found = unpadded.filled(image, label, CROP, scale, CENTRES, [1, 2])
        np.testing.assert_array_equal(found[0], image)
        np.testing.assert_array_equal(found[1], label)


@pytest.mark.parametrize('size', [(20, 60), (60, 20), (10, 10)])
def test_without_scales_a_small_image_is_resized_to_the_crop(size):
    image, label = made(*size)
    found = unpadded.filled(image, label, CROP, ONCE, CENTRES, [1, 2])
    for ours, expected in zip(found, official_preprocessing.resized(image, label, CROP, CENTRES)):
        np.testing.assert_array_equal(ours, expected)
    assert found[1].dtype == tf.uint8


def test_scales_are_drawn_one_on_top_of_the_other_ten_times_at_most():
    filled = tf.function(lambda image, label, seed: unpadded.filled(
        image, label, CROP, SCALES, CENTRES, seed), reduce_retracing=True)
    counts = []
    for number in range(40):
        image, label = made(27, 40) if number % 2 else made(8, 12)
        seed = tf.constant([number, 3])
        *expected, factors = published(image, label, SCALES, seed)
        for ours, theirs in zip(filled(image, label, seed), expected):
            np.testing.assert_array_equal(ours, theirs)
        counts.append(len(factors))
        assert len(set(factors)) > 1 or len(factors) < 4
    assert min(counts) == 1 and max(counts) == unpadded.FACTORS - 1


@pytest.mark.parametrize('name', ['flip', 'hung', 'deeplab'])
def test_a_recipe_without_padding_cuts_large_images_as_with_it(name):
    padded = recipes.make_recipe(name)
    without = dataclasses.replace(padded, unpadded=True)
    assert without.identity == {**padded.identity, 'unpadded': True}
    assert 'unpadded' not in padded.identity
    same = 0
    for number in range(12):
        seed = tf.constant([number, 1])
        for size in ((120, 130), (30, 40)):
            image, label = made(*size)
            one, two = (recipe.apply(image, label, CROP, seed)[1].numpy()
                        for recipe in (padded, without))
            assert not (two == 255).any()
            if not (one == 255).any():
                np.testing.assert_array_equal(one, two)
                same += 1
    assert same >= 8
