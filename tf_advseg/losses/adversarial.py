"""Adversarial losses on discriminator logits; D = sigmoid(z) is the probability of "real"."""
import tensorflow as tf


def binary_cross_entropy(logits, target_real, weights=None):
    """The discriminator's loss: -w (t log D + (1 - t) log(1 - D)) (Goodfellow et al. 2014, eq. 1).

    Args:
      logits: [B].
      target_real: bool or float [B], 1 where the example is real; values between are soft targets.
      weights: float [B] or None, see `fake_set_weights`.

    Returns:
      float32 [B].
    """
    losses = tf.nn.sigmoid_cross_entropy_with_logits(
        labels=tf.cast(target_real, tf.float32), logits=tf.cast(logits, tf.float32))
    return losses if weights is None else losses * tf.cast(weights, tf.float32)


def per_image(values):
    """The mean over an image's decisions: [B] as it is, [B, h, w] -> [B], float32."""
    values = tf.cast(values, tf.float32)
    return values if values.shape.rank == 1 else tf.reduce_mean(
        values, axis=list(range(1, values.shape.rank)))


def non_saturating(logits):
    """The generator's -log D = softplus(-z), float32 of the logits' shape."""
    return tf.math.softplus(-tf.cast(logits, tf.float32))


def saturating(logits):
    """The generator's minimax loss log(1 - D) = -softplus(z), float32 of the logits' shape."""
    return -tf.math.softplus(tf.cast(logits, tf.float32))


def fake_set_weights(num_fake_sets):
    """Weights that give one set of real maps and n sets of fakes the same total.

    LoAd (Jamali-Rad and Szabo), section 4: the discriminator's loss "is weighted to account for
    the variable number of generated label maps in the map aggregation buffer". The mean weight of
    an example drawn evenly from the n + 1 sets is 1.

    Args:
      num_fake_sets: n > 0, fakes for each real map; a fraction where sets are of subsets.

    Returns:
      (w_real, w_fake) floats: (n + 1) / 2 and (n + 1) / (2 n).

    Raises:
      ValueError: n <= 0.
    """
    if not num_fake_sets > 0:
        raise ValueError(f'num_fake_sets is {num_fake_sets}: expected more than 0')
    total = num_fake_sets + 1
    return total / 2.0, total / (2.0 * num_fake_sets)
