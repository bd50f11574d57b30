"""Learning rates of the official DeepLab code (utils/train_utils.py, get_model_learning_rate)."""
import math

import gin
import numpy as np
import tensorflow as tf

from tf_advseg.core import arguments
from tf_advseg.core import errors

POLICIES = ('poly', 'step', 'cosine')
BURN_INS = ('none', 'linear')


class DeepLabSchedule(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Polynomial or stepwise decay with a slow start, to the last bit as the official code.

    During the first `slow_start_steps` the rate is `slow_start_rate` (burn_in 'none'), or rises in
    a line from it to the base rate ('linear'). The decay counts from the slow start's end:
      poly: (base - end) * (1 - t / T)^power + end, and `end` after T steps;
      step: base * factor^floor(t / decay_steps);
      cosine: (base - end) * (1 + cos(pi t / T)) / 2 + end (Loshchilov and Hutter 2017, eq. 5,
        without restarts), which the official code has not.

    Args:
      base: float, the rate that decays.
      steps: int, of the whole training, slow start included.
      policy: 'poly', 'step' or 'cosine'.
      power, end: of 'poly' (`end` of 'cosine' too); 0.9 and 0 in the official recipes.
      decay_steps, factor: of 'step'; 2000 and 0.1 there.
      slow_start_steps: int; 0 for no slow start.
      slow_start_rate: float; 1e-4 there.
      burn_in: 'none' or 'linear'.
      poly_steps: int, T of 'poly' and 'cosine'; 0 for what follows the slow start.

    Raises:
      UserError: an unknown policy or burn-in, a slow start that is as long as the training, or
        negative poly_steps.
    """

    def __init__(self, base, steps, policy='poly', power=0.9, end=0.0, decay_steps=2000, factor=0.1,
                 slow_start_steps=0, slow_start_rate=1e-4, burn_in='none', poly_steps=0):
        errors.require_one_of('learning rate policy', policy, POLICIES)
        errors.require_one_of('slow start', burn_in, BURN_INS)
        if not 0 <= slow_start_steps < max(1, steps):
            raise errors.UserError(f'a slow start of {slow_start_steps} steps in a training of '
                                   f'{steps}: expected at least 0 and fewer than the training has')
        if poly_steps < 0:
            raise errors.UserError(f'a poly decay over {poly_steps} steps: expected at least 1, '
                                   'or 0 for all that follow the slow start')
        super().__init__()
        self._config = {
            'base': float(base), 'steps': int(steps), 'policy': policy, 'power': float(power),
            'end': float(end), 'decay_steps': int(decay_steps), 'factor': float(factor),
            'slow_start_steps': int(slow_start_steps), 'slow_start_rate': float(slow_start_rate),
            'burn_in': burn_in, 'poly_steps': int(poly_steps)}

    def __call__(self, step):
        """float32 scalar: the rate at a step (integer scalar, from 0)."""
        given = self._config
        step = tf.cast(step, tf.float32)
        slow = float(given['slow_start_steps'])
        rate = self._decayed(tf.maximum(step - slow, 0.0))
        if not slow:
            return rate
        start = tf.constant(given['slow_start_rate'], tf.float32)
        if given['burn_in'] == 'linear':
            start += (given['base'] - given['slow_start_rate']) * step / slow
        return tf.where(step < slow, start, rate)

    def _decayed(self, step):
        given = self._config
        base = tf.constant(given['base'], tf.float32)
        if given['policy'] == 'step':
            return base * tf.pow(given['factor'], tf.floor(step / float(given['decay_steps'])))
        steps = float(given['poly_steps'] or max(1, given['steps'] - given['slow_start_steps']))
        done = tf.minimum(step, steps) / steps
        if given['policy'] == 'cosine':
            return (base - given['end']) * (1.0 + tf.cos(math.pi * done)) / 2.0 + given['end']
        return (base - given['end']) * tf.pow(1.0 - done, given['power']) + given['end']

    def get_config(self):
        """dict: the arguments."""
        return dict(self._config)


class RisingRate(tf.keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises by one factor from step to step: of a range test (Smith 2017).

    Args:
      least, most: floats above 0, of the first and of the last step.
      steps: int, at least 2.
    """

    def __init__(self, least, most, steps):
        super().__init__()
        self._config = {'least': float(least), 'most': float(most), 'steps': int(steps)}

    @property
    def rates(self):
        """float64 [steps]."""
        given = self._config
        return given['least'] * (given['most'] / given['least']) ** (
            np.arange(given['steps']) / (given['steps'] - 1))

    def __call__(self, step):
        """float32 scalar: the rate at a step (integer scalar, from 0)."""
        return tf.gather(tf.constant(self.rates, tf.float32), step)

    def get_config(self):
        """dict: the arguments."""
        return dict(self._config)


@gin.configurable
def polynomial_decay(learning_rate, steps, power=0.9, end=0.0, slow_start_steps=0,
                     slow_start_rate=1e-4, burn_in='none', decay_steps=0):
    """base * (1 - t/T)^0.9 with an optional slow start; see `DeepLabSchedule`.

    `slow_start_steps` below 1 is a share of the steps. `decay_steps` is T, as the official flag of
    that name: the rate is at its end after so many steps, however long the training; 0 for all that
    follow the slow start.
    """
    return DeepLabSchedule(learning_rate, max(1, steps), 'poly', power, end,
                           slow_start_steps=_whole(slow_start_steps, steps),
                           slow_start_rate=slow_start_rate,
                           burn_in=burn_in, poly_steps=decay_steps)


@gin.configurable
def step_decay(learning_rate, steps, decay_steps=2000, factor=0.1, slow_start_steps=0,
               slow_start_rate=1e-4, burn_in='none'):
    """base * factor^floor(t / decay_steps) with an optional slow start; see `DeepLabSchedule`.

    `slow_start_steps` below 1 is a share of the steps.
    """
    return DeepLabSchedule(learning_rate, max(1, steps), 'step', decay_steps=decay_steps,
                           factor=factor, slow_start_steps=_whole(slow_start_steps, steps),
                           slow_start_rate=slow_start_rate, burn_in=burn_in)


@gin.configurable
def cosine_decay(learning_rate, steps, end=0.0, slow_start_steps=0, slow_start_rate=0.0,
                 burn_in='linear'):
    """Half a cosine from the base rate to `end`, after a linear warm-up where `slow_start_steps` is
    above 0; see `DeepLabSchedule`. `slow_start_steps` below 1 is a share of the steps."""
    return DeepLabSchedule(learning_rate, max(1, steps), 'cosine', end=end,
                           slow_start_steps=_whole(slow_start_steps, steps),
                           slow_start_rate=slow_start_rate, burn_in=burn_in)


def _whole(slow_start_steps, steps):
    """A slow start in steps, of one that may be a share of them.

    Raises:
      UserError: neither; or a share that is less than one step.
    """
    arguments.require_number('slow start', 'slow_start_steps', slow_start_steps, least=0,
                             **({} if isinstance(slow_start_steps, float) else {'whole': True}))
    if not isinstance(slow_start_steps, float) or not slow_start_steps:
        return int(slow_start_steps)
    if slow_start_steps >= 1 or round(slow_start_steps * steps) < 1:
        raise errors.UserError(f'slow_start_steps = {slow_start_steps!r} of {steps} steps: '
                               'expected whole steps, or a share below 1 that is one step at least')
    return round(slow_start_steps * steps)


SCHEDULES = {'poly': polynomial_decay, 'step': step_decay, 'cosine': cosine_decay}


def make_schedule(name, learning_rate, steps, where='optimizer'):
    """A rate for `make_optimizer`: a float for 'constant', else a schedule with gin's settings.

    Args:
      name: 'constant', 'poly', 'step' or 'cosine'.
      learning_rate: float, the base rate.
      steps: int, of the whole training, or None where nobody knows.
      where: what the settings are called in gin, for messages; and the gin scope of the schedule's
        own settings: 'segmentor_optimizer/polynomial_decay.power' is of the segmentor alone,
        'polynomial_decay.power' of every network that has no own.

    Raises:
      UserError: for an unknown name, a rate that is none, or a schedule over unknown steps.
    """
    errors.require_one_of('schedule', name, ('constant', *SCHEDULES))
    arguments.require_number(where, 'learning_rate', learning_rate, least=0)
    if name == 'constant':
        return learning_rate
    if steps is None:
        raise errors.UserError(f"{where}.schedule = {name!r}: a schedule is over a known number of "
                               "steps, and this training has none; take 'constant'")
    with gin.config_scope(where):  # <where>/polynomial_decay.power is of this network alone
        return SCHEDULES[name](learning_rate, steps)
