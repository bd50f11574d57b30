"""What a segmentor's stride lets through: the truth as the best maps of logits at that stride.

A segmentor that gives logits at every s-th pixel cannot draw a border as sharp as the ground truth,
whatever it has learnt. A discriminator that is shown the ground truth at its own sharpness wins on
that alone. `oracle_logits` are those of a segmentor that knows the ground truth; what they give in
the place of the ground truth is as blurred as a prediction.

Unlabelled and padded points get the class of the nearest labelled point. A segmentor is sure of
some class there, too; an oracle that knew nothing there would, once resized, be unsure up to a
stride into the labelled points beside them, and a discriminator could know it by that.
"""
import tensorflow as tf

from tf_advseg.models import resize

# How sure the oracle is: each point's own class has a probability of 1 less this (and a Cth of it).
UNSURE = 0.01


def grid_of(size, stride):
    """(h', w') of the logits of an image of `size` (h, w), ints or an int32 tensor [2]."""
    return (size[0] - 1) // stride + 1, (size[1] - 1) // stride + 1


def labels_on_grid(labels, stride):
    """Labels where the logits of that stride stand: int [B, h', w'], nearest, aligned corners."""
    grid = grid_of(tf.unstack(tf.shape(labels)[1:3]), stride)
    return resize.resize_nearest(labels[..., None], tf.stack(grid))[..., 0]


def oracle_logits(labels, num_classes, stride, unsure=UNSURE):
    """Logits at every `stride`-th pixel of a segmentor that knows the labels there.

    Args:
      labels: int [B, h, w], 255 where unlabelled or padded.
      num_classes: C.
      stride: s, pixels from one point to the next; 1 keeps the labels' sharpness.
      unsure: epsilon of (1 - epsilon) one-hot + epsilon / C, above 0: the logits are its logarithm.

    Returns:
      float32 [B, (h-1)//s+1, (w-1)//s+1, C]; all equal throughout an image without a label.
    """
    one_hot = continued(tf.one_hot(labels_on_grid(tf.cast(labels, tf.int32), stride), num_classes))
    return tf.math.log((1.0 - unsure) * one_hot + unsure / num_classes)


def continued(one_hot):
    """Classes spread from labelled points over the others, one point further in each round.

    A point takes the class that most of its eight neighbours have, the first of equals.

    Args:
      one_hot: float32 [B, h, w, C]; all 0 at points without a label.

    Returns:
      float32 [B, h, w, C]; still all 0 in an image without a label.
    """
    def reached(maps):
        return tf.reduce_max(maps, -1, keepdims=True)

    def unfinished(maps, before):
        return tf.reduce_any(reached(maps) != before)

    def spread(maps, before):
        del before
        there = reached(maps)
        around = tf.nn.avg_pool2d(maps, 3, 1, 'SAME')
        new = tf.one_hot(tf.argmax(around, -1), tf.shape(maps)[-1]) * tf.cast(
            reached(around) > 0, tf.float32)
        return maps + (1.0 - there) * new, there
    # It ends with the round that reaches no further point.
    return tf.while_loop(unfinished, spread, [one_hot, -tf.ones_like(reached(one_hot))])[0]


def truth_map(labels, num_classes, stride, size, temperature=1.0, unsure=UNSURE):
    """The truth put through the segmentor's bottleneck, as a map of probabilities.

    Args:
      labels, num_classes, stride, unsure: see `oracle_logits`.
      size: (h', w') of the map.
      temperature: of the softmax, as of the predictions'.

    Returns:
      float32 [B, h', w', C].
    """
    logits = oracle_logits(labels, num_classes, stride, unsure)
    return tf.nn.softmax(resize.resize_bilinear(logits, size) / temperature)
