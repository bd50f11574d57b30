"""Windows: every pixel is seen, and what was cut is put back where it was."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tf_advseg.core.errors import UserError
from tf_advseg.evaluation import sliding_window

GREY = (127.5,) * 3


@given(side=some.integers(1, 300), window=some.integers(1, 120),
       overlap=some.floats(0.0, 0.95))
@settings(max_examples=200, deadline=None)
def test_every_pixel_is_seen_and_no_window_leaves_the_image(side, window, overlap):
    starts = sliding_window.places(side, window, overlap)
    seen = np.zeros(side, int)
    for start in starts:
        assert 0 <= start and (start + window <= side or starts == [0])
        seen[start:start + window] += 1
    assert seen.all() and starts == sorted(set(starts))
    # No more windows than the step asks for: one fewer would leave a gap wider than a step.
    step = max(1, round(window * (1 - overlap)))
    assert len(starts) == 1 + max(0, -(-(side - window) // step))


def test_half_of_a_window_is_seen_twice():
    assert sliding_window.places(1025, 513) == [0, 256, 512]
    assert sliding_window.places(513, 513) == [0]
    assert sliding_window.places(20, 8, 0.0) == [0, 8, 12]


@given(height=some.integers(1, 40), width=some.integers(1, 40), window_height=some.integers(1, 20),
       window_width=some.integers(1, 20), overlap=some.sampled_from([0.0, 0.3, 0.5, 0.8]))
@settings(max_examples=60, deadline=None)
def test_what_is_only_copied_comes_back(height, width, window_height, window_width, overlap):
    image = np.random.default_rng(height * 41 + width).uniform(
        0, 255, (height, width, 3)).astype(np.float32)

    def copied(windows):
        for window in windows:
            assert window.shape == (window_height, window_width, 3)
            yield window

    found = sliding_window.average(image, (window_height, window_width), GREY, copied, overlap)
    np.testing.assert_allclose(found, image, rtol=1e-5)


def test_the_mean_is_over_the_windows_that_see_a_pixel():
    numbers = iter(range(10))

    def numbered(windows):
        for window in windows:
            yield np.full((*window.shape[:2], 1), next(numbers), np.float32)

    found = sliding_window.average(np.zeros((1, 8, 3), np.float32), (1, 4), GREY, numbered)
    np.testing.assert_array_equal(found[0, :, 0], [0, 0, 0.5, 0.5, 1.5, 1.5, 2, 2])


def test_a_small_image_is_padded_at_the_bottom_and_the_right():
    shown = []

    def kept(windows):
        for window in windows:
            shown.append(window.copy())
            yield window[..., :1]

    image = np.full((2, 9, 3), 7.0, np.float32)
    found = sliding_window.average(image, (4, 4), (1.0, 2.0, 3.0), kept)
    assert found.shape == (2, 9, 1) and (found == 7.0).all()
    assert all((window[:2] == 7.0).all() and (window[2:] == (1.0, 2.0, 3.0)).all()
               for window in shown)


def test_windows_that_are_none_are_refused():
    assert sliding_window.require_window(None) is None
    assert sliding_window.require_window(33) == (33, 33)
    assert sliding_window.require_window([17, 33], 0.0) == (17, 33)
    with pytest.raises(UserError, match='window 0x5: expected sides of at least 1'):
        sliding_window.require_window((0, 5))
    for overlap in (-0.1, 1.0, 2.0):
        with pytest.raises(UserError, match='overlap'):
            sliding_window.require_window(33, overlap)
