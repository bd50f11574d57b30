"""Zhu et al.'s networks: layers as listed, sizes, places, noise, initial values, messages."""
import gin
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.adversaries import reconstruction_networks
from tf_advseg.adversaries.reconstruction_networks import build_patch_discriminator
from tf_advseg.adversaries.reconstruction_networks import build_reconstruction_generator
from tf_advseg.core.errors import UserError

NARROW = (3, 4, 5, 6)
SEED = tf.constant([3, 4], tf.int32)


def generator(num_classes=5, **options):
    return build_reconstruction_generator(num_classes, **{'widths': NARROW, **options})


def discriminator(channels=5, **options):
    return build_patch_discriminator(channels, **{'widths': NARROW[:-1], **options})


def masks(height, width, channels=5, batch=2):
    random = np.random.default_rng(0)
    return random.dirichlet(np.ones(channels), (batch, height, width)).astype(np.float32)


def louder(model, factor=10.0):
    """Weights of which the outputs are no longer near 0."""
    for variable in model.trainable_variables:
        if variable.shape.rank == 4:
            variable.assign(variable * factor)
    return model


def values(model):
    return [v.numpy() for v in model.trainable_variables]


@pytest.mark.parametrize('normalisation', reconstruction_networks.NORMALISATIONS)
def test_parameters_of_the_layers_as_listed(normalisation):
    """Four convolutions and four deconvolutions, those after skips twice as wide; C = 21."""
    listed = sum((16 * a + 1) * b for a, b in (
        (21, 64), (64, 128), (128, 256), (256, 512),
        (512, 256), (256 + 256, 128), (128 + 128, 64), (64 + 64, 3)))
    # Gamma and beta in the place of a bias.
    norms = 0 if normalisation == 'none' else 128 + 256 + 512 + 256 + 128 + 64
    model = build_reconstruction_generator(21, normalisation=normalisation)
    assert sum(v.size for v in values(model)) == listed + norms
    assert len(model.encoder) == len(model.decoder) == 4 and model.multiple == 16
    listed = sum((16 * a + 1) * b for a, b in ((21 + 3, 64), (64, 128), (128, 256), (256, 1)))
    norms = 0 if normalisation == 'none' else 128 + 256
    judge = build_patch_discriminator(21, normalisation=normalisation)
    assert sum(v.size for v in values(judge)) == listed + norms and len(judge.blocks) == 4
    for model in (model, judge):  # only batch norm keeps statistics
        assert bool(model.non_trainable_variables) == (normalisation == 'batch')


@pytest.mark.parametrize('height, width', [(32, 48), (33, 47), (17, 16), (1, 50)])
def test_images_are_as_large_as_their_masks(height, width):
    model = louder(generator(), 40.0)
    found = model(masks(height, width), dropout_seed=SEED)
    assert found.shape == (2, height, width, 3) and found.dtype == tf.float32
    assert np.all(np.abs(found) <= 1.0) and np.ptp(found) > 0.1


def test_the_513_pixels_of_the_papers_maps():
    """Padded to 528 at the bottom and the right with no class, and cut back."""
    model = louder(generator(2, widths=(2, 2, 2, 2), normalisation='none'))
    whole = masks(513, 513, 2, 1)
    found = model(whole)
    assert found.shape == (1, 513, 513, 3)
    padded = np.pad(whole, ((0, 0), (0, 15), (0, 15), (0, 0)))
    np.testing.assert_allclose(found, model(padded)[:, :513, :513], atol=1e-6)


def test_sizes_may_be_unknown_in_a_graph():
    model = louder(generator())
    graph = tf.function(lambda x: model(x), input_signature=[
        tf.TensorSpec([None, None, None, 5])])
    for height, width in ((32, 48), (33, 47)):
        maps = masks(height, width)
        np.testing.assert_allclose(graph(maps), model(maps), atol=1e-5)


@pytest.mark.parametrize('shift', [16, 32])
def test_redrawn_pixels_stay_in_place(shift):
    """A mask moved by a multiple of 16 is reconstructed moved: away from borders, to the digit.

    Of one pixel of another class the change is found around that pixel.
    """
    model = louder(generator(normalisation='none'))
    wide = masks(48, 240, batch=1)
    left, right = model(wide[:, :, :192]), model(wide[:, :, shift:shift + 192])
    np.testing.assert_allclose(left[:, :, 64 + shift:128], right[:, :, 64:128 - shift], atol=1e-5)
    other = wide[:, :, :192].copy()
    other[:, 20, 100] = other[:, 20, 100, ::-1] + 3.0
    moved = np.abs(model(other).numpy() - left.numpy())[0].max(-1)
    rows, columns = np.nonzero(moved > 0.3 * moved.max())
    assert abs(rows.mean() - 20) < 6 and abs(columns.mean() - 100) < 6


