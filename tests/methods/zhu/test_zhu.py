"""Zhu et al.'s two phases: each loss and gradient, clipping, what is frozen, two replicas."""
import numpy as np
import one_layer
import plain_hung
import plain_zhu
import pytest
import steps
import tensorflow as tf

from tf_advseg.adversaries import reconstruction_networks
from tf_advseg.methods import objective
from tf_advseg.methods.zhu import zhu
from tf_advseg.methods.zhu import zhu_settings
from tf_advseg.models import layers
from tf_advseg.training import optimizers

CLASSES, HEIGHT, WIDTH = 4, 17, 21
SINGLE = tf.distribute.OneDeviceStrategy('/cpu:0')
SEED = np.array([1, 2], np.int32)


class Painter(tf.keras.Model):
    """A generator of one 1x1 convolution."""

    def __init__(self, sees_image):
        super().__init__(name='painter')
        self.num_classes, self.sees_image = CLASSES, sees_image
        self.layer = layers.Convolution('painter', CLASSES + 3 * sees_image, 3, 1)
        self.built = True

    def call(self, masks, training=False, dropout_seed=None):
        return tf.tanh(self.layer(masks))


class Judge(tf.keras.Model):
    """A discriminator of 2x2 patches."""

    def __init__(self, channels):
        super().__init__(name='judge')
        self.first = tf.keras.layers.Conv2D(2, 2, 2)
        self.first.build([None, None, None, 3 + channels])
        self.last = layers.Convolution('judge', 2, 1, 1)
        self.built = True

    def call(self, images, condition=None, training=False):
        x = images if condition is None else tf.concat([images, condition], -1)
        return self.last(tf.tanh(self.first(x)))[..., 0]


def gan(real=None, **settings):
    """A Reconstruction of fixed weights: of stand-ins, or the networks with the options `real`."""
    settings = zhu_settings.zhu_gan(**settings)
    sees, beside = settings.generator_sees != 'mask', settings.condition_channels(CLASSES)
    if real is None:
        painter, judge = Painter(sees), Judge(beside)
    else:
        painter = reconstruction_networks.build_reconstruction_generator(
            CLASSES, sees, 1, (4, 5), **{'dropout_rate': 0, 'dropout_layers': 1, **real})
        judge = reconstruction_networks.build_patch_discriminator(
            beside, 2, (4, 5), normalisation=real.get('normalisation', 'instance'))
    random = np.random.default_rng(5)
    for network, size in ((painter, 0.8), (judge, 0.5)):
        for variable in network.variables:
            value = random.normal(size=variable.shape) * size
            kept = 'gamma' in variable.name or 'variance' in variable.name
            variable.assign(1.0 + 0.1 * np.abs(value) if kept else value)
    return zhu.Reconstruction(painter, judge, settings)


def phase_1(strategy=SINGLE, rates=(1.0, 1.0), real=None, **settings):
    with strategy.scope():
        return zhu.ReconstructionGan(gan(real, **settings), *(
            optimizers.make_optimizer('sgd', rate) for rate in rates))


def phase_2(strategy=SINGLE, rate=1.0, real=None, judged=True, use=None, **settings):
    with strategy.scope():
        segmentor, random = one_layer.OneLayer(CLASSES), np.random.default_rng(6)
        for variable in segmentor.trainable_variables:
            variable.assign(random.normal(size=variable.shape))
        own, used = optimizers.make_optimizer('sgd', rate), zhu_settings.zhu(**(use or {}))
        if not judged:
            return objective.Control(segmentor, own, used.pixel_loss)
        return zhu.Zhu(segmentor, gan(real, **settings), own, used)


def make_images(number=3):
    """Images with a border and a hole without labels, of another size each, and padding."""
    random = np.random.default_rng(7)
    label = random.integers(0, CLASSES, (number, 6, 7)).repeat(3, 1).repeat(3, 2)
    label = label[:, :HEIGHT, :WIDTH].astype(np.int32)
    image = random.uniform(0, 255, (number, HEIGHT, WIDTH, 3)).astype(np.float32)
    for row in range(number):
        label[row, :2 * row], label[row, 8:11, :3 + row] = 255, 255
        label[row, HEIGHT - row:] = 255
        image[row, HEIGHT - row:] = 127.5
    return {'image': image, 'label': label}


def weights(*networks):
    return [[v.numpy() for v in network.trainable_variables] for network in networks]


def take(method, phase, batch):
    scalars = method.phases[phase]({k: tf.constant(v) for k, v in batch.items()}, SEED)
    return {name: float(value) for name, value in scalars.items()}


def require_same(logs, expected):
    assert logs.keys() == expected.keys() | {'weights/norm'}
    for name, value in expected.items():
        assert logs[name] == pytest.approx(value, rel=2e-5, abs=1e-6), name


