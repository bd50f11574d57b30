"""Wasserstein losses on a critic's responses (Arjovsky et al. 2017), and its gradient penalty.

Zhu et al. (2018) print the critic's objective as E[D(Y, I)] - E[1 - D(Y, G(Y))] (their eq. 8). For
a critic its second sign is wrong: to raise D of what is reconstructed would raise it, and with eq.
6, -E[D(G(Y))], both networks would pull the same way. Theirs is eq. 7 with the logarithms struck
out. Here is what [14], the paper it adopts, has: maximise E[D(real)] - E[D(fake)].
"""
import tensorflow as tf


def critic(real, fake):
    """What the critic minimises: D(fake) - D(real) (Arjovsky et al., eq. 3, its sign turned).

    Args:
      real, fake: responses, of one shape.

    Returns:
      float32 of that shape.
    """
    return tf.cast(fake, tf.float32) - tf.cast(real, tf.float32)


def generator(fake):
    """What the generator minimises: -D(fake) (Zhu et al., eq. 6), float32 of its shape."""
    return -tf.cast(fake, tf.float32)


def gradient_penalty(responses, real, fake, mix):
    """(|gradient of D| - 1)^2 between a real and a fake example (Gulrajani et al. 2017, eq. 3).

    It takes gradients of gradients, so `responses` may hold no operation without a second
    derivative; TensorFlow's bilinear resize is one.

    Args:
      responses: function of [B, h, w, c] -> [B, ...]; an example's response is the mean of its own.
      real, fake: float32 [B, h, w, c], constants.
      mix: float32 [B] in 0..1, where between fake (0) and real (1) each example is looked at.

    Returns:
      float32 [B].
    """
    share = tf.reshape(mix, [-1, 1, 1, 1])
    between = tf.stop_gradient(share * real + (1.0 - share) * fake)
    with tf.GradientTape() as tape:
        tape.watch(between)
        found = responses(between)
        total = tf.reduce_sum(tf.reduce_mean(tf.reshape(found, [tf.shape(found)[0], -1]), axis=1))
    squares = tf.reduce_sum(tf.square(tape.gradient(total, between)), axis=[1, 2, 3])
    # The root has no derivative at 0, where an untrained critic may well be.
    return tf.square(tf.sqrt(squares + 1e-12) - 1.0)
