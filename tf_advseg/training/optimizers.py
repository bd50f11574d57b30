"""Optimizers by name, for gin; `jit_compile` is off since XLA is about 10x slower on CPUs here."""
import gin
import tensorflow as tf

from tf_advseg.core import errors

OPTIMIZERS = ('sgd', 'adagrad', 'adam')


@gin.configurable
def polynomial_decay(learning_rate, steps, power=0.9, end=0.0):
    """base * (1 - t/T)^0.9, as the official DeepLab code decays its rate."""
    return tf.keras.optimizers.schedules.PolynomialDecay(
        learning_rate, max(1, steps), end_learning_rate=end, power=power)


def make_optimizer(name, learning_rate, momentum=0.0, nesterov=False,
                   initial_accumulator=0.1):
    """Builds one optimizer.

    Args:
      name: 'sgd', 'adagrad' or 'adam'.
      learning_rate: a float or a Keras schedule.
      momentum: of SGD; 0 for none.
      nesterov: of SGD.
      initial_accumulator: of Adagrad.

    Raises:
      UserError: for an unknown name.
    """
    errors.require_one_of('optimizer', name, OPTIMIZERS)
    if name == 'sgd':
        return tf.keras.optimizers.SGD(learning_rate, momentum=momentum, nesterov=nesterov,
                                       jit_compile=False)
    if name == 'adagrad':
        return tf.keras.optimizers.Adagrad(learning_rate, jit_compile=False,
                                           initial_accumulator_value=initial_accumulator)
    return tf.keras.optimizers.Adam(learning_rate, jit_compile=False)
