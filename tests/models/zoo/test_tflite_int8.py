"""int8: weights keep their sums, biases the channels' means, and the file agrees better for it."""
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_advseg.models import deeplab, zoo
from tf_advseg.models.zoo import tflite_export, tflite_graph, tflite_int8, tflite_runtime

SIZE = (129, 129)


def _float_file(function, size):
    concrete = tf.function(function, autograph=False, input_signature=[
        tf.TensorSpec([1, *size, 3], tf.float32, 'image')]).get_concrete_function()
    return tflite_export._converted(
        concrete, 'int8', [np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)])


@pytest.mark.parametrize('shape, depthwise', [((1, 3, 3, 40), True), ((6, 3, 3, 5), False)])
def test_kernels_lie_on_the_grid_and_depthwise_ones_keep_their_sums(shape, depthwise):
    kernel = np.random.default_rng(1).normal(0, 1, shape)
    axes = (0, 1, 2) if depthwise else (1, 2, 3)
    step = np.abs(kernel).max(axes, keepdims=True) / 127
    rounded = tflite_int8.rounded_kernel(kernel, depthwise)
    levels = rounded / step
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-9)
    assert np.abs(levels).max() <= 127.0 + 1e-9
    assert np.abs(rounded - kernel).max() <= step.max() * (1.0 if depthwise else 0.5) + 1e-12
    missing = np.abs((rounded - kernel).sum(axes) / step.ravel())
    nearest = np.abs((np.round(kernel / step) * step - kernel).sum(axes) / step.ravel())
    if depthwise:
        assert missing.max() <= 0.5 + 1e-9 < nearest.max()
    else:
        np.testing.assert_allclose(missing, nearest, atol=1e-9)


def test_a_kernel_of_zeros_stays():
    np.testing.assert_array_equal(tflite_int8.rounded_kernel(np.zeros((1, 3, 3, 2)), True), 0.0)


def test_a_range_leaves_out_what_is_rare():
    values = np.random.default_rng(0).normal(0, 1, 40000)
    found = tflite_int8._Statistics(-50.0, 50.0, None, None, values)
    least, largest = tflite_int8._range(found)
    assert -50.0 < least < -3.0 and 3.0 < largest < 50.0
    least, largest = tflite_int8._range(tflite_int8._Statistics(
        1.0, 6.0, None, None, np.linspace(1.0, 6.0, 5000)))
    assert least == 0.0 and largest > 5.0  # 0 has a code of its own
    assert tflite_int8._range(tflite_int8._Statistics(0.0, 0.0, None, None, np.zeros(3))) == (0, 0)


@pytest.fixture(scope='module')
def small_file():
    random = np.random.default_rng(3)
    first = tf.constant(random.normal(0, 0.3, (3, 3, 3, 8)), tf.float32)
    depthwise = tf.constant(random.normal(0, 1, (3, 3, 8, 1)) * np.geomspace(
        1, 40, 8)[:, None], tf.float32)
    last = tf.constant(random.normal(0, 0.3, (1, 1, 8, 4)), tf.float32)

    def function(image):
        x = tf.nn.relu6(tf.nn.bias_add(tf.nn.conv2d(
            image / 127.5 - 1.0, first, 1, 'SAME'), tf.linspace(-1.0, 1.0, 8)))
        x = tf.nn.relu6(tf.nn.bias_add(tf.nn.depthwise_conv2d(
            x, depthwise, [1, 1, 1, 1], 'SAME'), tf.linspace(-1.0, 1.0, 8)))
        x = tf.nn.bias_add(tf.nn.conv2d(x, last, 1, 'SAME'), tf.zeros(4))
        return {'class_map': tf.cast(tf.argmax(x, -1, output_type=tf.int32), tf.uint8)}
    return _float_file(function, (32, 40))


def test_operations_one_by_one_are_the_whole(small_file):
    graph = tflite_graph.Graph(small_file)
    image = np.random.default_rng(5).uniform(0, 255, (1, 32, 40, 3)).astype(np.float32)
    written = [operator.outputs[0] for operator in graph.operators]
    whole = dict(zip(written, graph.runner(written)(image)))
    values = {graph.inputs[0]: image}
    for operator in graph.operators:
        found = graph.single(operator)([values[i] for i in graph.fed_to(operator)])
        values.update(zip(operator.outputs, found))
        np.testing.assert_allclose(found[0], whole[operator.outputs[0]], atol=1e-4)
    assert sum(map(graph.is_convolution, graph.operators)) == 3


def test_a_constant_that_is_set_is_read_back_and_computed_with(small_file):
    graph = tflite_graph.Graph(small_file)
    operator = [one for one in graph.operators if graph.is_convolution(one)][-1]
    image = np.full((1, 32, 40, 3), 99.0, np.float32)
    before = graph.runner([operator.outputs[0]])(image)[0].copy()
    bias = graph.constant(operator.inputs[2])
    graph.set_constant(operator.inputs[2], bias + 2.0)
    again = tflite_graph.Graph(graph.content())
    np.testing.assert_array_equal(again.constant(operator.inputs[2]), bias + 2.0)
    after = again.runner([operator.outputs[0]])(image)[0]
    np.testing.assert_allclose(after, before + 2.0, atol=1e-4)


def test_means_are_brought_back(small_file):
    images = list(np.random.default_rng(6).integers(0, 256, (4, 32, 40, 3), np.uint8))
    content, errors = tflite_int8.quantise(small_file, images)
    assert len(errors) == 3
    last = errors[-1]  # no activation clips it: its means are corrected to rounding
    assert last.left < 0.2 * last.step and 0 < last.step < 1
    made = tflite_runtime.interpreter(content)
    details = made.get_input_details()[0]
    assert (details['dtype'], details['quantization']) == (np.uint8, (1.0, 0))
    assert made.get_output_details()[0]['dtype'] == np.uint8


@pytest.mark.slow
def test_photographs_that_calibrated_nothing(shared):
    folder = shared / 'zoo'
    path = folder / 'deeplabv3_mnv2_pascal_quant.tflite'
    if not path.is_file():
        pytest.skip(f'the published weights are not here: {path}')
    model = deeplab.deeplab_mobilenet_v2(21, crop_size=SIZE)
    zoo.read(path, model)
    bird, horse = (np.array(Image.open(folder / 'images' / name).convert('RGB').resize(SIZE[::-1]))
                   for name in ('bird_513.png', 'horse_person_257.png'))
    content = tflite_export.convert(model, SIZE, 'int8', [bird, bird[:, ::-1]])
    found = tflite_export.agreement(content, model, [horse])
    assert found.pixels > 0.95
    again = tflite_export.convert(model, SIZE, 'int8', [bird, bird[:, ::-1]])
    assert again == content
