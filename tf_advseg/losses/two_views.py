"""What is asked of one view of an image by a prediction on another (consistency)."""
import tensorflow as tf


def cross_entropy(logits, targets, weights, soft=False):
    """Cross-entropy with another network's prediction, which is constant here.

    Args:
      logits: float [B, h, w, C], of the network that learns.
      targets: float [B, h, w, C], the other's logits of the same points.
      weights: float32 [B, h, w], of each point.
      soft: the target is all the other's probabilities; False: its class.

    Returns:
      (float32 [B]: weighted sums; float32 [B]: sums of the weights).
    """
    logits = tf.cast(logits, tf.float32)
    targets = tf.stop_gradient(tf.cast(targets, tf.float32))
    weights = tf.stop_gradient(weights)
    if soft:
        losses = tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(targets), logits)
    else:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            tf.argmax(targets, -1, tf.int32), logits)
    return tf.reduce_sum(losses * weights, [1, 2]), tf.reduce_sum(weights, [1, 2])


def ramp_up(step, steps):
    """A weight's rise from nearly 0 to 1: exp(-5 (1 - t / T)^2) (Laine and Aila 2017, section 3).

    Args:
      step: scalar t, from 0.
      steps: T; 0 for no rise.

    Returns:
      float32 scalar.
    """
    if not steps:
        return tf.constant(1.0)
    left = 1.0 - tf.minimum(tf.cast(step, tf.float32) / float(steps), 1.0)
    return tf.exp(-5.0 * tf.square(left))
