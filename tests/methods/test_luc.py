"""Luc et al.'s steps: equal on one device and two replicas, equations, one trace a phase."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.adversaries import field_of_view
from tf_advseg.adversaries import label_maps
from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.methods import luc
from tf_advseg.models import farabet
from tf_advseg.training import loop
from tf_advseg.training import optimizers

CLASSES, CROP = 4, 33
SINGLE = tf.distribute.OneDeviceStrategy('/cpu:0')


def build(strategy=SINGLE, kind='basic', adversary='small_fov_light', rate=0.05, **settings):
    """A method whose weights depend on nothing but fixed seeds."""
    encoding = label_maps.LabelMaps(CLASSES, kind)
    with strategy.scope():
        segmentor = farabet.farabet(CLASSES, hidden=8, seed=1)
        judge = adversary and field_of_view.build_adversary(
            adversary, CLASSES, encoding.channels, seed=2, last_gain=1.0)
        return luc.Luc(segmentor, judge, optimizers.make_optimizer('sgd', rate, 0.9),
                       judge and optimizers.make_optimizer('sgd', rate, 0.9), encoding, **settings)


def batch_of(size=5, seed=0):
    """Pictures, and labels of large patches with an ignored strip of another width in each."""
    generator = np.random.default_rng(seed)
    label = np.kron(generator.integers(0, CLASSES, (size, 3, 3)), np.ones((1, 11, 11), int))
    for number in range(size):
        label[number, :4 * number] = 255
    return {'image': generator.uniform(0, 255, (size, CROP, CROP, 3)).astype(np.float32),
            'label': label.astype(np.int32)}


def stepped(method, strategy, phases, batch=None):
    """(scalars of the last step, all variables) after steps of some phases on one batch."""
    batch = batch or batch_of()
    dataset = tf.data.Dataset.from_tensors(batch).unbatch().batch(len(batch['image']))
    shares = next(iter(loop.distribute(dataset, strategy)))
    stepper = loop.Stepper(method, strategy)
    for phase in phases:
        outputs = stepper(phase, shares, np.array([1, 2], np.int32))
    networks = [n for n in (method.segmentor, method.adversary) if n is not None]
    return outputs, [v.numpy() for network in networks for v in network.trainable_variables]


@pytest.mark.parametrize('phase, settings', [
    ('segmentor', dict(adversarial_weight=100.0)), ('adversary', {}),
    ('adversary', dict(kind='scaling')), ('segmentor', dict(kind='product', reduction='sum',
                                                            rate=1e-4, adversarial_weight=50.0)),
    ('adversary', dict(adversary='stanford')), ('segmentor', dict(
        adversary='stanford', saturating=True, upsample_logits=True, l2_weight=1e-2,
        reduction='mean', adversarial_weight=20.0)),
    ('cross_entropy', dict(l2_weight=1e-2))])
def test_two_replicas_equal_one_device(two_replicas, phase, settings):
    """Five pictures: the replicas' shares differ in size and in labelled pixels."""
    (one, variables), (two, others) = (
        stepped(build(strategy, **settings), strategy, [phase])
        for strategy in (SINGLE, two_replicas))
    assert one.keys() == two.keys()
    for name in one:
        assert one[name] == pytest.approx(two[name], rel=1e-5, abs=1e-5), name
    start = [v.numpy() for n in (build(**settings).segmentor, build(**settings).adversary)
             for v in n.trainable_variables]
    moved = [np.abs(a - b).max() for a, b in zip(start, variables)]
    assert max(moved) > 1e-3  # the comparison below is not one of standing still
    for a, b in zip(variables, others):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_each_phase_moves_its_own_network_and_the_control_has_one():
    method = build()
    count = len(method.segmentor.trainable_variables)
    start = [v.numpy() for v in (*method.segmentor.trainable_variables,
                                 *method.adversary.trainable_variables)]
    _, after = stepped(method, SINGLE, ['adversary'])
    moved = [not np.array_equal(a, b) for a, b in zip(start, after)]
    assert not any(moved[:count]) and all(moved[count:])
    _, later = stepped(method, SINGLE, ['segmentor'])
    moved = [not np.array_equal(a, b) for a, b in zip(after, later)]
    assert all(moved[:count]) and not any(moved[count:])
    control = build(adversary=None)
    assert set(control.phases) == {'cross_entropy'} and control.default_phase == 'cross_entropy'
    assert set(control.state) == {'segmentor', 'optimizer'}
    assert set(method.state) == {'segmentor', 'optimizer', 'adversary', 'adversary_optimizer'}


