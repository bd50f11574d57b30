"""Soft maps as the buffer keeps them where the logits are large: probabilities in eight bits."""
import tensorflow as tf

# A stored probability of 0 means "below 1/510"; for the logarithm it is read as this many 255ths.
# Of 0.003 to 0.3 this came nearest to the live map (8 and 21 classes): more takes mass from the
# certain classes, less makes the borders between them too sharp.
_QUANTISED_FLOOR = 0.1


def quantise(probabilities):
    """Probabilities float [...,C] -> uint8 (255ths, rounded), the buffer's form at stride 4."""
    return tf.cast(tf.round(tf.cast(probabilities, tf.float32) * 255.0), tf.uint8)


def stored_logits(quantised):
    """Logits, but for a constant of each point, of probabilities stored by `quantise`: float32."""
    steps = tf.maximum(tf.cast(quantised, tf.float32), _QUANTISED_FLOOR)
    return tf.math.log(steps / 255.0)
