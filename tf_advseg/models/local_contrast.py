"""Local contrast normalisation (Jarrett et al., ICCV 2009, section 2), each channel on its own.

v = x - blur(x);  y = v / max(c, sqrt(blur(v^2))), blur a Gaussian window. Farabet et al. (TPAMI
2013) make each 15x15 patch of each channel of zero mean and unit variance; Luc et al. (2016) feed
images so treated to segmentor and discriminator. The window's shape (a deviation of a quarter of
its side, as in Torch) is chosen here. At the borders, the window is what lies inside the image.
"""
import numpy as np
import tensorflow as tf

WINDOW = 15
# In grey levels of 0..255: a constant image has nothing but rounding in it, and keeps it small.
SMALLEST = 0.1
TINY = 1e-12
# The mean local deviation of Stanford Background images, in grey levels (every fifteenth of them:
# 17.1). As a floor it does not move with how much padding stands beside an image.
MEAN_DEVIATION = 17.0


def normalise(x, window=WINDOW, floor=None):
    """Subtracts the local mean and divides by the local standard deviation.

    Args:
      x: float32 [B, h, w, C], images in 0..255.
      window: odd int, side of the Gaussian window in pixels.
      floor: c, the smallest deviation divided by, in units of x. None is Jarrett et al.'s: for
        each image and channel the mean of its local deviations, so that flat regions are not
        blown up; padding is then a part of the image and moves it.

    Returns:
      float32 [B, h, w, C]; 0, but for rounding, where an image is constant.
    """
    kernel = gaussian(window)
    centred = x - blurred(x, kernel)
    # The square root's slope is infinite at 0: a gradient there must not become a NaN.
    deviation = tf.sqrt(tf.maximum(blurred(tf.square(centred), kernel), TINY))
    if floor is None:
        floor = tf.reduce_mean(deviation, [1, 2], keepdims=True)
    return centred / tf.maximum(deviation, tf.maximum(floor, SMALLEST))


def gaussian(window):
    """float32 [window]: a Gaussian whose deviation is a quarter of the window, of sum 1."""
    place = np.arange(window) - (window - 1) / 2
    values = np.exp(-0.5 * np.square(place / (0.25 * window)))
    return (values / values.sum()).astype(np.float32)


def blurred(x, kernel):
    """Weighted local mean by a separable odd kernel; outside the image nothing has weight.

    Args:
      x: float32 [B, h, w, C].
      kernel: float32 [k], along either axis.
    """
    channels = x.shape[-1]
    inside = tf.ones_like(x[:1, :, :, :1])
    return _filtered(x, kernel, channels) / _filtered(inside, kernel, 1)


def _filtered(x, kernel, channels):
    for shape in ((-1, 1, 1, 1), (1, -1, 1, 1)):
        line = tf.tile(tf.reshape(kernel, shape), [1, 1, channels, 1])
        x = tf.nn.depthwise_conv2d(x, line, [1, 1, 1, 1], 'SAME')
    return x
