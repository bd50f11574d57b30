"""Many images' maps: the same as one by one, under any batch size and any number of replicas."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.data import pipeline, readers, spec as specs
from tf_advseg.data.records import record_set as record_sets
from tf_advseg.evaluation import evaluator, prediction
from tf_advseg.evaluation import image_counts
from tf_advseg.evaluation import map_predictor
from tf_advseg.models import segmentor as segmentors
from ties import assert_same_classes, assert_same_counts

C = 8
CROP = (49, 49)


@pytest.fixture(scope='module')
def records(tmp_path_factory):
    """Eleven images of 40 to 70 pixels a side: below the crop, and beyond it."""
    reader = readers.make_reader('shapes', num_train=11, num_val=1, num_test=1, size=(70, 70),
                                 smallest=(40, 40))
    folder = tmp_path_factory.mktemp('data') / 'records'
    record_sets.write_records(reader, reader.splits(), folder, progress=False)
    return record_sets.RecordSet(folder)


class Hills(tf.keras.Model):
    """Three seeded convolutions at stride 4, whose logits have hills of every class."""

    num_classes, logits_stride, output_stride, crop_size = C, 4, 16, CROP
    fine_tune_batch_norm = False

    def __init__(self):
        super().__init__()
        draw = tf.keras.initializers.HeNormal
        self.parts = [tf.keras.layers.Conv2D(16, 3, 2, 'same', activation='relu',
                                             kernel_initializer=draw(seed)) for seed in (1, 2)]
        self.parts.append(tf.keras.layers.Conv2D(C, 3, 1, 'same', kernel_initializer=draw(3)))

    def call(self, image, training=False):
        x = image / 127.5 - 1.0
        for part in self.parts:
            x = part(x)
        return 5.0 * (x - tf.reduce_mean(x, [1, 2], keepdims=True))


def network():
    """A built `Hills`."""
    model = Hills()
    model(tf.zeros([1, *CROP, 3]))
    return model


@pytest.fixture(scope='module')
def model():
    return network()


@pytest.fixture(scope='module')
def mirrored(two_replicas):
    with two_replicas.scope():
        return network()


def images_of(records, ids):
    return [records.load(image_id)[0] for image_id in ids]


PASSES = [dict(), dict(scales=(0.5, 1.25), flip=True)]


@pytest.mark.parametrize('passes', PASSES)
def test_a_batch_gives_what_one_image_gives(model, records, passes):
    images = images_of(records, records.splits['train'])
    assert len({image.shape for image in images}) > 5
    found = map_predictor.MapPredictor(model, CROP, batch_size=3, confidence=True, **passes)(images)
    for image, (ids, confidence) in zip(images, found):
        one, chances = prediction.predict(model, image, CROP, probabilities=True, **passes)
        assert ids.dtype == np.uint8 and ids.shape == image.shape[:2]
        assert_same_classes(ids, one, chances)
        np.testing.assert_allclose(confidence, chances.max(-1), atol=1e-5)


@pytest.mark.parametrize('passes', [dict(), dict(window=(33, 49), scales=(1.0, 1.5), flip=True)])
def test_two_replicas_give_the_same_to_the_last_bit(model, mirrored, two_replicas, records, passes):
    """Eleven images in batches of at most two: replicas run idle, sizes differ between them."""
    def maps(segmentor, strategy):
        predictor = map_predictor.MapPredictor(segmentor, CROP, strategy, batch_size=2,
                                               confidence=True, **passes)
        return list(predictor.over(records, records.splits['train']))

    one, two = maps(model, None), maps(mirrored, two_replicas)
    assert [found.image_id for found in one] == records.splits['train']
    for a, b in zip(one, two):
        assert a.image_id == b.image_id
        np.testing.assert_array_equal(a.ids, b.ids)
        np.testing.assert_array_equal(a.confidence, b.confidence)
        np.testing.assert_array_equal(a.label, records.load(a.image_id)[1])
        np.testing.assert_array_equal(a.image, records.load(a.image_id)[0])


@pytest.mark.parametrize('batch_size', [1, 4])
def test_the_matrix_is_the_evaluators(model, records, batch_size):
    ids = records.splits['train']
    measure = image_counts.ImageIoU(records.spec)
    for found in map_predictor.MapPredictor(
            model, CROP, batch_size=batch_size).over(records, ids):
        measure.update(found.image_id, found.label, found.ids)
    expected = evaluator.Evaluator(
        model, lambda: pipeline.whole_images(records, ids, CROP, 3), C).run()
    assert_same_counts(measure.counts().matrix, expected)
    assert (expected.sum(axis=0) > 0).sum() >= 3


class Shown(tf.keras.Model):
    """Class by the red of a pixel, at stride 1; notes the images it is shown."""

    num_classes, logits_stride, output_stride, crop_size = 4, 1, 16, None
    fine_tune_batch_norm = False

    def __init__(self):
        super().__init__()
        self.sizes = []

    def call(self, image, training=False):
        tf.py_function(lambda x: self.sizes.append(tuple(x.shape[1:3])), [image], [])
        return -tf.abs(image[..., :1] / 60.0 - tf.range(4.0))


def red(*ids):
    """An image whose red says its class, and the map."""
    ids = np.array(ids, np.uint8)
    return np.stack([ids * 60, 0 * ids, 0 * ids], -1).astype(np.uint8), ids


@pytest.fixture
def striped():
    return red(*np.random.default_rng(5).integers(0, 4, (20, 50)))


@pytest.mark.parametrize('padding, crop, expected', [
    ('crop', (33, 33), (33, 65)), ('none', (33, 33), (33, 65)), ('crop', (65, 65), (65, 65)),
    ('none', (65, 65), (33, 65)), ('crop', None, (33, 65))])
def test_what_is_padded_to_what(striped, padding, crop, expected):
    model = Shown()
    (ids, confidence), = map_predictor.MapPredictor(model, crop, padding=padding)([striped[0]])
    assert model.sizes == [expected] and confidence is None
    np.testing.assert_array_equal(ids, striped[1])


def test_windows_see_nothing_larger_and_agree_with_the_whole(striped):
    model = Shown()
    (ids, confidence), = map_predictor.MapPredictor(
        model, (17, 17), window=(16, 20), confidence=True)([striped[0]])
    np.testing.assert_array_equal(ids, striped[1])
    assert set(model.sizes) == {(17, 33)}  # the next sizes whose grid is exact
    assert ((0.25 < confidence) & (confidence <= 1.0)).all()
    small, expected = red(*np.ones((5, 6), int))
    for padding, size in (('crop', (33, 33)), ('none', (17, 17))):
        model = Shown()
        (ids, _), = map_predictor.MapPredictor(model, None, window=33, padding=padding)([small])
        assert model.sizes == [size]
        np.testing.assert_array_equal(ids, expected)


@pytest.mark.parametrize('window', [999, (16, 99999999), (10 ** 30, 33)])
def test_a_window_far_beyond_the_image_is_cut_to_it(striped, window):
    small, expected = red(*np.ones((5, 6), int))
    for image, ids, size in ((small, expected, (33, 33)), (*striped, (33, 65))):
        model = Shown()
        (found, _), = map_predictor.MapPredictor(model, (33, 33), window=window)([image])
        assert np.less_equal(model.sizes, size).all()
        np.testing.assert_array_equal(found, ids)


def test_a_window_over_scales_is_their_mean(striped):
    one, = map_predictor.MapPredictor(Shown(), (33, 33), window=33, confidence=True)([striped[0]])
    both, = map_predictor.MapPredictor(
        Shown(), (33, 33), window=33, scales=(1.0, 2.0), confidence=True)([striped[0]])
    two, = map_predictor.MapPredictor(
        Shown(), (33, 33), window=33, scales=(2.0,), confidence=True)([striped[0]])
    same = (one[0] == two[0]) & (one[0] == both[0])
    assert same.mean() > 0.5
    np.testing.assert_allclose(both[1][same], ((one[1] + two[1]) / 2)[same], rtol=1e-5)


def test_a_window_as_large_as_the_image_is_the_whole_image(model, records):
    image = next(i for i in images_of(records, records.splits['train'])
                 if max(i.shape[:2]) <= CROP[0] + 16)
    size = tuple(pipeline.padded_sizes([image.shape[:2]], CROP)[0])
    whole, = map_predictor.MapPredictor(model, CROP, flip=True)([image])
    sliding, = map_predictor.MapPredictor(model, CROP, flip=True, window=size)([image])
    _, chances = prediction.predict(model, image, CROP, probabilities=True, flip=True)
    assert_same_classes(whole[0], sliding[0], chances)


def test_classes_are_called_as_the_data_set_calls_them(striped):
    translation = [-1, 0, 1, 2]
    (ids, _), = map_predictor.MapPredictor(Shown(), None, translation=translation)([striped[0]])
    np.testing.assert_array_equal(ids, np.array([255, 0, 1, 2], np.uint8)[striped[1]])
    (ids, confidence), = map_predictor.MapPredictor(
        Shown(), None, translation=translation, only_named=True, confidence=True)([striped[0]])
    np.testing.assert_array_equal(ids, np.array([0, 0, 1, 2], np.uint8)[striped[1]])
    assert confidence.max() < 1.0
    with pytest.raises(UserError, match="none of the network's classes"):
        map_predictor.MapPredictor(Shown(), None, translation=[-1] * 4)


def test_two_numberings_of_one_data_set():
    grey = ((0, 0, 0), (9, 9, 9), (5, 5, 5))
    old = specs.DatasetSpec('old', ('other', 'a', 'b'), grey, numbering='x')
    new = specs.DatasetSpec('new', ('b', 'a'), grey[:2], numbering='x', official_ids=(2, 1))
    np.testing.assert_array_equal(map_predictor.translation(old, new), [-1, 1, 0])
    assert map_predictor.translation(old, old) is None
    own = specs.DatasetSpec('folder', ('p', 'q', 'r'), grey)
    assert map_predictor.translation(old, own) is None  # as many classes: taken to be the same
    with pytest.raises(UserError):
        map_predictor.translation(old, own, strict=True)
    with pytest.raises(UserError):
        map_predictor.translation(own, new)


def test_compiled_once_for_all_sizes(records):
    class Counting(Shown):
        def call(self, image, training=False):
            self.traces = getattr(self, 'traces', 0) + 1
            return super().call(image)

    model = Counting()
    predictor = map_predictor.MapPredictor(model, None)
    images = images_of(records, records.splits['train'])
    predictor(images[:4])
    predictor(images[4:])
    assert len(set(model.sizes)) > 2 and int(model.traces) == 1


def test_a_network_of_one_size_is_fed_that_size():
    inputs = tf.keras.Input([33, 33, 3])
    model = segmentors.as_segmentor(
        tf.keras.Model(inputs, tf.keras.layers.Conv2D(3, 1, 4)(inputs)), 3)
    (ids, _), = map_predictor.MapPredictor(model, model.crop_size)([np.zeros((20, 9, 3), np.uint8)])
    assert ids.shape == (20, 9)


def test_large_images_come_in_small_batches(monkeypatch):
    monkeypatch.setattr(map_predictor, 'BATCH_VALUES', 2 * 17 * 17 * 4)
    batches = map_predictor.MapPredictor(Shown(), None)._batched([(17, 17)] * 5 + [(33, 33)])
    assert list(batches) == [[0, 1], [2, 3], [4], [5]]
    chunks = list(map_predictor.chunks(range(10), lambda item: 2 ** 24 if item > 5 else 1, 4))
    assert chunks == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_mistakes_are_one_line(records):
    for words, text in ((dict(padding='crpo'), 'unknown padding "crpo". Did you mean "crop"?'),
                        (dict(window=0), 'window 0x0'), (dict(batch_size=0), 'at least 1'),
                        (dict(scales=(0.0,)), 'different numbers above 0'),
                        (dict(window=33, overlap=1.0), 'overlap')):
        with pytest.raises(UserError, match=text):
            map_predictor.MapPredictor(Shown(), None, **words)
    with pytest.raises(UserError, match='expected uint8'):
        map_predictor.MapPredictor(Shown(), None)([np.zeros((4, 4), np.uint8)])
    with pytest.raises(UserError, match='empty'):
        list(map_predictor.MapPredictor(Shown(), None).over(records, []))
