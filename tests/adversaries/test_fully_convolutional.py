"""Hung et al.'s discriminator: layers, sizes, what a decision sees, initial values, messages."""
import gin
import numpy as np
import plain_discriminator
import pytest
import tensorflow as tf

from tf_advseg.adversaries import fully_convolutional
from tf_advseg.adversaries.fully_convolutional import build_fc_discriminator
from tf_advseg.core.errors import UserError

NARROW = (3, 4, 5, 6)
SIZES = ((32, 32), (33, 47), (63, 32), (64, 65), (101, 96))


def build(kind='pixel', num_classes=5, **options):
    return build_fc_discriminator(num_classes, kind, **{'widths': NARROW, **options})


def label_maps(height, width, channels=5, batch=2):
    random = np.random.default_rng(0)
    return random.dirichlet(np.ones(channels), (batch, height, width)).astype(np.float32)


def values(model):
    return [v.numpy() for v in model.trainable_variables]


def test_parameters_of_the_layers_as_listed():
    """Kernels of 4x4, {64, 128, 256, 512, 1} wide, with biases."""
    listed = sum((16 * a + 1) * b for a, b in ((21, 64), (64, 128), (128, 256), (256, 512),
                                               (512, 1)))
    model = build_fc_discriminator(21)
    assert model.count_params() == listed == 2783169
    assert f'{listed:,}' in fully_convolutional.__doc__
    strides = [layer.stride for layer in (*model.convolutions, model.last)]
    assert strides == [2] * 5 and not model.non_trainable_variables


def test_fully_connected_last_layer_of_table_6():
    """321x321: 160, 80, 40, 20 a side before the last layer, which is one neuron on all of it."""
    model = build_fc_discriminator(21, 'image', map_size=(321, 321))
    before = build_fc_discriminator(21).count_params() - (16 * 512 + 1)
    assert model.count_params() == before + 20 * 20 * 512 + 1


@pytest.mark.parametrize('height, width', SIZES)
def test_it_is_the_plain_reference_at_any_size(height, width):
    maps = label_maps(height, width)
    for options in ({}, {'kind': 'image', 'map_size': (height, width)}):
        model = build(**options)
        for variable in model.trainable_variables:
            variable.assign(variable * 3.0)
        found = model(maps, training=True)
        expected = plain_discriminator.logits(maps, values(model), model.decides)
        assert found.dtype == tf.float32 and found.shape == (
            (2, height, width) if model.decides == 'pixel' else (2,))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        assert np.ptp(expected) > 1e-3


def test_sizes_may_be_unknown_in_a_graph():
    model = build()
    graph = tf.function(model, input_signature=[tf.TensorSpec([None, None, None, 5])])
    for height, width in SIZES[:3]:
        maps = label_maps(height, width)
        np.testing.assert_allclose(graph(maps), model(maps), atol=1e-6)


def coarse(model, maps):
    """The decisions before they are upsampled: [b, h // 32, w // 32]."""
    x = tf.cast(maps, tf.float32)
    for layer in model.convolutions:
        x = tf.nn.leaky_relu(layer(x), 0.2)
    return model.last(x)[..., 0]


def test_corners_of_the_decisions_stay_corners():
    model, maps = build(), label_maps(96, 129)
    fine, few = model(maps).numpy(), coarse(model, maps).numpy()
    assert few.shape == (2, 3, 4)
    np.testing.assert_allclose(fine[:, ::95, ::128], few[:, ::2, ::3], rtol=1e-5)
    np.testing.assert_allclose(fine[:, 0, 64], few[:, 0, 1:3].mean(-1), rtol=1e-4, atol=1e-6)


def test_a_decision_sees_94_points():
    """One coarse decision, by its neighbours' windows: 1 + 3 (1 + 2 + 4 + 8 + 16) along a side."""
    model = build(widths=(2, 2, 2, 2), num_classes=1)
    for variable in model.trainable_variables:  # positive kernels: nothing cancels
        variable.assign(tf.zeros_like(variable) + (0.1 if variable.shape.rank == 4 else 0.0))
    maps = tf.ones([1, 160, 160, 1])
    with tf.GradientTape() as tape:
        tape.watch(maps)
        decision = coarse(model, maps)[0, 2, 2]
    seen = np.abs(tape.gradient(decision, maps).numpy()[0, ..., 0]) > 0
    # Decision (2, 2) begins 1 + 2 + 4 + 8 + 16 points before its place 64.
    expected = np.zeros((160, 160), bool)
    expected[33:127, 33:127] = True
    np.testing.assert_array_equal(seen, expected)
    assert expected[33:127].any(1).sum() == 94
    for place, moves in ((33, True), (32, False), (126, True), (127, False)):
        other = maps.numpy()
        other[0, place, 80] = 2.0
        assert (float(coarse(model, other)[0, 2, 2]) != float(decision)) == moves


