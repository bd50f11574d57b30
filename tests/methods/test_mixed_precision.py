"""Every method's step in mixed precision: near the float32 one, and float32 wherever it lasts."""
import numpy as np
import pytest
import steps
import tensorflow as tf
from one_layer import OneLayer

from tf_advseg.experiments import recipe_registry as recipes
from tf_advseg.experiments import small_methods
from tf_advseg.experiments.benchmarks import device_steps
from tf_advseg.methods import cross_entropy, objective
from tf_advseg.models import precision
from tf_advseg.training import loop, loss_scale, optimizers

SINGLE = tf.distribute.OneDeviceStrategy('/cpu:0')
NAMES = [name for name, found in recipes.load_all().items() if found.trains]
# Of the updates of a network after a step of each phase, as a share of their length. A type rounds
# by up to 2^-9 or 2^-12; layers on layers and ReLUs that change sides multiply that. Measured: at
# most 0.086 and 0.025.
NEAR = {precision.BFLOAT16: 0.25, precision.FLOAT16: 0.1}


def bound_to(policy, *further):
    return small_methods.bound((f"precision.policy = '{policy}'", *further))


def values(method):
    """{network: its trainable variables}, of the networks that the method writes down."""
    return {name: [v.numpy() for v in part.trainable_variables]
            for name, part in sorted(method.state.items()) if small_methods.is_network(part)}


def stepped(name, policy, strategy=SINGLE):
    """{method: (networks before, networks after a step of each phase, the steps' scalars)}."""
    # A scale under which no gradient overflows, so that the first step is none that is skipped.
    scale = ('precision.loss_scale = 128.0',) if policy == precision.FLOAT16 else ()
    with strategy.scope(), bound_to(policy, *scale):
        methods = small_methods.make(recipes.find(name), device_steps.NETWORKS['farabet'](),
                                     device_steps.SIDE)
    found = {}
    for title, method in methods.items():
        batch = small_methods.completed(method, small_methods.images(
            device_steps.CLASSES, device_steps.SIDE, 5))
        before = values(method)
        logs = steps.take(method, strategy, batch, list(method.phases))
        found[title] = before, values(method), logs
    return found


def off(ours, theirs):
    """{network: how far two updates from one start lie apart, as a share of the second}."""
    (before, mine, _), (_, its, _) = ours, theirs

    def length(arrays):
        return np.sqrt(sum(np.sum(np.square(a, dtype=np.float64)) for a in arrays))

    return {name: length([a - b for a, b in zip(mine[name], its[name])])
            / length([a - b for a, b in zip(its[name], before[name])]) for name in before}


@pytest.mark.parametrize('name, policy', [
    *((name, precision.BFLOAT16) for name in NAMES),  # float16 is emulated on most CPUs
    *(pytest.param(name, precision.FLOAT16, marks=pytest.mark.slow) for name in NAMES)])
def test_the_first_steps_of_every_method_are_near_those_of_float32(name, policy):
    short, plain = stepped(name, policy), stepped(name, precision.FLOAT32)
    assert short.keys() == plain.keys()
    for title, ours in short.items():
        for one, two in zip(ours[0].values(), plain[title][0].values()):
            for mine, its in zip(one, two):  # one start
                np.testing.assert_array_equal(mine, its)
                assert mine.dtype == np.float32
        for network, share in off(ours, plain[title]).items():
            assert 1e-4 < share < NEAR[policy], (title, network)
        for mine, its in zip(ours[2], plain[title][2]):
            assert mine.pop('loss/scale', 128.0) == 128.0  # nothing was skipped
            assert mine.keys() == its.keys()
            for key in mine:
                if key.startswith('loss/'):
                    assert mine[key] == pytest.approx(its[key], rel=0.01, abs=0.01), (title, key)


@pytest.mark.slow  # traces on two replicas
@pytest.mark.parametrize('policy', NEAR)
def test_two_replicas_step_as_one_device(two_replicas, policy):
    """Each replica rounds its own share of a gradient, so no nearer than that."""
    for title, one in stepped('load', policy).items():
        both = stepped('load', policy, two_replicas)[title]
        assert max(off(both, one).values()) < NEAR[policy]
        assert [log.get('loss/scale') for log in both[2]] == [
            log.get('loss/scale') for log in one[2]]


def stage_one(policy, *further, rate=0.5):
    """Stage 1's method on one convolution."""
    with bound_to(policy, *further):
        return cross_entropy.CrossEntropy(OneLayer(3), optimizers.make_optimizer('sgd', rate),
                                          l2_weight=0.1)


def batch():
    return {key: value for key, value in small_methods.images(3, 17, 5).items()
            if key in ('image', 'label')}


@pytest.mark.parametrize('parts', [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_step_of_float16_whose_gradients_are_no_numbers_is_skipped(two_replicas, parts):
    """The scale is too large at first: what a step does not take it takes after some halvings."""
    further = 'precision.loss_scale = 1e9', f'accumulate.micro_batches = {parts}'
    for strategy in (SINGLE, two_replicas):
        with strategy.scope():
            method = stage_one(precision.FLOAT16, *further)
        start, norms, scales = values(method)['segmentor'], [], []
        stepper, shares = loop.Stepper(method, strategy), steps.shares_of(batch(), strategy)
        for _ in range(24):
            scalars = stepper('segmentor', shares, steps.SEED)
            assert np.isfinite(scalars['loss/total'])
            norms.append(scalars['weights/norm'])
            scales.append(scalars['loss/scale'])
            if scales[-1] == scales[-2:][0] and len(scales) > 1:
                break
        skipped = len(scales) - 1
        assert scales[:skipped] == [1e9 / 2 ** (1 + n) for n in range(skipped)] and skipped > 2
        assert len(set(norms[:skipped])) == 1  # nothing moved, and then it did
        moved = np.abs(values(method)['segmentor'][0] - start[0]).max()
        assert moved > 1e-3 and int(method.optimizer.iterations.numpy()) == len(scales)


def test_evaluation_is_float32_whatever_the_policy():
    image = batch()['image']
    plain, short = stage_one(precision.FLOAT32), stage_one(precision.BFLOAT16)
    np.testing.assert_array_equal(plain(image), short(image))
    given = tf.constant(image)
    assert plain.logits({'image': given}, [1, 2]).dtype == tf.float32
    assert np.any(plain.logits({'image': given}, [1, 2]) != short.logits({'image': given}, [1, 2]))


@pytest.mark.parametrize('name', NAMES)
def test_every_optimizer_of_a_method_has_a_scale_of_its_own(name):
    with bound_to(precision.FLOAT16, 'precision.loss_scale = 256.0'):
        methods = small_methods.make(recipes.find(name), device_steps.NETWORKS['farabet'](),
                                     device_steps.SIDE)
    for method in methods.values():
        found = {key: loss_scale.of(part) for key, part in method.state.items()
                 if isinstance(part, tf.keras.optimizers.Optimizer)}
        assert found and None not in found.values()
        assert len({id(scale) for scale in found.values()}) == len(found)
        assert {float(scale.value) for scale in found.values()} == {256.0}


def test_a_stage_is_recognised_by_the_policy_only_where_it_is_another():
    made = {}
    for policy in precision.POLICIES:
        with bound_to(policy):
            made[policy] = objective.Control(OneLayer(3), optimizers.make_optimizer('sgd', 0.5),
                                             objective.PixelLoss()).identity
    assert 'precision' not in made[precision.FLOAT32]
    assert made[precision.FLOAT16]['precision']['policy'] == precision.FLOAT16
    assert made[precision.BFLOAT16]['precision']['policy'] == precision.BFLOAT16
