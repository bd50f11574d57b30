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
from tf_advseg.lookahead import discriminator_data
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

    def __init__(self, salt, kind='soft'):
        self._salt, self._kind = salt, kind

    def read(self, image_id, decoded):
        assert not decoded
        seed = [self._salt, *image_id.encode()]
        generator = np.random.default_rng(seed)
        if self._kind == 'hard':
            return generator.integers(0, CLASSES, CROP).astype(np.uint8)
        return generator.normal(size=(*POINTS, CLASSES)).astype(np.float16)


class Buffer:
    """A buffer of two slots."""
    labels = ('g0', 'e00')

    def __init__(self, kind='soft'):
        self.slots = (Slot(1, kind), Slot(2, kind))


def made(records, encoding=None, features=None, map_kind='soft', **settings):
    """`DiscriminatorData` of the scenes."""
    encoding = encoding or encodings.Encoding(CLASSES, POINTS, 'concat', truth='scaling')
    segmentor = types.SimpleNamespace(num_classes=CLASSES, logits_stride=STRIDE)
    data = lookahead_data.LookaheadData(
        records, records.split('train'), records.split('val'), CROP,
        settings_lib.LookaheadSettings(discriminator_batch_size=4, **settings),
        random_streams.RandomStreams(0), tf.distribute.get_strategy(), segmentor, map_kind)
    return data.discriminator_data(Buffer(map_kind), types.SimpleNamespace(
        encoding=encoding, map_kind=map_kind, features=features))


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
    assert discriminator_memory.fits(encoding, 'hard', 1, CROP, sizes, plain)
    between = encodings.Encoding(CLASSES, (12, 12))  # these points stand between pixels
    assert not discriminator_memory.fits(between, 'hard', 1, CROP, sizes, plain)
    for truth, points, grid, expected in (('bottleneck', POINTS, POINTS, True),
                                          ('bottleneck', (25, 25), POINTS, False),
                                          ('sampled', (25, 25), POINTS, True)):
        finer = encodings.Encoding(CLASSES, points, truth=truth, stride=STRIDE, grid=grid)
        assert discriminator_memory.fits(finer, 'hard', 1, CROP, sizes, plain) == expected
    assert not discriminator_memory.fits(encoding, 'quantised', STRIDE, CROP, sizes, plain)


@pytest.mark.parametrize('truth', ['sampled', 'bottleneck'])
def test_hard_maps_are_seen_at_the_points_as_from_disk(records, truth):
    """Nothing is interpolated where a point stands on a pixel."""
    encoding = encodings.Encoding(CLASSES, POINTS, 'concat', truth=truth, stride=STRIDE,
                                  grid=POINTS)
    memory, disk = (made(records, encoding, map_kind='hard') for _ in range(2))
    assert memory.in_memory
    disk.in_memory = False
    for ours, theirs in zip(memory.hold_out(), disk.hold_out()):
        assert ours['map'].shape[1:] == POINTS and theirs['map'].shape[1:] == CROP
        fake = ours['is_real'].numpy() == 0
        inputs_of = [(encoding.hard(batch['image'], batch['label'], batch['map']).numpy()[fake],
                      encoding.real(batch['image'], batch['label'], None, True).numpy()[~fake])
                     for batch in (ours, theirs)]
        for one, other in zip(*inputs_of):
            np.testing.assert_allclose(one, other, atol=2e-5)


def test_pairs_stand_side_by_side_and_are_mirrored_alike(records):
    data = made(records, discriminator_pairs=True)
    disk = made(records, discriminator_pairs=True)
    disk.in_memory = False
    pairs = data.training_items()
    order = pairs[np.argsort(pairs[:, 0], kind='stable')]
    seen = {}
    for source in (data, disk):
        images = np.concatenate([batch['label'].numpy() for batch in source.training(
            order, np.array([3, 5], np.int32))])
        for place in range(len(images) // 3):  # a truth and two maps
            one, *others = images[3 * place:3 * place + 3]
            assert all(np.array_equal(one, other) for other in others)
        seen[source.in_memory] = images
    mirrored = (seen[True][:, :, 0] == 255).any(1)  # padding is on the right unless mirrored
    assert 0 < mirrored.sum() < len(mirrored)
    np.testing.assert_array_equal(mirrored, (seen[False][:, :, 0] == 255).any(1))


def test_truths_come_with_the_maps_of_all_slots():
    pairs = np.array([[0, -1], [0, 0], [1, -1], [1, 1], [2, -1], [3, -1]])
    assert discriminator_data.slots_of(pairs, 3).tolist() == [0, 0, 1, 1, 2, 0]


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
    batches = list(data.hold_out())
    assert {len(batch['is_real']) for batch in batches} == {4}  # filled up: one size, one graph
    targets = np.concatenate([batch['target'] for batch in batches])
    assert (targets >= 0).sum() == 3 * 2 and (targets < 0).sum() == 2
    again = made(records, discriminator_holdout=0.3)
    assert again._ids == data._ids
