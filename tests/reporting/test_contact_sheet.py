"""Contact sheets: every image is there, at its place, with what its label says."""
import io

import numpy as np
import pytest
from PIL import Image

from tf_advseg.reporting import contact_sheet
from tf_advseg.reporting.contact_sheet import Shown

PALETTE = ((200, 0, 0), (0, 200, 0))


def flat(grey, side=(30, 40)):
    return np.full([*side, 3], grey, np.uint8)


def test_images_fill_rows_and_pairs_are_not_torn_apart():
    label = np.zeros([30, 40], np.uint8)
    pairs = [Shown(f'p{i}', flat(40 + i), label) for i in range(3)]
    sheet = contact_sheet.contact_sheet(pairs, PALETTE, columns=3, width=40)
    assert sheet.dtype == np.uint8 and sheet.shape[1] == 3 * 48 + 8
    # Two places each: a row of three holds one pair, so there are three rows.
    middles = [np.flatnonzero((sheet == 40 + i).all(axis=-1).any(axis=1)) for i in range(3)]
    assert all(rows.size >= 25 for rows in middles)
    assert middles[0].max() < middles[1].min() < middles[1].max() < middles[2].min()
    single = contact_sheet.contact_sheet([Shown('', flat(i)) for i in range(3)], PALETTE, 3, 40)
    assert single.shape[0] < sheet.shape[0] / 2


def test_overlay_shows_the_label_and_blacks_out_what_is_ignored():
    label = np.zeros([30, 40], np.uint8)
    label[:, :20] = 255
    sheet = contact_sheet.contact_sheet([Shown('x', flat(100), label)], PALETTE, 2, 40)
    left = sheet[20, 8 + 48 + 10]
    right = sheet[20, 8 + 48 + 30]
    assert tuple(left) == (0, 0, 0)
    assert tuple(right) == (160, 40, 40)      # 0.4 * 100 + 0.6 * colour


def test_one_class_stands_out():
    image, label = flat(100), np.zeros([30, 40], np.uint8)
    label[:, 20:] = 1
    seen = contact_sheet.stand_out(image, label, 1, PALETTE[1])
    assert tuple(seen[0, 0]) == (200, 200, 200) and tuple(seen[0, 30]) == (65, 135, 65)
    random = np.random.default_rng(0).integers(0, 256, [30, 40, 3]).astype(np.uint8)
    pale = contact_sheet.stand_out(random, label, 1, PALETTE[1])[:, :20].astype(int)
    assert pale.min() >= 165 and (np.ptp(pale, axis=-1) == 0).all()


@pytest.mark.parametrize('side', [(4, 400), (400, 4), (1, 1), (300, 300)])
def test_any_shape_fits_its_place(side):
    label = np.ones(side, np.uint8)
    sheet = contact_sheet.contact_sheet([Shown('long name ' * 20, flat(9, side), label)] * 3,
                                        PALETTE, columns=4, width=50)
    assert sheet.shape[1] == 4 * 58 + 8 and sheet.shape[0] < 3 * 100


def test_jpeg_keeps_the_image():
    image = np.asarray(Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).resize(
        (80, 60), Image.BICUBIC))
    image = np.stack([image] * 3, axis=-1)
    back = np.asarray(Image.open(io.BytesIO(contact_sheet.encode_jpeg(image))))
    assert np.abs(back.astype(int) - image).max() < 10


def test_nothing_to_show_is_a_mistake():
    with pytest.raises(ValueError, match='0 images'):
        contact_sheet.contact_sheet([], PALETTE)
