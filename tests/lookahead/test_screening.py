"""Screening: what gradients have in common, on vectors whose truth is known; sketches."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.lookahead import screening


def drawn(count, size=400, common=0.0, seed=0):
    """Vectors of random directions, each with `common` times one shared unit vector on top."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(count, size)) / np.sqrt(size)
    shared = np.zeros(size)
    shared[0] = 1.0
    return noise + common * shared


def test_unrelated_gradients_have_no_signal_and_point_nowhere():
    found = screening.measure(drawn(80), drawn(40, seed=1), samples=300)
    assert found['signal_interval'][0] <= 0.0 < found['signal_interval'][1]
    assert abs(found['signal']) < 0.15 and found['chance'] > 0.025
    assert found['plain_signal'] == pytest.approx(80 ** -0.5, rel=0.2)
    made = screening.Screening(**found, cues={})
    assert made.points_nowhere and 'points nowhere' in made.text()
    assert made.to_json()['points_nowhere'] is True


@pytest.mark.parametrize('common', [0.1, 0.5, 2.0])
def test_a_shared_direction_is_found_with_its_size_and_its_cosine(common):
    """However much noise lies on it: a true cosine of 1 is found as one."""
    found = screening.measure(drawn(200, common=common), drawn(60, common=common, seed=2),
                              samples=300)
    expected = common / np.sqrt(1.0 + common ** 2)
    low, high = found['signal_interval']
    assert low - 0.02 < expected < high + 0.02
    assert found['signal'] == pytest.approx(expected, abs=0.05) and found['chance'] < 0.01
    assert found['cosine'] == pytest.approx(1.0, abs=0.3 if common < 0.2 else 0.05)
    assert found['cosine_interval'][0] <= found['cosine'] <= found['cosine_interval'][1]
    assert not screening.Screening(**found, cues={}).points_nowhere


def test_directions_at_a_right_angle_have_a_cosine_of_zero():
    other = drawn(60, seed=3)
    other[:, 1] += 1.0
    found = screening.measure(drawn(60, common=1.0), other, samples=200)
    low, high = found['cosine_interval']
    assert low < 0.05 and high > -0.05 and abs(found['cosine']) < 0.15


def test_few_images_give_figures_and_no_intervals():
    found = screening.measure(drawn(3, common=1.0), drawn(3, common=1.0, seed=4), samples=50)
    made = screening.Screening(**found, cues={})
    assert found['signal_interval'] is None and found['chance'] is None
    assert made.points_nowhere is None and 'points nowhere' not in made.text()
    assert np.isfinite(found['signal'])


def test_the_cosine_has_the_sign_of_the_direction():
    found = screening.measure(drawn(60, common=1.0), -drawn(60, common=1.0, seed=3), samples=200)
    assert found['cosine_interval'][1] < 0.0 and found['ce_signal'] > 0.5


def test_a_discriminator_that_has_learnt_nothing_is_named():
    found = screening.measure(drawn(60, common=1.0), np.zeros((0, 400)), samples=50)
    for accuracy, loss, blind in ((0.51, None, True), (0.9, 0.3, False), (None, None, False),
                                  (0.62, 0.688, True), (0.62, 0.60, False)):
        made = screening.Screening(**found, cues={}, accuracy=accuracy, log_loss=loss)
        assert made.blind == blind == ('learnt next to nothing' in made.text())
        assert not made.points_nowhere


def test_without_unseen_images_there_is_no_cosine():
    found = screening.measure(drawn(20), np.zeros((0, 400)), samples=50)
    assert found['cosine'] is None and found['cosine_interval'] is None and found['unseen'] == 0
    assert 'cosine' not in screening.Screening(**found, cues={}).text()


def test_sketches_keep_inner_products():
    variables = [tf.Variable(tf.zeros([40, 30])), tf.Variable(tf.zeros([500]))]
    sketch = screening.Sketcher(variables, bins=2 ** 14)
    generator = np.random.default_rng(5)
    vectors = generator.normal(size=(6, 1700)).astype(np.float32)
    vectors[:, :50] += 2.0
    short = np.stack([sketch(tf.constant(vector)) for vector in vectors])
    exact, found = vectors @ vectors.T, short @ short.T
    lengths = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    assert np.abs((found - exact) / lengths).max() < 0.06
