"""Durall et al.'s steps: equations 2 to 5, one decision a pixel or an image, two replicas."""
import numpy as np
import pytest
import steps
import tensorflow as tf

from tf_advseg.adversaries import encoder_decoder
from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.methods import durall
from tf_advseg.methods import objective
from tf_advseg.models import farabet
from tf_advseg.models import resize
from tf_advseg.models import segmentor as segmentors
from tf_advseg.training import optimizers

CLASSES, SIDE = 4, 17
SINGLE = tf.distribute.OneDeviceStrategy('/cpu:0')


def build(strategy=SINGLE, kind='pixel', rate=0.05, **settings):
    """A method whose weights depend on nothing but fixed seeds; kind None is the control."""
    with strategy.scope():
        segmentor = farabet.farabet(CLASSES, hidden=8, seed=1)
        own, found = optimizers.make_optimizer('sgd', rate, 0.9), durall.Settings(**settings)
        if kind is None:
            return objective.Control(segmentor, own, found.pixel_loss)
        judge = encoder_decoder.build_pixel_discriminator(CLASSES, kind, seed=2, widths=(8, 16))
        return durall.Durall(segmentor, judge, own, optimizers.make_optimizer('adam', 1e-2), found)


def make_images(size=5):
    """Noise, and labels of patches; image k has its first 3k rows unlabelled."""
    generator = np.random.default_rng(7)
    label = generator.integers(0, CLASSES, (size, 3, 3)).repeat(6, 1).repeat(6, 2)
    label = label[:, :SIDE, :SIDE].astype(np.int32)
    for number in range(size):
        label[number, :3 * number] = 255
    image = generator.uniform(0, 255, (size, SIDE, SIDE, 3)).astype(np.float32)
    return {'image': image, 'label': label}


def take(method, strategy, *phases, batch=None):
    """(the last step's scalars, all trainable values) after steps on one global batch."""
    batch = make_images() if batch is None else batch
    scalars = steps.take(method, strategy, batch, phases)
    discriminator = getattr(method, 'discriminator', None)
    judged = discriminator.trainable_variables if discriminator else []
    return scalars[-1], [v.numpy() for v in (*method.segmentor.trainable_variables, *judged)]


@pytest.mark.parametrize('phase, settings', [
    ('segmentor', dict(adversarial_weight=50.0, map_stride=2)),
    pytest.param('segmentor', dict(adversarial_weight=20.0, kind='image', reduction='sum',
                                   rate=1e-4), marks=pytest.mark.slow),
    pytest.param('segmentor', dict(adversarial_weight=1.0, reduction='sum', rate=1e-4),
                 marks=pytest.mark.slow),
    ('discriminator', dict(map_stride=2)),
    pytest.param('discriminator', dict(kind='image'), marks=pytest.mark.slow)])
def test_two_replicas_equal_one_device(two_replicas, phase, settings):
    """Five images: the replicas' shares differ in size and in labelled pixels."""
    (one, ours), (two, theirs) = (take(build(strategy, **settings), strategy, phase)
                                  for strategy in (SINGLE, two_replicas))
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert value == pytest.approx(two[name], rel=1e-5, abs=1e-5), name
    untouched = build(**settings)
    start = [v.numpy() for v in (*untouched.segmentor.trainable_variables,
                                 *untouched.discriminator.trainable_variables)]
    assert max(np.abs(a - b).max() for a, b in zip(start, ours)) > 1e-3
    for a, b in zip(ours, theirs):
        # Adam's first step is the gradient's sign, whose last digit decides where it is near 0.
        np.testing.assert_allclose(a, b, atol=1e-5 if phase == 'segmentor' else 1e-4)


