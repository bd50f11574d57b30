"""LoAd on the head alone: what the frozen backbone makes of every image is computed once.

A backbone that no step moves gives the same maps of an image at every propagation. Where an image
is seen in two ways only, as it is and mirrored, both are kept in memory; a step, a hold-out
evaluation and a slot of the buffer then cost no more than the head.
"""
import numpy as np
import tensorflow as tf

from tf_advseg.core import errors
from tf_advseg.data import pipeline
from tf_advseg.evaluation import evaluator
from tf_advseg.evaluation import metrics as figures
from tf_advseg.models import segmentor as segmentors

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
    recipe, data = settings.recipe, context.data
    ids = [*data.train, *data.holdout]
    seen_in_two_ways = (
        (data.records.image_sizes(ids) <= np.array(context.crop_size)).all()
        and not recipe.random_scale.active and recipe.photometric is None)
    if not seen_in_two_ways:
        return None
    probe = _of(segmentor, tf.zeros([1, *context.crop_size, 3]))
    per_image = sum(4 * int(np.prod(part.shape)) for part in probe.values())
    if per_image * (2 * len(data.train) + len(data.holdout)) > MOST_BYTES:
        return None
    # LoAd and its control begin with the same backbone, and neither moves it.
    return context.once(('backbone maps', id(segmentor)),
                        lambda: BackboneMaps(context, segmentor))


def _of(segmentor, image):
    """The parts of the backbone's maps that the head looks at."""
    maps = segmentor.backbone(segmentor.normalisation(image))
    return {name: maps[name] for name in ('features', 'skip')
            if name == 'features' or segmentor.decoder is not None}


class BackboneMaps:
    """The backbone's maps of a run's training images, both ways, and of its hold-out.

    Args:
      context: run.context.Context, whose images all fit into the crop.
      segmentor: with a frozen backbone.
    """

    def __init__(self, context, segmentor):
        self._context, self._segmentor = context, segmentor
        self._pad_value = segmentors.padding_colour(segmentor)
        of = tf.function(lambda image: _of(segmentor, image))
        plain, self._labels = self._computed([*context.data.train, *context.data.holdout], of)
        mirrored, _ = self._computed(context.data.train,
                                     lambda image: of(tf.reverse(image, [2])))
        count = len(context.data.train)
        self._labels = self._labels[count:]
        self._train = {name: tf.stack([plain[name][:count], mirrored[name]]) for name in plain}
        self._holdout = {name: tf.constant(part[count:]) for name, part in plain.items()}
        self._place = {image_id: (part, place)
                       for part, ids in (('train', context.data.train),
                                         ('holdout', context.data.holdout))
                       for place, image_id in enumerate(ids)}
        self._counts = {}

    def _computed(self, ids, of):
        """({name: float32 [N, ...]}, labels uint8 [N, h, w]) of whole padded images."""
        maps, labels = [], []
        for batch in pipeline.whole_images(self._context.data.records, ids,
                                           self._context.crop_size, 8, pad_value=self._pad_value):
            maps.append({k: v.numpy() for k, v in of(tf.cast(batch['image'], tf.float32)).items()})
            labels.append(batch['label'].numpy().astype(np.uint8))
        return ({name: np.concatenate([part[name] for part in maps]) for name in maps[0]},
                np.concatenate(labels))

    def beside(self, batch):
        """A batch of `pipeline.training_batches`, with 'backbone_features' (and 'backbone_skip')."""
        place = tf.stack([tf.cast(batch['flipped'], tf.int32), batch['index']], 1)
        return {**{name: part for name, part in batch.items() if name != 'flipped'},
                **{f'backbone_{name}': tf.gather_nd(part, place)
                   for name, part in self._train.items()}}

    def generate_maps(self, stepper, method, ids, batch_size=8):
        """As `data.LookaheadData.generate_maps`."""
        function = stepper.local(method.maps)
        for part, part_ids in ids.items():
            for start in range(0, len(part_ids), batch_size):
                some = part_ids[start:start + batch_size]
                # A hard map is of the image's size; nothing else of the image matters.
                image = tf.zeros([len(some), *self._context.crop_size, 3])
                for image_id, single in zip(some, function(image, self._maps_of(some)).numpy()):
                    yield image_id, part, single

    def _maps_of(self, ids):
        """{name: float32 [n, ...]} of images as they are."""
        kept = {'train': {name: part[0] for name, part in self._train.items()},
                'holdout': self._holdout}
        return {name: tf.stack([kept[self._place[i][0]][name][self._place[i][1]] for i in ids])
                for name in self._train}

    def holdout_miou(self, segmentor, batch_size):
        """As `run.context.Context.holdout_miou`, of the same images padded in the same way."""
        classes = segmentor.num_classes
        if batch_size not in self._counts:
            def counts(maps, labels):
                ids = evaluator.predicted_ids(segmentor.head(maps), tf.shape(labels)[1:3])
                return evaluator.confusion_matrix(labels, ids, classes)
            self._counts[batch_size] = tf.function(counts, reduce_retracing=True)
        total = np.zeros((classes, classes), np.int64)
        for start in range(0, len(self._labels), batch_size):
            span = slice(start, start + batch_size)
            total += self._counts[batch_size](
                {name: part[span] for name, part in self._holdout.items()},
                tf.constant(self._labels[span])).numpy()
        return figures.plain(figures.mean_iou(total, self._context.data.spec.absent))
