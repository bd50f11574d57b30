"""Luc et al.'s steps: equal on one device and two replicas, equations, one trace a phase."""
import numpy as np
import pytest
import steps
import tensorflow as tf

from tf_advseg.adversaries import field_of_view
from tf_advseg.adversaries import label_maps
from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.losses import pixel
from tf_advseg.methods import luc
from tf_advseg.methods import objective
from tf_advseg.models import farabet
from tf_advseg.models import layers
from tf_advseg.models import resize
from tf_advseg.models import segmentor as segmentors
from tf_advseg.training import loop
from tf_advseg.training import optimizers

CLASSES, CROP = 4, 33
SINGLE = tf.distribute.OneDeviceStrategy('/cpu:0')


def build(strategy=SINGLE, kind='basic', discriminator='small_fov_light', rate=0.05, **settings):
    """A method whose weights depend on nothing but fixed seeds."""
    encoding = label_maps.LabelMaps(CLASSES, kind)
    with strategy.scope():
        segmentor = farabet.farabet(CLASSES, hidden=8, seed=1)
        own, found = optimizers.make_optimizer('sgd', rate, 0.9), luc.Settings(**settings)
        if discriminator is None:
            return objective.Control(segmentor, own, found.pixel_loss(()))
        judge = field_of_view.build_fov_discriminator(discriminator, CLASSES, encoding.channels,
                                                      seed=2, last_gain=1.0)
        return luc.Luc(segmentor, judge, own, optimizers.make_optimizer('sgd', rate, 0.9),
                       encoding, found)


def batch_of(size=5, seed=0):
    """Images, and labels of large patches with an ignored strip of another width in each."""
    generator = np.random.default_rng(seed)
    label = np.kron(generator.integers(0, CLASSES, (size, 3, 3)), np.ones((1, 11, 11), int))
    for number in range(size):
        label[number, :4 * number] = 255
    return {'image': generator.uniform(0, 255, (size, CROP, CROP, 3)).astype(np.float32),
            'label': label.astype(np.int32)}


def made(*bindings, counts=()):
    """The control of a run with gin bindings of Luc's settings."""
    configuration.parse([], [f'luc.{binding}' for binding in bindings])
    return objective.Control(build(discriminator=None).segmentor,
                             optimizers.make_optimizer('sgd', 0.1),
                             luc.luc_settings().pixel_loss(counts))


def stepped(method, strategy, phases, batch=None, seed=(1, 2)):
    """(scalars of the last step, all variables) after steps of some phases on one batch."""
    outputs = steps.take(method, strategy, batch or batch_of(), phases, seed)
    networks = [n for n in (method.segmentor, getattr(method, 'discriminator', None))
                if n is not None]
    return outputs[-1], [v.numpy() for network in networks for v in network.trainable_variables]


@pytest.mark.parametrize('phase, settings', [
    ('segmentor', dict(adversarial_weight=100.0)), ('discriminator', {}),
    pytest.param('discriminator', dict(kind='scaling'), marks=pytest.mark.slow),
    pytest.param('segmentor', dict(kind='product', reduction='sum', rate=1e-4,
                                   adversarial_weight=50.0), marks=pytest.mark.slow),
    pytest.param('discriminator', dict(discriminator='stanford'), marks=pytest.mark.slow),
    pytest.param('segmentor', dict(
        discriminator='stanford', saturating=True, upsample_logits=True, l2_weight=1e-2,
        reduction='mean', adversarial_weight=20.0), marks=pytest.mark.slow),
    ])
