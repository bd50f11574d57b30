"""What one evaluation counted, image by image: enough for every IoU figure and its interval.

A confusion matrix of a whole split cannot be resampled over images; three counts an image and
class can, and they are small enough to lie in a scores.json.
"""
import dataclasses
from typing import Tuple

import numpy as np

from tf_advseg.core.errors import UserError
from tf_advseg.data.spec import IGNORE_LABEL
from tf_advseg.evaluation import metrics


def checked_image(image_id, label, prediction, num_classes):
    """A label and a prediction that can be counted.

    Args:
      image_id: the image's name, for messages.
      label: integers [H,W]: train ids 0..C-1, 255 = ignore.
      prediction: integers [H,W]: train ids 0..C-1, 255 = no class of the data set (wrong on every
        labelled pixel).
      num_classes: C.

    Returns:
      (label, prediction) as arrays.

    Raises:
      UserError: the label has an id that is no class.
      ValueError: shapes that differ, or a prediction that is no train id.
    """
    label, prediction = np.asarray(label), np.asarray(prediction)
    if label.ndim != 2 or label.shape != prediction.shape:
        raise ValueError(f'{image_id}: the label is {label.shape} and the prediction '
                         f'{prediction.shape}; expected two maps [H,W] of one size')
    for name, ids, error in (('label', label, UserError), ('prediction', prediction, ValueError)):
        if not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(f'{image_id}: the {name} is {ids.dtype}, expected whole numbers')
        strange = (ids != IGNORE_LABEL) & ((ids < 0) | (ids >= num_classes))
        if strange.any():
            raise error(f'{image_id}: {name} {int(ids[strange][0])} is out of range; expected 0 to '
                        f'{num_classes - 1}, or {IGNORE_LABEL}')
    return label, prediction


def count_image(label, prediction, num_classes, image_id='image'):
    """The confusion matrix of one image, exact.

    Args:
      label, prediction, num_classes, image_id: see `checked_image`; pixels whose label is 255
        are in no cell.

    Returns:
      int64 [C,C+1], row = truth; the last column counts labelled pixels whose prediction is 255.

    Raises:
      UserError, ValueError: see `checked_image`.
    """
    label, prediction = checked_image(image_id, label, prediction, num_classes)
    return count_pairs(label, prediction, num_classes)


def count_pairs(label, prediction, num_classes, where=None):
    """`count_image` without its checks, and over the pixels in `where` (bool [H,W]) only."""
    counted = label != IGNORE_LABEL
    if where is not None:
        counted &= where
    truth = label[counted].astype(np.int64)
    predicted = prediction[counted].astype(np.int64)
    predicted[predicted == IGNORE_LABEL] = num_classes
    cells = np.bincount(truth * (num_classes + 1) + predicted,
                        minlength=num_classes * (num_classes + 1))
    return cells.reshape(num_classes, num_classes + 1).astype(np.int64)


def without_empty_column(matrix):
    """[C,C] of a [C,C+1] matrix, unless its last column (predictions of no class) holds counts."""
    return matrix if matrix[:, -1].any() else matrix[:, :-1]


