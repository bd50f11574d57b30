"""Residual networks: official DeepLab's numbers, keras' function, atrous consistency."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.models import deeplab, layers, resnet, segmentor

# Trainable scalars of the residual networks without their classifier, as usually counted.
TRAINABLE = {'resnet_18': 11_176_512, 'resnet_34': 21_284_672, 'resnet_50': 23_508_032,
             'resnet_101': 42_500_160}


def make_images(height, width, batch=1):
    random = np.random.default_rng(height * width)
    return random.uniform(-1, 1, (batch, height, width, 3)).astype(np.float32)


@pytest.fixture(scope='module')
def official_case(official):
    name = 'resnet101beta_pascal_os16__129x129'
    expected = official.arrays(name)  # skips where it is absent
    model, image, _ = official.case(name)
    return model, image, expected


@pytest.mark.slow  # test_official_reference.py holds the same endpoints to the same bound
def test_every_batch_norm_gives_the_official_output(official_case, monkeypatch):
    model, image, expected = official_case
    centres, wrapped = {}, layers.BatchNorm.call

    def recording(self, x, mode=layers.INFERENCE):
        y = wrapped(self, x, mode)
        centres[self.scope] = y.numpy()[0, y.shape[1] // 2, y.shape[2] // 2, :8]
        return y

    monkeypatch.setattr(layers.BatchNorm, 'call', recording)
    model.backbone(model.normalisation(image[None]), mode=layers.FROZEN)
    wanted = {f'{name}/BatchNorm': centre for name, centre in
              zip(expected['bn_names'], expected['bn_center8']) if name.startswith('resnet')}
    assert sorted(centres) == sorted(wanted) and len(wanted) == 3 + 4 + 3 * 33
    for name, centre in wanted.items():
        np.testing.assert_allclose(centres[name], centre, rtol=1e-3, atol=1e-3, err_msg=name)


def sampled(x):
    """What the reference keeps of an endpoint: five rows and columns, sixteen channels."""
    for axis, count in ((1, 5), (2, 5), (3, 16)):
        places = np.linspace(0, x.shape[axis] - 1, min(count, x.shape[axis]))
        x = x.take(np.unique(np.round(places).astype(int)), axis)
    return x[0]


@pytest.mark.slow
def test_every_unit_gives_the_official_output(official_case):
    model, image, expected = official_case
    x = model.normalisation(image[None])
    seen = 0
    for layer in model.backbone.stem:
        x = layer(x)
        name = 'ep/' + layer.scope.rsplit('/', 1)[-1]
        if name in expected:
            np.testing.assert_allclose(sampled(x.numpy()), expected[name], atol=1e-3, err_msg=name)
            seen += 1
    x = model.backbone._pool(x)
    for unit in model.backbone.units:
        x, _ = unit(x)
        block, number = unit.scope.split('/')[1:3]
        name = f'ep/{block}_{number.replace("_", "")}'
        if name in expected:
            np.testing.assert_allclose(sampled(x.numpy()), expected[name], atol=1e-3, err_msg=name)
            seen += 1
    assert seen == sum(name.startswith(('ep/conv1', 'ep/block')) for name in expected)


def keras_network(build, seed=5):
    """keras-applications' network with random weights and statistics that keep values small."""
    model = build(weights=None, include_top=False, input_shape=(None, None, 3))
    random = np.random.default_rng(seed)
    for variable in model.variables:
        noise = random.normal(size=variable.shape)
        if 'kernel' in variable.name:
            value = noise * np.sqrt(2 / np.prod(variable.shape[:3]))
        elif 'gamma' in variable.name:
            value = (1 + 0.1 * noise) * (0.25 if '_3_bn' in variable.name else 1)
        else:
            value = 0.1 * noise + ('variance' in variable.name)
        variable.assign(np.abs(value) if 'variance' in variable.name else value)
    return model


def copied_from_keras(backbone, model):
    """Copies by `keras_names`; every layer of keras with weights is used exactly once."""
    used = []
    for convolution in layers.convolutions(backbone):
        names = resnet.keras_names(convolution.scope)
        used += names
        theirs, norm = map(model.get_layer, names)
        convolution.kernel.assign(theirs.kernel)
        convolution.norm.gamma.assign(norm.gamma)
        convolution.norm.beta.assign(norm.beta)
        convolution.norm.moving_mean.assign(norm.moving_mean - theirs.bias)
        convolution.norm.moving_variance.assign(norm.moving_variance)
        assert convolution.norm.epsilon == pytest.approx(norm.epsilon, rel=1e-9)
    assert sorted(used) == sorted(layer.name for layer in model.layers if layer.weights)


@pytest.mark.slow
@pytest.mark.parametrize('variant, build', [
    ('resnet_50', 'ResNet50'), ('resnet_101', 'ResNet101')])
def test_caffe_layout_is_the_function_of_keras_applications(variant, build):
    model = keras_network(getattr(tf.keras.applications, build))
    backbone = resnet.ResNet(variant, output_stride=32)
    copied_from_keras(backbone, model)
    for size in ((64, 100), (97, 65)):
        theirs = model(make_images(*size)).numpy()
        ours = backbone(make_images(*size))['features'].numpy()
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


def test_keras_names_of_what_keras_does_not_have():
    assert resnet.keras_names('resnet_101/conv1') == ('conv1_conv', 'conv1_bn')
    assert resnet.keras_names('resnet_101/block3/unit_23/conv2')[0] == 'conv4_block23_2_conv'
    assert resnet.keras_names('resnet_50/block1/unit_1/shortcut')[1] == 'conv2_block1_0_bn'
    for scope in ('resnet_v1_101/conv1', 'resnet_18/conv1', 'logits/aspp1', 'conv1_1'):
        assert resnet.keras_names(scope) is None