def test_two_replicas_equal_one_device(two_replicas, phase, settings):
    """Five images: the replicas' shares differ in size and in labelled pixels."""
    (one, variables), (two, others) = (
        stepped(build(strategy, **settings), strategy, [phase])
        for strategy in (SINGLE, two_replicas))
    assert one.keys() == two.keys()
    for name in one:
        assert one[name] == pytest.approx(two[name], rel=1e-5, abs=1e-5), name
    untouched = build(**settings)
    start = [v.numpy() for n in (untouched.segmentor, untouched.discriminator)
             for v in n.trainable_variables]
    moved = [np.abs(a - b).max() for a, b in zip(start, variables)]
    assert max(moved) > 1e-3  # the comparison below is not one of standing still
    for a, b in zip(variables, others):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_each_phase_moves_its_own_network():
    method = build()
    count = len(method.segmentor.trainable_variables)
    start = [v.numpy() for v in (*method.segmentor.trainable_variables,
                                 *method.discriminator.trainable_variables)]
    _, after = stepped(method, SINGLE, ['discriminator'])
    moved = [not np.array_equal(a, b) for a, b in zip(start, after)]
    assert not any(moved[:count]) and all(moved[count:])
    _, later = stepped(method, SINGLE, ['segmentor'])
    moved = [not np.array_equal(a, b) for a, b in zip(after, later)]
    assert all(moved[:count]) and not any(moved[count:])
    assert set(method.state) == {
        'segmentor', 'optimizer', 'discriminator', 'discriminator_optimizer'}


def test_without_lambda_the_segmentors_step_is_the_controls():
    _, control = stepped(build(discriminator=None), SINGLE, ['cross_entropy'] * 2)
    for weight, same in ((0.0, True), (5.0, False)):
        method = build(adversarial_weight=weight)
        _, variables = stepped(method, SINGLE, ['segmentor'] * 2)
        assert all(np.allclose(a, b, atol=1e-7) for a, b in zip(control, variables)) == same


def equations(batch, method, seed=np.array([1, 2], np.int32)):
    """Eqs. 2 and 3 spelt out in NumPy on the method's own networks: {name: value}."""
    logits = method.segmentor(batch['image'])
    s = tf.nn.softmax(logits).numpy().astype(np.float64)
    labels = batch['label'][:, ::4, ::4]
    valid = labels != 255
    truth = np.eye(CLASSES)[np.where(valid, labels, 0)]
    ce = -np.log(s[valid, labels[valid]])
    maps = {'real': truth * valid[..., None], 'fake': s * valid[..., None]}
    a = {name: 1 / (1 + np.exp(-method.discriminator(tf.constant(m, tf.float32)).numpy().astype(
        np.float64))) for name, m in maps.items()}
    return {'ce': ce, 'adv': -np.log(a['fake']), 'printed': np.log(1 - a['fake']),
            'disc': -np.log(a['real']) - np.log(1 - a['fake']),
            'acc_real': (a['real'] > 0.5).mean(), 'acc_fake': (a['fake'] <= 0.5).mean(),
            # Decisions so near to a half that rounding may take them to either side.
            'open': sum((np.abs(a[name] - 0.5) < 1e-6).mean() for name in maps)}


@pytest.mark.parametrize('reduction', luc.REDUCTIONS)
def test_the_losses_are_the_papers_equations(reduction):
    batch = batch_of(4)
    expected = equations(batch, build())
    own = np.sum if reduction == 'sum' else np.mean  # of a term's own number
    ours = {'mean': np.mean, 'sum': np.sum,
            'per_pixel': lambda losses: np.sum(losses) / len(expected['ce'])}[reduction]
    scalars, _ = stepped(build(reduction=reduction, adversarial_weight=3.0), SINGLE, ['segmentor'],
                         batch)
    assert scalars['loss/ce'] == pytest.approx(own(expected['ce']), rel=1e-5)
    assert scalars['loss/adv'] == pytest.approx(ours(expected['adv']), rel=1e-4)
    assert scalars['loss/total'] == pytest.approx(
        scalars['loss/ce'] + 3.0 * scalars['loss/adv'], rel=1e-6)
    scalars, _ = stepped(build(reduction=reduction), SINGLE, ['discriminator'], batch)
    assert scalars['loss/disc'] == pytest.approx(np.mean(expected['disc']), rel=1e-4)
    assert expected['open'] < 0.05
    for name in ('acc_real', 'acc_fake'):
        assert scalars[f'disc/{name}'] == pytest.approx(expected[name], abs=1e-6 + expected['open'])
    printed, _ = stepped(build(reduction=reduction, saturating=True), SINGLE, ['segmentor'], batch)
    assert printed['loss/adv'] == pytest.approx(ours(expected['printed']), rel=1e-4)


