"""VGG-16 as a dense front end: keras-applications' function, and dilation in place of pooling."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.models import layers, segmentor, vgg

SEED = tf.constant([1, 2])


@pytest.fixture(scope='module')
def backbone():
    """With small biases, and a narrow fc6: published widths are 100 million numbers."""
    network = vgg.VGG16(fc_channels=32)
    random = np.random.default_rng(3)
    for convolution in layers.convolutions(network):
        convolution.bias.assign(0.1 * random.normal(size=convolution.bias.shape))
    return network


def normalised(height, width):
    random = np.random.default_rng(height * width)
    return random.normal(0, 1, (1, height, width, 3)).astype(np.float32)


def test_up_to_conv4_it_is_the_function_of_keras_applications(backbone):
    model = tf.keras.applications.VGG16(weights=None, include_top=False)
    used = []
    for convolution in layers.convolutions(backbone)[:-2]:
        name, = vgg.keras_names(convolution.scope)
        used.append(name)
        model.get_layer(name).set_weights([convolution.kernel.numpy(), convolution.bias.numpy()])
    assert used == [layer.name for layer in model.layers if layer.weights]
    model = tf.keras.Model(model.input, [model.get_layer(f'block{stage}_conv3').output
                                         for stage in (3, 4)])
    for size in ((64, 80), (40, 56)):  # Keras drops odd rows before a pooling, caffe does not
        theirs = model(normalised(*size))
        for ours, expected in zip(backbone.maps(normalised(*size))[2:4], theirs):
            np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def test_the_dense_layers_of_the_classifier_fit_fc6_and_fc7(backbone):
    """On a map spread by the dilation, fc6 at its centre is Keras' Flatten and Dense."""
    small = np.random.default_rng(0).normal(size=(1, 7, 7, 512)).astype(np.float32)
    spread = np.zeros((1, 25, 25, 512), np.float32)
    spread[:, ::4, ::4] = small
    kernel = backbone.fc6.kernel.numpy().reshape(25088, -1)
    dense = tf.nn.relu(tf.reshape(small, [1, -1]) @ kernel + backbone.fc6.bias)
    np.testing.assert_allclose(backbone.fc6(spread)[:, 12, 12], dense, rtol=1e-4, atol=1e-4)
    assert [vgg.keras_names(scope) for scope in ('fc6', 'fc7', 'conv5_3', 'fc-final')] == [
        ('fc1',), ('fc2',), ('block5_conv3',), None]


def test_atrous_consistency_of_what_follows_the_poolings_left_out(backbone):
    """Every second pixel of dilated conv5 is conv5 on every second pixel; so for fc6, by four."""
    for size in ((17, 22), (16, 25)):
        x = np.abs(np.random.default_rng(1).normal(size=(1, *size, 512))).astype(np.float32)
        dilated, plain = x, x[:, ::2, ::2]
        for convolution in backbone.stages[4]:
            dilated = convolution(dilated)
            plain = tf.nn.relu(tf.nn.conv2d(plain, convolution.kernel, 1, 'SAME')
                               + convolution.bias)
        np.testing.assert_allclose(dilated[:, ::2, ::2], plain, rtol=1e-4, atol=1e-4)
        wide = tf.nn.conv2d(x[:, ::4, ::4], backbone.fc6.kernel, 1, 'SAME') + backbone.fc6.bias
        np.testing.assert_allclose(backbone.fc6(x)[:, ::4, ::4], tf.nn.relu(wide), rtol=1e-4,
                                   atol=1e-4)


def test_shapes_for_any_size(backbone):
    for size in ((33, 49), (40, 31), (8, 23)):
        features = backbone(normalised(*size))['features']
        assert features.shape.as_list() == [1] + [(side - 1) // 8 + 1 for side in size] + [32]


def test_dropout_follows_both_layers_and_its_seed_alone(backbone):
    x = normalised(40, 40)
    first = backbone(x, training=True, dropout_seed=SEED)['features'].numpy()
    np.testing.assert_array_equal(first, backbone(x, True, SEED)['features'])
    assert np.any(first != backbone(x, True, tf.constant([1, 3]))['features'])
    plain = backbone(x)['features'].numpy()
    dropped = (first == 0) & (plain > 0)
    # Half of fc7's outputs are dropped, as well as those that fc6's dropout puts below zero.
    assert dropped.sum() > 0.4 * (plain > 0).sum()
    with pytest.raises(ValueError, match='dropout_seed'):
        backbone(x, training=True)


def test_number_of_parameters(backbone):
    convolutions = 14_714_688  # VGG-16 without its classifier
    fully = 512 * 49 * 32 + 32 + 32 * 32 + 32
    assert segmentor.parameter_count(backbone) == (convolutions + fully,) * 2
