"""Pixel-wise losses."""
import tensorflow as tf


def cross_entropy(logits, labels, ignore_label=255, pixel_weights=None):
    """Softmax cross-entropy, summed over the valid pixels of each image.

    Args:
      logits: [B, h, w, C] at the labels' size.
      labels: int32 [B, h, w]; pixels of `ignore_label` give neither loss nor gradient.
      ignore_label: int.
      pixel_weights: float32 [B, h, w] that multiply a pixel's loss, or None; the counts stay
        unweighted.

    Returns:
      (sums float32 [B], counts float32 [B] of valid pixels).
    """
    losses, valid = _losses(logits, labels, ignore_label, pixel_weights)
    return tf.reduce_sum(losses, [1, 2]), tf.reduce_sum(tf.cast(valid, tf.float32), [1, 2])


def _losses(logits, labels, ignore_label, pixel_weights):
    """float32 [B, h, w], 0 at ignored pixels; bool [B, h, w], where a pixel is valid."""
    valid = tf.not_equal(labels, ignore_label)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        tf.where(valid, labels, 0), tf.cast(logits, tf.float32))
    if pixel_weights is not None:
        losses *= tf.cast(pixel_weights, tf.float32)
    return tf.where(valid, losses, 0.0), valid


def focal(logits, labels, gamma=2.0, ignore_label=255):
    """-(1 - p_y)^gamma log p_y (Lin et al. 2017, eq. 4), summed over each image's valid pixels.

    Args:
      logits, labels, ignore_label: see `cross_entropy`.
      gamma: 0 is cross-entropy.

    Returns:
      (sums float32 [B], counts float32 [B] of valid pixels).
    """
    losses, valid = _losses(logits, labels, ignore_label, None)
    # p_y is exp(-CE); a floor keeps the slope of the power finite where a pixel is certain.
    left = tf.maximum(-tf.math.expm1(-losses), 1e-7)
    losses = tf.where(valid, losses * left ** gamma, 0.0)
    return tf.reduce_sum(losses, [1, 2]), tf.reduce_sum(tf.cast(valid, tf.float32), [1, 2])


def hard_example_cross_entropy(logits, labels, fraction, ignore_label=255, pixel_weights=None):
    """Softmax cross-entropy of the pixels whose loss is largest (official hard-example mining).

    The top `fraction` of all pixels of the batch, ignored ones counted in, taken out of the flat
    batch: a hard image gives more of them than an easy one.

    Args:
      logits, labels, ignore_label, pixel_weights: see `cross_entropy`.
      fraction: float or float32 scalar, above 0 and up to 1.

    Returns:
      (sum, count): float32 scalars; the count is of the chosen pixels whose loss is not 0, by which
      the official code divides.
    """
    losses, _ = _losses(logits, labels, ignore_label, pixel_weights)
    losses = tf.reshape(losses, [-1])
    chosen = tf.cast(tf.cast(fraction, tf.float32) * tf.cast(tf.size(losses), tf.float32), tf.int32)
    hardest = tf.math.top_k(losses, chosen, sorted=False).values
    return tf.reduce_sum(hardest), tf.reduce_sum(tf.cast(tf.not_equal(hardest, 0.0), tf.float32))


def annealed_fraction(fraction, step, steps):
    """The share of pixels to mine at a step: from 1 down to `fraction`, in a line over `steps`.

    Args:
      fraction: float, the share in the end.
      step: integer scalar, from 0.
      steps: int; 0 mines `fraction` from the start (official `hard_example_mining_step`).
    """
    if not steps:
        return tf.constant(fraction, tf.float32)
    ratio = tf.minimum(1.0, tf.cast(step, tf.float32) / float(steps))
    return ratio * fraction + (1.0 - ratio)


def class_weights(labels, weights, ignore_label=255):
    """One weight a class, by pixel (the official code's label weights).

    Args:
      labels: int32 [B, h, w].
      weights: float [C].
      ignore_label: int.

    Returns:
      float32 [B, h, w]; 0 at ignored pixels.
    """
    valid = tf.not_equal(labels, ignore_label)
    return tf.where(valid, tf.gather(tf.cast(weights, tf.float32), tf.where(valid, labels, 0)), 0.0)


def image_class_weights(labels, num_classes, average_counts, reading='per_class', maximum=None,
                        ignore_label=255):
    """LoAd's class weights, from each image's own class frequencies.

    LoAd (Jamali-Rad and Szabo), section 4, Stanford Background: "multiplying the loss by the
    average number of pixels per class computed over the entire training dataset and dividing it
    by the number of pixel per class in the image". The sentence has two readings, for a pixel of
    class c in image i with n_i(c) pixels of c:
      'per_class': a(c) / n_i(c), with a(c) the average of n_i(c) over training images;
      'global': mean over classes of a / n_i(c).

    Args:
      labels: int32 [B, h, w].
      num_classes: int, C.
      average_counts: float [C], a(c).
      reading: 'per_class' or 'global'.
      maximum: float, an upper bound of a weight (the paper names none), or None.
      ignore_label: int.

    Returns:
      float32 [B, h, w]; 0 at ignored pixels.

    Raises:
      ValueError: unknown reading.
    """
    if reading not in ('per_class', 'global'):
        raise ValueError(f"reading {reading!r}: expected 'per_class' or 'global'")
    average = tf.cast(average_counts, tf.float32)
    if reading == 'global':
        average = tf.fill([num_classes], tf.reduce_mean(average))
    batch = tf.shape(labels)[0]
    valid = tf.not_equal(labels, ignore_label)
    flat = tf.reshape(tf.where(valid, labels, num_classes), [batch, -1])
    counts = tf.math.bincount(flat, minlength=num_classes + 1, maxlength=num_classes + 1, axis=-1)
    weights = tf.math.divide_no_nan(average, tf.cast(counts[:, :num_classes], tf.float32))
    if maximum is not None:
        weights = tf.minimum(weights, maximum)
    weights = tf.pad(weights, [[0, 0], [0, 1]])
    return tf.reshape(tf.gather(weights, flat, batch_dims=1), tf.shape(labels))


def sampled_labels(labels, number, seed, class_weights=None, ignore_label=255):
    """Labels of which only some pixels are left, drawn anew at each step; the rest is ignored.

    Training on patches of the network's field of view, drawn over the image, is training on the
    pixels in their middle: so a network that was trained patch-wise is trained on whole images.

    Args:
      labels: int [B, h, w].
      number: how many pixels of each image are expected to stay.
      seed: int32 [2].
      class_weights: float [C], how much likelier than others a pixel of a class is drawn; None
        for every pixel alike.
      ignore_label: int.

    Returns:
      Labels of the same shape, `ignore_label` where a pixel was not drawn. Where the weights ask
      for more pixels of a class than there are, it has all of them and the others no more for it.
    """
    weights = tf.ones([256]) if class_weights is None else tf.concat(
        [tf.cast(class_weights, tf.float32), tf.zeros([256 - len(class_weights)])], 0)
    weights = tf.where(labels == ignore_label, 0.0, tf.gather(weights, labels))
    total = tf.reduce_sum(weights, [1, 2], keepdims=True)
    chance = tf.math.divide_no_nan(float(number) * weights, total)
    drawn = tf.random.stateless_uniform(tf.shape(labels), seed) < chance
    return tf.where(drawn, labels, ignore_label)
