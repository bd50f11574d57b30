"""Gaussian blur against SciPy-free arithmetic, and what it leaves alone."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.data.augmentation import blur
from tf_advseg.data.augmentation import recipes

IMAGE = np.random.default_rng(1).integers(0, 256, (15, 21, 3)).astype(np.uint8)


def seed(number):
    return tf.constant([7, number], tf.int32)


@pytest.mark.parametrize('sigma', [0.3, 1.7])
def test_each_value_is_the_weighted_mean_of_what_lies_inside(sigma):
    radius = 4
    found = blur.gaussian(tf.constant(IMAGE, tf.float32), sigma, radius).numpy()
    rows, columns = (np.exp(-0.5 * ((np.arange(side)[:, None] - np.arange(side)) / sigma) ** 2)
                     * (np.abs(np.arange(side)[:, None] - np.arange(side)) <= radius)
                     for side in IMAGE.shape[:2])
    rows, columns = (m / m.sum(1, keepdims=True) for m in (rows, columns))
    expected = np.einsum('yi,xj,ijc->yxc', rows, columns, IMAGE.astype(float))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_flat_image_stays_flat_up_to_its_border():
    flat = tf.fill([9, 9, 3], 200.0)
    np.testing.assert_allclose(blur.gaussian(flat, 2.0, 6), flat, rtol=1e-5)


def test_it_is_drawn_from_the_seed_and_as_often_as_asked():
    made = blur.Blur(probability=0.5)
    images = [made(IMAGE, seed(n)).numpy() for n in range(40)]
    blurred = sum(np.abs(image - IMAGE).max() > 1e-3 for image in images)
    assert 8 <= blurred <= 32
    np.testing.assert_array_equal(images[3], made(IMAGE, seed(3)))
    never = blur.Blur(probability=0.0)
    assert all(np.array_equal(never(IMAGE, seed(n)), IMAGE.astype(np.float32)) for n in range(5))
    roughness = [np.abs(np.diff(image, axis=1)).mean() for image in images
                 if np.abs(image - IMAGE).max() > 1e-3]
    assert min(roughness) < 0.6 * max(roughness)  # widths differ


def test_no_pixel_moves_and_padding_keeps_its_colour():
    label = np.random.default_rng(2).integers(0, 5, IMAGE.shape[:2]).astype(np.uint8)
    strong = recipes.Recipe(blur=blur.Blur(probability=1.0, least=1.0))
    assert strong.plain == recipes.Recipe() and strong.changes_looks
    assert not strong.plain.changes_looks
    for n in range(6):
        image, ids = strong.apply(IMAGE, label, (33, 25), seed(n), (1.0, 2.0, 3.0))
        plain, plain_ids = strong.plain.apply(IMAGE, label, (33, 25), seed(n), (1.0, 2.0, 3.0))
        np.testing.assert_array_equal(ids, plain_ids)
        assert (image[15:].numpy() == [1.0, 2.0, 3.0]).all()
        assert np.abs(image.numpy() - plain.numpy()).max() > 5.0
        # A blur is symmetric: it fits best where it is.
        fits = {shift: np.corrcoef(image.numpy()[:15, 2:-2].ravel(), np.roll(
            plain.numpy(), shift, 1)[:15, 2:-2].ravel())[0, 1] for shift in (-1, 0, 1)}
        assert max(fits, key=fits.get) == 0


def test_by_name_and_by_gin():
    configuration.parse([], ['blur.most = 3.0'])
    both = recipes.make_recipe('hung+photometric+blur')
    assert both.blur == blur.Blur(most=3.0) and both.photometric is not None
    assert recipes.make_recipe('hung+photometric').blur is None
    configuration.parse([], [])
    with pytest.raises(UserError, match='option of an augmentation'):
        recipes.make_recipe('hung+blurr')


@pytest.mark.parametrize('given, words', [
    ({'probability': 1.5}, 'blur.probability'), ({'least': 0}, 'blur.least'),
    ({'least': 3.0}, 'above blur.most'), ({'most': 'wide'}, 'blur.most')])
def test_out_of_range_is_one_line(given, words):
    with pytest.raises(UserError, match=words):
        blur.Blur(**given)
