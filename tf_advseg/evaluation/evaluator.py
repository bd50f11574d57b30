"""Confusion matrices of a segmentor over a split: exact, compiled once, reused for every call.

LoAd evaluates its hold-out after every propagation, its largest cost (section 7: V_e N). So the
hold-out stays decoded and padded in memory as uint8, one function is compiled for an evaluator's
life, the counts stay on the device, and one [C,C] matrix is fetched at the end.
"""
import numpy as np
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.data.pipeline import padded_batch
from tf_advseg.data.spec import IGNORE_LABEL
from tf_advseg.evaluation import multi_scale
from tf_advseg.models import segmentor as segmentors
from tf_advseg.models.resize import resize_bilinear


def open_size(segmentor):
    """(height, width) that functions for images of many sizes are traced with: both open.

    A function that was traced for one width and any height (what `reduce_retracing` makes of
    images of one width) is folded wrongly by TensorFlow's graph optimizer around atrous depthwise
    convolutions, and fails (TF 2.15.1). A foreign network's own size stays, if it has one.
    """
    wrapped = isinstance(segmentor, segmentors.WrappedSegmentor)
    return (wrapped and segmentor.crop_size) or (None, None)


def predicted_ids(logits, size):
    """Argmax of the align-corners upsampled float32 logits: int32 [B,height,width].

    Args:
      logits: float [B,h',w',C] at the segmentor's stride; size: (height, width) or int32 [2].
    """
    return tf.argmax(resize_bilinear(logits, size), axis=-1, output_type=tf.int32)


def _counts(labels, predictions, num_classes):
    """int64 [C*C + 2]: the matrix row by row, then ignored pixels, then ids that do not exist."""
    labels = tf.cast(labels, tf.int32)
    cells = num_classes * num_classes
    known = (labels >= 0) & (labels < num_classes) & (labels != IGNORE_LABEL)
    other = tf.where(labels == IGNORE_LABEL, cells, cells + 1)
    index = tf.where(known, labels * num_classes + tf.cast(predictions, tf.int32), other)
    # int64 is counted on the CPU also where there is a GPU: its kernel is neither exact beyond
    # int32 nor allowed under deterministic ops, and the ids are small beside the logits.
    return tf.math.bincount(tf.reshape(index, [-1]), minlength=cells + 2, maxlength=cells + 2,
                            dtype=tf.int64)


def confusion_matrix(labels, predictions, num_classes):
    """Counts of (truth, prediction) over all pixels but those labelled 255.

    Args:
      labels: int [...] of 0..C-1, 255 = ignored.
      predictions: int [...] of 0..C-1, the same shape.

    Returns:
      int64 [C,C], row = truth, column = prediction; pixels labelled beyond 0..C-1 are left out.
    """
    cells = _counts(labels, predictions, num_classes)[:num_classes * num_classes]
    return tf.reshape(cells, [num_classes, num_classes])


