"""Class probabilities of several models as grey maps (Luc et al. 2016, Fig. 3)."""
import math

import numpy as np
from PIL import Image, ImageDraw

from tf_advseg.reporting import panels

_INK, _PAPER, _FRAME = (25, 25, 30), (255, 255, 255), (200, 200, 200)
_GAP, _BAR, _WIDTH = 6, 24, 1040        # between cells, a line of titles, the whole
_WIDEST = 240                           # a grey map is not drawn wider
_TOLERANCE = 1e-3                       # of a probability beyond 0..1


def probability_panel(image, truth, probabilities, palette, class_names, classes=None,
                      per_row=10, alpha=0.55, ignore_label=panels.IGNORE):
    """One image as in Luc et al., Fig. 3: a row of grey maps a model, then the label maps.

    Grey maps are black where a class has probability 0 and white where it has 1. In the last row
    are the image and, superimposed on it, the truth (unlabelled pixels show the image) and what
    each model says.

    Args:
      image: uint8 [H, W, 3].
      truth: ids [H, W], or None.
      probabilities: {name of the model: float [h, w, C] in 0..1}; first the model without
        adversarial training, as in the figure. Maps of another size than the image are brought
        to it bilinearly, corners on corners, before the largest is taken.
      palette: sequence of (r, g, b), one per class.
      class_names: C names.
      classes: ids of the classes that get a column. None takes all, or where these are more than
        `per_row` those that the truth or a model has anywhere.
      per_row: columns at most; more classes go on below.
      alpha: how strong the superimposed colours are.
      ignore_label: the id of unlabelled pixels.

    Returns:
      uint8 [height, width, 3].

    Raises:
      ValueError: no model, arrays of the wrong shape, values that are no probabilities, an id
        without a class.
    """
    image = np.asarray(image)
    maps = {str(name): _checked(name, values, len(class_names))
            for name, values in probabilities.items()}
    if not maps or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f'{len(maps)} models and an image of shape {image.shape}, expected 1 at '
                         'least and [H, W, 3]')
    maps = {name: corner_resized(values, image.shape[:2]) for name, values in maps.items()}
    labels = {name: values.argmax(axis=-1) for name, values in maps.items()}
    shown = shown_classes(truth, labels.values(), len(class_names), classes, per_row, ignore_label)
    sheet = _Sheet(list(maps), image.shape[0] / image.shape[1])
    for begin in range(0, len(shown), per_row):
        block = shown[begin:begin + per_row]
        sheet.rows([str(class_names[number]) for number in block], min(per_row, len(shown)),
                   [[_grey(values[..., number]) for number in block] for values in maps.values()])
    overlays = {} if truth is None else {'truth': truth}
    overlays.update(labels)
    last = [np.asarray(image, np.uint8)] + [
        panels.overlay(image, ids, palette, alpha, ignore_label) for ids in overlays.values()]
    sheet.last_row(['image', *overlays], last)
    return sheet.finished(panels.legend(class_names, palette, _WIDTH, unlabelled=False))


def shown_classes(truth, labels, num_classes, classes=None, per_row=10,
                  ignore_label=panels.IGNORE):
    """Ids of the classes that get a column of `probability_panel`, see there.

    Args:
      truth: ids [H, W] or None.
      labels: the models' label maps, ids [H, W].
      num_classes, classes, per_row, ignore_label: see `probability_panel`.

    Returns:
      list of ids.

    Raises:
      ValueError: an id among `classes` that is no class, or none at all.
    """
    if classes is not None:
        bad = [number for number in classes if not 0 <= number < num_classes]
        if bad or not len(classes):
            raise ValueError(f'classes {list(classes)} of {num_classes}, expected ids from 0 to '
                             f'{num_classes - 1}')
        return list(classes)
    if num_classes <= per_row:
        return list(range(num_classes))
    present = set()
    for ids in [*labels, *([] if truth is None else [truth])]:
        present |= set(np.unique(np.asarray(ids)).tolist())
    return sorted(present - {ignore_label})


