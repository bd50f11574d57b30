"""Figures of merit from a confusion matrix, exact and in one place.

The matrix is int64 [C,C]: row = true class, column = predicted class, one count a pixel;
ignored pixels are in no cell. Counts stay integers until the one division of each figure, so
equal matrices give equal figures to the last digit. In the names of Long et al. 2015 (FCN,
section 5), n_ij = matrix[i, j] and t_i = the sum of row i.

A class that is absent has no figure (nan) and takes no part in a mean:
- IoU: absent from truth AND prediction (the denominator t_i + sum_j n_ji - n_ii is 0). A class
  that is only predicted has IoU 0 and counts. This is what `tf.metrics.mean_iou`, and with it the
  official DeepLab's eval.py, averages over.
- class accuracy: absent from the truth.
A matrix with no pixel at all has nan everywhere.
"""
import numpy as np


def _checked(matrix):
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f'a confusion matrix is square, this one is {matrix.shape}')
    if not np.issubdtype(matrix.dtype, np.integer):
        raise ValueError(f'a confusion matrix holds counts, this one {matrix.dtype}')
    if matrix.size and matrix.min() < 0:
        raise ValueError('a confusion matrix holds counts, this one a negative number')
    return matrix.astype(np.int64)


def _ratio(numerator, denominator):
    """Elementwise float64 numerator / denominator, nan where the denominator is 0."""
    numerator, denominator = np.asarray(numerator), np.asarray(denominator)
    out = np.full(denominator.shape, np.nan)
    return np.divide(numerator, denominator, out=out, where=denominator != 0)


def _mean_of_present(values):
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float('nan')


def class_iou(matrix):
    """Intersection over union of each class: n_ii / (t_i + sum_j n_ji - n_ii), float64 [C].

    nan where the class is in neither truth nor prediction.
    """
    matrix = _checked(matrix)
    hit = np.diag(matrix)
    return _ratio(hit, matrix.sum(axis=1) + matrix.sum(axis=0) - hit)


def mean_iou(matrix):
    """Mean of `class_iou` over the classes that have one; in 0..1, nan without any pixel."""
    return _mean_of_present(class_iou(matrix))


def pixel_accuracy(matrix):
    """Share of the labelled pixels that are right: sum_i n_ii / sum_i t_i."""
    matrix = _checked(matrix)
    return float(_ratio(np.trace(matrix), matrix.sum()))


def class_accuracy(matrix):
    """Recall of each class, n_ii / t_i, float64 [C]; nan where the class is not in the truth."""
    matrix = _checked(matrix)
    return _ratio(np.diag(matrix), matrix.sum(axis=1))


def mean_class_accuracy(matrix):
    """Mean of `class_accuracy` over the classes in the truth."""
    return _mean_of_present(class_accuracy(matrix))


def frequency_weighted_iou(matrix):
    """IoU weighted by how often a class is in the truth: sum_i t_i IoU_i / sum_i t_i."""
    matrix = _checked(matrix)
    truth = matrix.sum(axis=1)
    iou = np.where(truth > 0, class_iou(matrix), 0.0)
    return float(_ratio((truth * iou).sum(), truth.sum()))


def summary(matrix, class_names):
    """All figures of one evaluation as a JSON-able dict (fractions in 0..1; absent: None).

    Returns:
      {'mean_iou', 'pixel_accuracy', 'mean_class_accuracy', 'frequency_weighted_iou',
      'class_iou': {name: IoU}, 'class_accuracy': {name: recall}, 'pixels': {name: t_i},
      'confusion_matrix': list of lists of int}.
    """
    matrix = _checked(matrix)
    if len(class_names) != len(matrix):
        raise ValueError(f'{len(class_names)} class names for a matrix of {len(matrix)} classes')

    def plain(value):
        return None if np.isnan(value) else float(value)

    def by_name(values):
        return {name: plain(value) for name, value in zip(class_names, values)}

    return {
        'mean_iou': plain(mean_iou(matrix)),
        'pixel_accuracy': plain(pixel_accuracy(matrix)),
        'mean_class_accuracy': plain(mean_class_accuracy(matrix)),
        'frequency_weighted_iou': plain(frequency_weighted_iou(matrix)),
        'class_iou': by_name(class_iou(matrix)),
        'class_accuracy': by_name(class_accuracy(matrix)),
        'pixels': {name: int(n) for name, n in zip(class_names, matrix.sum(axis=1))},
        'confusion_matrix': matrix.tolist(),
    }
