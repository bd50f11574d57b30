"""Figures of merit from a confusion matrix, exact and in one place.

The matrix is int64 [C,C]: row = true class, column = predicted class, one count a pixel;
ignored pixels are in no cell. A further column (then it is [C,C+1]) counts labelled pixels whose
prediction is no class of the data set: wrong for their true class, and no other class's mistake.
Counts stay integers until the one division of each figure, so equal matrices give equal figures
to the last digit. In the names of Long et al. 2015 (FCN, section 5), n_ij = matrix[i, j] and
t_i = the sum of row i.

A class that is absent has no figure (nan):
- IoU: absent from truth AND prediction (the denominator t_i + sum_j n_ji - n_ii is 0). A class
  that is only predicted has IoU 0 and counts. Means leave absent classes out, as
  `tf.metrics.mean_iou`, and with it the official DeepLab's eval.py, does, and Cityscapes' script.
  With `absent='zero'` they count as 0, as in ADE20K's (SceneParsing) evaluation code.
- class accuracy: absent from the truth; left out of its mean, always.
A matrix with no pixel at all has nan everywhere.

METRICS.md, beside this file, says who agrees with these figures.
"""
import numpy as np

from tf_advseg.core import errors
from tf_advseg.data.spec import ABSENT

READINGS = ('classes', 'pixels')


def _checked(matrix):
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[1] - matrix.shape[0] not in (0, 1):
        raise ValueError('a confusion matrix is square, or has one column more for predictions '
                         f'that are no class; this one is {matrix.shape}')
    if not np.issubdtype(matrix.dtype, np.integer):
        raise ValueError(f'a confusion matrix holds counts, this one {matrix.dtype}')
    if matrix.size and matrix.min() < 0:
        raise ValueError('a confusion matrix holds counts, this one a negative number')
    return matrix.astype(np.int64)


def ratio(numerator, denominator):
    """Elementwise float64 numerator / denominator, nan where the denominator is 0."""
    numerator, denominator = np.asarray(numerator), np.asarray(denominator)
    out = np.full(denominator.shape, np.nan)
    return np.divide(numerator, denominator, out=out, where=denominator != 0)


def mean_of_present(values):
    """Mean of the values that are not nan, as float; nan where all are."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float('nan')


def plain(value):
    """A figure for JSON: float, or None for nan."""
    return None if np.isnan(value) else float(value)


def _marginals(matrix):
    """(n_ii, t_i, sum_j n_ji), each int64 [C]."""
    matrix = _checked(matrix)
    return np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)[:len(matrix)]


def class_iou(matrix):
    """Intersection over union of each class: n_ii / (t_i + sum_j n_ji - n_ii), float64 [C].

    nan where the class is in neither truth nor prediction.
    """
    hits, truth, predicted = _marginals(matrix)
    return ratio(hits, truth + predicted - hits)


def mean_iou(matrix, absent='left_out'):
    """Mean of `class_iou`; in 0..1, nan without any pixel.

    Args:
      matrix: int [C,C] or [C,C+1].
      absent: what becomes of classes in neither truth nor prediction: 'left_out' of the mean, or
        counted as 'zero'; `DatasetSpec.absent` says which the official evaluator takes.

    Raises:
      UserError: another `absent`.
    """
    return mean_over_classes(class_iou(matrix), absent)


def mean_over_classes(iou, absent='left_out'):
    """Mean over the last axis of IoUs with nan for absent classes; see `mean_iou`.

    Args:
      iou: float64 [..., C].

    Returns:
      float for [C], else float64 [...]; nan where all classes are absent.
    """
    errors.require_one_of('rule for absent classes', absent, ABSENT)
    iou = np.asarray(iou)
    if iou.ndim == 1 and absent == 'left_out':
        return mean_of_present(iou)  # NumPy's sum of what is there: what it always was
    there = ~np.isnan(iou)
    some = there.any(axis=-1)
    count = there.sum(axis=-1) if absent == 'left_out' else np.full(some.shape, iou.shape[-1])
    mean = np.where(some, ratio(np.where(there, iou, 0.0).sum(axis=-1), count), np.nan)
    return float(mean) if iou.ndim == 1 else mean


def pixel_accuracy(matrix):
    """Share of the labelled pixels that are right: sum_i n_ii / sum_i t_i."""
    matrix = _checked(matrix)
    return float(ratio(np.trace(matrix), matrix.sum()))


def class_accuracy(matrix):
    """Recall of each class, n_ii / t_i, float64 [C]; nan where the class is not in the truth."""
    hits, truth, _ = _marginals(matrix)
    return ratio(hits, truth)


def mean_class_accuracy(matrix):
    """Mean of `class_accuracy` over the classes in the truth."""
    return mean_of_present(class_accuracy(matrix))


def frequency_weighted_iou(matrix):
    """IoU weighted by how often a class is in the truth: sum_i t_i IoU_i / sum_i t_i."""
    truth = _checked(matrix).sum(axis=1)
    iou = np.where(truth > 0, class_iou(matrix), 0.0)
    return float(ratio((truth * iou).sum(), truth.sum()))


def category_matrix(matrix, categories):
    """The confusion matrix of categories: classes of one category are counted as one.

    Args:
      matrix: int [C,C] or [C,C+1].
      categories: the category of each class, C strings.

    Returns:
      (names in the order of their first class, int64 [K,K] or [K,K+1]).
    """
    matrix = _checked(matrix)
    if len(categories) != len(matrix):
        raise ValueError(f'{len(categories)} categories for a matrix of {len(matrix)} classes')
    names = tuple(dict.fromkeys(categories))
    member = np.int64([[name == category for category in categories] for name in names])
    columns = np.zeros([len(names) + matrix.shape[1] - len(matrix), matrix.shape[1]], np.int64)
    columns[:len(names), :len(matrix)] = member
    columns[len(names):, len(matrix):] = 1
    return names, member @ matrix @ columns.T


def category_iou(matrix, categories):
    """IoU of each category, as Cityscapes' evaluation has it: {name: float, nan where absent}."""
    names, grouped = category_matrix(matrix, categories)
    return dict(zip(names, class_iou(grouped).tolist()))


