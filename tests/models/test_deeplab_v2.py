"""DeepLabv2 on residual networks: what is summed, what is trained, what the weights expect."""
import numpy as np
import pytest
import tensorflow as tf
import variable_groups

from tf_advseg.core.errors import UserError
from tf_advseg.models import deeplab_v2, layers, segmentor


def small(num_classes=4, **options):
    return deeplab_v2.deeplab_v2_resnet(num_classes, **{'variant': 'resnet_18', **options})


def make_images(height, width, batch=2):
    random = np.random.default_rng(height * width)
    return random.uniform(0, 255, (batch, height, width, 3)).astype(np.float32)


@pytest.fixture(scope='module')
def published():
    """The network of Hung et al. and Durall et al."""
    return deeplab_v2.deeplab_v2_resnet(21)


def test_the_published_network(published):
    # 42,500,160 of ResNet-101 and four 3x3 from 2048 channels to 21 classes with biases.
    assert segmentor.parameter_count(published)[1] == 42_500_160 + 4 * (9 * 2048 * 21 + 21)
    assert (published.logits_stride, published.output_stride, published.num_classes) == (8, 8, 21)
    assert [branch.rate for branch in published.logits.branches] == [6, 12, 18, 24]
    for branch in published.logits.branches:
        assert branch.kernel.numpy().std() == pytest.approx(0.01, rel=0.01)
    assert published(make_images(33, 41, 1)).shape.as_list() == [1, 5, 6, 21]
    groups = variable_groups.variable_groups(published)
    assert (len(groups['head']), len(groups['logits'])) == (0, 8)


@pytest.mark.parametrize('size', [(65, 49), (64, 50), (31, 34)])
@pytest.mark.parametrize('stride', [8, 16])
def test_logits_shape_for_any_size(stride, size):
    model = small(output_stride=stride)
    logits = model(make_images(*size).astype(np.uint8))
    assert logits.shape.as_list() == [2] + [(side - 1) // stride + 1 for side in size] + [4]
    assert logits.dtype == tf.float32
    assert model.logits_stride == stride


def test_logits_are_the_sum_of_the_rates():
    model, x = small(), make_images(65, 65)
    features = model.backbone(model.normalisation(x))['features']
    total = 0
    for branch, rate in zip(model.logits.branches, (6, 12, 18, 24)):
        branch.bias.assign(np.arange(4) + rate)
        total += tf.nn.conv2d(features, branch.kernel, 1, 'SAME', dilations=rate) + branch.bias
    np.testing.assert_allclose(model(x), total, rtol=1e-4, atol=1e-4)


def test_two_rates_are_what_code_with_the_early_return_computes():
    full, two = small(), small(atrous_rates=(6, 12))
    for branch in full.logits.branches[2:]:
        branch.kernel.assign(tf.zeros_like(branch.kernel))
    np.testing.assert_array_equal(full(make_images(33, 33)), two(make_images(33, 33)))


def test_the_input_is_caffes():
    model = deeplab_v2.deeplab_v2_resnet(2, variant='resnet_50')
    x = make_images(33, 33, 1)
    bgr = x[..., ::-1] - np.float32([103.939, 116.779, 123.68])
    expected = model.logits(model.backbone(bgr)['features'])
    np.testing.assert_allclose(model(x), expected, rtol=1e-5)


def step(model):
    with tf.GradientTape() as tape:
        logits = model(make_images(33, 40), training=True)
        loss = tf.reduce_mean(tf.square(logits - 1.0))
    return zip(model.trainable_variables, tape.gradient(loss, model.trainable_variables))


@pytest.mark.parametrize('live', [False, True])
def test_gradient_reaches_every_trainable_variable(live):
    for variable, gradient in step(small(fine_tune_batch_norm=live)):
        assert gradient is not None and np.isfinite(gradient).all(), variable.name
        assert np.abs(gradient).max() > 0, variable.name


def test_frozen_batch_norm_is_the_inference_function_and_live_is_not():
    model, x = small(), make_images(33, 40)
    before = [v.numpy() for v in model.non_trainable_variables]
    frozen, plain = model(x, training=True).numpy(), model(x).numpy()
    assert np.abs(frozen - plain).max() < 1e-4 * np.abs(plain).max()
    for variable, value in zip(model.non_trainable_variables, before):
        np.testing.assert_array_equal(variable, value)
    model.fine_tune_batch_norm = True
    assert np.abs(model(x, training=True) - plain).max() > 0.1
    assert any(np.any(v.numpy() != b) for v, b in zip(model.non_trainable_variables, before))


def test_gamma_and_beta_can_be_held_as_the_published_code_does():
    held = small(train_gamma_beta=False)
    names = {variable.name.rsplit('/', 1)[-1].split(':')[0] for variable, _ in step(held)}
    assert names == {'weights', 'biases'}
    assert len(held.variables) == len(small().variables)
    assert len(segmentor.decayed_kernels(held)) == len(segmentor.decayed_kernels(small()))


def test_initial_values_follow_the_seed():
    x = make_images(33, 33)
    np.testing.assert_array_equal(small(seed=3)(x), small(seed=3)(x))
    assert np.abs(small(seed=3)(x) - small(seed=4)(x)).max() > 0


def test_bad_arguments_are_told_in_one_line():
    for options, text in (({'atrous_rates': ()}, 'at least one'),
                          ({'atrous_rates': (6, 0)}, '6, 0'),
                          ({'num_classes': 0}, 'num_classes is 0'), ({'crop_size': 'x'}, 'pixels'),
                          ({'variant': 'resnet_100'}, 'resnet_10')):
        with pytest.raises(UserError, match=text):
            deeplab_v2.deeplab_v2_resnet(**{'num_classes': 2, **options})


def test_every_kernel_of_the_head_is_in_the_official_variables(published):
    names = [name for name in layers.official_variables(published) if name.startswith('logits/')]
    assert names == [f'logits/aspp{branch}/{leaf}' for branch in range(1, 5)
                     for leaf in ('weights', 'biases')]
