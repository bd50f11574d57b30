"""Images of label maps: palette PNGs, overlays, and rows of masks as in LoAd Figs 4-7."""
import io

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tf_advseg.core import files

IGNORE = 255
_INK, _PAPER = (25, 25, 30), (255, 255, 255)


def _palette_table(palette, ignore_label):
    """uint8 [256, 3]: the colour of every id; ignore and ids without a colour are black."""
    palette = np.asarray(palette, np.uint8).reshape(-1, 3)
    table = np.zeros((256, 3), np.uint8)
    table[:len(palette)] = palette
    table[ignore_label] = 0
    return table


def _check_ids(ids, palette, ignore_label):
    ids = np.asarray(ids)
    if ids.ndim != 2:
        raise ValueError(f'a map of class ids has shape {ids.shape}, expected [H, W]')
    bad = ids[(ids != ignore_label) & ((ids < 0) | (ids >= len(palette)))]
    if bad.size:
        raise ValueError(f'class id {int(bad.flat[0])} has no colour in a palette of '
                         f'{len(palette)}')
    return ids.astype(np.uint8)


def colourise(ids, palette, ignore_label=IGNORE):
    """Colours a map of class ids: [H, W] -> uint8 [H, W, 3]; ignored pixels are black.

    Raises ValueError for an id that has no colour.
    """
    return _palette_table(palette, ignore_label)[_check_ids(ids, palette, ignore_label)]


def overlay(image, ids, palette, alpha=0.5, ignore_label=IGNORE):
    """The image under its coloured map: uint8 [H, W, 3]; ignored pixels show the image."""
    image, colours = np.asarray(image), colourise(ids, palette, ignore_label)
    if image.shape != colours.shape:
        raise ValueError(f'an image of shape {image.shape} under a map of {colours.shape[:2]}')
    if alpha == 0.5 and image.dtype == np.uint8:  # in whole numbers, for films: the same, sooner
        mixed = ((image.astype(np.uint16) + colours + 1) >> 1).astype(np.uint8)
        ignored = np.asarray(ids) == ignore_label
        mixed[ignored] = image[ignored]
        return mixed
    image = image.astype(np.float64)
    weight = np.where(np.asarray(ids) == ignore_label, 0.0, alpha)[..., None]
    return np.clip(image * (1.0 - weight) + colours * weight + 0.5, 0, 255).astype(np.uint8)


def write_palette_png(path, ids, palette, ignore_label=IGNORE):
    """Writes a map as a palette PNG (mode P): pixel values are the ids, shown in colour.

    The file is whole or not there. Raises ValueError for an id without a colour, UserError where
    the file cannot be written.
    """
    image = Image.fromarray(_check_ids(ids, palette, ignore_label), mode='P')
    image.putpalette(_palette_table(palette, ignore_label).tobytes())
    with files.atomic_file(path) as file:
        image.save(file, format='PNG')


def write_png(path, image):
    """Writes uint8 [H, W, 3], or [H, W] as grey, as a PNG; the file is whole or not there."""
    with files.atomic_file(path) as file:
        file.write(encode_png(image))


