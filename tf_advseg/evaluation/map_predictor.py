"""Class maps of many images at their own resolution: batched, in windows, on all replicas.

A batch is made of images of one padded size and is the same under every strategy: replicas are
given whole batches, never shares of one. So the numbers do not depend on how many replicas there
are, not even in the last bit.
"""
import dataclasses
from typing import Optional

import numpy as np
import tensorflow as tf

from tf_advseg.core.errors import UserError, require_one_of
from tf_advseg.data.pipeline import padded_sizes
from tf_advseg.data.records.record_set import data_errors
from tf_advseg.data.spec import IGNORE_LABEL
from tf_advseg.evaluation import multi_scale, sliding_window
from tf_advseg.evaluation.evaluator import open_size, predicted_ids
from tf_advseg.models import segmentor as segmentors
from tf_advseg.models.resize import resize_bilinear, scale_dimension

PADDINGS = ('crop', 'none')
BATCH_SIZE = 8
# At most so many numbers in a batch's upsampled scores (256 MiB as float32): eight images of
# 513x513 with 21 classes fit, Cityscapes' come one by one.
BATCH_VALUES = 2 ** 26
# So many batches, or pixels, of images are decoded ahead, to find some of one size among them.
AHEAD_BATCHES = 4
AHEAD_PIXELS = 2 ** 25
# Images are padded to a window only as far as to the crop, or so far where no crop is known.
WINDOW_PADDING = 1025
LARGEST_SIDE = 2 ** 24  # of a window, so that sizes fit in 32 bits


@dataclasses.dataclass(frozen=True)
class Predicted:
    """One image: image uint8 [H,W,3], label and ids uint8 [H,W], confidence float32 or None."""
    image_id: str
    image: np.ndarray
    label: np.ndarray
    ids: np.ndarray
    confidence: Optional[np.ndarray] = None


