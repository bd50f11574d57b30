"""One model against others on the same images: intervals, and panels to look at."""
import dataclasses
import pathlib

import numpy as np

from tf_advseg.core import errors
from tf_advseg.evaluation import bootstrap
from tf_advseg.reporting import comparison
from tf_advseg.reporting import panels
from tf_advseg.reporting.tables import Cell

PANEL_ROWS = 6


def column_names(checkpoints, folders):
    """Column headings: the shortest ends of the paths that differ.

    Args:
      checkpoints: what the user calls the models: run directories and model folders.
      folders: the model folder of each, or its file, or None (`networks.load` says so).

    Raises:
      UserError: two of them are one model.
    """
    seen = {}
    for path, folder in zip(checkpoints, folders):
        known = seen.setdefault(folder and folder.resolve(), path)
        if folder and known is not path:
            raise errors.UserError(
                f'{path}: is the same model as {known} ({folder.name}), and nothing differs from '
                'itself; compare another, such as DIR/checkpoints/control of a run')
    paths = [pathlib.Path(path).expanduser().resolve() for path in checkpoints]
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = [str(pathlib.Path(*path.parts[-depth:])) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def windows_text(results):
    """'windows 33x49', as the networks used them; several where their grids differ."""
    sizes = dict.fromkeys('{}x{}'.format(*window) for window in results['window'].values())
    return f'windows {" or ".join(sizes)}'


def with_intervals(table, results):
    """The table of scores with the columns of `interval_tables` beside it, for one CSV."""
    header, rows = table.header, table.rows
    for entry, added in zip(results.get('comparisons', {}).values(), interval_tables(results)):
        header += tuple(f'{entry["of"]} minus {entry["minus"]}: {name}'
                        for name in added.header[1:])
        known = {row[0].value: row[1:] for row in added.rows}
        blank = (Cell(''),) * (len(added.header) - 1)
        rows = tuple(row + known.get(row[0].value, blank) for row in rows)
    return dataclasses.replace(table, header=header, rows=rows)


def compare(scored, spec):
    """Differences of the first model minus each other, with 95 % intervals over images.

    Args:
      scored: {name: evaluating.Scored}, in order.
      spec: DatasetSpec of the images.

    Returns:
      {other's name: {'of': the first's name, 'minus': the other's, and what
      `bootstrap.paired_bootstrap` returns}}.
    """
    first, *others = scored
    return {other: {'of': first, 'minus': other, **bootstrap.paired_bootstrap(
        scored[first].counts, scored[other].counts, class_names=spec.class_names,
        absent=spec.absent)} for other in others}


def interval_tables(results):
    """[tables.Table], one a comparison of `evaluating.evaluate`'s results; [] without any."""
    return [comparison.interval_table(found, found['of'], found['minus'])
            for found in results.get('comparisons', {}).values()]


def extremes(counts, number=PANEL_ROWS):
    """The images with the lowest and the highest mIoU of their own.

    Args:
      counts: ImageCounts.
      number: how many of each at most.

    Returns:
      (positions of the worst, lowest first; of the best, highest first). Images without labelled
      pixels are in neither; of few images none is in both.
    """
    scores = counts.image_miou()
    order = [i for i in np.argsort(scores, kind='stable') if not np.isnan(scores[i])]
    worst = order[:min(number, (len(order) + 1) // 2)]
    best = order[::-1][:min(number, len(order) // 2)]
    return [int(i) for i in worst], [int(i) for i in best]


def most_different(counts, others, number=PANEL_ROWS):
    """The images whose own mIoU differs most: positions, largest difference first.

    Args:
      counts, others: ImageCounts of the same images.
      number: how many at most; images without a difference are left out.
    """
    difference = np.nan_to_num(np.abs(counts.image_miou() - others.image_miou()))
    order = np.argsort(-difference, kind='stable')[:number]
    return [int(i) for i in order if difference[i] > 0]


def panel(images, positions, scored):
    """Rows of image, truth and every model's prediction.

    Args:
      images: evaluation_data.Images.
      positions: which of its ids.
      scored: {name: Scored}; their predictors are run again on these images.

    Returns:
      uint8 [H, W, 3]; a caption under each row gives mIoU, in the models' order, and the
      image's name.
    """
    spec = images.records.spec
    ids = [images.ids[position] for position in positions]
    loaded = [images.records.load(image_id) for image_id in ids]
    masks = {name: [found for found, _ in one.predictor([image for image, _ in loaded])]
             for name, one in scored.items()}
    own = [one.counts.image_miou() for one in scored.values()]
    rows = [panels.mask_row(image, truth, [found[row] for found in masks.values()])
            for row, (image, truth) in enumerate(loaded)]
    # Figures first: long names are cut off at the end.
    captions = ['mIoU ' + ' / '.join(f'{100 * scores[position]:.1f}' for scores in own)
                + f' %: {image_id}' for image_id, position in zip(ids, positions)]
    titles = ['image', 'truth', *(['prediction'] if len(masks) == 1 else masks)]
    return panels.panel_grid(rows, titles, spec.palette, spec.class_names, captions)