def encode_png(image):
    """uint8 [H, W, 3], or [H, W] as grey -> the bytes of a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image, np.uint8)).save(stream, 'PNG', optimize=True)
    return stream.getvalue()


def font(size):
    """DejaVu Sans, which comes with matplotlib, so that a panel looks alike everywhere."""
    return ImageFont.truetype(matplotlib.get_data_path() + '/fonts/ttf/DejaVuSans.ttf', size)


def fit(draw, text, font, width):
    """The text, cut with an ellipsis to the width in pixels."""
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + '…', font=font) > width:
        text = text[:-1]
    return text + '…'


def mask_row(image, truth, masks, blank_ignored=True):
    """One row of a panel: (image, truth, mask, mask, …), for panel_grid.

    Args:
      image: uint8 [H, W, 3].
      truth: ids [H, W] or None.
      masks: sequence of ids [H, W] (g0, an ending, g*, the control), None for a missing one.
      blank_ignored: black out what the truth leaves unlabelled in the masks too, as the paper
        does: those pixels count for nothing.
    """
    row = [np.asarray(image, np.uint8), truth]
    for mask in masks:
        if mask is not None and truth is not None and blank_ignored:
            mask = np.where(np.asarray(truth) == IGNORE, IGNORE, mask)
        row.append(mask)
    return row


def _cell(entry, palette, ignore_label, width, height):
    """An entry of a row as a Pillow image that fits into width x height."""
    if entry is None:
        return None
    entry = np.asarray(entry)
    mask = entry.ndim == 2
    image = Image.fromarray(colourise(entry, palette, ignore_label) if mask
                            else entry.astype(np.uint8))
    scale = min(width / image.width, height / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.NEAREST if mask else Image.BICUBIC)


def panel_grid(rows, titles, palette, class_names=None, captions=None, cell_width=200,
               ignore_label=IGNORE):
    """Rows of images and masks side by side, with column titles and a legend.

    Args:
      rows: sequence of rows as mask_row gives them: entries are uint8 [H, W, 3] (an image),
        [H, W] (ids, coloured) or None (drawn as an empty cell). Rows may differ in size.
      titles: one per column.
      palette: sequence of (r, g, b), one per class.
      class_names: names for the legend below; None draws no legend.
      captions: one text per row, written under it, or None.
      cell_width: pixels of a column.
      ignore_label: the id drawn black.

    Returns:
      uint8 [height, width, 3].

    Raises:
      ValueError: a row has not one entry per title, or a map an id without a colour.
    """
    rows = [list(row) for row in rows]
    for row in rows:
        if len(row) != len(titles):
            raise ValueError(f'a row has {len(row)} entries under {len(titles)} titles')
    gap, bar, line = 6, 26, 20
    width = gap + len(titles) * (cell_width + gap)
    heights = []
    for row in rows:
        shapes = [np.shape(entry)[:2] for entry in row if entry is not None]
        heights.append(min(2 * cell_width, max([round(cell_width * h / w) for h, w in shapes]
                                               or [cell_width])))
    foot = legend(class_names, palette, width) if class_names else None
    under = line if captions else 0
    height = bar + sum(h + gap + under for h in heights) + (foot.height if foot else 0)
    sheet = Image.new('RGB', (width, height), _PAPER)
    draw, letters = ImageDraw.Draw(sheet), font(13)
    for column, title in enumerate(titles):
        middle = gap + column * (cell_width + gap) + cell_width / 2
        draw.text((middle, bar / 2), fit(draw, str(title), letters, cell_width), _INK, letters,
                  'mm')
    top = bar
    for number, (row, row_height) in enumerate(zip(rows, heights)):
        for column, entry in enumerate(row):
            left = gap + column * (cell_width + gap)
            image = _cell(entry, palette, ignore_label, cell_width, row_height)
            if image is None:
                draw.rectangle((left, top, left + cell_width - 1, top + row_height - 1),
                               outline=(200, 200, 200))
                continue
            sheet.paste(image, (left + (cell_width - image.width) // 2,
                                top + (row_height - image.height) // 2))
        if captions:
            text = fit(draw, str(captions[number]), letters, width - 2 * gap)
            draw.text((gap, top + row_height + line / 2), text, _INK, letters, 'lm')
        top += row_height + gap + under
    if foot:
        sheet.paste(foot, (0, top))
    return np.asarray(sheet)


def legend(class_names, palette, width, unlabelled=True):
    """Swatches with the classes' names, in as many lines as the width needs.

    Args:
      class_names: what is written beside the swatches.
      palette: sequence of (r, g, b), one per class.
      width: in pixels.
      unlabelled: puts a black swatch for unlabelled pixels behind them.

    Returns:
      A Pillow image of this width.
    """
    letters, swatch, step = font(12), 12, 22
    ruler = ImageDraw.Draw(Image.new('RGB', (1, 1)))
    names = [*map(str, class_names)]
    colours = [tuple(int(v) for v in colour) for colour in palette][:len(names)]
    if unlabelled:
        names.append('unlabelled')
        colours.append((0, 0, 0))
    places, x, y = [], 6, 0
    for name in names:
        need = swatch + 6 + int(ruler.textlength(name, font=letters)) + 16
        if x + need > width and x > 6:
            x, y = 6, y + step
        places.append((x, y))
        x += need
    sheet = Image.new('RGB', (width, y + step + 6), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for name, colour, (x, y) in zip(names, colours, places):
        draw.rectangle((x, y + 5, x + swatch, y + 5 + swatch), fill=colour, outline=_INK)
        draw.text((x + swatch + 6, y + 5 + swatch / 2), name, _INK, letters, 'lm')
    return sheet