@pytest.mark.slow
def test_the_adversary_learns_and_the_segmentor_then_fools_it():
    """A few steps of each on one batch: eq. 2 falls, then the adversarial term does."""
    method, rate = build(adversarial_weight=10.0, reduction='mean'), ['discriminator']
    first, _ = stepped(method, SINGLE, rate)
    trained, _ = stepped(method, SINGLE, rate * 30)
    assert trained['loss/disc'] < 0.7 * first['loss/disc']
    before, _ = stepped(method, SINGLE, ['segmentor'])
    after, _ = stepped(method, SINGLE, ['segmentor'] * 15)
    assert after['loss/adv'] < 0.8 * before['loss/adv']


def test_a_switch_of_phases_traces_each_once():
    method, traces = build(), []
    for phase in ('segmentor', 'discriminator'):
        step = getattr(method, f'{phase}_step')

        def counted(batch, seed, step=step, phase=phase):
            traces.append(phase)
            return step(batch, seed)
        setattr(method, f'{phase}_step', counted)
    stepped(method, SINGLE, ['discriminator', 'segmentor'] * 4)
    assert sorted(traces) == ['discriminator', 'segmentor']


def test_patch_wise_training_takes_some_pixels_and_balanced_rarer_classes_likelier():
    """Of the pixels of a rare class as many are drawn as of a common one; anew by each seed."""
    labels = np.full((1, 200, 200), 0, np.int32)
    labels[0, :20, :100], labels[0, -10:] = 1, 255
    counts = [np.sum(labels == number) for number in (0, 1, 2, 3)]
    drawn = {}
    for sampling in luc.PIXEL_SAMPLINGS:
        method = made('pixels_per_image = 400', f'pixel_sampling = {sampling!r}', counts=counts)
        taken, before = [], None
        for number in range(20):
            chosen = pixel.sampled_labels(tf.constant(labels), 400, [number, 7],
                                          method.pixel_loss.pixel_weights).numpy()
            assert ((chosen == labels) | (chosen == 255)).all()
            assert before is None or not np.array_equal(chosen, before)
            before = chosen
            taken.append([np.sum(chosen == 0), np.sum(chosen == 1)])
        drawn[sampling] = np.mean(taken, 0)
    share = counts[1] / (counts[0] + counts[1])
    assert drawn['uniform'].sum() == pytest.approx(400, rel=0.05)
    assert drawn['uniform'][1] / drawn['uniform'].sum() == pytest.approx(share, rel=0.2)
    np.testing.assert_allclose(drawn['balanced'], [200, 200], rtol=0.1)


def test_cross_entropy_is_the_mean_over_the_drawn_pixels_which_every_seed_draws_anew():
    batch, method = batch_of(4), build(pixels_per_image=10)
    logits = method.segmentor(batch['image'])
    losses = set()
    for seed in ([1, 2], [3, 4]):
        folded = tf.random.experimental.stateless_fold_in(
            tf.random.experimental.stateless_fold_in(tf.constant(seed, tf.int32), 1), 0)
        labels = pixel.sampled_labels(batch['label'][:, ::4, ::4], 10, folded).numpy()
        assert 20 < np.sum(labels != 255) < 60
        s = tf.nn.softmax(logits).numpy()
        expected = -np.log(s[labels != 255, labels[labels != 255]]).mean()
        scalars, _ = stepped(build(pixels_per_image=10), SINGLE, ['segmentor'], batch, seed)
        assert scalars['loss/ce'] == pytest.approx(expected, rel=1e-4)
        losses.add(round(float(expected), 6))
    assert len(losses) == 2


