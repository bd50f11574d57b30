"""The evaluator's matrix is exact: any batch size, any number of replicas, arrays or batches."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.evaluation import evaluator
from tf_advseg.evaluation.evaluator import Evaluator, confusion_matrix
from tf_advseg.evaluation.prediction import predict
from tf_advseg.models import deeplab_residual
from tf_advseg.models.deeplab import deeplab_mobilenet_v2
from ties import assert_same_counts

C = 5
SIDE = 33


def tiny_segmentor(num_classes=C, stride=4):
    """A functional Keras model whose logits have hills of every class, in exact arithmetic.

    Images are whole 256ths and kernels whole 8ths: sums are whole 16384ths below 256, of 22 bits,
    which float32 adds without rounding. So every kernel, of any batch, finds the same logits.
    """
    image = tf.keras.Input([None, None, 3])
    x = tf.keras.layers.Rescaling(1 / 128, offset=-1)(image)
    x = tf.keras.layers.Conv2D(8, 3, stride, 'same', activation='relu',
                               kernel_initializer=tf.keras.initializers.HeNormal(1))(x)
    model = tf.keras.Model(image, tf.keras.layers.Conv2D(
        num_classes, 1, kernel_initializer=tf.keras.initializers.HeNormal(2))(x))
    model.set_weights([np.round(8 * value) / 8 for value in model.get_weights()])
    return model


def arrays(number=7, seed=0, side=SIDE, num_classes=C):
    """(images, labels, sizes) as data.pipeline.evaluation_arrays gives them."""
    rng = np.random.default_rng(seed)
    sizes = np.stack([rng.integers(side // 2, side + 1, number),
                      rng.integers(side // 2, side + 1, number)], 1).astype(np.int32)
    images = np.full([number, side, side, 3], 127, np.uint8)
    labels = np.full([number, side, side], 255, np.uint8)
    for i, (h, w) in enumerate(sizes):
        images[i, :h, :w] = rng.integers(0, 256, [h, w, 3])
        labels[i, :h, :w] = rng.integers(0, num_classes, [h, w])
        labels[i, 3:6, 2:9] = 255
    return images, labels, sizes


def by_hand(segmentor, images, labels, sizes):
    """One image, one pixel at a time."""
    matrix = np.zeros([C, C], np.int64)
    for image, label, (h, w) in zip(images, labels, sizes):
        image = image.astype(np.float32)
        image[h:] = image[:, w:] = 127.5
        logits = tf.compat.v1.image.resize_bilinear(segmentor(image[None]), label.shape,
                                                    align_corners=True)[0].numpy()
        for y, x in zip(*np.nonzero(label != 255)):
            matrix[label[y, x], np.argmax(logits[y, x])] += 1
    return matrix


@pytest.fixture(scope='module')
def case():
    """(segmentor, arrays, the matrix by hand)."""
    segmentor, data = tiny_segmentor(), arrays()
    return segmentor, data, by_hand(segmentor, *data)


def test_confusion_matrix_counts_pairs_and_leaves_out_255():
    labels = tf.constant([[0, 1, 2, 255], [2, 2, 255, 0]])
    predictions = tf.constant([[0, 2, 2, 1], [0, 2, 2, 0]])
    matrix = confusion_matrix(labels, predictions, 3)
    assert matrix.dtype == tf.int64
    np.testing.assert_array_equal(matrix, [[2, 0, 0], [0, 0, 1], [1, 0, 2]])


@pytest.mark.parametrize('batch_size', [1, 3, 7, 50])
def test_any_batch_size_gives_the_matrix_by_hand(case, batch_size):
    segmentor, data, expected = case
    assert (expected.sum(axis=0) > 0).sum() >= 3
    matrix = Evaluator(segmentor, data, C, batch_size).run()
    assert matrix.dtype == np.int64 and isinstance(matrix, np.ndarray)
    np.testing.assert_array_equal(matrix, expected)


@pytest.mark.parametrize('batch_size', [1, 3, 4, 6])
def test_two_replicas_give_the_matrix_of_one_device(case, two_replicas, batch_size):
    """A batch of 1 leaves a replica with nothing; 3 is odd; 4 and 6 end in less."""
    segmentor, data, expected = case
    with two_replicas.scope():
        mirrored = tiny_segmentor()
    mirrored.set_weights(segmentor.get_weights())
    matrix = Evaluator(mirrored, data, C, batch_size, strategy=two_replicas).run()
    np.testing.assert_array_equal(matrix, expected)


def batches_of(data, sizes=None):
    """Batches as data.pipeline.whole_images gives them, of 3; sizes: crops to take."""
    images, labels, proper = data
    images = images.astype(np.float32)
    for image, (h, w) in zip(images, proper):
        image[h:] = image[:, w:] = 127.5
    for place, start in enumerate(range(0, len(images), 3)):
        side = sizes[place] if sizes else SIDE
        part = slice(start, start + 3)
        yield {'image': tf.constant(images[part, :side, :side]),
               'label': tf.constant(labels[part, :side, :side].astype(np.int32))}


@pytest.mark.parametrize('replicas', [1, 2])
def test_batches_from_a_function_give_the_same(case, two_replicas, replicas):
    segmentor, data, expected = case
    strategy = None
    if replicas == 2:
        strategy = two_replicas
        with strategy.scope():
            segmentor = tiny_segmentor()
        segmentor.set_weights(case[0].get_weights())
    matrix = Evaluator(segmentor, lambda: batches_of(data), C, strategy=strategy)
    for _ in range(2):
        np.testing.assert_array_equal(matrix.run(), expected)


def test_batches_may_change_their_size(case):
    segmentor, data, _ = case
    sides = [33, 17, 25]
    expected = sum(
        by_hand(segmentor, batch['image'].numpy(), batch['label'].numpy(),
                [batch['label'].shape[1:]] * len(batch['label']))
        for batch in batches_of(data, sides))
    matrix = Evaluator(segmentor, lambda: batches_of(data, sides), C).run()
    np.testing.assert_array_equal(matrix, expected)


def counting_traces():
    """(a tiny segmentor, a list that grows with each of its traces)."""
    segmentor = tiny_segmentor()
    traces = []
    plain = segmentor.call

    def call(*args, **kwargs):
        traces.append(args)
        return plain(*args, **kwargs)

    segmentor.call = call
    return segmentor, traces


def test_several_splits_share_what_is_compiled(case):
    untouched, data, expected = case
    segmentor, traces = counting_traces()
    others = arrays(3, seed=1)
    evaluation = Evaluator(segmentor, lambda: batches_of(data), C)
    np.testing.assert_array_equal(evaluation.run(lambda: batches_of(others)),
                                  by_hand(untouched, *others))
    np.testing.assert_array_equal(evaluation.run(), expected)
    assert len(traces) == 1
    with pytest.raises(ValueError, match='other data'):
        Evaluator(segmentor, data, C).run(lambda: batches_of(others))


def test_it_compiles_once_and_sees_new_weights(case):
    _, data, _ = case
    segmentor, traces = counting_traces()
    evaluation = Evaluator(segmentor, data, C, batch_size=3)  # 3, 3, 1
    before = evaluation.run()
    bias = segmentor.layers[-1].bias
    bias.assign([0, 0, 0, 0, 1e6])
    after = evaluation.run()
    assert len(traces) == 1
    assert (before != after).any()
    assert after[:, :4].sum() == 0
    np.testing.assert_array_equal(after.sum(axis=1), before.sum(axis=1))


def test_deeplab_does_not_depend_on_the_batch(case):
    segmentor = deeplab_mobilenet_v2(C, depth_multiplier=0.35, crop_size=(SIDE, SIDE))
    _, data, _ = case
    whole = Evaluator(segmentor, data, C, batch_size=7).run()
    assert_same_counts(Evaluator(segmentor, data, C, batch_size=2).run(), whole)
    assert whole.sum() == (data[1] != 255).sum()


def test_prediction_and_evaluation_agree(case):
    segmentor, (images, labels, sizes), expected = case
    matrix = np.zeros([C, C], np.int64)
    for image, label, (h, w) in zip(images, labels, sizes):
        ids = predict(segmentor, image[:h, :w], crop_size=SIDE)
        matrix += confusion_matrix(label[:h, :w].astype(np.int32), ids, C).numpy()
    np.testing.assert_array_equal(matrix, expected)


def test_labels_that_do_not_exist_are_told(case):
    segmentor, (images, labels, sizes), _ = case
    labels = labels.copy()
    labels[2, 0, :4] = C
    with pytest.raises(UserError, match='4 label pixels .* 0..4'):
        Evaluator(segmentor, (images, labels, sizes), C, 3).run()


def test_another_number_of_classes_is_told(case):
    segmentor, data, _ = case
    with pytest.raises(UserError, match='logits of 5 classes'):
        Evaluator(segmentor, data, C + 1, 3).run()


def test_an_empty_split_is_told(case):
    segmentor, (images, labels, sizes), _ = case
    with pytest.raises(UserError, match='empty'):
        Evaluator(segmentor, (images[:0], labels[:0], sizes[:0]), C)
    with pytest.raises(UserError, match='empty'):
        Evaluator(segmentor, lambda: iter(()), C).run()


def test_ties_go_to_the_lower_class():
    logits = tf.constant([[[[1.0, 3.0, 3.0]]]])
    np.testing.assert_array_equal(evaluator.predicted_ids(logits, (2, 2)), np.ones([1, 2, 2]))


@pytest.mark.parametrize('heights', [(65, 49, 81)])
def test_images_of_one_width_and_several_heights(heights):
    """Atrous depthwise convolutions fail in a graph that leaves one of the two sizes open."""
    network = deeplab_residual.deeplab_residual(3, atrous_rates=(2, 3, 5))
    generator = np.random.default_rng(0)
    batches = [{'image': generator.uniform(0, 255, (2, height, 81, 3)).astype(np.float32),
                'label': generator.integers(0, 3, (2, height, 81))} for height in heights]
    expected = sum(evaluator.confusion_matrix(
        batch['label'], evaluator.predicted_ids(network(batch['image']), batch['label'].shape[1:]),
        3).numpy() for batch in batches)
    assert_same_counts(evaluator.Evaluator(network, lambda: iter(batches), 3).run(), expected)
    for batch in batches:
        ids = predict(network, batch['image'][0].astype(np.uint8), crop_size=49)
        whole = network(np.floor(batch['image'][:1]))
        assert np.mean(ids == evaluator.predicted_ids(whole, ids.shape)[0]) > 0.999  # but for ties
