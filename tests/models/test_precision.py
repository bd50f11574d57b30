"""What is computed in a short type and what is not: the operations of traced steps."""
import threading

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.adversaries import discriminators, reconstruction_networks
from tf_advseg.core.errors import UserError
from tf_advseg.experiments import small_methods
from tf_advseg.experiments.benchmarks import device_steps
from tf_advseg.models import layers, precision, segmentor

SHORT = {precision.BFLOAT16: tf.bfloat16, precision.FLOAT16: tf.float16}
IMAGE = np.random.default_rng(5).uniform(0, 255, (2, 33, 33, 3)).astype(np.float32)
CONVOLUTIONS = ('Conv2D', 'DepthwiseConv2dNative', 'Conv2DBackpropInput')


def convolved_in(function, *arguments):
    """The types of the convolutions that a function takes; local contrast's are not learnt."""
    graph = tf.function(function, autograph=False).get_concrete_function(
        *map(tf.constant, arguments)).graph
    found, graphs = set(), [graph]
    while graphs:
        graph = graphs.pop()
        graphs += [getattr(f, 'graph', None) for f in graph._functions.values()
                   if getattr(f, 'graph', None) is not None] if hasattr(graph, '_functions') else []
        for op in graph.get_operations():
            constant = op.type == 'DepthwiseConv2dNative' and op.inputs[1].op.type in (
                'Tile', 'Const')
            if op.type in CONVOLUTIONS and not constant:
                found.add(op.outputs[0].dtype)
    return found


NETWORKS = [name if name in device_steps.LIGHT else pytest.param(name, marks=pytest.mark.slow)
            for name in device_steps.NETWORKS]


@pytest.mark.parametrize('name', NETWORKS)
def test_every_convolution_of_a_network_is_in_the_short_type_while_it_is_trained(name):
    network = device_steps.NETWORKS[name]()

    def trained(image):
        with precision.Precision(precision.BFLOAT16).computing():
            return segmentor.apply(network, image, training=True, dropout_seed=[1, 2])

    def used(image):
        return segmentor.apply(network, image)

    assert convolved_in(trained, IMAGE) == {tf.bfloat16}
    assert convolved_in(used, IMAGE) == {tf.float32}
    assert {v.dtype for v in network.variables} == {tf.float32}
    assert trained(IMAGE).dtype == tf.float32


@pytest.mark.parametrize('policy', SHORT)
def test_what_a_network_says_is_near_and_what_it_says_in_use_is_the_same(policy):
    network = device_steps.NETWORKS['farabet']()
    before = network(IMAGE).numpy()
    with precision.Precision(policy).computing():
        short = network(IMAGE).numpy()
    np.testing.assert_array_equal(network(IMAGE), before)
    off = np.linalg.norm(short - before) / np.linalg.norm(before)
    # Measured: 3 roundings of either type.
    assert 0 < off < 50 * {precision.FLOAT16: 2 ** -12, precision.BFLOAT16: 2 ** -9}[policy]


def test_replicas_threads_do_not_see_each_others_type():
    seen = []
    with precision.Precision(precision.FLOAT16).computing():
        thread = threading.Thread(target=lambda: seen.append(precision.compute_dtype()))
        thread.start()
        thread.join()
        assert precision.compute_dtype() == tf.float16
    assert seen == [tf.float32]
    with pytest.raises(KeyError):
        with precision.Precision(precision.FLOAT16).computing():
            raise KeyError
    assert precision.compute_dtype() == tf.float32


def statistics(x, strategy):
    """The moving statistics of a live batch norm with momentum 0, of bfloat16 maps."""
    with strategy.scope():
        norm = layers.BatchNorm('norm', x.shape[-1], layers.Norm(1e-3, 0.0))
    dataset = tf.data.Dataset.from_tensor_slices(x).batch(len(x))

    def normalised(part):
        return norm(tf.cast(part, tf.bfloat16), mode=layers.LIVE)

    y = strategy.run(normalised, (next(iter(strategy.experimental_distribute_dataset(dataset))),))
    return (strategy.experimental_local_results(y), norm.moving_mean.numpy(),
            norm.moving_variance.numpy())