def test_lambda_weighs_the_same_whatever_cross_entropy_is_taken_of():
    """The adversarial term of one batch, with drawn pixels and with logits brought up."""
    batch = batch_of(4)
    ways = (dict(), dict(pixels_per_image=10), dict(upsample_logits=True))
    found = [stepped(build(**way), SINGLE, ['segmentor'], batch)[0] for way in ways]
    first = found[0]['loss/adv']
    assert [scalars['loss/adv'] for scalars in found] == pytest.approx([first] * 3, rel=1e-5)
    ce = sorted(scalars['loss/ce'] for scalars in found)
    assert min(np.diff(ce)) > 1e-4 * ce[0]  # not a matter of rounding


def test_logits_brought_up_to_the_labels():
    batch, method = batch_of(3), build(upsample_logits=True)
    full = resize.resize_bilinear(method.segmentor(batch['image']), (CROP, CROP))
    valid = batch['label'] != 255
    expected = -np.log(tf.nn.softmax(full).numpy()[valid, batch['label'][valid]]).mean()
    scalars, _ = stepped(method, SINGLE, ['segmentor'], batch)
    assert scalars['loss/ce'] == pytest.approx(expected, rel=1e-4)


def test_weight_decay_is_half_the_squares_of_the_kernels():
    for phase in ('cross_entropy', 'segmentor'):
        method = build(l2_weight=1e-2, adversarial_weight=0.0, **(
            {'discriminator': None} if phase == 'cross_entropy' else {}))
        kernels = [v.numpy() for v in segmentors.decayed_kernels(method.segmentor)]
        scalars, _ = stepped(method, SINGLE, [phase])
        expected = 0.5e-2 * sum(np.square(kernel).sum() for kernel in kernels)
        assert scalars['loss/total'] - scalars['loss/ce'] == pytest.approx(expected, rel=1e-4)


def test_the_gradients_are_measured_as_two_tapes_measure_them():
    method, batch = build(), batch_of(3)
    shares = next(iter(loop.distribute(tf.data.Dataset.from_tensors(batch), SINGLE)))
    norms = loop.Stepper(method, SINGLE)(method.gradient_balance, shares, np.array([1, 2]))
    expected = {}
    variables = method.segmentor.trainable_variables
    for name in ('ce', 'adv'):
        with tf.GradientTape() as tape:
            logits = method.segmentor(batch['image'])
            labels = tf.constant(batch['label'])[:, ::4, ::4]
            if name == 'ce':
                valid = tf.not_equal(labels, 255)
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(
                    labels[valid], logits[valid]))
            else:
                z = method.discriminator(
                    method.encoding.fake(batch['image'], batch['label'], logits))
                loss = tf.reduce_sum(tf.math.softplus(-z)) / np.sum(labels.numpy() != 255)
        gradients = [tf.zeros_like(v) if g is None else g
                     for g, v in zip(tape.gradient(loss, variables), variables)]
        expected[name] = float(tf.linalg.global_norm(gradients))
    assert norms['grad/ce'] == pytest.approx(expected['ce'], rel=1e-3)
    assert norms['grad/adv'] == pytest.approx(expected['adv'], rel=1e-3)
    assert norms['grad_ratio/adv_ce'] == pytest.approx(expected['adv'] / expected['ce'], rel=2e-3)