def require_slopes(before, after, loss, places=4):
    """A network went down the slope of a loss at rate 1, by finite differences; the steepest."""
    random, expected = np.random.default_rng(1), []
    for which, array in enumerate(before):
        for flat in random.permutation(array.size)[:places]:
            place = np.unravel_index(flat, array.shape)
            expected.append(plain_hung.slope(loss, before, (which, *place), 1e-6))
            moved = float(array[place]) - float(after[which][place])
            assert moved == pytest.approx(expected[-1], rel=3e-3, abs=2e-5), (which, place)
    return np.abs(expected).max()


FORMS = [{}, {'form': 'wgan'}]
KINDS = [
    {'form': 'gan', 'decision': 'each'}, {'form': 'wgan', 'decision': 'each', 'map_stride': 2},
    {'map_stride': 2, 'discriminator_sees': 'nothing'}, {'map_stride': 4},
    {'generator_sees': 'mask_and_image', 'discriminator_sees': 'image'}]


@pytest.mark.parametrize('settings', [*FORMS, *KINDS])
def test_the_gans_losses_and_slopes_are_the_papers(settings):
    """Eqs 4 to 8 and 16; either network's step is from the weights of before it (12, 13)."""
    batch, method = make_images(), phase_1(clip=1e3, content_weight=10.0, **settings)
    plain = plain_zhu.Plain(batch, CLASSES, gan_content=10.0, **settings)
    networks = method.reconstruction.generator, method.discriminator
    painter, judge = weights(*networks)
    require_same(take(method, 'both', batch), plain.phase_1(painter, judge))
    painted, judged = weights(*networks)
    assert require_slopes(
        painter, painted, lambda w: plain.phase_1(w, judge)['loss/generator']) > 1e-3
    assert require_slopes(judge, judged, lambda w: plain.phase_1(painter, w)['loss/disc']) > 1e-3


def test_eq_16s_hundred_is_the_default():
    logs = take(phase_1(), 'both', make_images())
    assert logs['loss/generator'] == pytest.approx(100 * logs['loss/content'] + logs['loss/adv'])


@pytest.mark.parametrize('settings', FORMS)
def test_a_step_of_the_critic_alone_moves_the_critic_alone(settings):
    batch, method = make_images(), phase_1(clip=1e3, **settings)
    painter, judge = weights(method.reconstruction.generator, method.discriminator)
    plain = plain_zhu.Plain(batch, CLASSES, **settings)
    expected = plain.phase_1(painter, judge)
    logs = take(method, 'discriminator', batch)
    require_same(logs, {k: v for k, v in expected.items() if 'disc' in k})
    painted, judged = weights(method.reconstruction.generator, method.discriminator)
    assert all(map(np.array_equal, painter, painted))
    assert require_slopes(judge, judged, lambda w: plain.phase_1(painter, w)['loss/disc']) > 1e-3


def test_a_step_of_the_critic_alone_leaves_the_generators_statistics():
    method = phase_1(real={'normalisation': 'batch'}, form='wgan', clip=1e3)
    before = [v.numpy() for v in method.reconstruction.generator.variables]
    take(method, 'discriminator', make_images())
    assert all(map(np.array_equal, before, method.reconstruction.generator.variables))
    take(method, 'both', make_images())
    assert not any(map(np.array_equal, (v.numpy() for v in method.reconstruction.generator.
                                        non_trainable_variables), before[-4:]))


@pytest.mark.parametrize('phase', ['both', 'discriminator'])
@pytest.mark.parametrize('settings, clipped', [
    ({'form': 'wgan', 'clip': 0.03}, True), ({'form': 'wgan', 'lipschitz': 'penalty'}, False),
    ({'form': 'gan', 'clip': 0.03}, False)])
def test_every_weight_of_the_critic_is_clipped_and_none_of_the_generator(phase, settings, clipped):
    """Biases and the norm's included; Arjovsky et al. 2017, Algorithm 1."""
    method = phase_1(real={}, rates=(1e-3, 1e-3), **settings)
    take(method, phase, make_images())
    for variable in method.discriminator.trainable_variables:
        assert (np.abs(variable).max() <= 0.03) == clipped, variable.name
    assert all(np.abs(v).max() > 0.05 for v in method.reconstruction.generator.trainable_variables)
    if clipped:  # at the edge, not at 0
        assert {float(np.abs(v).max()) for v in method.discriminator.trainable_variables} == {
            float(np.float32(0.03))}


@pytest.mark.parametrize('phase', ['both', 'discriminator'])
def test_the_kernels_alone_are_clipped_where_asked_for(phase):
    method = phase_1(real={}, rates=(1e-3, 1e-3), form='wgan', clip=0.03, clipped='kernels')
    take(method, phase, make_images())
    for variable in method.discriminator.trainable_variables:
        within = np.abs(variable).max() <= 0.03
        assert within or variable.shape.rank == 1, variable.name
    assert any(np.abs(v).max() > 0.9 for v in method.discriminator.trainable_variables)  # scales


