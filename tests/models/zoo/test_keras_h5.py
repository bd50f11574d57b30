"""keras-applications files, written by Keras itself: the same function, and refusals."""
import h5py
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.models import deeplab_v2, dilated8, layers, zoo


def fill(model, seed=0):
    """Trained-looking values: batch norms and biases that do something."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        noise = random.standard_normal(weight.shape, dtype=np.float32)
        if 'kernel' in weight.name:
            weight.assign(noise * np.float32(np.sqrt(2.0 / np.prod(weight.shape[:-1]))))
        else:
            offset = 1.0 if 'gamma' in weight.name or 'variance' in weight.name else 0.0
            weight.assign(offset + 0.1 * (np.abs(noise) if 'variance' in weight.name else noise))
    return model


@pytest.fixture(scope='module')
def vgg(tmp_path_factory):
    """(keras' VGG-16 without its classifier, the file Keras writes of it)."""
    model = fill(tf.keras.applications.VGG16(include_top=False, weights=None))
    path = tmp_path_factory.mktemp('vgg') / 'vgg16_weights_notop.h5'
    model.save_weights(str(path))
    return model, path


def caffe(image):
    return tf.keras.applications.vgg16.preprocess_input(image.astype(np.float32))


def make_image(side=65):
    return np.random.default_rng(7).integers(0, 256, (1, side, side, 3)).astype(np.uint8)


def test_vgg_is_the_same_function_up_to_the_first_dilation(vgg):
    keras, path = vgg
    model = dilated8.dilated8(4, fc_channels=8)
    report = zoo.read(path, model)
    assert len(report.assigned) == 26
    reasons = dict(report.reinitialised)
    assert 'include_top=False' in reasons['fc6/weights'] and 'fc7/biases' in reasons
    assert reasons['fc-final/weights'] == 'the file holds a backbone and no head for segmentation'
    assert len(report.assigned) + len(reasons) == len(model.variables)
    image = make_image(64)
    expected = tf.keras.Model(keras.input, keras.get_layer('block4_conv3').output)(caffe(image))
    ours = model.backbone.maps(model.normalisation(image))[3]
    np.testing.assert_allclose(ours, expected, atol=1e-4 * np.abs(expected).max())


def test_resnet_is_the_same_function_with_biases_in_the_moving_means(tmp_path):
    keras = fill(tf.keras.applications.ResNet50(include_top=False, weights=None))
    path = tmp_path / 'resnet50.h5'
    keras.save_weights(str(path))
    model = deeplab_v2.deeplab_v2_resnet(4, 'resnet_50', output_stride=32)
    report = zoo.read(path, model)
    backbone = layers.official_variables(model.backbone)
    assert list(report.assigned) == list(backbone)
    assert {name.split('/')[0] for name, _ in report.reinitialised} == {'logits'}
    image = make_image()
    expected = keras(caffe(image)).numpy()
    ours = model.backbone(model.normalisation(image))['features'].numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-3 * np.abs(expected).max())


def test_dense_layers_become_convolutions(tmp_path):
    """A miniature of VGG's top: fc1 over a 7x7 map is a 7x7 convolution."""
    model = dilated8.dilated8(3, fc_channels=6)
    random = np.random.default_rng(1)
    path = tmp_path / 'top.h5'
    with h5py.File(path, 'w') as file:
        from tf_advseg.models import vgg as ours
        for layer in layers.convolutions(model.backbone):
            name, = ours.keras_names(layer.scope)
            shape = layer.kernel.shape
            shape = (np.prod(shape[:3]), shape[3]) if name.startswith('fc') else shape
            group = file.create_group(f'{name}/{name}')
            group['kernel:0'] = random.normal(size=shape).astype(np.float32)
            group['bias:0'] = random.normal(size=shape[-1]).astype(np.float32)
        file.create_group('predictions/predictions')['kernel:0'] = np.ones((6, 10), np.float32)
    report = zoo.read(path, model)
    assert [name for name, _ in report.unused] == ['predictions']
    assert {name.split('/')[0] for name, _ in report.reinitialised} == {
        layer.scope for layer in layers.convolutions(model.logits)}
    with h5py.File(path) as file:
        x = random.normal(size=(1, 7, 7, 512)).astype(np.float32)
        dense = x.reshape(1, -1) @ file['fc1/fc1/kernel:0'][()]
    valid = tf.nn.conv2d(x, model.backbone.fc6.kernel, 1, 'VALID')
    np.testing.assert_allclose(valid[0, 0], dense, rtol=1e-3, atol=1e-3)


def test_networks_that_the_weights_do_not_fit_are_refused(official_files, vgg, unchanged):
    _, path = vgg
    model = official_files.mobilenet()
    with unchanged(model), pytest.raises(UserError, match='keras weights fit networks'):
        zoo.read(path, model)
    model = dilated8.dilated8(4, fc_channels=8)
    model.normalisation = layers.SymmetricNormalisation()
    with unchanged(model), pytest.raises(UserError, match='BGR minus the mean .*bgr=True'):
        zoo.read(path, model)
    model = deeplab_v2.deeplab_v2_resnet(4, 'resnet_50')
    with unchanged(model), pytest.raises(UserError, match='no layer conv1_conv'):
        zoo.read(path, model)


def test_damaged_files_and_links_are_one_line(vgg, tmp_path, unchanged):
    whole = vgg[1].read_bytes()
    secret = tmp_path / 'secret.h5'
    with h5py.File(secret, 'w') as file:
        file['kernel:0'] = np.ones(3, np.float32)
    with h5py.File(tmp_path / 'link.h5', 'w') as file:
        file['block1_conv1'] = h5py.ExternalLink(str(secret), '/')
    with h5py.File(tmp_path / 'outside.h5', 'w') as file:
        file.create_group('block1_conv1').create_dataset(
            'kernel:0', (3,), np.float32, external=[(str(secret), 0, 12)])
    with h5py.File(tmp_path / 'bomb.h5', 'w') as file:
        file.create_group('block1_conv1').create_dataset(
            'kernel:0', (1 << 20, 1 << 14), np.float32, chunks=(1 << 10, 1 << 10))
    with h5py.File(tmp_path / 'none.h5', 'w') as file:
        file['something'] = 'text'
    for name, data in {'half': whole[:len(whole) // 2], 'head': whole[:600],
                       'noise': whole[:8] + np.random.default_rng(0).bytes(4000)}.items():
        (tmp_path / f'{name}.h5').write_bytes(data)
    model = dilated8.dilated8(4, fc_channels=8)
    for name in ('link', 'outside', 'bomb', 'none', 'half', 'head', 'noise'):
        with unchanged(model), pytest.raises(UserError) as caught:
            zoo.read(tmp_path / f'{name}.h5', model)
        assert f'{name}.h5' in str(caught.value) and '\n' not in str(caught.value), name