@pytest.mark.parametrize('replicas', ['one', 'two'])
def test_statistics_of_batch_norm_are_float32(replicas, request):
    """Of maps far from 0: sums of 8 bits would be off by a tenth of the variance and more."""
    strategy = (tf.distribute.OneDeviceStrategy('/cpu:0') if replicas == 'one'
                else request.getfixturevalue('two_replicas'))
    x = np.random.default_rng(1).normal(5.0, 1.0, (4, 16, 16, 3)).astype(np.float32)
    x = tf.cast(tf.cast(x, tf.bfloat16), tf.float32).numpy()
    parts, mean, variance = statistics(x, strategy)
    flat = x.astype(np.float64).reshape(-1, 3)
    np.testing.assert_allclose(mean, flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance, flat.var(0, ddof=1), rtol=1e-4)
    assert {part.dtype for part in parts} == {tf.bfloat16}


DISCRIMINATORS = [('small_cnn', {}), ('patch', {'spectral_norm': True}),
                  pytest.param('mobilenet', {}, marks=pytest.mark.slow),
                  pytest.param('vgg16', {}, marks=pytest.mark.slow)]


@pytest.mark.parametrize('name, further', DISCRIMINATORS)
def test_discriminators_of_keras_layers_are_built_in_the_short_type(name, further):
    """Their weights, logits and first values are those of float32."""
    made = {}
    for policy in (precision.FLOAT32, precision.BFLOAT16):
        with small_methods.bound((f"precision.policy = '{policy}'",)):
            made[policy] = discriminators.build_discriminator(name, 3, size=33, **further)
    assert tf.keras.mixed_precision.global_policy().name == 'float32'
    plain, short = made.values()
    assert convolved_in(lambda x: short(x, training=False), IMAGE) == {tf.bfloat16}
    assert convolved_in(lambda x: plain(x, training=False), IMAGE) == {tf.float32}
    assert {v.dtype for v in short.variables} == {tf.float32}
    for one, two in zip(plain.variables, short.variables):
        np.testing.assert_array_equal(one, two)
    assert short(IMAGE).dtype == tf.float32
    np.testing.assert_allclose(short(IMAGE / 255), plain(IMAGE / 255), rtol=0.1, atol=0.05)


@pytest.mark.parametrize('normalisation', reconstruction_networks.NORMALISATIONS)
def test_the_networks_of_reconstruction_are_built_in_the_short_type(normalisation):
    with small_methods.bound((f"precision.policy = '{precision.BFLOAT16}'",)):
        generator = reconstruction_networks.build_reconstruction_generator(
            3, widths=(8, 8), dropout_layers=1, normalisation=normalisation)
        judge = reconstruction_networks.build_patch_discriminator(
            0, widths=(8, 8), normalisation=normalisation)

    def both(maps):
        return judge(generator(maps, training=True), training=True)

    maps = np.eye(3, dtype=np.float32)[np.random.default_rng(0).integers(0, 3, (2, 17, 17))]
    assert convolved_in(both, maps) == {tf.bfloat16}
    assert generator(maps).dtype == both(maps).dtype == tf.float32
    assert {v.dtype for v in (*generator.variables, *judge.variables)} == {tf.float32}


def foreign():
    return segmentor.as_segmentor(tf.keras.Sequential([
        tf.keras.layers.Conv2D(3, 3, 2, 'same', input_shape=(None, None, 3)),
        tf.keras.layers.Activation('linear', dtype='float32')]))


def test_a_network_of_the_users_has_to_be_built_in_the_short_type():
    short = precision.Precision(precision.BFLOAT16)
    with pytest.raises(UserError, match="made of Keras' own layers") as caught:
        short.require_mixed(foreign())
    assert '\n' not in str(caught.value)
    precision.Precision().require_mixed(foreign())
    short.require_mixed(device_steps.NETWORKS['farabet']())
    with short.keras_layers():
        built = foreign()
    short.require_mixed(built)
    assert tf.keras.mixed_precision.global_policy().name == 'float32'


def test_settings_that_are_none():
    assert precision.Precision().identity == {}
    assert precision.Precision(precision.BFLOAT16).identity['precision']['policy'] == (
        precision.BFLOAT16)
    for given, said in (({'policy': 'float16'}, 'mixed_float16'),
                        ({'loss_scale': 2.0}, 'has no effect with'),
                        ({'policy': precision.BFLOAT16, 'growth_steps': 3}, 'has no effect with'),
                        ({'policy': precision.FLOAT16, 'loss_scale': 0.5}, 'loss_scale = 0.5'),
                        ({'policy': precision.FLOAT16, 'growth_steps': 0}, 'growth_steps = 0')):
        with pytest.raises(UserError, match=said) as caught:
            precision.Precision(**given)
        assert '\n' not in str(caught.value)
