"""Rotation by a small angle, as an option of every recipe; drawn from the example's stateless seed.

None of the five papers rotates; it is what images from the air, of cells and of hand-held cameras
are trained with. The image keeps its size: what turns out of it is lost, and what turns in is
padding, with label 255.
"""
import dataclasses

import gin
import numpy as np
import tensorflow as tf

from tf_advseg.core import arguments
from tf_advseg.data.spec import IGNORE_LABEL

_ROTATION = 7  # the kind of draw, folded into the seed beside augment's


@dataclasses.dataclass(frozen=True)
class Rotation:
    """A rotation about the image's middle by an angle drawn anew for each image.

    Attributes:
      probability: of being rotated at all.
      degrees: the angle lies uniformly between minus and plus this; at most 180.

    Raises:
      UserError: a value out of range.
    """
    probability: float = 0.5
    degrees: float = 10.0

    def __post_init__(self):
        arguments.require_number('rotation', 'probability', self.probability, least=0, most=1)
        arguments.require_number('rotation', 'degrees', self.degrees, above=0, most=180)

    def __call__(self, image, label, seed, pad_value):
        """Rotates an image and its label, or leaves them.

        Args:
          image: [H, W, 3] of any numeric type, without padding.
          label: [H, W] integer.
          seed: int32 [2], of the example.
          pad_value: a number, or three for R, G, B, of what turns in.

        Returns:
          (float32 [H, W, 3], bilinear; [H, W] of the label's type, nearest, 255 where nothing was).
        """
        draws = tf.random.stateless_uniform(
            [2], tf.random.experimental.stateless_fold_in(seed, _ROTATION))
        angle = (2.0 * draws[0] - 1.0) * self.degrees * np.pi / 180.0
        image = tf.cast(image, tf.float32)
        return tf.cond(draws[1] < self.probability,
                       lambda: rotated(image, label, angle, pad_value), lambda: (image, label))


def rotated(image, label, angle, pad_value):
    """An image and its label rotated about their middle.

    Args:
      image: float32 [H, W, 3].
      label: [H, W] integer.
      angle: float32 scalar in radians; anticlockwise, as it is looked at.
      pad_value: see `Rotation`.

    Returns:
      As `Rotation`'s.
    """
    height, width = tf.unstack(tf.cast(tf.shape(label), tf.float32))
    middle_x, middle_y = (width - 1.0) / 2.0, (height - 1.0) / 2.0
    cosine, sine = tf.cos(angle), tf.sin(angle)
    # From a pixel of the result to where it comes from; rows point down.
    transform = tf.stack([
        cosine, -sine, middle_x - cosine * middle_x + sine * middle_y,
        sine, cosine, middle_y - sine * middle_x - cosine * middle_y, 0.0, 0.0])[None]
    image = tf.convert_to_tensor(image)
    # Beside the image a channel of ones: how much of each value lies inside.
    moved = _moved(tf.concat([image, tf.ones_like(image[..., :1])], -1), transform, 'BILINEAR')
    inside, pad = moved[..., -1:], tf.constant(pad_value, tf.float32)
    # Labels count from 1 here, so that what was filled with 0 is told from class 0.
    ids = _moved(tf.cast(label, tf.float32)[..., None] + 1.0, transform, 'NEAREST')[..., 0]
    ids = tf.where(ids < 0.5, float(IGNORE_LABEL), ids - 1.0)
    return moved[..., :-1] + (1.0 - inside) * pad, tf.cast(tf.round(ids), label.dtype)


def _moved(values, transform, interpolation):
    """float32 [H, W, C] under a projective transform, 0 where nothing was."""
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=values[None], transforms=transform, output_shape=tf.shape(values)[:2],
        fill_value=0.0, interpolation=interpolation, fill_mode='CONSTANT')[0]


make_rotation = gin.external_configurable(Rotation, name='rotation', module='tf_advseg.data')
