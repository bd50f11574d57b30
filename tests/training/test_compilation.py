"""Steps that XLA compiles: the same numbers, and one line where it cannot."""
import numpy as np
import pytest
import steps
import tensorflow as tf
from one_layer import OneLayer

from tf_advseg.core.errors import UserError
from tf_advseg.experiments import small_methods
from tf_advseg.methods import cross_entropy
from tf_advseg.training import compilation, loop, optimizers

SINGLE = tf.distribute.OneDeviceStrategy('/cpu:0')
RANDOM = np.random.default_rng(2)
BATCH = {'image': RANDOM.uniform(0, 255, (2, 9, 9, 3)).astype(np.float32),
         'label': RANDOM.integers(0, 3, (2, 9, 9)).astype(np.int32)}
COMPILED = ('compilation.jit_compile = True',)


def trained(*bindings):
    """(the scalars of two steps, the kernel after them)."""
    with small_methods.bound(bindings):
        method = cross_entropy.CrossEntropy(
            OneLayer(3), optimizers.make_optimizer('adamw', 0.1, clip_norm=0.05), l2_weight=0.1)
        stepper = loop.Stepper(method, SINGLE)
    shares = steps.shares_of(BATCH, SINGLE)
    logs = [dict(stepper('segmentor', shares, steps.SEED)) for _ in range(2)]
    return logs, method.segmentor.logits.kernel.numpy()


def test_a_step_that_xla_compiles_is_the_step():
    (plain, there), (xla, here) = trained(), trained(*COMPILED)
    for one, two in zip(plain, xla):
        assert one == pytest.approx(two, rel=1e-4)
    assert plain[1]['loss/ce'] < plain[0]['loss/ce']
    np.testing.assert_allclose(here, there, rtol=1e-3, atol=1e-4)


def test_it_is_xla_that_compiles_it():
    def body(x):
        return tf.matmul(x, x)

    given = tf.ones([2, 2])
    for bindings, whether in ((), False), (COMPILED, True):
        with small_methods.bound(bindings):
            function = compilation.compilation().function(body, SINGLE)
        assert bool(function.get_concrete_function(given).function_def.attr['_XlaMustCompile'].b
                    ) is whether


def test_what_xla_cannot_compile_is_one_line():
    def words(batch):
        return {'length': tf.cast(tf.strings.length(tf.strings.as_string(batch['image'])[0, 0, 0, 0]
                                                    ), tf.float32)}

    with small_methods.bound(COMPILED):
        stepper = loop.Stepper(None, SINGLE)
    shares = steps.shares_of(BATCH, SINGLE)
    with pytest.raises(UserError, match='XLA cannot compile the step words') as caught:
        dict(stepper(words, shares))
    assert '\n' not in str(caught.value)
    assert dict(loop.Stepper(None, SINGLE)(words, shares))['length'] > 0


def test_replicas_are_refused(two_replicas):
    with small_methods.bound(COMPILED):
        with pytest.raises(UserError, match='with 2 replicas'):
            compilation.compilation().function(lambda x: x, two_replicas)
    with pytest.raises(UserError, match='compilation.jit_compile = 1'):
        compilation.Compilation(1)
