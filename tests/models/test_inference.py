"""The network for inference: it computes what the segmentor computes, by constants."""
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_advseg.models import (deeplab, deeplab_residual, deeplab_v2, dilated8, farabet, inference,
                              layers)

RANDOM = np.random.default_rng(5)


def randomised(model, seed=0):
    """A network whose batch norms do something: all its variables drawn at random."""
    random = np.random.default_rng(seed)
    for name, variable in layers.official_variables(model).items():
        shape, leaf = variable.shape.as_list(), name.rsplit('/', 1)[-1]
        if leaf in ('gamma', 'moving_variance'):
            value = random.uniform(0.5, 1.5, shape)
        elif leaf == 'depthwise_weights':
            value = random.normal(0.0, 0.4, shape)
        elif leaf == 'weights':
            value = random.normal(0.0, (1.5 / np.prod(shape[:3])) ** 0.5, shape)
        else:
            value = random.normal(0.0, 0.3, shape)
        variable.assign(value)
    return model


def make_image(height, width, batch=1):
    return tf.constant(RANDOM.uniform(0, 255, (batch, height, width, 3)), tf.float32)


def compiled(model, **options):
    """(callable of images of any size, its graph)."""
    network = inference.InferenceNetwork(model, **options)
    function = tf.function(network.logits, autograph=False, input_signature=[
        tf.TensorSpec([None, None, None, 3], tf.float32)])
    return function, function.get_concrete_function().graph


def assert_same(model, function, image):
    expected = model(image, training=False).numpy()
    actual = function(image).numpy()
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize('crop, output_stride', [
    (None, 16), (97, 8), (97, 16), *(pytest.param(*case, marks=pytest.mark.slow) for case in
                                     ((None, 8), (None, 32), (97, 32)))])
def test_mobilenet_v2_of_any_stride_and_size(crop, output_stride):
    model = randomised(deeplab.deeplab_mobilenet_v2(
        5, output_stride, depth_multiplier=0.25, crop_size=crop))
    function, _ = compiled(model)
    for size in ((97, 97), (97, 129), (65, 70), (113, 161)):
        assert_same(model, function, make_image(*size, batch=2))


def test_maps_smaller_than_the_rate():
    model = randomised(deeplab.deeplab_mobilenet_v2(3, 8, depth_multiplier=0.25))
    function, _ = compiled(model)
    for side in (9, 17, 25):
        assert_same(model, function, make_image(side, side + 8))


def test_a_decoder_and_atrous_rates():
    model = randomised(deeplab.deeplab_mobilenet_v2(
        5, depth_multiplier=0.25, atrous_rates=(2, 6), decoder=True, crop_size=(65, 97)))
    function, _ = compiled(model)
    assert_same(model, function, make_image(65, 97))
    assert_same(model, function, make_image(97, 113))
    model = randomised(deeplab.deeplab_mobilenet_v2(5, depth_multiplier=0.25, image_pooling=False))
    assert_same(model, compiled(model)[0], make_image(65, 97))


@pytest.mark.slow
def test_xception_of_any_size():
    model = randomised(deeplab.deeplab_xception(4, 'xception_41', 16, crop_size=65))
    assert_same(model, compiled(model)[0], make_image(60, 72))


@pytest.mark.slow
@pytest.mark.parametrize('output_stride', [8, 16])
def test_xception(output_stride):
    model = randomised(deeplab.deeplab_xception(
        4, 'xception_41', output_stride, crop_size=65, multi_grid=(1, 2, 1)))
    exact, graph = compiled(model, exact_sizes=True)
    sums = [op for op in graph.get_operations() if op.type == 'AddV2' and 'module' in op.name]
    assert sums and all([c.type for c in op.outputs[0].consumers()] == ['Snapshot'] for op in sums)
    assert_same(model, exact, make_image(65, 81))


OTHERS = {
    'resnet': lambda: deeplab.deeplab_resnet(4, 'resnet_v1_50', crop_size=65),
    'residual': lambda: deeplab_residual.deeplab_residual(4, crop_size=65),
    'v2': lambda: deeplab_v2.deeplab_v2_resnet(4, 'resnet_50'),
    'farabet': lambda: farabet.farabet(4),
}


@pytest.mark.parametrize('name', [
    pytest.param(name, marks=pytest.mark.slow) if name != 'farabet' else name
    for name in OTHERS])
def test_every_other_network_is_folded(name):
    model = randomised(OTHERS[name]())
    function, _ = compiled(model)
    assert_same(model, function, make_image(65, 81))


@pytest.mark.slow
def test_dilated8():
    model = randomised(dilated8.dilated8(4))
    assert_same(model, compiled(model)[0], make_image(65, 81))


def test_there_is_no_variable_and_no_batch_norm_and_training_does_not_reach_it():
    model = randomised(deeplab.deeplab_mobilenet_v2(3, depth_multiplier=0.25))
    function, graph = compiled(model)
    kinds = {operation.type for operation in graph.get_operations()}
    assert not kinds & {'VarHandleOp', 'ReadVariableOp', 'FusedBatchNormV3', 'Rsqrt'}
    assert not graph.variables and not [c for c in graph.external_captures if c.dtype == 'resource']
    image = make_image(33, 33)
    before = function(image).numpy()
    model.logits.kernel.assign(tf.zeros_like(model.logits.kernel))
    np.testing.assert_array_equal(function(image).numpy(), before)


def test_the_segmentor_is_left_as_it_was():
    model = randomised(deeplab.deeplab_mobilenet_v2(3, depth_multiplier=0.25))
    image = make_image(33, 33)
    before = model(image).numpy()
    compiled(model)
    assert not [layer for layer in model._flatten_layers() if 'call' in layer.__dict__]
    np.testing.assert_array_equal(model(image).numpy(), before)
    with pytest.raises(RuntimeError, match='inside'):
        with inference.replaced_calls(model, {layers.Convolution: lambda layer, x, mode=None: x}):
            raise RuntimeError('inside')
    np.testing.assert_array_equal(model(image).numpy(), before)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 11), st.integers(1, 11), st.sampled_from([1, 2, 3]),
       st.sampled_from([1, 2, 4]))
def test_phases_are_strided_slices_and_join_to_the_map(height, width, rate, factor):
    x = tf.constant(RANDOM.normal(size=(2, height, width, 3)), tf.float32)
    phases = inference.Phases(x, rate).at_rate(rate * factor)
    step = rate * factor
    for index, phase in enumerate(phases.maps):
        i, j = divmod(index, step)
        slices = x[:, i::step, j::step]
        np.testing.assert_array_equal(phase[:, :slices.shape[1], :slices.shape[2]], slices)
        assert phase.shape[1] == max(1, slices.shape[1])
        assert phase.shape[2] == max(1, slices.shape[2])
    np.testing.assert_array_equal(phases.joined(), x)
    np.testing.assert_array_equal(phases.at_rate(1 if step > 1 else 2).joined(), x)


@pytest.mark.parametrize('classes', [2, 8, 21])
def test_class_ids_are_the_argmax_and_ties_go_to_the_first(classes):
    logits = tf.constant(RANDOM.integers(-3, 3, (2, 5, 7, classes)), tf.float32)
    large = inference.upsampled(logits, tf.constant([9, 13]))
    assert large.shape[-1] % inference.LANES == 0
    plain = large[..., :classes]
    ids = inference.class_ids(large)
    assert ids.dtype == tf.uint8
    np.testing.assert_array_equal(ids, tf.argmax(plain, -1))
    best = tf.sort(plain, -1)
    assert classes == 2 or bool(tf.reduce_any(best[..., -1] == best[..., -2]))
