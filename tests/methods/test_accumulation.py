"""Gradient accumulation: every method's step in micro-batches is the step of the large batch."""
from unittest import mock

import numpy as np
import pytest
import steps
import tensorflow as tf

from tf_advseg.core import journal, random_streams
from tf_advseg.core.errors import UserError
from tf_advseg.experiments import recipe_registry as recipes
from tf_advseg.experiments import small_methods
from tf_advseg.experiments.benchmarks import device_steps
from tf_advseg.experiments.train import stage_one
from tf_advseg.methods import accumulation, cross_entropy, objective
from tf_advseg.models import layers
from tf_advseg.training import alternation, loop, optimizers

CLASSES, SIDE = 3, 17
SINGLE = tf.distribute.OneDeviceStrategy('/cpu:0')
NAMES = [name for name, found in recipes.load_all().items() if found.trains]
PARTS = 'accumulate.micro_batches = {}'


class OneConvolution(tf.keras.Model):
    """A convolution with batch norm, live or frozen."""

    def __init__(self, live=False):
        super().__init__(name='one_convolution')
        self.num_classes, self.logits_stride, self.crop_size = CLASSES, 2, None
        self.fine_tune_batch_norm, self.seen = live, []
        self.logits = layers.Convolution('logits', 3, CLASSES, norm=layers.Norm(1e-3, 0.9), seed=1)
        self.built = True

    def call(self, image, training=False):
        """Logits at every second pixel; remembers how many images a pass had."""
        self.seen.append(image.shape[0])
        mode = layers.LIVE if self.fine_tune_batch_norm else layers.FROZEN
        return self.logits(image[:, ::2, ::2] / 255.0, mode if training else layers.INFERENCE)


def batch(size=5):
    """Labelled pixels differ in number from image to image."""
    random = np.random.default_rng(7)
    label = random.integers(0, CLASSES, (size, SIDE, SIDE)).astype(np.int32)
    for row in range(size):
        label[row, :3 * row] = 255
    return {'image': random.uniform(0, 255, (size, SIDE, SIDE, 3)).astype(np.float32),
            'label': label}


def values(method):
    """The trainable variables of every network that the method writes down."""
    return {f'{name} {number}': v.numpy() for name, part in sorted(method.state.items())
            if small_methods.is_network(part)
            for number, v in enumerate(part.trainable_variables)}


def stepped(parts, strategy, made, given, phase=None):
    """(scalars of a step, the variables before and after it)."""
    with strategy.scope(), small_methods.bound((PARTS.format(parts),)):
        method = made()
    before = values(method)
    scalars, = steps.take(method, strategy, given(method), [phase or method.default_phase])
    return scalars, before, values(method)


def check_same_step(ours, theirs, share=1e-5):
    """Both moved, by the same but for a share of the step and what rounding of weights comes to."""
    (one, before, large), (two, _, small) = ours, theirs
    assert one.keys() == two.keys()
    for key, value in one.items():
        assert value == pytest.approx(two[key], rel=1e-4, abs=1e-5), key
    moved = {key: np.linalg.norm(large[key] - before[key]) for key in large}
    assert max(moved.values()) > 1e-4
    for key, value in large.items():
        rounding = 4 * np.linalg.norm(np.spacing(np.abs(value)))
        assert np.linalg.norm(value - small[key]) <= share * moved[key] + rounding, key


def small_of(name):
    """(function that makes a recipe's method small, function of it: five images)."""
    recipe = recipes.find(name)

    def made():
        return small_methods.make(recipe, device_steps.NETWORKS['farabet'](),
                                  device_steps.SIDE)[recipe.title]

    def given(method):
        return small_methods.completed(method, small_methods.images(
            device_steps.CLASSES, device_steps.SIDE, 5))
    return made, given


@pytest.mark.parametrize('name', NAMES)
def test_the_step_of_every_method_is_that_of_the_large_batch(name):
    """Discriminators, points that are selected and drawn, and all normalisers included."""
    parts = small_of(name)
    check_same_step(*(stepped(count, SINGLE, *parts) for count in (1, 3)))


def stage_ones(**settings):
    """A function that makes Stage 1's method on one convolution."""
    def made():
        segmentor = OneConvolution()
        return cross_entropy.CrossEntropy(segmentor, optimizers.make_optimizer('sgd', 0.5),
                                          average_counts=np.ones(CLASSES), **settings)
    return made


