"""Atrous convolutions train with oneDNN and without it, on any CPU."""
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core import runtime
from tf_advseg.core.errors import UserError
from tf_advseg.methods import base
from tf_advseg.models import atrous

CASES = [((9, 9), 3, 2, 'SAME'), ((11, 6), 3, 4, 'SAME'), ((13, 14), 3, 2, 'VALID'),
         ((5, 7), 3, 12, 'SAME'), ((9, 12), 2, 3, 'SAME'), ((12, 9), 5, 2, 'VALID')]


def definition(x, kernel, rate, padding, upstream):
    """NumPy, in float64: (output, gradient by x, gradient by the kernel) of a loss sum(y * u)."""
    size, reach = kernel.shape[0], (kernel.shape[0] - 1) * rate
    before = reach // 2 if padding == 'SAME' else 0
    after = reach - before if padding == 'SAME' else 0
    padded = np.pad(x, [(0, 0), (before, after), (before, after), (0, 0)])
    height, width = padded.shape[1] - reach, padded.shape[2] - reach
    y = np.zeros((len(x), height, width, kernel.shape[3]))
    by_padded, by_kernel = np.zeros_like(padded), np.zeros_like(kernel)
    for i in range(size):
        for j in range(size):
            seen = (slice(None), slice(i * rate, i * rate + height),
                    slice(j * rate, j * rate + width))
            y += padded[seen] @ kernel[i, j]
            if upstream is not None:
                by_padded[seen] += upstream @ kernel[i, j].T
                by_kernel[i, j] = np.tensordot(padded[seen], upstream, ([0, 1, 2], [0, 1, 2]))
    by_x = by_padded[:, before:before + x.shape[1], before:before + x.shape[2]]
    return y, by_x, by_kernel


@pytest.fixture(params=['as it is here', 'without native gradients'])
def gradients_of(request, monkeypatch):
    """The function under test, in the branch of this machine and in the one without oneDNN."""
    if request.param != 'as it is here':
        monkeypatch.setattr(atrous, 'has_native_gradients', lambda: False)

    def run(x, kernel, rate, padding, upstream):
        @tf.function(autograph=False)
        def traced(x, kernel, upstream):
            with tf.GradientTape() as tape:
                tape.watch((x, kernel))
                y = atrous.conv2d(x, kernel, rate, padding)
                loss = tf.reduce_sum(y * upstream)
            return y, tape.gradient(loss, (x, kernel))
        return traced(x, kernel, upstream)
    return run


@pytest.mark.parametrize('side, size, rate, padding', CASES)
def test_output_and_gradients_are_those_of_the_definition(gradients_of, side, size, rate, padding):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2, *side, 3))
    kernel = generator.normal(size=(size, size, 3, 4))
    shape = definition(x, kernel, rate, padding, None)[0].shape
    upstream = generator.normal(size=shape)
    y, by_x, by_kernel = definition(x, kernel, rate, padding, upstream)
    found, (found_x, found_kernel) = gradients_of(
        *(tf.constant(value, tf.float32) for value in (x, kernel)), rate, padding,
        tf.constant(upstream, tf.float32))
    for ours, theirs in ((found, y), (found_x, by_x), (found_kernel, by_kernel)):
        assert np.abs(ours.numpy() - theirs).max() <= 1e-5 * np.abs(theirs).max()


def test_phases_give_second_derivatives(monkeypatch):
    """Penalties on a gradient differentiate it once more; y is linear in x, so y**2 has one."""
    monkeypatch.setattr(atrous, 'has_native_gradients', lambda: False)
    x = tf.constant(np.random.default_rng(1).normal(size=(1, 7, 7, 2)), tf.float32)
    kernel = tf.constant(np.random.default_rng(2).normal(size=(3, 3, 2, 2)), tf.float32)
    found = []
    for convolve in (atrous.conv2d, atrous.conv2d_by_phases):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(convolve(x, kernel, 2, 'SAME') ** 2)
            penalty = tf.reduce_sum(inner.gradient(loss, x) ** 2)
        found.append(outer.gradient(penalty, x).numpy())
    assert np.abs(found[0]).max() > 1.0
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-4 * np.abs(found[1]).max())