def by_hand(method, batch, stride):
    """Equations 3 to 5 in float64 NumPy on the method's own networks: per-pixel terms."""
    logits = method.segmentor(batch['image'])

    def softmax(x):
        powers = np.exp(x - x.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)
    whole = softmax(resize.resize_bilinear(logits, [SIDE, SIDE]).numpy().astype(np.float64))
    side = (SIDE - 1) // stride + 1
    s = softmax(resize.resize_bilinear(logits, [side, side]).numpy().astype(np.float64))
    labels, at = batch['label'], batch['label'][:, ::stride, ::stride]
    known, there = labels != 255, at != 255
    truth = np.eye(CLASSES)[np.where(there, at, 0)] * there[..., None]
    z = {name: method.discriminator(tf.constant(maps, tf.float32)).numpy().astype(np.float64)
         for name, maps in (('real', truth), ('fake', s * there[..., None]))}
    if method.discriminator.decides == 'pixel':
        z = {name: values[there] for name, values in z.items()}
    d = {name: 1 / (1 + np.exp(-values)) for name, values in z.items()}
    return {'ce': -np.log(whole[known, labels[known]]), 'adv': -np.log(d['fake']),
            'disc': np.mean(-np.log(1 - d['fake'])) + np.mean(-np.log(d['real'])),
            'acc_real': np.mean(d['real'] > 0.5), 'acc_fake': np.mean(d['fake'] <= 0.5),
            # Decisions so near to a half that rounding may take them to either side.
            'open': sum(np.mean(np.abs(values - 0.5) < 1e-6) for values in d.values())}


@pytest.mark.parametrize('kind, stride', [('pixel', 1), ('image', 4)])
def test_losses_are_the_papers_equations(kind, stride):
    batch = make_images()
    expected = by_hand(build(kind=kind), batch, stride)
    for reduction, ours in (('mean', np.mean), ('sum', np.sum)):
        scalars, _ = take(build(kind=kind, map_stride=stride, reduction=reduction, l2_weight=0.0,
                                adversarial_weight=0.3), SINGLE, 'segmentor', batch=batch)
        assert scalars['loss/ce'] == pytest.approx(ours(expected['ce']), rel=1e-5)
        assert scalars['loss/adv'] == pytest.approx(ours(expected['adv']), rel=1e-5)
        assert scalars['loss/total'] == pytest.approx(
            scalars['loss/ce'] + 0.3 * scalars['loss/adv'], rel=1e-6)
    scalars, _ = take(build(kind=kind, map_stride=stride), SINGLE, 'discriminator', batch=batch)
    assert scalars['loss/disc'] == pytest.approx(expected['disc'], rel=1e-5)
    assert expected['open'] < 0.05
    for name in ('acc_real', 'acc_fake'):
        assert scalars[f'disc/{name}'] == pytest.approx(expected[name], abs=1e-6 + expected['open'])


@pytest.mark.parametrize('kind', encoder_decoder.KINDS)
def test_the_adversarial_gradient_is_that_of_finite_differences(kind):
    """On a few parts of the logits; nothing flows where nothing is labelled."""
    method, batch = build(kind=kind, map_stride=2), make_images(3)
    logits = method.segmentor(batch['image'])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss, _ = method.adversarial_loss(batch, logits)
    gradient = tape.gradient(loss, logits).numpy().astype(np.float64)
    generator = np.random.default_rng(3)
    for _ in range(4):
        # Along the gradient's signs the change is far above float32's last digit.
        way = (np.sign(gradient) * generator.integers(0, 2, gradient.shape)).astype(np.float32)
        up, down = (float(method.adversarial_loss(batch, logits + step * way)[0])
                    for step in (1e-2, -1e-2))
        assert (up - down) / 2e-2 == pytest.approx((gradient * way).sum(), rel=3e-2)
    assert np.abs(gradient[0]).max() > 0
    nothing = dict(batch, label=np.full_like(batch['label'], 255))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = method.adversarial_loss(nothing, logits)[0]
    assert not np.any(tape.gradient(loss, logits)) and np.isfinite(loss)


@pytest.mark.parametrize('kind', encoder_decoder.KINDS)
def test_the_discriminators_gradient_is_that_of_finite_differences(kind):
    """Eq. 5's, for each of its variables, along the gradient's signs."""
    method, batch = build(kind=kind, map_stride=2), make_images(3)
    # Maps of zeros, where nothing is labelled, would lie on LeakyReLU's kink to the bit.
    batch['label'] %= 255
    logits = method.segmentor(batch['image'])
    variables = method.discriminator.trainable_variables
    with tf.GradientTape() as tape:
        loss, _ = method.discriminator_loss(batch, logits)
    for variable, gradient in zip(variables, tape.gradient(loss, variables)):
        gradient = gradient.numpy().astype(np.float64)
        start, way = variable.numpy().astype(np.float64), np.sign(gradient)
        assert np.abs(way).sum() > 0
        # In float64 and Python floats: NumPy 1 and 2 promote float32 scalars by other rules.
        expected = float(np.abs(gradient).sum())
        size, ends = min(1e-3 / expected, 1e-3), []
        for step in (size, -size):
            variable.assign(start + step * way)
            ends.append(float(method.discriminator_loss(batch, logits)[0]))
        variable.assign(start)
        # A loss of about 1 is rounded to 1e-7 at either end.
        assert (ends[0] - ends[1]) / (2 * size) == pytest.approx(expected, rel=5e-2,
                                                                 abs=2e-7 / size)


