"""Confidence maps of a discriminator beside the softmax's (Hung et al. 2018, Fig. 3)."""
import dataclasses
from typing import Any, Optional

import numpy as np
from PIL import Image

from tf_advseg.reporting import panels

# Of a point: selected and right, selected and wrong, not selected, without a label.
RIGHT, WRONG, PASSED, UNLABELLED = (64, 160, 96), (214, 60, 40), (222, 224, 228), (0, 0, 0)
_MEANINGS = (('selected and right', RIGHT), ('selected and wrong, or an error', WRONG),
             ('not selected, or no error', PASSED), ('without a label', UNLABELLED))
_CELL = 168


@dataclasses.dataclass(frozen=True)
class Row:
    """One image, and what is known of it at the h' x w' points of the discriminator's maps.

    Attributes:
      name: what stands below it.
      image: uint8 [H, W, 3].
      truth: ids [H, W].
      ids: int [h', w'], the predicted classes; below 0 for one that has no colour.
      labels: ids [h', w'], the truth there, 255 where there is none.
      softmax: float [h', w'] in 0..1, the largest probability.
      disc: float [h', w'] in 0..1, the discriminator's probability of "truth", or None.
    """
    name: str
    image: Any
    truth: Any
    ids: Any
    labels: Any
    softmax: Any
    disc: Optional[Any] = None


def confidence_panel(rows, palette, class_names, threshold, ignore_label=panels.IGNORE):
    """Image, truth, prediction, confidence maps, selected points and errors, a row an image.

    Confidence maps are black at 0 and white at 1 ("the brighter regions indicate that they are
    closer to the ground truth distribution"). What is selected, and of that right or wrong, is
    shown of the discriminator, or where there is none of the softmax; errors of all points.

    Args:
      rows: sequence of `Row`; all with a discriminator or none.
      palette: sequence of (r, g, b), one per class.
      class_names: C names.
      threshold: T; points of a larger confidence are selected, all of them where it is 0.
      ignore_label: the id of pixels without a label.

    Returns:
      uint8 [height, width, 3].

    Raises:
      ValueError: no row, rows of both kinds, maps of different sizes, values that are no
        probabilities.
    """
    rows = list(rows)
    judged = {row.disc is not None for row in rows}
    if len(judged) != 1:
        raise ValueError(f'{len(rows)} rows, expected 1 at least, all with a discriminator or none')
    judged = judged.pop()
    titles = ['image', 'truth', 'prediction', *(['discriminator'] if judged else []), 'softmax',
              f'selected, T = {threshold:g}', 'errors']
    cells, captions = [], []
    for row in rows:
        maps = [_checked(row, row.disc)] if judged else []
        maps.append(_checked(row, row.softmax))
        known = np.asarray(row.labels) != ignore_label
        right = np.asarray(row.ids) == np.asarray(row.labels)
        chosen = np.ones_like(known) if threshold == 0 else maps[0] > maps[0].dtype.type(threshold)
        size = np.shape(row.image)[:2]
        coloured = np.where(np.asarray(row.ids) < 0, ignore_label, row.ids)
        cells.append([np.asarray(row.image, np.uint8), np.asarray(row.truth),
                      at_pixels(coloured, size),
                      *(_grey(at_pixels(values, size)) for values in maps),
                      at_pixels(_selection(chosen, right, known), size),
                      at_pixels(_selection(~right, right, known), size)])
        captions.append(_caption(row.name, chosen & known, right, known))
    sheet = panels.panel_grid(cells, titles, palette, class_names, captions, _CELL, ignore_label)
    foot = panels.legend(*zip(*_MEANINGS), sheet.shape[1], unlabelled=False)
    return np.concatenate([sheet, np.asarray(foot)])


def at_pixels(values, size):
    """Each pixel of an image gets the value of the point that is nearest, corners on corners.

    Args:
      values: [h', w', ...].
      size: (H, W).

    Returns:
      [H, W, ...].
    """
    values = np.asarray(values)
    places = [np.rint(np.linspace(0, old - 1, new)).astype(int)
              for old, new in zip(values.shape, size)]
    return values[places[0]][:, places[1]]


def _selection(chosen, right, known):
    """uint8 [h', w', 3]: the colours of `_MEANINGS`."""
    colours = np.array([PASSED, WRONG, RIGHT, UNLABELLED], np.uint8)
    return colours[np.where(known, np.where(chosen, np.where(right, 2, 1), 0), 3)]


def _caption(name, chosen, right, known):
    """What the selection of one image is worth."""
    total, count = int(known.sum()), int(chosen.sum())
    if not total:
        return f'no point has a label: {name}'
    of_all = f'{100 * (right & known).sum() / total:.1f} % right'
    if not count:
        return f'nothing selected, {of_all}: {name}'
    return (f'{100 * count / total:.1f} % selected, {100 * (right & chosen).sum() / count:.1f} % '
            f'of it right (of all {of_all}): {name}')


def _grey(values):
    """float [H, W] in 0..1 -> uint8 [H, W, 3]."""
    grey = np.clip(np.rint(255 * values), 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(grey).convert('RGB'))


def _checked(row, values):
    values = np.asarray(values)
    shapes = {np.shape(row.ids), np.shape(row.labels), values.shape}
    if len(shapes) > 1 or values.ndim != 2 or not values.size:
        raise ValueError(f'{row.name}: maps of shapes {sorted(shapes)}, expected one [h, w]')
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f'{row.name}: confidence from {values.min():g} to {values.max():g}, '
                         'expected 0 to 1 (are they logits?)')
    return values
