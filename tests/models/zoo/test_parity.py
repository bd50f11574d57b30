"""The comparison with a graph that TensorFlow runs: it agrees when it should, and only then."""
import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.models import deeplab, zoo
from tf_advseg.models.zoo import frozen_graph, harmless, parity, tflite_export


def builder(official_files, values):
    """Function (output_stride, crop_size) -> the network with these values."""
    def build(output_stride, crop_size):
        crop = {} if crop_size is None else {'crop_size': crop_size}
        model = official_files.mobilenet(output_stride=output_stride, atrous_rates=(
            4 * 16 // output_stride,), **crop)
        return official_files.fill(model, values)
    return build


@pytest.fixture(scope='module')
def graph(official_files, tmp_path_factory):
    """(values, path) of a frozen graph at output stride 8."""
    make = lambda: official_files.mobilenet(output_stride=8, atrous_rates=(8,))  # noqa: E731
    values = official_files.values(make())
    values['logits/semantic/weights'] *= np.float32(4)  # spread, as trained logits are
    path = tmp_path_factory.mktemp('graph') / 'frozen_inference_graph.pb'
    path.write_bytes(official_files.frozen(make, values).SerializeToString())
    return values, path


def test_a_graph_that_would_write_a_file_is_not_run(official_files, graph, tmp_path):
    """TensorFlow runs what its outputs depend on, and control inputs count."""
    values, path = graph
    victim, named = tmp_path / 'victim', tmp_path / 'g.pb'
    for inside in (False, True):
        definition = frozen_graph.load(path)
        body = definition.node
        if inside:
            function = definition.library.function.add()
            function.signature.name, body = 'innocent', function.node_def
        for name, text in (('file', str(victim)), ('text', 'written')):
            node = body.add(name=name, op='Const')
            node.attr['dtype'].type = tf.string.as_datatype_enum
            node.attr['value'].tensor.CopyFrom(tf.make_tensor_proto(text))
        body.add(name='harm', op='WriteFile', input=['file', 'text'])
        last = next(n for n in definition.node if n.name == frozen_graph.OUTPUT)
        last.input.extend([] if inside else ['^harm'])
        named.write_bytes(definition.SerializeToString())
        with pytest.raises(UserError, match=f'{named}: not run: node harm is WriteFile') as caught:
            parity.compare(named, builder(official_files, values))
        assert not victim.exists() and '\n' not in str(caught.value)


def test_nothing_on_the_list_reaches_outside():
    """By the words that TensorFlow's names have for files, processes, functions and the net."""
    words = ('File', 'Py', 'Save', 'Restore', 'Read', 'Write', 'Print', 'Summary', 'Call',
             'Dataset', 'Send', 'Recv', 'Queue', 'Table', 'Rpc', 'Collective', 'Decode', 'Delete',
             'Session', 'Lib', 'Var', 'Xla', 'Resource', 'If', 'While', 'Map')
    suspects = {name for name in harmless.OPERATIONS if any(word in name for word in words)}
    assert suspects == {
        'FakeQuantWithMinMaxVars', 'FakeQuantWithMinMaxVarsPerChannel',  # their ranges
        'TensorArrayReadV3', 'TensorArrayWriteV3'}  # of an array in memory
    for name in harmless.OPERATIONS - {'ParallelConcat'}:
        assert hasattr(tf.raw_ops, name), name


def test_custom_operations_of_a_tflite_file_are_not_run(official_files, graph, tmp_path):
    """TensorFlow's own, WriteFile among them, come in TFLite files in the guise of custom ones."""
    @tf.function(input_signature=[tf.TensorSpec([1, 5, 5, 3])])
    def harm(x):
        x = tf.nn.conv2d(x, tf.ones([1, 1, 3, 2]), 1, 'SAME')
        return tf.raw_ops.Betainc(a=x, b=x, x=x)

    converter = tf.lite.TFLiteConverter.from_concrete_functions([harm.get_concrete_function()])
    converter.allow_custom_ops = True
    (tmp_path / 'm.tflite').write_bytes(converter.convert())
    with pytest.raises(UserError, match='m.tflite: not run: has the custom operation Betainc'):
        parity.compare(tmp_path / 'm.tflite', builder(official_files, graph[0]))


@pytest.mark.slow
@pytest.mark.parametrize('network, variant', [
    ('deeplab_xception', 'xception_41'), ('deeplab_resnet', 'resnet_v1_50_beta')])
def test_the_other_backbones_agree_with_their_graphs(official_files, tmp_path, network, variant):
    def make():
        return getattr(deeplab, network)(3, variant, crop_size=33, dropout_rate=0.0)

    values = official_files.values(make())
    path = tmp_path / 'frozen_inference_graph.pb'
    path.write_bytes(official_files.frozen(make, values, 33).SerializeToString())
    model = make()  # after the graph: Keras turns the class into TF1's and back
    report = zoo.read(path, model)
    assert sorted(report.assigned) == sorted(values) and not report.reinitialised
    for name, value in official_files.contents(model).items():
        assert value.tobytes() == values[name].tobytes(), name

    def build(output_stride, crop_size):
        assert output_stride == 16  # where the graph's strides and rates are found
        return model

    result = parity.compare(path, build)
    assert result.good and result.kind == 'frozen graph' and result.size == (33, 33)
    assert result.max_delta < 1e-4 * result.max_logit


def test_a_graph_trained_for_8_bits_is_held_to_less(official_files, graph, tmp_path):
    values, path = graph
    faked = official_files.faked(frozen_graph.load(path), kernel_bits=16)
    (tmp_path / 'g.pb').write_bytes(faked.SerializeToString())
    result = parity.compare(tmp_path / 'g.pb', builder(official_files, values))
    assert result.kind == 'quantised frozen graph' and result.output_stride == 8
    assert result.max_delta > 1e-4 * result.max_logit  # it does round
    assert 'logits' not in result.expected() and '98 %' in result.expected()
    at_bound = dataclasses.replace(result, clear_agreement=0.985)
    assert at_bound.good and not dataclasses.replace(at_bound, kind='frozen graph').good
    assert not dataclasses.replace(result, clear_agreement=0.97).good


def test_the_same_weights_agree_at_the_graph_s_own_stride(official_files, graph):
    values, path = graph
    result = parity.compare(path, builder(official_files, values))
    assert result.good and result.kind == 'frozen graph'
    assert (result.output_stride, result.size) == (8, (65, 65))
    assert result.max_delta < 1e-4 * result.max_logit and result.clear_agreement > 0.999
    assert 0 < result.clear_share <= 1
    assert 'stride 8, 65x65' in result.text() and '\n' not in result.text()


def test_a_slip_in_one_layer_shows(official_files, graph):
    values, path = graph
    name = 'MobilenetV2/expanded_conv_10/project/BatchNorm/moving_mean'
    slipped = {**values, name: values[name] + np.float32(1)}
    result = parity.compare(path, builder(official_files, slipped))
    assert not result.good and result.max_delta > 0.01 * result.max_logit


def test_an_image_is_brought_to_the_graph_s_size(official_files, graph):
    values, path = graph
    image = parity.synthetic_image(40, 100)
    assert parity.compare(path, builder(official_files, values), image).size == (65, 65)
    fitted = parity._fitted(image, (65, 65))
    assert fitted.shape == (65, 65, 3) and (fitted[30:] == 127).all()


def test_graphs_that_cannot_be_compared_are_one_line(official_files, graph, tmp_path):
    values, path = graph
    definition = frozen_graph.load(path)
    for node in definition.node:
        node.name = node.name.replace('SemanticPredictions', 'other')
    (tmp_path / 'g.pb').write_bytes(definition.SerializeToString())
    with pytest.raises(UserError, match='no node SemanticPredictions'):
        parity.compare(tmp_path / 'g.pb', builder(official_files, values))

    def wrong_rates(output_stride, crop_size):
        return official_files.mobilenet(output_stride=output_stride, atrous_rates=(3,))

    with pytest.raises(UserError, match='at no output stride'):
        parity.compare(path, wrong_rates)


@pytest.mark.parametrize('name, depth, stride, kind', [
    ('deeplabv3.tflite', 0.5, 8, 'TFLite model'),
    ('deeplabv3_mnv2_dm05_pascal_quant.tflite', 0.5, 16, 'quantised TFLite model')])
def test_real_tflite_files_agree(shared, name, depth, stride, kind):
    path = shared / 'zoo' / name
    if not path.is_file():
        pytest.skip(f'the zoo files are not here: {path}')

    def build(output_stride, crop_size):
        model = deeplab.deeplab_mobilenet_v2(21, output_stride, depth, crop_size=crop_size)
        zoo.read(path, model)
        return model

    from PIL import Image
    image = np.asarray(Image.open(shared / 'zoo' / 'images' / 'bird_513.png').convert('RGB'))
    result = parity.compare(path, build, image)
    assert result.good and result.kind == kind and result.output_stride == stride
    assert (result.max_delta is None) == kind.startswith('quantised')


@pytest.mark.parametrize('rounded, kind', [(False, 'TFLite model'),
                                           (True, 'quantised TFLite model')])
def test_kernels_and_not_the_input_tell_what_is_quantised(official_files, graph, tmp_path, rounded,
                                                          kind):
    """Our own files take bytes whatever their kernels are."""
    values, _ = graph
    build = builder(official_files, values)
    images = [parity.synthetic_image(65, 65)]
    content = tflite_export.convert(build(16, (65, 65)), (65, 65),
                                    'int8' if rounded else 'float32', images)
    path = tmp_path / 'm.tflite'
    path.write_bytes(content)
    result = parity.compare(path, build)
    assert result.kind == kind and result.output_stride == 16
    assert rounded or result.good and '99.9 %' in result.expected()


def test_the_synthetic_image_is_one_and_has_many_colours():
    image = parity.synthetic_image(65, 97)
    assert image.shape == (65, 97, 3) and image.dtype == np.uint8
    np.testing.assert_array_equal(image, parity.synthetic_image(65, 97))
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 500
