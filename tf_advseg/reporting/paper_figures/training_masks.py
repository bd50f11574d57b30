"""What networks say of a few images at several moments of their training (Durall et al., Fig. 5).

panels.panel_grid draws it; here are the choice of the moments and the arrangement.
"""
import numpy as np

from tf_advseg.reporting import panels

MOMENTS = 5  # columns of masks at most


def chosen_steps(masks, most=MOMENTS):
    """The moments that are shown: the first, the last, and steps spread evenly between.

    Args:
      masks: {model: {step: masks}}.
      most: how many at most, at least 2.

    Returns:
      ascending steps, of those that all models have (or, where they share none, of all there are).
    """
    each = [set(found) for found in masks.values() if found]
    steps = sorted(set.intersection(*each) or set.union(*each)) if each else []
    places = np.linspace(0, len(steps) - 1, min(most, len(steps))).round().astype(int)
    return [steps[place] for place in places]


def masks_over_time(images, masks, palette, class_names=None, captions=None, most=MOMENTS,
                    cell_width=160):
    """A panel: image, truth, then the masks of up to five moments; below, those of the control.

    Args:
      images: [(uint8 [h, w, 3], ids [h, w] or None)], of sizes of their own.
      masks: {model: {step of the segmentor: [uint8 [h, w], one an image]}}, the method first and
        its control second (or alone); a model without masks is left out. A moment that a model
        has not is an empty cell.
      palette: C colours (r, g, b).
      class_names: C names for the legend; None draws none.
      captions: what the images are called, or None.
      most: columns of masks at most.
      cell_width: pixels of a column.

    Returns:
      uint8 [height, width, 3] as panels.panel_grid gives it; None where there is no image or no
      mask.

    Raises:
      ValueError: a moment has not one mask an image.
    """
    masks = {name: found for name, found in masks.items() if found}
    if not masks or not len(images):
        return None
    for name, found in masks.items():
        for step, shown in found.items():
            if len(shown) != len(images):
                raise ValueError(f'{name} has {len(shown)} masks at step {step} for '
                                 f'{len(images)} images')
    steps = chosen_steps(masks, most)
    rows, under = [], []
    for number, (image, truth) in enumerate(images):
        for place, (name, found) in enumerate(masks.items()):
            row = panels.mask_row(image, truth, [found[step][number] if step in found else None
                                                 for step in steps])
            if place:  # the image and its truth stand above
                row[:2] = [np.full_like(row[0], 255)] * 2
            rows.append(row)
            under.append(f'{captions[number]}: {name}' if captions is not None else str(name))
    titles = ['image', 'truth', *(f'step {step:,}' for step in steps)]
    return panels.panel_grid(rows, titles, palette, class_names, under, cell_width)