@pytest.mark.parametrize('weight', [0.0, 3.0])
def test_the_penalty_is_added_by_its_weight(weight):
    batch = make_images()
    method = phase_1(form='wgan', lipschitz='penalty', penalty_weight=weight)
    reconstruction = method.reconstruction
    expected = plain_zhu.Plain(batch, CLASSES, form='wgan').phase_1(
        *weights(reconstruction.generator, method.discriminator))['loss/disc']
    real = reconstruction.scaled_images(batch['image'], batch['label'])
    masks = reconstruction.true_masks(batch['label'])
    fake = reconstruction.reconstructed(masks, real, batch['label'], None)
    penalty = float(reconstruction.penalty(real, fake, masks, SEED))
    logs = take(method, 'both', batch)
    assert penalty > 0.05
    assert logs['loss/disc'] == pytest.approx(expected + weight * penalty, rel=1e-5)


USES = [*(({}, settings) for settings in FORMS), *(({}, settings) for settings in KINDS),
        ({'condition': 'truth'}, {}), ({'reduction': 'sum', 'l2_weight': 0.1}, {'form': 'wgan'}),
        ({'content_weight': 2.0, 'adversarial_weight': 0.0}, {}),
        ({'content_weight': 0.0, 'adversarial_weight': 3.0}, {})]


@pytest.mark.parametrize('use, settings', USES)
def test_the_segmentors_losses_and_slopes_are_the_papers(use, settings):
    """Eqs 2 to 6 with the soft map in the truth's place: through D and G, which do not move."""
    batch, rate = make_images(), 1.0 if use.get('reduction') != 'sum' else 0.01
    method = phase_2(use=use, rate=rate, **settings)
    frozen = method.reconstruction.generator, method.reconstruction.discriminator
    segmentor, painter, judge = (
        [v.numpy() for v in network.variables] for network in (method.segmentor, *frozen))
    plain = plain_zhu.Plain(batch, CLASSES, **settings, **use)
    require_same(take(method, 'segmentor', batch), plain.phase_2(segmentor, painter, judge))
    after = [s - (s - v.numpy()) / rate for s, v in zip(segmentor, method.segmentor.variables)]
    assert require_slopes(
        segmentor, after, lambda w: plain.phase_2(w, painter, judge)['loss/total']) > 1e-3


@pytest.mark.parametrize('normalisation', ['batch', 'instance'])
def test_the_frozen_gan_does_not_move_by_one_bit_but_hands_a_gradient_on(normalisation):
    """Statistics included; points without a label get no gradient of either loss."""
    batch = {k: tf.constant(v) for k, v in make_images().items()}
    method = phase_2(real={'normalisation': normalisation, 'dropout_rate': 0.5})
    reconstruction = method.reconstruction
    networks = reconstruction.generator, reconstruction.discriminator
    before = [v.numpy() for network in networks for v in network.variables]
    assert len(before) == {'instance': 17, 'batch': 23}[normalisation]
    digest, start = reconstruction.digest(), weights(method.segmentor)[0]
    for _ in range(2):
        take(method, 'segmentor', batch)
    method.gradient_balance(batch, SEED)
    after = [v.numpy() for network in networks for v in network.variables]
    assert all(map(np.array_equal, before, after)) and reconstruction.digest() == digest
    assert not any(map(np.array_equal, start, weights(method.segmentor)[0]))
    logits = tf.constant(np.random.default_rng(1).normal(
        size=(3, HEIGHT, WIDTH, CLASSES)).astype(np.float32))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        content, adv, _ = method.reconstruction_losses(batch, logits, SEED)
    for loss in (content, adv):
        gradient = np.abs(tape.gradient(loss, logits)).sum(-1)
        unlabelled = batch['label'].numpy() == 255
        assert np.all(gradient[unlabelled] == 0.0) and unlabelled.any()
        assert (gradient[~unlabelled] > 0).mean() > 0.9


def test_without_both_terms_the_step_is_the_controls_to_the_bit():
    batch, ends = make_images(), []
    for judged, phase in ((True, 'segmentor'), (False, 'cross_entropy')):
        method = phase_2(judged=judged, real={}, use={
            'content_weight': 0.0, 'adversarial_weight': 0.0, 'l2_weight': 0.01})
        logs = [take(method, phase, batch) for _ in range(2)]
        ends.append((weights(method.segmentor)[0], [line['loss/ce'] for line in logs]))
    assert all(map(np.array_equal, ends[0][0], ends[1][0])) and ends[0][1] == ends[1][1]


