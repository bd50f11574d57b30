"""LoAd's steps: equal on one device and two replicas, gradients, what the discriminator sees."""
import numpy as np
import pytest
import steps
import tensorflow as tf

from tf_advseg.adversaries import discriminators
from tf_advseg.adversaries import encodings
from tf_advseg.lookahead import map_buffer
from tf_advseg.losses import adversarial
from tf_advseg.methods import load
from tf_advseg.methods import objective
from tf_advseg.models import deeplab
from tf_advseg.training import optimizers

CLASSES, CROP, SIZE = 4, 65, 64


def build(strategy, kind='soft', control=False, discriminator='mobilenet', rate=1.0):
    """A LoAd method, or its control, whose weights depend on nothing but fixed seeds."""
    encoding = encodings.Encoding(CLASSES, SIZE)
    with strategy.scope():
        segmentor = deeplab.deeplab_mobilenet_v2(CLASSES, depth_multiplier=0.25, dropout_rate=0.0,
                                                 crop_size=CROP, seed=1)
        own, settings = optimizers.make_optimizer('sgd', rate, 0.95), load.Settings(map_kind=kind)
        if control:
            return objective.Control(segmentor, own, settings.pixel_loss)
        discriminator = discriminators.build_discriminator(
            discriminator, encoding.channels, SIZE, alpha=0.25, dropout=0.0, seed=2)
        return load.LoAd(segmentor, discriminator, own,
                         optimizers.make_optimizer('adagrad', 0.01), encoding, settings)


def batch_of(size=5, seed=0):
    """Images, labels with an ignored strip of another width in each, and for D maps."""
    generator = np.random.default_rng(seed)
    label = generator.integers(0, CLASSES, (size, CROP, CROP)).astype(np.int32)
    for number in range(size):
        label[number, :4 * number] = 255
    return {'image': generator.uniform(0, 255, (size, CROP, CROP, 3)).astype(np.float32),
            'label': label}


def discriminator_batch(kind='soft', size=5):
    """A batch for the discriminator's step with reals and fakes."""
    generator = np.random.default_rng(7)
    maps = {'soft': generator.normal(size=(size, 5, 5, CLASSES)).astype(np.float16),
            'hard': generator.integers(0, CLASSES, (size, CROP, CROP)).astype(np.uint8),
            'quantised': generator.integers(0, 255, (size, 5, 5, CLASSES)).astype(np.uint8)}
    return {**batch_of(size), 'map': maps[kind],
            'is_real': (np.arange(size) % 2 == 0).astype(np.float32)}


def one_step(strategy, phase, batch, kind='soft', discriminator='small_cnn', **scalars):
    """(scalars, all variables) after one step over the global batch."""
    # A fresh MobileNet in inference mode would hand on no gradient to speak of.
    method = build(strategy, kind, phase == 'cross_entropy', discriminator)
    outputs, = steps.take(method, strategy, batch, [phase], **scalars)
    networks = [n for n in (method.segmentor, getattr(method, 'discriminator', None)) if n]
    return outputs, [v.numpy() for network in networks for v in network.trainable_variables]


WEIGHT = 30.0  # so that the adversarial gradient is well above the tolerance


@pytest.mark.slow  # test_every_network.py takes this step of a network that is traced sooner
@pytest.mark.parametrize('phase', ['segmentor', 'cross_entropy'])
def test_a_propagation_on_two_replicas_equals_one_on_a_single_device(two_replicas, phase):
    single = tf.distribute.OneDeviceStrategy('/cpu:0')
    scalars, variables = one_step(single, phase, batch_of(), adversarial_weight=WEIGHT)
    scalars_two, variables_two = one_step(two_replicas, phase, batch_of(),
                                          adversarial_weight=WEIGHT)
    assert scalars.keys() == scalars_two.keys()
    for name in scalars:
        # Relative too: of the norm of all weights, 22, 1e-5 is but five float32 epsilons.
        assert scalars[name] == pytest.approx(scalars_two[name], rel=1e-5, abs=1e-5), name
    start = [v.numpy() for v in build(single).segmentor.trainable_variables]
    moved = max(np.abs(a - b).max() for a, b in zip(start, variables))
    assert moved > 5e-4  # the comparison below is not one of standing still
    for a, b in zip(variables, variables_two):
        np.testing.assert_allclose(a, b, atol=1e-5)
    if phase == 'segmentor':
        _, without = one_step(single, phase, batch_of(), adversarial_weight=0.0)
        assert max(np.abs(a - b).max() for a, b in zip(variables, without)) > 1e-4


@pytest.mark.parametrize('discriminator, bound', [
    # A norm: of single weights Adagrad's first step takes little more than the sign.
    ('small_cnn', 2e-3),
    # Live batch norms over few values magnify rounding: found 0.0024, allowed ten times that.
    pytest.param('mobilenet', 0.024, marks=pytest.mark.slow)])  # synchronised, slow to trace
def test_the_discriminators_step_on_two_replicas(two_replicas, discriminator, bound):
    single = tf.distribute.OneDeviceStrategy('/cpu:0')
    weights = dict(zip(('weight_real', 'weight_fake'), adversarial.fake_set_weights(3)))
    (scalars, variables), (scalars_two, variables_two) = (
        one_step(strategy, 'discriminator', discriminator_batch(), discriminator=discriminator,
                 **weights)
        for strategy in (single, two_replicas))
    assert scalars['loss/disc'] == pytest.approx(scalars_two['loss/disc'], rel=1e-3)
    start = build(single, discriminator=discriminator).discriminator.trainable_variables
    ours, theirs = (values[-len(start):] for values in (variables, variables_two))
    moved, off = (np.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(ours, others)))
                  for others in ([v.numpy() for v in start], theirs))
    assert moved > 0.01 and off <= bound * moved


