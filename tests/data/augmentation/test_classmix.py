"""ClassMix: which classes are drawn, and which pixels are theirs."""
import numpy as np
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.data.augmentation import classmix

PRESENT = np.array([[1, 1, 1, 1, 0, 0], [0, 1, 0, 1, 0, 1], [0, 0, 0, 1, 0, 0], [0] * 6], bool)


def drawn(step, probability=1.0, present=PRESENT):
    return classmix.ClassMix(probability).drawn(present, np.array([step, 7], np.int32)).numpy()


def test_half_of_the_classes_present_are_drawn_rounded_down():
    for step in range(20):
        found = drawn(step)
        assert found.sum(1).tolist() == [2, 1, 0, 0] and not (found & ~PRESENT).any()


def test_draws_are_of_the_seed_and_all_classes_come_alike():
    np.testing.assert_array_equal(drawn(3), drawn(3))
    draws = np.array([drawn(step) for step in range(600)])
    assert len({found.tobytes() for found in draws}) == 6 * 3  # pairs of four, one of three
    # Half and a third of the steps: 5 standard deviations of a share of 600.
    np.testing.assert_allclose(draws[:, 0, :4].mean(0), 1 / 2, atol=5 * np.sqrt(1 / 4 / 600))
    np.testing.assert_allclose(draws[:, 1, [1, 3, 5]].mean(0), 1 / 3,
                               atol=5 * np.sqrt(2 / 9 / 600))


def test_an_image_is_mixed_with_a_probability():
    shares = [np.mean([drawn(step, probability)[0].any() for step in range(400)])
              for probability in (0.0, 0.3, 1.0)]
    assert shares[0] == 0.0 and shares[2] == 1.0
    assert abs(shares[1] - 0.3) < 5 * np.sqrt(0.21 / 400)


def test_classes_present_and_their_pixels_are_those_that_count():
    random = np.random.default_rng(1)
    classes = random.integers(0, 4, (3, 6, 7)).astype(np.int32)
    valid = random.uniform(size=classes.shape) > 0.3
    valid[2] = False
    classes[0][classes[0] == 1] = 0
    found = classmix.present_classes(classes, valid, 4).numpy()
    for row in range(3):
        assert set(np.flatnonzero(found[row])) == set(classes[row][valid[row]].tolist())
    assert not found[2].any() and not found[0, 1]
    chosen = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [1, 1, 1, 1]], bool)
    expected = np.array([chosen[row][classes[row]] & valid[row] for row in range(3)])
    np.testing.assert_array_equal(classmix.pixels_of(chosen, classes, valid), expected)


def test_nothing_is_cut_where_batches_are_made():
    box = classmix.ClassMix().box(np.array([1, 2], np.int32), (4, 5))
    assert box.shape == (4, 5) and not box.numpy().any()


def test_a_label_gives_all_pixels_of_half_of_its_classes():
    random = np.random.default_rng(2)
    label = random.choice([0, 2, 3, 17, 254, 255], (9, 11)).astype(np.uint8)
    for step in range(12):
        mask = classmix.ClassMix(1.0).given(label, np.array([step, 7], np.int32)).numpy()
        classes = set(label[mask].tolist())
        assert len(classes) == 2 and 255 not in classes  # of five
        np.testing.assert_array_equal(mask, np.isin(label, list(classes)))
    for alone in (np.full((2, 3), 255, np.uint8), np.array([[4, 4, 255]], np.int32)):
        assert not classmix.ClassMix(1.0).given(alone, np.array([1, 2], np.int32)).numpy().any()


@pytest.mark.parametrize('value', [-0.1, 1.5, 'often'])
def test_a_probability_that_is_none_is_one_line(value):
    with pytest.raises(UserError, match='classmix.probability') as caught:
        classmix.ClassMix(value)
    assert '\n' not in str(caught.value)
