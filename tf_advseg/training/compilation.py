"""Whether XLA compiles the steps of a training, by gin."""
import contextlib
import dataclasses

import gin
import tensorflow as tf

from tf_advseg.core import arguments
from tf_advseg.core import errors


@dataclasses.dataclass(frozen=True)
class Compilation:
    """How the steps of Stage 1, every method and its control are compiled.

    The numbers are the same but for rounding, so no stage is recognised by it.

    Attributes:
      jit_compile: XLA compiles a step as one program for its device: minutes at first, and on a GPU
        often faster then. On a CPU it is allowed, and slower. A TPU's steps are XLA's anyway.

    Raises:
      UserError: neither True nor False.
    """
    jit_compile: bool = False

    def __post_init__(self):
        arguments.require_flag('compilation', 'jit_compile', self.jit_compile)

    def function(self, body, strategy):
        """`body` as a tf.function.

        Args:
          body: function of tensors, which runs a step on all replicas.
          strategy: a tf.distribute.Strategy.

        Raises:
          UserError: there are several replicas: XLA compiles for one device, and their gradients
            are summed within the step.
        """
        if not self.jit_compile or isinstance(strategy, tf.distribute.TPUStrategy):
            return tf.function(body, reduce_retracing=True)
        replicas = strategy.num_replicas_in_sync
        if replicas > 1:
            raise errors.UserError(
                f'compilation.jit_compile = True with {replicas} replicas: XLA compiles a step for '
                'one device, and replicas sum their gradients within it; set it to False, or take '
                '--strategy=one_device')
        return tf.function(body, reduce_retracing=True, jit_compile=True)

    @contextlib.contextmanager
    def told(self, step):
        """Within, what XLA cannot compile is one line.

        Args:
          step: a name.

        Raises:
          UserError: a step has an operation, or a shape, that XLA does not take.
        """
        try:
            yield
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
            if not self.jit_compile or 'compil' not in str(error).lower():
                raise
            reason = ' '.join(str(error).split())
            raise errors.UserError(
                f'compilation.jit_compile = True: XLA cannot compile the step {step} '
                f'({reason[:200]}); set it to False') from error


compilation = gin.external_configurable(Compilation, name='compilation',
                                        module='tf_advseg.training')
