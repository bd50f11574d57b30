"""Floating-point operations of a network at an image's size, counted on its convolutions."""
import collections

import tensorflow as tf

from tf_advseg.models import layers
from tf_advseg.models.inference import replaced_calls

Cost = collections.namedtuple('Cost', ('scope', 'flops', 'output'))
Cost.__doc__ = """One call of a convolution: its official scope, its floating-point operations, and
the (batch, height, width, channels) that come out of it."""


def per_convolution(segmentor, size, batch=1):
    """What every convolution of a network costs.

    A multiplication and an addition count as two operations, at every position of the output, SAME
    padding included, as they are counted in the papers and by TensorFlow's profiler. Bias, batch
    norm, activations, resizing, sums and Farabet's pyramid are not counted: together a percent or
    so, and how many are left depends on what the exporter folds.

    Args:
      segmentor: a network of `layers.Convolution`s; nothing is computed with it.
      size: (height, width) of the image in pixels.
      batch: images.

    Returns:
      list of `Cost`, in the order of the calls; a layer that is called thrice is there thrice.
    """
    costs = []

    def counted(layer, *args, **kwargs):
        y = layers.Convolution.call(layer, *args, **kwargs)
        positions = y.shape[0] * y.shape[1] * y.shape[2]
        costs.append(Cost(layer.scope, 2 * positions * layer.kernel.shape.num_elements(),
                          tuple(y.shape)))
        return y

    image = tf.TensorSpec([batch, *size, 3], tf.float32)
    with replaced_calls(segmentor, {layers.Convolution: counted}):
        tf.function(lambda x: segmentor(x, training=False), autograph=False,
                    input_signature=[image]).get_concrete_function()
    return costs


def total(segmentor, size, batch=1):
    """Floating-point operations of a network's convolutions; see `per_convolution`."""
    return sum(cost.flops for cost in per_convolution(segmentor, size, batch))
