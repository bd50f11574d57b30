"""Mixed precision: what a training step computes in a short type, and what stays float32.

As in Micikevicius et al. 2018 ("Mixed Precision Training") variables are float32, and a convolution
multiplies rounded copies of its input and its kernel. All networks of this package convolve by
`layers.Convolution`, which asks `compute_dtype` while it is traced; so within `computing` a network
is in the short type and everywhere else (evaluation, prediction, export, LoAd's maps) in float32.
Statistics of batch norm, poolings over a whole map, what a network returns, softmax and losses are
float32 there, too.

LoAd's and Zhu's discriminators are made of Keras' own layers, whose type is settled when they are
built (`keras_layers`): they judge in the short type wherever they are asked. Their variables and
logits are float32 all the same.
"""
import contextlib
import dataclasses
import threading

import gin
import tensorflow as tf

from tf_advseg.core import arguments
from tf_advseg.core import errors

FLOAT32, BFLOAT16, FLOAT16 = 'float32', 'mixed_bfloat16', 'mixed_float16'
POLICIES = {FLOAT32: tf.float32, BFLOAT16: tf.bfloat16, FLOAT16: tf.float16}

_running = threading.local()  # replicas are traced in threads of their own


def compute_dtype():
    """The type that convolutions are being traced in; Keras' own outside a short one."""
    return getattr(_running, 'dtype', None) or tf.as_dtype(tf.keras.backend.floatx())


def lowered(x):
    """A tensor or variable in that type."""
    return tf.cast(x, compute_dtype())


def raised(x):
    """A tensor of a short type in float32; others as they are."""
    return tf.cast(x, tf.float32) if x.dtype.size < tf.float32.size else x


@dataclasses.dataclass(frozen=True)
class Precision:
    """In what the networks compute while they are trained: of Stage 1, every method, its control.

    Attributes:
      policy: 'float32'; 'mixed_bfloat16', float32's range with 8 bits of mantissa (TPUs, GPUs since
        Ampere); or 'mixed_float16', 11 bits and a range so small that losses are scaled (GPUs since
        Volta). On most CPUs both are slower than float32.
      loss_scale: of 'mixed_float16': what losses are multiplied by at first.
      growth_steps: of 'mixed_float16': after so many steps with finite gradients the scale doubles.

    Raises:
      UserError: an unknown policy, a value out of range or without effect.
    """
    policy: str = FLOAT32
    loss_scale: float = 2.0 ** 15
    growth_steps: int = 2000

    def __post_init__(self):
        where = 'precision'
        errors.require_one_of(f'{where}.policy', self.policy, POLICIES)
        arguments.require_number(where, 'loss_scale', self.loss_scale, least=1)
        arguments.require_number(where, 'growth_steps', self.growth_steps, least=1, whole=True)
        for field in dataclasses.fields(self)[1:]:
            value = getattr(self, field.name)
            if self.policy != FLOAT16 and value != field.default:
                raise errors.UserError(
                    f'{where}.{field.name} = {value!r} has no effect with {where}.policy = '
                    f'{self.policy!r}: only {FLOAT16!r} scales losses; leave it out')

    @property
    def identity(self):
        """dict of what a stage is recognised by; {} in float32."""
        return {} if self.policy == FLOAT32 else {'precision': dataclasses.asdict(self)}

    @property
    def dtype(self):
        """The tf.DType of the policy."""
        return POLICIES[self.policy]

    @contextlib.contextmanager
    def computing(self):
        """Within, this thread's convolutions are traced in the policy's type, if it is short."""
        kept = getattr(_running, 'dtype', None)
        if self.policy != FLOAT32:
            _running.dtype = self.dtype
        try:
            yield
        finally:
            _running.dtype = kept

    @contextlib.contextmanager
    def keras_layers(self):
        """Within, Keras' own layers are built under Keras' policy of the same name."""
        mixed = tf.keras.mixed_precision
        kept = mixed.global_policy()
        if kept.name != self.policy:
            mixed.set_global_policy(self.policy)
        try:
            yield
        finally:
            if kept.name != self.policy:
                # None is Keras' own default, which follows floatx; a policy of that name does not.
                default = kept.name == tf.keras.backend.floatx()
                mixed.set_global_policy(None if default else kept)

    def require_mixed(self, network):
        """Raises UserError for a network that would compute in float32 whatever the policy.

        Args:
          network: a segmentor; one of the user's is to have some layers of the policy's type.
        """
        found = list(network._flatten_layers())
        if self.policy == FLOAT32 or any(
                getattr(layer, 'computes_lowered', False)
                or layer.compute_dtype == self.dtype.name for layer in found):
            return
        raise errors.UserError(
            f'precision.policy = {self.policy!r}: {network.name} is made of Keras\' own layers, '
            'and they are of float32; build it under tf.keras.mixed_precision.set_global_policy'
            f'({self.policy!r}), or leave the policy out')


precision = gin.external_configurable(Precision, name='precision', module='tf_advseg.models')
