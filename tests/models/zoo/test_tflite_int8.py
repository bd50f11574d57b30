"""int8: weights keep their sums, biases the channels' means, and the file agrees better for it."""
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.lite.python import convert

from tf_advseg.core.errors import UserError
from tf_advseg.models import deeplab, zoo
from tf_advseg.models.zoo import tflite_export, tflite_graph, tflite_int8, tflite_runtime

SIZE = (129, 129)


def _float_file(function, size):
    concrete = tf.function(function, autograph=False, input_signature=[
        tf.TensorSpec([1, *size, 3], tf.float32, 'image')]).get_concrete_function()
    return tflite_export._converted(
        concrete, 'int8', [np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)], 'small')


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


@pytest.mark.parametrize('litert', [True, False])
def test_means_are_brought_back_and_maps_agree_better(small_file, monkeypatch, litert):
    if not litert:
        monkeypatch.setattr(tflite_runtime, '_litert', lambda: None)
    random = np.random.default_rng(6)
    images = list(random.integers(0, 256, (4, 32, 40, 3), np.uint8))
    content, errors = tflite_int8.quantise(small_file, images)
    assert len(errors) == 3
    last = errors[-1]  # no activation clips it: its means are corrected to rounding
    assert last.left < 0.2 * last.step and 0 < last.step < 1
    made = tflite_runtime.interpreter(content)
    details = made.get_input_details()[0]
    assert (details['dtype'], details['quantization']) == (np.uint8, (1.0, 0))
    assert made.get_output_details()[0]['dtype'] == np.uint8

    # Beside TensorFlow's own ranges and rounding, on images that calibrated neither.
    graph = tflite_graph.Graph(small_file)
    for tensor, found in tflite_int8._statistics(graph, images).items():
        graph.set_range(tensor, min(found.least, 0.0), max(found.largest, 0.0))
    graph.set_range(graph.inputs[0], 0.0, 255.0)
    plain = convert.mlir_quantize(graph.content())
    unseen = list(random.integers(0, 256, (4, 32, 40, 3), np.uint8))
    expected = _maps(small_file, unseen)
    shares = [np.mean(_maps(file, unseen) == expected) for file in (plain, content)]
    assert shares[0] < shares[1] and shares[1] > 0.9


def _maps(content, images):
    made = tflite_runtime.interpreter(content)
    fed, read = made.get_input_details()[0], made.get_output_details()[0]
    found = []
    for image in images:
        made.set_tensor(fed['index'], image[None].astype(fed['dtype']))
        made.invoke()
        found.append(made.get_tensor(read['index']).copy())
    return np.stack(found)


def test_convolutions_that_share_their_constants_are_corrected_apart():
    random = np.random.default_rng(8)
    kernel = tf.constant(random.normal(0, 0.3, (3, 3, 3, 6)), tf.float32)

    def function(image):
        near, far = image / 127.5 - 1.0, image / 40.0 + 2.0
        both = [tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, 'SAME'), tf.linspace(-1.0, 1.0, 6))
                for x in (near, far)]
        return {'class_map': tf.cast(tf.argmax(both[0] - both[1], -1, output_type=tf.int32),
                                     tf.uint8)}
    content = _float_file(function, (24, 24))
    images = list(random.integers(0, 256, (3, 24, 24, 3), np.uint8))
    graph = tflite_graph.Graph(content)
    convolutions = [one for one in graph.operators if graph.is_convolution(one)]
    assert len({one.inputs[2] for one in convolutions}) == len(convolutions) == 2
    found = tflite_int8._statistics(graph, images)
    for operator in convolutions:
        tflite_int8._round_weights(graph, operator, found)
    outputs = [one.outputs[0] for one in convolutions]
    moved = tflite_int8._statistics(graph, images)
    # Padding at the border sees no mean: what is left is small beside what rounding does.
    for operator, output in zip(convolutions, outputs):
        error = np.abs(moved[output].mean - found[output].mean)
        assert error.max() < 0.02 * found[output].deviation.min()


def test_statistics_do_not_depend_on_how_they_are_grouped(small_file, monkeypatch):
    images = list(np.random.default_rng(6).integers(0, 256, (2, 32, 40, 3), np.uint8))
    whole = tflite_int8._statistics(tflite_graph.Graph(small_file), images)
    monkeypatch.setattr(tflite_int8, 'GROUP_BYTES', 1)
    single = tflite_int8._statistics(tflite_graph.Graph(small_file), images)
    assert list(whole) == list(single) and len(whole) > 4
    for tensor, found in whole.items():
        np.testing.assert_allclose(single[tensor].mean, found.mean, rtol=1e-6)
        assert single[tensor].largest == pytest.approx(found.largest)


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


@pytest.mark.parametrize('size', [(65, 1), (1, 65), (4, 4)])
def test_images_of_hardly_a_pixel_are_refused(size):
    model = deeplab.deeplab_mobilenet_v2(3, depth_multiplier=0.25)
    image = np.zeros((*size, 3), np.uint8)
    with pytest.raises(UserError, match=f'{size[0]}x{size[1]}: tflite_int8 needs sides of 16'):
        tflite_export.convert(model, size, 'int8', [image])
