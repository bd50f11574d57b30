"""Real weights in: agreement with the TFLite interpreter on real images, and refusals."""
import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.lite.python import schema_py_generated as schema

from tf_advseg.core.errors import UserError
from tf_advseg.models import deeplab, layers, resize, segmentor, zoo
from tf_advseg.models.zoo import flatbuffer, tflite_graph

QUANTISED = 'deeplabv3_mnv2_pascal_quant.tflite'
HALF_QUANTISED = 'deeplabv3_mnv2_dm05_pascal_quant.tflite'
HALF_FLOAT = 'deeplabv3.tflite'
FILES = {QUANTISED: dict(output_stride=16, depth_multiplier=1.0, crop_size=513),
         HALF_QUANTISED: dict(output_stride=16, depth_multiplier=0.5, crop_size=513),
         HALF_FLOAT: dict(output_stride=8, depth_multiplier=0.5, crop_size=257)}


@pytest.fixture(scope='module')
def weights(shared):
    folder = shared / 'zoo'
    if not (folder / QUANTISED).is_file():
        pytest.skip(f'the zoo files are not here: {folder}')
    return folder


@pytest.fixture(scope='module')
def networks(weights):
    """file name -> (network with its weights, report), made once."""
    made = {}

    def network(name):
        if name not in made:
            model = deeplab.deeplab_mobilenet_v2(21, **FILES[name])
            made[name] = model, zoo.read(weights / name, model)
        return made[name]

    return network


def interpreter_classes(path, image):
    """Class ids [H, W] by the TFLite interpreter; image uint8 of the graph's size."""
    interpreter = tf.lite.Interpreter(str(path), num_threads=2)
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()[0]
    if details['dtype'] == np.float32:
        image = image.astype(np.float32) * 2 / 255 - 1
    interpreter.set_tensor(details['index'], image[None])
    interpreter.invoke()
    output = interpreter.get_tensor(interpreter.get_output_details()[0]['index'])[0]
    return output.argmax(-1) if output.ndim == 3 else output


def our_classes(model, image):
    logits = resize.resize_bilinear(model(image[None]), image.shape[:2])
    return logits.numpy()[0].argmax(-1)


@pytest.mark.parametrize('name, photo, share', [
    (QUANTISED, 'bird_513.png', 0.985), (QUANTISED, 'horse_person.jpg', 0.985),
    (HALF_QUANTISED, 'bird_513.png', 0.985), (HALF_QUANTISED, 'horse_person.jpg', 0.985),
    (HALF_FLOAT, 'bird_257.png', 0.999), (HALF_FLOAT, 'horse_person_257.png', 0.999)])
def test_agrees_with_the_tflite_interpreter(weights, networks, name, photo, share):
    model, _ = networks(name)
    size = FILES[name]['crop_size']
    image = Image.open(weights / 'images' / photo).convert('RGB').resize((size, size))
    image = np.asarray(image)
    theirs = interpreter_classes(weights / name, image)
    assert len(np.unique(theirs)) > 1
    agreement = np.mean(our_classes(model, image) == theirs)
    assert agreement >= share, agreement


@pytest.mark.parametrize('name, expected, photo', [
    (QUANTISED, 'zoo_mnv2_os16_bird513.npz', 'bird_513.png'),
    (HALF_FLOAT, 'zoo_dm05_os8_horse257.npz', 'horse_person_257.png')])
def test_agrees_with_the_official_graph_on_real_weights(weights, networks, name, expected, photo):
    model, _ = networks(name)
    image = np.asarray(Image.open(weights / 'images' / photo).convert('RGB'))
    expected = np.load(weights / expected)
    logits = model(image[None]).numpy()[0]
    assert np.abs(logits - expected['logits']).max() < 1e-3 * np.abs(expected['logits']).max()
    assert np.mean(our_classes(model, image) == expected['argmax']) >= 0.999


@pytest.mark.parametrize('name', FILES)
def test_every_variable_is_assigned_once_and_every_constant_accounted_for(networks, name):
    model, report = networks(name)
    assert sorted(report.assigned) == sorted(layers.official_variables(model))
    assert len(report.assigned) == len(model.variables) == 272
    assert not report.reinitialised
    assert len(report.unused) == 3
    assert all('not a weight' in reason for _, reason in report.unused)
    assert '272 variables assigned' in report.text()