def forwards(model, maps):
    """The generator by the paper's words in NumPy's shapes: layer i beside layer 8 - i."""
    outputs, x = {}, tf.constant(maps)
    for i, block in enumerate(model.encoder, 1):
        kernel, bias = block.convolution.kernel, block.convolution.bias
        x = outputs[i] = tf.nn.leaky_relu(tf.nn.conv2d(x, kernel, 2, 'SAME') + bias, 0.2)
    for i, block in enumerate(model.decoder, 5):
        kernel, bias = block.convolution.kernel, block.convolution.bias
        size = [x.shape[0], 2 * x.shape[1], 2 * x.shape[2], kernel.shape[2]]
        x = tf.nn.conv2d_transpose(x, kernel, size, 2, 'SAME') + bias
        if i < 8:
            x = tf.concat([tf.nn.relu(x), outputs[8 - i]], -1)
    return tf.tanh(x)


def test_skips_join_layer_i_and_layer_n_minus_i():
    model, maps = louder(generator(normalisation='none')), masks(32, 48)
    np.testing.assert_allclose(model(maps), forwards(model, maps), atol=1e-5)
    for skipped in range(3):  # and each of them carries something
        cut = louder(generator(normalisation='none'))
        kernel = cut.decoder[3 - skipped].convolution.kernel  # of layer 8 - i + 1
        own = kernel.shape[3] - NARROW[skipped]
        kernel.assign(tf.concat([kernel[..., :own], 0 * kernel[..., own:]], -1))
        assert np.abs(cut(maps) - model(maps)).max() > 1e-4


def test_dropout_is_the_noise_and_acts_at_test_time_too():
    model, maps = louder(generator()), masks(33, 40)
    one, again = (model(maps, training=False, dropout_seed=SEED) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - model(maps, dropout_seed=SEED + 1)).max() > 1e-3
    assert np.abs(one - model(maps)).max() > 1e-3
    for silent in (louder(generator(dropout_rate=0)), louder(generator(dropout_layers=0))):
        np.testing.assert_array_equal(silent(maps, dropout_seed=SEED), silent(maps))
        np.testing.assert_array_equal(silent(maps), model(maps))


def test_dropout_comes_after_the_innermost_deconvolutions_at_a_half():
    seen = []

    class Watched(tf.keras.layers.Layer):
        def call(self, x, training=False, seed=None):
            assert training
            seen.append((x.shape[1], x.shape[3], tuple(seed.numpy())))
            return x
    model = generator()
    assert model.dropout.rate == 0.5
    model.dropout = Watched()
    model(masks(32, 48), dropout_seed=SEED)
    assert [place[:2] for place in seen] == [(4, 5), (8, 4)]  # of 2, 4, 8, 16 and 32 rows
    assert seen[0][2] != seen[1][2]


def test_the_image_itself_may_come_beside_the_mask():
    assert generator().channels == 5 and not generator().sees_image
    model = louder(generator(sees_image=True), 20.0)
    assert model.channels == 8
    maps = np.concatenate([masks(32, 32), np.random.default_rng(1).uniform(
        -1, 1, (2, 32, 32, 3)).astype(np.float32)], -1)
    other = np.concatenate([maps[..., :5], -maps[..., 5:]], -1)
    assert np.abs(model(maps) - model(other)).max() > 1e-3


def test_a_response_sees_46_pixels():
    """1 + 3 (1 + 2 + 4 + 8) along a side, by the gradient and by pixels that are changed."""
    model = discriminator(0, widths=(2, 2, 2), normalisation='none')
    for variable in model.trainable_variables:  # positive kernels: nothing cancels
        variable.assign(tf.zeros_like(variable) + (0.1 if variable.shape.rank == 4 else 0.0))
    images = tf.ones([1, 128, 120, 3])
    assert model(images).shape == (1, 16, 15)
    with tf.GradientTape() as tape:
        tape.watch(images)
        response = model(images)[0, 8, 7]
    seen = np.abs(tape.gradient(response, images).numpy()[0]).max(-1) > 0
    rows, columns = np.nonzero(seen)
    assert np.ptp(rows) + 1 == np.ptp(columns) + 1 == 46 and seen.sum() == 46 ** 2
    assert rows.min() < 8 * 8 < rows.max() and columns.min() < 8 * 7 < columns.max()
    for row, moves in ((rows.min(), True), (rows.min() - 1, False), (rows.max(), True),
                       (rows.max() + 1, False)):
        other = images.numpy()
        other[0, row, columns[0]] = 2.0
        assert (float(model(other)[0, 8, 7]) != float(response)) == moves


def test_the_last_response_has_no_relu_and_the_condition_counts():
    model = louder(discriminator())
    images = np.random.default_rng(1).uniform(-1, 1, (2, 33, 40, 3)).astype(np.float32)
    found = model(images, condition=masks(33, 40))
    assert found.shape == (2, 5, 5) and np.any(found < 0)
    assert np.abs(found - model(images, condition=masks(33, 40)[..., ::-1])).max() > 1e-4
    assert discriminator(0)(images).shape == found.shape


