"""What a few hold-out images look like through all cycles: LoAd's Figs 6 and 7.

A cycle's models are overwritten by the next ones, so their class maps are kept: those of g0, of a
cycle's ending and of its new peak. Of many cycles those of some are kept.
"""
import io

import numpy as np

from tf_advseg.core import files
from tf_advseg.run import shown_images

FOLDER = 'cycles'
MOST_COLUMNS = 10


def keep(folder, cycle, columns):
    """Writes the class maps of one cycle, the last so far; drops those of some before it.

    Args:
      folder: the run's lookahead/ folder.
      cycle: its number, from 0.
      columns: {label, as in journal.jsonl: [uint8 [h, w]], one an image}.
    """
    with files.disk_errors(folder / FOLDER):
        (folder / FOLDER).mkdir(exist_ok=True)
    content = io.BytesIO()
    np.savez_compressed(content, **{f'{label}/{place}': mask for label, masks in columns.items()
                                    for place, mask in enumerate(masks)})
    with files.atomic_file(folder / FOLDER / f'{cycle:04d}.npz') as file:
        file.write(content.getvalue())
    paths = {int(path.stem): path for path in (folder / FOLDER).glob('[0-9]*.npz')}
    for number in shown_images.passed_over(paths, cycle):
        paths[number].unlink()


def read(folder):
    """{label: [uint8 [h, w]]} of the cycles in their order; {} where nothing was kept."""
    found = {}
    for path in sorted((folder / FOLDER).glob('[0-9]*.npz')):
        with np.load(path) as kept:
            for name in kept.files:
                label, place = name.split('/')
                found.setdefault(label, {})[int(place)] = kept[name]
    return {label: [masks[place] for place in sorted(masks)] for label, masks in found.items()}


def shown(context):
    """Ids of the hold-out images that are kept."""
    return context.data.holdout[:shown_images.ROWS]


def panel(context, folder):
    """uint8 [H, W, 3], a row an image; None where nothing was kept."""
    kept = read(folder)
    if not kept:
        return None
    ids = shown(context)
    columns = {label: kept[label] for label in shown_images.spread(list(kept), MOST_COLUMNS)}
    return shown_images.mask_grid(context, shown_images.load(context, ids), columns, ids)
