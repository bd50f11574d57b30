"""Losses, gradients, weight decay and batch norm of a training step, against the official code's.

Every variable's gradient of the 65x65 case with frozen batch norm is held to 1e-3 of its own norm,
with oneDNN on and off. In the others the gradient is not determined to 1e-3 in float32: at 129x129
an activation sits on a ReLU6's kink, and live image pooling normalises two values. So the order in
which a CPU's kernels add decides, with oneDNN on or off. There the last test compares our gradients
in float64, which no CPU changes, with the reference closely, and float32 is held to `SHARES`.
"""
import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.methods import cross_entropy
from tf_advseg.methods import step_parts
from tf_advseg.models import deeplab, layers, resize, segmentor
from tf_advseg.training import optimizers

CASES = ('mnv2_pascal_os16__65x65', 'mnv2_aspp_decoder_os16__129x129')
ONEDNN = os.environ.get('TF_ENABLE_ONEDNN_OPTS', '1') != '0'
NO_SEED = np.zeros(2, np.int32)
TOLERANCE = 1e-3
# (share of the variables, within what part of their own norms), where 1e-3 is not determined. EXACT
# is how far the reference, in float32, is from float64: found 5.9e-4 and 2.5e-3, 1.1e-2 and 5.4e-2,
# and a little room for other libraries. Ours in float32 is as far on its own CPU, so two such
# distances lie between the two; a CPU may be twice as unlucky as the reference's: four.
EXACT = {'frozen': ((0.9, 6.5e-4), (1.0, 2.8e-3)), 'live': ((0.9, 1.2e-2), (1.0, 6e-2))}
SHARES = {mode: tuple((share, 4 * error) for share, error in pairs)
          for mode, pairs in EXACT.items()}
# A shift that the next batch norm takes away has the gradient 0: nothing but rounding is left.
NOTHING = 1e-6


class Case:
    """One file of the reference: its numbers, its batch, and the network for it."""

    def __init__(self, official, name):
        self.expected = official.arrays(f'train__{name}')
        self.configuration, size = name.split('__')
        self.side = int(size.split('x')[0])
        self._official = official
        rule, classes = official.rule, len(self.expected['class_weights'])
        count = int(self.expected['batch'])
        self.batch = {
            'image': np.stack([rule.image(self.side, self.side, i)
                               for i in range(count)]).astype(np.float32),
            'label': np.stack([rule.label(self.side, self.side, classes, i)
                               for i in range(count)])}

    def method(self, live=False, **settings):
        """The method on the network with the rule's values."""
        model = self._official.network(self.configuration, self.side, dropout_rate=0.0,
                                       fine_tune_batch_norm=live)
        return cross_entropy.CrossEntropy(model, optimizers.make_optimizer('sgd', 0.1), **settings)

    def gradients(self, method):
        """(loss, dict official name -> gradient)."""
        names = {id(v): name for name, v in layers.official_variables(method.segmentor).items()}
        variables = method.segmentor.trainable_variables
        with tf.GradientTape() as tape:
            loss, _ = method.losses(self.batch, NO_SEED)
        return float(loss), {names[id(v)]: g.numpy().astype(np.float64) for v, g in
                             zip(variables, tape.gradient(loss, variables))}


@pytest.fixture(scope='module', params=CASES)
def case(request, official):
    return Case(official, request.param)


@pytest.fixture(scope='module')
def frozen(case):
    """The method with frozen batch norm: its loss settings are set anew by each test."""
    return case.method()


def assert_close(case, kind, names, errors):
    """Every error, in parts of the variable's own norm, is within what can be demanded."""
    mode = 'live' if kind == 'batchstats' else 'frozen'
    determined = mode == 'frozen' and case.side == 65
    assert_shares(names, errors, ((1.0, TOLERANCE),) if determined else SHARES[mode])


def assert_shares(names, errors, shares):
    """Each share of the errors is within its tolerance."""
    for share, tolerance in shares:
        beyond = [f'{name} {error:.1e}' for name, error in zip(names, errors) if error > tolerance]
        assert len(beyond) <= (1.0 - share) * len(names), (tolerance, beyond)


def reset(method, weights=None, fraction=1.0, upsample=True):
    """The method with these settings of its loss."""
    method.class_weights = None if weights is None else tf.constant(weights, tf.float32)
    method.hard_example_fraction = fraction
    method.pixel_loss = dataclasses.replace(method.pixel_loss, upsample_logits=upsample)
    return method


def assert_norms(case, gradients, kind):
    """Every variable's norm is within what can be demanded, see `assert_close`."""
    names = case.expected['grad_names']
    assert sorted(gradients) == sorted(names)
    wanted = case.expected[f'{kind}_grad_norm']
    norms = np.array([np.linalg.norm(gradients[str(name)]) for name in names])
    nothing = wanted < NOTHING * wanted.max()
    if kind != 'batchstats':
        assert not nothing.any()
    assert all(name.endswith('project/BatchNorm/beta') for name in names[nothing])
    # Rounding alone: 3e-7 where found, and no more than a few times that on another CPU.
    assert (norms[nothing] < 10 * NOTHING * wanted.max()).all()
    assert_close(case, kind, names[~nothing], (np.abs(norms - wanted) / wanted)[~nothing])


