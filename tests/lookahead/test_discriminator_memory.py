"""The discriminator's items from memory: the same as from disk, at the logits' own points."""
import types

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.adversaries import encodings
from tf_advseg.core import random_streams
from tf_advseg.data import readers
from tf_advseg.data.records import record_set as record_sets
from tf_advseg.lookahead import data as lookahead_data
from tf_advseg.lookahead import discriminator_memory
from tf_advseg.lookahead import settings as settings_lib

CLASSES, STRIDE, CROP = 8, 4, (49, 49)
POINTS = (13, 13)


@pytest.fixture(scope='module')
def records(tmp_path_factory):
    """Scenes of 40 to 49 pixels."""
    reader = readers.make_reader('shapes', None, num_train=7, num_val=3, num_test=1, size=(49, 49),
                                 smallest=(40, 40))
    folder = record_sets.write_records(reader, None,
                                       tmp_path_factory.mktemp('records') / 'shapes')
    return record_sets.RecordSet(folder)


class Slot:
    """A slot of maps that are drawn from the image's name."""

    def __init__(self, salt):
        self._salt = salt

    def read(self, image_id, decoded):
        assert not decoded
        seed = [self._salt, *image_id.encode()]
        return np.random.default_rng(seed).normal(size=(*POINTS, CLASSES)).astype(np.float16)


class Buffer:
    """A buffer of two slots."""
    slots = (Slot(1), Slot(2))
    labels = ('g0', 'e00')


def made(records, encoding=None, features=None, **settings):
    """`DiscriminatorData` of the scenes."""
    encoding = encoding or encodings.Encoding(CLASSES, POINTS, 'concat', truth='scaling')
    segmentor = types.SimpleNamespace(num_classes=CLASSES, logits_stride=STRIDE)
    data = lookahead_data.LookaheadData(
        records, records.split('train'), records.split('val'), CROP,
        settings_lib.LookaheadSettings(discriminator_batch_size=4, **settings),
        random_streams.RandomStreams(0), tf.distribute.get_strategy(), segmentor, 'soft')
    return data.discriminator_data(Buffer(), types.SimpleNamespace(
        encoding=encoding, map_kind='soft', features=features))


def inputs(encoding, batch):
    """What the discriminator would see of truths and of maps."""
    logits = tf.cast(batch['map'], tf.float32)
    return (encoding.real(batch['image'], batch['label'], logits).numpy(),
            encoding.soft(batch['image'], batch['label'], logits).numpy())


@pytest.mark.parametrize('truth', encodings.TRUTHS)
@pytest.mark.parametrize('part', ['training', 'hold_out'])
def test_the_discriminator_sees_the_same_as_from_disk(records, truth, part):
    encoding = encodings.Encoding(CLASSES, POINTS, 'concat', truth=truth, stride=STRIDE,
                                  grid=POINTS)
    memory, disk = made(records, encoding), made(records, encoding)
    assert memory.in_memory
    disk.in_memory = False
    pairs = memory.training_items()
    assert len(pairs) == 3 * 7
    order = pairs[np.random.default_rng(1).permutation(len(pairs))]
    flipped = 0
    for ours, theirs in zip(*(
            data.training(order, np.array([3, 5], np.int32)) if part == 'training'
            else data.hold_out() for data in (memory, disk))):
        assert ours['image'].shape[1:] == (*POINTS, 3) and theirs['image'].shape[1:3] == CROP
        for name in ('is_real', 'target'):
            np.testing.assert_array_equal(ours[name], theirs[name])
        fake = ours['is_real'].numpy() == 0
        np.testing.assert_array_equal(ours['map'].numpy()[fake], theirs['map'].numpy()[fake])
        (real, soft), (real_disk, soft_disk) = inputs(encoding, ours), inputs(encoding, theirs)
        np.testing.assert_allclose(soft[fake], soft_disk[fake], atol=2e-5)
        np.testing.assert_allclose(real[~fake], real_disk[~fake], atol=2e-5)
        flipped += (ours['label'].numpy()[:, :, 0] == 255).any()
    assert flipped or part == 'hold_out'  # padding is on the right unless flipped


def test_what_memory_cannot_hold_comes_from_disk(records):
    assert made(records).in_memory
    for changes in (dict(map_images='seen'), dict(min_scale=0.5), dict(augmentation='hung')):
        with_slots = made(records, **changes) if 'map_images' not in changes else None
        if with_slots is not None:
            assert not with_slots.in_memory, changes
    assert not made(records, encodings.Encoding(CLASSES, 32)).in_memory
    settings = settings_lib.LookaheadSettings(map_images='seen')
    encoding = encodings.Encoding(CLASSES, POINTS)
    sizes = [(49, 49)]
    assert not discriminator_memory.fits(encoding, 'soft', STRIDE, CROP, sizes, settings)
    plain = settings_lib.LookaheadSettings()
    assert discriminator_memory.fits(encoding, 'soft', STRIDE, CROP, sizes, plain)
    assert not discriminator_memory.fits(encoding, 'soft', STRIDE, CROP, [(50, 49)], plain)
    assert not discriminator_memory.fits(encoding, 'hard', STRIDE, CROP, sizes, plain)


def test_features_are_those_of_the_image_as_it_is_flipped(records):
    def features(image):
        return image[:, ::STRIDE, ::STRIDE, :1] / 255.0
    data = made(records, features=features)
    order = data.training_items()
    for batch in data.training(order, np.array([3, 5], np.int32)):
        np.testing.assert_allclose(batch['features'], batch['image'][..., :1] / 255.0, atol=1e-3)


def test_withheld_images_are_judged_and_not_trained_on(records):
    data = made(records, discriminator_holdout=0.3)
    trained, judged = data._ids['train'], data._ids['hold_out']
    assert len(judged) == 2 and sorted(trained + judged) == sorted(records.split('train'))
    assert len(data.training_items()) == 3 * 5
    assert sum(len(batch['is_real']) for batch in data.hold_out()) == 3 * 2
    again = made(records, discriminator_holdout=0.3)
    assert again._ids == data._ids
