"""LoAd on the head alone: what the frozen backbone makes of every image is computed once.

A backbone that no step moves gives the same maps of an image at every propagation. Where an image
is seen in two ways only, as it is and mirrored, both are kept in memory; a step, a hold-out
evaluation and a slot of the buffer then cost no more than the head.
"""
import functools

import numpy as np
import tensorflow as tf

from tf_advseg.core import errors
from tf_advseg.data import pipeline
from tf_advseg.evaluation import evaluator
from tf_advseg.evaluation import metrics as figures
from tf_advseg.models import segmentor as segmentors
from tf_advseg.training import strategy as strategies

MOST_BYTES = 4 * 2 ** 30  # of maps; with more of them the backbone runs at every step


def prepare(context, segmentor, settings):
    """Freezes the backbone of a segmentor, and computes its maps where they can be kept.

    Args:
      context: run.context.Context.
      segmentor: with Stage 1's weights, before an optimizer is built for it.
      settings: LookaheadSettings.

    Returns:
      `BackboneMaps`, or None where they cannot be kept: then the frozen backbone runs anew.

    Raises:
      UserError: a network without `backbone` and `head`, or one whose batch norms are trained.
    """
    if not hasattr(segmentor, 'backbone') or not hasattr(segmentor, 'head'):
        raise errors.UserError('lookahead.head_only = True: needs a DeepLab, which has a backbone '
                               'and a head; set it to False for this network')
    if segmentor.fine_tune_batch_norm:
        raise errors.UserError('lookahead.head_only = True with fine_tune_batch_norm = True: a '
                               'frozen backbone has frozen batch norms; set one of them to False')
    segmentor.backbone.trainable = False
    obstacle = _obstacle(context, segmentor, settings)
    if obstacle:
        if context.chief:
            print(f'head only: {obstacle}, so the frozen backbone runs at every step', flush=True)
        return None
    # LoAd and its control begin with the same backbone, and neither moves it.
    return context.once(('backbone maps', id(segmentor)), lambda: BackboneMaps(
        context, segmentor, settings.map_batch_size))


def frozen_layers(segmentor):
    """[(layer, whether it is trained)] of a segmentor's backbone; [] where it has none."""
    backbone = getattr(segmentor, 'backbone', None)
    return [] if backbone is None else [(layer, layer._trainable)
                                        for layer in backbone._flatten_layers()]


def release(layers):
    """Undoes what `prepare` has frozen: each layer is trained or not as `frozen_layers` said."""
    for layer, trained in layers:
        layer._trainable = trained


def _obstacle(context, segmentor, settings):
    """Why the backbone's maps cannot be kept, or None."""
    recipe, data = settings.recipe, context.data
    if strategies.has_workers(context.strategy):
        return 'there are several workers'
    ids = [*data.train, *data.holdout]
    if (data.records.image_sizes(ids) > np.array(context.crop_size)).any():
        return 'some images are larger than the crop'
    if recipe.random_scale.active or recipe.changes_looks:
        return 'images are scaled or recoloured at random'
    probe = maps_of(segmentor, tf.zeros([1, *context.crop_size, 3]))
    per_image = sum(4 * int(np.prod(part.shape)) for part in probe.values())
    needed = per_image * (2 * len(data.train) + len(data.holdout))
    if needed > MOST_BYTES:
        return f'its maps take {needed / 2 ** 30:.1f} GiB, more than {MOST_BYTES / 2 ** 30:.0f}'
    return None


def maps_of(segmentor, image):
    """The parts of the backbone's maps that the head looks at."""
    maps = segmentor.backbone(segmentor.normalisation(image))
    return {name: maps[name] for name in ('features', 'skip')
            if name == 'features' or segmentor.decoder is not None}


