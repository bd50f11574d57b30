"""Gaussian blur, as an option of every recipe; drawn from the example's stateless seed.

None of the five papers blurs. What learns from two views of one image does, since SimCLR (Chen et
al. 2020, appendix A), whose numbers are the defaults. keras-cv's layer draws from a generator of
its own, whose state is in no checkpoint, and tensorflow-addons is not to be had on Python 3.12.
"""
import dataclasses
import math

import gin
import tensorflow as tf

from tf_advseg.core import arguments
from tf_advseg.core import errors

_BLUR = 5  # the kind of draw, folded into the seed beside augment's


@dataclasses.dataclass(frozen=True)
class Blur:
    """A Gaussian blur of a width drawn anew for each image.

    Attributes:
      probability: of being blurred at all.
      least, most: the Gaussian's standard deviation in pixels, drawn uniformly between them.

    Raises:
      UserError: a value out of range.
    """
    probability: float = 0.5
    least: float = 0.1
    most: float = 2.0

    def __post_init__(self):
        arguments.require_number('blur', 'probability', self.probability, least=0, most=1)
        arguments.require_number('blur', 'least', self.least, above=0)
        arguments.require_number('blur', 'most', self.most, above=0, most=20)
        if self.least > self.most:
            raise errors.UserError(f'blur.least = {self.least!r} is above blur.most = '
                                   f'{self.most!r}; swap them')

    def __call__(self, image, seed):
        """Blurs one image, or leaves it.

        Args:
          image: [H, W, 3] of any numeric type, without padding.
          seed: int32 [2], of the example.

        Returns:
          float32 [H, W, 3].
        """
        draws = tf.random.stateless_uniform([2], tf.random.experimental.stateless_fold_in(seed,
                                                                                          _BLUR))
        image = tf.cast(image, tf.float32)
        sigma = self.least + (self.most - self.least) * draws[0]
        return tf.cond(draws[1] < self.probability,
                       lambda: gaussian(image, sigma, math.ceil(3 * self.most)),
                       lambda: image)


def gaussian(image, sigma, radius):
    """An image convolved with a Gaussian that is cut off at a radius.

    Beyond the border there is nothing: each value is a mean over what of the kernel lies inside.

    Args:
      image: float32 [H, W, C].
      sigma: float32 scalar, in pixels.
      radius: int, in pixels.

    Returns:
      float32 [H, W, C].
    """
    offsets = tf.range(-radius, radius + 1, dtype=tf.float32)
    kernel = tf.exp(-0.5 * tf.square(offsets / sigma))
    # A fourth channel of ones collects the weights that lie inside.
    blurred = tf.concat([image, tf.ones_like(image[..., :1])], -1)[None]
    channels = blurred.shape[-1]
    for shape in ((-1, 1, 1, 1), (1, -1, 1, 1)):
        blurred = tf.nn.depthwise_conv2d(blurred, tf.tile(tf.reshape(kernel, shape),
                                                          [1, 1, channels, 1]), [1, 1, 1, 1],
                                         'SAME')
    return blurred[0, ..., :-1] / blurred[0, ..., -1:]


make_blur = gin.external_configurable(Blur, name='blur', module='tf_advseg.data')