def test_without_lambda_the_segmentors_step_is_the_controls():
    _, control = stepped(build(adversary=None), SINGLE, ['cross_entropy'] * 2)
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
    a = {name: 1 / (1 + np.exp(-method.adversary(tf.constant(m, tf.float32)).numpy().astype(
        np.float64))) for name, m in maps.items()}
    return {'ce': ce, 'adv': -np.log(a['fake']), 'printed': np.log(1 - a['fake']),
            'disc': -np.log(a['real']) - np.log(1 - a['fake']),
            'acc_real': (a['real'] > 0.5).mean(), 'acc_fake': (a['fake'] <= 0.5).mean()}


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
    scalars, _ = stepped(build(reduction=reduction), SINGLE, ['adversary'], batch)
    assert scalars['loss/disc'] == pytest.approx(np.mean(expected['disc']), rel=1e-4)
    assert scalars['disc/acc_real'] == pytest.approx(expected['acc_real'], abs=1e-6)
    assert scalars['disc/acc_fake'] == pytest.approx(expected['acc_fake'], abs=1e-6)
    printed, _ = stepped(build(reduction=reduction, saturating=True), SINGLE, ['segmentor'], batch)
    assert printed['loss/adv'] == pytest.approx(ours(expected['printed']), rel=1e-4)


def test_the_adversary_learns_and_the_segmentor_then_fools_it():
    """A few steps of each on one batch: eq. 2 falls, then the adversarial term does."""
    method, rate = build(adversarial_weight=10.0, reduction='mean'), ['adversary']
    first, _ = stepped(method, SINGLE, rate)
    trained, _ = stepped(method, SINGLE, rate * 30)
    assert trained['loss/disc'] < 0.7 * first['loss/disc']
    before, _ = stepped(method, SINGLE, ['segmentor'])
    after, _ = stepped(method, SINGLE, ['segmentor'] * 15)
    assert after['loss/adv'] < 0.8 * before['loss/adv']


def test_a_switch_of_phases_traces_each_once():
    method, traces = build(), []
    for phase in ('segmentor', 'adversary'):
        step = getattr(method, f'{phase}_step')

        def counted(batch, seed, step=step, phase=phase):
            traces.append(phase)
            return step(batch, seed)
        setattr(method, f'{phase}_step', counted)
    stepped(method, SINGLE, ['adversary', 'segmentor'] * 4)
    assert sorted(traces) == ['adversary', 'segmentor']


def test_patch_wise_training_takes_some_pixels_and_balanced_all_classes_alike():
    """Of the pixels of a rare class as many are drawn as of a common one."""
    labels = np.full((1, 200, 200), 0, np.int32)
    labels[0, :20, :100], labels[0, -10:] = 1, 255
    counts = [np.sum(labels == number) for number in (0, 1, 2, 3)]
    batch = {'image': np.zeros((1, 200, 200, 3), np.float32), 'label': labels}
    drawn = {}
    for counts_given in (None, counts):
        taken = []
        for number in range(20):
            chosen = luc.pixel.sampled_labels(
                tf.constant(labels), 400, [number, 7],
                build(class_counts=counts_given).class_weights).numpy()
            assert np.isin(chosen, [0, 1, 255]).all()
            assert ((chosen == labels) | (chosen == 255)).all()
            taken.append([np.sum(chosen == 0), np.sum(chosen == 1)])
        drawn[counts_given is None] = np.mean(taken, 0)
    share = counts[1] / (counts[0] + counts[1])
    assert drawn[True].sum() == pytest.approx(400, rel=0.05)
    assert drawn[True][1] / drawn[True].sum() == pytest.approx(share, rel=0.2)
    np.testing.assert_allclose(drawn[False], [200, 200], rtol=0.1)
    few, _ = stepped(build(pixels_per_picture=5), SINGLE, ['segmentor'], batch)
    every, _ = stepped(build(), SINGLE, ['segmentor'], batch)
    assert np.isfinite(few['loss/ce']) and few['loss/ce'] != every['loss/ce']


def test_fit_takes_the_default_phase():
    method = build(adversarial_weight=0.1)
    method.compile()
    history = method.fit(tf.data.Dataset.from_tensors(batch_of(4)).repeat(5), epochs=4, verbose=0)
    assert history.history['loss/ce'][-1] < history.history['loss/ce'][0]


@pytest.mark.parametrize('binding, text', [
    ('luc.reduction = "average"', 'luc.reduction'),
    ('luc.adversarial_weight = -1.0', 'luc.adversarial_weight = -1.0'),
    ('luc.pixels_per_picture = 0', 'luc.pixels_per_picture = 0'),
    ('luc.pixel_sampling = "balancd"', 'Did you mean "balanced"')])
def test_settings_out_of_range_are_told_in_one_line(binding, text):
    configuration.parse([], [binding])
    with pytest.raises(UserError) as caught:
        luc.luc(None, None, None, None, None)
    assert text in str(caught.value) and '\n' not in str(caught.value)