@pytest.mark.parametrize('settings', [
    {}, {'hard_example_fraction': 0.3}, {'l2_weight': 0.1}, {'reduction': 'sum'}])
@pytest.mark.parametrize('phase', ['segmentor', 'weighted'])
def test_hard_pixels_and_weights_are_those_of_the_large_batch(settings, phase):
    made = stage_ones(**settings)
    check_same_step(*(stepped(parts, SINGLE, made, lambda _: batch(), phase)
                        for parts in (1, 5)))


def test_two_replicas_in_micro_batches_equal_one_device(two_replicas):
    """Shares of 3 and 2 images, in two parts each, against five images as a whole."""
    made = stage_ones(l2_weight=0.1)
    whole = stepped(1, SINGLE, made, lambda _: batch())
    check_same_step(whole, stepped(2, two_replicas, made, lambda _: batch()))


def test_a_plain_mean_of_micro_batches_would_be_another_step():
    """What the second pass is for: images differ in labelled pixels."""
    method, given = stage_ones()(), batch()
    variables = method.segmentor.trainable_variables
    whole, mean = None, 0.0
    for rows in ([0, 1, 2, 3, 4], [0], [1], [2], [3], [4]):
        with tf.GradientTape() as tape:
            loss, _ = method.losses({k: tf.constant(v[rows]) for k, v in given.items()}, [1, 2])
        found = tape.gradient(loss, variables)[0].numpy()
        whole, mean = (found, mean) if whole is None else (whole, mean + found / 5)
    assert np.linalg.norm(mean - whole) > 0.05 * np.linalg.norm(whole)


def test_no_pass_takes_more_than_a_micro_batch():
    with small_methods.bound((PARTS.format(3),)):
        method = stage_ones()()
    method.segmentor.seen.clear()
    steps.take(method, SINGLE, batch(7), ['segmentor'])
    assert method.segmentor.seen == [2, 2, 3] * 2


@pytest.mark.slow  # traces every method twice
@pytest.mark.parametrize('name', NAMES)
def test_every_method_in_micro_batches_on_two_replicas_is_the_large_step(name, two_replicas):
    """Compiled; the bound is the one of `test_recipes`, since the normalisers are summed apart."""
    parts = small_of(name)
    check_same_step(stepped(1, SINGLE, *parts), stepped(2, two_replicas, *parts), 0.01)


def live_method(parts):
    """Stage 1's method on a network of live batch norm."""
    with small_methods.bound((PARTS.format(parts),)):
        return cross_entropy.CrossEntropy(OneConvolution(live=True),
                                          optimizers.make_optimizer('sgd', 0.5))


def moved_by_hand(*micro_batches):
    """The moving mean after passes of these rows of four images."""
    network, image = OneConvolution(live=True), batch(4)['image']
    for rows in micro_batches:
        network(tf.constant(image[list(rows)]), training=True)
    return network.logits.norm.moving_mean.numpy()


def test_micro_batches_of_live_batch_norm_are_synchronised_over_replicas(two_replicas):
    """Each replica has two of four images, and takes one of them at a time."""
    with two_replicas.scope():
        method = live_method(2)
    steps.take(method, two_replicas, batch(4), ['segmentor'])
    found = two_replicas.experimental_local_results(method.segmentor.logits.norm.moving_mean)
    for replica in found:
        np.testing.assert_allclose(replica.numpy(), moved_by_hand((0, 2), (1, 3)), rtol=1e-4)


def test_live_batch_norm_moves_in_a_compiled_step_as_by_hand():
    method = live_method(2)
    loop.Stepper(method, SINGLE)('segmentor', steps.shares_of(batch(4), SINGLE), steps.SEED)
    np.testing.assert_allclose(method.segmentor.logits.norm.moving_mean.numpy(),
                               moved_by_hand((0, 1), (2, 3)), rtol=1e-4)


@pytest.mark.parametrize('keeps', [False, True])
def test_live_batch_norm_moves_once_a_micro_batch_by_its_statistics(keeps):
    """A training step moves them, once; a comparison of gradients leaves them."""
    method, by_hand = live_method(2), moved_by_hand((0, 1), (2, 3))
    given = {key: tf.constant(value) for key, value in batch(4).items()}
    mean = method.segmentor.logits.norm.moving_mean
    with accumulation.Tape(method, keeps_statistics=keeps, persistent=True) as tape:
        ce = method.cross_entropy(tape.logits(given, [1, 2]), given, None)
    assert not np.any(mean.numpy())
    for _ in range(2):
        tape.gradient(ce, method.segmentor.trainable_variables)
    np.testing.assert_allclose(mean.numpy(), 0.0 if keeps else by_hand, rtol=1e-5)
    assert np.abs(by_hand).max() > 1e-3


