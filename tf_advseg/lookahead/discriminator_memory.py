"""The discriminator's items from memory, where it sees no more than the points of the logits.

There an example is a few kilobytes: the image, the labels and the maps at the logits' own points.
All of them are kept in memory for a retraining, so that an epoch neither decodes nor resizes a
whole image. Batches equal those of `discriminator_data.batches` but for that resolution; the flips
are drawn by the same seeds.
"""
import numpy as np
import tensorflow as tf

from tf_advseg.adversaries import bottleneck
from tf_advseg.data import pipeline
from tf_advseg.data.augmentation import augment
from tf_advseg.models import resize


MOST_BYTES = 2 * 2 ** 30  # of images, maps and features; more of them are read from disk


def fits(encoding, map_kind, stride, crop_size, sizes, settings, slots=3, features=0):
    """Whether a run's discriminator can be fed so.

    Args:
      encoding: adversaries.encodings.Encoding.
      map_kind: of the buffer.
      stride: pixels from one point of a soft map to the next.
      crop_size: (h, w).
      sizes: int [N, 2] of the images.
      settings: LookaheadSettings.
      slots: most map sets in the buffer.
      features: channels of the image's features.
    """
    recipe = settings.recipe
    of_maps = 1 if map_kind == 'hard' else 2 * encoding.num_classes
    a_point = 3 * 4 + 4 + of_maps * slots + 2 * 2 * features
    needed = len(sizes) * int(np.prod(encoding.points)) * a_point
    return (needed <= MOST_BYTES and map_kind != 'quantised' and settings.map_images == 'all'
            and _on_pixels(encoding.points, crop_size)
            and (_hard_fits(encoding) if map_kind == 'hard' else
                 encoding.points == bottleneck.grid_of(crop_size, stride))
            and (np.asarray(sizes) <= np.array(crop_size)).all()
            and not recipe.random_scale.active and not recipe.changes_looks)


def _hard_fits(encoding):
    """A truth is put through the bottleneck only at full size, or where it is at it already."""
    return encoding.truth != 'bottleneck' or encoding.points == encoding.grid


def _on_pixels(points, crop_size):
    """Whether every point stands on a pixel, so that nothing is interpolated there."""
    return all(count > 1 and (side - 1) % (count - 1) == 0
               for count, side in zip(points, crop_size))


def ids_at_points(ids, points):
    """Class ids uint8 [..., h, w] at points that stand on pixels: uint8 [..., h', w']."""
    down, along = ((side - 1) // (count - 1) for side, count in zip(ids.shape[-2:], points))
    return ids[..., ::down, ::along]


def at_points(records, ids, crop_size, points, pad_value):
    """Images and labels of whole padded images at the points of the logits.

    Args:
      records: data.records.record_set.RecordSet.
      ids: [str].
      crop_size: (h, w) that every image is padded to.
      points: (h', w').
      pad_value: see `augment.pad_to`.

    Returns:
      (float32 [N, h', w', 3], int32 [N, h', w']).
    """
    images, labels = [], []
    for batch in pipeline.whole_images(records, ids, crop_size, 8, pad_value=pad_value):
        images.append(resize.resize_bilinear(tf.cast(batch['image'], tf.float32), points).numpy())
        labels.append(resize.resize_nearest(batch['label'][..., None], points)[..., 0].numpy())
    return np.concatenate(images), np.concatenate(labels).astype(np.int32)


def features_of(records, ids, crop_size, features, pad_value):
    """What is made of whole padded images, and of the same images flipped.

    Args:
      records, ids, crop_size, pad_value: see `at_points`.
      features: function(image float32 [B, h, w, 3]) -> float32 [B, h', w', F].

    Returns:
      float16 [2, N, h', w', F].
    """
    function = tf.function(features)
    plain, flipped = [], []
    for batch in pipeline.whole_images(records, ids, crop_size, 8, pad_value=pad_value):
        image = tf.cast(batch['image'], tf.float32)
        plain.append(function(image).numpy().astype(np.float16))
        flipped.append(function(tf.reverse(image, [2])).numpy().astype(np.float16))
    return np.stack([np.concatenate(plain), np.concatenate(flipped)])


def batches(images, labels, maps, pairs, slots, targets, batch_size, seed, flip, drop_remainder,
            keys, features=None):
    """Batches for `methods.load.LoAd.discriminator_step`, in the order of `pairs`.

    Args:
      images, labels: from `at_points`.
      maps: float16 [slots, N, h', w', C], or class ids uint8 [slots, N, h', w'].
      pairs: int64 [n, 2], (position, slot) with -1 for the truth, see `discriminator_data.items`.
      slots: int64 [n], whose map comes with each item, see `discriminator_data.slots_of`.
      targets: float32 [n], what D is asked for.
      batch_size, seed, flip, drop_remainder, keys: see `discriminator_data.batches`.
      features: None, or float16 [2, N, h', w', F]: of the images as they are, and of flipped ones.

    Returns:
      tf.data.Dataset of dicts as `discriminator_data.batches` gives, all at the logits' points,
      with 'features' where there are any.
    """
    kept = [tf.constant(part) for part in (images, labels, maps)]
    of_images = None if features is None else tf.constant(features)

    def item(position, slot, shown, target, key):
        image, label = kept[0][position], kept[1][position]
        stored = kept[2][shown, position]
        parts = (image, label, stored)
        flipped = tf.constant(False)
        if flip:
            item_seed = augment.example_seed(tf.constant(seed, tf.int32), key)
            flipped = augment.is_flipped(item_seed)
            parts = augment.random_flip(parts, item_seed)
        found = {'image': parts[0], 'label': parts[1], 'map': parts[2],
                 'is_real': tf.cast(slot < 0, tf.float32), 'target': target}
        if of_images is not None:
            found['features'] = tf.cast(of_images[tf.cast(flipped, position.dtype), position],
                                        tf.float32)
        return found

    slices = tf.data.Dataset.from_tensor_slices
    dataset = tf.data.Dataset.zip((slices(pairs[:, 0]), slices(pairs[:, 1]), slices(slots),
                                   slices(targets), slices(keys)))
    return dataset.map(item, num_parallel_calls=2, deterministic=True).batch(
        batch_size, drop_remainder=drop_remainder).prefetch(2)
