"""Hung et al.'s joint step: each loss and mask, gradients, order of updates, two replicas."""
import numpy as np
import one_layer
import plain_hung
import pytest
import steps
import tensorflow as tf

from tf_advseg.adversaries import fully_convolutional
from tf_advseg.adversaries import label_maps
from tf_advseg.methods import objective
from tf_advseg.methods.hung import confidence_maps
from tf_advseg.methods.hung import hung
from tf_advseg.methods.hung import hung_settings
from tf_advseg.training import optimizers

CLASSES, HEIGHT, WIDTH, STEPS = 4, 34, 41, 8
BIAS = 2.7
SINGLE = tf.distribute.OneDeviceStrategy('/cpu:0')
SEED = np.array([1, 2], np.int32)
PHASES = (hung.SUPERVISED, hung.ADVERSARIAL, hung.SEMI)
# Large weights of the small terms, so that tests see them.
LOUD = {'adversarial_weight': 0.5, 'unlabelled_adversarial_weight': 0.3, 'semi_weight': 0.7,
        'l2_weight': 0.02}


def build(kind='pixel', strategy=SINGLE, rates=(1.0, 1.0), scaling=False, **settings):
    """A method of fixed weights and plain SGD; kind None for no discriminator."""
    settings = hung_settings.hung(**{**LOUD, 'map_stride': 2, **settings})
    with strategy.scope():
        segmentor, judge = one_layer.OneLayer(CLASSES), None
        random = np.random.default_rng(5)
        if kind:
            stride = settings.map_stride
            judge = fully_convolutional.build_fc_discriminator(
                CLASSES, kind, (4, 5), seed=2,
                map_size=((HEIGHT - 1) // stride + 1, (WIDTH - 1) // stride + 1))
            for variable in judge.trainable_variables:
                variable.assign(random.normal(size=variable.shape) * 0.4)
            # Decisions on both sides of every threshold.
            judge.last.kernel.assign(judge.last.kernel * 2.5)
            judge.last.bias.assign([BIAS])
        for variable in segmentor.trainable_variables:
            variable.assign(random.normal(size=variable.shape))
        encoding = label_maps.LabelMaps(CLASSES, 'scaling' if scaling else 'basic')
        own, other = (optimizers.make_optimizer('sgd', rate) for rate in rates)
        return hung.Hung(segmentor, judge, own, other, encoding, settings, STEPS)


def make_images(labelled=(True, False, True, False, True)):
    """Images of bands; labelled ones with void, others with padding below and at the right."""
    random = np.random.default_rng(7)
    shape = (len(labelled), HEIGHT, WIDTH)
    label, truth = (random.integers(0, CLASSES, (len(labelled), 7, 7)).repeat(6, 1).repeat(6, 2)[
        :, :HEIGHT, :WIDTH].astype(np.int32) for _ in range(2))
    valid = np.ones(shape, bool)
    for row, known in enumerate(labelled):
        label[row, :5 * row], truth[row, :, :3 * row] = 255, 255
        if not known:
            label[row] = truth[row] = 255
            valid[row, 30 - 3 * row:], valid[row, :, 36:] = False, False
        else:
            valid[row] = label[row] != 255
    image = random.uniform(0, 255, (len(labelled), 5, 6, 3)).repeat(7, 1).repeat(7, 2)
    image = image[:, :HEIGHT, :WIDTH] + random.normal(size=(*shape, 3)) * 20
    return {'image': image.astype(np.float32), 'label': label, 'truth': truth, 'valid': valid,
            'labeled': np.array(labelled)}


def weights(method):
    """(the segmentor's, the discriminator's) as arrays."""
    return [[v.numpy() for v in network.trainable_variables] if network else []
            for network in (method.segmentor, getattr(method, 'discriminator', None))]


def take(method, phase, batch):
    """One step, eagerly: dict of floats."""
    scalars = method.phases[phase]({k: tf.constant(v) for k, v in batch.items()}, SEED)
    return {name: float(value) for name, value in scalars.items()}


def plain(phase, batch, kind='pixel', scaling=False, **settings):
    """The reference of what `build` makes."""
    return plain_hung.Step(batch, phase, CLASSES, kind, scaling,
                           **{**LOUD, 'map_stride': 2, **settings})


def require_same(scalars, reference, start):
    """All that a step tells is what the reference says."""
    expected = reference.segmentor_loss(*start)[1]
    if reference.kind:
        expected.update(reference.discriminator_loss(*start)[1])
    extra = {'weights/norm', 'adv/weight'} if reference.kind else {'weights/norm'}
    assert scalars.keys() == expected.keys() | extra
    for name, value in expected.items():
        assert scalars[name] == pytest.approx(value, rel=2e-5, abs=1e-6), name


@pytest.mark.parametrize('phase, settings', [
    *((phase, {}) for phase in PHASES), (hung.SEMI, {'map_stride': 1}),
    (hung.SEMI, {'reduction': 'sum'}), (hung.SEMI, {'semi_normaliser': 'selected'}),
    *((phase, {'discriminator_fakes': 'all', 'independent_ground_truth': True})
      for phase in PHASES),
    (hung.SEMI, {'mask_predictions': False}), (hung.SEMI, {'threshold': 0.0}),
    (hung.SEMI, {'threshold': 1.0}), (hung.SEMI, {'threshold': 0.5}),
    (hung.SEMI, {'selected_by': 'as_many_by_softmax'}),
    (hung.SEMI, {'terms': 'semi', 'semi_normaliser': 'selected', 'reduction': 'sum'}),
    (hung.SEMI, {'scaling': True}), (hung.SUPERVISED, {'kind': 'image'}),
    (hung.ADVERSARIAL, {'kind': 'image', 'reduction': 'sum', 'discriminator_fakes': 'all'}),
    (hung.SEMI, {'kind': None, 'terms': 'self_training'}),
    (hung.SEMI, {'kind': None, 'terms': 'self_training', 'self_training_by': 'threshold',
                 'self_training_threshold': 0.8, 'semi_normaliser': 'selected'}),
    (hung.SEMI, {'mask_predictions': False, 'discriminator_fakes': 'all',
                 'independent_ground_truth': True, 'semi_normaliser': 'selected',
                 'early_out': True})])
def test_every_loss_is_the_papers(phase, settings):
    batch, method = make_images(), build(**settings)
    reference, start = plain(phase, batch, **settings), weights(method)
    scalars = take(method, phase, batch)
    require_same(scalars, reference, start)
    if phase == hung.SEMI:
        share = {0.0: 1.0, 1.0: 0.0}.get(settings.get('threshold'))
        assert scalars['semi/selected'] == share if share is not None else (
            0.01 < scalars['semi/selected'] < 0.99)


@pytest.mark.parametrize('settings', [
    {'semi_normaliser': 'selected', 'discriminator_fakes': 'all'}, {'mask_predictions': False},
    {'kind': None, 'terms': 'self_training'}, {'adversarial_limit': 0.5, 'early_out': True}])
@pytest.mark.parametrize('lacking', ['labels', 'labelled', 'unlabelled', 'anything'])
def test_what_is_lacking_gives_nothing_and_stays_finite(lacking, settings):
    """No label in labelled images, none of these, none of the others, padding everywhere."""
    batch = make_images({'labelled': (False,) * 3, 'unlabelled': (True,) * 3}.get(
        lacking, (True, False, True)))
    if lacking in ('labels', 'anything'):
        for name in ('label', 'truth'):
            batch[name][:] = 255
        batch['valid'][batch['labeled'] if lacking == 'labels' else slice(None)] = False
    method = build(**{'rates': (1e-3, 1e-3), **settings})
    start = weights(method)
    scalars = take(method, hung.SEMI, batch)
    if 'adversarial_limit' not in settings:
        require_same(scalars, plain(hung.SEMI, batch, **settings), start)
    if lacking != 'unlabelled':
        assert scalars['loss/ce'] == 0.0 and scalars.get('loss/adv', 0.0) == 0.0
    elif method.discriminator:
        assert scalars['loss/adv_unlabelled'] == scalars['loss/semi'] == 0.0
    for value in (*scalars.values(), *map(np.sum, sum(weights(method), []))):
        assert np.isfinite(value)
    if lacking == 'anything' and settings.get('mask_predictions', True):
        for before, after in zip(start[1], weights(method)[1]):
            np.testing.assert_array_equal(before, after)


def require_moved(method, start, reference, rates=(1.0, 1.0), multiplier=1.0, places=6):
    """Both networks went down the slopes of their losses at `start`, by finite differences.

    L_semi's target and mask are held: they are constants of the step.
    """
    _, grid = reference.predicted(start[0])
    others = reference.masks(grid.shape[1:3])[1]
    z = reference.judge(reference.fakes(grid), start[1]) if reference.kind else None
    held = reference.chosen(grid, z, others) if reference.semi else None
    losses = (lambda own: reference.segmentor_loss(own, start[1], held)[0],
              lambda own: reference.discriminator_loss(start[0], own)[0])
    random, found, expected = np.random.default_rng(1), [], []
    for network, (before, after, loss) in enumerate(zip(start, weights(method), losses)):
        for which, array in enumerate(before):
            for flat in random.permutation(array.size)[:places]:
                place = np.unravel_index(flat, array.shape)
                moved = (float(before[which][place]) - float(after[which][place]))
                found.append(moved / (rates[network] * (1.0 if network else multiplier)))
                expected.append(plain_hung.slope(loss, before, (which, *place)))
    assert np.abs(expected).max() > 1e-2
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=3e-6 / min(1.0, *rates))


@pytest.mark.parametrize('phase, settings', [
    (hung.SUPERVISED, {}), (hung.SUPERVISED, {'kind': 'image'}),
    (hung.ADVERSARIAL, {'discriminator_fakes': 'all', 'independent_ground_truth': True}),
    (hung.SEMI, {}), (hung.SEMI, {'semi_normaliser': 'selected', 'mask_predictions': False}),
    (hung.SEMI, {'terms': 'semi', 'threshold': 0.4}), (hung.SEMI, {'scaling': True}),
    (hung.SEMI, {'kind': None, 'terms': 'self_training'})])
def test_both_networks_go_down_the_slopes_of_before_the_step(phase, settings):
    """Section 5, jointly: the segmentor is judged by D, D learns of predictions, as they were."""
    method, batch = build(**settings), make_images()
    reference, start = plain(phase, batch, **settings), weights(method)
    take(method, phase, batch)
    require_moved(method, start, reference)
    if reference.kind and 'adv' in reference.s['terms']:  # and another order would be seen
        after, place = weights(method), (0, 0, 0, 1, 2)
        ends = [plain_hung.slope(lambda own, d=d: reference.segmentor_loss(own, d)[0], start[0],
                                 place) for d in (start[1], after[1])]
        assert abs(ends[0] - ends[1]) > 1e-3


@pytest.mark.parametrize('still', [0, 1])
def test_a_network_whose_rate_is_0_stays_to_the_bit(still):
    method = build(rates=(0.0, 1.0) if still == 0 else (1.0, 0.0))
    start = weights(method)
    take(method, hung.SEMI, make_images())
    after = weights(method)
    assert all(map(np.array_equal, start[still], after[still]))
    assert not any(map(np.array_equal, start[1 - still], after[1 - still]))


def test_the_self_taught_loss_has_no_gradient_in_the_discriminator_and_the_target():
    method, batch = build(), {k: tf.constant(v) for k, v in make_images().items()}
    judge = method.discriminator.trainable_variables
    with tf.GradientTape(persistent=True) as tape:
        raw = tf.identity(method.segmentor(batch['image']))
        tape.watch(raw)
        grid, _, others = method.points(batch, raw)
        z = method.discriminator(method.fake_maps(batch, raw), training=True)
        selected = method.selected(grid, z, others, SEED)
        loss, share = method.semi_loss(grid, selected, others)
    assert 0 < share < 1 and tape.gradient(loss, judge) == [None] * len(judge)
    s = plain_hung.softmax(grid.numpy().astype(np.float64))
    expected = (s - np.eye(CLASSES)[s.argmax(-1)]) * selected.numpy()[..., None]
    np.testing.assert_allclose(tape.gradient(loss, grid), expected / others.numpy().sum(),
                               atol=1e-8)


def test_the_control_learns_from_cross_entropy_and_its_last_layer_faster():
    batch = make_images()
    for multiplier in (1.0, 10.0):
        method = build(None, rates=(0.1, 0.1), classifier_multiplier=multiplier)
        control = objective.Control(method.segmentor, optimizers.make_optimizer('sgd', 0.1),
                                    method.settings.pixel_loss)
        start = weights(control)
        scalars = take(control, 'cross_entropy', batch)
        reference = plain(hung.SUPERVISED, batch, None)
        assert scalars['loss/ce'] == pytest.approx(reference.segmentor_loss(*start)[1]['loss/ce'])
        require_moved(control, start, reference, (0.1, 0.1), multiplier)
    assert control.identity.keys() == {'pixel_loss'}


def test_the_multiplier_is_on_the_last_layers_gradient_decay_included():
    batch, method = make_images(), build(rates=(0.1, 1.0), classifier_multiplier=10.0)
    assert 10.0 in method.multipliers and build().multipliers is None
    start = weights(method)
    take(method, hung.SEMI, batch)
    require_moved(method, start, plain(hung.SEMI, batch), (0.1, 1.0), 10.0)


def adversarial_norms(method, batch):
    """Norms in the segmentor's logits of L_ce's gradient, and of both weighted L_adv's."""
    batch = {k: tf.constant(v) for k, v in batch.items()}
    with tf.GradientTape(persistent=True) as tape:
        raw = tf.identity(method.segmentor(batch['image']))
        tape.watch(raw)
        ce = method.cross_entropy(raw, batch, SEED)
        _, labelled, others = method.points(batch, raw)
        z = method.discriminator(method.fake_maps(batch, raw))
        adv = sum(weight * tf.reduce_mean(tf.boolean_mask(-tf.math.log_sigmoid(z), points))
                  for weight, points in ((LOUD['adversarial_weight'], labelled),
                                         (LOUD['unlabelled_adversarial_weight'], others)))
    return [float(tf.norm(tape.gradient(loss, raw))) for loss in (ce, adv)]


@pytest.mark.parametrize('share', [0.25, 4.0])
def test_the_adversarial_gradient_is_kept_within_its_limit(share):
    """A limit at `share` of what there is: scaled down to it, or untouched below it."""
    batch = make_images()
    ce, adv = adversarial_norms(build(), batch)
    method = build(adversarial_limit=share * adv / ce)
    start, scalars = weights(method), take(method, hung.SEMI, batch)
    factor = min(1.0, share)
    assert scalars['adv/weight'] == pytest.approx(factor * LOUD['adversarial_weight'], rel=1e-4)
    scaled = {name: factor * LOUD[name] for name in LOUD if 'adversarial' in name}
    require_moved(method, start, plain(hung.SEMI, batch, **scaled))


def test_lambda_decays_over_the_steps_of_the_training():
    batch, method = make_images(), build(rates=(0.0, 0.0), adversarial_decay='poly')
    for step in range(STEPS + 1):
        factor = max(1 - step / STEPS, 0) ** 0.9
        start, scalars = weights(method), take(method, hung.SEMI, batch)
        assert scalars['adv/weight'] == pytest.approx(factor * LOUD['adversarial_weight'])
        scaled = {name: factor * LOUD[name] for name in LOUD if 'adversarial' in name}
        if step in (0, 3, STEPS):
            require_same(scalars, plain(hung.SEMI, batch, **scaled), start)


def test_the_early_out_drops_the_adversarial_term_where_nothing_is_selected():
    """The published code's bug; only where L_semi is on, and only with it."""
    batch, totals = make_images(), {}
    for early in (False, True):
        for phase, threshold in ((hung.SEMI, 1.0), (hung.SEMI, 0.2), (hung.ADVERSARIAL, 1.0)):
            method = build(early_out=early, threshold=threshold)
            start = weights(method)
            totals[early, phase, threshold] = take(method, phase, batch)
            if threshold == 1.0:
                require_moved(method, start, plain(phase, batch, early_out=early,
                                                   threshold=threshold), places=2)
    dropped = totals[False, hung.SEMI, 1.0]['loss/total'] - totals[True, hung.SEMI, 1.0][
        'loss/total']
    assert dropped == pytest.approx(0.3 * totals[True, hung.SEMI, 1.0]['loss/adv_unlabelled'],
                                    rel=1e-4)
    off = dict(early_out=True, threshold=1.0, semi_weight=0.0)
    kept = take(build(**off), hung.SEMI, batch)['loss/total']
    assert kept == pytest.approx(totals[False, hung.SEMI, 1.0]['loss/total'], rel=1e-5)


def test_before_they_come_in_unlabelled_images_give_nothing():
    """Whatever they hold, and with the published code's fakes too."""
    batch, other = make_images(), make_images()
    other['image'][~batch['labeled']] = 13.0
    other['valid'][~batch['labeled']] = True
    for fakes in hung_settings.FAKES:
        methods = [build(discriminator_fakes=fakes) for _ in range(2)]
        scalars = [take(m, hung.SUPERVISED, b) for m, b in zip(methods, (batch, other))]
        assert scalars[0] == pytest.approx(scalars[1], rel=1e-6)
        for ours, theirs in zip(*(sum(weights(method), []) for method in methods)):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_batch_that_says_nothing_of_labels_is_labelled_throughout():
    batch = make_images((True,) * 3)
    bare = {name: batch[name] for name in ('image', 'label')}
    assert take(build(), hung.SUPERVISED, bare) == take(build(), hung.SUPERVISED, batch)


@pytest.mark.parametrize('stride', [1, 2, 3])
def test_the_confidence_is_ds_probability_with_padding_as_in_training(stride):
    batch, method = make_images((False,) * 3), build(map_stride=stride)
    reference, start = plain(hung.SEMI, batch, map_stride=stride), weights(method)
    _, grid = reference.predicted(start[0])
    expected = plain_hung.sigmoid(reference.judge(reference.fakes(grid), start[1]))
    found = confidence_maps.judged(method.discriminator, method.segmentor(batch['image']),
                        tf.constant(batch['valid']), stride)
    assert found.shape == (3, (HEIGHT - 1) // stride + 1, (WIDTH - 1) // stride + 1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert method.judges_points and not build('image').judges_points
    assert not build(None).judges_points


def test_second_truths_are_asked_for_where_there_is_someone_to_see_them():
    def asks(method):
        return method.batch_needs.independent_ground_truth
    assert asks(build(independent_ground_truth=True))
    assert not asks(build(None, independent_ground_truth=True)) and not asks(build())


@pytest.mark.parametrize('phase, labelled, settings', [
    pytest.param(hung.SUPERVISED, (True, True, False, False), {'adversarial_limit': 0.05},
                 marks=pytest.mark.slow),
    (hung.SEMI, (True, True, False, False), {'semi_normaliser': 'selected',
                                             'adversarial_limit': 0.05}),
    pytest.param(hung.SEMI, (True, True, True, False, True),
                 {'adversarial_limit': 0.05, 'threshold': 0.4}, marks=pytest.mark.slow),
    pytest.param(hung.SEMI, (False, True), {'discriminator_fakes': 'all', 'threshold': 0.0},
                 marks=pytest.mark.slow)])
def test_two_replicas_equal_one_device(two_replicas, phase, labelled, settings):
    """Labelled images 2 + 0, 3 + 1 of 5, and 0 + 1 of one a replica: normalisers are global."""
    batch, results = make_images(labelled), []
    for strategy in (SINGLE, two_replicas):
        method = build(strategy=strategy, rates=(0.2, 0.2), **settings)
        logs = steps.take(method, strategy, batch, [phase] * 2)
        results.append((logs, sum(weights(method), [])))
    (one, ours), (two, theirs) = results
    for first, second in zip(one, two):
        assert first == pytest.approx(second, rel=1e-5, abs=1e-6)
    if 'adversarial_limit' in settings:
        assert 0 < one[1]['adv/weight'] < 0.9 * LOUD['adversarial_weight']
    start = sum(weights(build(**settings)), [])
    assert max(np.abs(a - b).max() for a, b in zip(start, ours)) > 1e-3
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_as_many_points_are_drawn_as_the_discriminator_takes():
    method = build(selected_by='as_many_at_random', threshold=0.5)
    generator = np.random.default_rng(1)
    others = generator.uniform(size=(3, 40, 50)) < 0.8
    z = generator.normal(size=others.shape).astype(np.float32) + np.float32([-9, 0, 9])[
        :, None, None]
    taken = (z > 0) & others
    drawn = [method.selected(None, tf.constant(z), tf.constant(others),
                             np.array([step, 2], np.int32)).numpy() for step in (1, 1, 3)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any() and not (drawn[0] & ~others).any()
    assert not drawn[0][0].any() and (drawn[0][2] == others[2]).all()
    assert abs(int(drawn[0][1].sum()) - int(taken[1].sum())) < 5 * np.sqrt(others[1].sum() / 4)


def test_points_drawn_at_random_are_a_share_and_others_at_each_step():
    method = build(kind=None, terms='self_training', self_training_by='random',
                   self_training_share=0.3)
    others = np.random.default_rng(1).uniform(size=(5, 17, 21)) < 0.8
    drawn = [method.selected(None, None, tf.constant(others), np.array([step, 2], np.int32)).numpy()
             for step in (1, 1, 3)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any() and not (drawn[0] & ~others).any()
    assert abs(drawn[0].sum() / others.sum() - 0.3) < 0.06  # 5 standard deviations
