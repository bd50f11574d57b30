"""Luc et al.'s adversaries: parameters, fields of view, seeds, sizes, replicas, messages."""
import gin
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.adversaries import field_of_view
from tf_advseg.adversaries.field_of_view import build_fov_discriminator
from tf_advseg.core.errors import UserError
from tf_advseg.models import layers, local_contrast, resize

NARROW = {'label_widths': (8,), 'image_widths': (4, 8), 'joint_widths': (8, 8, 8)}
TABLE_1 = {  # C = 21: counted by hand from the supplement's layers, with C channels and with 3C
    'large_fov_light': (871490, 907778, 34), 'large_fov': (2351170, 2387458, 34),
    'small_fov_light': (490434, 526722, 18), 'small_fov': (1572802, 1609090, 18)}


def build(name, num_classes=5, **options):
    return build_fov_discriminator(name, num_classes, **{**(NARROW if name == 'stanford' else {}),
                                                         **options})


def label_maps(batch, height, width, channels=5, seed=0):
    random = np.random.default_rng(seed)
    return random.dirichlet(np.ones(channels), (batch, height, width)).astype(np.float32)


def make_images(batch, height, width, seed=0):
    random = np.random.default_rng(100 + seed)
    return random.uniform(0, 255, (batch, height, width, 3)).astype(np.float32)


@pytest.mark.parametrize('name', TABLE_1)
def test_parameters_of_the_supplements_table(name):
    basic, product, _ = TABLE_1[name]
    assert build_fov_discriminator(name, 21).count_params() == basic
    assert build_fov_discriminator(name, 21, channels=63).count_params() == product
    assert not build_fov_discriminator(name, 21).needs_image


def test_parameters_of_the_stanford_adversary():
    model = build_fov_discriminator('stanford', 8)
    branches = (9 * 8 + 1) * 64 + (9 * 3 + 1) * 16 + (9 * 16 + 1) * 64
    joint = (9 * 128 + 1) * 128 + (9 * 128 + 1) * 256 + (9 * 256 + 1) * 512 + 9 * 512 + 1
    assert model.count_params() == branches + joint
    assert model.label_branch.channels == model.picture_branch.channels == 64
    assert model.needs_image


def made_positive(model):
    """Kernels of one positive value, biases 0; the two channels at the end must not cancel."""
    for variable in model.trainable_variables:
        value = tf.zeros_like(variable)
        if variable.shape.rank == 4:
            value += 2.0 / float(np.prod(variable.shape[:3]))
        variable.assign(value)
    last = model.trainable_variables[-2]
    if last.shape[-1] == 2:
        last.assign(last * [-1.0, 1.0])
    return model


def box_of_influence(judge, maps, row, column):
    """bool [h, w]: where the maps of any of the batch move the logit at (row, column)."""
    maps = tf.constant(maps)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        logits = judge(maps)[:, row, column]
    return np.abs(tape.gradient(logits, maps)).max((0, -1)) > 0


@pytest.mark.parametrize('name, side', [(name, facts[2]) for name, facts in TABLE_1.items()]
                         + [('stanford', 34)])
