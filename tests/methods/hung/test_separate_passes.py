"""Labelled and unlabelled images in passes of their own: against two passes in plain TensorFlow."""
import numpy as np
import pytest
import steps
import tensorflow as tf

from tf_advseg.adversaries import fully_convolutional
from tf_advseg.adversaries import label_maps
from tf_advseg.core import journal
from tf_advseg.core import random_streams
from tf_advseg.data import mixed
from tf_advseg.experiments import small_methods
from tf_advseg.methods.hung import hung
from tf_advseg.methods.hung import hung_settings
from tf_advseg.methods.hung import separate_passes
from tf_advseg.models import layers
from tf_advseg.training import alternation
from tf_advseg.training import checkpoints
from tf_advseg.training import loop
from tf_advseg.training import optimizers

CLASSES, HEIGHT, WIDTH = 4, 33, 41
SINGLE = tf.distribute.OneDeviceStrategy('/cpu:0')
MOMENTUM, EPSILON = 0.9, 1e-3
WEIGHTS = {'adversarial_weight': 0.5, 'unlabelled_adversarial_weight': 0.3, 'semi_weight': 0.7}
DECAY, BIAS = 0.02, 8.0


class Normalised(tf.keras.Model):
    """A 3x3 convolution with batch norm, live or frozen, and the logits, at stride 2."""

    def __init__(self, live, dropout=0.0):
        super().__init__(name='normalised')
        self.num_classes, self.logits_stride, self.crop_size = CLASSES, 2, None
        self.fine_tune_batch_norm, self.passes = live, []
        self.inner = layers.Convolution('inner', 3, 6, 3, norm=layers.Norm(EPSILON, MOMENTUM),
                                        activation='relu', seed=1)
        self.dropout = layers.StatelessDropout(dropout)
        self.logits = layers.Convolution('logits', 6, CLASSES, 1, seed=2)
        self.built = True

    def call(self, image, training=False, dropout_seed=None):
        """Logits at every second pixel; remembers what each pass was given, where that is known."""
        if tf.executing_eagerly():
            self.passes.append(image.numpy())
        mode = layers.LIVE if self.fine_tune_batch_norm else layers.FROZEN
        inner = self.inner(image[:, ::2, ::2] / 255.0, mode if training else layers.INFERENCE)
        return self.logits(self.dropout(inner, training, dropout_seed))