@pytest.mark.parametrize('kind', ['plain', 'weighted'])
def test_the_loss_and_its_gradients(case, frozen, kind):
    expected = case.expected
    weights = expected['class_weights'] if kind == 'weighted' else None
    loss, gradients = case.gradients(reset(frozen, weights))
    assert loss == pytest.approx(float(expected[f'loss_{kind}']), rel=1e-4)
    assert_norms(case, gradients, kind)
    names = expected['grad_names']
    firsts = [np.abs(gradients[str(name)].ravel()[:4] - first).max() / norm for name, norm, first in
              zip(names, expected[f'{kind}_grad_norm'], expected[f'{kind}_grad_first4'])]
    assert_close(case, kind, names, firsts)


def test_hard_example_mining_and_downsampled_labels(case, frozen):
    for name, settings in (('topk25', {'fraction': 0.25}),
                           ('downsampled_labels', {'upsample': False})):
        loss, _ = reset(frozen, **settings).losses(case.batch, NO_SEED)
        assert float(loss) == pytest.approx(float(case.expected[f'loss_{name}']), rel=1e-4)


def test_weight_decay_is_on_the_official_variables(case, frozen):
    kernels = segmentor.decayed_kernels(frozen.segmentor)
    named = {id(v): name for name, v in layers.official_variables(frozen.segmentor).items()}
    scopes = sorted(named[id(v)].rsplit('/', 1)[0] for v in kernels)
    assert scopes == sorted(case.expected['l2_variables'])
    assert all(named[id(v)].endswith('/weights') for v in kernels)
    total = float(step_parts.l2_loss(kernels, 4e-5))
    assert total == pytest.approx(float(case.expected['l2_loss_total_wd4e-5']), rel=1e-5)


def test_live_batch_norm_and_its_moving_averages(case):
    expected = case.expected
    method = case.method(live=True)
    ours = layers.official_variables(method.segmentor)
    before = {name: v.numpy() for name, v in ours.items()}
    loss, gradients = case.gradients(method)
    assert loss == pytest.approx(float(expected['loss_batchstats']), rel=1e-4)
    assert_norms(case, gradients, 'batchstats')
    moved = [name for name in ours if 'moving' in name]
    assert sorted(moved) == sorted(expected['moving_names'])
    assert len(moved) == int(expected['num_update_ops'])
    for name, first, delta in zip(expected['moving_names'], expected['moving_after_first4'],
                                  expected['moving_delta_norm']):
        after = ours[str(name)].numpy()
        np.testing.assert_allclose(after[:4], first, rtol=1e-4, atol=1e-5)
        moved_by = np.linalg.norm(after.astype(np.float64) - before[str(name)])
        assert moved_by == pytest.approx(float(delta), rel=1e-3, abs=1e-6)


@pytest.mark.slow  # test_atrous.py holds a network's gradients without it against those with it
@pytest.mark.skipif(not ONEDNN, reason='oneDNN is off: the other tests have tested it')
def test_with_onednn_off(repository, official):
    """The whole file; the setting is read when TensorFlow starts: a process of its own."""
    official.path(f'train__{CASES[0]}.npz')
    result = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-x', '-p', 'no:cacheprovider', __file__],
        cwd=repository, env={**os.environ, 'TF_ENABLE_ONEDNN_OPTS': '0'}, timeout=900,
        capture_output=True, text=True, check=False)
    assert result.returncode == 0 and ' passed' in result.stdout, result.stdout[-2000:]


@pytest.fixture
def in_double(monkeypatch):
    """Networks that are built from here on are float64 up to their logits."""
    def normalise(self, x, mode=layers.INFERENCE):
        mean, variance = self.moving_mean, self.moving_variance
        if mode == layers.LIVE:
            mean, variance = tf.nn.moments(x, list(range(x.shape.rank - 1)))
        return tf.nn.batch_normalization(x, mean, variance, self.beta, self.gamma, self.epsilon)

    def bilinear(x, size):
        rows, columns = (tf.constant(hats(int(wanted), given), x.dtype)
                         for wanted, given in zip(size, x.shape[1:3]))
        return tf.einsum('ih,jw,bhwc->bijc', rows, columns, x)

    tf.keras.backend.set_floatx('float64')
    monkeypatch.setattr(layers.SymmetricNormalisation, 'call', lambda self, image: (
        tf.cast(image, tf.float64) * (2.0 / 255.0) - 1.0))
    monkeypatch.setattr(layers.BatchNorm, 'call', normalise)
    monkeypatch.setattr(deeplab, 'resize_bilinear', bilinear)
    monkeypatch.setattr(resize, 'resize_bilinear', bilinear)
    yield
    tf.keras.backend.set_floatx('float32')


def hats(wanted, given):
    """float64 [wanted, given]: linear interpolation with aligned corners."""
    places = np.linspace(0, given - 1, wanted)[:, None]
    return np.maximum(0.0, 1.0 - np.abs(places - np.arange(given)))


def test_where_the_reference_is_not_exact_to_the_tolerance(case, in_double):
    """Its float32 gradients against our float64's: what is loosened is loose in the reference."""
    for kind, mode in (('plain', 'frozen'), ('batchstats', 'live')):
        loss, gradients = case.gradients(case.method(live=mode == 'live'))
        assert loss == pytest.approx(float(case.expected[f'loss_{kind}']), rel=1e-4)
        exact = np.array([np.linalg.norm(gradients[str(name)])
                          for name in case.expected['grad_names']])
        errors = np.abs(case.expected[f'{kind}_grad_norm'] - exact) / exact
        there = exact > NOTHING * exact.max()
        errors, names = errors[there], case.expected['grad_names'][there]
        if mode == 'frozen' and case.side == 65:
            assert errors.max() < 0.01 * TOLERANCE
            continue
        assert errors.max() > TOLERANCE
        assert_shares(names, errors, EXACT[mode])
