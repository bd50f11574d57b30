"""Images, truths and stored maps move together, whatever is flipped and cropped."""
import types

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.adversaries import encodings
from tf_advseg.core import random_streams
from tf_advseg.core.errors import UserError
from tf_advseg.data import readers
from tf_advseg.data.augmentation.official_preprocessing import RandomScale
from tf_advseg.data.records import record_set as record_sets
from tf_advseg.lookahead import data as lookahead_data
from tf_advseg.lookahead import discriminator_data
from tf_advseg.lookahead import settings as settings_lib

CLASSES, STRIDE = 8, 4


@pytest.fixture(scope='module')
def records(tmp_path_factory):
    """Six scenes of 40 to 49 pixels."""
    reader = readers.make_reader('shapes', None, num_train=6, num_val=2, num_test=1, size=(49, 49),
                                 smallest=(40, 40))
    folder = record_sets.write_records(reader, None,
                                       tmp_path_factory.mktemp('records') / 'shapes')
    return record_sets.RecordSet(folder)


def whole_ids(records, image_id, crop):
    """The padded truth."""
    _, label = records.load(image_id)
    side = max(crop, (max(label.shape) - 1 + 15) // 16 * 16 + 1)
    padded = np.full((side, side), 255, np.uint8)
    padded[:label.shape[0], :label.shape[1]] = label
    return padded


def whole_truth(records, image_id, crop):
    """The padded truth's map at the stride as confident logits, as a perfect segmentor gives it."""
    ids = whole_ids(records, image_id, crop)[::STRIDE, ::STRIDE]
    return (np.eye(256)[ids][..., :CLASSES] * 20).astype(np.float16)


@pytest.mark.parametrize('crop', [49, 33])
def test_a_perfect_models_maps_lie_on_the_truth_after_flip_and_crop(records, crop):
    ids = records.split('train')
    pairs = discriminator_data.items(len(ids), 1)
    side = (crop - 1) // STRIDE + 1

    def lookup(slot, image_id):
        if slot == discriminator_data.REAL:
            return np.zeros((side, side, CLASSES), np.float16)
        return whole_truth(records, image_id.decode(), crop)

    batches = discriminator_data.batches(
        records, ids, pairs, lookup, (side, side, CLASSES), np.float16, 4, (crop, crop), STRIDE,
        np.array([3, 4], np.int32))
    encoding = encodings.Encoding(CLASSES, side)  # the map's own grid: nothing is interpolated
    fakes = 0
    for batch in batches:
        label = batch['label'].numpy()[:, ::STRIDE, ::STRIDE]
        real = encoding.real(batch['image'], batch['label']).numpy()
        fake = encoding.soft(batch['image'], batch['label'], tf.cast(batch['map'], tf.float32))
        chosen = batch['is_real'].numpy() == 0
        fakes += chosen.sum()
        np.testing.assert_allclose(fake.numpy()[chosen], real[chosen], atol=1e-5)
        assert (label != 255).mean() > 0.2
    assert fakes == len(ids)


@pytest.mark.parametrize('factor', [0.5, 1.5, 2.0])
def test_images_truths_and_maps_are_scaled_together(records, factor):
    """A perfect model's hard maps: nearest resizing keeps them on the truth, pixel by pixel."""
    ids, crop = records.split('train'), 49
    pairs = discriminator_data.items(len(ids), 1)
    empty = np.zeros((crop, crop), np.uint8)

    def lookup(slot, image_id):
        return empty if slot == discriminator_data.REAL else np.where(
            whole_ids(records, image_id.decode(), crop) == 255, 0,
            whole_ids(records, image_id.decode(), crop)).astype(np.uint8)

    batches = discriminator_data.batches(
        records, ids, pairs, lookup, (crop, crop), np.uint8, 4, (crop, crop), 1,
        np.array([3, 4], np.int32), random_scale=RandomScale(factor, factor))
    fakes = 0
    for batch in batches:
        known = batch['label'].numpy() != 255
        assert (known[:, :, :20].mean() < 0.8) == (factor < 1.0)
        for label, stored, is_real, valid in zip(batch['label'].numpy(), batch['map'].numpy(),
                                                 batch['is_real'].numpy(), known):
            if not is_real:
                np.testing.assert_array_equal(stored[valid], label[valid])
                fakes += 1
    assert fakes == len(ids)


def test_soft_maps_are_scaled_on_their_own_grid():
    """A map that is linear in the image's coordinates stays so, with its corners on corners."""
    side, cells = 33, 9
    ramp = tf.cast(tf.tile(tf.range(0.0, side)[None, :, None], [side, 1, 3]), tf.float32)
    stored = tf.cast(ramp[::4, ::4], tf.float16)
    image, _, found, size = discriminator_data._scale(
        ramp, tf.zeros([side, side], tf.uint8), stored, tf.constant(0), tf.constant(1.5),
        (side, side), (cells, cells, 3), 4, 127.5)
    assert size.numpy().tolist() == [49, 49] and found.shape == (13, 13, 3)
    assert found.dtype == tf.float16
    np.testing.assert_allclose(image[::4, ::4], tf.cast(found, tf.float32), atol=0.02)
    smaller, _, found, size = discriminator_data._scale(
        ramp, tf.zeros([side, side], tf.uint8), stored, tf.constant(0), tf.constant(0.5),
        (side, side), (cells, cells, 3), 4, 127.5)
    assert size.numpy().tolist() == [side, side] and found.shape == (cells, cells, 3)
    np.testing.assert_allclose(smaller[:17:4, :17:4], tf.cast(found, tf.float32)[:5, :5], atol=0.02)
    assert not found.numpy()[5:].any() and (smaller.numpy()[17:] == 127.5).all()


def test_every_truth_once_and_every_slots_map_of_what_it_holds():
    pairs = discriminator_data.items(3, 2, seen=[{0, 1, 2}, {1}])
    assert sorted(map(tuple, pairs)) == [(0, -1), (0, 0), (1, -1), (1, 0), (1, 1), (2, -1), (2, 0)]


def lookahead_data_of(records, **settings):
    segmentor = type('Segmentor', (), {'logits_stride': STRIDE, 'num_classes': CLASSES})
    return lookahead_data.LookaheadData(
        records, records.split('train'), records.split('val'), (49, 49),
        settings_lib.LookaheadSettings(**settings), random_streams.RandomStreams(0),
        tf.distribute.get_strategy(), segmentor, 'soft')


def test_seen_images_are_those_that_the_spans_steps_drew(records):
    data = lookahead_data_of(records, map_images='seen', batch_size=2)
    drawn = [[image_id.decode() for image_id in batch['image_id'].numpy()]
             for batch in data.batches(0, 5)]
    assert data.seen_ids([[0, 1]]) == sorted(drawn[0], key=data.train_ids.index)
    expected = set(drawn[0]) | set(drawn[4])
    assert set(data.seen_ids([[0, 1], [4, 5]])) == expected
    assert data.map_ids([])['train'] == data.train_ids
    assert set(data.map_ids([[1, 2]])['train']) == set(drawn[1])


def test_the_generators_images_are_scaled_on_request(records):
    scaled = lookahead_data_of(records, min_scale=0.5, max_scale=0.5, flip=False)
    image = next(iter(scaled.batches(0, 1)))['image'].numpy()
    assert (image[:, 25:] == 127.5).all() and (image[:, :20, :20] != 127.5).any(-1).all()
    with pytest.raises(UserError, match='0 < minimum <= maximum'):
        settings_lib.LookaheadSettings(min_scale=2.0)


def test_all_images_are_drawn_from_by_default(records):
    data = lookahead_data_of(records)
    assert data.map_ids([[0, 1]]) == {'train': records.split('train'),
                                      'holdout': records.split('val')}


def test_a_recipe_by_name_in_both_kinds_of_data(records):
    """Its scales, mirror and colours reach the generator's and the discriminator's images."""
    named = lookahead_data_of(records, augmentation='deeplab+photometric')
    spelt = lookahead_data_of(records, min_scale=0.5, max_scale=2.0)
    for make in (lambda data: data.batches(0, 2),
                 lambda data: data.discriminator_data(EmptyBuffer(), METHOD).training(
                     discriminator_data.items(6, 0), np.array([1, 2], np.int32))):
        for batch, other in zip(make(named), make(spelt)):
            np.testing.assert_array_equal(batch['label'], other['label'])
            assert np.abs(batch['image'] - other['image']).max() > 5.0
            outside = np.broadcast_to((batch['label'].numpy() == 255)[..., None],
                                      batch['image'].shape)
            padding = outside & (other['image'].numpy() == 127.5)
            assert (batch['image'].numpy()[padding] == 127.5).all()


class EmptyBuffer:
    """A buffer before its first slot: truths alone."""
    slots = ()


METHOD = types.SimpleNamespace(encoding=encodings.Encoding(CLASSES, 32), map_kind='soft',
                               features=None)  # what is asked of methods.load.LoAd


def test_recipes_that_maps_cannot_follow_or_that_are_said_twice_are_refused():
    assert settings_lib.LookaheadSettings(augmentation='hung').recipe.random_scale.maximum == 1.6
    with pytest.raises(UserError, match='changes the shape or the angle'):
        settings_lib.LookaheadSettings(augmentation='zhu')
    with pytest.raises(UserError, match='lookahead.flip = False both say'):
        settings_lib.LookaheadSettings(augmentation='hung', flip=False)
