"""Contact sheets: many small images with their labels, to be looked over at a glance."""
import dataclasses
import io
from typing import Any, Optional

import numpy as np
from PIL import Image, ImageDraw

from tf_advseg.reporting import panels

_INK, _PAPER, _FRAME = (25, 25, 30), (255, 255, 255), (200, 204, 210)
_GAP, _LINE, _TALLEST = 8, 18, 1.25


@dataclasses.dataclass
class Shown:
    """One image of a sheet.

    Attributes:
      caption: a few words under it.
      image: uint8 [H, W, 3].
      label: uint8 [H, W] of train ids (255 = ignore); None shows the image alone.
      only: the train id that is to stand out; None shows the image beside the whole label.
    """
    caption: str
    image: Any
    label: Optional[Any] = None
    only: Optional[int] = None


def contact_sheet(shown, palette, columns=6, width=160):
    """Rows of small images.

    Args:
      shown: sequence of Shown. One with a label and without `only` takes two places, image and
        overlay, in which ignored pixels are black.
      palette: (r, g, b) per class.
      columns: places in a row, at least 2.
      width: of a place, in pixels.

    Returns:
      uint8 [height, columns * (width + 8) + 8, 3]; ValueError for no image or too few columns.
    """
    if not shown or columns < 2:
        raise ValueError(f'{len(shown)} images in {columns} columns, expected 1 and 2 at least')
    rows, used = [[]], 0
    for one in shown:
        views = _views(one, palette, width)
        if used + len(views) > columns:
            rows.append([])
            used = 0
        rows[-1].append((one.caption, views))
        used += len(views)
    heights = [max(view.height for _, views in row for view in views) for row in rows]
    sheet = Image.new('RGB', (columns * (width + _GAP) + _GAP,
                              sum(height + _LINE + _GAP for height in heights) + _GAP), _PAPER)
    draw, font, top = ImageDraw.Draw(sheet), panels.font(11), _GAP
    for row, height in zip(rows, heights):
        left = _GAP
        for caption, views in row:
            room = len(views) * (width + _GAP) - _GAP
            draw.text((left, top + height + _LINE / 2), panels.fit(draw, caption, font, room),
                      _INK, font, 'lm')
            for view in views:
                sheet.paste(view, (left + (width - view.width) // 2, top + height - view.height))
                left += width + _GAP
        top += height + _LINE + _GAP
    return np.asarray(sheet)


def encode_jpeg(image):
    """uint8 [H, W, 3] -> the bytes of a JPEG file: photographs a quarter as large as PNGs."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, 'JPEG', quality=85, optimize=True)
    return stream.getvalue()


def stand_out(image, label, class_id, colour):
    """The image with one class tinted in its colour, everything else pale grey.

    Args:
      image: uint8 [H, W, 3].
      label: [H, W] of train ids.
      class_id: which class.
      colour: (r, g, b).

    Returns:
      uint8 [H, W, 3].
    """
    image = np.asarray(image, np.float32)
    pale = np.repeat(165.0 + 0.35 * image.mean(axis=-1, keepdims=True), 3, axis=-1)
    tinted = 0.65 * image + 0.35 * np.asarray(colour, np.float32)
    chosen = (np.asarray(label) == class_id)[..., None]
    return np.clip(np.where(chosen, tinted, pale) + 0.5, 0, 255).astype(np.uint8)


def _views(one, palette, width):
    """A list of the Pillow images that show `one`: one or two."""
    height, wide = np.shape(one.image)[:2]
    scale = min(width / wide, _TALLEST * width / height)
    size = max(1, round(wide * scale)), max(1, round(height * scale))
    image = np.asarray(Image.fromarray(np.asarray(one.image, np.uint8)).resize(size, Image.BOX))
    if one.label is None:
        return [_framed(image)]
    label = np.asarray(Image.fromarray(np.asarray(one.label, np.uint8)).resize(size, Image.NEAREST))
    if one.only is not None:
        return [_framed(stand_out(image, label, one.only, palette[one.only]))]
    over = panels.overlay(image, label, palette, alpha=0.6)
    over[label == panels.IGNORE] = 0
    return [_framed(image), _framed(over)]


def _framed(image):
    """A Pillow image with a thin grey frame, so that a white one has an end."""
    framed = Image.fromarray(image)
    ImageDraw.Draw(framed).rectangle((0, 0, framed.width - 1, framed.height - 1),
                                     outline=_FRAME)
    return framed
