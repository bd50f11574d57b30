"""LoAd's steps: equal on one device and two replicas, gradients, what the discriminator sees."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.adversaries import discriminators
from tf_advseg.adversaries import encodings
from tf_advseg.lookahead import map_encoding
from tf_advseg.losses import adversarial
from tf_advseg.methods import load
from tf_advseg.models import deeplab
from tf_advseg.training import loop
from tf_advseg.training import optimizers

CLASSES, CROP, SIZE = 4, 65, 64


def build(strategy, kind='soft', control=False, adversary='mobilenet', rate=1.0):
    """A LoAd method whose weights depend on nothing but fixed seeds."""
    encoding = encodings.Encoding(CLASSES, SIZE)
    with strategy.scope():
        segmentor = deeplab.deeplab_mobilenet_v2(CLASSES, depth_multiplier=0.25, dropout_rate=0.0,
                                                 crop_size=CROP, seed=1)
        discriminator = None if control else discriminators.build_discriminator(
            adversary, encoding.channels, SIZE, alpha=0.25, dropout=0.0, seed=2)
        return load.LoAd(segmentor, discriminator, optimizers.make_optimizer('sgd', rate, 0.95),
                         None if control else optimizers.make_optimizer('adagrad', 0.01),
                         encoding, map_kind=kind)


def batch_of(size=5, seed=0):
    """Pictures, labels with an ignored strip of another width in each, and for D maps."""
    generator = np.random.default_rng(seed)
    label = generator.integers(0, CLASSES, (size, CROP, CROP)).astype(np.int32)
    for number in range(size):
        label[number, :4 * number] = 255
    return {'image': generator.uniform(0, 255, (size, CROP, CROP, 3)).astype(np.float32),
            'label': label}


def adversary_batch(kind='soft', size=5):
    """A batch for the discriminator's step with reals and fakes."""
    generator = np.random.default_rng(7)
    maps = {'soft': generator.normal(size=(size, 5, 5, CLASSES)).astype(np.float16),
            'hard': generator.integers(0, CLASSES, (size, CROP, CROP)).astype(np.uint8),
            'quantised': generator.integers(0, 255, (size, 5, 5, CLASSES)).astype(np.uint8)}
    return {**batch_of(size), 'map': maps[kind],
            'is_real': (np.arange(size) % 2 == 0).astype(np.float32)}


def one_step(strategy, phase, batch, kind='soft', **scalars):
    """(scalars, all variables) after one step over the global batch."""
    method = build(strategy, kind)
    dataset = tf.data.Dataset.from_tensors(batch).unbatch().batch(len(batch['image']))
    shares = next(iter(loop.distribute(dataset, strategy)))
    outputs = loop.Stepper(method, strategy)(phase, shares, np.array([1, 2], np.int32), **scalars)
    networks = (method.segmentor, method.discriminator)
    return outputs, [v.numpy() for network in networks for v in network.trainable_variables]


@pytest.mark.parametrize('phase', ['segmentor', 'cross_entropy'])
def test_a_propagation_on_two_replicas_equals_one_on_a_single_device(two_replicas, phase):
    single = tf.distribute.OneDeviceStrategy('/cpu:0')
    scalars, variables = one_step(single, phase, batch_of(), adversarial_weight=0.7)
    scalars_two, variables_two = one_step(two_replicas, phase, batch_of(), adversarial_weight=0.7)
    assert scalars.keys() == scalars_two.keys()
    for name in scalars:
        assert scalars[name] == pytest.approx(scalars_two[name], abs=1e-5), name
    start = [v.numpy() for v in build(single).segmentor.trainable_variables]
    moved = max(np.abs(a - b).max() for a, b in zip(start, variables))
    assert moved > 5e-4  # the comparison below is not one of standing still
    for a, b in zip(variables, variables_two):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_discriminators_step_on_two_replicas(two_replicas):
    # Synchronised batch norm keeps the biased variance, hence the wider bound (see discriminators).
    single = tf.distribute.OneDeviceStrategy('/cpu:0')
    weights = dict(zip(('weight_real', 'weight_fake'), adversarial.fake_set_weights(3)))
    scalars, variables = one_step(single, 'adversary', adversary_batch(), **weights)
    scalars_two, variables_two = one_step(two_replicas, 'adversary', adversary_batch(), **weights)
    assert scalars['loss/disc'] == pytest.approx(scalars_two['loss/disc'], rel=1e-3)
    for a, b in zip(variables, variables_two):
        np.testing.assert_allclose(a, b, atol=2e-3)


