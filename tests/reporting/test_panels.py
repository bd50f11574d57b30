"""Panels: colours, palette PNGs, grids."""
import io

import numpy as np
import pytest
from PIL import Image

from tf_advseg.core.errors import UserError
from tf_advseg.reporting import panels

PALETTE = ((10, 20, 30), (200, 100, 50), (0, 255, 0))


@pytest.fixture
def ids():
    return np.array([[0, 1, 2], [255, 2, 1]], np.uint8)


def test_colourise(ids):
    colours = panels.colourise(ids, PALETTE)
    assert colours.dtype == np.uint8 and colours.shape == (2, 3, 3)
    assert tuple(colours[0, 1]) == PALETTE[1] and tuple(colours[1, 0]) == (0, 0, 0)


@pytest.mark.parametrize('bad', [np.array([[3]]), np.array([[-1]]), np.array([[254]])])
def test_an_id_without_colour_is_refused(bad):
    with pytest.raises(ValueError, match='has no colour'):
        panels.colourise(bad, PALETTE)


def test_overlay_shows_the_image_where_unlabelled(ids):
    image = np.full((2, 3, 3), 100, np.uint8)
    mixed = panels.overlay(image, ids, PALETTE, alpha=0.5)
    assert tuple(mixed[1, 0]) == (100, 100, 100)
    assert tuple(mixed[0, 1]) == (150, 100, 75)
    assert np.array_equal(panels.overlay(image, ids, PALETTE, alpha=0.0), image)
    with pytest.raises(ValueError, match='shape'):
        panels.overlay(image[:1], ids, PALETTE)


def test_half_and_half_in_whole_numbers_is_the_definition():
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (40, 50, 3), np.uint8)
    ids = random.choice(np.array([0, 1, 2, 255], np.uint8), (40, 50))
    mixed = panels.overlay(image, ids, PALETTE)
    np.testing.assert_array_equal(mixed, panels.overlay(image.astype(np.float32), ids, PALETTE))
    np.testing.assert_array_equal(mixed[ids == 255], image[ids == 255])
    assert mixed.dtype == np.uint8


def test_palette_png_holds_ids_and_colours(ids, tmp_path):
    panels.write_palette_png(tmp_path / 'map.png', ids, PALETTE)
    with Image.open(tmp_path / 'map.png') as image:
        assert image.mode == 'P'
        assert np.array_equal(np.array(image), ids)
        assert np.array_equal(np.array(image.convert('RGB')), panels.colourise(ids, PALETTE))
    assert [p.name for p in tmp_path.iterdir()] == ['map.png']


def test_nothing_is_left_where_a_map_is_wrong(tmp_path):
    with pytest.raises(ValueError):
        panels.write_palette_png(tmp_path / 'map.png', np.full((2, 2), 9), PALETTE)
    with pytest.raises(UserError):
        panels.write_palette_png(tmp_path / 'absent' / 'map.png', np.zeros((2, 2)), PALETTE)
    assert list(tmp_path.iterdir()) == []


def test_mask_row_blanks_what_the_truth_leaves_out(ids):
    image = np.zeros((2, 3, 3), np.uint8)
    guess = np.ones_like(ids)
    row = panels.mask_row(image, ids, [guess, None])
    assert row[2][1, 0] == 255 and (row[2] == 1).sum() == 5 and row[3] is None
    assert panels.mask_row(image, ids, [guess], blank_ignored=False)[2][1, 0] == 1
    assert np.array_equal(panels.mask_row(image, None, [guess])[2], guess)


def test_grid_places_every_cell(ids):
    image = np.full((20, 30, 3), 77, np.uint8)
    mask = np.full((20, 30), 1, np.uint8)
    grid = panels.panel_grid([[image, mask, None], [image[:, :15], mask[:, :15] * 2, mask]],
                             ['image', 'truth', 'a title that is far too long for its column'],
                             PALETTE, cell_width=60)
    assert grid.dtype == np.uint8 and grid.shape[2] == 3
    assert grid.shape[1] == 6 + 3 * 66
    colours = {tuple(c) for c in grid.reshape(-1, 3)}
    assert {(77, 77, 77), PALETTE[1], PALETTE[2]} <= colours
    # Masks are enlarged without new colours: the first row's mask is one flat block.
    assert (grid == np.array(PALETTE[1])).all(-1).sum() >= 60 * 40 + 60 * 40


def test_legend_and_captions_make_room(ids):
    rows = [[ids, ids]]
    bare = panels.panel_grid(rows, ['a', 'b'], PALETTE, cell_width=60)
    full = panels.panel_grid(rows, ['a', 'b'], PALETTE, ['sky', 'road', 'water' * 5],
                             captions=['row one'], cell_width=60)
    assert full.shape[0] > bare.shape[0] + 20 + 2 * 22 and full.shape[1] == bare.shape[1]


def test_grid_of_no_rows_and_wrong_rows(ids):
    assert panels.panel_grid([], ['a'], PALETTE).shape[0] > 0
    with pytest.raises(ValueError, match='1 entries under 2 titles'):
        panels.panel_grid([[ids]], ['a', 'b'], PALETTE)


def test_png_bytes_read_back(ids, tmp_path):
    image = panels.colourise(ids, PALETTE)
    again = np.array(Image.open(io.BytesIO(panels.encode_png(image))))
    assert np.array_equal(again, image)
    panels.write_png(tmp_path / 'x.png', image)
    assert (tmp_path / 'x.png').read_bytes() == panels.encode_png(image)
