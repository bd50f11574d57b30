"""What the parts of an experiment share."""
import numpy as np
import tensorflow as tf

from tf_advseg.core import random_streams
from tf_advseg.models import deeplab
from tf_advseg.run import context as contexts

SIDE = 33


def test_who_evaluates_the_hold_out_is_handed_the_same_evaluator():
    arrays = (np.zeros([2, SIDE, SIDE, 3], np.uint8), np.zeros([2, SIDE, SIDE], np.uint8),
              np.full([2, 2], SIDE, np.int32))
    context = contexts.Context(
        run=None, data=None, strategy=tf.distribute.get_strategy(),
        streams=random_streams.RandomStreams(0), crop_size=(SIDE, SIDE), description=None,
        _arrays={'holdout': arrays})
    first, second = (deeplab.deeplab_mobilenet_v2(3, depth_multiplier=0.25, crop_size=(SIDE, SIDE))
                     for _ in range(2))
    evaluator = context._holdout_evaluator(first, 8)
    assert context._holdout_evaluator(first, 8) is evaluator and evaluator.segmentor is first
    assert context._holdout_evaluator(first, 1) is not evaluator
    assert context._holdout_evaluator(second, 8).segmentor is second
