"""A small network of random weights whose class maps rounding does not decide."""
import numpy as np
import tensorflow as tf

from tf_advseg.experiments.benchmarks import inference_benchmark
from tf_advseg.models import deeplab


def segmentor(crop_size):
    """MobileNetV2 of depth 0.25 with five classes that are all about as frequent.

    Args:
      crop_size: (h, w).
    """
    model = inference_benchmark.randomise(deeplab.deeplab_mobilenet_v2(
        5, crop_size=crop_size, depth_multiplier=0.25))
    model.logits.kernel.assign(model.logits.kernel * 30.0)
    seen = tf.constant(np.random.default_rng(9).uniform(0, 255, (1, *crop_size, 3)), tf.float32)
    model.logits.bias.assign(-tf.reduce_mean(model(seen), [0, 1, 2]))
    return model