def test_gradients_are_compared_in_micro_batches_too():
    found = []
    for parts in (1, 4):
        with small_methods.bound((PARTS.format(parts),)):
            method = small_methods.make(recipes.find('luc'), device_steps.NETWORKS['farabet'](),
                                        device_steps.SIDE)[recipes.find('luc').title]
        given = small_methods.completed(method, small_methods.images(
            device_steps.CLASSES, device_steps.SIDE, 5))
        shares = steps.shares_of(given, SINGLE)
        found.append({name: float(value) for name, value in SINGLE.run(
            method.gradient_balance, (shares, tf.constant(steps.SEED))).items()})
    assert found[0]['grad/adv'] > 0
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_a_compiled_step_is_the_eager_one():
    """Five steps are compiled, one is not."""
    made = stage_ones()
    ends = []
    for phases in (['segmentor'] * 5, None):
        with small_methods.bound((PARTS.format(2),)):
            method = made()
        for chunk in ([phases] if phases else [['segmentor']] * 5):
            steps.take(method, SINGLE, batch(), chunk)
        ends.append(values(method))
    for key, value in ends[0].items():
        np.testing.assert_allclose(value, ends[1][key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('value', ['0', '2.5', 'True', "'four'"])
def test_a_number_that_is_none_is_one_line(value):
    with small_methods.bound((f'accumulate.micro_batches = {value}',)):
        with pytest.raises(UserError, match='accumulate.micro_batches = ') as caught:
            accumulation.accumulate()
    assert '\n' not in str(caught.value)


def test_a_micro_batch_without_an_image_is_refused_before_anything_is_trained():
    three = accumulation.Accumulate(3)
    three.require_images('stage_one.batch_size', 3, 1)
    three.require_images('stage_one.batch_size', 6, 2)
    accumulation.Accumulate().require_images('stage_one.batch_size', 1, 1)
    for size, replicas in ((2, 1), (5, 2)):
        with pytest.raises(UserError, match='stage_one.batch_size = ') as caught:
            three.require_images('stage_one.batch_size', size, replicas)
        assert '\n' not in str(caught.value)
    context = mock.Mock()
    context.data.train, context.data.holdout = ['a'] * 6, ['b']
    context.strategy.num_replicas_in_sync = 2
    with small_methods.bound((PARTS.format(3),)):
        method = stage_ones()()
        with pytest.raises(UserError, match='stage_one.batch_size = 5 .a replica has 2. leaves'):
            stage_one._check(context, stage_one.Settings(batch_size=5))
    with pytest.raises(UserError, match='a share of 2 images has not as many parts'):
        steps.take(method, SINGLE, batch(2), ['segmentor'])


def test_a_stage_is_recognised_by_it_only_where_it_is_on():
    assert accumulation.Accumulate().identity == {}
    with small_methods.bound((PARTS.format(2),)):
        method = objective.Control(OneConvolution(), optimizers.make_optimizer('sgd', 0.5),
                                   objective.PixelLoss())
    assert method.identity['accumulate'] == {'micro_batches': 2}


def test_a_training_that_is_stopped_goes_on_to_the_same_bits(tmp_path):
    """Between steps there is nothing to write down beyond what there always was."""
    def train(folder, total):
        with small_methods.bound((PARTS.format(2),)):
            method = stage_ones()()
        folder.mkdir(exist_ok=True)
        loop.train(loop.Stepper(method, SINGLE), method,
                   lambda stream, first: tf.data.Dataset.from_tensors(batch()).repeat(9),
                   alternation.Sequence(total, lambda step: 'segmentor'), folder, SINGLE,
                   random_streams.RandomStreams(0), journal.Journal(folder / 'metrics.jsonl'),
                   'parts', checkpoint_every=2)
        return method.segmentor.logits.kernel.numpy()

    part = train(tmp_path / 'stopped', 2)
    rest, whole = train(tmp_path / 'stopped', 5), train(tmp_path / 'whole', 5)
    np.testing.assert_array_equal(rest, whole)
    assert np.abs(whole - part).max() > 1e-4