def test_instance_norm_is_tensorflow_addons_function(tfa):
    ours = reconstruction_networks.InstanceNorm(1e-5)
    theirs = tfa.layers.InstanceNormalization(epsilon=1e-5)
    random = np.random.default_rng(2)
    x = random.normal(3.0, 2.0, (3, 6, 7, 4)).astype(np.float32)
    for layer in (ours, theirs):
        layer.build([None, None, None, 4])
        layer.gamma.assign([1.0, 2.0, -0.5, 0.0])
        layer.beta.assign([0.0, 1.0, 2.0, 3.0])
    np.testing.assert_allclose(ours(x), theirs(x), atol=2e-6)
    assert len(ours.variables) == 2


@pytest.mark.parametrize('build', [build_reconstruction_generator, build_patch_discriminator])
def test_initial_kernels_are_gaussian_and_biases_0(build):
    """Isotropic: of one deviation, whatever the layer; normal by its share within one and two."""
    model = build(30, seed=1, widths=(48, 64, 80), **(
        {'dropout_layers': 1} if build is build_reconstruction_generator else {}))
    for kernel in (v for v in values(model) if v.ndim == 4):
        bound = 4 / np.sqrt(kernel.size)
        assert kernel.std() == pytest.approx(0.02, rel=bound)
        assert abs(kernel.mean()) < 0.02 * bound
        for deviations, share in ((1, 0.6827), (2, 0.9545), (3, 0.9973)):
            assert (np.abs(kernel) < 0.02 * deviations).mean() == pytest.approx(share, abs=bound)
    flat = [v for v in values(model) if v.ndim == 1]
    assert all(np.all(v == 0) or np.all(v == 1) for v in flat)  # biases and betas, gammas
    wide = build(5, seed=1, stddev=0.5)
    assert values(wide)[0].std() == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize('build', [generator, discriminator])
def test_equal_seeds_give_equal_weights_in_any_order(build, two_replicas):
    first = values(build(seed=3))
    build(seed=9)
    tf.random.set_seed(5)
    with two_replicas.scope():
        again = values(build(seed=3))
    assert all(map(np.array_equal, first, again))
    kernels = [[v for v in values(build(seed=seed)) if v.ndim == 4] for seed in (3, 4)]
    assert not any(map(np.array_equal, *kernels))
    assert len({v.tobytes()[:64] for v in kernels[0]}) == len(kernels[0])  # nor twice the same


@pytest.mark.parametrize('kind, build, options', [
    (generator, build_reconstruction_generator, dict(
        sees_image=True, normalisation='batch', dropout_rate=0.25, dropout_layers=1)),
    (discriminator, build_patch_discriminator, dict(normalisation='none', stddev=0.1))])
def test_arguments_make_the_same_network_again(kind, build, options):
    model = kind(**options)
    again = build(**model.arguments)
    assert again.arguments == model.arguments
    assert [v.shape for v in again.variables] == [v.shape for v in model.variables]


def test_gin_names_what_it_needs():
    gin.parse_config("build_reconstruction_generator.normalisation = 'batch'\n"
                     'build_patch_discriminator.widths = (2, 3)')
    assert build_reconstruction_generator(3, widths=NARROW).fine_tune_batch_norm
    assert len(build_patch_discriminator(3).blocks) == 3


@pytest.mark.parametrize('build, options, text', [
    (generator, dict(normalisation='instanse'), 'Did you mean "instance"'),
    (generator, dict(num_classes=0), 'num_classes'), (generator, dict(widths=()), 'widths'),
    (generator, dict(widths=(3, 0)), 'widths'), (generator, dict(dropout_rate=1.0), '1.0'),
    (generator, dict(dropout_layers=4), 'dropout_layers = 4'),
    (generator, dict(stddev=0), 'stddev = 0'), (discriminator, dict(channels=-1), '-1'),
    (discriminator, dict(normalisation='layer'), 'normalisation'),
    (discriminator, dict(widths=3), 'widths')])
def test_what_cannot_be_built_is_told_in_one_line(build, options, text):
    with pytest.raises(UserError) as caught:
        build(**options)
    assert text in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('call, text', [
    (lambda: generator()(tf.zeros([1, 16, 16, 4])), 'maps (1, 16, 16, 4): expected [B, h, w, 5]'),
    (lambda: generator()(tf.zeros([16, 16, 5])), 'maps (16, 16, 5)'),
    (lambda: discriminator()(tf.zeros([1, 16, 16, 4])), 'images (1, 16, 16, 4)'),
    (lambda: discriminator()(tf.zeros([1, 16, 16, 3]), condition=tf.zeros([1, 16, 16, 4])),
     'a condition (1, 16, 16, 4): expected [B, h, w, 5]'),
    (lambda: discriminator()(tf.zeros([1, 16, 16, 3])), 'a condition ()')])
def test_maps_that_do_not_fit_are_told_in_one_line(call, text):
    with pytest.raises(UserError) as caught:
        call()
    assert text in str(caught.value) and '\n' not in str(caught.value)
