"""Masks through training: which moments are shown, and what stands where."""
import numpy as np
import pytest

from tf_advseg.reporting import panels
from tf_advseg.reporting.paper_figures import training_masks

PALETTE = ((10, 20, 30), (200, 100, 50), (0, 255, 0), (90, 90, 200))
CELL = 24


def masks(steps, value=None, images=2, shape=(12, 16)):
    return {step: [np.full(shape, step % 4 if value is None else value, np.uint8)
                   for _ in range(images)] for step in steps}


def make_images(count=2, shape=(12, 16)):
    return [(np.full((*shape, 3), 77, np.uint8), np.full(shape, 3, np.uint8))
            for _ in range(count)]


def centres(panel, row, columns):
    """The colours in the middle of a row's cells; cells are 24 wide and 18 high."""
    top = 26 + row * (18 + 6 + 20)
    return [tuple(panel[top + 9, 6 + column * (CELL + 6) + CELL // 2])
            for column in range(columns)]


def test_steps_are_the_first_the_last_and_spread_between():
    steps = range(0, 1000, 100)
    assert training_masks.chosen_steps({'a': masks(steps)}) == [0, 200, 400, 700, 900]
    assert training_masks.chosen_steps({'a': masks(steps)}, most=2) == [0, 900]
    assert training_masks.chosen_steps({'a': masks([7])}) == [7]
    assert training_masks.chosen_steps({'a': masks([9, 3, 5]), 'b': masks([3, 9, 11])}) == [3, 9]
    assert training_masks.chosen_steps({'a': masks([3]), 'b': masks([1])}) == [1, 3]
    assert training_masks.chosen_steps({'a': masks([3]), 'b': {}}) == [3]
    assert training_masks.chosen_steps({}) == []


def test_the_control_stands_below_the_method():
    panel = training_masks.masks_over_time(
        make_images(), {'Durall': masks((0, 1, 2)), 'control (CE)': masks((0, 1, 2), value=3)},
        PALETTE, captions=('p', 'q'), cell_width=CELL)
    assert panel.dtype == np.uint8
    for number in (0, 2):
        assert centres(panel, number, 5) == [(77,) * 3, PALETTE[3], *PALETTE[:3]]
        assert centres(panel, number + 1, 5) == [(255,) * 3] * 2 + [PALETTE[3]] * 3
    assert panel.shape == (26 + 4 * 44, 6 + 5 * 30, 3)


def test_what_a_network_has_not_is_an_empty_cell():
    panel = training_masks.masks_over_time(
        make_images(1), {'Durall': masks((1,), images=1), 'control': masks((2,), images=1)},
        PALETTE, cell_width=CELL)
    assert centres(panel, 0, 4)[2:] == [PALETTE[1], (255,) * 3]
    assert centres(panel, 1, 4)[2:] == [(255,) * 3, PALETTE[2]]


def test_unlabelled_pixels_are_black_in_every_mask():
    image, truth = make_images(1)[0]
    truth[:] = panels.IGNORE
    panel = training_masks.masks_over_time([(image, truth)], {'a': masks((1, 2), images=1)},
                                           PALETTE, cell_width=CELL)
    assert centres(panel, 0, 4)[1:] == [(0, 0, 0)] * 3


def test_one_network_and_a_legend_and_sizes_of_their_own():
    shown = make_images(1) + make_images(1, (20, 10))
    found = {step: masks((step,), images=1)[step] + masks((step,), 1, 1, (20, 10))[step]
             for step in (0, 5)}
    bare = training_masks.masks_over_time(shown, {'a': found}, PALETTE, cell_width=CELL)
    named = training_masks.masks_over_time(shown, {'a': found}, PALETTE, ('w', 'x', 'y', 'z'),
                                           cell_width=CELL)
    assert named.shape[1] == bare.shape[1] and named.shape[0] > bare.shape[0]


def test_nothing_to_show_and_masks_that_do_not_fit():
    assert training_masks.masks_over_time(make_images(), {'a': {}}, PALETTE) is None
    assert training_masks.masks_over_time([], {'a': {3: []}}, PALETTE) is None
    with pytest.raises(ValueError, match='a has 1 masks at step 3 for 2 images'):
        training_masks.masks_over_time(make_images(), {'a': masks((3,), images=1)}, PALETTE)
