"""Fine-tuning of int8: the simulation is the file, and the file learns what its network says."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.models.zoo import (tflite_export, tflite_fine_tuning, tflite_graph, tflite_int8,
                                  tflite_runtime, tflite_simulation)

SIZE = (32, 40)


def _network(image):
    """Every kind of operation that DeepLab has, on few channels."""
    random = np.random.default_rng(3)

    def convolved(x, size, filters, **options):
        kernel = random.normal(0, 1.4 / (size * x.shape[-1] ** 0.5), (size, size, x.shape[-1],
                                                                       filters))
        return tf.nn.bias_add(tf.nn.conv2d(x, tf.constant(kernel, tf.float32), padding='SAME', **{
            'strides': 1, **options}), tf.linspace(-0.5, 0.5, filters))

    x = tf.nn.relu6(convolved(image / 127.5 - 1.0, 3, 8, strides=2))
    kernel = tf.constant(random.normal(0, 0.5, (3, 3, 8, 1)), tf.float32)
    y = tf.nn.relu6(tf.nn.bias_add(tf.nn.depthwise_conv2d(
        x, kernel, [1, 1, 1, 1], 'SAME', dilations=[2, 2]), tf.linspace(-1.0, 1.0, 8)))
    x = x + convolved(y, 1, 8)
    y = convolved(tf.nn.relu(tf.nn.max_pool2d(x, 3, 1, 'SAME')), 3, 8, dilations=2)
    pooled = convolved(tf.reduce_mean(x, [1, 2], keepdims=True), 1, 8)
    pooled = tf.compat.v1.image.resize_bilinear(pooled, y.shape[1:3], align_corners=True)
    return convolved(tf.concat([pooled, y], -1), 1, 4)


def _file(network, kind):
    def function(image):
        logits = tf.compat.v1.image.resize_bilinear(network(image), SIZE, align_corners=True)
        return {'class_map': tf.cast(tf.argmax(logits, -1, output_type=tf.int32), tf.uint8)}
    concrete = tf.function(function, autograph=False, input_signature=[
        tf.TensorSpec([1, *SIZE, 3], tf.float32, 'image')]).get_concrete_function()
    return tflite_export._converted(concrete, kind, _images(1), 'small')


def _images(count, seed=0):
    """Soft images of a few colours each."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, 4, 5, 3)).astype(np.float32)
    return list(tf.image.resize(coarse, SIZE).numpy().astype(np.uint8))


@pytest.fixture(scope='module')
def plain():
    return _file(_network, 'float32')


@pytest.fixture(scope='module')
def quantised():
    return tflite_int8.quantise(_file(_network, 'int8'), _images(6))[0]


def _logits(graph, images):
    """What an interpreter has in the tensor that is compared."""
    tensor = tflite_simulation.logits(graph)
    run = graph.runner([tensor])
    return np.concatenate([graph.as_numbers(tensor, run(image[None])[0]) for image in images])


def _map(content, images):
    return np.stack(list(_runs(tflite_runtime.interpreter(content), images)))


def _runs(made, images):
    fed, read = made.get_input_details()[0], made.get_output_details()[0]
    for image in images:
        made.set_tensor(fed['index'], image[None].astype(fed['dtype']))
        made.invoke()
        yield made.get_tensor(read['index'])[0].copy()


def test_the_simulation_is_the_file_to_its_rounding(quantised):
    graph = tflite_graph.Graph(quantised)
    student = tflite_simulation.Simulation(graph)
    images = np.stack(_images(5, seed=1))
    found = student(tf.constant(images, tf.float32)).numpy()
    step = graph.scale(student.output)[0]
    apart = np.abs(found - _logits(graph, images)) / step
    # An interpreter rounds halves another way, and its sums are of integers.
    assert apart.mean() < 0.5 and apart.max() < 6
    assert np.ptp(found) > 50 * step
    np.testing.assert_allclose(found[:1], student(tf.constant(images[:1], tf.float32)), atol=1e-5)