class Evaluator:
    """Evaluates one segmentor on one split, any number of times.

    The matrix does not depend on the batch size or on the number of replicas: images are added
    as whole numbers, in inference mode no image sees another, and a share that is short is
    filled up with images that have no labelled pixel.

    Args:
      segmentor: model [B,h,w,3] RGB 0..255 -> logits [B,h',w',C].
      data: either the arrays of `data.pipeline.evaluation_arrays`, (images uint8 [N,h,w,3], labels
        uint8 [N,h,w], sizes int32 [N,2]), or, for splits that do not fit in memory, a function
        without arguments that returns an iterable of batches {'image' float32 [B,h,w,3] 0..255
        padded, 'label' int [B,h,w]}, such as `lambda: whole_images(...)`. Sizes may change
        from batch to batch.
      num_classes: C.
      batch_size: images of a global batch (arrays only; a function's batches are its own).
      strategy: tf.distribute.Strategy in whose scope the segmentor was built, or None.
      scales, flip: of the passes whose probabilities are averaged, see `multi_scale`; one pass at
        scale 1 by default.

    Raises:
      UserError: no images, or scales that are none; on `run`, label ids outside 0..C-1, or
        another number of logits.
    """

    def __init__(self, segmentor, data, num_classes, batch_size=8, strategy=None,
                 scales=multi_scale.SINGLE, flip=False):
        self.segmentor = segmentor
        self.num_classes = num_classes
        self.batch_size = batch_size
        self.strategy = strategy
        self.scales = multi_scale.require_scales(scales, segmentor)
        self.flip = bool(flip)
        self._data = data
        self._channels = None  # of the logits, known once the step is traced
        if callable(data):
            size = open_size(segmentor)
            self._step = self._compiled(self._count_batch, (
                tf.TensorSpec([None, *size, 3], tf.float32),
                tf.TensorSpec([None, *size], tf.int32)))
            return
        images, labels, sizes = data
        if not len(images) == len(labels) == len(sizes):
            raise ValueError(f'{len(images)} images, {len(labels)} labels, {len(sizes)} sizes')
        if not len(images):
            raise UserError('the split to evaluate is empty: give it at least one image')
        if batch_size < 1:
            raise UserError(f'evaluation batch size {batch_size}: must be at least 1')
        self._step = self._compiled(self._count_arrays, [
            tf.TensorSpec([None, *images.shape[1:]], tf.uint8),
            tf.TensorSpec([None, *labels.shape[1:]], tf.uint8),
            tf.TensorSpec([None, 2], tf.int32)])

    def run(self, data=None):
        """Evaluates the segmentor as it is now: np.int64 [C,C], row = truth.

        Args:
          data: a function of batches in place of the one it was made with, so that several splits
            share what is compiled; None for its own data.

        Raises:
          ValueError: `data` for an evaluator of arrays.
          UserError: a pixel's label is neither 255 nor in 0..C-1, or the logits are not of C
            classes.
        """
        total = tf.zeros([self.num_classes ** 2 + 2], tf.int64)
        if data is not None and not callable(self._data):
            raise ValueError('an evaluator of arrays cannot run on other data')
        for batch in self._batches(data or self._data):
            total += self._step(*self._shares(batch))
            self._check_channels()
        counts = total.numpy()
        if not counts.any():
            raise UserError('the split to evaluate is empty: give it at least one image')
        if counts[-1]:
            raise UserError(f'{counts[-1]} label pixels have ids that are neither 255 (ignored) '
                            f'nor in 0..{self.num_classes - 1}: the labels belong to another data '
                            'set, or num_classes is wrong')
        return counts[:-2].reshape(self.num_classes, self.num_classes)

    def _check_channels(self):
        # Not while tracing: AutoGraph would wrap the error in a page of its own.
        if self._channels != self.num_classes:
            raise UserError(f'the segmentor gives logits of {self._channels} classes, the data set '
                            f'has {self.num_classes}: build it with num_classes='
                            f'{self.num_classes}')

    def _batches(self, data):
        """Yields each global batch as a tuple of arrays with one leading axis."""
        if callable(data):
            for batch in data():
                yield tf.cast(batch['image'], tf.float32), tf.cast(batch['label'], tf.int32)
            return
        for start in range(0, len(data[0]), self.batch_size):
            yield tuple(array[start:start + self.batch_size] for array in data)

    def _shares(self, batch):
        """A global batch's tensors, or under a strategy each replica's share of them."""
        if self.strategy is None:
            return tuple(tf.convert_to_tensor(part) for part in batch)
        replicas = self.strategy.num_replicas_in_sync
        batch = tuple(np.asarray(part) for part in batch)
        share = -(-len(batch[0]) // replicas)
        missing = share * replicas - len(batch[0])

        def of_replica(part, fill):
            filler = np.full((missing, *part.shape[1:]), fill, part.dtype)
            whole = np.concatenate([part, filler]) if missing else part
            return self.strategy.experimental_distribute_values_from_function(
                lambda context: tf.convert_to_tensor(
                    whole[context.replica_id_in_sync_group * share:][:share]))

        # 255 is ignored where it is a label; what the filler's image shows then does not count.
        fills = (0, IGNORE_LABEL, 0)
        return tuple(of_replica(part, fill) for part, fill in zip(batch, fills))

    def _compiled(self, count, signature):
        """count on one device, or its sum over the replicas, as a tf.function."""
        if self.strategy is None:
            return tf.function(count, input_signature=signature)

        def summed(*shares):
            counts = self.strategy.run(count, args=shares)
            return self.strategy.reduce(tf.distribute.ReduceOp.SUM, counts, axis=None)

        # Each size is traced by itself: see `open_size`.
        return tf.function(summed)

    def _count_arrays(self, images, labels, sizes):
        batch = padded_batch(images, labels, sizes, segmentors.padding_colour(self.segmentor))
        return self._count_batch(batch['image'], batch['label'])

    def _count_batch(self, images, labels):
        single = self.scales == multi_scale.SINGLE and not self.flip
        scores = (self.segmentor(images, training=False) if single else
                  multi_scale.probabilities(self.segmentor, images, self.scales, self.flip))
        self._channels = int(scores.shape[-1])
        if self._channels != self.num_classes:
            return tf.zeros([self.num_classes ** 2 + 2], tf.int64)
        size = labels.shape[1:3]
        size = size if size.is_fully_defined() else tf.shape(labels)[1:3]
        predictions = predicted_ids(scores, size)
        return _counts(labels, predictions, self.num_classes)
