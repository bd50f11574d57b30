"""Images beside what is reconstructed of them: what stands where, and what cannot be shown."""
import numpy as np
import pytest

from tf_advseg.reporting import panels
from tf_advseg.reporting.paper_figures import reconstruction_panels
from tf_advseg.reporting.paper_figures.reconstruction_panels import BASELINE, METHOD, TRUTH

PALETTE = ((10, 20, 30), (200, 100, 50))
WIDTH, BAR, GAP = 220, 26, 6


def grey(value, shape=(11, 22)):
    return np.full((*shape, 3), value, np.uint8)


def row(shape=(11, 22), **values):
    """An image of 77 under class 1, and reconstructed ones of a grey each."""
    names = {'truth': TRUTH, 'ce': BASELINE, 'zhu': METHOD}
    return (grey(77, shape), np.ones(shape, np.int32),
            {names.get(name, name): grey(value) for name, value in values.items()})


def centres(panel, columns, top=BAR, height=110):
    """The colours in the middle of a row's cells."""
    return [tuple(panel[top + height // 2, GAP + column * (WIDTH + GAP) + WIDTH // 2])
            for column in range(columns)]


def test_columns_have_one_order_whatever_the_rows_name_first():
    rows = [row(ce=2, truth=1), row(mine=9, zhu=3, truth=1, ce=2)]
    panel = reconstruction_panels.reconstruction_panel(rows, PALETTE, None)
    assert panel.dtype == np.uint8 and panel.shape == (BAR + 2 * 116, GAP + 6 * (WIDTH + GAP), 3)
    shown = [(77,) * 3, PALETTE[1], (1,) * 3, (2,) * 3]
    assert centres(panel, 6) == shown + [(255,) * 3] * 2         # what the first has not is empty
    assert centres(panel, 6, BAR + 116) == shown + [(3,) * 3, (9,) * 3]


def test_titles_are_not_cut():
    ruler = panels.ImageDraw.Draw(panels.Image.new('RGB', (1, 1)))
    for title in (TRUTH, BASELINE, METHOD, 'reconstructed from SegWGAN'):
        assert panels.fit(ruler, title, panels.font(13), WIDTH) == title


def test_redrawn_images_get_the_size_of_their_row_by_nearest_points():
    halves = np.concatenate([grey(0, (4, 3)), grey(200, (4, 3))], 1)
    image = grey(77, (110, 220))
    panel = reconstruction_panels.reconstruction_panel([(image, None, {TRUTH: halves})], PALETTE,
                                                       None)
    left = GAP + 2 * (WIDTH + GAP)
    cell = panel[BAR:BAR + 110, left:left + WIDTH]
    # No colour between the two: nothing was blurred, and the whole cell is filled.
    assert (cell[:, :110] == 0).all() and (cell[:, 110:] == 200).all()
    assert centres(panel, 2) == [(77,) * 3, (255,) * 3]          # no truth, an empty cell


def test_rows_of_sizes_of_their_own_names_and_a_legend():
    rows = [row(truth=1), row(shape=(22, 22), truth=4)]
    bare = reconstruction_panels.reconstruction_panel(rows, PALETTE, None)
    named = reconstruction_panels.reconstruction_panel(rows, PALETTE, ('wall', 'door'), ['p', 'q'])
    assert bare.shape[0] == BAR + 110 + 220 + 2 * GAP
    assert centres(bare, 3, BAR + 116, 220)[2] == (4,) * 3
    assert named.shape[1] == bare.shape[1] and named.shape[0] > bare.shape[0] + 2 * 20
    assert (named[BAR + 110:BAR + 130] < 128).any()              # the name below the first row


@pytest.mark.parametrize('rows, ids, words', [
    ([], None, '0 rows with no ids'), ([row(truth=1)], ['p', 'q'], '1 rows with 2 ids'),
    ([(grey(1), np.ones((3, 3), int), {})], None, 'a truth of shape'),
    ([(grey(1), None, {TRUTH: np.zeros((4, 4, 3), np.float32)})], None,
     'reconstructed from the truth: float32 .* brought to 0..255'),
    ([(grey(1)[..., 0], None, {})], None, 'image: uint8 of shape'),
    ([(grey(1), np.full((11, 22), 7), {})], None, 'class id 7 has no colour')])
def test_what_cannot_be_shown_is_said(rows, ids, words):
    with pytest.raises(ValueError, match=words):
        reconstruction_panels.reconstruction_panel(rows, PALETTE, None, ids)
