"""What a discriminator's confidence maps are worth beside the softmax's own (Hung et al., Table 7).

The points are those of the discriminator's maps, whole images padded as in every evaluation;
padding is zero in what the discriminator sees, and counts nowhere, as in training. Void is not: of
the unlabelled images that the confidence is made for nobody knows it. What counts are the points
that have a label. Without a discriminator the points are those where the segmentor's logits stand.
"""
import dataclasses
from typing import Optional

import numpy as np
import tensorflow as tf

from tf_advseg.adversaries import label_maps
from tf_advseg.core import errors
from tf_advseg.core import progress
from tf_advseg.data import pipeline
from tf_advseg.data.records import record_set as record_sets
from tf_advseg.data.spec import IGNORE_LABEL
from tf_advseg.evaluation import confidence_counts as counting
from tf_advseg.evaluation import evaluator
from tf_advseg.methods.hung import map_points
from tf_advseg.models import segmentor as segmentors
from tf_advseg.reporting.paper_figures import confidence_panels
from tf_advseg.run import shown_images

BATCH_SIZE = 4
BATCH_VALUES = 2 ** 25  # probabilities of a batch at most (256 MiB): Cityscapes' come one by one
THRESHOLD = 0.2  # T of the paper, of the panels
# Where there is no discriminator: every largest probability is above 1/C, so Table 7's say little.
SOFTMAX_THRESHOLDS = (0.0, 0.5, 0.9, 0.99)


def judged(discriminator, logits, valid, map_stride=1, mask_predictions=True):
    """D's confidence map D(S(X)), in which brighter is nearer to the truths (Fig. 3).

    Args:
      discriminator: a discriminator that decides for every point.
      logits: the segmentor's, float32 [b, h', w', C].
      valid: bool [b, h, w], the image's own pixels; the others are zero in what D sees.
      map_stride: pixels from one point of D's maps to the next.
      mask_predictions: as D was trained; False shows it the prediction on padding, too.

    Returns:
      float32 [b, (h-1)//s+1, (w-1)//s+1], D's probability of "truth" at every point.
    """
    grid = map_points.on_grid(logits, tf.shape(valid)[1:3], map_stride)
    maps = tf.nn.softmax(tf.cast(grid, tf.float32))
    if mask_predictions:
        maps *= tf.cast(map_points.points_of(valid, grid), tf.float32)[..., None]
    return tf.math.sigmoid(discriminator(maps, training=False))


@dataclasses.dataclass(frozen=True)
class Judged:
    """One image at the points of the discriminator's maps, padding cut off.

    Attributes:
      image_id: str.
      ids: int [h', w'], the predicted classes in the data's numbering, -1 for one that it has not.
      labels: uint8 [h', w'], 255 where there is none.
      softmax: float64 [h', w'], the largest probability.
      disc: float32 [h', w'], the discriminator's probability of "truth", or None.
    """
    image_id: str
    ids: np.ndarray
    labels: np.ndarray
    softmax: np.ndarray
    disc: Optional[np.ndarray] = None

    @property
    def valid(self):
        """bool [h', w'], which points have a label."""
        return self.labels != IGNORE_LABEL

    @property
    def correct(self):
        """bool [h', w'], whether the prediction is the label."""
        return self.ids == self.labels


