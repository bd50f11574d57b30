"""ClassMix between the images of a batch (Olsson et al. 2021): classes are moved, not boxes.

Half of an image's classes are drawn, and their pixels are put into another image; what is learnt of
the two goes the same way. The masks follow the borders of objects, where CutMix has boxes. Draws
are from stateless seeds, so a resumed run moves the same classes.

Olsson et al. mix unlabelled images by the classes that a network names in them (consistency). These
masks need a prediction, so they are made in the step that has it, and not where batches are made.
Labelled images (`+classmix`, see `pasting`) are mixed by their labels, as the source images of DACS
are (Tranheden et al. 2021); there they are put into images of another domain, here into another
image of the batch.
"""
import dataclasses

import gin
import tensorflow as tf

from tf_advseg.core import arguments
from tf_advseg.data.spec import IGNORE_LABEL

_CLASSES = 4000  # the kind of draw, folded into the seed of a step or of an example
# Of labelled images. The paper mixes always, but has images that are not mixed beside.
_PROBABILITY = 0.5


@dataclasses.dataclass(frozen=True)
class ClassMix:
    """Classes from one image to another.

    Attributes:
      probability: of an image to get another's classes at all; always in the paper.

    Raises:
      UserError: a value out of range.
    """
    probability: float = 1.0

    def __post_init__(self):
        arguments.require_number('classmix', 'probability', self.probability, least=0, most=1)

    def box(self, seed, size):
        """bool [h, w], False throughout: nothing is cut where batches are made.

        Args:
          seed: not looked at.
          size: (h, w) in pixels, ints.
        """
        del seed
        return tf.zeros(size, tf.bool)

    def given(self, label, seed):
        """Which pixels a labelled image gives to the one before it in the batch.

        Args:
          label: [h, w] integer of train ids; 255 is no class.
          seed: int32 [2], of the example.

        Returns:
          bool [h, w], the pixels of half of its classes, see `drawn`.
        """
        label = tf.cast(label, tf.int32)
        counts = tf.math.bincount(tf.reshape(label, [-1]), minlength=IGNORE_LABEL + 1,
                                  maxlength=IGNORE_LABEL + 1)
        present = tf.logical_and(counts > 0, tf.range(IGNORE_LABEL + 1) != IGNORE_LABEL)
        return tf.gather(self.drawn(present[None], seed)[0], label)

    def drawn(self, present, seed):
        """The classes of each image that its neighbour in the draw gets.

        Half of those present are drawn, one less where their number is odd, as in the published
        code; so an image of one class gives none.

        Args:
          present: bool [B, C], the classes in each image of the global batch.
          seed: int32 [2], of the step.

        Returns:
          bool [B, C]; a row is False throughout where nothing is given.
        """
        size, classes = tf.unstack(tf.shape(present))
        keys = tf.random.stateless_uniform(
            [size, classes + 1], tf.random.experimental.stateless_fold_in(seed, _CLASSES))
        made, order = keys[:, :1] < self.probability, tf.where(present, keys[:, 1:], 2.0)
        rank = tf.argsort(tf.argsort(order))
        half = tf.reduce_sum(tf.cast(present, tf.int32), 1, keepdims=True) // 2
        return tf.logical_and(tf.logical_and(rank < half, present), made)


def present_classes(classes, valid, num_classes):
    """bool [b, C]: which classes an image shows.

    Args:
      classes: int32 [b, h, w].
      valid: bool [b, h, w], which pixels count.
      num_classes: C.
    """
    counted = tf.where(valid, classes, num_classes)
    return tf.reduce_any(counted[..., None] == tf.range(num_classes), [1, 2])


def pixels_of(chosen, classes, valid):
    """bool [b, h, w]: the pixels of the classes that were drawn.

    Args:
      chosen: bool [b, C].
      classes: int32 [b, h, w].
      valid: bool [b, h, w].
    """
    return tf.logical_and(tf.gather(chosen, classes, batch_dims=1), valid)


@gin.configurable('classmix', module='tf_advseg.data')
def make_classmix(probability=_PROBABILITY):
    """`ClassMix` of labelled images; UserError as there."""
    return ClassMix(probability)