def test_nothing_labelled_stays_finite():
    batch = make_images()
    batch['label'][:] = 255
    for method, phase in ((phase_1(), 'both'), (phase_2(), 'segmentor')):
        logs = take(method, phase, batch)
        assert logs['loss/content'] == 0.0 and all(map(np.isfinite, logs.values()))


def test_the_gradients_of_both_terms_are_compared_with_cross_entropys():
    batch, method = {k: tf.constant(v) for k, v in make_images().items()}, phase_2()
    found = {k: float(v) for k, v in method.gradient_balance(batch, SEED).items()}
    start, lengths = weights(method.segmentor)[0], {}
    for name, use in (('ce', (0.0, 0.0)), ('content', (1.0, 0.0)), ('adv', (0.0, 1.0))):
        other = phase_2(use=dict(zip(('content_weight', 'adversarial_weight'), use)))
        take(other, 'segmentor', batch)
        moved = np.concatenate([(a - b).ravel() for a, b in zip(
            start, weights(other.segmentor)[0])])
        lengths[name] = moved if name == 'ce' else moved - lengths['ce']
    for name, moved in lengths.items():
        assert found[f'grad/{name}'] == pytest.approx(np.linalg.norm(moved), rel=1e-3)
    for name in ('content', 'adv'):
        assert found[f'grad_ratio/{name}_ce'] == pytest.approx(
            found[f'grad/{name}'] / found['grad/ce'], rel=1e-4)


def test_the_digest_tells_weights_and_statistics_frozen_or_not():
    first, second = (gan({'normalisation': 'batch'}) for _ in range(2))
    assert first.digest() == second.digest()
    frozen = phase_2(real={'normalisation': 'batch'})
    assert frozen.identity['gan'] == first.digest()
    moved = [v for v in second.generator.non_trainable_variables if 'moving' in v.name][-1]
    moved.assign(moved + 1e-3)
    assert first.digest() != second.digest()


def test_a_generator_that_sees_the_image_takes_three_channels_more():
    method = phase_2(real={}, generator_sees='mask_and_image')
    assert method.reconstruction.generator.channels == CLASSES + 3
    logs = take(method, 'segmentor', make_images())
    assert all(map(np.isfinite, logs.values())) and logs['loss/content'] > 0
    assert 'the image itself' in method.about and 'the image itself' not in phase_2().about


def apart_on_two(two_replicas, build, phases, of):
    """How far weights after two steps on 3 images, 2 + 1, are from one device's; losses agree."""
    batch, results = make_images(), []
    for strategy in (SINGLE, two_replicas):
        method = build(strategy)
        start = [v.numpy() for network in of(method) for v in network.variables]
        logs = steps.take(method, strategy, batch, phases)
        results.append((logs, [v.numpy() for network in of(method) for v in network.variables]))
    (one, ours), (two, theirs) = results
    for first, second in zip(one, two):
        assert first == pytest.approx(second, rel=1e-5, abs=1e-5)
    assert max(np.abs(a - b).max() for a, b in zip(start, ours)) > 1e-3
    return max(np.abs(a - b).max() for a, b in zip(ours, theirs))


@pytest.mark.parametrize('normalisation, settings', [
    ('batch', {'form': 'wgan', 'clip': 0.2}),
    *(pytest.param(norm, settings, marks=pytest.mark.slow) for norm, settings in (
        ('batch', {}), ('batch', {'form': 'wgan', 'clip': 0.2, 'critic_steps': 2}),
        ('instance', {}), ('instance', {'form': 'wgan', 'clip': 0.2, 'decision': 'each'}),
        ('instance', {'form': 'wgan', 'lipschitz': 'penalty'})))])
def test_two_replicas_train_the_gan_of_one_device(two_replicas, monkeypatch, normalisation,
                                                  settings):
    """A penalty's place between the images is drawn by replica; here it is the middle."""
    monkeypatch.setattr(tf.random, 'stateless_uniform',
                        lambda shape, seed, **_: tf.fill(shape, 0.5))
    assert apart_on_two(
        two_replicas, lambda strategy: phase_1(strategy, (1e-3, 1e-2), real={
            'normalisation': normalisation}, **settings),
        ['discriminator', 'both'] if 'critic_steps' in settings else ['both', 'both'],
        lambda method: (method.reconstruction.generator, method.discriminator)) <= 1e-5


@pytest.mark.parametrize('settings, use', [
    ({'form': 'wgan'}, {'content_weight': 2.0}),
    pytest.param({}, {'reduction': 'sum', 'content_weight': 0.01}, marks=pytest.mark.slow)])
def test_two_replicas_train_the_segmentor_of_one_device(two_replicas, settings, use):
    assert apart_on_two(two_replicas, lambda strategy: phase_2(
        strategy, 0.1 if 'reduction' not in use else 1e-3, real={'normalisation': 'batch'},
        use=use, **settings), ['segmentor'] * 2, lambda method: (method.segmentor,)) <= 1e-5