def build(live=True, strategy=SINGLE, separate=True, dropout=0.0, **settings):
    """A method of fixed weights and plain SGD of rate 1."""
    settings = hung_settings.hung(map_stride=2, l2_weight=DECAY, separate_passes=separate,
                                  **{**WEIGHTS, **settings})
    with strategy.scope():
        segmentor = Normalised(live, dropout)
        judge = fully_convolutional.build_fc_discriminator(
            CLASSES, 'pixel', (4, 5), seed=2, map_size=((HEIGHT + 1) // 2, (WIDTH + 1) // 2))
        random = np.random.default_rng(5)
        for variable in (*judge.trainable_variables, *segmentor.trainable_variables):
            variable.assign(random.normal(size=variable.shape) * 0.5)
        # Decisions on both sides of the threshold.
        judge.last.kernel.assign(judge.last.kernel * 4.0)
        judge.last.bias.assign([BIAS])
        segmentor.inner.norm.moving_variance.assign(random.uniform(0.5, 2.0, 6))
        return hung.Hung(segmentor, judge, *(optimizers.make_optimizer('sgd', 1.0)
                                             for _ in range(2)),
                         label_maps.LabelMaps(CLASSES), settings, 8)


def make_images(labelled=3, unlabelled=3):
    """A batch in even order; the unlabelled images are darker, so that statistics differ."""
    random, size = np.random.default_rng(7), labelled + unlabelled
    given = mixed.even_order(labelled, unlabelled) < labelled
    image = random.uniform(0, 255, (size, HEIGHT, WIDTH, 3)).astype(np.float32)
    image[~given] *= np.float32([0.2, 0.5, 0.9])
    label = random.integers(0, CLASSES, image.shape[:3]).astype(np.int32)
    label[:, :3], label[~given] = 255, 255
    return {'image': image, 'label': label, 'labeled': given,
            'valid': np.where(given[:, None, None], label != 255, True)}


def state(method):
    """Every variable of both networks."""
    return {f'{network.name}/{v.name}': v.numpy() for network in (
        method.segmentor, method.discriminator) for v in network.variables}


def moved(method, batch, phase=hung.SEMI, strategy=SINGLE):
    """(scalars of a step, the state before it, the state after it)."""
    before = state(method)
    scalars, = steps.take(method, strategy, batch, [phase])
    return scalars, before, state(method)


# --- the reference: two passes of plain operations, each normalised by itself -------------------


def plain_pass(network, image):
    """(logits, batch mean, batch variance with Bessel's correction)."""
    x = tf.nn.conv2d(image[:, ::2, ::2] / 255.0, network.inner.kernel, 1, 'SAME')
    mean, variance = tf.nn.moments(x, [0, 1, 2])
    norm = network.inner.norm
    y = tf.nn.relu((x - mean) / tf.sqrt(variance + EPSILON) * norm.gamma + norm.beta)
    count = float(np.prod(x.shape[:3]))
    return (tf.nn.conv2d(y, network.logits.kernel, 1, 'SAME') + network.logits.bias, mean,
            variance * count / (count - 1))


def plain_losses(method, batch, unlabelled, labelled):
    """The segmentor's loss, of the logits of both passes; D is the method's own."""
    given = batch['labeled']
    label, judge = batch['label'][given], method.discriminator
    full = tf.compat.v1.image.resize_bilinear(labelled, (HEIGHT, WIDTH), align_corners=True)
    known = label != 255
    ce = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(
        label[known], tf.boolean_mask(full, known)))
    at = known[:, ::2, ::2]
    z = judge(tf.nn.softmax(labelled) * at[..., None], training=True)
    adv = tf.reduce_mean(tf.boolean_mask(-tf.math.log_sigmoid(z), at))
    z = judge(tf.nn.softmax(unlabelled), training=True)
    adv_more = -tf.reduce_mean(tf.math.log_sigmoid(z))
    chosen = tf.cast(tf.sigmoid(z) > method.settings.threshold, tf.float32)
    own = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.argmax(unlabelled, -1), unlabelled)
    semi = tf.reduce_mean(own * tf.stop_gradient(chosen))
    network = method.segmentor
    decay = DECAY * sum(tf.nn.l2_loss(part.kernel) for part in (network.inner, network.logits))
    return {'loss/ce': ce, 'loss/adv': adv, 'loss/adv_unlabelled': adv_more, 'loss/semi': semi,
            'loss/total': ce + 0.5 * adv + 0.3 * adv_more + 0.7 * semi + decay,
            'semi/selected': tf.reduce_mean(chosen)}


def plain_step(method, batch):
    """(losses, gradients of the segmentor's weights, moving mean, moving variance)."""
    given, network = batch['labeled'], method.segmentor
    with tf.GradientTape() as tape:
        unlabelled, *first = plain_pass(network, batch['image'][~given])
        labelled, *second = plain_pass(network, batch['image'][given])
        losses = plain_losses(method, batch, unlabelled, labelled)
    variables = network.trainable_variables
    gradients = tape.gradient(losses['loss/total'], variables)
    norm = network.inner.norm
    moving = [v.numpy() for v in (norm.moving_mean, norm.moving_variance)]
    for found in (first, second):  # the unlabelled images come first
        moving = [MOMENTUM * old + (1 - MOMENTUM) * new.numpy() for old, new in zip(moving, found)]
    return ({name: float(value) for name, value in losses.items()},
            [g.numpy() for g in gradients], *moving)


