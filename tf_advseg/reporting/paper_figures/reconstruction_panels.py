"""Images beside what a generator reconstructs of them from masks (Zhu et al. 2018, Fig. 3)."""
import numpy as np

from tf_advseg.reporting import panels
from tf_advseg.reporting.paper_figures import confidence_panels

# Columns in this order, whatever order a row names them in; others stand behind them.
TRUTH, BASELINE, METHOD = (
    'reconstructed from the truth', 'reconstructed from CE', 'reconstructed from Zhu')
_ORDER = (TRUTH, BASELINE, METHOD)
_CELL = 220     # the longest title fits


def reconstruction_panel(rows, palette, class_names, ids=None):
    """Image, truth, and the images reconstructed of it, a row an image.

    The paper's figure has original and reconstructed images alone. The truth stands between them
    here (so one sees what the generator was given), and what it makes of masks that were predicted.

    Args:
      rows: sequence of (image uint8 [h, w, 3], label ids int [h, w] or None, {title: uint8
        [h', w', 3]}); rows may differ in size, and reconstructed images from their row: they are
        brought to its size, each pixel that of the nearest. What a row has not stays an empty cell.
      palette: sequence of (r, g, b), one per class.
      class_names: C names for the legend below; None draws none.
      ids: what the images are called, one a row, or None.

    Returns:
      uint8 [height, width, 3].

    Raises:
      ValueError: no row, not one id a row, an image that is not uint8 [h, w, 3] (such as a
        generator's float in -1..1), a truth of another size or of an id without a colour.
    """
    rows = list(rows)
    if not rows or ids is not None and len(ids) != len(rows):
        raise ValueError(f'{len(rows)} rows with {"no" if ids is None else len(ids)} ids, expected '
                         '1 row at least, and an id for each or none')
    found = dict.fromkeys(title for _, _, reconstructed in rows for title in reconstructed)
    titles = [title for title in _ORDER if title in found]
    titles += [title for title in found if title not in _ORDER]
    cells = []
    for image, label, reconstructed in rows:
        size = _checked('image', image).shape[:2]
        if label is not None and np.shape(label) != size:
            raise ValueError(f'a truth of shape {np.shape(label)} to an image of {size}')
        cells.append([image, label, *(
            None if reconstructed.get(title) is None
            else confidence_panels.at_pixels(_checked(title, reconstructed[title]), size)
            for title in titles)])
    return panels.panel_grid(cells, ['image', 'truth', *titles], palette, class_names, ids, _CELL)


def _checked(name, image):
    """The image as an array, if it is one that can be shown as it is."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f'{name}: {image.dtype} of shape {image.shape}, expected uint8 '
                         '[h, w, 3] (a generator\'s -1..1 is brought to 0..255 first)')
    return image
