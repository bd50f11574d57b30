"""Rotation: a quarter turn by hand, labels that move with their image, what turns in."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.data.augmentation import recipes, rotation

RANDOM = np.random.default_rng(4)
IMAGE = RANDOM.integers(0, 256, (21, 21, 3)).astype(np.uint8)
LABEL = RANDOM.integers(0, 6, (21, 21)).astype(np.uint8)


def seed(number):
    return tf.constant([7, number], tf.int32)


@pytest.mark.parametrize('turns', [0, 1, 2, 3])
def test_quarter_turns_are_exact_and_anticlockwise(turns):
    image, label = rotation.rotated(tf.constant(IMAGE, tf.float32), tf.constant(LABEL),
                                    turns * np.pi / 2, 0.0)
    np.testing.assert_allclose(image, np.rot90(IMAGE, turns), atol=0.05)
    np.testing.assert_array_equal(label, np.rot90(LABEL, turns))


def test_what_turns_in_is_padding_and_ignored():
    image, label = rotation.rotated(tf.fill([21, 41, 3], 50.0), tf.zeros([21, 41], tf.uint8),
                                    np.pi / 6, (10.0, 20.0, 30.0))
    image, label = image.numpy(), label.numpy()
    outside = label == 255
    assert outside[0, 0] and outside[-1, -1] and not outside[10, 20]
    assert 0.2 < outside.mean() < 0.8 and set(np.unique(label)) == {0, 255}
    np.testing.assert_allclose(image[0, 0], [10.0, 20.0, 30.0], atol=1e-3)
    np.testing.assert_allclose(image[10, 20], 50.0, atol=1e-3)
    # Where a pixel lies half outside, it is half padding: nothing darker or brighter than both.
    assert image.min() >= 10.0 - 1e-3 and image.max() <= 50.0 + 1e-3


def test_it_is_drawn_from_the_seed_and_as_often_as_asked():
    made = rotation.Rotation(probability=0.5, degrees=30.0)
    found = [made(IMAGE, LABEL, seed(n), 127.5) for n in range(40)]
    moved = [np.abs(image.numpy() - IMAGE).max() > 1.0 for image, _ in found]
    assert 8 <= sum(moved) <= 32
    for n in (3, 17):
        again = made(IMAGE, LABEL, seed(n), 127.5)
        np.testing.assert_array_equal(again[0], found[n][0])
        np.testing.assert_array_equal(again[1], found[n][1])
    lost = [np.mean(label.numpy() == 255) for (_, label), was in zip(found, moved) if was]
    assert max(lost) > 2 * min(lost)  # the angles differ


def test_image_and_label_move_together_within_a_recipe():
    # The label is the image's own red channel: what is left of both still agrees.
    image = np.repeat(LABEL[..., None] * 40, 3, -1).astype(np.uint8)
    recipe = recipes.Recipe(rotation=rotation.Rotation(probability=1.0, degrees=90.0))
    for n in range(5):
        shown, label = recipe.apply(image, LABEL, (17, 25), seed(n))
        label = label.numpy()
        known = label != 255
        agrees = np.abs(shown.numpy()[..., 0] - 40.0 * label)[known] < 20.0
        assert agrees.mean() > 0.3  # of noise, pixels between neighbours are means of them
        plain, plain_label = recipe.plain.apply(image, LABEL, (17, 25), seed(n))
        np.testing.assert_array_equal(plain_label, label)
        np.testing.assert_array_equal(plain, shown)


def test_by_name_and_what_it_is_recognised_by():
    configuration.parse([], ['rotation.degrees = 45.0'])
    made = recipes.make_recipe('deeplab+rotation')
    configuration.parse([], [])
    assert made.rotation == rotation.Rotation(degrees=45.0) and not made.keeps_shape
    assert made.identity['rotation'] == {'probability': 0.5, 'degrees': 45.0}
    # A run that was begun before there were rotations goes on.
    assert set(recipes.make_recipe('deeplab').identity) == {
        'flip', 'random_scale', 'size_range', 'enlargement', 'grid', 'photometric'}


@pytest.mark.parametrize('given, words', [
    ({'probability': -0.1}, 'rotation.probability'), ({'degrees': 0}, 'rotation.degrees'),
    ({'degrees': 181}, 'rotation.degrees')])
def test_out_of_range_is_one_line(given, words):
    with pytest.raises(UserError, match=words):
        rotation.Rotation(**given)
