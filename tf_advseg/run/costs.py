"""How long a network takes for a batch: what `train --dry_run` guesses a run's time from."""
import time

import tensorflow as tf

TRIED = 8  # images at most of a forward pass that is timed: of a large batch a few show as much


def seconds_of(network, inputs):
    """Seconds of a forward pass, its second; the first one traces.

    Args:
      network: function(inputs, training=False).
      inputs: tensors.
    """
    function = tf.function(lambda x: network(x, training=False))
    function(inputs)
    began = time.perf_counter()
    tf.nest.map_structure(lambda tensor: tensor.numpy(), function(inputs))
    return time.perf_counter() - began
