"""How maps are resized, here and in all that imports it: align-corners, as official DeepLab does.

`tf.image.resize` has no align_corners (it samples at half-pixel centres), which shifts every
prediction of the published weights; hence the raw ops (their compat.v1 names print a deprecation
warning). `data.official_preprocessing.resized_map`, which cannot import this, resizes images and
labels by the same ops.
"""
import tensorflow as tf


def scale_dimension(dimension, scale):
    """Size of a side after scaling with aligned corners: int((dimension - 1) * scale + 1).

    Args:
      dimension: int, or int tensor, in pixels.
      scale: float, 1 / stride for a feature map.
    """
    if tf.is_tensor(dimension):
        return tf.cast((tf.cast(dimension, tf.float32) - 1.0) * scale + 1.0, tf.int32)
    return int((float(dimension) - 1.0) * scale + 1.0)


def resize_bilinear(x, size):
    """Bilinear resize with aligned corners.

    Args:
      x: [B, h, w, C] of any numeric type.
      size: (height, width), Python ints or an int32 tensor [2].

    Returns:
      float32 [B, height, width, C]; x itself where its static size is the asked one already.
    """
    x = tf.cast(x, tf.float32)
    if _same_static_size(x, size):
        return x
    return tf.raw_ops.ResizeBilinear(images=x, size=size, align_corners=True)


def resize_nearest(x, size):
    """Nearest-neighbour resize with aligned corners (labels, masks), of x's own type.

    Args:
      x: [B, h, w, C].
      size: (height, width), Python ints or an int32 tensor [2].
    """
    x = tf.convert_to_tensor(x)
    if _same_static_size(x, size):
        return x
    return tf.raw_ops.ResizeNearestNeighbor(images=x, size=size, align_corners=True)


def _same_static_size(x, size):
    wanted = tf.get_static_value(size) if tf.is_tensor(size) else size
    if wanted is None or any(tf.is_tensor(side) for side in wanted):
        return False
    return x.shape[1:3].as_list() == [int(side) for side in wanted]
