"""Sizes and scales of the official DeepLab's preprocessing (core/preprocess_utils of its code).

The order there, and in `recipes.Recipe`: resize to a range (ADE20K only), random scale, padding
with the mean pixel and with the ignored label, random crop, random flip. Every size is computed in
float32, as the official graph does: a product that falls short of a whole number loses a row.

There are two grids to resize on. 'corners' is the official DeepLab's: the corner pixels of both
images lie on one another, sizes are rounded down. 'centres' is OpenCV's, which the code of Hung
et al. calls: pixels are areas, sizes are rounded to the nearest (a half in float32, so that one
pixel may differ). OpenCV's own nearest neighbour stands half a pixel off its bilinear grid; here
labels are taken at the image's places.
"""
import dataclasses

import numpy as np
import tensorflow as tf

from tf_advseg.core import arguments
from tf_advseg.core import errors

CORNERS, CENTRES = 'corners', 'centres'
GRIDS = {CORNERS: {'align_corners': True, 'half_pixel_centers': False},
         CENTRES: {'align_corners': False, 'half_pixel_centers': True}}

_SCALE = 3  # the kind of draw, folded into the seed beside augment's


@dataclasses.dataclass(frozen=True)
class RandomScale:
    """Factors an image is resized by before it is cropped.

    Attributes:
      minimum, maximum: the least and the largest factor; 0.5 and 2.0 in the official recipe, both
        1.0 (never resized) here unless asked for.
      step: factors are minimum, minimum + step, ..., all with the same chance; 0.25 in the official
        recipe. 0 draws from the whole range.
    """
    minimum: float = 1.0
    maximum: float = 1.0
    step: float = 0.25

    def __post_init__(self):
        for name, least in (('minimum', 0.0), ('maximum', self.minimum), ('step', 0.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value < least or (
                    name != 'step' and value <= 0.0):
                raise errors.UserError(
                    f'random scale from {self.minimum} to {self.maximum} by {self.step}: expected '
                    '0 < minimum <= maximum and a step of at least 0')

    @property
    def active(self):
        """bool: whether images are resized at all."""
        return self.minimum != 1.0 or self.maximum != 1.0

    def factors(self):
        """float32 [n]: every factor that can be drawn; of step 0 the two ends."""
        if self.minimum == self.maximum:
            return np.array([self.minimum], np.float32)
        # The allowance is for steps such as 0.1 that binary fractions only come near to.
        steps = int((self.maximum - self.minimum) / self.step + 1e-6) if self.step else 1
        return np.linspace(self.minimum, self.maximum, steps + 1).astype(np.float32)

    def draw(self, seed):
        """float32 scalar: a factor that depends on the seed (int32 [2]) alone."""
        uniform = tf.random.stateless_uniform(
            [], tf.random.experimental.stateless_fold_in(seed, _SCALE))
        if not self.step:
            return self.minimum + uniform * (self.maximum - self.minimum)
        factors = self.factors()
        index = tf.cast(uniform * len(factors), tf.int32)
        return tf.gather(factors, tf.minimum(index, len(factors) - 1))


def scaled_size(height, width, factor, grid=CORNERS):
    """int32 [2]: (height, width) times a factor in float32, rounded as the grid's owner does (down
    for 'corners', to the nearest for 'centres'); at least 1."""
    size = tf.cast(tf.stack([height, width]), tf.float32) * factor
    size = tf.cast(tf.round(size) if grid == CENTRES else size, tf.int32)
    return tf.maximum(size, 1)


@dataclasses.dataclass(frozen=True)
class SizeRange:
    """The official `resize_to_range`: images of about one size, as for ADE20K.

    The shorter side becomes `min_size`, unless the longer one would exceed `max_size`: then that
    becomes `max_size`. The shape is kept as far as whole numbers allow.

    Attributes:
      min_size: wanted length of the shorter side, in pixels.
      max_size: greatest length of the longer side, or None.
      factor: both sides are rounded up to k * factor + 1 (an output stride), max_size down to it
        beforehand; None leaves them as they are.
    """
    min_size: int
    max_size: object = None
    factor: object = None

    def __post_init__(self):
        if not arguments.is_count(self.min_size) or any(
                value is not None and not arguments.is_count(value)
                for value in (self.max_size, self.factor)):
            raise errors.UserError(
                f'resize to the range {self.min_size!r} to {self.max_size!r} by {self.factor!r}: '
                'every number must be a whole one of at least 1')

    def size(self, height, width):
        """int32 [2]: the size an image of this size (ints or int32 scalars) is resized to."""
        sides = tf.cast(tf.stack([height, width]), tf.float32)
        size = tf.floor(sides * (float(self.min_size) / tf.reduce_min(sides)))
        if self.max_size is not None:
            largest = float(self.max_size - (
                0 if self.factor is None else (self.max_size - 1) % self.factor))
            smaller = tf.floor(sides * (largest / tf.reduce_max(sides)))
            size = tf.where(tf.reduce_max(size) > largest, smaller, size)
        size = tf.maximum(tf.cast(size, tf.int32), 1)
        if self.factor is not None:
            size += (self.factor - (size - 1) % self.factor) % self.factor
        return size


def resized(image, label, size, grid=CORNERS):
    """Image and label at another size, on one grid.

    Args:
      image: [H, W, 3] of any numeric type.
      label: [H, W] integer.
      size: int32 [2], (height, width).
      grid: a name in GRIDS.

    Returns:
      (float32 [height, width, 3], bilinear; [height, width] of the label's type, nearest).
    """
    return resized_map(tf.cast(image, tf.float32), size, grid), resized_map(label, size, grid)


def resized_map(values, size, grid=CORNERS):
    """One map at another size: [H, W, C] bilinear, [H, W] of ids nearest.

    Floats of less than 32 bits and integers keep their type, the latter rounded.
    """
    # The ops of models.resize, which is above this one: tf.image.resize has no align_corners.
    if values.shape.rank == 2:
        return tf.raw_ops.ResizeNearestNeighbor(
            images=values[None, ..., None], size=size, **GRIDS[grid])[0, ..., 0]
    result = tf.raw_ops.ResizeBilinear(images=values[None], size=size, **GRIDS[grid])[0]
    return tf.cast(tf.round(result) if values.dtype.is_integer else result, values.dtype)
