"""How well boundaries are met: Csurka's boundary F, and IoU in a band round the true boundaries.

A boundary pixel of a class is a pixel of the class with another class above, below, left or right
of it (the inner, 4-connected contour of the class's binary map). Neither the image's frame nor
the rim of an ignored region is a boundary: nobody knows what lies behind. Pixels that the truth
ignores are ignored in the prediction too, so no boundary of either map lies in them.
"""
import numpy as np
from scipy import ndimage
from scipy import spatial

from tf_advseg.core.errors import UserError
from tf_advseg.data.spec import IGNORE_LABEL
from tf_advseg.evaluation import image_counts
from tf_advseg.evaluation import metrics


def boundary_pixels(ids, counted):
    """Where a counted pixel has a counted 4-neighbour of another id.

    Args:
      ids: integers [H,W].
      counted: bool [H,W]: False for pixels that are no part of any region.

    Returns:
      bool [H,W]: the boundary pixels of all classes; those of class c are `… & (ids == c)`.
    """
    edges = np.zeros(ids.shape, bool)
    for first, second in (((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
                          ((slice(None), slice(None, -1)), (slice(None), slice(1, None)))):
        differ = (ids[first] != ids[second]) & counted[first] & counted[second]
        edges[first] |= differ
        edges[second] |= differ
    return edges


def squared_distances(points, others, reach=None):
    """Squared Euclidean distance of each point to the nearest of others, exact integers.

    Args:
      points: int [N,2]: y, x.
      others: int [M,2].
      reach: pixels; where nothing is as near as that, the answer may be any larger number.

    Returns:
      int64 [N]; 2**62 where there is nothing (within reach).
    """
    far = np.full(len(points), 2 ** 62, np.int64)
    if not len(points) or not len(others):
        return far
    bound = np.inf if reach is None else float(reach) + 1.0
    distances = spatial.cKDTree(others).query(points, distance_upper_bound=bound)[0]
    near = np.isfinite(distances)
    # Square roots of integers, squared and rounded, are those integers again.
    far[near] = np.rint(distances[near] ** 2).astype(np.int64)
    return far


class BoundaryF:
    """The measure 'boundary': BF, the F measure of class boundaries, averaged over images.

    Csurka, Larlus and Perronnin, BMVC 2013: with B_gt and B_ps the boundary pixels of
    a class in truth and prediction, and d the Euclidean distance to the nearest pixel of a set,
      P = share of z in B_ps with d(z, B_gt) < tolerance,
      R = share of z in B_gt with d(z, B_ps) < tolerance,  F = 2PR / (P + R).
    F is averaged over the classes of the image, then over images; Luc et al. 2016 (section 4
    and Table 2) print that mean and the standard deviation over images. The tolerance is theta
    times the image's diagonal; as in Luc, theta makes it `pixels` = 5 at the split's smallest
    diagonal. Distances are compared as integers, so a distance of exactly 5 is never "< 5".

    Where the papers leave a choice: classes "of the image" are those in its truth or prediction
    (labelled pixels); a class with a boundary in one of the two only has F = 0, and so has a class
    where nothing matches. Without a boundary in both maps F = 1 where the class is all that is
    labelled and all that is predicted there, 0 where only one map has the class, and else it is
    not scored: ignored pixels, such as the rims of PASCAL VOC's objects, hide its boundary, so
    that nothing is known of how well it is met.

    Args:
      spec: DatasetSpec.
      sizes: (h, w) of every image of the split; the smallest diagonal among them fixes theta.
      pixels: tolerance at that diagonal.

    Raises:
      UserError: no sizes, or a tolerance that is not above 0.
    """

    def __init__(self, spec, sizes, pixels=5):
        sizes = [(int(h), int(w)) for h, w in sizes]
        if not sizes:
            raise UserError('the boundary measure needs the sizes of the images; there are none')
        if not pixels > 0:
            raise UserError(f'a boundary tolerance of {pixels} pixels; expected more than 0')
        self._spec, self._pixels = spec, pixels
        self._smallest = min(h * h + w * w for h, w in sizes)  # the diagonal, squared
        self._scores = []
        self._true, self._hidden = 0, 0  # classes of images; those without a true boundary

    @property
    def theta(self):
        """The tolerance as a factor of the image's diagonal."""
        return self._pixels / float(np.sqrt(self._smallest))

    def update(self, image_id, label, prediction, instances=None):
        """Scores one image; `label` and `prediction` as in `image_counts.checked_image`.

        Raises:
          UserError, ValueError: see there.
        """
        del instances
        classes = self._spec.num_classes
        label, prediction = image_counts.checked_image(image_id, label, prediction, classes)
        self._scores.append(self._score(label, prediction))

    def _score(self, label, prediction):
        """float64 [3,C]: precision, recall and F of each class, nan where it is not scored."""
        scores = np.full([3, self._spec.num_classes], np.nan)
        counted = label != IGNORE_LABEL
        edges = [boundary_pixels(ids, counted) for ids in (label, prediction)]
        present = np.union1d(label[counted], prediction[counted])
        for number in present[present != IGNORE_LABEL]:
            masks = [counted & (ids == number) for ids in (label, prediction)]
            truth, predicted = (np.argwhere(edge & mask) for edge, mask in zip(edges, masks))
            self._true += bool(masks[0].any())
            self._hidden += bool(masks[0].any() and not len(truth))
            if len(truth) or len(predicted):
                scores[:, number] = self._score_class(truth, predicted, label.shape)
            elif not all(mask.any() for mask in masks):
                scores[:, number] = 0.0
            elif all(np.array_equal(mask, counted) for mask in masks):
                scores[:, number] = 1.0
        return scores

    def _score_class(self, truth, predicted, size):
        if not len(truth) or not len(predicted):
            return 0.0, 0.0, 0.0
        precision = self._share_near(predicted, truth, size)
        recall = self._share_near(truth, predicted, size)
        total = precision + recall
        return precision, recall, 2 * precision * recall / total if total else 0.0

    def _share_near(self, points, others, size):
        """Share of the points that are nearer than the tolerance to one of the others."""
        diagonal = size[0] ** 2 + size[1] ** 2
        reach = self.theta * diagonal ** 0.5
        squares = squared_distances(points, others, reach)
        # d < pixels · diagonal / smallest diagonal, without a rounded square root; `far` is above
        # every product, and 2**62 · smallest would not fit, hence the second comparison.
        found = squares < 2 ** 62
        near = squares[found] * self._smallest < self._pixels ** 2 * diagonal
        return int(near.sum()) / len(points)

    def result(self):
        """Means over images, fractions in 0..1; None where there is nothing to average.

        Returns:
          {'mean': BF, 'std': population standard deviation over images, 'precision', 'recall'
          (the same means), 'class_f': {name: mean over the images it is scored in}, 'images':
          how many had a scored class, 'scored': how many (image, class) pairs were scored,
          'without_boundary': share of the true (image, class) pairs whose truth shows no
          boundary (where it is most of them BF measures little), 'tolerance': {'pixels', 'theta',
          'smallest_diagonal'}}.
        """
        table = np.array(self._scores).reshape(-1, 3, self._spec.num_classes)
        means = np.stack([metrics.mean_over_classes(table[:, k]) for k in range(3)])
        scored = means[:, ~np.isnan(means[2])]
        by_class = [metrics.mean_of_present(table[:, 2, c]) for c in range(table.shape[2])]
        overall = [float(row.mean()) if row.size else None for row in scored]
        return {
            'mean': overall[2], 'std': float(scored[2].std()) if scored.size else None,
            'precision': overall[0], 'recall': overall[1],
            'class_f': {name: metrics.plain(value)
                        for name, value in zip(self._spec.class_names, by_class)},
            'images': scored.shape[1], 'scored': int((~np.isnan(table[:, 2])).sum()),
            'without_boundary': self._hidden / self._true if self._true else None,
            'tolerance': {'pixels': self._pixels, 'theta': self.theta,
                          'smallest_diagonal': float(np.sqrt(self._smallest))},
        }


class Trimap:
    """The measure 'trimap': mean IoU within a band of some pixels round the true boundaries.

    After Kohli, Ladicky and Torr 2009 and Krähenbühl and Koltun 2011. A labelled pixel
    is in the band of width w if its distance to the nearest boundary pixel, itself included, is
    below w: with w = 1 the boundary pixels on both sides, with w the w layers on each side.

    Args:
      spec: DatasetSpec.
      widths: whole pixels.
      void: whether labelled pixels beside ignored ones are boundary pixels too. None: for PASCAL
        VOC, whose annotators left the borders of objects unlabelled, yes (as the trimaps of
        Krähenbühl and of DeepLab have it: a band round 'void'); else no.

    Raises:
      UserError: a width that is not a whole number above 0.
    """

    def __init__(self, spec, widths=(1, 3, 5, 10, 20), void=None):
        if not widths or any(width != int(width) or width < 1 for width in widths):
            raise UserError(f'trimap widths {tuple(widths)}; expected whole pixels above 0')
        self._spec = spec
        self._void = spec.name.startswith('pascal_voc') if void is None else bool(void)
        shape = [spec.num_classes, spec.num_classes + 1]
        self._matrices = {int(width): np.zeros(shape, np.int64) for width in sorted(widths)}

    def band_distances(self, label):
        """Squared distance of every pixel to the nearest boundary pixel, int64 [H,W].

        2**62 everywhere in an image without boundaries.
        """
        counted = label != IGNORE_LABEL
        if self._void:
            edges = boundary_pixels(label, np.ones(label.shape, bool)) & counted
        else:
            edges = boundary_pixels(label, counted)
        if not edges.any():
            return np.full(label.shape, 2 ** 62, np.int64)
        return np.rint(ndimage.distance_transform_edt(~edges) ** 2).astype(np.int64)

    def update(self, image_id, label, prediction, instances=None):
        """Counts one image; `label` and `prediction` as in `image_counts.checked_image`.

        Raises:
          UserError, ValueError: see there.
        """
        del instances
        classes = self._spec.num_classes
        label, prediction = image_counts.checked_image(image_id, label, prediction, classes)
        squares = self.band_distances(label)
        for width, matrix in self._matrices.items():
            matrix += image_counts.count_pairs(label, prediction, classes, squares < width ** 2)

    def result(self):
        """IoU by width, over the split.

        Returns:
          {'widths': {'1': {'mean_iou', 'pixel_accuracy', 'class_iou': {name: IoU}, 'pixels': in
          the band}, …}, 'void': whether ignored regions have a band too, 'absent': the rule of the
          means, see `metrics.mean_iou`}.
        """
        widths = {}
        for width, matrix in self._matrices.items():
            figures = metrics.summary(matrix, self._spec.class_names, self._spec.absent)
            widths[str(width)] = {'pixels': int(matrix.sum()), **{
                name: figures[name] for name in ('mean_iou', 'pixel_accuracy', 'class_iou')}}
        return {'widths': widths, 'void': self._void, 'absent': self._spec.absent}
