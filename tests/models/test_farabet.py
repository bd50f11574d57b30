"""The multi-scale network: its pyramid, its shared and sparse weights, the contract."""
import numpy as np
import pytest
import tensorflow as tf
import variable_groups

from tf_advseg.core.errors import UserError
from tf_advseg.models import farabet, flops, local_contrast, resize, segmentor


def make_images(height, width, batch=2):
    random = np.random.default_rng(height * width)
    return random.uniform(0, 255, (batch, height, width, 3)).astype(np.float32)


def small(**options):
    return farabet.farabet(4, **{'hidden': 16, **options})


@pytest.mark.parametrize('colour', farabet.COLOURS)
@pytest.mark.parametrize('size', [(33, 49), (40, 31), (66, 50), (5, 7)])
def test_logits_shape_for_any_size(colour, size):
    model = small(colour=colour)
    logits = model(make_images(*size).astype(np.uint8))
    assert logits.shape.as_list() == [2] + [(side - 1) // 4 + 1 for side in size] + [4]
    assert logits.dtype == tf.float32 and np.isfinite(logits).all()
    assert (model.logits_stride, model.output_stride) == (4, 4)


@pytest.mark.parametrize('size', [(33, 49), (40, 31), (66, 50), (5, 7), (1, 2), (240, 17)])
def test_a_halving_network_keeps_the_contract_for_any_size(size):
    model = small(input_stride=2)
    logits = model(make_images(*size, batch=1).astype(np.uint8))
    assert logits.shape.as_list() == [1] + [(side - 1) // 8 + 1 for side in size] + [4]
    assert np.isfinite(logits).all()
    assert (model.logits_stride, model.output_stride) == (8, 8)


@pytest.mark.parametrize('colour', farabet.COLOURS)
def test_a_halving_network_is_the_network_on_the_pyramids_second_level(colour):
    x = make_images(65, 50)
    halving, plain = small(input_stride=2, colour=colour), small(colour=colour)
    smaller = local_contrast.blurred(tf.constant(x), farabet.PYRAMID_KERNEL)[:, ::2, ::2]
    np.testing.assert_allclose(halving(x), plain(smaller), atol=1e-5)
    constant = farabet.halved(tf.fill([1, 6, 9, 3], 99.0))  # brightness and borders are kept
    np.testing.assert_allclose(constant, np.full((1, 3, 5, 3), 99.0), rtol=1e-5)


def test_a_halving_network_costs_a_quarter_and_any_graph_runs_it():
    model = small(input_stride=2)
    assert segmentor.parameter_count(model) == segmentor.parameter_count(small())
    share = flops.total(model, (129, 193)) / flops.total(small(), (129, 193))
    assert share == pytest.approx(0.25, abs=0.02)
    anything = tf.function(model, input_signature=[tf.TensorSpec([None, None, None, 3])])
    for size in ((33, 49), (40, 30)):
        images = make_images(*size)
        np.testing.assert_allclose(anything(images), model(images), atol=1e-4)


@pytest.mark.parametrize('size', [(33, 49), (40, 30)])
def test_the_pyramid_adds_up_to_the_image(size):
    x = make_images(*size)
    levels = farabet.pyramid(tf.constant(x), 3)
    assert [level.shape[1:3].as_list() for level in levels] == [
        [(side - 1) // stride + 1 for side in size] for stride in (1, 2, 4)]
    again = levels[2]
    for level in levels[1::-1]:
        again = level + resize.resize_bilinear(again, level.shape[1:3])
    np.testing.assert_allclose(again, x, atol=1e-3)


def test_a_constant_image_has_logits_and_no_nan():
    logits = small()(tf.fill([1, 33, 33, 3], 127.5)).numpy()
    assert np.isfinite(logits).all() and np.abs(logits).max() < 0.5


def test_all_scales_share_their_weights():
    model = farabet.farabet(8)
    stages = (49 * 3 * 16 + 16) + (49 * 16 * 64 + 64) + (49 * 64 * 256 + 256)
    classifier = (768 * 1024 + 1024) + (1024 * 8 + 8)
    assert segmentor.parameter_count(model) == (stages + classifier,) * 2
    linear = farabet.farabet(8, hidden=0)
    assert segmentor.parameter_count(linear) == (stages + 768 * 8 + 8,) * 2
    groups = variable_groups.variable_groups(model)
    assert (len(groups['backbone']), len(groups['head']), len(groups['logits'])) == (6, 0, 4)


def test_filters_see_the_published_numbers_of_maps():
    connected = [stage.connected for stage in small(colour='yuv').backbone.stages]
    assert connected[0][0].sum() == 10 and connected[0][1:].sum() == 2 * 6
    assert (connected[0].sum(0) == [1] * 10 + [2] * 6).all()
    assert (connected[1].sum(0) == 8).all() and (connected[2].sum(0) == 32).all()
    assert all(c.all() for c in (s.connected for s in small(sparse=False).backbone.stages))
    # Weights that were trained under a draw must find it again.
    other = [stage.connected for stage in small(seed=5, colour='yuv').backbone.stages]
    assert all((a == b).all() for a, b in zip(connected, other))


def test_gradient_reaches_every_variable_and_only_connected_weights():
    model = small()
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(make_images(33, 40), training=True) - 1.0))
    variables = model.trainable_variables
    gradients = dict(zip([v.name for v in variables], tape.gradient(loss, variables)))
    assert all(np.isfinite(g).all() and np.abs(g).max() > 0 for g in gradients.values())
    for stage in model.backbone.stages:
        gradient = np.abs(gradients[stage.kernel.name]).sum((0, 1))
        np.testing.assert_array_equal(gradient > 0, stage.connected > 0)


def test_grey_images_have_no_colour_in_yuv():
    """The six filters of U and V give their bias, so changing their kernels changes nothing."""
    model = small(colour='yuv')
    grey = np.repeat(make_images(33, 33)[..., :1], 3, -1)
    before = model(grey).numpy()
    first = model.backbone.stages[0]
    kernel = first.kernel.numpy()
    kernel[..., 10:] = np.random.default_rng(0).normal(size=kernel[..., 10:].shape)
    first.kernel.assign(kernel)
    np.testing.assert_allclose(model(grey), before, atol=2e-2)
    images = make_images(33, 33)
    assert np.abs(model(images) - small(colour='yuv')(images)).max() > 0.05


def test_one_scale_is_the_same_wherever_it_looks():
    """Maps of an image that moved by the stride are the maps, moved by one."""
    model = small()
    x = np.random.default_rng(1).normal(size=(1, 80, 80, 3)).astype(np.float32)
    ours = model.backbone.features(x)
    moved = model.backbone.features(x[:, 4:, 8:])
    inside = np.s_[:, 6:-6, 6:-6]
    np.testing.assert_allclose(ours[:, 1:, 2:][inside], moved[inside], atol=1e-5)


def test_one_scale_sees_46_pixels():
    """Farabet et al.: 46x46 at the finest scale, so 184x184 at the coarsest."""
    model = small()
    x = tf.random.stateless_normal([1, 81, 81, 3], [1, 2])
    with tf.GradientTape() as tape:
        tape.watch(x)
        centre = model.backbone.features(x)[0, 10, 10]
    # Max pooling passes one of four pixels on, so the outermost may be missed.
    rows, columns = np.nonzero(np.abs(tape.gradient(centre, x)[0]).max(-1))
    for places in (rows, columns):
        assert 40 <= places.max() - places.min() + 1 <= 46


def test_a_graph_for_any_size_gives_what_a_graph_for_one_size_gives():
    model = small()
    anything = tf.function(model, input_signature=[tf.TensorSpec([None, None, None, 3])])
    for size in ((33, 49), (40, 30)):
        images = make_images(*size)
        np.testing.assert_allclose(anything(images), model(images), atol=1e-4)


def test_padding_far_away_changes_nothing():
    model = small()
    image = make_images(65, 257, batch=1)
    padded = np.pad(image, [(0, 0), (0, 0), (0, 128), (0, 0)], constant_values=127.5)
    # Out of reach of the padding: 92 pixels of the coarsest field, 30 of its window, 12 of
    # pyramids.
    far = np.s_[:, :, :(257 - 140) // 4]
    np.testing.assert_allclose(model(padded)[far], model(image)[far], atol=1e-5)
    whole = small(contrast_floor=None)
    assert np.abs(whole(padded)[far] - whole(image)[far]).max() > 1e-3


def test_initial_values_follow_the_seed():
    x = make_images(20, 20)
    np.testing.assert_array_equal(small(seed=3)(x), small(seed=3)(x))
    assert np.abs(small(seed=3)(x) - small(seed=4)(x)).max() > 0


def test_bad_arguments_are_told_in_one_line():
    for options, text in (({'colour': 'rbg'}, 'rgb'), ({'hidden': -1}, 'hidden is -1'),
                          ({'crop_size': (3,)}, 'crop_size'),
                          ({'input_stride': 4}, 'input_stride is 4, expected 1 or 2')):
        with pytest.raises(UserError, match=text):
            small(**options)
