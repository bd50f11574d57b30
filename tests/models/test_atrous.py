"""Atrous convolutions train with oneDNN and without it, on any CPU."""
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core import runtime
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
def branch(request, monkeypatch):
    """The branch of this process, and the one of a process without oneDNN."""
    if request.param != 'as it is here':
        monkeypatch.setattr(atrous, 'has_native_gradients', lambda dtype: False)


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
@pytest.mark.parametrize('side, size, rate, padding', CASES)
def test_output_and_gradients_are_those_of_the_definition(branch, side, size, rate, padding, dtype):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2, *side, 3))
    kernel = generator.normal(size=(size, size, 3, 4))
    shape = definition(x, kernel, rate, padding, None)[0].shape
    upstream = generator.normal(size=shape)
    y, by_x, by_kernel = definition(x, kernel, rate, padding, upstream)

    @tf.function(autograph=False)
    def taken(x, kernel, upstream):
        with tf.GradientTape() as tape:
            tape.watch((x, kernel))
            y = atrous.conv2d(x, kernel, rate, padding)
            loss = tf.reduce_sum(y * upstream)
        return y, tape.gradient(loss, (x, kernel))

    found, (found_x, found_kernel) = taken(*(tf.constant(value, dtype)
                                             for value in (x, kernel, upstream)))
    for ours, theirs in ((found, y), (found_x, by_x), (found_kernel, by_kernel)):
        assert np.abs(ours.numpy() - theirs).max() <= 1e-5 * np.abs(theirs).max()


def test_second_derivatives_are_there(branch):
    """Penalties on a gradient differentiate it once more; of a sum of squares it is linear."""
    x = tf.constant(np.random.default_rng(1).normal(size=(1, 7, 7, 2)), tf.float64)
    kernel = tf.constant(np.random.default_rng(2).normal(size=(3, 3, 2, 2)), tf.float64)

    def penalty_gradient(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(atrous.conv2d(x, kernel, 2, 'SAME') ** 2)
            penalty = tf.reduce_sum(inner.gradient(loss, x) ** 2)
        return outer.gradient(penalty, x).numpy()

    once = penalty_gradient(x)
    assert np.abs(once).max() > 1.0
    np.testing.assert_allclose(penalty_gradient(3.0 * x), 3.0 * once, rtol=1e-9)


CHILD = """
import sys
import numpy as np
from tf_advseg.core import runtime
tf = runtime.configure()
from tf_advseg.methods import cross_entropy
from tf_advseg.models import deeplab_residual, layers
from tf_advseg.training import optimizers
batch = {'image': tf.constant(np.random.default_rng(0).uniform(0, 255, (1, 65, 65, 3)), tf.float32),
         'label': tf.constant(np.random.default_rng(1).integers(0, 3, (1, 65, 65)), tf.int32)}
network = deeplab_residual.deeplab_residual(3, output_stride=8, dropout_rate=0.0, crop_size=65,
                                            fine_tune_batch_norm=False)
for layer in layers.convolutions(network):
    layer.activation = None
method = cross_entropy.CrossEntropy(network, optimizers.make_optimizer('sgd', 0.1))
with tf.GradientTape() as tape:
    loss, _ = method.losses(batch, tf.zeros([2], tf.int32))
gradients = tape.gradient(loss, network.trainable_variables)
np.savez(sys.argv[1], loss, *gradients)
print(runtime.onednn_is_on())

inputs = tf.keras.Input((None, None, 3))  # somebody's own network
model = tf.keras.Model(inputs, tf.keras.layers.Conv2D(2, 3, dilation_rate=2)(inputs))
method = cross_entropy.CrossEntropy(model, optimizers.make_optimizer('sgd', 0.1))
with tf.GradientTape() as tape:
    loss = tf.reduce_sum(model(batch['image']))
print(all(g is not None for g in tape.gradient(loss, model.trainable_variables)))
"""


def in_process_with(setting, repository, *words):
    """What a process with this TF_ENABLE_ONEDNN_OPTS prints, as words."""
    done = subprocess.run([sys.executable, *map(str, words)], cwd=repository, text=True,
                          capture_output=True, timeout=1800, check=False,
                          env={**os.environ, 'TF_ENABLE_ONEDNN_OPTS': setting})
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout.split()


@pytest.mark.slow
def test_a_network_at_stride_8_trains_the_same_with_onednn_off_and_on(repository, tmp_path):
    """Rates 2 and 4 in the backbone, 12 to 36 in the head; somebody's Keras layer too.

    The activations are left out: rounding turns a ReLU at its kink, and that is no rounding then.
    """
    found = {}
    for setting in ('0', '1'):
        path = tmp_path / f'{setting}.npz'
        is_on, trains = in_process_with(setting, repository, '-c', CHILD, path)
        # Of '1' it is for TensorFlow to say; of '0' there is no doubt.
        assert trains == 'True' and (setting, is_on) != ('0', 'True')
        found[setting] = [value.astype(np.float64) for value in np.load(path).values()]
    assert len(found['0']) == len(found['1']) > 40
    for off, on in zip(found['0'], found['1']):
        assert np.linalg.norm(on) > 0
        # Sixty layers of sums of up to 4608 terms; a wrong rate or a lost branch is off by ones.
        assert np.linalg.norm(off - on) <= 1e-3 * np.linalg.norm(on)


@pytest.mark.skipif(not runtime.onednn_is_on(), reason='oneDNN is off: the other tests tested it')
def test_the_definition_holds_with_onednn_off(repository):
    """The setting is read when TensorFlow starts: a process of its own."""
    words = in_process_with('0', repository, '-m', 'pytest', '-q', '-p', 'no:cacheprovider',
                            __file__, '-k', 'definition and not onednn')
    assert f'{2 * 2 * len(CASES)} passed' in ' '.join(words)
