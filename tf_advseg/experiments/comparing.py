"""One model against others on the same pictures: intervals, and pictures to look at."""
import numpy as np

from tf_advseg.evaluation import bootstrap
from tf_advseg.reporting import comparison
from tf_advseg.reporting import panels

PANEL_ROWS = 6


def compare(scored, spec):
    """Differences of the first model minus each other, with 95 % intervals over pictures.

    Args:
      scored: {name: evaluating.Scored}, in order.
      spec: DatasetSpec of the pictures.

    Returns:
      {other's name: `bootstrap.paired_bootstrap`'s dict}.
    """
    first, *others = scored
    # The bootstrap tells its second argument minus its first.
    return {other: bootstrap.paired_bootstrap(
        scored[other].counts, scored[first].counts, class_names=spec.class_names,
        absent=spec.absent) for other in others}


def interval_tables(results):
    """[tables.Table], one a comparison of `evaluating.evaluate`'s results; [] without any."""
    first = next(iter(results['models']))
    return [comparison.interval_table(found, first, other)
            for other, found in results.get('comparisons', {}).items()]


def extremes(counts, number=PANEL_ROWS):
    """The pictures with the lowest and the highest mIoU of their own.

    Args:
      counts: PictureCounts.
      number: how many of each at most.

    Returns:
      (positions of the worst, lowest first; of the best, highest first). Pictures without labelled
      pixels are in neither; of few pictures none is in both.
    """
    scores = counts.picture_miou()
    order = [i for i in np.argsort(scores, kind='stable') if not np.isnan(scores[i])]
    worst = order[:min(number, (len(order) + 1) // 2)]
    best = order[::-1][:min(number, len(order) // 2)]
    return [int(i) for i in worst], [int(i) for i in best]


def most_different(counts, others, number=PANEL_ROWS):
    """The pictures whose own mIoU differs most: positions, largest difference first.

    Args:
      counts, others: PictureCounts of the same pictures.
      number: how many at most; pictures without a difference are left out.
    """
    difference = np.nan_to_num(np.abs(counts.picture_miou() - others.picture_miou()))
    order = np.argsort(-difference, kind='stable')[:number]
    return [int(i) for i in order if difference[i] > 0]


def panel(pictures, positions, scored):
    """Rows of picture, truth and every model's prediction.

    Args:
      pictures: evaluating.Pictures.
      positions: which of its ids.
      scored: {name: Scored}; their predictors are run again on these pictures.

    Returns:
      uint8 [H, W, 3]; a caption under each row tells the picture's name and mIoU by model.
    """
    spec = pictures.records.spec
    ids = [pictures.ids[position] for position in positions]
    loaded = [pictures.records.load(image_id) for image_id in ids]
    masks = {name: [found for found, _ in one.predictor([image for image, _ in loaded])]
             for name, one in scored.items()}
    own = {name: one.counts.picture_miou() for name, one in scored.items()}
    rows = [panels.mask_row(image, truth, [found[row] for found in masks.values()])
            for row, (image, truth) in enumerate(loaded)]
    captions = [f'{image_id}: mIoU ' + ', '.join(
        f'{"" if len(own) == 1 else name + " "}{100 * scores[position]:.1f} %'
        for name, scores in own.items()) for image_id, position in zip(ids, positions)]
    titles = ['picture', 'truth', *(['prediction'] if len(masks) == 1 else masks)]
    return panels.panel_grid(rows, titles, spec.palette, spec.class_names, captions)