def test_kernels_are_those_published_by_scope(weights, networks):
    model, _ = networks(QUANTISED)
    published = np.load(weights / 'zoo_weights_mnv2_pascal_uint8.npz')
    ours = layers.convolutions(model)
    assert len(published.files) == 3 * len(ours)
    for layer in ours:
        scale, zero = published[layer.scope + '|scale_zero']
        kernel = (published[layer.scope + '|q'].astype(np.float64) - zero) * scale
        np.testing.assert_allclose(layer.kernel, kernel, rtol=1e-5, atol=1e-7)
        bias = layer.bias if layer.norm is None else layer.norm.beta
        np.testing.assert_allclose(bias, published[layer.scope + '|bias'], rtol=1e-5, atol=1e-6)


def test_folded_batch_norm_is_an_ordinary_one_of_unit_scale(networks):
    model, _ = networks(HALF_FLOAT)
    for norm in (layer.norm for layer in layers.convolutions(model) if layer.norm):
        np.testing.assert_allclose(norm.scale_and_offset()[0], 1.0, atol=1e-6)
        np.testing.assert_array_equal(norm.moving_mean, 0.0)
        np.testing.assert_array_equal(norm.gamma, 1.0)


def test_another_number_of_classes_starts_only_the_logits_anew_and_says_so(weights, networks):
    model = deeplab.deeplab_mobilenet_v2(8, depth_multiplier=0.5, output_stride=8, seed=3)
    fresh = {n: v.numpy() for n, v in layers.official_variables(model).items()}
    model.logits.kernel.assign_add(tf.ones_like(model.logits.kernel))
    report = zoo.read(weights / HALF_FLOAT, model)
    assert [name for name, _ in report.reinitialised] == [
        'logits/semantic/weights', 'logits/semantic/biases']
    assert '21 classes in the file, 8 in the network' in report.text()
    ours, theirs = (layers.official_variables(m) for m in (model, networks(HALF_FLOAT)[0]))
    for name, variable in ours.items():
        expected = fresh[name] if name.startswith('logits') else theirs[name].numpy()
        np.testing.assert_array_equal(variable, expected, err_msg=name)


def test_a_head_the_file_lacks_is_refused_or_left_out_on_request(weights):
    model = deeplab.deeplab_mobilenet_v2(21, depth_multiplier=0.5, atrous_rates=(6,), decoder=True)
    before = [v.numpy() for v in model.variables]
    with pytest.raises(UserError, match='aspp1_depthwise.*backbone_only'):
        zoo.read(weights / HALF_FLOAT, model)
    for variable, value in zip(model.variables, before):
        np.testing.assert_array_equal(variable, value)
    report = zoo.read(weights / HALF_FLOAT, model, backbone_only=True)
    assert all(name.startswith('MobilenetV2/') for name in report.assigned)
    assert len(report.assigned) + len(report.reinitialised) == len(model.variables)
    assert sum('backbone_only' in reason for _, reason in report.unused) == 4


def test_another_depth_names_both_shapes(weights):
    model = deeplab.deeplab_mobilenet_v2(21, depth_multiplier=1.0)
    with pytest.raises(UserError, match=r'\[3, 3, 3, 16\].*\[3, 3, 3, 32\]') as error:
        zoo.read(weights / HALF_FLOAT, model)
    assert '\n' not in str(error.value)


def test_a_layer_the_network_lacks_names_it(weights):
    model = deeplab.deeplab_mobilenet_v2(21, depth_multiplier=0.5, image_pooling=False)
    with pytest.raises(UserError, match='image_pooling'):
        zoo.read(weights / HALF_FLOAT, model)


@pytest.mark.parametrize('name', [QUANTISED, HALF_FLOAT])
def test_without_names_the_order_of_the_graph_decides(weights, networks, name, monkeypatch):
    model, _ = networks(name)
    contents = flatbuffer.read_convolutions(weights / name)
    nameless = tuple(dataclasses.replace(c, name=f'tensor_{i}')
                     for i, c in enumerate(contents.convolutions))
    monkeypatch.setattr(flatbuffer, 'read_convolutions',
                        lambda path: dataclasses.replace(contents, convolutions=nameless))
    again = deeplab.deeplab_mobilenet_v2(21, **FILES[name])
    zoo.read(weights / name, again)
    for ours, theirs in zip(again.variables, model.variables):
        np.testing.assert_array_equal(ours, theirs)


