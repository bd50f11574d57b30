"""DeepLabv3 on residual networks of basic blocks."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.models import deeplab_residual, segmentor

SEED = tf.constant([1, 2])


def make_images(height, width):
    random = np.random.default_rng(height * width)
    return random.uniform(0, 255, (2, height, width, 3)).astype(np.float32)


@pytest.mark.parametrize('variant, stride', [('resnet_18', 8), ('resnet_18', 32),
                                             ('resnet_34', 16)])
def test_logits_shape_for_any_size(variant, stride):
    model = deeplab_residual.deeplab_residual(3, variant, stride)
    for size in ((65, 49), (64, 50)):
        logits = model(make_images(*size))
        assert logits.shape.as_list() == [2] + [(side - 1) // stride + 1 for side in size] + [3]
    assert model.logits_stride == stride and model.backbone.variant == variant


def test_the_improved_aspp_is_there_and_batch_norm_is_live():
    model = deeplab_residual.deeplab_residual(3)
    assert model.fine_tune_batch_norm and model.image_pooling is not None
    assert len(model.branches) == 4 and model.logits_stride == 16
    assert {layer.norm.momentum for layer in (model.backbone.stem[0], model.concat_projection)} == {
        0.99}


def test_gradient_reaches_every_trainable_variable():
    model = deeplab_residual.deeplab_residual(3, output_stride=8)
    with tf.GradientTape() as tape:
        logits = model(make_images(33, 40), training=True, dropout_seed=SEED)
        loss = tf.reduce_mean(tf.square(logits - 1.0))
    for variable, gradient in zip(model.trainable_variables,
                                  tape.gradient(loss, model.trainable_variables)):
        assert gradient is not None and np.isfinite(gradient).all(), variable.name
        assert np.abs(gradient).max() > 0, variable.name


def test_number_of_parameters():
    model = deeplab_residual.deeplab_residual(21, atrous_rates=())
    # The backbone; image pooling, aspp0 and concat projection with gamma and beta; logits.
    head = 2 * (512 * 256 + 512) + (512 * 256 + 512) + 256 * 21 + 21
    assert segmentor.parameter_count(model)[1] == 11_176_512 + head


def test_unknown_variants_and_bad_values_are_told_in_one_line():
    with pytest.raises(UserError, match='resnet_18'):
        deeplab_residual.deeplab_residual(3, 'resnet18')
    with pytest.raises(UserError, match='dropout_rate is 1.5'):
        deeplab_residual.deeplab_residual(3, dropout_rate=1.5)
    for grid in (2, (1, 2, 4), (1, 0), (1, 1.5), '12'):
        with pytest.raises(UserError, match='deeplab_residual: multi_grid') as error:
            deeplab_residual.deeplab_residual(3, multi_grid=grid)
        assert '\n' not in str(error.value)