def test_a_step_is_that_of_two_explicit_passes():
    method, batch = build(), make_images()
    losses, gradients, mean, variance = plain_step(method, batch)
    before = [v.numpy() for v in method.segmentor.trainable_variables]
    scalars, = steps.take(method, SINGLE, batch, [hung.SEMI])
    assert 0.01 < losses['semi/selected'] < 0.99
    for name, value in losses.items():
        assert scalars[name] == pytest.approx(value, rel=1e-4), name
    for old, new, gradient in zip(before, method.segmentor.trainable_variables, gradients):
        assert np.abs(gradient).max() > 1e-3
        np.testing.assert_allclose(old - new.numpy(), gradient, rtol=1e-3, atol=1e-5)
    norm = method.segmentor.inner.norm
    np.testing.assert_allclose(norm.moving_mean, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.moving_variance, variance, rtol=1e-4)
    own, rest = method.segmentor.passes
    np.testing.assert_array_equal(own, batch['image'][~batch['labeled']])
    np.testing.assert_array_equal(rest, batch['image'][batch['labeled']])


def test_frozen_statistics_make_both_ways_one():
    batch, found = make_images(), []
    for separate in (False, True):
        found.append(moved(build(False, separate=separate), batch))
    (one, before, ours), (two, _, theirs) = found
    assert one == pytest.approx(two, rel=1e-5)
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-5)
        if 'moving' in name:
            np.testing.assert_array_equal(theirs[name], before[name])


def test_live_statistics_tell_them_apart():
    batch = make_images()
    one, two = (moved(build(separate=separate), batch)[0] for separate in (False, True))
    assert abs(one['loss/ce'] - two['loss/ce']) > 1e-3  # rounding is 1e-6


def test_labelled_images_alone_take_the_one_pass_that_they_took():
    """To the bit: before unlabelled images come in nothing is another."""
    batch = {name: part[make_images()['labeled']] for name, part in make_images().items()
             if name in ('image', 'label')}
    one, two = (moved(build(separate=separate), batch, hung.SUPERVISED)
                for separate in (False, True))
    assert one[0] == two[0]
    for name, value in one[2].items():
        np.testing.assert_array_equal(value, two[2][name])


def trained(folder, method):
    """Three steps, with a durable state after each; the batch of a step depends on its number."""
    whole = make_images()
    folder.mkdir(exist_ok=True)

    def batches(stream, first):
        del stream
        return tf.data.Dataset.from_tensor_slices(
            [1.0 + 0.1 * step for step in range(first, 3)]).map(
                lambda factor: {**whole, 'image': whole['image'] * factor})
    loop.train(loop.Stepper(method, SINGLE), method, batches,
               alternation.Joint(3, ((0, hung.SEMI, alternation.UNLABELLED),)), folder, SINGLE,
               random_streams.RandomStreams(0), journal.Journal(folder / 'metrics.jsonl'), 'hung',
               checkpoint_every=1)


def test_a_stopped_training_goes_on_to_the_bit(tmp_path, monkeypatch):
    """Weights of both networks and the statistics that both passes move."""
    whole = build()
    trained(tmp_path / 'whole', whole)
    write, count = checkpoints.write_state, []

    def killed(folder, *arguments, **trackables):
        write(folder, *arguments, **trackables)
        count.append(folder)
        if len(count) == 3:
            raise KeyboardInterrupt
    monkeypatch.setattr(checkpoints, 'write_state', killed)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / 'stopped', build())
    monkeypatch.undo()
    resumed = build()
    start = state(resumed)
    trained(tmp_path / 'stopped', resumed)
    for name, value in state(whole).items():
        np.testing.assert_array_equal(state(resumed)[name], value)
        assert (value != start[name]).any()


def test_measuring_gradients_leaves_the_statistics_alone():
    method, batch = build(), make_images()
    before = state(method)
    found = method.gradient_balance({k: tf.constant(v) for k, v in batch.items()},
                                    tf.constant([1, 2]))
    assert found['grad/adv'] > 0
    for name, value in state(method).items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize('labelled, unlabelled', [
    (3, 3), pytest.param(2, 3, marks=pytest.mark.slow)])