def test_a_foreign_model_is_refused(weights):
    inner = tf.keras.Sequential([tf.keras.layers.Conv2D(21, 1)])
    with pytest.raises(UserError, match='official names'):
        zoo.read(weights / HALF_FLOAT, segmentor.as_segmentor(inner))


def damaged(data):
    """Truncations, and noise in the middle of the structure."""
    noise = np.random.default_rng(0).bytes(3000)
    return {'empty': b'', 'short': data[:6], 'head': data[:100], 'half': data[:len(data) // 2],
            'tail': data[:-1000], 'noise': data[:8] + noise, 'png': b'\x89PNG\r\n\x1a\n' + noise,
            'structure': data[:-20000] + noise[:2000] * 10}


def test_truncated_and_foreign_files_give_one_line(weights, tmp_path):
    model = deeplab.deeplab_mobilenet_v2(21, depth_multiplier=0.5)
    for name, data in damaged((weights / HALF_FLOAT).read_bytes()).items():
        path = tmp_path / f'{name}.tflite'
        path.write_bytes(data)
        with pytest.raises(UserError) as error:
            zoo.read(path, model)
        assert str(path) in str(error.value) and '\n' not in str(error.value)


def test_missing_files_and_folders_give_one_line(tmp_path):
    model = deeplab.deeplab_mobilenet_v2(2, depth_multiplier=0.25)
    with pytest.raises(UserError, match='does not exist'):
        zoo.read(tmp_path / 'absent.tflite', model)
    with pytest.raises(UserError, match='is a folder'):
        zoo.read(tmp_path, model)


def test_per_channel_int8_and_float16_files_are_read(tmp_path):
    """What TFLite's converter writes today, from a network of two layers."""
    model = tf.keras.Sequential([
        tf.keras.Input([8, 8, 3], batch_size=1), tf.keras.layers.Conv2D(4, 3, padding='same'),
        tf.keras.layers.DepthwiseConv2D(3, padding='same', bias_initializer='ones')])
    kernels = [model.layers[0].kernel.numpy(), model.layers[1].depthwise_kernel.numpy()]
    for kind in ('float32', 'float16', 'int8'):
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if kind != 'float32':
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if kind == 'float16':
            converter.target_spec.supported_types = [tf.float16]
        if kind == 'int8':
            random = np.random.default_rng(0)
            converter.representative_dataset = lambda: (
                [random.normal(size=(1, 8, 8, 3)).astype(np.float32)] for _ in range(5))
        path = tmp_path / f'{kind}.tflite'
        path.write_bytes(converter.convert())
        found = flatbuffer.read_convolutions(path).convolutions
        assert [c.depthwise for c in found] == [False, True]
        for convolution, kernel in zip(found, kernels):
            np.testing.assert_allclose(convolution.kernel, kernel, atol={
                'float32': 0, 'float16': 1e-3, 'int8': 1e-2}[kind])
        np.testing.assert_allclose(found[1].bias, 1.0, atol=1e-2)


@pytest.mark.parametrize('custom, words', [
    ('edgetpu-custom-op', 'compiled for an Edge TPU.*that it was compiled from'),
    ('ethos-u', 'compiled for an Arm Ethos-U'), ('TheirOwn', 'custom operation TheirOwn')])
def test_files_whose_weights_lie_in_a_custom_operation(tmp_path, custom, words):
    code, tensor, operator = schema.OperatorCodeT(), schema.TensorT(), schema.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode, code.version = custom.encode(), 1
    tensor.shape, tensor.type, tensor.name = [1, 9, 9, 3], schema.TensorType.UINT8, b'image'
    operator.inputs, operator.outputs = [0], [0]
    graph, model = schema.SubGraphT(), schema.ModelT()
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [tensor], [operator], [0], [0]
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [schema.BufferT()]
    path = tmp_path / 'x_edgetpu.tflite'
    path.write_bytes(tflite_graph._packed(model))
    with pytest.raises(UserError, match=words) as caught:
        zoo.read(path, deeplab.deeplab_mobilenet_v2(2, depth_multiplier=0.25))
    assert str(path) in str(caught.value) and '\n' not in str(caught.value)