def test_unlabelled_pixels_decide_nothing():
    """What stands under void rows, in the image's truth or in D's decisions there, is unseen."""
    batch = make_images(2)
    batch['label'][:, :8] = 255
    method = build(map_stride=1)
    scalars, _ = take(method, SINGLE, 'discriminator', batch=batch)
    z = build().discriminator(tf.zeros([2, SIDE, SIDE, CLASSES]))  # what D says of void alone
    assert z.shape == (2, SIDE, SIDE)
    expected = by_hand(build(), batch, 1)
    assert scalars['loss/disc'] == pytest.approx(expected['disc'], rel=1e-5)
    everything = dict(batch, label=np.full_like(batch['label'], 255))
    scalars, values = take(build(), SINGLE, 'segmentor', 'discriminator', batch=everything)
    assert scalars['loss/disc'] == 0.0 and all(np.all(np.isfinite(v)) for v in values)


@pytest.mark.slow
def test_the_discriminator_learns_and_the_generator_then_fools_it():
    method = build(adversarial_weight=5.0)
    first, _ = take(method, SINGLE, 'discriminator')
    trained, _ = take(method, SINGLE, *['discriminator'] * 30)
    assert trained['loss/disc'] < 0.6 * first['loss/disc']
    before, _ = take(method, SINGLE, 'segmentor')
    after, _ = take(method, SINGLE, *['segmentor'] * 15)
    assert after['loss/adv'] < 0.9 * before['loss/adv']


def test_each_phase_moves_its_own_network_and_is_traced_once():
    method, traces = build(), []
    for phase in ('segmentor', 'discriminator'):
        step = getattr(method, f'{phase}_step')

        def counted(batch, seed, step=step, phase=phase):
            traces.append(phase)
            return step(batch, seed)
        setattr(method, f'{phase}_step', counted)
    count = len(method.segmentor.trainable_variables)
    start = [v.numpy() for v in (*method.segmentor.trainable_variables,
                                 *method.discriminator.trainable_variables)]
    _, after = take(method, SINGLE, *['segmentor'] * 3)
    moved = [not np.array_equal(a, b) for a, b in zip(start, after)]
    assert all(moved[:count]) and not any(moved[count:])
    traces.clear()
    _, later = take(method, SINGLE, *['discriminator', 'segmentor'] * 3)  # compiled
    assert sorted(traces) == ['discriminator', 'segmentor']
    assert not any(np.array_equal(a, b) for a, b in zip(after, later))


def test_the_control_is_the_generators_step_without_lambda():
    _, control = take(build(kind=None), SINGLE, 'cross_entropy', 'cross_entropy')
    for weight, same in ((0.0, True), (5.0, False)):
        _, values = take(build(adversarial_weight=weight), SINGLE, 'segmentor', 'segmentor')
        assert all(np.allclose(a, b, atol=1e-7) for a, b in zip(control, values)) == same


def test_weight_decay_is_half_the_squares_of_the_kernels():
    method = build(kind=None, l2_weight=1e-2)
    expected = 0.5e-2 * sum(np.square(v.numpy()).sum()
                            for v in segmentors.decayed_kernels(method.segmentor))
    scalars, _ = take(method, SINGLE, 'cross_entropy')
    assert scalars['loss/total'] - scalars['loss/ce'] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize('binding, text', [
    ('durall.reduction = "men"', 'Did you mean "mean"'),
    ('durall.adversarial_weight = -0.01', 'durall.adversarial_weight = -0.01'),
    ('durall.map_stride = 0', 'durall.map_stride = 0'),
    ('durall.map_stride = 1.5', 'durall.map_stride = 1.5: expected a whole number'),
    ('durall.l2_weight = None', 'durall.l2_weight = None')])
def test_settings_out_of_range_are_told_in_one_line(binding, text):
    configuration.parse([], [binding])
    with pytest.raises(UserError) as caught:
        durall.durall_settings()
    assert text in str(caught.value) and '\n' not in str(caught.value)
