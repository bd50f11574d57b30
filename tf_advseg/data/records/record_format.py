"""One record: an image and its label as a tf.train.Example, in and out.

The image stays in the JPEG or PNG bytes it was published in, the label is a grey PNG of
train ids, so that records are about as large as the files they come from. Where the data set
separates objects, a 16-bit PNG of instance ids comes along; training never decodes it.
"""
import tensorflow as tf

FORMAT_VERSION = 1

_FEATURES = {
    'image_id': tf.io.FixedLenFeature([], tf.string),
    'image/encoded': tf.io.FixedLenFeature([], tf.string),
    'image/format': tf.io.FixedLenFeature([], tf.string),
    'label/encoded': tf.io.FixedLenFeature([], tf.string),
}
# Optional, and so no reason for another FORMAT_VERSION: older records do not have it.
_INSTANCES = {'instance/encoded': tf.io.FixedLenFeature([], tf.string, default_value='')}


def encode(parts):
    """A record's bytes: `record_parts.RecordParts` as a serialised tf.train.Example."""
    values = {'image_id': parts.image_id.encode('utf-8'), 'image/encoded': parts.image,
              'image/format': _format(parts.image), 'label/encoded': parts.label}
    if parts.instances is not None:
        values['instance/encoded'] = parts.instances
    return tf.train.Example(features=tf.train.Features(feature={
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for name, value in values.items()})).SerializeToString(deterministic=True)


def decode(serialized):
    """A record's tensors; pure TensorFlow operations, the same numbers eagerly and in tf.data.

    Args:
      serialized: string scalar, what `encode` returned.

    Returns:
      dict of 'image' uint8 [H, W, 3], 'label' uint8 [H, W], 'image_id' string [].
    """
    parsed = tf.io.parse_single_example(serialized, _FEATURES)
    label = tf.io.decode_png(parsed['label/encoded'], channels=1)[..., 0]
    return {'image': _decode_image(parsed['image/encoded'], parsed['image/format']),
            'label': label, 'image_id': parsed['image_id']}


def decode_instances(serialized):
    """uint16 [H, W]: a record's instance ids, or None where it has none. Eager only."""
    encoded = tf.io.parse_single_example(serialized, _INSTANCES)['instance/encoded']
    if not encoded.numpy():
        return None
    return tf.io.decode_png(encoded, channels=1, dtype=tf.uint16)[..., 0]


def encoded_image(serialized):
    """A record's image as JPEG or PNG bytes: those of its file where it was 8-bit RGB."""
    feature = tf.train.Example.FromString(serialized).features.feature['image/encoded']
    return feature.bytes_list.value[0]


def _decode_image(encoded, image_format):
    """uint8 [H, W, 3] RGB. The accurate DCT is the one whose result no build option changes."""
    image = tf.cond(
        tf.equal(image_format, b'jpeg'),
        lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method='INTEGER_ACCURATE'),
        lambda: tf.io.decode_png(encoded, channels=3))
    image.set_shape([None, None, 3])
    return image


def decodes(image, size):
    """Whether TensorFlow's decoder, stricter than Pillow's in places, takes JPEG or PNG bytes.

    Args:
      image: bytes.
      size: (height, width) that it has to find.
    """
    try:
        with tf.device('/cpu:0'):
            return tuple(_decode_image(image, _format(image)).shape) == (*size, 3)
    except tf.errors.InvalidArgumentError:
        return False


def _format(image):
    """b'png' or b'jpeg'."""
    return b'png' if image.startswith(b'\x89PNG') else b'jpeg'
