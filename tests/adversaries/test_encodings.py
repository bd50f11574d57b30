"""Encodings: real and fake maps are sampled alike, and what is not labelled tells nothing."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.adversaries import discriminators, encodings, stored_maps
from tf_advseg.core.errors import UserError
from tf_advseg.models.resize import resize_bilinear, resize_nearest

C = 4
SIZE = 24


def scene(seed=0, height=33, width=49, batch=2, padded=True):
    """(image float32 0..255, label int32 of blocks with unknown pixels and padding)."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, C, [batch, height // 5 + 1, width // 5 + 1])
    label = blocks.repeat(5, axis=1).repeat(5, axis=2)[:, :height, :width].astype(np.int32)
    image = rng.uniform(0, 255, [batch, height, width, 3]).astype(np.float32)
    if padded:
        label[:, 4:9, 6:14] = 255
        label[:, -8:] = 255
        image[:, -8:] = 127.5
    return image, label


def logits_of(label, stride=4, seed=1):
    rng = np.random.default_rng(seed)
    shape = [(n - 1) // stride + 1 for n in label.shape[1:]]
    return tf.constant(rng.normal(size=[len(label), *shape, C]).astype(np.float32) * 3)


def smooth_logits_of(label):
    """Logits at stride 4 without the jumps of noise, as a network's are."""
    return resize_bilinear(logits_of(label, 8), logits_of(label, 4).shape[1:3])


def every_input(encoding, image, label, logits):
    """name -> discriminator input, of each way a map can come in."""
    full = resize_bilinear(logits, label.shape[1:])
    return {
        'real': encoding.real(image, label),
        'soft': encoding.soft(image, label, logits),
        'hard': encoding.hard(image, label, tf.cast(tf.argmax(full, -1), tf.uint8)),
        'straight_through': encoding.straight_through(image, label, logits),
        'quantised': encoding.quantised(image, label,
                                        stored_maps.quantise(tf.nn.softmax(logits))),
    }


@pytest.mark.parametrize('size', [24, 33, 96])
def test_real_map_is_the_resized_one_hot_renormalised(size):
    _, label = scene()
    one_hot = np.zeros([*label.shape, C], np.float32)
    for c in range(C):
        one_hot[..., c] = label == c
    resized = tf.compat.v1.image.resize_bilinear(one_hot, (size, size),
                                                 align_corners=True).numpy()
    mass = resized.sum(-1, keepdims=True)
    expected = np.where(mass > 0, resized / np.where(mass > 0, mass, 1), 0)
    actual = encodings.real_map(label, C, size).numpy()
    np.testing.assert_allclose(actual, expected, atol=1e-6)


@pytest.mark.parametrize('size', [24, 33, 96])
def test_valid_mask_is_the_nearest_label(size):
    _, label = scene()
    nearest = resize_nearest(tf.constant(label)[..., None], (size, size))[..., 0]
    valid = encodings.valid_mask(label, size)
    np.testing.assert_array_equal(valid, nearest != 255)
    assert 0 < np.mean(valid) < 1


def test_real_maps_sum_to_one_wherever_they_are_judged():
    _, label = scene()
    valid = encodings.valid_mask(label, SIZE).numpy()
    for smoothing in (0.0, 0.1):
        total = encodings.real_map(label, C, SIZE, label_smoothing=smoothing).numpy().sum(-1)
        np.testing.assert_allclose(total[valid], 1.0, atol=1e-6)


def test_label_smoothing_bounds_the_confidence_and_leaves_unlabelled_points_empty():
    _, label = scene()
    sharp = encodings.real_map(label, C, SIZE).numpy()
    smooth = encodings.real_map(label, C, SIZE, label_smoothing=0.2).numpy()
    empty = sharp.sum(-1) == 0
    assert empty.any()
    np.testing.assert_array_equal(smooth[empty], 0.0)
    np.testing.assert_allclose(smooth[~empty], 0.8 * sharp[~empty] + 0.05, atol=1e-6)


def test_channels_are_class_major():
    image = np.broadcast_to(np.float32([51, 102, 204]), [1, 9, 9, 3])
    label = np.full([1, 9, 9], 2, np.int32)
    x = encodings.Encoding(C, 9).real(image, label).numpy()
    assert x.shape == (1, 9, 9, 3 * C)
    expected = np.zeros(3 * C)
    expected[6:9] = [0.2, 0.4, 0.8]
    np.testing.assert_allclose(x[0, 4, 4], expected, atol=1e-6)
    symmetric = encodings.Encoding(C, 9, image_range='symmetric').real(image, label).numpy()
    np.testing.assert_allclose(symmetric[0, 4, 4, 6:9], [-0.6, -0.2, 0.6], atol=1e-6)
    maps = encodings.Encoding(C, 9, kind='map').real(image, label).numpy()
    np.testing.assert_array_equal(maps[0, 4, 4], [0, 0, 1, 0])


@pytest.mark.parametrize('kind, image_range', [
    (kind, image_range) for kind in encodings.KINDS for image_range in encodings.IMAGE_RANGES
    if kind != 'map' or image_range == 'unit'])
def test_unlabelled_points_are_zero_however_the_map_came_in(kind, image_range):
    image, label = scene()
    encoding = encodings.Encoding(C, SIZE, kind, image_range, label_smoothing=0.1)
    invalid = ~encodings.valid_mask(label, SIZE).numpy()
    for name, x in every_input(encoding, image, label, logits_of(label)).items():
        assert x.shape == (2, SIZE, SIZE, encoding.channels), name
        np.testing.assert_array_equal(x.numpy()[invalid], 0.0, err_msg=name)
        assert np.all(np.isfinite(x)), name
        assert np.mean(x.numpy()[~invalid] != 0) > 0.2, name


def test_unlabelled_points_carry_exactly_no_gradient():
    image, label = scene()
    valid = encodings.valid_mask(label, SIZE)
    maps = tf.Variable(tf.nn.softmax(tf.random.stateless_normal([2, SIZE, SIZE, C], [0, 1])))
    upstream = tf.random.stateless_normal([2, SIZE, SIZE, 3 * C], [0, 2])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(upstream * encodings.discriminator_input(image, maps, valid, SIZE))
    gradient = tape.gradient(loss, maps).numpy()
    np.testing.assert_array_equal(gradient[~valid.numpy()], 0.0)
    assert np.all(np.abs(gradient[valid.numpy()]).sum(-1) > 0)


def test_logits_of_a_padded_part_get_exactly_no_gradient():
    image, label = scene()
    label[:, 16:] = 255
    logits = tf.Variable(logits_of(label, stride=4))
    encoding = encodings.Encoding(C, SIZE)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(encoding.soft(image, label, logits) ** 2)
    gradient = tape.gradient(loss, logits).numpy()
    np.testing.assert_array_equal(gradient[:, 5:], 0.0)  # row 4 of the logits is row 16
    assert np.abs(gradient[:, :4]).min() > 0


def test_a_perfect_certain_prediction_is_the_truth():
    """Sampled on whole pixels (13 -> 7) and saturated, fake and real inputs are equal."""
    image, label = scene(height=13, width=13)
    known = np.where(label == 255, 0, label)
    logits = tf.one_hot(known, C) * 2000.0 - 1000.0
    encoding = encodings.Encoding(C, 7)
    inputs = every_input(encoding, image, label, logits)
    for name, x in inputs.items():
        tolerance = 2e-3 if name == 'quantised' else 0.0  # 0 stands for "below 1/510" there
        np.testing.assert_allclose(x, inputs['real'], atol=tolerance, rtol=0, err_msg=name)


def test_a_perfect_hard_map_is_the_truth_between_pixels_too():
    image, label = scene()
    predicted = np.where(label == 255, 1, label).astype(np.uint8)  # anything where unknown
    encoding = encodings.Encoding(C, SIZE)
    np.testing.assert_array_equal(encoding.hard(image, label, predicted),
                                  encoding.real(image, label))


def test_a_map_read_back_gives_the_live_input():
    image, label = scene()
    encoding = encodings.Encoding(C, 64)
    logits = smooth_logits_of(label)
    live = encoding.soft(image, label, logits).numpy()
    half = encoding.soft(image, label, tf.cast(logits, tf.float16)).numpy()
    assert np.abs(half - live).max() < 5e-3
    stored = stored_maps.quantise(tf.nn.softmax(logits))
    from_probabilities = encoding.quantised(image, label, stored).numpy()
    linear = resize_bilinear(tf.cast(stored, tf.float32) / 255.0, (64, 64))
    linear = encoding.finish(image, label, linear).numpy()
    assert np.abs(from_probabilities - live).max() < 0.03
    error, linear_error = (np.abs(x - live).mean() for x in (from_probabilities, linear))
    assert error < linear_error / 5


def test_straight_through_is_hard_forward_and_soft_backward():
    image, label = scene()
    encoding = encodings.Encoding(C, SIZE, temperature=0.5)
    logits = tf.Variable(logits_of(label))
    upstream = tf.random.stateless_normal([2, SIZE, SIZE, 3 * C], [0, 2])
    gradients = []
    for encode in (encoding.soft, encoding.straight_through):
        with tf.GradientTape() as tape:
            x = encode(image, label, logits)
            loss = tf.reduce_sum(x * upstream)
        gradients.append(tape.gradient(loss, logits).numpy())
    np.testing.assert_array_equal(*gradients)
    ids = tf.argmax(resize_bilinear(logits, label.shape[1:]), -1)
    np.testing.assert_array_equal(x, encoding.hard(image, label, ids))


def test_temperature_sharpens():
    _, label = scene()
    logits = logits_of(label)
    confidence = [tf.reduce_mean(tf.reduce_max(encodings.soft_map(logits, SIZE, t), -1)).numpy()
                  for t in (2.0, 1.0, 0.25)]
    assert confidence[0] < confidence[1] < confidence[2]


@pytest.mark.parametrize('name', ['real', 'soft', 'hard', 'quantised'])
def test_mirroring_image_truth_and_map_mirrors_the_input(name):
    image, label = scene()
    logits = logits_of(label)
    encoding = encodings.Encoding(C, SIZE)
    straight = every_input(encoding, image, label, logits)[name].numpy()
    mirrored = every_input(encoding, image[:, :, ::-1], label[:, :, ::-1],
                           logits[:, :, ::-1])[name].numpy()
    np.testing.assert_allclose(mirrored[:, :, ::-1], straight, atol=2e-5)


def test_inputs_compile_for_unknown_image_sizes():
    image, label = scene()
    encoding = encodings.Encoding(C, SIZE)
    compiled = tf.function(encoding.real, input_signature=[
        tf.TensorSpec([None, None, None, 3]), tf.TensorSpec([None, None, None], tf.int32)])
    for height in (33, 17):
        np.testing.assert_allclose(compiled(image[:, :height], label[:, :height]),
                                   encoding.real(image[:, :height], label[:, :height]), atol=2e-5)


def test_the_adversarial_gradient_is_the_finite_difference():
    image, label = scene(batch=1)
    encoding = encodings.Encoding(C, 32)
    model = discriminators.build_discriminator('small_cnn', encoding.channels, size=32, alpha=0.5,
                                               seed=3)

    def loss(logits):
        return tf.reduce_sum(tf.math.softplus(-model(encoding.soft(image, label, logits))))

    logits = tf.Variable(logits_of(label))
    with tf.GradientTape() as tape:
        value = loss(logits)
    gradient = tape.gradient(value, logits)
    direction = gradient / tf.norm(gradient)
    step = 0.02
    slope = (loss(logits + step * direction) - loss(logits - step * direction)) / (2 * step)
    assert tf.norm(gradient) > 1e-4
    np.testing.assert_allclose(slope, tf.norm(gradient), rtol=0.02)


@pytest.mark.parametrize('arguments, word', [
    (dict(kind='prodct'), 'product'), (dict(image_range='uint'), 'unit'), (dict(size=0), 'size'),
    (dict(temperature=0.0), 'temperature'), (dict(label_smoothing=1.0), 'smoothing'),
    (dict(tau=0.8), 'tau = 0.8 has no effect'), (dict(truth='scalin'), 'scaling'),
    (dict(kind='map', image_range='symmetric'), 'image_range'),
    (dict(truth='bottleneck', label_smoothing=0.1), 'label_smoothing = 0.1 has no effect'),
    (dict(size='logit'), 'logits')])
def test_bad_choices_are_one_clear_line(arguments, word):
    with pytest.raises(UserError, match=word) as raised:
        encodings.input_encoding(C, **arguments)
    # gin adds a line of its own; the command line shows the first.
    assert word in str(raised.value).splitlines()[0]


def test_a_map_of_another_size_is_refused():
    image, label = scene()
    with pytest.raises(UserError, match='size 24'):
        encodings.discriminator_input(image, encodings.real_map(label, C, 12),
                                      encodings.valid_mask(label, SIZE), SIZE)
