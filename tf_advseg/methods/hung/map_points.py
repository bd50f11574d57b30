"""The points of the discriminator's maps: the logits there, and which of its decisions count."""
import tensorflow as tf

from tf_advseg.adversaries import label_maps
from tf_advseg.methods import two_networks
from tf_advseg.models import resize


def on_grid(logits, size, map_stride):
    """Logits at the points of D's maps: float32 [b, (h-1)//s+1, (w-1)//s+1, C].

    Args:
      logits: the segmentor's, [b, h', w', C].
      size: (h, w) of the image, int32 [2].
      map_stride: s.
    """
    return resize.resize_bilinear(logits, (size - 1) // map_stride + 1)


def points_of(mask, logits):
    """A mask [b, h, w] at the points where logits [b, h', w', C] stand."""
    return label_maps.labels_at(tf.cast(mask, tf.int32), tf.shape(logits)[1:3]) > 0


def valid_of(batch):
    """bool [b, h, w]: labelled pixels, and of unlabelled images their own."""
    if 'valid' in batch:
        return batch['valid']
    return tf.not_equal(batch['label'], label_maps.IGNORE_LABEL)


def labelled_of(batch):
    """bool [b]: which images have labels; all in a batch that does not say."""
    if 'labeled' in batch:
        return batch['labeled']
    return tf.ones([tf.shape(batch['label'])[0]], tf.bool)


def as_labels(valid):
    """int32 labels that `LabelMaps` takes for labelled just where `valid` is true."""
    return tf.where(valid, 0, label_maps.IGNORE_LABEL)


def decisions(z, points):
    """Which of D's decisions count: float32 of z's shape, [b, h', w'] or [b].

    One decision an image counts where any of its points does.
    """
    if z.shape.rank == 1:
        return tf.cast(tf.reduce_any(points, [1, 2]), tf.float32)
    return tf.cast(points, tf.float32)


def share(said, counted):
    """A replica's part of how large a share of the decisions that count is true."""
    return two_networks.counted_mean(tf.cast(said, tf.float32), counted)
