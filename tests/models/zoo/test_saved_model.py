"""SavedModels: what the official export gives, any size, and the weights back."""
import io
import json
import resource

import decided_maps
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_advseg.core.errors import UserError
from tf_advseg.data.augmentation.official_preprocessing import SizeRange
from tf_advseg.evaluation import prediction
from tf_advseg.models import deeplab, layers, zoo
from tf_advseg.models.zoo import saved_model

CROP = 65


def randomised(model, seed=0):
    random = np.random.default_rng(seed)
    for name, variable in layers.official_variables(model).items():
        shape = variable.shape.as_list()
        if name.endswith(('gamma', 'moving_variance')):
            variable.assign(random.uniform(0.5, 1.5, shape))
        elif name.endswith('weights'):
            fan_in = 9 if 'depthwise' in name else np.prod(shape[:3])
            variable.assign(random.normal(0.0, (2.0 / fan_in) ** 0.5, shape))
        else:
            variable.assign(random.normal(0.0, 0.2, shape))
    return model


def network(**arguments):
    arguments = {'num_classes': 5, 'depth_multiplier': 0.25, 'crop_size': CROP, **arguments}
    return deeplab.deeplab_mobilenet_v2(**arguments)


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    """(segmentor, folder of its SavedModel, the SavedModel loaded by TensorFlow)."""
    segmentor = randomised(network())
    folder = tmp_path_factory.mktemp('saved')
    saved_model.write(folder, segmentor)
    return segmentor, folder, tf.saved_model.load(str(folder))


def png(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, 'PNG')
    return stream.getvalue()


