"""What a foreign graph does otherwise than the network is told, and its weights are not taken."""
import types

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.models import deeplab, zoo
from tf_advseg.models.zoo import assignment, flatbuffer, frozen_graph, parity, tflite

FILES = ('deeplabv3_mnv2_ade20k_uint8.tflite', 'deeplabv3_mnv2_ade20k_int8.tflite')


def tflite_file(path, quantised=False, **options):
    """A file of one convolution with ReLU6, enlarged by `options`, and a pixel spread out."""
    kernel = tf.constant(np.random.default_rng(0).normal(0, 1, [3, 3, 3, 4]), tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([1, 8, 8, 3])])
    def function(image):
        made = tf.nn.relu6(tf.nn.conv2d(image, kernel, 2, 'SAME'))
        pixel = tf.raw_ops.ResizeBilinear(images=tf.reduce_mean(made, [1, 2], keepdims=True),
                                          size=[4, 4])
        return tf.raw_ops.ResizeBilinear(images=made + pixel, size=[8, 8], **options)

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], tf.Module())
    if quantised:
        random = np.random.default_rng(1)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            [random.uniform(-1, 1, (1, 8, 8, 3)).astype(np.float32)] for _ in range(4))
        converter.inference_input_type = tf.uint8
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    path.write_bytes(converter.convert())
    return flatbuffer.read_convolutions(path)


@pytest.mark.parametrize('options', [
    {'align_corners': True}, {'align_corners': False}, {'half_pixel_centers': True}])
def test_the_settings_of_a_tflite_file_are_read(tmp_path, options):
    found = tflite_file(tmp_path / 'a.tflite', **options)
    ways = options.get('align_corners', False), options.get('half_pixel_centers', False)
    assert found.enlargements == (ways,) and found.input_range is None
    assert [one.activation for one in found.convolutions] == ['RELU6']


def test_what_an_image_s_bytes_stand_for(tmp_path):
    found = tflite_file(tmp_path / 'a.tflite', quantised=True, align_corners=True)
    np.testing.assert_allclose(found.input_range, (-1, 1), atol=0.05)


def contents(**changes):
    return flatbuffer.Contents((), (), **changes)


@pytest.mark.parametrize('found, words, head', [
    (contents(enlargements=((False, False),)), 'align_corners=False', True),
    (contents(enlargements=((True, False), (False, True))), 'half_pixel_centers=True', True),
    (contents(input_range=(0.0, 1.0)), 'scaled to 0 .. 1', False)])
def test_other_settings_than_the_network_s_are_conflicts(found, words, head):
    (text, about_head), = tflite._conflicts(found, {}, {})
    assert words in text and about_head == head


@pytest.mark.parametrize('found', [contents(input_range=(-1.0, 0.992)), contents(
    input_range=(0.0, 255.0)), contents(enlargements=((True, False),)), contents()])
def test_the_network_s_own_settings_are_none(found):
    assert not list(tflite._conflicts(found, {}, {}))


def test_another_activation_is_a_conflict_of_its_part():
    layer = types.SimpleNamespace(activation='relu6')
    for scope, head in (('MobilenetV2/Conv', False), ('aspp0', True)):
        for said, conflicts in (('RELU', 1), ('RELU6', 0), (None, 0)):
            convolution = types.SimpleNamespace(activation=said)
            found = list(tflite._conflicts(contents(), {scope: convolution}, {scope: layer}))
            assert [one[1] for one in found] == conflicts * [head]


def test_a_conflict_assigns_nothing_and_one_of_the_head_leaves_the_backbone(
        official_files, small, unchanged):
    model = official_files.mobilenet(seed=1)
    head, all_ = [assignment.Found('test', small.values, conflicts=((text, text == 'head'),))
                  for text in ('head', 'all')]
    for found, options in ((head, {}), (all_, {}), (all_, {'backbone_only': True})):
        with unchanged(model), pytest.raises(UserError, match='file: .*: its weights would give'):
            assignment.assign('file', model, found, **options)
    assert assignment.assign('file', model, head, backbone_only=True).assigned


@pytest.mark.parametrize('changes, conflicts', [
    ({}, 0), ({'align_corners': False}, 1), ({'half_pixel_centers': True}, 1)])
def test_a_frozen_graph_s_last_enlargement(changes, conflicts):
    with tf.Graph().as_default() as graph:
        logits = tf.compat.v1.placeholder(tf.float32, [1, 5, 5, 3])
        tf.raw_ops.ResizeBilinear(images=logits, size=[9, 9])  # of another branch
        tf.argmax(tf.raw_ops.ResizeBilinear(images=logits, size=[9, 9], align_corners=True), -1)
    definition = graph.as_graph_def()
    for node in definition.node:
        if node.op == 'ResizeBilinear' and node.attr['align_corners'].b:
            for key, value in changes.items():
                node.attr[key].b = value
    found = list(frozen_graph._conflicts(frozen_graph.Graph(definition)))
    assert len(found) == conflicts and all(head for _, head in found)


@pytest.mark.parametrize('name', FILES)
def test_published_files_that_enlarge_otherwise(shared, name):
    path = shared / 'zoo' / name
    if not path.is_file():
        pytest.skip(f'the published weights are not here: {path}')
    model = deeplab.deeplab_mobilenet_v2(32, decoder=True)
    with pytest.raises(UserError, match='align_corners=False.*--backbone_only'):
        zoo.read(path, model)
    report = zoo.read(path, model, backbone_only=True)
    assert len(report.assigned) == 5 * 51


def test_the_made_up_picture_shows_what_enlarging_otherwise_costs(shared, monkeypatch):
    path = shared / 'zoo' / FILES[0]
    if not path.is_file():
        pytest.skip(f'the published weights are not here: {path}')
    monkeypatch.setattr(tflite, '_conflicts', lambda *_: ())

    def build(stride, size):
        model = deeplab.deeplab_mobilenet_v2(32, stride, crop_size=size, decoder=True)
        zoo.read(path, model)
        return model

    found = parity.compare(path, build)
    assert not found.good and found.agreement < 0.95


def test_the_made_up_picture_fits_any_size():
    for size in ((513, 257), (2, 3), (1, 1)):
        image = parity.hard_image(*size)
        assert image.shape == (*size, 3) and image.dtype == np.uint8
    assert parity.hard_image(65, 65).std() > 20
    np.testing.assert_array_equal(parity.hard_image(9, 9), parity.hard_image(9, 9))