CHILD = """
import numpy as np
from tf_advseg.core import runtime
tf = runtime.configure()
from tf_advseg.methods import cross_entropy
from tf_advseg.models import deeplab_residual
from tf_advseg.training import optimizers
print('onednn', runtime.onednn_is_on())
tf.random.set_seed(0)
batch = {'image': tf.constant(np.random.default_rng(0).uniform(0, 255, (1, 65, 65, 3)), tf.float32),
         'label': tf.constant(np.random.default_rng(1).integers(0, 3, (1, 65, 65)), tf.int32)}
network = deeplab_residual.deeplab_residual(3, output_stride=8, dropout_rate=0.0, crop_size=65)
method = cross_entropy.CrossEntropy(network, optimizers.make_optimizer('sgd', 0.1))
with tf.GradientTape() as tape:
    loss, _ = method.losses(batch, tf.zeros([2], tf.int32))
gradients = tape.gradient(loss, network.trainable_variables)
print('loss', repr(float(loss)))
print('norms', *(repr(float(tf.norm(g))) for g in gradients))
"""


@pytest.fixture(scope='module')
def children(repository):
    """What CHILD prints with oneDNN off and on: {'0': {word: [numbers]}, '1': ...}."""
    found = {}
    for setting in ('0', '1'):
        done = subprocess.run([sys.executable, '-c', CHILD], cwd=repository, text=True,
                              capture_output=True, timeout=600, check=False,
                              env={**os.environ, 'TF_ENABLE_ONEDNN_OPTS': setting})
        assert done.returncode == 0, done.stderr[-2000:]
        found[setting] = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    return found


def test_a_user_s_own_setting_of_onednn_is_kept(children):
    assert children['0']['onednn'] == ['False']
    # 'True' on x86; a processor for which TensorFlow has no oneDNN may say otherwise.
    assert children['1']['onednn'] == [str(runtime.onednn_is_on())] or \
        os.environ.get('TF_ENABLE_ONEDNN_OPTS') == '0'


def test_a_network_at_stride_8_trains_the_same_with_onednn_off_and_on(children):
    """Rates 2 and 4 in the backbone, 12 to 36 in the head; every variable has a gradient."""
    off, on = (np.array(children[setting]['norms'], np.float64) for setting in '01')
    assert float(children['0']['loss'][0]) == pytest.approx(float(children['1']['loss'][0]),
                                                            rel=1e-5)
    assert len(off) == len(on) > 40
    # Rounding turns a ReLU at its kink here and there, worth 2e-4 where this was written; a branch
    # without a gradient, or one of a wrong rate, is worth far more than a hundredth.
    assert np.linalg.norm(off - on) <= 0.01 * np.linalg.norm(on)
    assert np.count_nonzero(off) == np.count_nonzero(on) > 0.9 * len(on)


def dilated_keras_model():
    inputs = tf.keras.Input((None, None, 3))
    x = tf.keras.layers.Conv2D(4, 3, padding='same', dilation_rate=2, name='wide')(inputs)
    return tf.keras.Model(inputs, tf.keras.layers.Conv2D(2, 1)(x), name='mine')


def test_somebody_s_dilated_keras_layer_is_refused_before_any_work(monkeypatch):
    assert isinstance(base.Method(dilated_keras_model()), base.Method) or \
        not atrous.has_native_gradients()
    monkeypatch.setattr(atrous, 'has_native_gradients', lambda: False)
    with pytest.raises(UserError) as error:
        base.Method(dilated_keras_model())
    assert 'mine: its layer wide' in str(error.value)
    assert 'TF_ENABLE_ONEDNN_OPTS' in str(error.value) and '\n' not in str(error.value)
