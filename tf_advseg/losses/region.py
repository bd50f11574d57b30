"""Losses of regions beside cross-entropy: Dice and Lovász-softmax, each of one image.

Both are of single images and not of a batch, so a step on two replicas equals one on one device.
"""
import tensorflow as tf


def _flat(logits, labels, ignore_label):
    """(probabilities float32 [B, n, C], truths float32 [B, n, C], valid float32 [B, n, 1]); both
    are 0 at ignored pixels."""
    shape = tf.shape(logits)
    classes = logits.shape[-1]
    valid = tf.reshape(tf.not_equal(labels, ignore_label), [shape[0], -1])
    flat = tf.reshape(tf.cast(logits, tf.float32), [shape[0], -1, classes])
    # Replaced, not multiplied: 0 times what is no number is none either.
    chances = tf.nn.softmax(tf.where(valid[..., None], flat, 0.0))
    truths = tf.one_hot(tf.reshape(labels, [shape[0], -1]), classes)
    inside = tf.cast(valid, tf.float32)[..., None]
    return chances * inside, truths * inside, inside


def _mean_over_shown(losses, truths):
    """float32 [B]: the mean over the classes that an image's truth shows; 0 where it shows none."""
    shown = tf.cast(tf.reduce_any(truths > 0, 1), tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(losses * shown, -1), tf.reduce_sum(shown, -1))


def dice(logits, labels, ignore_label=255, smooth=1.0):
    """1 - Dice, by class (Milletari et al. 2016, section 3, with squares left out).

    Args:
      logits: [B, h, w, C] at the labels' size.
      labels: int32 [B, h, w].
      ignore_label: int; pixels of it give neither loss nor gradient.
      smooth: added to numerator and denominator.

    Returns:
      float32 [B]: of each image the mean over the classes that its truth shows, of
      1 - (2 sum p y + s) / (sum p + sum y + s).
    """
    chances, truths, _ = _flat(logits, labels, ignore_label)
    common = tf.reduce_sum(chances * truths, 1)
    sizes = tf.reduce_sum(chances, 1) + tf.reduce_sum(truths, 1)
    return _mean_over_shown(1.0 - (2.0 * common + smooth) / (sizes + smooth), truths)


def lovasz_softmax(logits, labels, ignore_label=255):
    """The Lovász extension of 1 - IoU, by class (Berman et al. 2018, eqs. 8, 9 and 12).

    Args:
      logits, labels, ignore_label: see `dice`.

    Returns:
      float32 [B]: of each image the mean over the classes that its truth shows.
    """
    chances, truths, inside = _flat(logits, labels, ignore_label)
    wrong = tf.abs(truths - chances) * inside
    by_class, of_truth = (tf.transpose(part, [0, 2, 1]) for part in (wrong, truths))  # [B, C, n]
    order = tf.argsort(by_class, direction='DESCENDING', stable=True)
    ordered = tf.gather(by_class, order, batch_dims=2)
    hit = tf.gather(of_truth, order, batch_dims=2)
    # An ignored pixel comes with an error of 0, last, and adds nothing to either sum.
    counted = tf.gather(tf.broadcast_to(tf.transpose(inside, [0, 2, 1]), tf.shape(by_class)), order,
                        batch_dims=2)
    total = tf.reduce_sum(hit, -1, keepdims=True)
    intersection = total - tf.cumsum(hit, -1)
    union = total + tf.cumsum((1.0 - hit) * counted, -1)
    jaccard = 1.0 - tf.math.divide_no_nan(intersection, union)
    slope = tf.concat([jaccard[..., :1], jaccard[..., 1:] - jaccard[..., :-1]], -1)
    return _mean_over_shown(tf.reduce_sum(ordered * tf.stop_gradient(slope), -1), truths)
