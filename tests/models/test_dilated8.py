"""Dilated-8: the context module's identity, its field of view, and the segmentor's contract."""
import numpy as np
import pytest
import tensorflow as tf
import variable_groups

from tf_advseg.core.errors import UserError
from tf_advseg.models import dilated8, layers, segmentor

SEED = tf.constant([1, 2])


def small(num_classes=3, **options):
    return dilated8.dilated8(num_classes, **{'fc_channels': 16, **options})


def make_images(height, width):
    random = np.random.default_rng(height * width)
    return random.uniform(0, 255, (2, height, width, 3)).astype(np.float32)


def scores(context, classes=3, seed=0):
    """The context module alone: the 1x1 before it is the identity."""
    layer = dilated8.ClassScores(classes, classes, context, seed)
    layer.scores.kernel.assign(np.eye(classes)[None, None])
    return layer


@pytest.mark.parametrize('size', [(33, 49), (40, 31), (66, 50)])
def test_logits_shape_for_any_size(size):
    for context in dilated8.CONTEXTS:
        model = small(context=context)
        logits = model(make_images(*size).astype(np.uint8))
        assert logits.shape.as_list() == [2] + [(side - 1) // 8 + 1 for side in size] + [3]
        assert logits.dtype == tf.float32
    assert (model.logits_stride, model.output_stride, model.fine_tune_batch_norm) == (8, 8, False)


def test_the_context_module_starts_as_the_identity():
    """Equations 4 and 5; what is negative is cut, as between all its layers."""
    x = np.random.default_rng(0).normal(size=(1, 9, 12, 3)).astype(np.float32)
    np.testing.assert_allclose(scores('basic')(x), np.maximum(x, 0), atol=1e-6)
    large = scores('large')(x).numpy()
    noise = np.abs(large - np.maximum(x, 0))
    assert 0 < noise.max() < 0.5 and noise.mean() < 0.1


def test_the_large_module_is_the_published_one():
    layer = scores('large', 21)
    found = [(c.scope, c.kernel.shape.as_list()[-1], c.rate) for c in layer.context]
    assert found == [('ct_conv1_1', 42, 1), ('ct_conv1_2', 42, 1), ('ct_conv2_1', 84, 2),
                     ('ct_conv3_1', 168, 4), ('ct_conv4_1', 336, 8), ('ct_conv5_1', 672, 16),
                     ('ct_fc1', 672, 1), ('ct_final', 21, 1)]
    assert dilated8.CONTEXT_MARGIN == 33  # pad of the published ct_conv1_1


def test_the_context_modules_field_of_view_is_67():
    """Table 1: a class score depends on 67x67 scores of the front end and on no other."""
    layer = scores('basic', 2)
    for convolution in layer.context:
        convolution.kernel.assign(tf.ones_like(convolution.kernel) / 10)
    x = tf.ones([1, 81, 81, 2])
    with tf.GradientTape() as tape:
        tape.watch(x)
        centre = layer(x)[0, 40, 40, 0]
    reached = np.any(tape.gradient(centre, x).numpy()[0] != 0, -1)
    rows, columns = np.nonzero(reached)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (7, 73, 7, 73)
    assert reached.sum() == 67 * 67


def test_the_input_is_caffes():
    model, x = small(), make_images(24, 24)
    bgr = x[..., ::-1] - np.float32([103.939, 116.779, 123.68])
    expected = model.logits(model.backbone(bgr)['features'])
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('context', ['basic', 'large'])
def test_gradient_reaches_every_trainable_variable(context):
    model = small(context=context)
    # Scores below zero stop at the first layer of the context module.
    model.logits.scores.bias.assign([1.0, 1.0, 1.0])
    with tf.GradientTape() as tape:
        logits = model(make_images(48, 40), training=True, dropout_seed=SEED)
        loss = tf.reduce_mean(tf.square(logits - 3.0))
    for variable, gradient in zip(model.trainable_variables,
                                  tape.gradient(loss, model.trainable_variables)):
        assert gradient is not None and np.isfinite(gradient).all(), variable.name
        assert np.abs(gradient).max() > 0, variable.name


def test_dropout_and_initial_values_follow_their_seeds():
    model, x = small(), make_images(24, 24)
    first = model(x, training=True, dropout_seed=SEED).numpy()
    np.testing.assert_array_equal(first, model(x, training=True, dropout_seed=SEED))
    assert np.any(first != model(x, training=True, dropout_seed=tf.constant([2, 2])))
    np.testing.assert_array_equal(model(x), small()(x))
    assert np.any(model(x) != small(seed=1)(x))
    without = small(dropout_rate=0.0)
    np.testing.assert_array_equal(without(x, training=True), without(x))


def test_reinitialised_context_is_the_identity_again():
    layer = scores('large')
    before = [convolution.kernel.numpy() for convolution in layer.context]
    for convolution in layer.context:
        convolution.kernel.assign(tf.zeros_like(convolution.kernel))
        convolution.reinitialise()
    for convolution, kernel in zip(layer.context, before):
        np.testing.assert_array_equal(convolution.kernel, kernel)


def test_parts_names_and_number_of_parameters():
    model = small(context='basic')
    front = 14_714_688 + (512 * 49 * 16 + 16) + (16 * 16 + 16)
    context = 7 * (9 * 3 * 3 + 3) + (3 * 3 + 3)
    assert segmentor.parameter_count(model) == (front + (16 * 3 + 3) + context,) * 2
    groups = variable_groups.variable_groups(model)
    assert (len(groups['backbone']), len(groups['head']), len(groups['logits'])) == (30, 0, 18)
    names = list(layers.official_variables(model))
    assert names[0] == 'conv1_1/weights' and names[-1] == 'ct_final/biases'
    assert {'fc6/weights', 'fc7/biases', 'fc-final/weights'} < set(names)


@pytest.mark.slow
def test_number_of_parameters_of_the_published_network():
    published = dilated8.dilated8(21, context='none')
    # VGG-16 has 138,357,544; its last layer has 1000 classes.
    assert segmentor.parameter_count(published)[0] == 138_357_544 - 4097 * 1000 + 4097 * 21


def test_bad_arguments_are_told_in_one_line():
    for options, text in (({'context': 'larg'}, 'large'), ({'num_classes': 1.5}, 'num_classes'),
                          ({'dropout_rate': 1.0}, 'rate < 1'), ({'fc_channels': 0}, 'fc_channels')):
        with pytest.raises(UserError, match=text):
            small(**options)
