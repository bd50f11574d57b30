"""Optimizers by name, for gin; `jit_compile` is off since XLA is about 10x slower on CPUs here."""
import tensorflow as tf

from tf_advseg.core import arguments
from tf_advseg.core import errors

OPTIMIZERS = ('sgd', 'momentum', 'adagrad', 'adam', 'adamw', 'rmsprop')
WEIGHT_DECAY = 0.004  # of AdamW, where nothing is said: Keras' own


class Momentum(tf.keras.optimizers.Optimizer):
    """TensorFlow 1's MomentumOptimizer, which the official DeepLab code trains with.

    v <- momentum * v + g, w <- w - rate * v. Keras SGD keeps rate * v as its velocity instead: the
    same while the rate stands still, but after a jump of the rate (the end of a slow start) its
    first steps go on with the old rate.

    Args:
      learning_rate: a float or a Keras schedule.
      momentum: float, 0.9 in the official recipes.
      nesterov: w <- w - rate * (g + momentum * v).
    """

    def __init__(self, learning_rate, momentum=0.9, nesterov=False, name='Momentum', **options):
        # Not 0, the base class' own default: it would decay every variable by nothing.
        options.setdefault('weight_decay', None)
        super().__init__(name=name, **options)
        self._learning_rate = self._build_learning_rate(learning_rate)
        self.momentum = float(momentum)
        self.nesterov = bool(nesterov)

    def build(self, var_list):
        """Makes one accumulator a variable, of zeros."""
        super().build(var_list)
        if getattr(self, '_built', False):
            return
        self.accumulators = [self.add_variable_from_reference(v, 'Momentum') for v in var_list]
        self._built = True

    def update_step(self, gradient, variable):
        """Moves one variable by its dense or sparse gradient."""
        rate = tf.cast(self.learning_rate, variable.dtype)
        gradient = tf.convert_to_tensor(gradient)
        accumulator = self.accumulators[self._index_dict[self._var_key(variable)]]
        velocity = self.momentum * accumulator + gradient
        accumulator.assign(velocity)
        if self.nesterov:
            velocity = gradient + self.momentum * velocity
        variable.assign_sub(rate * velocity)

    def get_config(self):
        """dict: the arguments."""
        return {**super().get_config(), 'momentum': self.momentum, 'nesterov': self.nesterov,
                'learning_rate': self._serialize_hyperparameter(self._learning_rate)}


class AdamW(tf.keras.optimizers.AdamW):
    """Keras' AdamW, whose decay leaves biases and batch norms alone."""

    def build(self, var_list):
        """Makes the moments."""
        if not getattr(self, '_built', False):
            self.exclude_from_weight_decay(var_list=[v for v in var_list if v.shape.rank < 2])
        super().build(var_list)


def has_schedule(optimizer):
    """Whether an optimizer's learning rate depends on its steps."""
    return isinstance(getattr(optimizer, '_learning_rate', None),
                      tf.keras.optimizers.schedules.LearningRateSchedule)


def make_optimizer(name, learning_rate, momentum=0.0, nesterov=False,
                   initial_accumulator=0.1, where='optimizer', beta_1=0.9, beta_2=0.999,
                   clip_norm=None, weight_decay=None):
    """Builds one optimizer.

    Args:
      name: 'sgd' (Keras), 'momentum' (`Momentum`), 'adagrad', 'adam', 'adamw' (Loshchilov and
        Hutter 2019) or 'rmsprop' (no momentum: what Arjovsky et al. 2017 train their critic by).
      learning_rate: a float or a Keras schedule, see `schedules.make_schedule`.
      momentum: of SGD and Momentum; 0 for none.
      nesterov: of SGD and Momentum; no other has it.
      initial_accumulator: of Adagrad.
      where: what the settings are called in gin, for messages.
      beta_1, beta_2: of Adam and AdamW; at least 0 and below 1.
      clip_norm: the global gradient, summed over replicas, is scaled down to this length where it
        is longer; None for never.
      weight_decay: of AdamW: w <- w - rate * decay * w, on variables of rank 2 and more, so not on
        biases and batch norms; None: 0.004. Gradient multipliers do not reach it.

    Raises:
      UserError: for an unknown name, numbers out of range, and for nesterov where there is none.
    """
    if not isinstance(learning_rate, tf.keras.optimizers.schedules.LearningRateSchedule):
        arguments.require_number(where, 'learning_rate', learning_rate, least=0)
    arguments.require_number(where, 'momentum', momentum, least=0, most=1)
    arguments.require_flag(where, 'nesterov', nesterov)
    for label, beta in (('beta_1', beta_1), ('beta_2', beta_2)):
        arguments.require_number(where, label, beta, least=0, below=1)
    errors.require_one_of(f'{where}.name', name, OPTIMIZERS)
    for label, value in (('clip_norm', clip_norm), ('weight_decay', weight_decay)):
        if value is not None:
            arguments.require_number(where, label, value, above=0, hint='or None')
    if weight_decay is not None and name != 'adamw':
        raise errors.UserError(f'{where}.weight_decay = {weight_decay!r} has no effect on the '
                               f'optimizer {name}: only adamw reads it (l2_weight is the decay of '
                               'the others); set it to None')
    # Keras sums over the replicas first, and clips then.
    options = {'jit_compile': False, 'global_clipnorm': clip_norm}
    if name in ('sgd', 'momentum'):
        maker = tf.keras.optimizers.SGD if name == 'sgd' else Momentum
        return maker(learning_rate, momentum=momentum, nesterov=nesterov, **options)
    if nesterov:
        raise errors.UserError(f'nesterov: the optimizer {name} has none, only sgd and momentum do')
    if name == 'adagrad':
        return tf.keras.optimizers.Adagrad(
            learning_rate, initial_accumulator_value=initial_accumulator, **options)
    if name == 'rmsprop':
        return tf.keras.optimizers.RMSprop(learning_rate, **options)
    if name == 'adamw':
        return AdamW(
            learning_rate, WEIGHT_DECAY if weight_decay is None else weight_decay, beta_1=beta_1,
            beta_2=beta_2, **options)
    return tf.keras.optimizers.Adam(learning_rate, beta_1=beta_1, beta_2=beta_2, **options)
