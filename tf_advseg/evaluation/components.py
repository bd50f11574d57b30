"""Errors of structure: regions that should not be there, and regions that were not found.

Adversarial training of segmentation is said to mend what a pixel loss does not see: stray patches
of a wrong class, objects lost or torn to pieces (Luc et al. 2016, sections 1 and 4.1; LoAd,
section 1). Pixels hardly count them: a hundred specks cost less IoU than one shifted border.
Here they are counted as connected components.
"""
import numpy as np
from scipy import ndimage

from tf_advseg.data.spec import IGNORE_LABEL
from tf_advseg.evaluation import image_counts
from tf_advseg.evaluation import metrics

_EIGHT = np.ones([3, 3], int)
_KINDS = ('truth', 'predicted', 'missed', 'spurious', 'difference')


def count_components(label, prediction, number):
    """Components of one class in one image.

    Args:
      label: integers [H,W], 255 = ignore.
      prediction: integers [H,W].
      number: the class.

    Returns:
      {'truth': components of the class in the truth, 'predicted': those in the prediction,
      'missed': of the truth's, those that no pixel of the class was predicted in,
      'spurious': of the prediction's, those without a pixel of the class in the truth,
      'difference': |predicted - truth|}.
      Components are 8-connected. Predicted ones are those of the map as it was predicted; the ones
      that lie in ignored pixels altogether do not count.
    """
    box = _box(label == number, prediction == number)
    if box is None:
        return dict.fromkeys(_KINDS, 0)
    truth, predicted = label[box] == number, prediction[box] == number
    truth_parts, truths = ndimage.label(truth, _EIGHT)
    predicted_parts, _ = ndimage.label(predicted, _EIGHT)
    both = truth & predicted
    seen = np.unique(predicted_parts[predicted & (label[box] != IGNORE_LABEL)]).size
    found = np.unique(truth_parts[both]).size
    supported = np.unique(predicted_parts[both]).size
    return {'truth': truths, 'predicted': seen, 'missed': truths - found,
            'spurious': seen - supported, 'difference': abs(seen - truths)}


def _box(*masks):
    """Slices (y, x) round everything in the masks, None where they are empty."""
    mask = np.logical_or.reduce(masks)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


class ComponentErrors:
    """The measure 'components': see `count_components`, summed over classes and images.

    Args:
      spec: DatasetSpec.
    """

    def __init__(self, spec):
        self._spec = spec
        self._totals = np.zeros([len(_KINDS), spec.num_classes], np.int64)
        self._images = 0

    def update(self, image_id, label, prediction, instances=None):
        """Counts one image; `label` and `prediction` as in `image_counts.checked_image`.

        An image without labelled pixels is not counted.

        Raises:
          UserError, ValueError: see there.
        """
        del instances
        classes = self._spec.num_classes
        label, prediction = image_counts.checked_image(image_id, label, prediction, classes)
        if (label == IGNORE_LABEL).all():
            return
        self._images += 1
        present = np.union1d(label, prediction)
        for number in present[present != IGNORE_LABEL]:
            counts = count_components(label, prediction, number)
            self._totals[:, number] += [counts[kind] for kind in _KINDS]

    def result(self):
        """Counts over the split, and means over its images.

        Returns:
          {'images': N; 'truth', 'predicted', 'missed', 'spurious', 'difference': {'total': int,
          'per_image': total / N or None}; 'missed_share': missed / truth and 'spurious_share':
          spurious / predicted (None over nothing); 'classes': {name: {kind: total}}}.
          'difference' adds up the |predicted - truth| of each class and image.
        """
        totals = self._totals.sum(axis=1)
        result = {'images': self._images}
        for kind, total in zip(_KINDS, totals.tolist()):
            result[kind] = {'total': total,
                            'per_image': total / self._images if self._images else None}
        count = dict(zip(_KINDS, totals))
        result['missed_share'] = metrics.plain(metrics.ratio(count['missed'], count['truth']))
        result['spurious_share'] = metrics.plain(
            metrics.ratio(count['spurious'], count['predicted']))
        result['classes'] = {name: dict(zip(_KINDS, column.tolist()))
                             for name, column in zip(self._spec.class_names, self._totals.T)}
        return result