@pytest.mark.parametrize('variant, multi_grid', [
    ('resnet_v1_50_beta', (1, 2, 4)), ('resnet_18', None),
    pytest.param('resnet_50', None, marks=pytest.mark.slow),
    pytest.param('resnet_34', (1, 2, 4), marks=pytest.mark.slow)])
def test_atrous_consistency_dense_then_subsampled_equals_strided(variant, multi_grid):
    """The same kernels at a smaller stride give a denser map, to the borders, for every size."""
    networks = {stride: resnet.ResNet(variant, stride, multi_grid) for stride in (8, 16, 32)}
    for size in ((65, 33), (50, 64)):
        dense = networks[8](make_images(*size))['features'].numpy()
        for stride in (16, 32):
            ours = dense[:, ::stride // 8, ::stride // 8]
            theirs = networks[stride](make_images(*size))['features'].numpy()
            assert ours.shape == theirs.shape
            assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


def test_rates_are_the_published_ones():
    def rates(variant, stride, **options):
        found = {}
        for unit in resnet.ResNet(variant, stride, **options).units:
            widest = max(layer.rate for layer in unit.residual)
            found.setdefault(int(unit.scope.split('/block')[1][0]), []).append(widest)
        return found

    # DeepLabv2: 2 in all of conv4, 4 in all of conv5, their first units included.
    assert rates('resnet_50', 8) == {1: [1] * 3, 2: [1] * 4, 3: [2] * 6, 4: [4] * 3}
    # slim: the unit that would have strided, the last of its block, keeps the rate so far.
    assert rates('resnet_v1_50', 8) == {1: [1] * 3, 2: [1] * 4, 3: [2] * 6, 4: [4] * 3}
    assert rates('resnet_v1_50_beta', 16, multi_grid=(1, 2, 4))[4] == [2, 4, 8]


@pytest.mark.parametrize('variant', ['resnet_v1_50', 'resnet_v1_50_beta', 'resnet_50', 'resnet_18'])
def test_shapes_for_any_size(variant):
    backbone = resnet.ResNet(variant, 16)
    for size in ((33, 49), (64, 50), (47, 30)):
        maps = backbone(make_images(*size, batch=2))
        for key, stride, channels in (('features', 16, backbone.channels),
                                      ('skip', 4, backbone.skip_channels)):
            assert maps[key].shape.as_list() == (
                [2] + [(side - 1) // stride + 1 for side in size] + [channels])


@pytest.mark.parametrize('mode', [layers.FROZEN, layers.LIVE])
@pytest.mark.parametrize('variant', ['resnet_v1_50_beta', 'resnet_50', 'resnet_34'])
def test_gradient_reaches_every_trainable_variable(variant, mode):
    backbone = resnet.ResNet(variant, 8)
    with tf.GradientTape() as tape:
        features = backbone(make_images(33, 40, batch=2), mode=mode)['features']
        loss = tf.reduce_mean(tf.square(features - 1.0))
    for variable, gradient in zip(backbone.trainable_variables,
                                  tape.gradient(loss, backbone.trainable_variables)):
        assert gradient is not None and np.isfinite(gradient).all(), variable.name
        assert np.abs(gradient).max() > 0, variable.name


@pytest.mark.parametrize('variant', TRAINABLE)
def test_number_of_parameters(variant):
    assert segmentor.parameter_count(resnet.ResNet(variant))[1] == TRAINABLE[variant]


def test_initial_values_follow_the_seed_and_the_official_spread():
    def kernels(seed):
        backbone = resnet.ResNet('resnet_18', seed=seed)
        return [convolution.kernel.numpy() for convolution in layers.convolutions(backbone)]

    first, again, other = kernels(1), kernels(1), kernels(2)
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    assert not any(np.array_equal(a, b) for a, b in zip(first, other))
    for kernel in first[-3:]:
        # A normal cut at two deviations keeps 0.8796 of its spread.
        expected = 0.8796 * np.sqrt(2.6 / np.prod(kernel.shape[:3]))
        assert kernel.std() == pytest.approx(expected, rel=0.02)


def test_a_layout_brings_the_input_its_weights_want():
    grey = np.full((1, 2, 2, 3), 127.5, np.float32)
    colour = np.float32([[[[123.68, 116.779, 103.939]]]])
    np.testing.assert_array_equal(resnet.normalisation('resnet_101')(colour), np.zeros_like(colour))
    red = resnet.normalisation('resnet_101')(colour + [10, 0, 0]).numpy().ravel()
    np.testing.assert_allclose(red, [0, 0, 10], atol=1e-5)  # BGR
    for variant in ('resnet_v1_101_beta', 'resnet_18'):
        np.testing.assert_array_equal(resnet.normalisation(variant)(grey), np.zeros_like(grey))
    plain = deeplab.deeplab_resnet(2, 'resnet_v1_50', decoder=False).normalisation
    assert resnet.normalisation('resnet_v1_101').mean == plain.mean and not plain.bgr


@pytest.mark.parametrize('arguments, text', [
    (('resnet_v1_10',), 'resnet_v1_101'), (('resnet_18', 12), 'output_stride is 12'),
    (('resnet_18', 16, (1, 2, 4)), 'resnet_18: multi_grid is .* expected 2 integers'),
    (('resnet_101', 8, (1, 2)), 'expected 3 integers'), (('resnet_50', 8, 2), 'multi_grid is 2,'),
    (('resnet_34', 8, (1, 2, 0)), 'multi_grid')])
def test_bad_arguments_are_told_in_one_line(arguments, text):
    with pytest.raises(UserError, match=text):
        resnet.ResNet(*arguments)
