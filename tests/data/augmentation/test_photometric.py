"""Light and colour: keras-cv's layers by a stateless draw, the image alone, in range."""
import subprocess
import sys

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core import runtime
from tf_advseg.core.errors import UserError
from tf_advseg.data.augmentation import photometric
from tf_advseg.data.augmentation import recipes
from tf_advseg.data.augmentation.photometric import Photometric

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
NONE = {'brightness': 0.0, 'contrast': 0.0, 'saturation': 0.0, 'hue': 0.0, 'probability': 1.0}


def seed(number):
    return tf.constant([number, 11])


def changed(number=0, image=IMAGE, **strengths):
    return Photometric(**{**NONE, **strengths})(image, seed(number)).numpy()


def test_it_is_a_function_of_the_seed_alone():
    """Also in a graph, after other draws, and from one pipeline to the next."""
    full = Photometric(probability=1.0)
    first = full(IMAGE, seed(3)).numpy()
    tf.random.uniform([7])
    np.testing.assert_array_equal(first, full(IMAGE, seed(3)))
    mapped = tf.data.Dataset.range(6).map(
        lambda n: full(IMAGE, tf.stack([tf.cast(n, tf.int32), 11])), num_parallel_calls=2)
    for _ in range(2):
        found = list(mapped.as_numpy_iterator())
        np.testing.assert_allclose(found[3], first, atol=1e-3)
        assert len({f.tobytes() for f in found}) == 6


@hypothesis.given(st.integers(0, 2 ** 31 - 1), st.integers(0, 4))
@hypothesis.settings(deadline=None, max_examples=30)
def test_values_stay_colours(number, extreme):
    strongest = {'brightness': 1.0, 'contrast': 1.0, 'saturation': 1.0, 'hue': 0.5}
    given = [IMAGE, np.zeros_like(IMAGE), np.full_like(IMAGE, 255), IMAGE // 255 * 255,
             IMAGE[:1, :1]][extreme]
    image = changed(number, given, **strongest)
    assert image.dtype == np.float32 and image.shape == given.shape
    assert np.isfinite(image).all() and image.min() >= 0.0 and image.max() <= 255.001


def test_nothing_asked_for_is_nothing_done():
    np.testing.assert_allclose(changed(), IMAGE, atol=1e-2)
    np.testing.assert_array_equal(changed(probability=0.0, brightness=1.0, hue=0.5), IMAGE)


def test_each_strength_does_its_own_and_keeps_its_bound():
    lighter = np.array([(changed(n, IMAGE // 2 + 64, brightness=0.2)
                         - (IMAGE // 2 + 64)).mean() for n in range(40)])
    assert np.abs(lighter).max() <= 51.0 + 1e-3 and lighter.min() < -25 and lighter.max() > 25
    middling = IMAGE // 4 + 96
    spread = [changed(n, middling, contrast=0.5).std() / middling.std() for n in range(40)]
    assert 0.49 <= min(spread) < 0.75 and 1.25 < max(spread) <= 1.51
    hsv = tf.image.rgb_to_hsv(middling / np.float32(255)).numpy()
    for n in range(10):
        other = tf.image.rgb_to_hsv(changed(n, middling, saturation=0.5) / 255.0).numpy()
        ratio = np.median(other[..., 1] / np.maximum(hsv[..., 1], 1e-3))
        assert 0.49 <= ratio <= 1.51
        np.testing.assert_allclose(other[..., 2], hsv[..., 2], atol=1e-3)
        other = tf.image.rgb_to_hsv(changed(n, middling, hue=0.1) / 255.0).numpy()
        turn = (other[..., 0] - hsv[..., 0] + 0.5) % 1.0 - 0.5
        assert np.median(np.abs(turn)) <= 0.1 + 1e-3
        np.testing.assert_allclose(other[..., 1:], hsv[..., 1:], atol=2e-3)


def test_each_change_is_made_in_its_share_of_the_draws():
    untouched = [np.array_equal(Photometric(probability=0.5, brightness=0.1, contrast=0.1,
                                            saturation=0.1, hue=0.1)(IMAGE, seed(n)), IMAGE)
                 for n in range(160)]
    assert 1 <= sum(untouched) <= 25  # a sixteenth


def test_it_is_keras_cvs_layers_that_change_the_image():
    layers = runtime.import_keras_cv().layers
    strengths = {'brightness': 0.2, 'contrast': 0.4}
    draws = tf.random.stateless_uniform([2, 4], tf.random.experimental.stateless_fold_in(
        seed(5), photometric._PHOTOMETRIC))
    brightness, contrast = (2 * draws[0] - 1)[:2]
    delta = float(0.2 * brightness)
    expected = layers.RandomBrightness((delta, delta), value_range=(0, 255), seed=1)(
        IMAGE.astype(np.float32))
    factor = float(0.4 * contrast)
    expected = layers.RandomContrast(value_range=(0, 255), factor=(-factor, factor), seed=1)(
        expected)
    np.testing.assert_allclose(changed(5, **strengths), expected, atol=2e-2)


def test_labels_and_padding_keep_what_they_were():
    label = np.random.default_rng(1).integers(0, 5, (20, 24)).astype(np.uint8)
    plain = recipes.Recipe()
    coloured = recipes.Recipe(photometric=Photometric(probability=1.0))
    moved = 0
    for n in range(8):
        image, ids = plain.apply(IMAGE, label, (33, 17), seed(n), (1.0, 2.0, 3.0))
        other, other_ids = coloured.apply(IMAGE, label, (33, 17), seed(n), (1.0, 2.0, 3.0))
        np.testing.assert_array_equal(ids, other_ids)
        np.testing.assert_array_equal(other[20:], image[20:])
        assert (other[20:].numpy() == [1.0, 2.0, 3.0]).all()
        moved += np.abs(other[:20] - image[:20]).max() > 5.0
        # The label says where the image was cut and whether it was mirrored: so must the image.
        cut = Photometric(probability=1.0)
        still, _ = recipes.Recipe(flip=False).apply(IMAGE, label, (33, 17), seed(n))
        mirrored = not np.array_equal(still[:20], image[:20])
        expected = cut(still[:20], seed(n)).numpy()
        np.testing.assert_allclose(other[:20], expected[:, ::-1] if mirrored else expected,
                                   atol=1e-3)
    assert moved >= 6


def test_strengths_out_of_range_are_refused():
    for strengths in ({'brightness': 1.1}, {'hue': 0.6}, {'contrast': -0.1}, {'saturation': 'all'},
                      {'probability': True}):
        with pytest.raises(UserError, match=f'photometric.{list(strengths)[0]} = '):
            Photometric(**strengths)


@pytest.mark.slow
def test_it_works_under_op_determinism_and_mixed_precision():
    """In a process of its own: both are settings of a process."""
    script = '''
from tf_advseg.core import runtime
tf = runtime.configure(deterministic=True)
tf.keras.mixed_precision.set_global_policy('mixed_bfloat16')
from tf_advseg.data.augmentation.photometric import Photometric
full = Photometric(probability=1.0)
data = tf.data.Dataset.range(4).map(lambda n: full(tf.ones([4, 4, 3]) * 77.25,
    tf.stack([tf.cast(n, tf.int32), 1])), num_parallel_calls=2)
print([float(image[0, 0, 0]) for image in data], next(iter(data)).dtype.name)
'''
    found = {subprocess.run([sys.executable, '-c', script], capture_output=True, text=True,
                            check=True).stdout for _ in range(2)}
    assert len(found) == 1 and 'float32' in found.pop()
