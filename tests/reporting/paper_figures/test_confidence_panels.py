"""The confidence maps' panel: its colours are where the arrays say, its captions count."""
import dataclasses

import numpy as np
import pytest

from tf_advseg.reporting.paper_figures import confidence_panels as panels_lib

PALETTE, NAMES = ((10, 20, 200), (200, 180, 30)), ('sky', 'ground')
CELL = panels_lib._CELL


def made(side=12, **fields):
    """A row of 12 x 12 pixels and 4 x 4 points: right above, wrong below, one without a label."""
    labels = np.zeros((4, 4), np.uint8)
    labels[0, 0] = 255
    ids = np.zeros((4, 4), int)
    ids[2:] = 1
    disc = np.tile(np.linspace(0, 1, 4, dtype=np.float32), (4, 1))  # rises to the right
    row = panels_lib.Row('an image', np.full((side, side, 3), 99, np.uint8),
                         np.zeros((side, side), np.uint8), ids, labels,
                         np.full((4, 4), 0.75), disc)
    return dataclasses.replace(row, **fields)


def cells(panel, columns):
    """Cells of the first row, as arrays."""
    step = CELL + 6
    return [panel[26:26 + CELL, 6 + step * number:6 + step * number + CELL]
            for number in range(columns)]


def at(cell, row, column):
    """The colour in the middle of one of the 4 x 4 points, whose middles lie at the corners."""
    places = [round(CELL * (0.5 + 11 * place / 3) / 12) for place in (row, column)]
    return tuple(int(value) for value in cell[places[0], places[1]])


def test_every_column_shows_what_it_says():
    panel = panels_lib.confidence_panel([made()], PALETTE, NAMES, 0.2)
    assert panel.dtype == np.uint8 and panel.shape[1] == 6 + 7 * (CELL + 6)
    image, truth, prediction, disc, softmax, selected, errors = cells(panel, 7)
    assert at(image, 1, 1) == (99, 99, 99) and at(truth, 1, 1) == PALETTE[0]
    assert at(prediction, 1, 1) == PALETTE[0] and at(prediction, 3, 1) == PALETTE[1]
    assert [at(disc, 1, column)[0] for column in range(4)] == [0, 85, 170, 255]
    assert at(softmax, 2, 2) == (191,) * 3
    assert at(selected, 0, 0) == panels_lib.UNLABELLED and at(selected, 1, 0) == panels_lib.PASSED
    assert at(selected, 1, 3) == panels_lib.RIGHT and at(selected, 3, 3) == panels_lib.WRONG
    assert at(errors, 1, 3) == panels_lib.PASSED and at(errors, 3, 0) == panels_lib.WRONG


def test_without_a_discriminator_the_softmax_selects():
    panel = panels_lib.confidence_panel([made(disc=None)], PALETTE, NAMES, 0.9)
    *_, selected, errors = cells(panel, 6)
    assert at(selected, 1, 3) == panels_lib.PASSED and at(errors, 3, 3) == panels_lib.WRONG
    everything = panels_lib.confidence_panel([made(disc=None)], PALETTE, NAMES, 0)
    assert at(cells(everything, 6)[4], 1, 3) == panels_lib.RIGHT


@pytest.mark.parametrize('threshold, text', (
    (0.2, '80.0 % selected, 50.0 % of it right (of all 46.7 % right): an image'),
    (1.0, 'nothing selected, 46.7 % right: an image')))
def test_captions_count_labelled_points(monkeypatch, threshold, text):
    seen = []
    grid = panels_lib.panels.panel_grid
    monkeypatch.setattr(panels_lib.panels, 'panel_grid', lambda rows, titles, palette, names,
                        captions, *rest: seen.extend(captions) or grid(rows, titles, palette,
                                                                       names, captions, *rest))
    panels_lib.confidence_panel([made()], PALETTE, NAMES, threshold)
    assert seen == [text]
    panels_lib.confidence_panel([made(labels=np.full((4, 4), 255))], PALETTE, NAMES, threshold)
    assert seen[1] == 'no point has a label: an image'


def test_a_class_without_a_name_is_black():
    panel = panels_lib.confidence_panel([made(ids=np.full((4, 4), -1))], PALETTE, NAMES, 0.2)
    assert at(cells(panel, 7)[2], 1, 1) == (0, 0, 0)


def test_points_at_pixels_are_the_nearest():
    values = np.arange(4)[:, None] * 10 + np.arange(5)
    np.testing.assert_array_equal(panels_lib.at_pixels(values, (4, 5)), values)
    np.testing.assert_array_equal(panels_lib.at_pixels(values, (13, 17))[::4, ::4], values)
    assert panels_lib.at_pixels(values[..., None], (1, 1)).shape == (1, 1, 1)


@pytest.mark.parametrize('rows, text', (
    ([], '0 rows, expected 1'), ([made(), made(disc=None)], 'all with a discriminator or none'),
    ([made(disc=np.full((4, 4), 3.0))], 'are they logits'),
    ([made(softmax=np.zeros((3, 4)))], 'an image: maps of shapes')))
def test_what_cannot_be_drawn_is_told(rows, text):
    with pytest.raises(ValueError, match=text):
        panels_lib.confidence_panel(rows, PALETTE, NAMES, 0.2)