def image_miou(hits, truth, predicted, reading='classes'):
    """mIoU of each image by itself.

    Durall et al., eq. 8, writes (1/n) sum_n |A1 ∩ A2| / |A1 ∪ A2| for label maps A1, A2 of n
    images and does not say what a label map is as a set. Readings:
    - 'classes': the mean of the classes' IoU over the classes in the image's truth or prediction.
    - 'pixels', literally: a label map is a set of (pixel, class). With m of n pixels right, m pairs
      are in both maps and 2n - m in either: m / (2n - m).

    Args:
      hits, truth, predicted: int64 [N,C]: n_ii, t_i and sum_j n_ji of each image, over its
        labelled pixels.
      reading: 'classes' or 'pixels'.

    Returns:
      float64 [N]; nan for an image without labelled pixels.

    Raises:
      UserError: another reading.
    """
    errors.require_one_of('reading of the mIoU over images', reading, READINGS)
    hits, truth, predicted = (np.asarray(counts, np.int64) for counts in (hits, truth, predicted))
    if reading == 'classes':
        return mean_over_classes(ratio(hits, truth + predicted - hits).reshape(hits.shape))
    right, pixels = hits.sum(axis=1), truth.sum(axis=1)
    return ratio(right, 2 * pixels - right)


def summary(matrix, class_names, absent='left_out', categories=None):
    """All figures of one evaluation as a JSON-able dict (fractions in 0..1; absent: None).

    Args:
      matrix: int [C,C] or [C,C+1].
      class_names: C strings.
      absent: see `mean_iou`.
      categories: the category of each class, or None for no category figures.

    Returns:
      {'mean_iou', 'pixel_accuracy', 'mean_class_accuracy', 'frequency_weighted_iou',
      'class_iou': {name: IoU}, 'class_accuracy': {name: recall}, 'pixels': {name: t_i},
      'confusion_matrix': list of lists of int, 'absent': the rule}; with categories also
      'category_iou': {name: IoU} and 'mean_category_iou', which follows the same rule.
    """
    matrix = _checked(matrix)
    if len(class_names) != len(matrix):
        raise ValueError(f'{len(class_names)} class names for a matrix of {len(matrix)} classes')

    def by_name(values):
        return {name: plain(value) for name, value in zip(class_names, values)}

    figures = {
        'mean_iou': plain(mean_iou(matrix, absent)),
        'pixel_accuracy': plain(pixel_accuracy(matrix)),
        'mean_class_accuracy': plain(mean_class_accuracy(matrix)),
        'frequency_weighted_iou': plain(frequency_weighted_iou(matrix)),
        'class_iou': by_name(class_iou(matrix)),
        'class_accuracy': by_name(class_accuracy(matrix)),
        'pixels': {name: int(n) for name, n in zip(class_names, matrix.sum(axis=1))},
        'confusion_matrix': matrix.tolist(),
        'absent': absent,
    }
    if categories:
        grouped = category_iou(matrix, categories)
        figures['category_iou'] = {name: plain(value) for name, value in grouped.items()}
        figures['mean_category_iou'] = plain(
            mean_over_classes(np.array(list(grouped.values())), absent))
    return figures