class Judge:
    """Runs a segmentor and what judges it; compiled once, whatever the images' sizes.

    Args:
      segmentor: model [B, h, w, 3] RGB 0..255 -> logits [B, h', w', C].
      discriminator: maps [B, h', w', C] -> logits [B, h', w'], or None: softmax alone.
      map_stride: pixels from one point of its maps to the next; None without one takes the
        segmentor's `logits_stride`.
      crop_size: (h, w) that images are padded to at least, or None.
      translation: int [C], see `predictions.MapPredictor`; None: the data's classes.
      mask_predictions: see `judged`.

    Raises:
      UserError: a discriminator that decides once for an image, or of other classes.
    """

    def __init__(self, segmentor, discriminator=None, map_stride=None, crop_size=None,
                 translation=None, mask_predictions=True):
        if discriminator is not None:
            _require_judge(segmentor, discriminator)
        self.segmentor, self.discriminator = segmentor, discriminator
        self._mask = mask_predictions
        self.map_stride = map_stride or getattr(segmentor, 'logits_stride', None) or 1
        self.crop_size = (1, 1) if crop_size is None else crop_size
        self._names = None if translation is None else np.asarray(translation)
        # Open sizes: see `evaluator.open_size`.
        self._compiled = tf.function(self._batch, input_signature=[
            tf.TensorSpec([None, *evaluator.open_size(segmentor), 3], tf.float32),
            tf.TensorSpec([None, None, None], tf.int32),
            tf.TensorSpec([None, None, None], tf.bool)])

    def _batch(self, images, labels, own):
        """Everything of padded images at the points; `own` is False on padding."""
        logits = self.segmentor(images, training=False)
        grid = map_points.on_grid(logits, tf.shape(labels)[1:3], self.map_stride)
        size = tf.shape(grid)[1:3]
        # float64: near 1, where most of them are, float32 has but few values.
        chances = tf.nn.softmax(tf.cast(grid, tf.float64))
        found = {'ids': tf.cast(tf.argmax(grid, axis=-1, output_type=tf.int32), tf.uint8),
                 'softmax': tf.reduce_max(chances, axis=-1),
                 'labels': tf.cast(label_maps.labels_at(labels, size), tf.uint8),
                 'own': label_maps.labels_at(tf.cast(own, tf.int32), size) > 0}
        if self.discriminator is not None:
            found['disc'] = judged(self.discriminator, logits, own, self.map_stride,
                                   self._mask)
        return found

    def over(self, records, ids):
        """Judges images in the order of `ids`.

        Args:
          records: data.records.record_set.RecordSet.
          ids: image ids.

        Yields:
          Judged.

        Raises:
          UserError: no images, or damaged ones.
        """
        sizes = records.image_sizes(ids)
        multiple = getattr(self.segmentor, 'output_stride', None) or 16
        with record_sets.data_errors():
            with tf.device('/cpu:0'):
                batches = pipeline.whole_images(
                    records, ids, self.crop_size, self._batch_size(sizes, multiple),
                    pad_value=segmentors.padding_colour(self.segmentor), multiple=multiple)
            for batch in batches:
                own = _inside(sizes[batch['index'].numpy()], batch['label'].shape[1:])
                found = {name: part.numpy() for name, part in self._compiled(
                    batch['image'], batch['label'], tf.constant(own)).items()}
                for row, image_id in enumerate(batch['image_id'].numpy()):
                    yield self._judged(image_id.decode('utf-8'),
                                       {name: part[row] for name, part in found.items()})

    def _batch_size(self, sizes, multiple):
        """How many images fit, by the largest."""
        padded = pipeline.padded_sizes(sizes, self.crop_size, multiple).astype(np.int64)
        points = max(padded.prod(axis=1), default=1) // self.map_stride ** 2
        return int(np.clip(BATCH_VALUES // (points * self.segmentor.num_classes), 1, BATCH_SIZE))

    def _judged(self, image_id, found):
        own = found.pop('own')
        inside = slice(own[:, 0].sum()), slice(own[0].sum())
        found = {name: part[inside] for name, part in found.items()}
        if self._names is not None:
            found['ids'] = self._names[found['ids']]
        return Judged(image_id, **found)


def _require_judge(segmentor, discriminator):
    """UserError unless a discriminator decides for every point of the segmentor's maps."""
    decides = getattr(discriminator, 'decides', 'pixel')
    if decides != 'pixel':
        raise errors.UserError(f'this discriminator decides once for an {decides}: it has no '
                               'confidence map; take one of build_fc_discriminator.kind = "pixel"')
    theirs = getattr(discriminator, 'num_classes', segmentor.num_classes)
    if theirs != segmentor.num_classes:
        raise errors.UserError(f'the discriminator judges maps of {theirs} classes, and the '
                               f'segmentor has {segmentor.num_classes}; take one that was '
                               'trained on the same data set')


def _inside(sizes, shape):
    """bool [B, h, w]: the images' own pixels of padded ones."""
    rows = np.arange(shape[0])[None, :, None] < sizes[:, 0, None, None]
    return rows & (np.arange(shape[1])[None, None, :] < sizes[:, 1, None, None])


def measure(judge, records, ids, thresholds=counting.THRESHOLDS, show=False):
    """Counts the points of images.

    Args:
      judge: Judge.
      records: data.records.record_set.RecordSet.
      ids: image ids.
      thresholds: numbers from 0 to 1.
      show: whether to show progress.

    Returns:
      (SelectionCounts of the softmax, that of the discriminator or None).

    Raises:
      UserError: see `Judge.over`; bad thresholds.
    """
    softmax = counting.SelectionCounts(thresholds)
    disc = None if judge.discriminator is None else counting.SelectionCounts(thresholds)
    with progress.Progress(len(ids), 'confidence', enabled=show) as bar:
        for found in judge.over(records, ids):
            softmax.update(found.softmax, found.correct, found.valid)
            if disc is not None:
                disc.update(found.disc, found.correct, found.valid)
            bar.update(1)
    return softmax, disc


def panel(judge, records, ids, threshold=THRESHOLD):
    """Images with their confidence maps (Fig. 3), what T selects, and where errors are.

    Args:
      judge: Judge.
      records: data.records.record_set.RecordSet.
      ids: of the images, a row each.
      threshold: T; without a discriminator that of the largest probability.

    Returns:
      uint8 [H, W, 3].
    """
    rows = []
    for found in judge.over(records, ids):
        image, label = records.load(found.image_id)
        rows.append(confidence_panels.Row(found.image_id, image, label, found.ids, found.labels,
                                          found.softmax, found.disc))
    spec = records.spec
    return confidence_panels.confidence_panel(rows, spec.palette, spec.class_names, threshold)


class Monitor:
    """Measures a run's discriminator on its hold-out while it trains.

    Args:
      context: run.context.Context.
      segmentor, discriminator: the networks as they are at each call.
      map_stride: pixels from one point of the discriminator's maps to the next.
      thresholds: T of the lines.
      threshold: T of the panel.
      board: run.context.Board that `lines` writes the panel to, or None.
      mask_predictions: see `judged`.
    """

    def __init__(self, context, segmentor, discriminator, map_stride,
                 thresholds=counting.THRESHOLDS, threshold=THRESHOLD, board=None,
                 mask_predictions=True):
        self._records, self._ids = context.data.records, list(context.data.holdout)
        self._thresholds = counting.require_thresholds(thresholds)
        self._threshold, self._board = threshold, board
        self._judge = Judge(segmentor, discriminator, map_stride, context.crop_size,
                            mask_predictions=mask_predictions)

    def lines(self, done):
        """What is logged at an evaluation; on every worker, since networks are run.

        Args:
          done: steps of the segmentor so far, where the panel stands on the board.

        Returns:
          list of one dict for metrics.jsonl: event 'confidence', split 'holdout', T, and what
          `evaluation.confidence_counts.figures` says; [] without a hold-out.
        """
        if not self._ids:
            return []
        if self._board is not None:
            self._board.image('confidence', done, self.panel())
        softmax, disc = measure(self._judge, self._records, self._ids, self._thresholds)
        return [{'event': 'confidence', 'split': 'holdout', 'threshold': self._threshold,
                 **counting.figures(softmax, disc)}]

    def panel(self):
        """uint8 [H, W, 3] of a few images of the hold-out, or None without one."""
        if not self._ids:
            return None
        return panel(self._judge, self._records, shown_images.spread(self._ids), self._threshold)
