"""The self-taught loss of Hung et al. (2018), and ways to select the points it is taken of."""
import math

import tensorflow as tf


def self_taught_cross_entropy(logits, selected):
    """Cross-entropy with the prediction's own class at selected points (Hung et al., eq. 5).

    "During training we treat both the self-taught target and the value of indicator function as
    constant": neither has a gradient.

    Args:
      logits: float [B, h, w, C].
      selected: bool [B, h, w].

    Returns:
      (sums float32 [B], counts float32 [B] of selected points).
    """
    logits = tf.cast(logits, tf.float32)
    target = tf.stop_gradient(tf.argmax(logits, -1, tf.int32))
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(target, logits)
    selected = tf.stop_gradient(selected)
    return (tf.reduce_sum(tf.where(selected, losses, 0.0), [1, 2]),
            tf.reduce_sum(tf.cast(selected, tf.float32), [1, 2]))


def selected_by_discriminator(judged, valid, threshold):
    """Points that the discriminator takes for truth with more than a probability: D > T.

    The comparison is of logits, z > log(T / (1 - T)): a sigmoid that underflows to 0 is still above
    T = 0. So T = 0 selects every valid point and T = 1 none, as in the paper's Table 5.

    Args:
      judged: float [B, h, w], the discriminator's logits.
      valid: bool [B, h, w].
      threshold: float in [0, 1], T_semi.

    Returns:
      bool [B, h, w], constant for the gradient.
    """
    if threshold <= 0.0:
        return valid
    least = math.inf if threshold >= 1.0 else math.log(threshold / (1.0 - threshold))
    return tf.logical_and(tf.stop_gradient(judged) > least, valid)


def selected_by_softmax(logits, valid, threshold):
    """Points whose largest probability is above a threshold: bool [B, h, w].

    Args:
      logits: float [B, h, w, C].
      valid: bool [B, h, w].
      threshold: float in [0, 1].
    """
    return tf.logical_and(_certainty(logits) > threshold, valid)


def selected_share(logits, valid, share):
    """The share of each image's valid points whose largest probability is largest.

    Args:
      logits: float [B, h, w, C].
      valid: bool [B, h, w].
      share: float in [0, 1]; of n valid points round(share n) are selected, and those that equal
        the last of them.

    Returns:
      bool [B, h, w], constant for the gradient.
    """
    return selected_surest(logits, valid, _share_of_points(valid, share))


def selected_share_by_discriminator(judged, valid, share):
    """The share of each image's valid points that the discriminator is most convinced by.

    A threshold asks how high the discriminator's confidence is, which falls to nothing where it
    wins; this asks for its order of the points alone.

    Args:
      judged: float [B, h, w], the discriminator's logits.
      valid, share: see `selected_share`.

    Returns:
      bool [B, h, w], constant for the gradient.
    """
    judged = tf.stop_gradient(tf.cast(judged, tf.float32))
    return _highest(judged, valid, _share_of_points(valid, share))


def _share_of_points(valid, share):
    """int32 [B]: of each image's n valid points round(share n)."""
    points = tf.reduce_sum(tf.cast(valid, tf.float32), [1, 2])
    return tf.cast(tf.round(share * points), tf.int32)


def selected_share_of_classes(logits, valid, share):
    """The same share of each image's points of each predicted class, the surest of them.

    One threshold for all classes selects hardly any point of those that a network is seldom sure
    of; this is the class-balanced self-training of Zou et al. (ECCV 2018), here within each image.

    Args:
      logits: float [B, h, w, C].
      valid: bool [B, h, w].
      share: float in [0, 1]; of n valid points of a class round(share n) are selected.

    Returns:
      bool [B, h, w], constant for the gradient.
    """
    classes = tf.shape(logits)[-1]
    # Points that do not count are of a class of their own, behind the others.
    named = tf.where(valid, tf.argmax(logits, -1, tf.int32), classes)
    shape, flat = tf.shape(named), tf.reshape(named, [tf.shape(named)[0], -1])
    certainty = tf.reshape(_certainty(logits), tf.shape(flat))
    # By class, and in each by certainty: two sorts, since one of a sum of both would round away
    # what tells sure points of the later classes apart.
    order = tf.argsort(certainty, direction='DESCENDING', stable=True)
    by_class = tf.argsort(tf.gather(flat, order, batch_dims=1), stable=True)
    order = tf.gather(order, by_class, batch_dims=1)
    ordered = tf.gather(flat, order, batch_dims=1)
    counts_ = tf.reduce_sum(tf.one_hot(flat, classes + 1), 1)  # [B, C + 1]
    first = tf.gather(tf.cumsum(counts_, axis=1, exclusive=True), ordered, batch_dims=1)
    wanted = tf.gather(tf.round(share * counts_), ordered, batch_dims=1)
    place = tf.cast(tf.range(tf.shape(flat)[1]), tf.float32) - first
    chosen = tf.logical_and(place < wanted, ordered < classes)
    back = tf.argsort(order, stable=True)
    return tf.stop_gradient(tf.reshape(tf.gather(chosen, back, batch_dims=1), shape))


def selected_surest(logits, valid, wanted):
    """So many of each image's valid points, those whose largest probability is largest.

    Args:
      logits: float [B, h, w, C].
      valid: bool [B, h, w].
      wanted: int32 [B]; points that equal the last of them are selected as well.

    Returns:
      bool [B, h, w], constant for the gradient.
    """
    return _highest(_certainty(logits), valid, wanted)


def _highest(scores, valid, wanted):
    """`selected_surest` by any scores, float32 [B, h, w]."""
    scores = tf.where(valid, scores, -math.inf)
    ordered = tf.sort(tf.reshape(scores, [tf.shape(scores)[0], -1]), direction='DESCENDING')
    last = tf.gather(ordered, tf.maximum(wanted - 1, 0), batch_dims=1)
    found = tf.logical_and(scores >= last[:, None, None], valid)
    return tf.logical_and(found, (wanted > 0)[:, None, None])


def selected_at_random(valid, share, seed):
    """A share of the valid points, drawn: what any choice of points is compared with.

    Args:
      valid: bool [B, h, w].
      share: float in [0, 1], the probability of each point, or float32 [B, 1, 1].
      seed: int32 [2].

    Returns:
      bool [B, h, w].
    """
    return tf.logical_and(tf.random.stateless_uniform(tf.shape(valid), seed) < share, valid)


def counts(mask):
    """int32 [B]: how many points of each image a bool [B, h, w] has."""
    return tf.reduce_sum(tf.cast(mask, tf.int32), [1, 2])


def share_of(mask, valid):
    """float32 [B, 1, 1]: of each image's valid points the share that is in `mask`, 0 of none."""
    found, of = (tf.cast(counts(each), tf.float32) for each in (mask, valid))
    return tf.math.divide_no_nan(found, of)[:, None, None]


def _certainty(logits):
    """The largest probability, float32 [B, h, w], constant."""
    return tf.stop_gradient(tf.reduce_max(tf.nn.softmax(tf.cast(logits, tf.float32)), -1))
