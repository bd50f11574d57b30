"""Images and maps of ids at another size, without TensorFlow, which no reader loads.

The grid is `official_preprocessing`'s 'centres', OpenCV's: pixels are areas. Nothing is smoothed
first, so half the size is the mean of four pixels.
"""
import numpy as np

from tf_advseg.core.errors import UserError


def require_size(where, size):
    """(height, width) as ints, or None for None.

    Args:
      where: what is being set, for the message.
      size: a pair of whole numbers of at least 1, or None.

    Raises:
      UserError: anything else.
    """
    if size is None:
        return None
    good = isinstance(size, (list, tuple)) and len(size) == 2 and all(
        isinstance(side, int) and not isinstance(side, bool) and side >= 1 for side in size)
    if not good:
        raise UserError(f'{where}: size is {size!r}, expected (height, width) in pixels, such as '
                        '(512, 1024), or None for the images as they are')
    return tuple(size)


def require_longest_side(where, side):
    """A number of pixels, or None for None.

    Args:
      where: what is being set, for the message.
      side: a whole number of at least 1, or None.

    Raises:
      UserError: anything else.
    """
    if side is None or isinstance(side, int) and not isinstance(side, bool) and side >= 1:
        return side
    raise UserError(f'{where}: longest_side is {side!r}, expected a whole number of pixels of at '
                    'least 1, such as 320, or None for the images as they are')


def within(size, longest_side):
    """The size of an image whose longer side is at most so long, in the image's proportions.

    Args:
      size: (height, width).
      longest_side: in pixels; None for no limit.

    Returns:
      (h, w): `size` itself where it is no longer than that, for nothing is enlarged. The other
      side is rounded to the nearest (a half to the even one) and at least 1.
    """
    longest = max(size)
    if longest_side is None or longest <= longest_side:
        return tuple(size)
    return tuple(max(1, round(side * longest_side / longest)) for side in size)


def bilinear(image, size):
    """An image resized by bilinear interpolation.

    Args:
      image: uint8 [H, W, 3].
      size: (h, w).

    Returns:
      uint8 [h, w, 3], rounded to the nearest (a half to the even one).
    """
    values = image.astype(np.float32)
    for axis, side in enumerate(size):
        places = np.maximum(_centres(image.shape[axis], side), 0.0)
        low = places.astype(np.int64)
        high = np.minimum(low + 1, image.shape[axis] - 1)
        share = (places - low).astype(np.float32).reshape([-1] + [1] * (2 - axis))
        first, second = values.take(low, axis), values.take(high, axis)
        values = first + (second - first) * share
    return np.round(values).astype(np.uint8)


def nearest(ids, size):
    """A map of ids at another size: the id at each new pixel's centre.

    Args:
      ids: integers [H, W].
      size: (h, w).

    Returns:
      [h, w] of the same type.
    """
    rows, columns = (np.minimum((_centres(old, new) + 0.5).astype(np.int64), old - 1)
                     for old, new in zip(ids.shape, size))
    return ids[rows[:, None], columns]


def _centres(old, new):
    """float64 [new]: where the centres of new pixels lie, in old ones counted from 0."""
    return (np.arange(new) + 0.5) * (old / new) - 0.5
