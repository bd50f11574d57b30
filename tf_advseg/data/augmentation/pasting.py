"""Parts of one labelled image in another of its batch: `+cutmix` and `+classmix` of a recipe.

Each image draws, from its own stateless seed, which of its pixels it gives away (`given` of
`cutmix.CutMix` and `classmix.ClassMix`). The image before it in the batch gets them together with
their labels, and the last image gets the first one's. A box may hold padding and ignored pixels:
they are pasted as they are, with label 255. A batch is in the order of an epoch's permutation, so
the next image is one drawn at random.

The finished images of the global batch are mixed, each cut, coloured and blurred by itself, before
replicas get their parts. Olsson et al. change the colours of the mixed image instead.
"""
import tensorflow as tf

from tf_advseg.data.augmentation import cutmix

GIVEN = 'given'


def pasted(batch):
    """A batch in which each image has what the next one gives.

    Args:
      batch: dict of 'given' bool [B, h, w], 'image' [B, h, w, 3], 'label' [B, h, w], 'image_id'
        string [B], perhaps 'plain' [B, h, w, 3], and whatever else belongs to the ground.

    Returns:
      the batch without 'given' and with 'pasted_id' string [B]: of whose pixels there are some in
      the image that 'image_id' names; '' where there are none.
    """
    batch = dict(batch)
    masks = tf.roll(batch.pop(GIVEN), -1, 0)
    for name in ('image', 'label', 'plain'):
        if name in batch:
            batch[name] = cutmix.from_the_next(batch[name], masks)
    batch['pasted_id'] = tf.where(tf.reduce_any(masks, [1, 2]), tf.roll(batch['image_id'], -1, 0),
                                  '')
    return batch
