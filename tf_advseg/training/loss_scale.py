"""The gradients of a step in mixed precision: scaled on their way, and looked at before they count.

float16 has no numbers below 6e-8, and many gradients are smaller (Micikevicius et al. 2018, section
3.2). So what is propagated back is a multiple of the gradient, which is divided out in float32. The
multiple halves where a gradient is not finite, and that step moves nothing; after enough finite
ones it doubles. It is a part of its optimizer, and so of every state on disk.
"""
import tensorflow as tf

from tf_advseg.core import errors
from tf_advseg.models import precision as precisions

_FACTOR = 2.0  # a power of two: scaling rounds nothing


class LossScale(tf.Module):
    """The scale of one optimizer's losses; build it in the strategy's scope.

    Args:
      initial: float.
      growth_steps: int.

    Attributes:
      value: float32 variable.
      finite_steps: int64 variable: steps with finite gradients since the scale last changed.
    """

    def __init__(self, initial, growth_steps):
        super().__init__(name='loss_scale')
        self._growth_steps = growth_steps
        # Without aggregation: whoever changes them has what is the same on all replicas.
        self.value = tf.Variable(float(initial), trainable=False, dtype=tf.float32)
        self.finite_steps = tf.Variable(0, trainable=False, dtype=tf.int64)

    def apply(self, optimizer, pairs):
        """Takes an optimizer's step where all gradients are finite on all replicas.

        Where they are not the step counts in `optimizer.iterations` and moves nothing. Call it in a
        step.

        Args:
          optimizer: a tf.keras optimizer, built.
          pairs: [(a replica's share of a gradient, unscaled; its variable)].
        """
        variables = [variable for _, variable in pairs]
        gradients = [gradient for gradient, _ in optimizer.aggregate_gradients(pairs)]
        # Summed over replicas: a number that is none on one of them is none on all.
        finite = tf.reduce_all(tf.stack([tf.reduce_all(tf.math.is_finite(gradient))
                                         for gradient in gradients]))
        if tf.__internal__.distribute.strategy_supports_no_merge_call():
            self._step(optimizer, finite, lambda: _take(optimizer, gradients, variables))
            return

        def across(strategy, finite, *gradients):
            # Keras merges in its step, which no replica may do below a condition.
            self._step(optimizer, strategy.experimental_local_results(finite)[0],
                       lambda: strategy.extended.call_for_each_replica(
                           lambda *own: _take(optimizer, own, variables), args=gradients))

        tf.distribute.get_replica_context().merge_call(across, args=(finite, *gradients))

    def _step(self, optimizer, finite, take):
        def taken():
            take()
            larger = self.value * _FACTOR
            enough = self.finite_steps + 1 >= self._growth_steps
            grows = tf.logical_and(enough, tf.math.is_finite(larger))
            self.value.assign(tf.where(grows, larger, self.value))
            self.finite_steps.assign(tf.where(enough, tf.constant(0, tf.int64),
                                              self.finite_steps + 1))

        def skipped():
            optimizer.iterations.assign_add(1)  # a schedule is over the steps of the loop
            self.value.assign(tf.maximum(self.value / _FACTOR, 1.0))
            self.finite_steps.assign(0)

        tf.cond(finite, taken, skipped)


class Tape(tf.GradientTape):
    """A GradientTape of a training step: in the policy's type, with gradients scaled on their way.

    What it gives is unscaled.

    Args:
      precision: `models.precision.Precision`.
      optimizer: whose loss scale counts.
      **options: of tf.GradientTape.
    """

    def __init__(self, precision, optimizer, **options):
        super().__init__(**options)
        self._precision, self._scale, self._computing = precision, of(optimizer), None

    def __enter__(self):
        self._computing = self._precision.computing()
        self._computing.__enter__()
        return super().__enter__()

    def __exit__(self, *problem):
        self._computing.__exit__(None, None, None)
        return super().__exit__(*problem)

    def gradient(self, target, sources, output_gradients=None,
                 unconnected_gradients=tf.UnconnectedGradients.NONE):
        """See tf.GradientTape; of one float32 target."""
        if self._scale is None:
            return super().gradient(target, sources, output_gradients, unconnected_gradients)
        scale = self._scale.value.read_value()
        upstream = tf.ones_like(target) if output_gradients is None else output_gradients
        found = super().gradient(target, sources, upstream * scale, unconnected_gradients)
        return tf.nest.map_structure(lambda g: None if g is None else g / scale, found)


def prepare(precision, optimizer):
    """Gives an optimizer a loss scale where the policy wants one; in the strategy's scope.

    Args:
      precision: `models.precision.Precision`.
      optimizer: a tf.keras optimizer.

    Raises:
      UserError: float16 on a TPU, which has bfloat16.
    """
    if precision.policy != precisions.FLOAT16 or of(optimizer) is not None:
        return
    if isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy):
        raise errors.UserError(f'precision.policy = {precisions.FLOAT16!r} on a TPU: set it to '
                               f'{precisions.BFLOAT16!r}')
    optimizer.loss_scale = LossScale(precision.loss_scale, precision.growth_steps)


def of(optimizer):
    """An optimizer's `LossScale`, or None."""
    return getattr(optimizer, 'loss_scale', None)


def variables(optimizer):
    """All that an optimizer remembers: its own variables and its loss scale's."""
    scale = of(optimizer)
    return [*optimizer.variables, *(() if scale is None else scale.variables)]


def _take(optimizer, gradients, variables):
    optimizer.apply_gradients(list(zip(gradients, variables)), skip_gradients_aggregation=True)