class Normalised(tf.keras.Model):
    """Two convolutions at stride 4 with live batch norm and dropout between them."""

    num_classes, logits_stride, output_stride, crop_size = CLASSES, 4, 4, CROP
    fine_tune_batch_norm = True

    def __init__(self):
        super().__init__()
        start = tf.keras.initializers.GlorotUniform(seed=3)
        self.first = tf.keras.layers.Conv2D(6, 5, 4, 'same', kernel_initializer=start)
        self.norm = tf.keras.layers.BatchNormalization(momentum=0.5)
        self.dropped = layers.StatelessDropout(0.2)
        self.last = tf.keras.layers.Conv2D(CLASSES, 1, kernel_initializer=start)
        self(np.zeros([1, CROP, CROP, 3], np.float32))

    def call(self, image, training=False, dropout_seed=None):
        x = tf.nn.relu(self.norm(self.first(image / 255.0), training=training))
        return self.last(self.dropped(x, training=training, seed=dropout_seed))


@pytest.mark.parametrize('replicas', [1, 2])
def test_with_live_batch_norm_and_dropout_the_control_is_one_still(two_replicas, replicas):
    """The discriminator's steps and the diagnostics leave the segmentor's statistics alone."""
    strategy = two_replicas if replicas == 2 else SINGLE
    batch = batch_of(4)
    shares = next(iter(loop.distribute(tf.data.Dataset.from_tensors(batch).unbatch().batch(4),
                                       strategy)))
    found = []
    for phases in (['cross_entropy'] * 2,
                   ['discriminator', 'segmentor', 'discriminator', 'segmentor']):
        with strategy.scope():
            segmentor = Normalised()
            judge = field_of_view.build_fov_discriminator('small_fov_light', CLASSES, seed=2)
            settings = luc.Settings(adversarial_weight=0.0)
            own = optimizers.make_optimizer('sgd', 0.05, 0.9)
            method = (objective.Control(segmentor, own, settings.pixel_loss(()))
                      if 'cross_entropy' in phases else
                      luc.Luc(segmentor, judge, own, optimizers.make_optimizer('sgd', 0.05, 0.9),
                              label_maps.LabelMaps(CLASSES), settings))
        stepper, taken = loop.Stepper(method, strategy), 0
        start = [v.numpy() for v in segmentor.non_trainable_variables]
        for phase in phases:
            seed = np.array([taken, 5], np.int32)
            if phase == 'segmentor':
                stepper(method.gradient_balance, shares, seed)
            stepper(phase, shares, seed)
            taken += phase != 'discriminator'
        found.append([v.numpy() for v in segmentor.variables])
        moved = [not np.array_equal(v, old)
                 for v, old in zip(segmentor.non_trainable_variables, start)]
        assert any(moved)  # the segmentor's own steps do move them
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, atol=2e-6)


@pytest.mark.slow  # test_cross_entropy.py has a fit of every run
def test_fit_takes_the_default_phase():
    method = build(adversarial_weight=0.1)
    method.compile()
    history = method.fit(tf.data.Dataset.from_tensors(batch_of(4)).repeat(5), epochs=4, verbose=0)
    assert history.history['loss/ce'][-1] < history.history['loss/ce'][0]


@pytest.mark.parametrize('binding, text', [
    ('luc.reduction = "average"', 'luc.reduction'),
    ('luc.adversarial_weight = -1.0', 'luc.adversarial_weight = -1.0'),
    ('luc.pixels_per_image = 0', 'luc.pixels_per_image = 0'),
    ('luc.pixels_per_image = "all"', "luc.pixels_per_image = 'all'"),
    ('luc.adversarial_weight = None', 'luc.adversarial_weight = None'),
    ('luc.l2_weight = -1', 'luc.l2_weight = -1: expected a number of at least 0'),
    ('luc.saturating = "no"', "luc.saturating = 'no': expected True or False"),
    ('luc.pixel_sampling = "balancd"', 'Did you mean "balanced"')])
def test_settings_out_of_range_are_told_in_one_line(binding, text):
    configuration.parse([], [binding])
    with pytest.raises(UserError) as caught:
        luc.luc_settings()
    assert text in str(caught.value) and '\n' not in str(caught.value)
