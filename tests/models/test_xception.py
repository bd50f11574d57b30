"""Properties of Xception, alone and in DeepLabv3+, that need no reference numbers."""
import numpy as np
import pytest
import tensorflow as tf
import variable_groups

from tf_advseg.core.errors import UserError
from tf_advseg.models import deeplab, layers, segmentor, xception


def make_images(height, width, batch=1):
    random = np.random.default_rng(height * width)
    return random.uniform(-1, 1, (batch, height, width, 3)).astype(np.float32)


@pytest.fixture(scope='module')
def network():
    """DeepLabv3+ on the smallest variant."""
    return deeplab.deeplab_xception(3, variant='xception_41', crop_size=33)


@pytest.mark.slow
@pytest.mark.parametrize('variant, size', [
    ('xception_41', (65, 97)), ('xception_65', (64, 50)), ('xception_71', (49, 66))])
def test_atrous_consistency_dense_then_subsampled_equals_strided(variant, size):
    """Chen et al. 2017, section 3.1; with the fixed padding it holds for every image size."""
    x = make_images(*size)
    dense = xception.Xception(variant, 8)(x)
    for stride in (16, 32):
        strided = xception.Xception(variant, stride)(x)
        step = stride // 8
        assert strided['features'].shape == [1] + [(s - 1) // stride + 1 for s in size] + [2048]
        np.testing.assert_allclose(dense['features'][:, ::step, ::step], strided['features'],
                                   atol=1e-5 * np.abs(dense['features']).max())
        np.testing.assert_array_equal(dense['skip'], strided['skip'])
    assert dense['skip'].shape == [1] + [(s - 1) // 4 + 1 for s in size] + [256]


def test_multi_grid_multiplies_the_rates_of_the_last_block():
    ours = xception.Xception('xception_41', 16, multi_grid=(1, 2, 4)).modules[-1]
    assert [c.depthwise.rate for c in ours.convolutions] == [2, 4, 8]


def test_rates_at_stride_8_are_the_official_ones():
    """Entry block 3 strides no more, the middle flow has rate 2, the exit flow 2 and then 4."""
    modules = xception.Xception('xception_65', 8).modules
    rates = [module.convolutions[0].depthwise.rate for module in modules]
    strides = [module.convolutions[2].depthwise.stride for module in modules]
    assert rates == [1, 1, 1] + [2] * 16 + [2, 4]
    assert strides == [2, 2] + [1] * 19


@pytest.mark.parametrize('size', [(33, 33), (50, 37)])
def test_shapes_and_gradients(network, size):
    x = (make_images(*size, batch=2) + 1.0) * 127.5
    with tf.GradientTape() as tape:
        logits = network(x, training=True, dropout_seed=tf.constant([1, 2]))
        loss = tf.reduce_sum(tf.square(logits - 1.0))
    assert logits.shape == [2] + [(side - 1) // 4 + 1 for side in size] + [3]
    for variable, gradient in zip(network.trainable_variables,
                                  tape.gradient(loss, network.trainable_variables)):
        assert gradient is not None and np.isfinite(gradient).all(), variable.name
        assert np.abs(gradient).max() > 0, variable.name


def test_groups_and_decay_follow_the_scopes(network):
    groups = variable_groups.variable_groups(network)
    assert all(v.name.startswith('xception_41/') for v in groups['backbone'])
    assert len(groups['logits']) == 2
    decayed = [v.name for v in segmentor.decayed_kernels(network)]
    assert not any('depthwise' in name.rsplit('/', 1)[-1] for name in decayed)
    assert any(name.endswith('separable_conv1_pointwise/weights:0') for name in decayed)


def test_initial_values_come_from_the_seed_and_the_scope():
    scope = 'xception_41/entry_flow/conv1_1/weights'
    first, again, other = (
        layers.official_variables(xception.Xception('xception_41', seed=seed))[scope].numpy()
        for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0


@pytest.mark.parametrize('options, word', [
    ({'variant': 'xception_66'}, 'xception_65'), ({'output_stride': 4}, 'output_stride'),
    ({'multi_grid': (1, 2)}, 'multi_grid'), ({'num_classes': 0}, 'num_classes')])
def test_bad_arguments_are_named_in_one_line(options, word):
    with pytest.raises(UserError, match=word) as error:
        deeplab.deeplab_xception(**{'num_classes': 2, **options})
    assert '\n' not in str(error.value)
