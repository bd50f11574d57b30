"""CutMix between the images of a batch (Yun et al. 2019; French et al. 2020 for segmentation).

A box of each image is taken from the next one; what is learnt of the two goes the same way: the
label, of labelled images (`+cutmix`, see `pasting`), or a teacher's prediction, of unlabelled ones
(consistency). Boxes are drawn from stateless seeds, so a resumed run cuts the same ones.

Of Yun et al. is the box out of another image of the same batch. They classify images: labels are
mixed by the box's share of the area, which is uniform from 0 to 1 and drawn once for all images of
a batch. Here, as French et al. have it, each image has a box of its own and each pixel keeps its
label, so nothing is weighted.

How often, how large and how long boxes are is UniMatch's (Yang et al. 2023, in its code): half of
the images get one, of 2 to 40 % of the area. French et al. cut a box of half the area out of every
image. Here the logarithm of the form is drawn, so that high boxes are as frequent as wide ones.
"""
import dataclasses

import gin
import tensorflow as tf

from tf_advseg.core import arguments

_CUT = 6  # the kind of draw, folded into the seed beside augment's
_SHORTEST, _LONGEST = 0.3, 1 / 0.3  # height by width of a box


@dataclasses.dataclass(frozen=True)
class CutMix:
    """Boxes from one image to another.

    Attributes:
      probability: of an image to get a box at all.
      least, most: share of the image's area that a box takes, drawn uniformly. The form is drawn as
        well, its logarithm uniformly from 0.3 to 1 / 0.3 times as high as wide.

    Raises:
      UserError: a value out of range.
    """
    probability: float = 0.5
    least: float = 0.02
    most: float = 0.4

    def __post_init__(self):
        arguments.require_number('cutmix', 'probability', self.probability, least=0, most=1)
        arguments.require_number('cutmix', 'least', self.least, above=0, most=1)
        arguments.require_number('cutmix', 'most', self.most, least=self.least, most=1)

    def given(self, label, seed):
        """Which pixels a labelled image gives to the one before it in the batch.

        Args:
          label: [h, w] of a static shape.
          seed: int32 [2], of the example.

        Returns:
          bool [h, w], a `box`.
        """
        return self.box(seed, tuple(label.shape))

    def box(self, seed, size):
        """Where an image gets another's pixels.

        Args:
          seed: int32 [2], of the image in its step.
          size: (h, w) in pixels, ints.

        Returns:
          bool [h, w], False throughout where the image gets no box. A box that would stand out is
          as high or wide as the image.
        """
        made, area, form, top, left = tf.unstack(tf.random.stateless_uniform(
            [5], tf.random.experimental.stateless_fold_in(seed, _CUT)))
        area = (self.least + (self.most - self.least) * area) * float(size[0] * size[1])
        form = tf.exp(tf.math.log(_SHORTEST) * (1 - form) + tf.math.log(_LONGEST) * form)
        sides = tf.sqrt(area * form), tf.sqrt(area / form)
        inside = [_between(side, length, place)
                  for side, length, place in zip(size, sides, (top, left))]
        return tf.logical_and(tf.logical_and(inside[0][:, None], inside[1][None]),
                              made < self.probability)


def _between(side, length, place):
    """bool [side]: a stretch of about `length` pixels that begins at a drawn place."""
    length = tf.clip_by_value(tf.round(length), 1.0, float(side))
    first = tf.round(place * (float(side) - length))
    at = tf.range(side, dtype=tf.float32)
    return tf.logical_and(at >= first, at < first + length)


def from_the_next(images, boxes):
    """Images with the next one's pixels in the boxes; the last one's next is the first.

    Args:
      images: [B, h, w, ...] of any type.
      boxes: bool [B, h, w].

    Returns:
      as `images`.
    """
    images, boxes = tf.convert_to_tensor(images), tf.convert_to_tensor(boxes)
    boxes = tf.reshape(boxes, [*boxes.shape, *[1] * (images.shape.rank - boxes.shape.rank)])
    return tf.where(boxes, tf.roll(images, -1, 0), images)


make_cutmix = gin.external_configurable(CutMix, name='cutmix', module='tf_advseg.data')
