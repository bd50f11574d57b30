"""One record: a picture and its label as a tf.train.Example, in and out.

The picture stays in the JPEG or PNG bytes it was published in, the label is a grey PNG of
train ids, so that records are about as large as the files they come from.
"""
import io

import numpy as np
import tensorflow as tf
from PIL import Image

FORMAT_VERSION = 1

_FEATURES = {
    'image_id': tf.io.FixedLenFeature([], tf.string),
    'image/encoded': tf.io.FixedLenFeature([], tf.string),
    'image/format': tf.io.FixedLenFeature([], tf.string),
    'label/encoded': tf.io.FixedLenFeature([], tf.string),
}


def encode(image_id, image, label, original=None):
    """A record's bytes.

    Args:
      image_id: string.
      image: uint8 [H, W, 3] RGB.
      label: uint8 [H, W] train ids.
      original: the picture's JPEG or PNG bytes, or None. They are kept where TensorFlow
        decodes them to the picture's size; else the picture is stored as PNG.

    Returns:
      The serialised tf.train.Example.
    """
    if original is None or not _decodes(original, image.shape):
        original = _png(image)
    picture_format = b'png' if original.startswith(b'\x89PNG') else b'jpeg'
    values = {'image_id': image_id.encode('utf-8'), 'image/encoded': original,
              'image/format': picture_format, 'label/encoded': _png(label)}
    return tf.train.Example(features=tf.train.Features(feature={
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for name, value in values.items()})).SerializeToString()


def decode(serialized):
    """A record's tensors; pure TensorFlow operations, the same numbers eagerly and in tf.data.

    Args:
      serialized: string scalar, what `encode` returned.

    Returns:
      dict of 'image' uint8 [H, W, 3], 'label' uint8 [H, W], 'image_id' string [].
    """
    parsed = tf.io.parse_single_example(serialized, _FEATURES)
    label = tf.io.decode_png(parsed['label/encoded'], channels=1)[..., 0]
    return {'image': _decode_picture(parsed['image/encoded'], parsed['image/format']),
            'label': label, 'image_id': parsed['image_id']}


def _decode_picture(encoded, picture_format):
    """uint8 [H, W, 3] RGB. The accurate DCT is the one whose result no build option changes."""
    image = tf.cond(
        tf.equal(picture_format, b'jpeg'),
        lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method='INTEGER_ACCURATE'),
        lambda: tf.io.decode_png(encoded, channels=3))
    image.set_shape([None, None, 3])
    return image


def _decodes(original, shape):
    """Whether TensorFlow's decoder, stricter than Pillow's in places, gives this shape."""
    picture_format = b'png' if original.startswith(b'\x89PNG') else b'jpeg'
    try:
        with tf.device('/cpu:0'):
            return tuple(_decode_picture(original, picture_format).shape) == tuple(shape)
    except tf.errors.InvalidArgumentError:
        return False


def _png(array):
    """uint8 [H, W] or [H, W, 3] as PNG bytes."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(buffer, 'PNG')
    return buffer.getvalue()