@pytest.mark.parametrize('kind', load.MAP_KINDS)
def test_a_map_from_the_buffer_gives_the_live_input(kind):
    method = build(tf.distribute.get_strategy(), kind, adversary='small_cnn')
    batch = {name: tf.constant(value) for name, value in batch_of(3).items()}
    # Initial logits are tiny; confident ones are the harder case.
    logits_layer = method.segmentor.trainable_variables[-2]
    logits_layer.assign(logits_layer * 300.0)
    live = method.live_input(batch['image'], batch['label'], method(batch['image']))
    stored = [map_encoding.encode(single, kind) for single in method.maps(batch['image']).numpy()]
    read_back = np.stack([map_encoding.unpack(map_encoding.pack(s, 1), kind, s.shape)
                          if hasattr(map_encoding, 'unpack') else s for s in stored])
    fake = method.fake_input(batch['image'], batch['label'], read_back)
    bound = {'soft': 5e-3, 'hard': 1e-6, 'quantised': 2e-2}[kind]
    difference = np.abs(live.numpy() - fake.numpy())
    assert difference.max() < bound
    assert np.abs(live.numpy()).max() > 0.5


@pytest.mark.parametrize('kind', load.MAP_KINDS)
def test_the_adversarial_gradient_reaches_the_segmentor_and_not_the_discriminator(kind):
    method = build(tf.distribute.get_strategy(), kind, adversary='small_cnn')
    batch = {name: tf.constant(value) for name, value in batch_of(2).items()}
    with tf.GradientTape() as tape:
        logits = method(batch['image'])
        loss, _ = method._adversarial_loss(batch, logits)
    gradients = tape.gradient(loss, method.segmentor.trainable_variables)
    assert all(g is not None for g in gradients)
    assert sum(float(tf.norm(g)) for g in gradients) > 0
    before = [v.numpy() for v in method.discriminator.variables]
    method.segmentor_step(batch, tf.constant([0, 0]), tf.constant(1.0))
    for a, b in zip(before, method.discriminator.variables):
        np.testing.assert_array_equal(a, b.numpy())


def test_unlabelled_pixels_carry_no_adversarial_gradient():
    method = build(tf.distribute.get_strategy(), adversary='small_cnn')
    batch = batch_of(2)
    batch['label'][:] = 255
    batch['label'][:, :, :32] = 1
    logits = tf.Variable(np.random.default_rng(0).normal(size=(2, CROP, CROP, CLASSES)), dtype='float32')
    with tf.GradientTape() as tape:
        loss, _ = method._adversarial_loss({k: tf.constant(v) for k, v in batch.items()}, logits)
    gradient = np.abs(tape.gradient(loss, logits).numpy()).sum(axis=(0, 1, 3))
    assert gradient[:30].max() > 0
    np.testing.assert_array_equal(gradient[34:], 0.0)


def test_the_control_step_is_the_generators_step_without_its_second_term():
    strategy = tf.distribute.get_strategy()
    _, with_zero = one_step(strategy, 'segmentor', batch_of(), adversarial_weight=0.0)
    _, control = one_step(strategy, 'cross_entropy', batch_of(), adversarial_weight=0.0)
    for a, b in zip(with_zero, control):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_gradient_balance_matches_the_two_gradients():
    method = build(tf.distribute.get_strategy(), adversary='small_cnn')
    batch = {name: tf.constant(value) for name, value in batch_of(2).items()}
    figures = method.gradient_balance(batch, tf.constant([0, 0]))
    before = [v.numpy() for v in method.segmentor.trainable_variables]
    # One plain SGD step of rate 1 moves by the gradient itself: lambda 1 minus lambda 0.
    method.optimizer = tf.keras.optimizers.SGD(1.0, jit_compile=False)
    method.optimizer.build(method.segmentor.trainable_variables)
    method.cross_entropy_step(batch, tf.constant([0, 0]))
    moved = np.concatenate([(a - b.numpy()).ravel() for a, b in zip(
        before, method.segmentor.trainable_variables)])
    assert float(figures['grad/ce']) == pytest.approx(np.linalg.norm(moved), rel=1e-3)
    assert float(figures['grad_ratio/adv_ce']) == pytest.approx(
        float(figures['grad/adv'] / figures['grad/ce']), rel=1e-5)
    assert -1.0 <= float(figures['grad_cosine/adv_ce']) <= 1.0


@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_reductions(reduction):
    method = build(tf.distribute.get_strategy(), adversary='small_cnn')
    method.reduction = reduction
    batch = {name: tf.constant(value) for name, value in batch_of(2).items()}
    valid = int((batch['label'].numpy() != 255).sum())
    scalars = method.segmentor_step(batch, tf.constant([0, 0]), tf.constant(0.0))
    per_pixel = float(scalars['loss/ce']) / (valid if reduction == 'sum' else 1)
    assert per_pixel == pytest.approx(np.log(CLASSES), rel=0.2)
    per_picture = float(scalars['loss/adv']) / (2 if reduction == 'sum' else 1)
    assert per_picture == pytest.approx(np.log(2), rel=0.2)
