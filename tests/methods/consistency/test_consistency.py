"""The consistency step: targets that are cut and mixed as images are, selection, replicas."""
import numpy as np
import one_layer
import pytest
import steps
import tensorflow as tf

from tf_advseg.adversaries import fully_convolutional
from tf_advseg.adversaries import label_maps
from tf_advseg.methods.consistency import consistency
from tf_advseg.methods.consistency import consistency_settings
from tf_advseg.methods.hung import hung
from tf_advseg.models import layers
from tf_advseg.models import resize
from tf_advseg.training import optimizers

CLASSES, HEIGHT, WIDTH, STEPS = 4, 34, 41, 8
SINGLE = tf.distribute.OneDeviceStrategy('/cpu:0')
SEED = np.array([1, 2], np.int32)
LABELLED = np.array([True, False, False, True, False])
GRID = ((HEIGHT - 1) // 2 + 1, (WIDTH - 1) // 2 + 1)


class LiveNorm(one_layer.OneLayer):
    """The smallest segmentor behind a convolution whose batch norm is trained."""

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.first = layers.Convolution('first', 3, 3, norm=layers.Norm(1e-3, 0.6), seed=2)

    def call(self, image, training=False):
        return super().call(255.0 * self.first(
            image / 255.0, mode=layers.LIVE if training else layers.INFERENCE))


def build(strategy=SINGLE, rate=1.0, network=one_layer.OneLayer, **settings):
    """A method of fixed weights and plain SGD; the teacher's are other than the student's."""
    settings = consistency_settings.consistency(**{'map_stride': 2, 'ramp_up': 0, 'decay': 0.5,
                                                   **settings})
    with strategy.scope():
        student, teacher, judge = network(CLASSES), network(CLASSES), None
        random = np.random.default_rng(5)
        if settings.needs_discriminator:
            judge = fully_convolutional.build_fc_discriminator(CLASSES, 'pixel', (4, 5), seed=2,
                                                               map_size=GRID)
            for variable in judge.trainable_variables:
                variable.assign(random.normal(size=variable.shape) * 0.4)
            judge.last.kernel.assign(judge.last.kernel * 2.5)  # decisions on both sides
            judge.last.bias.assign([2.7])
        for variable in [*student.trainable_variables, *teacher.trainable_variables]:
            variable.assign(random.normal(size=variable.shape))
        own, other = (optimizers.make_optimizer('sgd', rate) for _ in range(2))
        return consistency.Consistency(student, teacher, judge, own, other,
                                       label_maps.LabelMaps(CLASSES, 'basic'), settings, STEPS)


def make_batch():
    """Five rows, three of them unlabelled, with padding, and boxes of the next in two."""
    random = np.random.default_rng(7)
    shape = (len(LABELLED), HEIGHT, WIDTH)
    image, plain = (random.uniform(0, 255, (*shape, 3)).astype(np.float32) for _ in range(2))
    label = random.integers(0, CLASSES, shape).astype(np.int32)
    label[~LABELLED] = 255
    plain_valid = np.ones(shape, bool)
    plain_valid[1, 20:], plain_valid[4, :, 30:] = False, False
    cut = np.zeros(shape, bool)
    cut[1, :16, :20], cut[4, 10:, 12:] = True, True
    following = np.array([0, 2, 4, 3, 1], np.int32)
    return {'image': image, 'plain': plain, 'label': label, 'labeled': LABELLED, 'cut': cut,
            'next': following, 'plain_valid': plain_valid,
            'valid': np.where(cut, plain_valid[following], plain_valid)}


def tensors(batch):
    return {name: tf.constant(part) for name, part in batch.items()}


def softmax(values):
    values = np.exp(values - values.max(-1, keepdims=True))
    return values / values.sum(-1, keepdims=True)


def reference(method, batch, chosen_of):
    """(the teacher's logits, the selected points) of every row at the points, by NumPy."""
    def at_points(array):
        return array[:, ::2, ::2]
    logits = method.teacher.network(batch['plain']).numpy()  # stride 2: the points themselves
    chosen = chosen_of(logits) & at_points(batch['plain_valid']) & ~LABELLED[:, None, None]
    box = at_points(batch['cut'])
    mixed = np.where(box[..., None], logits[batch['next']], logits)
    return mixed, np.where(box, chosen[batch['next']], chosen)


def by_softmax(threshold):
    return lambda logits: softmax(logits).max(-1) > threshold


@pytest.mark.parametrize('settings, chosen_of', [
    ({'selection': 'all'}, lambda logits: np.ones(logits.shape[:3], bool)),
    ({'threshold': 0.5}, by_softmax(0.5)),
    ({'threshold': 0.5, 'normaliser': 'selected'}, by_softmax(0.5)),
    ({'threshold': 0.5, 'soft_targets': True}, by_softmax(0.5)),
    ({'threshold': 0.5, 'cutmix': 0.0}, by_softmax(0.5))])
def test_the_term_is_what_the_docstring_says(settings, chosen_of):
    method, batch = build(weight=0.7, **settings), make_batch()
    if settings.get('cutmix') == 0.0:
        batch['cut'][:] = False
        batch['valid'] = batch['plain_valid']
    targets, chosen = reference(method, batch, chosen_of)
    own = method.segmentor(batch['image']).numpy()
    target = softmax(targets) if settings.get('soft_targets') else np.eye(CLASSES)[
        targets.argmax(-1)]
    losses = -(target * np.log(softmax(own))).sum(-1)
    others = batch['valid'][:, ::2, ::2] & ~LABELLED[:, None, None]
    by = chosen.sum() if settings.get('normaliser') == 'selected' else others.sum()
    scalars = method.semi_supervised_step(tensors(batch), SEED)
    assert float(scalars['loss/consistency']) == pytest.approx(
        (losses * chosen).sum() / by, rel=1e-4)
    assert float(scalars['consistency/selected']) == pytest.approx(
        chosen.sum() / others.sum(), rel=1e-5)
    agree = (own.argmax(-1) == targets.argmax(-1)) & chosen
    assert float(scalars['consistency/agreement']) == pytest.approx(
        agree.sum() / chosen.sum(), rel=1e-5)
    assert float(scalars['loss/total']) - float(scalars['loss/ce']) - 0.7 * float(
        scalars['loss/consistency']) == pytest.approx(
        1e-4 / 2 * float(np.square(start_kernel()).sum()), rel=1e-2)


@pytest.mark.parametrize('seed', [(1, 2), (5, 6)])
def test_classes_are_moved_with_their_targets(seed):
    """Half of those that the teacher names, by NumPy; but for the draw itself, which has tests."""
    method, batch = build(selection='all', cutmix=0.0, classmix=1.0), make_batch()
    batch['valid'], batch['cut'] = batch['plain_valid'], np.zeros_like(batch['cut'])
    named = resize.resize_bilinear(method.teacher.network(batch['plain']),
                                   (HEIGHT, WIDTH)).numpy().argmax(-1)
    counted = batch['plain_valid'] & ~LABELLED[:, None, None]
    present = np.array([[(named[row][counted[row]] == number).any() for number in range(CLASSES)]
                        for row in range(len(named))])
    chosen = method.consistency.two_views.drawn(present, seed).numpy()
    given = np.take_along_axis(chosen, named.reshape(len(named), -1), 1).reshape(named.shape)
    cut = (given & counted)[batch['next']]
    mixed = method.with_classes_mixed(tensors(batch), seed)
    np.testing.assert_array_equal(mixed['cut'], cut)
    assert not cut[LABELLED].any() and 0.1 < cut[~LABELLED].mean() < 0.9
    batch.update(cut=cut, valid=batch['valid'] | cut, image=np.where(
        cut[..., None], batch['image'][batch['next']], batch['image']))
    np.testing.assert_array_equal(mixed['image'], batch['image'])
    np.testing.assert_array_equal(mixed['valid'], batch['valid'])

    def at_points(mask):
        return label_maps.labels_at(tf.cast(mask, tf.int32), GRID).numpy() > 0
    logits, box = method.teacher.network(batch['plain']).numpy(), at_points(cut)
    targets = np.where(box[..., None], logits[batch['next']], logits).argmax(-1)
    chosen, others = (at_points(batch[name]) & ~LABELLED[:, None, None]
                      for name in ('plain_valid', 'valid'))
    chosen = np.where(box, chosen[batch['next']], chosen)
    losses = -np.log((softmax(method.segmentor(batch['image']).numpy()) * np.eye(CLASSES)[
        targets]).sum(-1))
    plain = {**batch, 'image': make_batch()['image'], 'valid': batch['plain_valid']}
    scalars = method.semi_supervised_step(tensors(plain), np.array(seed, np.int32))
    assert float(scalars['loss/consistency']) == pytest.approx(
        (losses * (chosen & others)).sum() / others.sum(), rel=1e-4)


def test_class_mix_is_left_out_of_what_older_runs_are_recognised_by():
    assert 'classmix' not in build().identity['consistency']
    named = build(cutmix=0.0, classmix=0.5)
    assert named.identity['consistency']['classmix'] == 0.5
    assert 'half of the classes of another one' in named.about
    assert 'half of the classes' not in build().about


def start_kernel():
    return build().segmentor.logits.kernel.numpy()


def taught(method, batch, seed=SEED):
    return method.taught(tf.constant(batch['plain']), tf.constant(batch['plain_valid']), seed)


def test_points_drawn_are_a_share_and_others_at_each_step():
    method, batch = build(selection='random', share=0.3), make_batch()
    points = batch['plain_valid'][:, ::2, ::2]
    (_, one), (_, same), (_, other) = (taught(method, batch, np.array([step, 2], np.int32))
                                       for step in (1, 1, 3))
    np.testing.assert_array_equal(one, same)
    assert (one.numpy() != other.numpy()).any() and not (one.numpy() & ~points).any()
    assert abs(one.numpy().sum() / points.sum() - 0.3) < 0.06  # 5 standard deviations


@pytest.mark.parametrize('selection', ['discriminator', 'softmax+discriminator'])
def test_the_discriminators_most_convincing_share(selection):
    batch = make_batch()
    points = batch['plain_valid'][:, ::2, ::2]
    logits, chosen = taught(build(selection=selection, threshold=0.4, discriminator_share=0.3)
                            if '+' in selection else
                            build(selection=selection, discriminator_share=0.3), batch)
    judge = build(selection='discriminator', discriminator_share=0.3)
    _, by_disc = taught(judge, batch)
    counts = by_disc.numpy().sum((1, 2))
    np.testing.assert_array_equal(counts, np.round(0.3 * points.sum((1, 2))))
    sure = softmax(logits.numpy()).max(-1) > (0.4 if '+' in selection else 0)
    np.testing.assert_array_equal(chosen, by_disc.numpy() & sure)
    assert chosen.numpy().any()


def test_as_many_by_softmax_as_the_discriminator_takes():
    batch = make_batch()
    (_, by_disc), (logits, by_softmax) = (
        taught(build(selection=selection, discriminator_threshold=0.5), batch)
        for selection in ('discriminator', 'as_many_by_softmax'))
    counts = by_disc.numpy().sum((1, 2))
    np.testing.assert_array_equal(by_softmax.numpy().sum((1, 2)), counts)
    assert (by_disc.numpy() != by_softmax.numpy()).any() and counts.min() > 0
    certainty = softmax(logits.numpy()).max(-1)
    points = batch['plain_valid'][:, ::2, ::2]
    for sure, chosen, valid in zip(certainty, by_softmax.numpy(), points):
        assert sure[chosen].min() >= sure[valid & ~chosen].max()


def test_a_discriminator_that_learns_from_the_teachers_maps():
    """Its loss is of D on truths and on the teacher's maps of the labelled rows' plain views."""
    batch = make_batch()
    batch['plain_valid'][LABELLED] = batch['label'][LABELLED] != 255
    losses = {}
    for fakes in ('labelled', 'teacher'):
        method = build(selection='discriminator', discriminator_threshold=0.5,
                       discriminator_fakes=fakes)
        scalars = method.semi_supervised_step(tensors(batch), SEED)
        losses[fakes] = {name: float(scalars[name]) for name in ('loss/disc', 'loss/ce')}
    method = build(selection='discriminator', discriminator_threshold=0.5)
    maps = softmax(method.teacher.network(batch['plain']).numpy())[LABELLED]
    at_points = label_maps.labels_at(tf.constant(batch['label'][LABELLED]), GRID).numpy()
    truths = np.eye(CLASSES, dtype=np.float32)[at_points]
    fake, real = (method.discriminator(shown.astype(np.float32)).numpy()
                  for shown in (maps, truths))
    expected = 0.5 * (np.log1p(np.exp(-real)).mean() + np.log1p(np.exp(fake)).mean())
    assert losses['teacher']['loss/disc'] == pytest.approx(expected, rel=1e-4)
    assert losses['labelled']['loss/disc'] != pytest.approx(expected, rel=1e-2)
    assert losses['labelled']['loss/ce'] == losses['teacher']['loss/ce']


def test_without_an_adversarial_weight_there_is_no_such_term():
    method = build(selection='discriminator', discriminator_threshold=0.5)
    scalars = method.semi_supervised_step(tensors(make_batch()), SEED)
    assert 'loss/adv' not in scalars and 'loss/disc' in scalars
    with_it = build(selection='all', adversarial_weight=0.1)
    assert with_it.settings.unlabelled_adversarial_weight == pytest.approx(0.01)
    assert 'loss/adv_unlabelled' in with_it.semi_supervised_step(tensors(make_batch()), SEED)


def test_a_sum_is_a_sum_in_every_term():
    batch = tensors(make_batch())
    mean, total = (build(threshold=0.5, reduction=kind).semi_supervised_step(batch, SEED)
                   for kind in ('mean', 'sum'))
    others = (make_batch()['valid'][:, ::2, ::2] & ~LABELLED[:, None, None]).sum()
    assert float(total['loss/consistency']) == pytest.approx(
        float(mean['loss/consistency']) * others, rel=1e-4)


def test_a_share_of_each_image_is_selected():
    method, batch = build(selection='share', share=0.25), make_batch()
    _, chosen = taught(method, batch)
    points = batch['plain_valid'][:, ::2, ::2]
    np.testing.assert_array_equal(chosen.numpy().sum((1, 2)),
                                  np.round(0.25 * points.sum((1, 2))))
    assert not (chosen.numpy() & ~points).any()


@pytest.mark.parametrize('selection', ['discriminator', 'softmax+discriminator'])
def test_the_discriminator_judges_the_teachers_maps_of_the_plain_views(selection):
    settings = {'threshold': 0.45} if '+' in selection else {}
    batch = make_batch()
    method = build(selection=selection, discriminator_threshold=0.5, **settings)
    logits, chosen = taught(method, batch)
    points = batch['plain_valid'][:, ::2, ::2]
    maps = softmax(logits.numpy()) * points[..., None]
    expected = (method.discriminator(maps.astype(np.float32)).numpy() > 0) & points
    if '+' in selection:
        expected &= softmax(logits.numpy()).max(-1) > 0.45
    np.testing.assert_array_equal(chosen, expected)
    assert 0.05 < chosen.numpy()[points].mean() < 0.95


def test_no_gradient_reaches_the_teacher_and_it_follows_after_the_update():
    method, batch = build(selection='all'), tensors(make_batch())
    before = [v.numpy() for v in method.teacher.network.trainable_variables]
    method.optimizer.iterations.assign(7)  # past the first steps, in which the decay is smaller
    method.semi_supervised_step(batch, SEED)
    for was, now, student in zip(before, method.teacher.network.trainable_variables,
                                 method.segmentor.trainable_variables):
        np.testing.assert_allclose(now, 0.5 * was + 0.5 * student.numpy(), rtol=1e-5, atol=1e-6)
        assert np.abs(student.numpy() - was).max() > 1e-3


def test_the_term_moves_neither_teacher_nor_discriminator():
    method, batch = build(selection='discriminator', discriminator_threshold=0.5), tensors(
        make_batch())
    watched = [*method.teacher.network.trainable_variables,
               *method.discriminator.trainable_variables]
    with tf.GradientTape() as tape:
        logits = method.logits(batch, SEED)
        found, _, _ = method._joint_terms(batch, logits, SEED, True, True)
        term = found['consistency'][1]
    own, *others = tape.gradient(term, [method.segmentor.logits.kernel, *watched])
    assert np.abs(own).max() > 1e-4 and others == [None] * len(watched)


def test_the_first_step_makes_the_teacher_the_student():
    method = build(decay=0.99)
    method.supervised_step(tensors(make_batch()), SEED)
    for teacher, student in zip(method.teacher.network.variables, method.segmentor.variables):
        np.testing.assert_allclose(teacher, student, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('settings', [
    {'selection': 'all'}, {'threshold': 0.5, 'normaliser': 'selected'},
    {'selection': 'all', 'cutmix': 0.0, 'classmix': 0.7},
    {'selection': 'share', 'share': 0.4, 'reduction': 'sum', 'weight': 1e-3, 'l2_weight': 0.0},
    {'selection': 'share_of_classes', 'share': 0.4, 'reduction': 'sum', 'weight': 1e-3,
     'l2_weight': 0.0},
    {'selection': 'softmax+discriminator', 'threshold': 0.45, 'discriminator_threshold': 0.5,
     'discriminator_fakes': 'teacher'},
    {'selection': 'as_many_by_softmax', 'discriminator_threshold': 0.5},
    {'selection': 'discriminator', 'discriminator_share': 0.4},
    {'selection': 'discriminator', 'discriminator_threshold': 0.5, 'adversarial_weight': 0.1,
     'unlabelled_adversarial_weight': 0.05, 'discriminator_fakes': 'all'}])
def test_two_replicas_are_one_device(two_replicas, settings):
    """The next image of a row may lie on the other replica, and a replica may have few rows."""
    ends = []
    for strategy in (SINGLE, two_replicas):
        method = build(strategy, **settings)
        scalars = steps.take(method, strategy, make_batch(), [hung.SEMI] * 2)
        ends.append((scalars, [v.numpy() for network in (method.segmentor, method.teacher.network)
                               for v in network.trainable_variables]))
    (one, ours), (two, theirs) = ends
    for before, after in zip(one, two):
        assert before.keys() == after.keys()
        for name, value in before.items():
            assert value == pytest.approx(after[name], rel=1e-3, abs=1e-5), name
    for mine, its in zip(ours, theirs):
        np.testing.assert_allclose(mine, its, rtol=1e-3, atol=1e-4)


def test_a_replica_without_unlabelled_rows(two_replicas):
    batch, order = make_batch(), [0, 3, 0, 1, 4]  # the first replica has labelled rows alone
    batch = {name: part[order] for name, part in batch.items()}
    batch['next'] = np.array([0, 1, 2, 4, 3], np.int32)
    found = [steps.take(build(strategy, selection='all'), strategy, batch, [hung.SEMI])[0]
             for strategy in (SINGLE, two_replicas)]
    for name, value in found[0].items():
        assert value == pytest.approx(found[1][name], rel=1e-4, abs=1e-5), name


def test_batch_norm_that_is_trained_is_of_both_kinds_of_strong_views_and_the_teacher_follows(
        two_replicas):
    """Moved by the whole batch's images once, on one device and on two replicas; no plain view
    moves it, and what the teacher predicts with is the average."""
    batch, ends = make_batch(), []
    for strategy in (SINGLE, two_replicas):
        method = build(strategy, rate=0.01, network=LiveNorm, selection='all')
        method.optimizer.iterations.assign(7)  # past the first steps, in which the decay is smaller
        student, teacher = method.segmentor.first, method.teacher.network.first
        values = (batch['image'].reshape(-1, 3) / 255.0) @ student.kernel.numpy()[0, 0]
        was = {name: getattr(teacher.norm, name).numpy()
               for name in ('moving_mean', 'moving_variance')}
        steps.take(method, strategy, batch, [hung.SEMI])
        expected = {'moving_mean': 0.4 * values.mean(0),
                    'moving_variance': 0.6 + 0.4 * values.var(0, ddof=1)}
        for name, value in expected.items():
            np.testing.assert_allclose(getattr(student.norm, name).numpy(), value, rtol=1e-4,
                                       atol=1e-5)
            np.testing.assert_allclose(getattr(teacher.norm, name).numpy(),
                                       0.5 * was[name] + 0.5 * value, rtol=1e-4, atol=1e-5)
        ends.append([v.numpy() for v in method.teacher.network.variables])
    for mine, its in zip(*ends):
        np.testing.assert_allclose(mine, its, rtol=1e-3, atol=1e-4)


def test_unlabelled_rows_give_nothing_before_their_start():
    method, batch = build(selection='all'), make_batch()
    ends = []
    for labels_alone in (False, True):
        method = build(selection='all')
        given = {name: part[LABELLED] if labels_alone else part for name, part in batch.items()}
        method.supervised_step(tensors(given), SEED)
        ends.append([v.numpy() for v in method.segmentor.trainable_variables])
    for mine, its in zip(*ends):
        np.testing.assert_allclose(mine, its, rtol=1e-4, atol=1e-5)


def test_the_weight_rises_from_the_start():
    method = build(ramp_up=4, start=2)
    for done, expected in ((2, np.exp(-5)), (4, np.exp(-1.25)), (6, 1.0)):
        method.optimizer.iterations.assign(done)
        scalars = method.semi_supervised_step(tensors(make_batch()), SEED)
        assert float(scalars['consistency/weight']) == pytest.approx(expected, rel=1e-5)
