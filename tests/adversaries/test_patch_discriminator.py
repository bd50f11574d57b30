"""A discriminator with a map of decisions: its layers' slopes, its sizes."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.adversaries import discriminators
from tf_advseg.adversaries import patch_discriminator
from tf_advseg.core.errors import UserError


def test_the_singular_value_is_the_largest_of_the_kernel_as_a_matrix():
    kernel = np.random.default_rng(1).normal(size=(3, 3, 5, 7)).astype(np.float32)
    kernel[..., 0] *= 4.0  # one that stands out: few steps find it
    found = patch_discriminator.largest_singular_value(tf.constant(kernel))
    assert float(found) == pytest.approx(np.linalg.svd(kernel.reshape(-1, 7))[1][0], rel=1e-3)


def test_with_spectral_norm_no_scale_of_a_kernel_matters():
    model = discriminators.build_discriminator('patch', 6, (12, 9), alpha=0.1, spectral_norm=True)
    x = tf.random.stateless_normal([2, 12, 9, 6], [1, 2])
    before = model(x).numpy()
    for variable in model.trainable_variables:
        if 'kernel' in variable.name:
            variable.assign(variable * 3.0)
    np.testing.assert_allclose(model(x), before, rtol=1e-4, atol=1e-5)
    free = discriminators.build_discriminator('patch', 6, (12, 9), alpha=0.1)
    assert np.abs(free(x).numpy() - before).max() > 1e-3


def test_many_channels_are_brought_to_few_first():
    few, many = (discriminators.build_discriminator('patch', channels, (12, 9))
                 for channels in (64, 331))
    names = [[layer.name for layer in model.encoder.layers] for model in (few, many)]
    assert 'squeeze' not in names[0] and 'squeeze' in names[1]
    of_first = [model.encoder.get_layer('conv1').kernel.shape for model in (few, many)]
    assert of_first[0] == of_first[1] == (3, 3, 64, 64)
    x = tf.random.stateless_normal([1, 12, 9, 331], [1, 2])
    each = tf.one_hot([0, 300], 331)[:, None, None, None]  # no channel is lost on the way
    assert all(np.abs(many(x * (1 - mask)).numpy() - many(x).numpy()).max() > 1e-4
               for mask in each)


@pytest.mark.parametrize('size, sides', [((21, 16), (11, 8)), (64, (16, 16)), (224, (14, 14))])
def test_about_ten_decisions_a_side(size, sides):
    model = discriminators.build_discriminator('patch', 3, size, alpha=0.05)
    points = (size, size) if isinstance(size, int) else size
    assert model(tf.zeros([1, *points, 3])).shape == (1, *sides)
    assert not model.has_batch_norm


@pytest.mark.parametrize('name, value', [
    ('patch', {'dropout': 0.2}), ('patch', {'batch_norm_momentum': 0.99}),
    ('small_cnn', {'batch_norm_momentum': 0.99})])
def test_what_a_discriminator_has_not_is_one_line(name, value):
    with pytest.raises(UserError, match=f'{next(iter(value))} = .* has no effect'):
        discriminators.build_discriminator(name, 3, 32, **value)


def test_spectral_norm_of_another_discriminator_is_one_line():
    with pytest.raises(UserError, match="only 'patch' has it"):
        discriminators.build_discriminator('small_cnn', 3, 32, spectral_norm=True)