@dataclasses.dataclass(frozen=True, eq=False)
class ImageCounts:
    """Counts of N images over their labelled pixels.

    Attributes:
      ids: the images' names, N strings.
      hits: int64 [N,C], n_ii: pixels of class i that were predicted as i.
      truth: int64 [N,C], t_i: pixels of class i.
      predicted: int64 [N,C], sum_j n_ji: labelled pixels that were predicted as i.
      matrix: int64 [C,C], the confusion matrix of all images, row = truth; [C,C+1] where some
        labelled pixels' prediction is no class, see `metrics`.
    """
    ids: Tuple[str, ...]
    hits: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    matrix: np.ndarray

    def __post_init__(self):
        shape = (len(self.ids), len(self.matrix))
        for name in ('hits', 'truth', 'predicted'):
            if getattr(self, name).shape != shape:
                raise ValueError(f'{name} is {getattr(self, name).shape}, expected {shape}')
        columns = np.asarray(self.matrix).sum(axis=0)[:shape[1]]
        if ((self.hits.sum(axis=0) != np.diag(self.matrix)).any()
                or (self.truth.sum(axis=0) != self.matrix.sum(axis=1)).any()
                or (self.predicted.sum(axis=0) != columns).any()):
            raise ValueError('the counts of the images are not those of the matrix')

    @property
    def num_classes(self):
        """The number of classes C."""
        return len(self.matrix)

    def image_miou(self, reading='classes'):
        """mIoU of each image, float64 [N], nan without labelled pixels; `metrics` has more."""
        return metrics.image_miou(self.hits, self.truth, self.predicted, reading)

    def to_json(self):
        """The counts as a dict of lists, strings and integers.

        'counts' has, for each image, [class, hits, truth, predicted] of each class in it.
        """
        counts = []
        for hits, truth, predicted in zip(self.hits, self.truth, self.predicted):
            there = np.flatnonzero(truth + predicted)
            counts.append(np.stack([there, hits[there], truth[there], predicted[there]],
                                   axis=1).tolist())
        return {'ids': list(self.ids), 'counts': counts, 'matrix': self.matrix.tolist()}

    @classmethod
    def from_json(cls, fields):
        """The inverse of `to_json`.

        Raises:
          UserError: it is not what `to_json` gives.
        """
        try:
            matrix = np.asarray(fields['matrix'], np.int64)
            ids = tuple(str(name) for name in fields['ids'])
            if len(fields['counts']) != len(ids):
                raise ValueError(f'{len(fields["counts"])} rows for {len(ids)} images')
            dense = np.zeros([3, len(ids), len(matrix)], np.int64)
            for place, rows in enumerate(fields['counts']):
                for number, *values in rows:
                    dense[:, place, number] = values
            return cls(ids, *dense, matrix)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(f'not the counts of an evaluation: {error}; evaluate again') from None


class ImageIoU:
    """The measure 'iou': the confusion matrix, and the counts of each image.

    Args:
      spec: DatasetSpec.
    """

    def __init__(self, spec):
        self._spec = spec
        self._ids, self._images = [], []
        self._matrix = np.zeros([spec.num_classes, spec.num_classes + 1], np.int64)

    def update(self, image_id, label, prediction, instances=None):
        """Counts one image; `label` and `prediction` as in `checked_image`.

        Raises:
          UserError, ValueError: see `checked_image`.
        """
        del instances
        matrix = count_image(label, prediction, self._spec.num_classes, image_id)
        self._ids.append(str(image_id))
        self._images.append([np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)[:-1]])
        self._matrix += matrix

    def counts(self):
        """What was counted so far, as `ImageCounts`."""
        dense = np.array(self._images, np.int64).reshape(-1, 3, self._spec.num_classes)
        hits, truth, predicted = dense.transpose(1, 0, 2)
        return ImageCounts(tuple(self._ids), hits, truth, predicted,
                           without_empty_column(self._matrix).copy())

    def result(self):
        """`metrics.summary` by the data set's rules, with means over images.

        Returns:
          the summary and {'images': N, 'image_miou': Durall's eq. 8 by classes,
          'image_miou_std': its population standard deviation over images,
          'image_miou_pixels': eq. 8 taken literally}.
        """
        counts = self.counts()
        spec = self._spec
        by_image = counts.image_miou()
        present = by_image[~np.isnan(by_image)]
        return {
            **metrics.summary(counts.matrix, spec.class_names, spec.absent, spec.categories),
            'images': len(counts.ids),
            'image_miou': metrics.plain(metrics.mean_of_present(by_image)),
            'image_miou_std': float(present.std()) if present.size else None,
            'image_miou_pixels': metrics.plain(
                metrics.mean_of_present(counts.image_miou('pixels'))),
        }
