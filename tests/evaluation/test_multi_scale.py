"""Several scales and mirrored, against numbers that the official DeepLab code made."""
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_advseg.core.errors import UserError
from tf_advseg.evaluation import evaluator, multi_scale, prediction
from tf_advseg.models import deeplab, layers, segmentor, zoo
from ties import assert_same_counts

CASES = ['mnv2_aspp_decoder_os16__129x129',
         *(pytest.param(name, marks=pytest.mark.slow) for name in (
             'mnv2_pascal_os16__129x129', 'mnv2_pascal_os16__257x257',
             'xception65_pascal_os16__129x129'))]


@pytest.mark.parametrize('name', CASES)
def test_probabilities_and_classes_are_the_official_ones(official, name):
    expected = official.arrays(name)
    if 'ms_scales' not in expected:
        pytest.skip('the committed numbers hold one scale only: the rest lies in ../shared')
    model, image, _ = official.case(name)
    images = tf.constant(image[None], tf.float32)
    scales, flip = expected['ms_scales'].tolist(), bool(expected['ms_flip'])
    assert tuple(scales) == multi_scale.OFFICIAL_SCALES and flip
    ours = multi_scale.probabilities(model, images, scales, flip).numpy()[0]
    step = int(expected['upsampled_step'])
    assert np.abs(ours[::step, ::step] - expected['ms_avg_softmax']).max() < 1e-4
    best = np.sort(ours, -1)
    clear = best[..., -1] - best[..., -2] > 1e-4
    assert clear.mean() > 0.99
    assert (ours.argmax(-1) == expected['ms_argmax'])[clear].mean() >= 0.999
    # What the official code reports as probabilities is a softmax of these probabilities.
    twice = tf.nn.softmax(ours[::step, ::step]).numpy()
    assert np.abs(twice - expected['ms_reported_prob']).max() < 1e-5

    views = [(scale, mirrored) for scale in scales for mirrored in (False, True)]
    assert len(views) == len(expected['ms_logits_shapes'])
    for (scale, mirrored), shape, centre in zip(views, expected['ms_logits_shapes'],
                                                expected['ms_logits_center']):
        view = tf.reverse(images, [2]) if mirrored else images
        logits = multi_scale.scaled_logits(model, view, scale).numpy()
        assert list(logits.shape) == shape.tolist()
        middle = logits[0, logits.shape[1] // 2, logits.shape[2] // 2]
        assert np.abs(middle - centre).max() < 1e-3 * np.abs(logits).max()


@pytest.mark.slow  # seven scales, each mirrored
@pytest.mark.parametrize('weights, numbers, photo, arguments', [
    ('deeplabv3.tflite', 'zoo_dm05_os8_horse257.npz', 'horse_person_257.png',
     dict(output_stride=8, depth_multiplier=0.5, crop_size=257)),
    ('deeplabv3_mnv2_pascal_quant.tflite', 'zoo_mnv2_os16_bird513.npz', 'bird_513.png',
                 dict(output_stride=16, crop_size=513))])
def test_trained_weights_on_real_images(shared, weights, numbers, photo, arguments):
    folder = shared / 'zoo'
    expected = np.load(folder / numbers)
    model = deeplab.deeplab_mobilenet_v2(21, **arguments)
    zoo.read(folder / weights, model)
    image = np.asarray(Image.open(folder / 'images' / photo).convert('RGB'))
    ids, chances = prediction.predict(model, image, arguments['crop_size'], probabilities=True,
                                      scales=multi_scale.OFFICIAL_SCALES, flip=True)
    assert np.abs(chances[::16, ::16] - expected['ms_avg_softmax_16']).max() < 2e-3
    assert (ids == expected['ms_argmax']).mean() >= 0.995


class Probe(tf.keras.Model):
    """Logits at stride 4, the colours, fainter to the left; notes what it is shown."""

    num_classes, logits_stride, output_stride = 3, 4, 4
    fine_tune_batch_norm = False

    def __init__(self, crop_size=None):
        super().__init__()
        self.crop_size = crop_size
        self.shown = []

    def call(self, image, training=False):
        self.shown.append((tuple(image.shape[1:3]), self.crop_size))
        logits = image[:, ::4, ::4] / 64.0
        left_to_right = tf.range(tf.shape(logits)[2]) / (tf.shape(logits)[2] - 1)
        return logits * tf.cast(left_to_right, tf.float32)[:, None]


def make_images(height=33, width=49):
    return np.random.default_rng(1).uniform(0, 255, (2, height, width, 3)).astype(np.float32)


def test_the_pooling_window_is_scaled_with_the_image_and_put_back():
    model = Probe((33, 49))
    multi_scale.probabilities(model, make_images(), (0.5, 1.0, 2.0), flip=False)
    assert model.shown == [((17, 25), (17, 25)), ((33, 49), (33, 49)), ((65, 97), (65, 97))]
    assert model.crop_size == (33, 49)
    model.shown.clear()
    with pytest.raises(ZeroDivisionError), multi_scale._crop_scaled(model, 2.0):
        1 / 0
    assert model.crop_size == (33, 49)
    multi_scale.scaled_logits(Probe(), make_images(), 0.5)  # a network without one


def test_a_mirrored_pass_makes_the_answer_mirror_with_the_image():
    images = make_images()
    both = multi_scale.probabilities(Probe(), images, (0.75, 1.0), flip=True)
    other = multi_scale.probabilities(Probe(), images[:, :, ::-1], (0.75, 1.0), flip=True)
    np.testing.assert_allclose(both, other[:, :, ::-1], atol=1e-5)
    one = multi_scale.probabilities(Probe(), images, (0.75, 1.0))
    assert np.abs(one - both).max() > 0.1
    np.testing.assert_allclose(tf.reduce_sum(both, -1), 1.0, atol=1e-5)


def test_unknown_sizes_give_what_known_ones_give():
    images = make_images()
    dynamic = tf.function(
        lambda batch: multi_scale.probabilities(Probe(), batch, (0.5, 1.25), True),
        input_signature=[tf.TensorSpec([None, None, None, 3])])
    np.testing.assert_allclose(dynamic(images), multi_scale.probabilities(
        Probe(), images, (0.5, 1.25), True), atol=1e-5)


def test_an_evaluator_counts_the_averaged_prediction(two_replicas):
    images = make_images()[:, :31, :45]
    labels = np.random.default_rng(2).integers(0, 3, images.shape[:3]).astype(np.int32)
    expected = evaluator.confusion_matrix(labels, tf.argmax(
        multi_scale.probabilities(Probe(), images, (0.5, 1.0), True), -1), 3).numpy()
    data = [{'image': tf.constant(images), 'label': tf.constant(labels)}]
    found = evaluator.Evaluator(Probe(), lambda: data, 3, scales=(0.5, 1.0), flip=True)
    assert_same_counts(found.run(), expected)
    plain = evaluator.Evaluator(Probe(), lambda: data, 3)
    assert np.abs(plain.run() - expected).sum() > 0.01 * expected.sum()  # not by ties
    with two_replicas.scope():
        model = Probe()
    both = evaluator.Evaluator(model, lambda: data, 3, strategy=two_replicas, scales=(0.5, 1.0),
                               flip=True)
    assert_same_counts(both.run(), expected)


def test_scales_that_are_none_are_refused():
    assert multi_scale.require_scales(()) == (1.0,)
    for bad in ((0.0,), (-1.0, 1.0), (1.0, 1.0), (float('inf'),)):
        with pytest.raises(UserError, match='different numbers above 0'):
            multi_scale.require_scales(bad)


def test_a_network_of_one_size_is_refused_at_another_scale():
    inputs = tf.keras.Input([33, 33, 3])
    model = segmentor.as_segmentor(
        tf.keras.Model(inputs, tf.keras.layers.Conv2D(3, 1, 4)(inputs)), 3)
    image = np.zeros((33, 33, 3), np.uint8)
    assert prediction.predict(model, image, 33, flip=True).shape == (33, 33)
    with pytest.raises(UserError, match='takes images of 33x33 only'):
        prediction.predict(model, image, 33, scales=(0.5, 1.0))


class Subtracting(Probe):
    """Says class 0 where its first layer gives 0, else class 1."""

    def __init__(self):
        super().__init__()
        self.normalisation = layers.MeanSubtraction()

    def call(self, image, training=False):
        zero = tf.reduce_max(tf.abs(self.normalisation(image)), -1, keepdims=True) < 1e-5
        zero = tf.cast(zero, tf.float32)
        return tf.concat([zero, 1.0 - zero, 0.0 * zero], -1)


def test_images_are_padded_with_what_the_first_layer_makes_zero():
    assert segmentor.padding_colour(Subtracting()) == layers.IMAGENET_MEAN
    assert segmentor.padding_colour(Probe()) == (127.5,) * 3
    arrays = (np.zeros((1, 17, 17, 3), np.uint8), np.zeros((1, 17, 17), np.uint8),
              np.array([[9, 12]], np.int32))
    counts = evaluator.Evaluator(Subtracting(), arrays, 3).run()
    assert counts[0].tolist() == [17 * 17 - 9 * 12, 9 * 12, 0]
