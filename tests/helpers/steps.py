"""Steps of a method under a strategy, of which several tests of this room are made."""
import numpy as np
import tensorflow as tf

from tf_advseg.training import loop

SEED = (1, 2)
FEW = 4  # so many steps are taken sooner than traced


def shares_of(batch, strategy):
    """A global batch of arrays as the strategy's replicas read it."""
    whole = tf.data.Dataset.from_tensor_slices(batch).batch(len(batch['image']))
    return next(iter(loop.distribute(whole, strategy)))


def take(method, strategy, batch, phases, seed=SEED, **scalars):
    """Takes a step of each of `phases` on one batch.

    A few steps on one device are taken eagerly: tracing takes longer. So a test of replicas holds
    compiled steps against eager ones.

    Returns:
      list of {name: float}, one a step.
    """
    shares, seed = shares_of(batch, strategy), np.array(seed, np.int32)
    if strategy.num_replicas_in_sync > 1 or len(phases) > FEW:
        stepper = loop.Stepper(method, strategy)
        return [dict(stepper(phase, shares, seed, **scalars)) for phase in phases]
    tensors = {name: tf.constant(value, tf.float32) for name, value in scalars.items()}
    logs = [strategy.run(method.phases[phase], (shares, tf.constant(seed)), tensors)
            for phase in phases]
    return [{name: float(value) for name, value in scalars.items()} for scalars in logs]