def test_a_file_whose_variables_did_not_move_stays(quantised):
    graph = tflite_graph.Graph(quantised)
    before = graph.content()
    tflite_simulation.Simulation(graph).write()
    assert graph.content() == before


def test_gradients_pass_the_rounding(quantised):
    student = tflite_simulation.Simulation(tflite_graph.Graph(quantised))
    images = tf.constant(np.stack(_images(2, seed=2)), tf.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(student(images)))
    gradients = tape.gradient(loss, student.variables)
    assert len(gradients) == 12
    assert all(np.abs(gradient.numpy()).max() > 0 for gradient in gradients)
    # The last bias is added to what is rounded: its gradient is that of the sum, by hand.
    found = student(images)
    expected = tf.reduce_sum(2.0 * found, [0, 1, 2]) * student._graph.scale(student.output)[0]
    np.testing.assert_allclose(gradients[-1], expected, rtol=0.05, atol=0.05)


def test_the_divergence_is_that_of_the_definition():
    random = np.random.default_rng(4)
    expected, found = random.normal(0, 2, (2, 2, 3, 5)), random.normal(0, 2, (2, 2, 3, 5))
    p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (expected, found))
    np.testing.assert_allclose(tflite_fine_tuning.divergence(expected, found),
                               (p * np.log(p / q)).sum(-1).mean())
    assert float(tflite_fine_tuning.divergence(found, found)) == 0.0


def test_a_spoilt_file_learns_what_its_network_says(plain, quantised, monkeypatch):
    graph = tflite_graph.Graph(quantised)
    last = [one for one in graph.operators if graph.is_convolution(one)][-1]
    bias = graph.constant(last.inputs[2])
    steps = np.array([12, -12, 12, -12]) * graph.scale(last.outputs[0]) / graph.scale(
        last.inputs[2])
    graph.set_constant(last.inputs[2], bias + steps.astype(np.int64))
    spoilt, unseen = graph.content(), _images(8, seed=9)
    monkeypatch.setattr(tflite_fine_tuning, 'RATE', 0.5)
    learnt = tflite_fine_tuning.fine_tuned(
        plain, spoilt, tflite_export.FineTuning(60, _images(6, seed=8), show=False))
    expected = _map(plain, unseen)
    before, after = (np.mean(_map(content, unseen) == expected) for content in (spoilt, learnt))
    assert after > before + 0.5 * (1.0 - before)
    assert len(learnt) == len(spoilt)


def test_the_rate_rises_and_falls():
    rate = tflite_fine_tuning._Rate(100)
    rates = [float(rate(step)) for step in range(100)]
    assert np.argmax(rates) in range(8, 12) and max(rates) <= tflite_fine_tuning.RATE
    assert rates[0] < 0.1 * max(rates) and rates[-1] < 0.01 * max(rates)


@pytest.mark.parametrize('network, text', [
    (lambda x: tf.tanh(_network(x)), 'operations TANH of'),
    (lambda x: _network(tf.tanh(x / 255.0)), 'operations TANH of')])
def test_an_operation_that_is_not_known_is_one_line(network, text):
    content = tflite_int8.quantise(_file(network, 'int8'), _images(2))[0]
    with pytest.raises(UserError, match=text) as caught:
        tflite_simulation.Simulation(tflite_graph.Graph(content))
    assert 'leave --fine_tune_steps out' in str(caught.value)


def test_a_file_without_an_argmax_is_one_line():
    concrete = tf.function(lambda image: {'class_map': _network(image)}, input_signature=[
        tf.TensorSpec([1, *SIZE, 3], tf.float32, 'image')]).get_concrete_function()
    graph = tflite_graph.Graph(tflite_export._converted(concrete, 'float32', (), 'small'))
    with pytest.raises(UserError, match='one argmax'):
        tflite_simulation.logits(graph)
