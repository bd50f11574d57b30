"""TFLite out: it runs, agrees with the network, and comes back through the reader."""
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_advseg.core.errors import UserError
from tf_advseg.models import deeplab, zoo
from tf_advseg.models.zoo import tflite_export

SIZE = (65, 81)


@pytest.fixture(scope='module')
def segmentor(shared):
    """Real weights: those of the published MobileNetV2 of depth 0.5."""
    path = shared / 'zoo' / 'deeplabv3_mnv2_dm05_pascal_quant.tflite'
    if not path.is_file():
        pytest.skip(f'the published weights are not here: {path}')
    model = deeplab.deeplab_mobilenet_v2(21, depth_multiplier=0.5, crop_size=SIZE)
    zoo.read(path, model)
    return model


@pytest.fixture(scope='module')
def photos(shared):
    folder = shared / 'zoo' / 'images'
    names = ('bird_513.png', 'horse_person_257.png')
    return [np.array(Image.open(folder / name).convert('RGB').resize(SIZE[::-1]), np.uint8)
            for name in names]


# Real weights on real images: 8 bits cost pixels near the edges of things.
@pytest.mark.parametrize('kind, least', [('float32', 0.9995), ('float16', 0.995), ('int8', 0.85)])
def test_it_agrees_with_the_network_and_comes_back(segmentor, photos, kind, least, tmp_path):
    content = tflite_export.convert(segmentor, SIZE, kind, photos)
    found = tflite_export.agreement(content, segmentor, photos)
    assert found.images == 2 and least <= found.worst <= found.pixels <= 1.0
    details = tf.lite.Interpreter(model_content=content)
    assert details.get_input_details()[0]['dtype'] == np.uint8
    assert details.get_input_details()[0]['shape'].tolist() == [1, *SIZE, 3]
    output = details.get_output_details()[0]
    assert (output['dtype'], output['shape'].tolist()) == (np.uint8, [1, *SIZE])
    if kind == 'int8':
        assert details.get_input_details()[0]['quantization'] == (1.0, 0)

    path = tmp_path / f'{kind}.tflite'
    path.write_bytes(content)
    other = deeplab.deeplab_mobilenet_v2(21, depth_multiplier=0.5, crop_size=SIZE, seed=3)
    assert len(zoo.read(path, other).assigned) == len(other.variables)
    images = tf.constant(np.stack(photos))
    same = tf.argmax(other(images), -1) == tf.argmax(segmentor(images), -1)
    assert tf.reduce_mean(tf.cast(same, tf.float32)) > (0.9 if kind == 'int8' else 0.99)


def test_what_cannot_be_converted_is_said(segmentor, photos):
    with pytest.raises(UserError, match='--calibration'):
        tflite_export.convert(segmentor, SIZE, 'int8')
    with pytest.raises(UserError, match='Did you mean "float16"'):
        tflite_export.convert(segmentor, SIZE, 'float1')


@pytest.mark.slow
@pytest.mark.parametrize('build, variant', [
    ('deeplab_xception', 'xception_41'), ('deeplab_resnet', 'resnet_v1_50_beta')])
def test_the_other_backbones_come_back(build, variant, tmp_path):
    """Weights drawn anew: of the file's operations none may be taken for another network's."""
    size = (33, 33)
    model = getattr(deeplab, build)(3, variant, crop_size=size)
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (*size, 3), np.uint8)]
    content = tflite_export.convert(model, size, 'float32', images)
    assert tflite_export.agreement(content, model, images).pixels > 0.99
    path = tmp_path / 'float32.tflite'
    path.write_bytes(content)
    other = getattr(deeplab, build)(3, variant, crop_size=size, seed=3)
    report = zoo.read(path, other)
    assert not report.reinitialised
    image = images[0][None].astype(np.float32)
    np.testing.assert_allclose(other(image, training=False), model(image, training=False),
                               rtol=1e-3, atol=1e-3)
