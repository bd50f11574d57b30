"""How sure a difference of two evaluations is: a paired bootstrap over images.

Two networks are scored on the same images. Images are drawn anew with replacement, as many as
there are, the same ones for both networks, and the difference of the figures is computed again
from the integer counts of the drawn images; the middle `level` of the differences is the
interval (Efron and Tibshirani 1993, ch. 13, percentile interval). It says how far the difference
depends on which images were in the split. It says nothing about another training run: a method's
run-to-run spread takes several seeds.

Percentile intervals are too narrow where few images decide: measured without any true
difference, 14 % of 95 % intervals over 8 images leave out 0, and 24 % for a class in about 4 of
106. Below `FEWEST_IMAGES` images none is given.
"""
import numpy as np

from tf_advseg.core import errors
from tf_advseg.evaluation import metrics

FEWEST_IMAGES = 10  # that a figure must rest on to be given an interval
_CHUNK = 250  # samples at a time: weights of 250 x N images in memory, whatever `samples` is


def paired_bootstrap(counts_a, counts_b, samples=2000, seed=0, level=0.95, class_names=None,
                     absent='left_out'):
    """Differences A - B with intervals, of mIoU and of each class's IoU.

    Args:
      counts_a, counts_b: `ImageCounts` of the same images in the same order.
      samples: how many times images are drawn.
      seed: of the draws; the same seed draws the same images.
      level: share of the drawn differences in the interval.
      class_names: C strings; None: '0', '1', …
      absent: what mIoU makes of absent classes, see `metrics.mean_iou`.

    Returns:
      {'miou': {'delta', 'low', 'high', 'images'}, 'class_iou': {name: the same},
      'images': N, 'samples', 'level', 'absent'}; fractions. 'delta' is of the images as they
      are; a figure's own 'images' are those that have the class in truth or in a prediction (of
      mIoU: all). With fewer than `FEWEST_IMAGES` of them 'low' and 'high' are None. A class
      that one of the two has no IoU for has None; draws in which that is so do not count.

    Raises:
      UserError: other images or classes in A than in B, no images, or a level not in (0, 1).
      ValueError: another number of names than of classes.
    """
    _check(counts_a, counts_b, samples, level)
    names = class_names or [str(number) for number in range(counts_a.num_classes)]
    if len(names) != counts_a.num_classes:
        raise ValueError(f'{len(names)} class names for {counts_a.num_classes} classes')
    table = np.concatenate([_columns(counts_a), _columns(counts_b)], axis=1)
    number = len(counts_a.ids)
    actual = _differences(table.sum(axis=0, keepdims=True), absent)[0]
    rng = np.random.default_rng(seed)
    drawn = []
    for start in range(0, samples, _CHUNK):
        weights = _draw(rng, min(_CHUNK, samples - start), number)
        # Integers below 2**53 are exact in float64, and its matrix product is the fast one.
        drawn.append(_differences(weights @ table, absent))
    drawn = np.concatenate(drawn)
    resting = [number, *_images(counts_a, counts_b)]
    figures = [_interval(delta, values, level, images)
               for delta, values, images in zip(actual, drawn.T, resting)]
    return {'miou': figures[0], 'class_iou': dict(zip(names, figures[1:])), 'images': number,
            'samples': int(samples), 'level': float(level), 'absent': absent}


def _check(counts_a, counts_b, samples, level):
    if tuple(counts_a.ids) != tuple(counts_b.ids):
        raise errors.UserError(
            f'{len(counts_a.ids)} and {len(counts_b.ids)} images were evaluated, and they are '
            'not the same in the same order; compare evaluations of one split')
    if counts_a.num_classes != counts_b.num_classes:
        raise errors.UserError(f'evaluations of {counts_a.num_classes} and of '
                               f'{counts_b.num_classes} classes cannot be compared')
    if not counts_a.ids:
        raise errors.UserError('no images were evaluated; there is nothing to compare')
    if samples < 1 or not 0 < level < 1:
        raise errors.UserError(f'a bootstrap of {samples} samples at level {level}: expected at '
                               'least one sample and a level between 0 and 1')


def _columns(counts):
    """float64 [N,2C]: hits, and unions (t_i + sum_j n_ji - n_ii), of each image."""
    union = counts.truth + counts.predicted - counts.hits
    return np.concatenate([counts.hits, union], axis=1).astype(np.float64)


def _images(counts_a, counts_b):
    """[int] of each class: in how many images it is in the truth or in a prediction."""
    there = counts_a.truth + counts_a.predicted + counts_b.truth + counts_b.predicted > 0
    return [int(number) for number in there.sum(axis=0)]


def _draw(rng, samples, number):
    """How often each image is drawn: float64 [samples,number], rows sum to `number`."""
    picks = rng.integers(number, size=[samples, number])
    picks += np.arange(samples)[:, None] * number
    counts = np.bincount(picks.ravel(), minlength=samples * number)
    return counts.reshape(samples, number).astype(np.float64)


def _differences(sums, absent):
    """Sums [S,4C] of hits and unions of A, then of B → A - B: [S,1+C], mIoU first."""
    hits_a, union_a, hits_b, union_b = np.split(sums, 4, axis=1)
    iou_a, iou_b = metrics.ratio(hits_a, union_a), metrics.ratio(hits_b, union_b)
    means = metrics.mean_over_classes(iou_a, absent) - metrics.mean_over_classes(iou_b, absent)
    return np.concatenate([means[:, None], iou_a - iou_b], axis=1)


def _interval(delta, values, level, images):
    """One figure's {'delta', 'low', 'high', 'images'}, None for what is not given."""
    found = {'delta': None if np.isnan(delta) else float(delta), 'low': None, 'high': None,
             'images': images}
    values = values[~np.isnan(values)]
    if found['delta'] is not None and images >= FEWEST_IMAGES and values.size:
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        found.update(low=float(low), high=float(high))
    return found