@pytest.mark.parametrize('initial, variance', [('fan_in', 1 / 3), ('he', 2 / (1 + 0.2 ** 2))])
@pytest.mark.parametrize('kind', fully_convolutional.KINDS)
def test_initial_values_are_even_within_their_limits(initial, variance, kind):
    """PyTorch's kernels and biases: evenly in +-1 / sqrt(n), n the inputs that an output adds."""
    options = {} if kind == 'pixel' else {'map_size': (70, 64)}
    model = build_fc_discriminator(6, kind, (32, 24, 16), initial, seed=1, **options)
    for kernel, bias in zip(values(model)[::2], values(model)[1::2]):
        inputs = np.prod(kernel.shape[:3])
        limit = np.sqrt(3 * variance / inputs)
        assert 0.97 * limit < np.abs(kernel).max() <= limit * (1 + 1e-6)
        assert np.abs(bias).max() <= limit * (1 + 1e-6) and np.any(bias)
        assert kernel.var() * inputs == pytest.approx(variance, rel=6 / np.sqrt(kernel.size))
    assert values(model)[-2].size == (16 * 16 if kind == 'pixel' else 8 * 8 * 16)


def test_equal_seeds_give_equal_weights_in_any_order(two_replicas):
    first = values(build(seed=3))
    build(seed=9)
    tf.random.set_seed(5)
    with two_replicas.scope():
        again = values(build(seed=3))
    assert all(map(np.array_equal, first, again))
    assert not any(map(np.array_equal, first, values(build(seed=4))))
    rebuilt = build_fc_discriminator(seed=3, **build(seed=9).arguments)
    assert all(map(np.array_equal, first, values(rebuilt)))


def test_gin_names_what_it_needs():
    gin.parse_config("build_fc_discriminator.kind = 'image'")
    assert build_fc_discriminator(5, map_size=(40, 32), widths=NARROW).decides == 'image'


def test_a_pointwise_one_sees_a_point_and_no_other():
    maps = np.random.default_rng(3).random((1, 7, 9, 5)).astype(np.float32)
    changed = maps.copy()
    changed[0, 3, 4] = [0, 0, 1, 0, 0]
    for pointwise in (True, False):
        model = build(pointwise=pointwise) if pointwise else build(widths=(4,))
        moved = np.argwhere((model(maps) != model(changed)).numpy()[0])
        assert (moved.tolist() == [[3, 4]]) == pointwise
    assert build(pointwise=True).arguments['pointwise']
    assert 'pointwise' not in build().arguments  # what was saved before it came is the same


@pytest.mark.parametrize('options, text', [
    (dict(kind='pixels'), 'Did you mean "pixel"'),
    (dict(initial_values='fan_inn'), 'Did you mean "fan_in"'),
    (dict(num_classes=0), 'num_classes'), (dict(num_classes=None), 'num_classes'),
    (dict(widths=()), 'widths'), (dict(widths=(3, 0)), 'widths'), (dict(widths=4), 'widths'),
    (dict(kind='image'), 'map_size is None'), (dict(pointwise=1), 'pointwise'),
    (dict(kind='image', map_size=(40, 32), pointwise=True), 'sees the whole map'),
    (dict(kind='image', map_size=(16, 15)), 'of at least 16; lower the method\'s map_stride')])
def test_what_cannot_be_built_is_told_in_one_line(options, text):
    with pytest.raises(UserError) as caught:
        build(**options)
    assert text in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('options, size, text', [
    ({}, (40, 40, 4), 'expected [B, h, w, 5]'), ({}, (31, 40, 5), 'at least 32 points a side'),
    ({}, (40, 31, 5), 'lower the method\'s map_stride'),
    (dict(kind='image', map_size=(40, 32)), (32, 40, 5), 'takes 40x32 alone')])
def test_maps_that_it_cannot_judge_are_told_in_one_line(options, size, text):
    with pytest.raises(UserError) as caught:
        build(**options)(tf.zeros([1, *size]))
    assert text in str(caught.value) and '\n' not in str(caught.value)