def test_two_replicas_equal_one_device(two_replicas, labelled, unlabelled):
    """Of 3 and 3 images one replica has 1 and 2, the other 2 and 1; statistics are of all."""
    batch = make_images(labelled, unlabelled)
    (one, before, ours), (two, _, theirs) = (
        moved(build(strategy=strategy), batch, strategy=strategy)
        for strategy in (SINGLE, two_replicas))
    assert one == pytest.approx(two, rel=1e-4)
    for name, value in ours.items():
        assert np.abs(value - before[name]).max() > 1e-4
        np.testing.assert_allclose(theirs[name], value, rtol=1e-3, atol=2e-5, err_msg=name)


def in_micro_batches(count, batch, live, strategy=SINGLE):
    """`moved` with accumulation."""
    with small_methods.bound((f'accumulate.micro_batches = {count}',)):
        method = build(live, strategy)
    return moved(method, batch, strategy=strategy)


def test_micro_batches_with_frozen_statistics_are_the_large_step():
    batch = make_images()
    (one, _, ours), (two, _, theirs) = (in_micro_batches(count, batch, False) for count in (1, 3))
    assert one == pytest.approx(two, rel=1e-4)
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3, atol=1e-5)


def statistics_of_micro_batches(strategy, parts):
    """(the moving mean after a step, what it is by the two kinds of each of `parts` in turn)."""
    batch, network = make_images(4, 4), build().segmentor
    moving = network.inner.norm.moving_mean.numpy()
    for part in parts:
        given = batch['labeled'][part]
        for rows in (~given, given):
            moving = MOMENTUM * moving + (1 - MOMENTUM) * plain_pass(
                network, batch['image'][part][rows])[1].numpy()
    _, _, after = in_micro_batches(2, batch, True, strategy)
    found, = (value for name, value in after.items() if 'moving_mean' in name)
    return found, moving


def test_each_micro_batch_is_two_passes_with_statistics_of_their_own():
    """As an iteration of the code's --iter-size."""
    found, expected = statistics_of_micro_batches(SINGLE, ([0, 1, 2, 3], [4, 5, 6, 7]))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow  # traces eight passes on each of two replicas
def test_micro_batches_on_two_replicas_have_statistics_of_both(two_replicas):
    found, expected = statistics_of_micro_batches(two_replicas, ([0, 1, 4, 5], [2, 3, 6, 7]))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_in_bfloat16_the_step_is_near_that_of_float32():
    batch = make_images()
    with small_methods.bound(("precision.policy = 'mixed_bfloat16'",)):
        method = build()
    low, _, after = moved(method, batch)
    full, _, _ = moved(build(), batch)
    assert low['loss/ce'] != full['loss/ce'] and low['loss/ce'] == pytest.approx(full['loss/ce'],
                                                                                 rel=0.05)
    assert all(np.isfinite(value).all() for value in after.values())


def test_the_passes_draw_dropout_by_seeds_of_their_own():
    """One image in both passes: masks differ, and come again with the seed."""
    batch = make_images(1, 1)
    batch['image'][:] = batch['image'][:1]
    method = build(False, dropout=0.5)
    given = {name: tf.constant(part) for name, part in batch.items()}
    first, again, other = (method.logits(given, tf.constant(seed)).numpy()
                           for seed in ([1, 2], [1, 2], [1, 3]))
    assert (first[0] != first[1]).any() and (first != other).any()
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize('missing', ['labelled', 'unlabelled'])
def test_a_batch_without_one_kind_is_told(missing):
    labelled = tf.fill([2], missing == 'unlabelled')
    with pytest.raises(tf.errors.InvalidArgumentError, match=f'a pass of {missing} images'):
        separate_passes.logits(lambda part, seed: part['image'],
                               {'image': tf.zeros([2, 3, 3, 1]), 'labeled': labelled}, [1, 2])