def make_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_a_disk_that_takes_no_more_is_one_line(exported, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(UserError, match='larger than the system allows') as caught:
            saved_model.write(tmp_path, exported[0])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(caught.value).startswith(f'{tmp_path}: ')


def test_the_signatures(exported):
    segmentor, _, loaded = exported
    assert set(loaded.signatures) == {'serving_default', 'class_map', 'encoded'}
    for name, outputs in (('serving_default', {'class_map', 'probabilities'}),
                          ('class_map', {'class_map'})):
        signature = loaded.signatures[name]
        spec = signature.structured_input_signature[1]
        assert {n: (s.dtype, s.shape.as_list()) for n, s in spec.items()} == {
            'image': (tf.uint8, [None, None, None, 3])}
        assert set(signature.structured_outputs) == outputs
        assert signature.structured_outputs['class_map'].dtype == tf.uint8
    probabilities = loaded.signatures['serving_default'].structured_outputs['probabilities']
    assert probabilities.dtype == tf.float32 and probabilities.shape[-1] == segmentor.num_classes


@pytest.mark.parametrize('size', [(65, 65), (40, 51), (97, 113), (50, 90), (1, 1)])
def test_any_size_as_the_evaluation_has_it(exported, size):
    segmentor, _, loaded = exported
    image = make_image(*size)
    ids, probabilities = prediction.predict(segmentor, image, CROP, probabilities=True)
    outputs = loaded.signatures['serving_default'](image=tf.constant(image[None]))
    np.testing.assert_allclose(outputs['probabilities'][0], probabilities, atol=1e-4)
    best = np.sort(probabilities, -1)
    clear = best[..., -1] - best[..., -2] > 1e-3
    np.testing.assert_array_equal(outputs['class_map'][0].numpy()[clear], ids[clear])
    alone = loaded.signatures['class_map'](image=tf.constant(image[None]))
    # A function without probabilities is another graph: where two classes tie it may choose anew.
    np.testing.assert_array_equal(alone['class_map'][0].numpy()[clear], ids[clear])


def test_a_batch_is_its_images(exported):
    images = np.stack([make_image(50, 60, seed) for seed in range(3)])
    signature = exported[2].signatures['class_map']
    together = signature(image=tf.constant(images))['class_map'].numpy()
    alone = [signature(image=tf.constant(image[None]))['class_map'][0] for image in images]
    assert np.mean(together == np.stack(alone)) > 0.999


def test_encoded_images_give_the_maps_of_their_pixels_as_pngs():
    signatures = saved_model.ExportedSegmentor(decided_maps.segmentor((CROP, CROP))).signatures
    grey = np.repeat(make_image(40, 51)[..., :1], 3, -1)
    images = [make_image(65, 65), make_image(70, 90), make_image(40, 51), grey]
    files = [png(image) for image in images[:2]]
    files.append(png(np.concatenate([images[2], images[2][..., :1]], -1)))  # alpha is left out
    files.append(png(grey[..., 0]))
    found = signatures['encoded'](image_bytes=tf.constant(files))
    assert set(found) == {'class_map_bytes'}
    for image, content in zip(images, found['class_map_bytes'].numpy()):
        ids = Image.open(io.BytesIO(content))
        expected = signatures['class_map'](image=tf.constant(image[None]))
        assert ids.mode == 'L' and len(ids.getcolors()) > 1
        np.testing.assert_array_equal(np.array(ids), expected['class_map'][0])
    with pytest.raises(tf.errors.InvalidArgumentError):
        signatures['encoded'](image_bytes=tf.constant([b'no image']))


def test_the_weights_are_in_the_file_once(exported):
    names = [node.name for node in saved_model._nodes(exported[1] / saved_model.FILE)
             if saved_model._CONSTANT.match(node.name)]
    assert len(names) == len(set(names)) > 50


def test_a_mean_colour_is_padded_with_itself():
    segmentor = randomised(network())
    segmentor.normalisation = layers.MeanSubtraction()
    signature = saved_model.ExportedSegmentor(segmentor).signatures['serving_default']
    image = make_image(33, 49)
    _, expected = prediction.predict(segmentor, image, CROP, probabilities=True)
    np.testing.assert_allclose(signature(image=tf.constant(image[None]))['probabilities'][0],
                               expected, atol=1e-4)


@pytest.mark.parametrize('kind', ['pad', 'resize', 'resize_dec'])
def test_the_official_export_graph(official, kind):
    numbers = official.arrays('preprocess')
    cases = json.loads(official.path('preprocess_sizes.json').read_text())
    case = next(c for c in cases if c.get('export') == kind)
    configuration, height, width, crop, *limits = case['args']
    segmentor = official.network(configuration, tuple(crop))
    sizes = saved_model.Sizes(SizeRange(*limits) if limits else None)
    signature = saved_model.ExportedSegmentor(segmentor, sizes).signatures['serving_default']
    outputs = signature(image=tf.constant(official.rule.image(height, width)[None]))
    probabilities = outputs['probabilities'].numpy()[0]
    expected = numbers[f'export_{kind}_prob_16']
    np.testing.assert_allclose(probabilities[::16, ::16], expected, atol=1e-4)
    # Nearest neighbours enlarge the labels in the place of the probabilities: near an edge the two
    # disagree, so what is clear at the official size is not known. All of the labels are compared.
    same = outputs['class_map'].numpy()[0] == numbers[f'export_{kind}_labels']
    assert same.mean() >= 0.999


def test_real_weights_on_a_real_image(shared):
    """The published quantised MobileNetV2 at both strides, against the official graph."""
    weights = shared / 'zoo' / 'deeplabv3_mnv2_pascal_quant.tflite'
    if not weights.is_file():
        pytest.skip(f'the published weights are not here: {weights}')
    image = tf.io.decode_png((shared / 'zoo' / 'images' / 'bird_513.png').read_bytes(), 3)
    for output_stride in (16, 8):
        segmentor = deeplab.deeplab_mobilenet_v2(21, output_stride, crop_size=513)
        zoo.read(weights, segmentor)
        signature = saved_model.ExportedSegmentor(segmentor).signatures['class_map']
        expected = np.load(shared / 'zoo' / f'zoo_mnv2_os{output_stride}_bird513.npz')['argmax']
        assert np.mean(signature(image=image[None])['class_map'][0] == expected) >= 0.995


def test_the_weights_come_back(exported):
    segmentor, folder, _ = exported
    other = randomised(network(output_stride=8, crop_size=None), seed=1)
    report = zoo.read(folder, other)
    assert len(report.assigned) == len(other.variables) and not report.reinitialised
    assert not report.unused
    again = network()
    saved_model.load_saved_model(folder, again)
    image = tf.constant(make_image(65, 65)[None])
    expected = segmentor(image).numpy()
    assert np.abs(again(image).numpy() - expected).max() < 1e-4 * np.abs(expected).max()
    # Folding what is folded changes nothing: from here on a round trip keeps every bit.
    for name, variable in layers.official_variables(again).items():
        if name.endswith('gamma'):
            np.testing.assert_array_equal(variable, np.ones(variable.shape))


@pytest.mark.slow
def test_xception_comes_back(tmp_path):
    segmentor = randomised(deeplab.deeplab_xception(3, 'xception_41', crop_size=33))
    saved_model.write(tmp_path, segmentor)
    other = deeplab.deeplab_xception(3, 'xception_41', crop_size=33, seed=1)
    zoo.read(tmp_path, other)
    image = tf.constant(make_image(33, 33)[None])
    expected = segmentor(image).numpy()
    assert np.abs(other(image).numpy() - expected).max() < 1e-4 * np.abs(expected).max()


def test_other_classes_start_the_logits_anew(exported):
    other = network(num_classes=7)
    report = zoo.read(exported[1], other)
    assert {name for name, _ in report.reinitialised} == {
        'logits/semantic/weights', 'logits/semantic/biases'}


def refusal(path, segmentor):
    """What is said of a SavedModel that does not fit; nothing was assigned then."""
    before = [v.numpy() for v in segmentor.variables]
    with pytest.raises(UserError) as caught:
        saved_model.load_saved_model(path, segmentor)
    for old, variable in zip(before, segmentor.variables):
        np.testing.assert_array_equal(old, variable)
    said = str(caught.value)
    assert '\n' not in said
    return said


def test_what_does_not_fit_is_refused_in_one_line(exported, tmp_path):
    _, folder, _ = exported
    said = refusal(folder, network(depth_multiplier=0.5))
    assert 'MobilenetV2' in said and str(folder) in said
    said = refusal(folder, network(decoder=True))
    assert 'decoder/' in said and 'no weights for' in said
    assert 'no SavedModel' in refusal(tmp_path, network())
    data = (folder / saved_model.FILE).read_bytes()
    for number, damaged in enumerate((data[:len(data) // 2], b'not a SavedModel', b'')):
        (tmp_path / saved_model.FILE).write_bytes(damaged)
        assert str(tmp_path) in refusal(tmp_path, network())


def test_a_foreign_saved_model_is_refused(tmp_path):
    layer = tf.Variable(tf.ones([3, 3]))
    module = tf.Module()
    module.weight = layer
    module.function = tf.function(lambda x: x @ layer, input_signature=[
        tf.TensorSpec([None, 3], tf.float32)])
    tf.saved_model.save(module, str(tmp_path))
    assert 'foreign' in refusal(tmp_path, network())


def test_more_classes_than_a_byte_tells_apart():
    with pytest.raises(UserError, match='257 classes do not fit'):
        saved_model.ExportedSegmentor(network(num_classes=257))