def test_field_of_view(name, side):
    """Of every four pixels a pooling passes the largest on, so ramps rise in all four directions.

    All weights are positive and the field lies inside the map: nothing else hides a pixel.
    """
    model = made_positive(build(name))
    slope = np.linspace(1.0, 2.0, 44, dtype=np.float32)
    ramps = np.stack([np.add.outer(rows, columns) for rows in (slope, slope[::-1])
                      for columns in (slope, slope[::-1])])
    image = np.zeros((4, 44, 44, 3), np.float32)
    influence = box_of_influence(lambda maps: model(maps, image=image),
                                 np.repeat(ramps[..., None], 5, -1), 5, 5)
    # The field is centred on the 4x4 positions 20..23 that the logit stands for.
    inside = np.s_[22 - side // 2:22 + side // 2]
    for along in (0, 1):
        expected = np.zeros(44, bool)
        expected[inside] = True
        np.testing.assert_array_equal(influence.any(along), expected)
    corners = influence[inside, inside][[0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.all()


@pytest.mark.parametrize('name', ['small_fov_light', 'stanford'])
def test_nothing_outside_the_field_of_view_is_seen(name):
    side = 18 if name == 'small_fov_light' else 34
    model, image = build(name), make_images(1, 44, 44)
    maps, changed = label_maps(1, 44, 44), label_maps(1, 44, 44, seed=1)
    inside = np.s_[:, 22 - side // 2:22 + side // 2, 22 - side // 2:22 + side // 2]
    one = model(maps, image=image).numpy()
    changed[inside] = maps[inside]
    other = model(changed, image=image).numpy()
    np.testing.assert_allclose(other[0, 5, 5], one[0, 5, 5], rtol=1e-5)
    assert np.abs(other - one).max() > 1e-4


@pytest.mark.parametrize('name', field_of_view.NAMES)
def test_any_size_has_sixteen_times_fewer_logits(name):
    model = build(name)
    graph = tf.function(lambda maps, image: model(maps, image=image), input_signature=[
        tf.TensorSpec([None, None, None, 5]), tf.TensorSpec([None, None, None, 3])])
    for height, width in ((1, 1), (4, 5), (9, 12), (15, 20)):
        maps, image = label_maps(2, height, width), make_images(2, 4 * height, 4 * width)
        logits = model(maps, image=image, training=True)
        assert logits.shape == (2, -(-height // 4), -(-width // 4))
        assert logits.dtype == tf.float32 and np.isfinite(logits).all()
        np.testing.assert_allclose(graph(maps, image), logits, atol=1e-5)


@pytest.mark.parametrize('name', ['large_fov_light', 'small_fov'])
def test_the_two_channels_are_exposed_as_their_difference(name):
    model = build(name)
    kernel, bias = model.trainable_variables[-2:]
    kernel.assign(tf.zeros_like(kernel))
    bias.assign([1.5, -2.0])
    np.testing.assert_array_equal(model(label_maps(1, 8, 8)), np.full((1, 2, 2), -3.5))
    # Without the last layer's ReLU the sign is free; under it there would be none below 0.
    assert (build(name)(label_maps(1, 24, 24)).numpy() < 0).any()


@pytest.mark.parametrize('name', ['small_fov_light', 'stanford'])
def test_weights_follow_the_seed_and_nothing_else(name):
    tf.random.set_seed(1)
    first, other = build(name, seed=5), build(name, seed=6)
    tf.random.set_seed(2)
    again = build(name, seed=5)
    assert not {v.ref() for v in first.variables} & {v.ref() for v in again.variables}
    for a, b, c in zip(*(model.trainable_variables for model in (first, again, other))):
        np.testing.assert_array_equal(a, b)
        if a.shape.rank == 4:
            assert np.mean(a.numpy() == c.numpy()) < 0.01
            assert np.abs(a).max() > 0
        else:
            assert np.all(a.numpy() == 0)


def test_initial_values_keep_the_signal_and_have_no_opinion():
    classes = np.random.default_rng(0).integers(0, 21, (1, 48, 48))
    maps = tf.one_hot(classes, 21)
    model = build('small_fov_light', 21)
    size = float(tf.math.reduce_mean(model.stack.steps[0](maps) ** 2))
    assert size == pytest.approx(1.0, rel=0.2)  # half of the variance 2, by the ReLU
    assert float(tf.reduce_max(tf.abs(model(maps)))) < 1.0
    quieter = build('small_fov_light', 21, init='lecun').trainable_variables[0]
    ratio = np.std(model.trainable_variables[0]) / np.std(quieter)
    assert ratio == pytest.approx(2 ** 0.5, rel=0.03)
    louder = build('small_fov_light', 21, last_gain=1.0)(maps)
    np.testing.assert_allclose(louder, 10 * model(maps), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize('name', ['small_fov_light', 'stanford'])
def test_torchs_initial_values_are_its_spatial_convolutions(name):
    """Kernels and biases uniform up to 1 / sqrt(kW kH nIn), the first layer and the last alike."""
    model = build_fov_discriminator(name, 21, init='torch', last_gain=1.0)
    assert len(model.trainable_variables) == 2 * len(layers.convolutions(model)) > 10
    for layer in layers.convolutions(model):
        limit = 1.0 / np.sqrt(np.prod(layer.kernel.shape[:3]))
        for values in (layer.kernel.numpy().ravel(), layer.bias.numpy()):
            assert np.abs(values).max() <= limit and len(np.unique(values)) > 0.9 * len(values)
            if len(values) > 50:  # else too few to tell
                assert np.abs(values).max() > 0.95 * limit
                assert abs(values.mean()) < 5 * limit / np.sqrt(3 * len(values))
                assert values.std() == pytest.approx(limit / np.sqrt(3), rel=2 / len(values) ** 0.5)


def test_torchs_last_layer_follows_its_gain_and_all_of_it_the_seed():
    one, tenth, other = (build('small_fov', init='torch', **options) for options in (
        {'last_gain': 1.0}, {'last_gain': 0.1}, {'last_gain': 1.0, 'seed': 1}))
    for a, b in zip(one.trainable_variables[-2:], tenth.trainable_variables[-2:]):
        np.testing.assert_allclose(b, 0.1 * a, atol=1e-8)
    for a, b, c in zip(*(model.trainable_variables for model in (one, tenth, other))):
        if a is not one.trainable_variables[-1] and a is not one.trainable_variables[-2]:
            np.testing.assert_array_equal(a, b)
        assert np.mean(a.numpy() == c.numpy()) < 0.01
    values = [v.numpy() for v in one.variables]
    for layer in layers.convolutions(one):
        for variable in layer.trainable_variables:
            variable.assign(tf.zeros_like(variable))
        layer.reinitialise()
    for a, b in zip(values, one.variables):
        np.testing.assert_array_equal(a, b)


def test_the_image_is_normalised_at_its_own_size_and_then_brought_to_the_maps():
    model = build('stanford')
    maps, image = label_maps(2, 8, 11), make_images(2, 61, 83)
    normalised = resize.resize_bilinear(local_contrast.normalise(
        tf.constant(image), floor=local_contrast.MEAN_DEVIATION), (8, 11))
    by_hand = model.joint(tf.concat(
        [model.label_branch(maps), model.picture_branch(normalised)], -1))
    np.testing.assert_allclose(model(maps, image=image), by_hand[..., 0], atol=1e-5)
    whole = image.astype(np.uint8)
    np.testing.assert_array_equal(model(maps, image=whole),
                                  model(maps, image=whole.astype(np.float32)))
    assert np.abs(model(maps, image=image[::-1]) - model(maps, image=image)).max() > 1e-4
    # Brightness is not seen, but for what the blur does to it.
    brighter = model(maps, image=image + 40.0)
    np.testing.assert_allclose(brighter, model(maps, image=image), atol=1e-3)


def gradients(model, maps, image, batch):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.math.softplus(-model(maps, image=image, training=True))) / batch
    return tape.gradient(loss, model.trainable_variables)


@pytest.mark.parametrize('name', ['small_fov_light', 'stanford'])
def test_two_replicas_judge_as_one_device(name, two_replicas):
    """Shards of 2 and 1: the same weights, and the gradients of a batch of 3."""
    alone = build(name, seed=3)
    with two_replicas.scope():
        mirrored = build(name, seed=3)
    for a, b in zip(alone.trainable_variables, mirrored.trainable_variables):
        np.testing.assert_array_equal(a, b)
    maps, image = label_maps(3, 9, 10), make_images(3, 33, 37)

    @tf.function
    def summed(maps, image):
        parts = two_replicas.run(lambda *part: gradients(mirrored, *part, 3), args=(maps, image))
        return [two_replicas.reduce('SUM', part, axis=None) for part in parts]

    shards = [two_replicas.experimental_distribute_values_from_function(
        lambda context, whole=whole: whole[:2] if context.replica_id_in_sync_group == 0
        else whole[2:]) for whole in (tf.constant(maps), tf.constant(image))]
    expected = gradients(alone, maps, image, 3)
    assert all(np.abs(g).max() > 0 for g in expected)
    for a, b in zip(summed(*shards), expected):
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1.0, np.abs(b).max()))


@pytest.mark.parametrize('name', ['small_fov_light', 'stanford'])
def test_it_learns_to_tell_noisy_maps_from_smooth_ones(name):
    random = np.random.default_rng(0)
    smooth = random.integers(0, 5, (4, 3, 3)).repeat(8, 1).repeat(8, 2)
    noisy = np.where(random.random(smooth.shape) < 0.3, random.integers(0, 5, smooth.shape), smooth)
    both = tf.one_hot(np.concatenate([smooth, noisy]), 5)
    image = np.tile(make_images(4, 48, 48), (2, 1, 1, 1))
    signs = np.float32([1] * 4 + [-1] * 4)[:, None, None]
    model, optimizer = build(name), tf.keras.optimizers.Adam(2e-3)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.math.softplus(-signs * model(both, image=image)))
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
        return loss

    losses = [float(step()) for _ in range(40)]
    # Who cannot tell stays at log 2; three seeds of weights and maps ended below 0.02.
    assert losses[0] == pytest.approx(np.log(2), abs=0.2) and losses[-1] < 0.35


def test_gin_chooses_the_adversary():
    gin.parse_config("build_fov_discriminator.name = 'stanford'\n"
                     'build_fov_discriminator.joint_widths = (6, 7, 9)\n'
                     'build_fov_discriminator.label_widths = (4,)')
    model = build_fov_discriminator(num_classes=3)
    assert isinstance(model, field_of_view.TwoBranches) and (model.channels, model.name) == (
        3, 'stanford')
    assert [tuple(v.shape) for v in model.joint.trainable_variables[::2]] == [
        (3, 3, 68, 6), (3, 3, 6, 7), (3, 3, 7, 9), (3, 3, 9, 1)]


@pytest.mark.parametrize('arguments, words', [
    (dict(name='large_fow'), 'large_fov'),
    (dict(init='hee'), 'Did you mean "he"'),
    (dict(num_classes=0), 'num_classes is 0'),
    (dict(num_classes=None), 'num_classes is None'),
    (dict(channels=10), 'channels is 10, expected 5 .* or 15'),
    (dict(name='stanford', channels=15), 'branch of its own'),
    (dict(name='stanford', joint_widths=(8,)), 'joint_widths is .* at least 2 integers'),
    (dict(name='stanford', image_widths=(0,)), 'image_widths'),
    (dict(name='stanford', label_widths=64), 'label_widths is 64'),
    (dict(last_gain=0.0), 'last_gain = 0.0: expected a number above 0'),
    (dict(last_gain='a'), 'last_gain')])
def test_bad_arguments_are_one_clear_line(arguments, words):
    with pytest.raises(UserError, match=words) as raised:
        build_fov_discriminator(**{'num_classes': 5, **arguments})
    assert '\n' not in str(raised.value)


@pytest.mark.parametrize('name, shape, image, words', [
    ('small_fov_light', (1, 4, 4, 15), None, r'expected \[B, h, w, 5\]'),
    ('small_fov_light', (4, 4, 5), None, r'expected \[B, h, w, 5\]'),
    ('stanford', (1, 4, 4, 4), (1, 8, 8, 3), r'expected \[B, h, w, 5\]'),
    ('stanford', (1, 4, 4, 5), None, 'got no image'),
    ('stanford', (1, 4, 4, 5), (1, 8, 8, 1), 'expected RGB')])
def test_bad_maps_are_one_clear_line(name, shape, image, words):
    image = None if image is None else tf.zeros(image)
    with pytest.raises(UserError, match=words) as raised:
        build(name)(tf.zeros(shape), image=image)
    assert '\n' not in str(raised.value)
