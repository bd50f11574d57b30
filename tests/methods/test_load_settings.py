"""LoAd's discriminator step and its nulls: R1, smoothing, maps of decisions, random directions."""
import dataclasses

import numpy as np
import pytest
import steps
import tensorflow as tf

from tf_advseg.adversaries import discriminators
from tf_advseg.adversaries import encodings
from tf_advseg.core.errors import UserError
from tf_advseg.methods import load
from tf_advseg.models import farabet
from tf_advseg.training import optimizers

CLASSES, CROP, STRIDE = 4, 33, 4
POINTS = (9, 9)
SINGLE = tf.distribute.OneDeviceStrategy('/cpu:0')


def build(strategy=SINGLE, name='patch', kind='concat', truth='scaling', null=None, rate=0.1,
          features=None, **settings):
    """A LoAd method on the logits' own points."""
    encoding = encodings.Encoding(CLASSES, POINTS, kind, truth=truth, stride=STRIDE)
    with strategy.scope():
        segmentor = farabet.farabet(CLASSES, hidden=8, seed=1)
        assert segmentor.logits_stride == STRIDE
        further = 0 if features is None else 2
        discriminator = discriminators.build_discriminator(
            name, encoding.channels + further, POINTS if name == 'patch' else 32, alpha=0.1, seed=2)
        return load.LoAd(segmentor, discriminator, optimizers.make_optimizer('sgd', rate),
                         optimizers.make_optimizer('sgd', rate), encoding,
                         load.Settings(**settings), features, null)


def batch_of(size=5):
    """A batch with maps and both kinds of examples."""
    generator = np.random.default_rng(4)
    label = generator.integers(0, CLASSES, (size, CROP, CROP)).astype(np.int32)
    for number in range(size):
        label[number, :4 * number] = 255
    is_real = (np.arange(size) % 2 == 0).astype(np.float32)
    return {'image': generator.uniform(0, 255, (size, CROP, CROP, 3)).astype(np.float32),
            'label': label, 'is_real': is_real, 'target': is_real,
            'map': generator.normal(size=(size, *POINTS, CLASSES)).astype(np.float16)}


def stepped(method, strategy, phase='discriminator', batch=None, **scalars):
    """(scalars, the discriminator's and the segmentor's weights) after one step."""
    outputs, = steps.take(method, strategy, batch or batch_of(), [phase], **scalars)
    return outputs, [v.numpy() for network in (method.discriminator, method.segmentor)
                     for v in network.trainable_variables]


@pytest.mark.parametrize('settings', [
    {}, {'real_target': 0.9, 'r1_weight': 2.0}, {'truth': 'bottleneck', 'kind': 'map'},
    {'truth': 'sampled', 'kind': 'product', 'map_kind': 'hard'}])
def test_both_steps_on_two_replicas_equal_those_on_one_device(two_replicas, settings):
    batch, hard = batch_of(), settings.get('map_kind') == 'hard'
    if hard:
        batch['map'] = np.random.default_rng(1).integers(
            0, CLASSES, (5, CROP, CROP)).astype(np.uint8)
    for phase, scalars in (('discriminator', {'weight_real': 1.5, 'weight_fake': 0.75}),
                           ('segmentor', {'adversarial_weight': 30.0})):
        (ours, one), (theirs, two) = (
            stepped(build(strategy, **settings), strategy, phase, dict(batch), **scalars)
            for strategy in (SINGLE, two_replicas))
        for name in ours:
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4, abs=1e-5), name
        start = [v.numpy() for network in (build(**settings).discriminator,
                                           build(**settings).segmentor)
                 for v in network.trainable_variables]
        moved, off = (np.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(one, others)))
                      for others in (start, two))
        assert moved > 1e-3
        if phase == 'discriminator' or not hard:  # a nearly equal pair of logits flips a hard map
            assert off < 2e-3 * moved


def test_a_map_of_decisions_counts_as_its_mean():
    """The loss is the mean of the patches' losses; the mean decision's sign is what D says."""
    method, batch = build(), {k: tf.constant(v) for k, v in batch_of().items()}
    z = method.discriminator(method.mixed_input(batch))
    assert z.shape == (5, 5, 5)
    aligned = batch['is_real'][:, None, None] * tf.ones_like(z)
    expected = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(aligned, z), [1, 2])
    np.testing.assert_allclose(method._judged(z, batch['is_real']), expected, rtol=1e-5)
    counts = method.discriminator_counts(batch)
    right = z.numpy().mean((1, 2)) > 0
    assert float(counts['right_real']) == pytest.approx(right[::2].sum(), abs=1e-5)
    assert float(counts['right_fake']) == pytest.approx((1 - right[1::2]).sum(), abs=1e-5)
    assert float(counts['loss_real']) == pytest.approx(float(sum(expected[::2])), rel=1e-4)