class MapPredictor:
    """Predicts lists of images of any sizes; compiled once, whatever the sizes.

    Args:
      segmentor: model [B,h,w,3] RGB 0..255 -> logits [B,h',w',C], C <= 256; under a strategy built
        in its scope.
      crop_size: int, (h, w) or None: the size the network was trained at.
      strategy: tf.distribute.Strategy or None.
      batch_size: images of one batch at most; fewer where sizes differ or images are large.
      scales, flip: of the passes whose probabilities are averaged, see `multi_scale`.
      padding: 'crop': a side shorter than the crop's is padded to it, as the official DeepLab
        evaluates. 'none': images are padded only to the next k * stride + 1, the sizes whose
        align-corners grid the network reproduces exactly; what image pooling sees is then the
        image alone. Longer sides go to the next k * stride + 1 either way.
      window: (h, w) of windows that slide over the image (see `sliding_window`), or None: whole
        images. A side is rounded up to k * stride + 1. With scales the image is resized and
        the window is not. A side that exceeds what a whole image is padded to is cut to that
        (to WINDOW_PADDING at least, where there is no crop size).
      overlap: share of a window that the next one covers again.
      confidence: also give the probability of the class that was chosen.
      translation: int [C], the id that each of the network's classes is called by (see
        `DatasetSpec.translation`), -1 for one that has none. None: the network's own ids.
      only_named: what becomes of classes that translate to -1. False: they are chosen like any
        other and called 255, as the official DeepLab takes the largest of ADE20K's 151 outputs,
        class 0 among them; measures count that as wrong. True: the most probable of the others is
        chosen, and confidence is its share among these.

    Raises:
      UserError: scales, a window, a padding or a batch size that is none; no class can be chosen.
    """

    def __init__(self, segmentor, crop_size=None, strategy=None, batch_size=BATCH_SIZE,
                 scales=multi_scale.SINGLE, flip=False, padding='crop', window=None,
                 overlap=sliding_window.OVERLAP, confidence=False, translation=None,
                 only_named=False):
        self.segmentor = segmentor
        self.scales = multi_scale.require_scales(scales, segmentor)
        self.flip = bool(flip)
        self.padding = require_one_of('padding', padding, PADDINGS)
        self.overlap = overlap
        self.confidence = bool(confidence)
        if batch_size < 1:
            raise UserError(f'evaluation batch size {batch_size}: must be at least 1')
        self.batch_size = int(batch_size)
        self._colour = segmentors.padding_colour(segmentor)
        self._stride = getattr(segmentor, 'output_stride', None) or 16
        self._crop = np.broadcast_to(1 if crop_size is None else crop_size, [2]).astype(np.int32)
        window = sliding_window.require_window(window, overlap)
        self.window = None if window is None else tuple(
            int(side) for side in padded_sizes(
                [np.minimum(window, LARGEST_SIDE)], (1, 1), self._stride)[0])
        self._kept, self._names = renamed(translation, only_named)
        several = strategy is not None and strategy.num_replicas_in_sync > 1
        self._strategy = strategy if several else None
        self._replicas = strategy.num_replicas_in_sync if several else 1
        self._maps = self._compiled(self._map_batch)
        self._chances = self._compiled(self._chance_batch)

    def require_size(self, size, name):
        """Nothing: images of any size can be predicted; `FilePredictor` has a limit."""

    def __call__(self, images):
        """Predicts images.

        Args:
          images: list of uint8 [H,W,3] RGB, of any sizes.

        Returns:
          list, in the same order, of (ids uint8 [H,W], confidence float32 [H,W] or None).

        Raises:
          UserError: not an RGB uint8 image.
        """
        images = [checked(image) for image in images]
        if self.window is not None:
            return [self._in_windows(image) for image in images]
        crop = self._crop if self.padding == 'crop' else (1, 1)
        targets = padded_sizes([image.shape[:2] for image in images], crop, self._stride)
        batches = list(self._batched(targets))
        padded = (self._padded([images[i] for i in batch], targets[batch[0]])
                  for batch in batches)
        results = [None] * len(images)
        for batch, (ids, chances) in zip(batches, self._run(self._maps, padded)):
            for place, i in enumerate(batch):
                inside = tuple(slice(side) for side in images[i].shape[:2])
                results[i] = (self._named(ids[place][inside]),
                              chances[place][inside] if self.confidence else None)
        return results

    def over(self, records, ids):
        """Predicts images of records, in the order of `ids`.

        Args:
          records: data.records.record_set.RecordSet.
          ids: image ids.

        Yields:
          Predicted, at the label's own resolution.

        Raises:
          UserError: no images, or damaged ones.
        """
        yield from over(self, records, ids)

    def _batched(self, targets):
        """Yields lists of positions of one padded size each."""
        by_size = {}
        for position, target in enumerate(targets):
            by_size.setdefault(tuple(target), []).append(position)
        channels = getattr(self.segmentor, 'num_classes', None) or 32
        for (height, width), positions in by_size.items():
            count = max(1, min(self.batch_size, BATCH_VALUES // (height * width * channels)))
            for start in range(0, len(positions), count):
                yield positions[start:start + count]

    def _padded(self, images, size):
        """float32 [B,h,w,3]: images of at most that size, padded at the bottom and the right."""
        batch = np.full((len(images), *size, 3), self._colour, np.float32)
        for place, image in enumerate(images):
            batch[place, :image.shape[0], :image.shape[1]] = image
        return batch

    def _named(self, ids):
        return ids if self._names is None else self._names[ids]

    def _in_windows(self, image):
        """(ids, confidence or None) of one image, from the mean of its windows."""
        height, width = image.shape[:2]
        crop = (1, 1) if self.padding == 'none' else np.where(
            self._crop > 1, self._crop, WINDOW_PADDING)
        total = None
        for scale in self.scales:
            size = tuple(scale_dimension(side, scale) for side in (height, width))
            window = np.minimum(self.window, padded_sizes([size], crop, self._stride)[0])
            found = _resized(sliding_window.average(
                _resized(image, size), tuple(window), self._colour, self._predicted_windows,
                self.overlap), (height, width))
            # Maps of a large image are what takes the memory: as few as can be are held.
            total = found if total is None else np.add(total, found, out=total)
            del found
        if len(self.scales) > 1:
            total /= np.float32(len(self.scales))
        ids = total.argmax(-1).astype(np.uint8)
        return self._named(ids), total.max(-1) if self.confidence else None

    def _predicted_windows(self, windows):
        """Iterator of windows -> iterator of their probabilities."""
        def batches():
            batch = []
            for window in windows:
                batch.append(window)
                if len(batch) == self.batch_size:
                    yield np.stack(batch)
                    batch = []
            if batch:
                yield np.stack(batch)

        for chances in self._run(self._chances, batches()):
            yield from chances

    def _run(self, function, batches):
        """Yields the results of batches in order; each replica computes one batch at a time."""
        group = []
        for batch in batches:
            group.append(batch)
            if len(group) == self._replicas:
                yield from function(*group)
                group = []
        if group:
            # A replica without work is given an image of no interest; what it says is dropped.
            idle = [group[0][:1]] * (self._replicas - len(group))
            yield from function(*group, *idle)[:len(group)]

    def _compiled(self, compute):
        """Function of one float32 batch a replica -> list of what `compute` says of each."""
        # One signature for all sizes: neither their order nor the replicas decide what is traced.
        signature = [tf.TensorSpec([None, *open_size(self.segmentor), 3])] * self._replicas
        if self._strategy is None:
            compiled = tf.function(lambda batch: (compute(batch),), input_signature=signature)
        else:
            def on_replicas(*batches):
                def mine():
                    context = tf.distribute.get_replica_context()
                    return compute(batches[int(
                        tf.get_static_value(context.replica_id_in_sync_group))])

                found = self._strategy.run(mine)
                parts = [self._strategy.experimental_local_results(part)
                         for part in tf.nest.flatten(found)]
                return tuple(tf.nest.pack_sequence_as(found, list(part)) for part in zip(*parts))

            compiled = tf.function(on_replicas, input_signature=signature)
        return lambda *batches: [tf.nest.map_structure(lambda part: part.numpy(), result)
                                 for result in compiled(*map(tf.constant, batches))]

    def _scores(self, images, single):
        """Logits of one pass at their own size, or the mean of probabilities; kept classes."""
        if single:
            scores = self.segmentor(images, training=False)
        else:
            scales = multi_scale.SINGLE if self.window else self.scales
            scores = multi_scale.probabilities(self.segmentor, images, scales, self.flip)
        return scores if self._kept is None else tf.gather(scores, self._kept, axis=-1)

    def _map_batch(self, images):
        """(uint8 [B,h,w], float32 [B,h,w] or an empty one) of padded images."""
        size = tf.shape(images)[1:3]
        single = self.scales == multi_scale.SINGLE and not self.flip
        scores = self._scores(images, single)
        ids = tf.cast(predicted_ids(scores, size), tf.uint8)
        if not self.confidence:
            return ids, tf.zeros([0])
        scores = resize_bilinear(scores, size)
        return ids, tf.reduce_max(tf.nn.softmax(scores) if single else scores, axis=-1)

    def _chance_batch(self, images):
        """float32 [B,h,w,C] of windows."""
        scores = self._scores(images, single=not self.flip)
        if self.flip:
            return scores
        return tf.nn.softmax(resize_bilinear(scores, tf.shape(images)[1:3]))


def over(predictor, records, ids):
    """`MapPredictor.over` of any predictor."""
    ids = list(ids)
    if not ids:
        raise UserError('the split to evaluate is empty: give it at least one image')
    with data_errors():
        with tf.device('/cpu:0'):
            examples = records.dataset(ids).prefetch(predictor.batch_size).as_numpy_iterator()
        for chunk in chunks(examples, lambda example: example['label'].size,
                            AHEAD_BATCHES * predictor.batch_size):
            found = predictor([example['image'] for example in chunk])
            for example, (classes, chances) in zip(chunk, found):
                yield Predicted(example['image_id'].decode('utf-8'), example['image'],
                                example['label'], classes, chances)


def _resized(image, size):
    """An [H, W, C] array at another size; itself where it has that size."""
    if image.shape[:2] == size:
        return image
    return resize_bilinear(image[None], size)[0].numpy()


def renamed(translation, only_named):
    """(channels that can be chosen or None = all, what each is called, uint8, or None)."""
    if translation is None:
        return None, None
    translation = np.asarray(translation)
    if not (translation >= 0).any():
        raise UserError('none of the network\'s classes is one of the data set\'s')
    if only_named:
        kept = np.flatnonzero(translation >= 0)
        return kept.astype(np.int32), translation[kept].astype(np.uint8)
    return None, np.where(translation < 0, IGNORE_LABEL, translation).astype(np.uint8)


def translation(spec, other, strict=False):
    """How the classes of `spec` are called in `other`: int [C], or None where all keep their ids.

    Args:
      spec, other: DatasetSpec.
      strict: False takes two data sets of other names and as many classes to mean the same classes
        (a folder of one's own labels, say), as nothing says otherwise.

    Raises:
      UserError: the classes cannot be matched, see `DatasetSpec.translation`.
    """
    if spec.class_names == other.class_names:
        return None
    if not strict and spec.name != other.name and spec.num_classes == other.num_classes:
        return None
    found = np.asarray(spec.translation(other))
    return None if np.array_equal(found, np.arange(other.num_classes)) else found


def checked(image):
    """A uint8 [H, W, 3] array of an image; UserError for anything else."""
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8 or not image.size:
        raise UserError(f'image of shape {image.shape}, {image.dtype}: expected uint8 '
                        '[height, width, 3] RGB')
    return image


def chunks(items, size_of, count):
    """Cuts an iterable into lists of at most `count` items and about AHEAD_PIXELS pixels.

    Args:
      items: iterable.
      size_of: function of an item -> its pixels.
      count: items of a list at most.

    Yields:
      lists, none empty.
    """
    chunk, pixels = [], 0
    for item in items:
        chunk.append(item)
        pixels += size_of(item)
        if len(chunk) >= count or pixels >= AHEAD_PIXELS:
            yield chunk
            chunk, pixels = [], 0
    if chunk:
        yield chunk
