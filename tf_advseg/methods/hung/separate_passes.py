"""Labelled and unlabelled images through the segmentor one kind after the other.

The published code of Hung et al. (train.py) takes the unlabelled images of a step through the
segmentor first and the labelled ones then. Live batch norm normalises each kind by statistics of
its own, and its moving statistics follow both, in that order. Where batch norm is frozen, the
logits are those of one pass, but for rounding. The discriminator has no batch norm.

A micro-batch (methods/accumulation.py) is two passes, as an iteration of the code's `--iter-size`
is. Dropout draws in the unlabelled pass by a seed of its own.
"""
import tensorflow as tf

from tf_advseg.methods import accumulation

_UNLABELLED = 9000  # the kind of draw, folded into the seed of that pass's dropout


def logits(one_pass, batch, seed):
    """The segmentor's logits of a batch: a pass of its unlabelled rows, then of its labelled ones.

    Args:
      one_pass: function(batch, seed) -> logits float32 [n, h', w', C].
      batch: a replica's share of the global batch, or a micro-batch of it, with 'labeled' bool [b].
      seed: int32 [2], for dropout.

    Returns:
      float32 [b, h', w', C], in the order of the batch.

    Raises:
      tf.errors.InvalidArgumentError: there is no image of one kind; batches of `data.mixed` that
        are interleaved evenly have both.
    """
    labelled = batch['labeled']
    seeds = tf.random.experimental.stateless_fold_in(tf.cast(seed, tf.int32), _UNLABELLED), seed
    rows, found = [], []
    for kind, chosen, own_seed in zip(('unlabelled', 'labelled'),
                                      (tf.logical_not(labelled), labelled), seeds):
        places = tf.cast(tf.where(chosen)[:, 0], tf.int32)
        there = tf.debugging.assert_positive(
            tf.size(places), f'a pass of {kind} images, and this part of the batch has none')
        with tf.control_dependencies([] if there is None else [there]):
            part = {name: tf.gather(batch[name], places)
                    for name in accumulation.PASSED if name in batch}
        rows.append(places)
        found.append(one_pass(part, own_seed))
    # Not a gather: the gradient of this is one, and so the same at each run on a GPU.
    whole = tf.dynamic_stitch(rows, found)
    return tf.ensure_shape(whole, [labelled.shape[0], *found[0].shape[1:]])