def test_items_that_fill_up_a_batch_are_not_counted():
    method, batch = build(), {k: tf.constant(v) for k, v in batch_of().items()}
    alone = method.discriminator_counts({**batch, 'target': batch['is_real']})
    more = {name: tf.concat([part, part[:3]], 0) for name, part in batch.items()}
    filled = method.discriminator_counts(
        {**more, 'target': tf.concat([batch['is_real'], [-1.0] * 3], 0)})
    for name, value in alone.items():
        assert float(filled[name]) == pytest.approx(float(value), rel=1e-5), name
    assert float(alone['real']) == 3 and float(alone['fake']) == 2


def test_r1_is_the_squared_slope_at_true_maps_and_not_at_the_image():
    plain, penalised = build(), build(r1_weight=4.0)
    batch = {k: tf.constant(v) for k, v in batch_of().items()}
    x = plain.mixed_input(batch)
    with tf.GradientTape() as tape:
        tape.watch(x)
        decided = tf.reduce_sum(tf.reduce_mean(plain.discriminator(x), [1, 2]))
    slope = tape.gradient(decided, x).numpy()[..., :CLASSES]
    expected = 2.0 * np.square(slope[::2]).sum() / 3
    (before, _), (after, _) = (stepped(method, SINGLE) for method in (plain, penalised))
    assert after['loss/disc'] - before['loss/disc'] == pytest.approx(expected, rel=1e-3)
    assert expected > 1e-6


def test_smoothing_is_one_sided():
    batch = {k: tf.constant(v) for k, v in batch_of().items()}
    z = build().discriminator(build().mixed_input(batch))
    (plain, _), (smooth, _) = (stepped(build(real_target=target), SINGLE)
                               for target in (1.0, 0.8))
    # softplus(z) - t z: of a true example t z falls by 0.2 z.
    gained = 0.2 * z.numpy().mean((1, 2))[::2].sum() / 5
    assert smooth['loss/disc'] - plain['loss/disc'] == pytest.approx(gained, abs=1e-5)


def test_the_random_null_moves_as_far_and_elsewhere(two_replicas):
    """The further gradient has the adversarial one's length; on two replicas it is the same."""
    def moved(null, strategy=SINGLE, weight=50.0):
        start = [v.numpy() for v in build(strategy).segmentor.trainable_variables]
        method = build(strategy, null=null, rate=1.0)
        stepped(method, strategy, 'segmentor', adversarial_weight=weight)
        return np.concatenate([(v.numpy() - s).ravel() for v, s in zip(
            method.segmentor.trainable_variables, start)])
    ce = moved(None, weight=0.0)
    ours, random = moved(None) - ce, moved('random') - ce
    assert np.linalg.norm(random) == pytest.approx(np.linalg.norm(ours), rel=1e-2)
    cosine = ours @ random / np.linalg.norm(ours) / np.linalg.norm(random)
    assert abs(cosine) < 0.3
    np.testing.assert_allclose(moved('random', two_replicas) - ce, random, atol=1e-4)


def test_targets_that_are_shuffled_train_on_them_and_count_the_truth():
    shuffled = {**batch_of(), 'target': 1 - batch_of()['is_real']}
    (plain, _), (other, _) = (stepped(build(), SINGLE, batch=batch)
                              for batch in (batch_of(), shuffled))
    assert plain['disc/acc_real'] == other['disc/acc_real']
    assert plain['loss/disc'] != other['loss/disc']


def test_features_stand_behind_the_input_and_are_zero_without_a_label():
    def features(image):
        return tf.ones([tf.shape(image)[0], *POINTS, 2])
    method = build(features=features)
    batch = {k: tf.constant(v) for k, v in batch_of().items()}
    x = method.mixed_input(batch).numpy()
    known = batch['label'].numpy()[:, ::STRIDE, ::STRIDE] != 255
    np.testing.assert_array_equal(x[..., -2:], np.repeat(known[..., None], 2, -1))
    known_features = method.mixed_input({**batch, 'features': tf.zeros([5, *POINTS, 2])}).numpy()
    assert not known_features[..., -2:].any()


def test_settings_that_do_not_fit_are_one_line():
    with pytest.raises(UserError, match="truth = 'scaling' with load.map_kind = 'hard'"):
        build(map_kind='hard')
    for bad in (dict(real_target=0.4), dict(r1_weight=-1.0), dict(backbone_features=1)):
        with pytest.raises(UserError, match=f'load.{next(iter(bad))} = '):
            load.Settings(**bad)
    assert dataclasses.asdict(load.Settings())['real_target'] == 1.0
