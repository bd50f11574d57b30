"""Luc's encodings: what is printed of them, checked on random maps; gradients by differences."""
import types

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.adversaries import label_maps
from tf_advseg.core.errors import UserError
from tf_advseg.models import layers
from tf_advseg.models.resize import resize_bilinear

C, H, W, STRIDE = 5, 33, 25, 4
SIZE = ((H - 1) // STRIDE + 1, (W - 1) // STRIDE + 1)


def example(seed=0, scale=3.0):
    """(image, labels with unknown pixels, logits)."""
    generator = np.random.default_rng(seed)
    labels = np.kron(generator.integers(0, C, (2, 5, 4)), np.ones((1, 7, 7), int))[:, :H, :W]
    labels[0, :9] = 255
    labels[1, :, 20:] = 255
    logits = scale * generator.normal(size=(2, *SIZE, C))
    return (tf.constant(generator.uniform(0, 255, (2, H, W, 3)), tf.float32),
            tf.constant(labels, tf.int32), tf.constant(logits, tf.float32))


def known():
    """bool [2, h', w']: which points have a label."""
    return example()[1].numpy()[:, ::STRIDE, ::STRIDE] != 255


@pytest.mark.parametrize('kind', label_maps.KINDS)
def test_unlabelled_pixels_are_zero_in_both_maps_and_nowhere_else(kind):
    encoding = label_maps.LabelMaps(C, kind)
    for maps in (encoding.real(*example()), encoding.fake(*example())):
        assert maps.shape == (2, *SIZE, encoding.channels)
        assert np.array_equal(np.any(maps.numpy() != 0, -1), known())


def test_the_truth_is_the_labels_at_the_points_of_the_logits():
    image, labels, logits = example()
    real = label_maps.LabelMaps(C).real(image, labels, logits).numpy()
    points = labels.numpy()[:, ::STRIDE, ::STRIDE]
    assert np.array_equal(real.argmax(-1)[known()], points[known()])
    assert set(np.unique(real)) == {0.0, 1.0}


def test_basic_and_scaling_show_the_softmax():
    for kind in ('basic', 'scaling'):
        fake = label_maps.LabelMaps(C, kind).fake(*example()).numpy()
        np.testing.assert_allclose(fake[known()], tf.nn.softmax(example()[2]).numpy()[known()])


def test_product_is_the_map_times_the_mean_centred_image_class_by_class():
    image, labels, logits = example()
    encoding = label_maps.LabelMaps(C, 'product', mean_colour=(120.0, 110.0, 100.0),
                                    colour_scale=2.0)
    product = encoding.fake(image, labels, logits).numpy().reshape(2, *SIZE, C, 3)
    centred = (image.numpy()[:, ::STRIDE, ::STRIDE] - [120.0, 110.0, 100.0]) / 2.0
    expected = tf.nn.softmax(logits).numpy()[..., None] * centred[..., None, :]
    np.testing.assert_allclose(product[known()], expected[known()], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(resize_bilinear(image, SIZE), image[:, ::STRIDE, ::STRIDE],
                               atol=1e-3)


@pytest.mark.parametrize('tau', [0.5, 0.9, 1.0])
@pytest.mark.parametrize('scale', [0.1, 3.0, 30.0, 300.0])
def test_scaling_is_the_printed_distribution_to_the_last_digit(tau, scale):
    image, labels, logits = example(scale=scale)
    s = tf.nn.softmax(logits)
    truth = tf.one_hot(labels[:, ::STRIDE, ::STRIDE], C)
    ybar = label_maps.scaled_truth(truth, s, tau).numpy()
    assert np.isfinite(ybar).all() and (ybar >= 0).all() and (ybar <= 1).all()
    there = truth.numpy().sum(-1) > 0
    # Each of the C shares, and each of the C - 1 sums of them, is rounded by half an epsilon.
    assert np.abs(ybar[there].sum(-1) - 1.0).max() <= C * np.finfo(np.float32).eps
    exact = tf.nn.softmax(tf.cast(logits, tf.float64)).numpy()[there]
    label = truth.numpy()[there].argmax(-1)
    rows = np.arange(len(label))
    own = np.maximum(tau, exact[rows, label])  # as printed, in float64
    with np.errstate(invalid='ignore', divide='ignore'):
        others = exact * ((1 - own) / (1 - exact[rows, label]))[:, None]
    others[rows, label] = own
    printed = np.where(np.isfinite(others), others, np.eye(C)[label])
    np.testing.assert_allclose(ybar[there], printed, atol=1e-6)


def test_swapped_truths_hold_the_predictions_own_numbers():
    s = tf.constant([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])
    truth = tf.constant([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    shown = label_maps.swapped_truth(truth, s).numpy()
    expected = np.array([[0.2, 0.3, 0.5], [0.5, 0.3, 0.2], [0.5, 0.3, 0.2]], np.float32)
    np.testing.assert_array_equal(shown, expected)  # to the bit: no number is computed


@pytest.mark.parametrize('kind', label_maps.BY_PREDICTION)
def test_a_truth_made_of_the_prediction_gives_it_no_gradient_and_is_the_true_class(kind):
    image, labels, logits = example(scale=1.0)
    encoding = label_maps.LabelMaps(C, kind)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        real = encoding.real(image, labels, logits)
        total = tf.reduce_sum(tf.square(real))
    assert tape.gradient(total, logits) is None
    at = labels[:, ::STRIDE, ::STRIDE]
    there = np.asarray(at) != 255
    np.testing.assert_array_equal(real.numpy().argmax(-1)[there], np.asarray(at)[there])


def test_tau_of_swapped_truths_is_one_line():
    with pytest.raises(UserError, match='tau = 0.8 has no effect'):
        label_maps.LabelMaps(C, 'swapped', tau=0.8)


def test_scaling_where_the_prediction_is_certain():
    """s_l = 1 makes the printed ratio 0/0: one-hot, and s_l = 0 leaves the others tau's rest."""
    s = tf.constant([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.95, 0.04, 0.01]])
    truth = tf.one_hot([0, 0, 0], 3)
    ybar = label_maps.scaled_truth(truth, s, 0.9).numpy()
    np.testing.assert_allclose(ybar, [[1, 0, 0], [0.9, 0.1, 0], [0.95, 0.04, 0.01]], atol=1e-7)


def judged(encoding, logits, real=False):
    """A smooth discriminator's loss on the fake (or real) map, as a function of logits.

    A ReLU's kinks would spoil finite differences; what is tested is the way from map to logits.
    """
    image, labels, _ = example()
    maps = (encoding.real if real else encoding.fake)(image, labels, logits)
    kernel = np.random.default_rng(5).normal(size=(5, 5, encoding.channels, 4)) * 0.3
    seen = tf.tanh(tf.nn.conv2d(maps, tf.constant(kernel, tf.float32), 1, 'SAME'))
    return tf.reduce_sum(tf.math.softplus(-tf.reduce_sum(seen, -1)))


@pytest.mark.parametrize('kind', label_maps.KINDS)
def test_the_gradient_by_finite_differences(kind):
    """Nothing comes back at unlabelled pixels; elsewhere it is the slope of the loss."""
    encoding = label_maps.LabelMaps(C, kind)
    logits = example(scale=1.0)[2]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        loss = judged(encoding, logits)
        other = judged(encoding, logits, real=True)
    gradient = tape.gradient(loss, logits).numpy()
    assert np.array_equal(np.any(gradient != 0, -1), known())
    # The truth's map is a constant, though 'scaling' makes it of the prediction.
    assert tape.gradient(other, logits) is None

    def slope(direction, step=1e-2):
        forth, back = (judged(encoding, logits + sign * step * direction) for sign in (1, -1))
        return float(forth - back) / (2 * step)

    generator = np.random.default_rng(3)
    for _ in range(5):
        noise = generator.normal(size=logits.shape)
        direction = (gradient / np.linalg.norm(gradient) + noise / np.linalg.norm(noise))
        along = float(np.sum(gradient * direction))
        assert abs(along) > 0.1
        assert slope(tf.constant(direction, tf.float32)) == pytest.approx(along, rel=5e-3)
        assert slope(tf.constant(noise * ~known()[..., None], tf.float32)) == 0.0


@pytest.mark.parametrize('normalisation, kind, scale', [
    (layers.MeanSubtraction(layers.CAFFE_MEAN), 'product', 1.0),
    (layers.SymmetricNormalisation(), 'product', 127.5), (None, 'product', 127.5),
    (layers.MeanSubtraction(layers.CAFFE_MEAN), 'concat', 127.5)])
def test_product_has_the_image_as_the_segmentor_is_fed(normalisation, kind, scale):
    segmentor = types.SimpleNamespace(normalisation=normalisation, logits_stride=8)
    made = label_maps.label_maps(C, segmentor, kind=kind)
    assert made.colour_scale == scale and made.stride == 8
    assert label_maps.label_maps(C, segmentor, kind=kind, colour_scale=3.0).colour_scale == 3.0
    if normalisation is not None and kind == 'product':
        image = tf.constant([[[[10.0, 20.0, 30.0]]]])
        np.testing.assert_allclose((image[0, 0, 0] - made.mean_colour) / scale,
                                   normalisation(image)[0, 0, 0], atol=1e-5)


@pytest.mark.parametrize('words, text', [
    (dict(kind='prodcut'), 'Did you mean "product"'), (dict(tau=0.0), 'label_maps.tau = 0.0'),
    (dict(tau=1.1), 'at most 1'), (dict(tau='0.9'), "label_maps.tau = '0.9'"),
    (dict(colour_scale=0.0), 'label_maps.colour_scale'), (dict(colour_scale=None), 'None')])
def test_what_is_no_encoding_is_refused_in_one_line(words, text):
    with pytest.raises(UserError) as caught:
        label_maps.LabelMaps(C, **words)
    assert text in str(caught.value) and '\n' not in str(caught.value)
