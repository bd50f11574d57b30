"""Cityscapes' own scores: IoU and instance-weighted IoU (iIoU), by class and by category.

To the last digit what `cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling` writes for the
same maps (Cordts et al. 2016, section 4.1), from train ids instead of files: sums are added in its
order, and instances are weighted one after the other as there.
"""
import numpy as np

from tf_advseg.core.errors import UserError
from tf_advseg.evaluation import image_counts
from tf_advseg.evaluation import metrics

# Mean pixels of an instance of each class in the training set, as the official script has them.
AVERAGE_SIZE = {
    'person': 3462.4756337644, 'rider': 3930.4788056518, 'car': 12794.0202738185,
    'truck': 27855.1264367816, 'bus': 35732.1511111111, 'train': 67583.7075812274,
    'motorcycle': 6298.7200839748, 'bicycle': 4672.3249222261}
_CODE = 1000  # an instance is labelId * 1000 + its number; anything up to 1000 is no instance


class CityscapesScores:
    """The measure 'instances'.

    iIoU = iTP / (iTP + FP + iFN): each true pixel of an object weighs the class's average size over
    the size of the object, so that a far car counts as much as a near one; FP is not weighted, as a
    predicted pixel belongs to no object. A category has an iIoU if objects of all its classes are
    separated: human and vehicle.

    The official script counts by labelIds; on train ids nothing changes: ids that it ignores are
    255 in the label, and a prediction of one of them (here: 255) is wrong where the truth counts.

    Args:
      spec: DatasetSpec of Cityscapes, by train ids, with categories and instance classes.

    Raises:
      UserError: another data set.
    """

    def __init__(self, spec):
        if 'cityscapes' not in (spec.name, spec.numbering) or not spec.categories:
            raise UserError(f'the measure "instances" is Cityscapes\' (iIoU); the data set '
                            f'{spec.name} has none; leave it out')
        unknown = [spec.class_names[c] for c in spec.instance_classes
                   if spec.class_names[c] not in AVERAGE_SIZE]
        if unknown or not spec.instance_classes:
            raise UserError(f'data set {spec.name}: the measure "instances" wants objects of '
                            f'{", ".join(AVERAGE_SIZE)} separated, and no others')
        self._spec = spec
        self._matrix = np.zeros([spec.num_classes, spec.num_classes + 1], np.int64)
        official = spec.official_ids or range(spec.num_classes)
        self._train_id = {official[c]: c for c in spec.instance_classes}
        self._grouped = [name for name in spec.category_names
                         if all(c in spec.instance_classes for c in self._members(name))]
        # Weighted pixels [right, wrong] of each class and of each such category.
        self._classes = {c: [0.0, 0.0] for c in spec.instance_classes}
        self._categories = {name: [0.0, 0.0] for name in self._grouped}

    def _members(self, category):
        """Train ids of a category's classes."""
        return [c for c, name in enumerate(self._spec.categories) if name == category]

    def update(self, image_id, label, prediction, instances=None):
        """Counts one image.

        Args:
          image_id: its name.
          label, prediction: as in `image_counts.checked_image`.
          instances: integers [H,W]: labelId * 1000 + number where there is an object.

        Raises:
          UserError: there are no instances, or a label is no class.
          ValueError: shapes that differ, or a prediction that is no train id.
        """
        if instances is None:
            raise UserError(f'{image_id}: has no instances, and the measure "instances" needs '
                            'them; prepare the data again from a folder with *_instanceIds.png')
        instances = np.asarray(instances)
        if instances.shape != np.shape(label):
            raise ValueError(f'{image_id}: the instances are {instances.shape} and the label '
                             f'{np.shape(label)}')
        classes = self._spec.num_classes
        matrix = image_counts.count_image(label, prediction, classes, image_id)
        self._matrix += matrix
        self._add_instances(instances, np.asarray(prediction))

    def _add_instances(self, instances, prediction):
        """Adds the image's objects in the order of their ids, as the official script."""
        inside = instances > _CODE
        ids, place = np.unique(instances[inside], return_inverse=True)
        predicted = np.minimum(prediction[inside], self._spec.num_classes)
        wide = self._spec.num_classes + 1
        counts = np.bincount(place * wide + predicted, minlength=len(ids) * wide)
        for instance, row in zip(ids.tolist(), counts.reshape(len(ids), wide).tolist()):
            number = self._train_id.get(instance // _CODE)
            if number is None:  # a caravan or a trailer, which are ignored
                continue
            size = sum(row)
            weight = AVERAGE_SIZE[self._spec.class_names[number]] / float(size)
            self._weigh(self._classes[number], row[number], size, weight)
            category = self._spec.categories[number]
            if category in self._categories:
                right = sum(row[c] for c in self._members(category))
                self._weigh(self._categories[category], right, size, weight)

    @staticmethod
    def _weigh(sums, right, size, weight):
        sums[0] += float(right) * weight
        sums[1] += float(size - right) * weight

    def result(self):
        """The scores, fractions in 0..1, None where the official script has nan.

        Returns:
          {'class_iou', 'class_iiou', 'class_accuracy': {class: value}, 'category_iou',
          'category_iiou': {category: value}, 'mean_iou', 'mean_iiou', 'mean_category_iou',
          'mean_category_iiou', 'absent': 'left_out', the script's rule}. 'class_accuracy' is
          n_ii / t_i, which the script does not write.
        """
        spec, matrix = self._spec, self._matrix
        names, grouped = metrics.category_matrix(matrix, spec.categories)
        scores = {
            'class_iou': dict(zip(spec.class_names, metrics.class_iou(matrix).tolist())),
            'class_iiou': {name: self._iiou(matrix, c, self._classes.get(c))
                           for c, name in enumerate(spec.class_names)},
            'category_iou': dict(zip(names, metrics.class_iou(grouped).tolist())),
            'category_iiou': {name: self._iiou(grouped, k, self._categories.get(name))
                              for k, name in enumerate(names)},
        }
        means = {'mean_iou': 'class_iou', 'mean_iiou': 'class_iiou',
                 'mean_category_iou': 'category_iou', 'mean_category_iiou': 'category_iiou'}
        result = {mean: metrics.plain(_mean_in_order(scores[of].values()))
                  for mean, of in means.items()}
        scores['class_accuracy'] = dict(zip(spec.class_names,
                                            metrics.class_accuracy(matrix).tolist()))
        for kind, values in scores.items():
            result[kind] = {name: metrics.plain(value) for name, value in values.items()}
        result['absent'] = 'left_out'
        return result

    @staticmethod
    def _iiou(matrix, number, sums):
        """iIoU of one class or category from its weighted sums; nan where it has none."""
        if sums is None:
            return float('nan')
        right, wrong = sums
        false = int(matrix[:, number].sum() - matrix[number, number])
        total = right + false + wrong  # in the script's order: rounding depends on it
        return right / total if total else float('nan')


def _mean_in_order(values):
    """Mean of what is not nan, added from the first to the last (not pairwise), as the script."""
    total, number = 0.0, 0
    for value in values:
        if not np.isnan(value):
            total += value
            number += 1
    return total / number if number else float('nan')