@pytest.mark.parametrize('kind', load.MAP_KINDS)
def test_a_map_from_the_buffer_gives_the_live_input(kind, tmp_path):
    method = build(tf.distribute.get_strategy(), kind, discriminator='small_cnn')
    batch = {name: tf.constant(value) for name, value in batch_of(3).items()}
    # Initial logits are tiny; confident ones are the harder case.
    kernel, bias = method.segmentor.trainable_variables[-2:]
    assert kernel.shape[-1] == CLASSES and bias.shape == [CLASSES]
    kernel.assign(kernel * 12.0 / np.abs(method(batch['image']).numpy()).max())
    live = method.live_input(batch['image'], batch['label'], method(batch['image'])).numpy()
    buffer = map_buffer.MapBuffer(tmp_path / 'buffer', kind=kind)
    buffer.write_slot('g0', [(str(i), 'train', single) for i, single in enumerate(
        method.maps(batch['image']).numpy())])
    buffer.aggregate('g0', None)
    stored = np.stack([buffer.read(0, str(i), decoded=False) for i in range(3)])
    fake = method.fake_input(batch['image'], batch['label'], stored).numpy()
    difference = np.abs(live - fake)
    assert np.abs(live).max() > 0.5
    if kind == 'quantised':  # steps of 1/255 in probability, worst where two logits cross
        assert difference.mean() < 5e-3 and difference.max() < 0.2
    elif kind == 'hard':  # the same classes; where two logits tie, `maps` may say the other one
        assert np.mean(difference > 0) < 1e-3
    else:  # float16 keeps 11 bits of a logit
        logits = np.abs(method(batch['image']).numpy()).max()
        assert difference.max() <= logits * 2.0 ** -11 + 1e-6


@pytest.mark.parametrize('kind', load.MAP_KINDS)
def test_the_adversarial_gradient_reaches_the_segmentor_and_not_the_discriminator(kind):
    method = build(tf.distribute.get_strategy(), kind, discriminator='small_cnn')
    batch = {name: tf.constant(value) for name, value in batch_of(2).items()}
    with tf.GradientTape() as tape:
        logits = method(batch['image'])
        loss, _ = method._adversarial_loss(batch, logits)
    gradients = tape.gradient(loss, method.segmentor.trainable_variables)
    assert all(g is not None for g in gradients)
    assert sum(float(tf.norm(g)) for g in gradients) > 0
    before = [v.numpy() for v in method.discriminator.variables]
    method.segmentor_step(batch, tf.constant([0, 0]), adversarial_weight=tf.constant(1.0))
    for a, b in zip(before, method.discriminator.variables):
        np.testing.assert_array_equal(a, b.numpy())


def test_unlabelled_pixels_carry_no_adversarial_gradient():
    method = build(tf.distribute.get_strategy(), discriminator='small_cnn')
    batch = batch_of(2)
    batch['label'][:] = 255
    batch['label'][:, :, :32] = 1
    logits = tf.Variable(np.random.default_rng(0).normal(size=(2, CROP, CROP, CLASSES)),
                         dtype='float32')
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
    method = build(tf.distribute.get_strategy(), discriminator='small_cnn')
    batch = {name: tf.constant(value) for name, value in batch_of(2).items()}
    seed = tf.constant([0, 0])
    figures = {k: float(v) for k, v in method.gradient_balance(batch, seed).items()}
    variables = method.segmentor.trainable_variables
    before = [v.numpy() for v in variables]
    # One plain SGD step of rate 1 moves by the gradient itself.
    method.optimizer = tf.keras.optimizers.SGD(1.0, jit_compile=False)
    method.optimizer.build(variables)

    def moved(step, **scalars):
        for variable, value in zip(variables, before):
            variable.assign(value)
        step(batch, seed, **scalars)
        return np.concatenate([(a - b.numpy()).ravel() for a, b in zip(before, variables)])

    ce = moved(method.cross_entropy_step)
    adv = (moved(method.segmentor_step, adversarial_weight=tf.constant(1000.0)) - ce) / 1000.0
    assert figures['grad/ce'] == pytest.approx(np.linalg.norm(ce), rel=1e-3)
    assert figures['grad/adv'] == pytest.approx(np.linalg.norm(adv), rel=1e-2)
    assert figures['grad_ratio/adv_ce'] == pytest.approx(
        np.linalg.norm(adv) / np.linalg.norm(ce), rel=1e-2)
    cosine = adv @ ce / np.linalg.norm(adv) / np.linalg.norm(ce)
    assert figures['grad_cosine/adv_ce'] == pytest.approx(cosine, abs=1e-2)


@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_reductions(reduction):
    method = build(tf.distribute.get_strategy(), discriminator='small_cnn')
    method.settings = load.Settings(reduction=reduction)
    method.pixel_loss = method.settings.pixel_loss
    batch = {name: tf.constant(value) for name, value in batch_of(2).items()}
    valid = int((batch['label'].numpy() != 255).sum())
    scalars = method.segmentor_step(batch, tf.constant([0, 0]), adversarial_weight=tf.constant(0.0))
    per_pixel = float(scalars['loss/ce']) / (valid if reduction == 'sum' else 1)
    assert per_pixel == pytest.approx(np.log(CLASSES), rel=0.2)
    per_image = float(scalars['loss/adv']) / (2 if reduction == 'sum' else 1)
    assert per_image == pytest.approx(np.log(2), rel=0.2)
