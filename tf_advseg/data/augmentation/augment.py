"""Padding, flips and crops: pure functions of an image, its label and a stateless seed.

A seed is int32 [2] (core.random_streams). Whatever belongs to an image (its label, maps of
it) goes through a function in one call and moves by one draw.
"""
import numpy as np
import tensorflow as tf

from tf_advseg.data.spec import IGNORE_LABEL

# The middle of 0..255: the value the network's first layer turns into 0.
PAD_VALUE = 127.5

_FLIP, _CROP = 1, 2  # one number per kind of draw, folded into the seed


def pad_to(image, label, height, width, pad_value=PAD_VALUE):
    """Pads image and label at the bottom and the right.

    Args:
      image: [H, W, 3] of any numeric type, 0..255.
      label: [H, W] integer.
      height, width: the size wanted, at least H and W (TensorFlow raises InvalidArgumentError
        otherwise).
      pad_value: a number, or three for R, G, B: what the network's first layer turns into 0.

    Returns:
      image float32 [height, width, 3] with `pad_value` outside; label [height, width] of its
      type with 255 outside.
    """
    shape = tf.shape(image)
    bottom_right = [[0, height - shape[0]], [0, width - shape[1]]]
    image = tf.cast(image, tf.float32)
    colour = np.broadcast_to(np.asarray(pad_value, np.float32), [3])
    if (colour == colour[0]).all():
        image = tf.pad(image, bottom_right + [[0, 0]], constant_values=colour[0])
    else:  # tf.pad fills with one number
        image = tf.stack([tf.pad(image[..., c], bottom_right, constant_values=value)
                          for c, value in enumerate(colour)], axis=-1)
    label = tf.pad(label, bottom_right, constant_values=tf.cast(IGNORE_LABEL, label.dtype))
    return image, label


def random_flip(tensors, seed):
    """Mirrors left and right, with probability 1/2, everything by the same draw.

    Args:
      tensors: a structure of tensors [H, W] or [H, W, channels]; sizes may differ. A map at
        a stride moves exactly with its image if its width is (W - 1) / stride + 1.
      seed: int32 [2].

    Returns:
      The same structure.
    """
    return tf.cond(is_flipped(seed),
                   lambda: tf.nest.map_structure(lambda t: tf.reverse(t, [1]), tensors),
                   lambda: tf.nest.map_structure(tf.identity, tensors))


def is_flipped(seed):
    """bool scalar: whether `random_flip` mirrors by this seed."""
    draw = tf.random.stateless_uniform([], tf.random.experimental.stateless_fold_in(seed, _FLIP))
    return draw < 0.5


def example_seed(seed, position):
    """int32 [2]: the seed of the example at a position of the batch whose step has `seed`."""
    return tf.random.experimental.stateless_fold_in(seed, tf.cast(position, tf.int32))


def random_crop_offsets(height, width, crop_size, seed, multiple=1):
    """Where to cut a crop out of an image.

    Args:
      height, width: of the image, at least the crop's.
      crop_size: (height, width) of the crop.
      seed: int32 [2].
      multiple: offsets are multiples of it (the stride of maps that are cropped alongside).

    Returns:
      (top, left), int32 scalars, uniform over all places where the crop fits.
    """
    draw = tf.random.stateless_uniform(
        [2], tf.random.experimental.stateless_fold_in(seed, _CROP))
    room = tf.stack([height - crop_size[0], width - crop_size[1]])
    places = room // multiple + 1
    offsets = tf.cast(draw * tf.cast(places, tf.float32), tf.int32)
    # 0.99999994 times a large number can round up to it.
    offsets = tf.minimum(offsets, places - 1) * multiple
    return offsets[0], offsets[1]


def crop(tensor, top, left, crop_size):
    """[H, W, ...] cut to [crop height, crop width, ...] at (top, left)."""
    return tensor[top:top + crop_size[0], left:left + crop_size[1]]
