"""Crops that show every class of an image as often as any other: where to cut, by its label.

A crop that is cut anywhere shows what covers much of the image. Here a class is drawn among those
that the label has, then one of its pixels, then one of the crops that hold this pixel. All of them
are drawn from the example's stateless seed. An image without labels is cut anywhere.
"""
import tensorflow as tf

from tf_advseg.data.spec import IGNORE_LABEL

_BALANCED = 8  # the kind of draw, folded into the seed beside augment's


def offsets(label, crop_size, seed):
    """Where to cut a crop out of an image, see the module.

    Args:
      label: [H, W] integer of train ids, 255 = ignore; at least the crop's size.
      crop_size: (height, width) of the crop.
      seed: int32 [2], of the example.

    Returns:
      (top, left), int32 scalars.
    """
    draws = tf.random.stateless_uniform(
        [4], tf.random.experimental.stateless_fold_in(seed, _BALANCED))
    flat = tf.reshape(tf.cast(label, tf.int32), [-1])
    counts = tf.math.bincount(flat, minlength=256, maxlength=256)[:IGNORE_LABEL]
    classes = tf.where(counts > 0)[:, 0]
    shape = tf.shape(label)

    def of_a_class():
        chosen = tf.gather(classes, _pick(draws[0], tf.size(classes)))
        places = tf.where(tf.equal(tf.cast(flat, tf.int64), chosen))[:, 0]
        return tf.cast(tf.gather(places, _pick(draws[1], tf.size(places))), tf.int32)

    place = tf.cond(tf.size(classes) > 0, of_a_class, lambda: _pick(draws[1], tf.size(flat)))
    found = []
    for at, side, crop, draw in zip((place // shape[1], place % shape[1]), tf.unstack(shape),
                                    crop_size, (draws[2], draws[3])):
        first, last = tf.maximum(at - crop + 1, 0), tf.minimum(at, side - crop)
        found.append(first + _pick(draw, last - first + 1))
    return tuple(found)


def _pick(draw, count):
    """int32 below `count`, from a uniform draw of 0..1."""
    # 0.99999994 times a large number can round up to it.
    return tf.minimum(tf.cast(draw * tf.cast(count, tf.float32), tf.int32), count - 1)