def corner_resized(values, size):
    """Bilinear resizing with corners on corners (align-corners), as the package brings maps up.

    Args:
      values: float [h, w, C].
      size: (height, width).

    Returns:
      float [height, width, C]; the values themselves where they have that size already.
    """
    for axis, length in enumerate(size):
        old = values.shape[axis]
        if old == length:
            continue
        places = np.linspace(0.0, old - 1.0, length)
        lower = np.minimum(places.astype(int), max(0, old - 2))
        shape = [1] * values.ndim
        shape[axis] = length
        weight = (places - lower).reshape(shape)
        values = (np.take(values, lower, axis) * (1.0 - weight)
                  + np.take(values, np.minimum(lower + 1, old - 1), axis) * weight)
    return values


def _checked(name, values, num_classes):
    values = np.asarray(values, np.float64)
    if values.ndim != 3 or values.shape[2] != num_classes or 0 in values.shape:
        raise ValueError(f'probabilities of {name} have shape {values.shape}, expected '
                         f'[h, w, {num_classes}]')
    if not (values.min() >= -_TOLERANCE and values.max() <= 1.0 + _TOLERANCE):
        raise ValueError(f'probabilities of {name} go from {values.min():g} to {values.max():g}, '
                         'expected 0 to 1 (are they logits?)')
    return values


def _grey(values):
    """Probabilities [H, W] -> uint8 [H, W]: 0 black, 1 white."""
    return np.clip(np.rint(255 * values), 0, 255).astype(np.uint8)


class _Sheet:
    """Blocks of rows from top to bottom, pasted when their number is known.

    Args:
      models: names of the rows, written in a margin on the left.
      aspect: height over width of the image.
    """

    def __init__(self, models, aspect):
        ruler, letters = ImageDraw.Draw(Image.new('RGB', (1, 1))), panels.font(13)
        widths = [ruler.textlength(name, font=letters) for name in models]
        self._models, self._aspect = models, aspect
        self._margin = min(130, max(40, math.ceil(max(widths)))) + 2 * _GAP
        self._pasted, self._texts, self._height = [], [], 0

    def _size(self, width):
        """(width, height) of the image in a cell of this width: no taller than that."""
        height = min(width, round(width * self._aspect))
        return max(1, min(width, round(height / self._aspect))), max(1, height)

    def _title(self, text, left, width):
        self._texts.append((text, left + width / 2, self._height + _BAR / 2, width, 'mm'))

    def _cells(self, images, left, width):
        for number, image in enumerate(images):
            self._pasted.append((image, left + number * (width + _GAP), self._height,
                                 self._size(width), width))

    def rows(self, titles, columns, rows):
        """A line of titles and under it a row of grey maps for each model.

        Args:
          titles: one per column of this block.
          columns: how many the widest block has.
          rows: for each model uint8 [H, W] for each title.
        """
        room = (_WIDTH - self._margin - _GAP) // columns - _GAP
        width = max(8, min(_WIDEST, room))
        for number, title in enumerate(titles):
            self._title(title, self._margin + number * (width + _GAP), width)
        self._height += _BAR
        for name, images in zip(self._models, rows):
            height = self._size(width)[1]
            self._texts.append((name, _GAP, self._height + height / 2, self._margin - 2 * _GAP,
                                'lm'))
            self._cells(images, self._margin, width)
            self._height += height + _GAP

    def last_row(self, titles, images):
        """Larger images uint8 [H, W, 3] over the whole width, each under its title."""
        width = min(2 * _WIDEST, (_WIDTH - _GAP) // len(images) - _GAP)
        for number, title in enumerate(titles):
            self._title(title, _GAP + number * (width + _GAP), width)
        self._height += _BAR
        self._cells(images, _GAP, width)
        self._height += self._size(width)[1] + _GAP

    def finished(self, foot):
        """uint8 [height, width, 3]; `foot` is a Pillow image that goes below."""
        sheet = Image.new('RGB', (_WIDTH, self._height + foot.height), _PAPER)
        draw, letters = ImageDraw.Draw(sheet), panels.font(13)
        for image, left, top, size, width in self._pasted:
            cell = Image.fromarray(image).resize(size, Image.BICUBIC)
            left += (width - cell.width) // 2
            sheet.paste(cell.convert('RGB'), (left, top))
            draw.rectangle((left - 1, top - 1, left + cell.width, top + cell.height),
                           outline=_FRAME)
        for text, x, y, width, anchor in self._texts:
            draw.text((x, y), panels.fit(draw, text, letters, width), _INK, letters, anchor)
        sheet.paste(foot, (0, self._height))
        return np.asarray(sheet)
