"""Properties of DeepLab on MobileNetV2 that need no reference numbers."""
import numpy as np
import pytest
import tensorflow as tf
import variable_groups

from tf_advseg.core.errors import UserError
from tf_advseg.models import deeplab, layers, mobilenet_v2, segmentor

SEED = tf.constant([3, 4])


def small(num_classes=4, **options):
    options = {'depth_multiplier': 0.25, **options}
    return deeplab.deeplab_mobilenet_v2(num_classes, **options)


def make_images(height, width, batch=2):
    random = np.random.default_rng(height * width)
    return random.uniform(0, 255, (batch, height, width, 3)).astype(np.float32)


@pytest.fixture(scope='module')
def full_head():
    """Every part at once: ASPP, image pooling with a crop size, decoder."""
    return small(atrous_rates=(2, 3), decoder=True, crop_size=65)


@pytest.mark.parametrize('stride', deeplab.OUTPUT_STRIDES)
@pytest.mark.parametrize('size', [(65, 97), (64, 50), (33, 31)])
def test_logits_shape_for_any_size(stride, size):
    model = small(2, output_stride=stride)
    logits = model(make_images(*size))
    assert logits.shape.as_list() == [2] + [(side - 1) // stride + 1 for side in size] + [2]
    assert logits.dtype == tf.float32
    assert (model.output_stride, model.logits_stride, model.num_classes) == (stride, stride, 2)


@pytest.mark.parametrize('size', [(65, 65), (64, 50), (97, 81)])
def test_decoder_logits_are_at_stride_4(full_head, size):
    assert full_head.logits_stride == 4 and full_head.output_stride == 16
    logits = full_head(make_images(*size))
    assert logits.shape.as_list() == [2] + [(side - 1) // 4 + 1 for side in size] + [4]


def test_a_graph_for_any_size_gives_what_a_graph_for_one_size_gives(full_head):
    anything = tf.function(full_head, input_signature=[tf.TensorSpec([None, None, None, 3])])
    for size in [(65, 65), (97, 81), (49, 97), (33, 33)]:
        x = make_images(*size)
        np.testing.assert_allclose(anything(x), full_head(x), atol=1e-5, err_msg=str(size))


def test_uint8_images_are_taken_as_they_are(full_head):
    x = make_images(65, 65).astype(np.uint8)
    np.testing.assert_array_equal(full_head(x), full_head(x.astype(np.float32)))


@pytest.mark.parametrize('stride', [16, 32])
def test_atrous_consistency_dense_then_subsampled_equals_strided(stride):
    """Chen et al. 2017, section 3.1: the same kernels at a smaller stride give a denser map."""
    dense = loud(mobilenet_v2.MobileNetV2(8, 0.25))
    strided = loud(mobilenet_v2.MobileNetV2(stride, 0.25))
    x = make_images(65, 97) / 127.5 - 1
    ours, expected = dense(x)['features'][:, ::stride // 8, ::stride // 8], strided(x)['features']
    largest = np.abs(expected).max()
    assert largest > 0.1
    np.testing.assert_allclose(ours, expected, atol=1e-4 * largest)


def loud(backbone):
    """Kernels as large as keeps the features' size: at first they fade to 1e-12 in 50 layers."""
    for layer in layers.convolutions(backbone):
        fan_in = np.prod(layer.kernel.shape[:2 if layer.depthwise else 3])
        random = np.random.default_rng(layers.derived_seed(0, layer.scope))
        layer.kernel.assign(random.normal(0, (2 / fan_in) ** 0.5, layer.kernel.shape))
    return backbone


def test_image_pooling_is_global_at_the_crop_size_and_local_beyond():
    model, globally = small(crop_size=65), small()
    np.testing.assert_array_equal(model(make_images(65, 65)), globally(make_images(65, 65)))
    np.testing.assert_array_equal(model(make_images(49, 65)), globally(make_images(49, 65)))
    large = make_images(97, 97)
    assert np.abs(model(large) - globally(large)).max() > 0


@pytest.mark.parametrize('live', [False, True])
def test_gradient_reaches_every_trainable_variable(full_head, live):
    full_head.fine_tune_batch_norm = live
    try:
        with tf.GradientTape() as tape:
            logits = full_head(make_images(65, 65), training=True, dropout_seed=SEED)
            loss = tf.reduce_sum(tf.square(logits - 1.0))
        gradients = tape.gradient(loss, full_head.trainable_variables)
    finally:
        full_head.fine_tune_batch_norm = False
    for variable, gradient in zip(full_head.trainable_variables, gradients):
        assert gradient is not None, variable.name
        assert np.isfinite(gradient).all(), variable.name
        # In a live batch norm over two pooled values the kernel's gradient is rounding, but there.
        assert np.abs(gradient).max() > 0, variable.name


def statistics(model):
    return {n: v.numpy() for n, v in layers.official_variables(model).items() if 'moving' in n}


def test_frozen_statistics_do_not_move_by_a_bit_while_gamma_and_beta_train():
    model = small()
    before = statistics(model)
    optimizer = tf.keras.optimizers.SGD(0.1, momentum=0.9)
    unmoved = {n: v.numpy() for n, v in layers.official_variables(model).items()}
    for step in range(2):
        with tf.GradientTape() as tape:
            logits = model(make_images(33, 33), training=True, dropout_seed=tf.constant([step, 0]))
            loss = tf.reduce_mean(tf.square(logits - 1.0))
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
    for name, value in statistics(model).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    moved = {n.rsplit('/', 1)[-1] for n, v in layers.official_variables(model).items()
             if np.any(v.numpy() != unmoved[n])}
    assert moved >= {'gamma', 'beta', 'weights', 'depthwise_weights', 'biases'}


def test_live_statistics_move_by_the_momentum_asked_for():
    for momentum in (None, 0.5):
        model = small(fine_tune_batch_norm=True, batch_norm_momentum=momentum)
        norms = {c.scope: c.norm for c in layers.convolutions(model) if c.norm}
        assert norms['MobilenetV2/Conv'].momentum == (momentum or 0.997)
        assert norms['concat_projection'].momentum == (momentum or 0.9997)
        before = statistics(model)
        model(make_images(33, 33), training=True, dropout_seed=SEED)
        after = statistics(model)
        assert all(np.any(after[n] != before[n]) for n in before)
        model(make_images(33, 33))
        for name, value in statistics(model).items():
            np.testing.assert_array_equal(value, after[name])


def test_dropout_is_reproducible_by_its_seed_alone(full_head):
    def logits(seed):
        return full_head(make_images(33, 33), training=True, dropout_seed=seed).numpy()

    first = logits(SEED)
    np.testing.assert_array_equal(first, logits(SEED))
    assert np.any(first != logits(tf.constant([3, 5])))
    with pytest.raises(ValueError, match='dropout_seed'):
        full_head(make_images(33, 33), training=True)


def test_training_without_dropout_is_the_inference_function():
    model = small(dropout_rate=0.0)
    x = make_images(33, 49)
    np.testing.assert_allclose(model(x, training=True), model(x), atol=1e-5)


def test_initial_values_come_from_the_seed():
    first = {n: v.numpy() for n, v in layers.official_variables(small(seed=7)).items()}
    tf.random.set_seed(99)
    mobilenet_v2.MobileNetV2(8, 0.25)
    again = layers.official_variables(small(seed=7))
    other = layers.official_variables(small(seed=8))
    for name, variable in again.items():
        np.testing.assert_array_equal(variable, first[name], err_msg=name)
    assert np.any(other['MobilenetV2/Conv/weights'].numpy() != first['MobilenetV2/Conv/weights'])
    shapes = {v.shape for n, v in first.items() if n.endswith('expand/weights')}
    assert len(shapes) > 1
    spread = first['logits/semantic/weights'].std()
    assert spread == pytest.approx(0.01 * 0.88, rel=0.1)  # truncated at two deviations


@pytest.mark.slow
@pytest.mark.parametrize('live', [False, True])  # 50 collectives take long to trace
def test_two_replicas_of_3_and_2_give_the_gradients_of_one_device(two_replicas, live):
    def step(model, x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(model(x, training=True) - 1.0)) * 1e-3
        return tape.gradient(loss, model.trainable_variables)

    options = dict(dropout_rate=0.0, fine_tune_batch_norm=live, image_pooling=False)
    x = make_images(33, 33, batch=5)
    single = small(**options)
    expected = step(single, x)
    with two_replicas.scope():
        shared = small(**options)
    shards = two_replicas.experimental_distribute_values_from_function(
        lambda c: x[:3] if c.replica_id_in_sync_group == 0 else x[3:])
    gradients = tf.function(lambda: two_replicas.run(lambda v: step(shared, v), (shards,)))()
    for variable, ours, wanted in zip(single.trainable_variables, gradients, expected):
        total = two_replicas.reduce('SUM', ours, axis=None).numpy()
        # A chain of 50 live batch norms over few values magnifies rounding.
        bound = (2e-2 if live else 1e-5) * np.abs(wanted).max() + 1e-6
        np.testing.assert_allclose(total, wanted, rtol=0, atol=bound, err_msg=variable.name)
    for ours, wanted in zip(shared.variables, single.variables):
        np.testing.assert_allclose(ours.numpy(), wanted.numpy(), rtol=1e-4, atol=1e-6)


def test_a_checkpoint_restores_every_variable(tmp_path):
    first, second = small(seed=1), small(seed=2)
    path = tf.train.Checkpoint(model=first).write(str(tmp_path / 'model'))
    status = tf.train.Checkpoint(model=second).read(path)
    status.assert_consumed()
    for a, b in zip(first.variables, second.variables):
        np.testing.assert_array_equal(a, b)


def test_groups_and_decayed_kernels():
    model = small(atrous_rates=(2,), decoder=True)
    groups = variable_groups.variable_groups(model)
    assert sum(map(len, groups.values())) == len(model.trainable_variables)
    assert len(groups['logits']) == 2
    assert all(v.name.startswith('MobilenetV2/') for v in groups['backbone'])
    assert any(v.name.startswith('decoder/') for v in groups['head'])
    decayed = {v.name for v in segmentor.decayed_kernels(model)}
    assert 'logits/semantic/weights:0' in decayed
    assert all(name.endswith('/weights:0') for name in decayed)
    assert len(decayed) == sum(v.name.endswith('/weights:0') for v in model.variables)


def test_keras_fit_metadata_works():
    model = small()
    assert model.count_params() == segmentor.parameter_count(model)[0]
    assert model.built


@pytest.mark.parametrize('options, word', [
    ({'num_classes': 0}, 'num_classes'), ({'output_stride': 4}, 'output_stride'),
    ({'depth_multiplier': 0}, 'depth_multiplier'), ({'atrous_rates': (0,)}, 'atrous_rates'),
    ({'dropout_rate': 1.0}, 'dropout_rate'), ({'crop_size': (1, 2, 3)}, 'crop_size')])
def test_bad_arguments_are_named_in_one_line(options, word):
    with pytest.raises(UserError, match=word) as error:
        small(**options)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('builder, variant', [(deeplab.deeplab_resnet, 'resnet_v1_50'),
                                              (deeplab.deeplab_xception, 'xception_41')])
def test_a_multi_grid_is_three_factors_or_none(builder, variant):
    for grid in (2, (1, 2), (1, 2, 0), (1, 2, 1.5), '124'):
        with pytest.raises(UserError, match=f'{builder.__name__}: multi_grid') as error:
            builder(2, variant, multi_grid=grid)
        assert '\n' not in str(error.value)
    ones = layers.convolutions(builder(2, variant, multi_grid=None).backbone)
    assert max(convolution.rate for convolution in ones) == 2  # output stride 16