class BackboneMaps:
    """The backbone's maps of a run's training images, both ways, and of its hold-out.

    Args:
      context: run.context.Context, whose images all fit into the crop.
      segmentor: with a frozen backbone.
      batch_size: images per forward pass where maps are generated.
    """

    def __init__(self, context, segmentor, batch_size):
        self._context, self._segmentor = context, segmentor
        self._batch_size = batch_size
        self._pad_value = segmentors.padding_colour(segmentor)
        self._place = {image_id: (part, place)
                       for part, ids in (('train', context.data.train),
                                         ('holdout', context.data.holdout))
                       for place, image_id in enumerate(ids)}
        self._counts = {}

    @functools.cached_property
    def _kept(self):
        """(of training images {name: float32 [2, N, ...]}, as they are and mirrored; of the
        hold-out {name: float32 [N, ...]}; its labels uint8 [N, h, w]). A dry run never asks."""
        data, segmentor = self._context.data, self._segmentor
        of = tf.function(lambda image: maps_of(segmentor, image))
        plain, labels = self._computed([*data.train, *data.holdout], of)
        mirrored, _ = self._computed(data.train, lambda image: of(tf.reverse(image, [2])))
        count = len(data.train)
        train = {name: tf.stack([plain[name][:count], mirrored[name]]) for name in plain}
        holdout = {name: tf.constant(part[count:]) for name, part in plain.items()}
        return train, holdout, labels[count:]

    def compute(self):
        """Computes the maps, unless that is done."""
        return self._kept

    def _computed(self, ids, of):
        """({name: float32 [N, ...]}, labels uint8 [N, h, w]) of whole padded images."""
        maps, labels = [], []
        for batch in pipeline.whole_images(self._context.data.records, ids,
                                           self._context.crop_size, 8, pad_value=self._pad_value):
            maps.append({k: v.numpy() for k, v in of(tf.cast(batch['image'], tf.float32)).items()})
            labels.append(batch['label'].numpy().astype(np.uint8))
        return ({name: np.concatenate([part[name] for part in maps]) for name in maps[0]},
                np.concatenate(labels))

    def beside(self, batches):
        """The dataset `batches` of `pipeline.training_batches`, each batch with
        'backbone_features' (and 'backbone_skip') in the place of 'flipped'."""
        kept = self._kept[0]  # made here, not while a function is traced

        def with_maps(batch):
            place = tf.stack([tf.cast(batch['flipped'], tf.int32), batch['index']], 1)
            return {**{name: part for name, part in batch.items() if name != 'flipped'},
                    **{f'backbone_{name}': tf.gather_nd(part, place)
                       for name, part in kept.items()}}
        return batches.map(with_maps)

    def generate_maps(self, stepper, method, ids):
        """As `data.LookaheadData.generate_maps`."""
        function = stepper.local(method.maps)
        for part, part_ids in ids.items():
            for start in range(0, len(part_ids), self._batch_size):
                some = part_ids[start:start + self._batch_size]
                # A hard map is of the image's size; nothing else of the image matters.
                image = tf.zeros([len(some), *self._context.crop_size, 3])
                for image_id, single in zip(some, function(image, self._maps_of(some)).numpy()):
                    yield image_id, part, single

    def _maps_of(self, ids):
        """{name: float32 [n, ...]} of images as they are."""
        train, holdout, _ = self._kept
        kept = {'train': {name: part[0] for name, part in train.items()}, 'holdout': holdout}
        return {name: tf.stack([kept[self._place[i][0]][name][self._place[i][1]] for i in ids])
                for name in train}

    def holdout_miou(self, segmentor, batch_size):
        """As `run.context.Context.holdout_miou`, of the same images padded in the same way."""
        classes, (_, maps_of, labels_of) = segmentor.num_classes, self._kept
        if batch_size not in self._counts:
            def counts(maps, labels):
                ids = evaluator.predicted_ids(segmentor.head(maps), tf.shape(labels)[1:3])
                return evaluator.confusion_matrix(labels, ids, classes)
            self._counts[batch_size] = tf.function(counts, reduce_retracing=True)
        total = np.zeros((classes, classes), np.int64)
        for start in range(0, len(labels_of), batch_size):
            span = slice(start, start + batch_size)
            total += self._counts[batch_size](
                {name: part[span] for name, part in maps_of.items()},
                tf.constant(labels_of[span])).numpy()
        return figures.plain(figures.mean_iou(total, self._context.data.spec.absent))
