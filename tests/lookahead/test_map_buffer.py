"""Slots on disk: whole or not there, bounded, verified, read at random."""
import errno
import itertools
import json
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core import files
from tf_advseg.core.errors import UserError
from tf_advseg.core.indexed_records import IndexedRecordWriter
from tf_advseg.lookahead import map_encoding
from tf_advseg.lookahead.map_buffer import RECORDS, MapBuffer

IDS = [f'image/é {i}' for i in range(5)]
PARTS = ['train'] * 3 + ['holdout'] * 2


def logits(seed, shape=(4, 5, 3)):
    return np.random.default_rng(seed).normal(0, 8, shape).astype('f4')


def make_map(kind, seed, shape=(4, 5, 3)):
    values = logits(seed, shape)
    if kind == 'hard':
        return values.argmax(-1)
    if kind == 'quantised':
        return tf.nn.softmax(values).numpy()
    return values


def map_set(kind='soft', seed=0, shape=(4, 5, 3)):
    for i, (image_id, part) in enumerate(zip(IDS, PARTS)):
        yield image_id, part, make_map(kind, 100 * seed + i, shape)


def filled(folder, **options):
    """A buffer that holds [g0, e00]."""
    buffer = MapBuffer(folder, **options)
    kind = buffer.kind
    buffer.write_slot('g0', map_set(kind, 0))
    buffer.aggregate('g0', None)
    buffer.write_slot('e00', map_set(kind, 1))
    buffer.aggregate(None, 'e00')
    return buffer


FIGURE_1 = ['e00', 'g1 e01', 'e10', 'g2 e11', 'e20', 'e21']


@pytest.mark.parametrize('kind', ['soft', 'hard', 'quantised'])
def test_maps_come_back_in_any_order(tmp_path, kind):
    buffer = filled(tmp_path / 'buffer', kind=kind)
    assert buffer.labels == ['g0', 'e00'] and len(buffer) == 2
    assert buffer.slots[0].image_ids == tuple(IDS)
    assert buffer.slots[0].ids_of('holdout') == tuple(IDS[3:])
    for index, seed, i in itertools.product((0, 1), (0,), (4, 0, 2)):
        stored = map_encoding.encode(make_map(kind, 100 * index + i), kind)
        np.testing.assert_array_equal(buffer.read(index, IDS[i], decoded=False), stored)
        np.testing.assert_array_equal(buffer.read(buffer.labels[index], IDS[i]),
                                      map_encoding.decode(stored, kind))
    with pytest.raises(KeyError, match='no map of'):
        buffer.read(0, 'absent')


@pytest.mark.parametrize('kind', ['soft', 'hard', 'quantised'])
@pytest.mark.parametrize('decoded', [True, False])
def test_lookup_within_tf_data(tmp_path, kind, decoded):
    buffer = filled(tmp_path / 'buffer', kind=kind)
    lookup = buffer.lookup(decoded)
    indices, names = [1, 0, 0, 1], [IDS[2], IDS[4], IDS[0], IDS[3]]
    expected = [buffer.read(i, name, decoded) for i, name in zip(indices, names)]
    pairs = tf.data.Dataset.from_tensor_slices((indices, names))
    for dataset in (pairs.map(lookup, num_parallel_calls=2),
                    pairs.batch(3).map(lookup).unbatch()):
        assert dataset.element_spec.shape == expected[0].shape
        assert dataset.element_spec.dtype == tf.as_dtype(expected[0].dtype)
        for found, wanted in zip(dataset.as_numpy_iterator(), expected):
            np.testing.assert_array_equal(found, wanted)


def test_lookup_and_dataset_outlive_aggregation(tmp_path):
    buffer = filled(tmp_path / 'buffer', capacity=2)
    lookup, expected = buffer.lookup(), buffer.read('e00', IDS[1])
    rows = list(buffer.dataset('e00', 'holdout').as_numpy_iterator())
    assert [row['image_id'].decode() for row in rows] == IDS[3:]
    np.testing.assert_array_equal(rows[0]['map'], buffer.read(1, IDS[3]))
    buffer.write_slot('e01', map_set(seed=2))
    buffer.aggregate(None, 'e01')
    assert len(buffer.collect_garbage()) == 1
    np.testing.assert_array_equal(lookup(tf.constant(1), tf.constant(IDS[1])), expected)


def test_maps_of_different_shapes(tmp_path):
    buffer = MapBuffer(tmp_path / 'buffer')
    maps = {name: logits(i, (4 + i, 5, 3)) for i, name in enumerate(IDS)}
    buffer.write_slot('g0', ((name, 'train', array) for name, array in maps.items()))
    buffer.aggregate('g0', None)
    assert buffer.slots[0].manifest['shape'] is None
    dataset = buffer.dataset(0)
    assert dataset.element_spec['map'].shape.as_list() == [None, None, None]
    for row in dataset.as_numpy_iterator():
        assert row['map'].shape == maps[row['image_id'].decode()].shape


def test_figure_1_on_disk(tmp_path):
    """The folders alive after each cycle of Fig. 1b, and nothing beside them once collected."""
    buffer = MapBuffer(tmp_path / 'buffer')
    buffer.write_slot('g0', map_set())
    buffer.aggregate('g0', None)
    expected = ['g0 e00', 'g1 e01', 'g1 e01 e10', 'g2 e11', 'g2 e11 e20', 'g2 e20 e21']
    for seed, (cycle, labels) in enumerate(zip(FIGURE_1, expected), 1):
        *peak, end = cycle.split()
        peak = peak[0] if peak else None
        for entry in buffer.plan(peak, end).added:
            buffer.write_slot(entry.label, map_set(seed=seed), num_maps=5, stride=16)
        buffer.aggregate(peak, end)
        buffer.collect_garbage()
        assert ' '.join(buffer.labels) == labels
        assert sorted(path.name for path in buffer.folder.iterdir()) == sorted(
            slot.folder.name for slot in buffer.slots)
    assert buffer.slots[-1].folder.name == 'slot-000008-e21'
    manifest = buffer.slots[-1].manifest
    assert (manifest['label'], manifest['kind'], manifest['dtype']) == ('e21', 'soft', 'float16')
    assert (manifest['shape'], manifest['stride'], manifest['num_maps']) == ([4, 5, 3], 16, 5)
    assert manifest['parts'] == {'holdout': 2, 'train': 3}


def test_the_state_decides_which_slots_are_alive(tmp_path):
    buffer = filled(tmp_path / 'buffer')
    state = json.loads(json.dumps(buffer.to_state()))
    buffer.write_slot('g1', map_set(seed=2))                # a cycle's end, killed before
    buffer.write_slot('e01', map_set(seed=3))               # the state was written
    buffer.aggregate('g1', 'e01')
    (buffer.folder / '.tmp-slot-000004-e10-1-x').mkdir()
    again = MapBuffer(tmp_path / 'buffer')
    again.from_state(state)
    assert again.labels == ['g0', 'e00']
    np.testing.assert_array_equal(again.read('e00', IDS[0]),
                                  map_encoding.encode(logits(100), 'soft'))
    again.write_slot('g1', map_set(seed=9))                 # the same name is free again
    again.write_slot('e01', map_set(seed=3))
    again.aggregate('g1', 'e01')
    assert again.slots[0].folder.name == 'slot-000002-g1'
    assert again.collect_garbage() == ['.tmp-slot-000004-e10-1-x', 'slot-000000-g0',
                                       'slot-000001-e00']
    np.testing.assert_array_equal(again.read('g1', IDS[0]),
                                  map_encoding.encode(logits(900), 'soft'))
    with pytest.raises(ValueError, match='state'):
        again.from_state({'version': 0})


def test_the_same_maps_give_the_same_bytes(tmp_path):
    contents = []
    for name in ('a', 'b'):
        buffer = filled(tmp_path / name)
        contents.append([path.read_bytes() for path in sorted(buffer.folder.rglob('*'))
                         if path.is_file()])
    assert contents[0] == contents[1]


def flip_byte(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize('name', [RECORDS, 'index.json', 'manifest.json'])
def test_a_damaged_slot_is_named(tmp_path, name):
    buffer = filled(tmp_path / 'buffer')
    state = buffer.to_state()
    path = buffer.slots[1].folder / name
    flip_byte(path, 0 if name == 'manifest.json' else path.stat().st_size // 2)
    with pytest.raises(UserError) as error:
        MapBuffer(tmp_path / 'buffer').from_state(state)
    assert str(path) in str(error.value) and '\n' not in str(error.value)


def test_damage_while_running_is_found_when_read(tmp_path):
    buffer = filled(tmp_path / 'buffer')
    path = buffer.slots[0].folder / RECORDS
    flip_byte(path, 40)
    with pytest.raises(UserError, match=RECORDS):
        buffer.read(0, IDS[0])
    with pytest.raises(tf.errors.UnknownError, match='record 0'):
        list(buffer.dataset(0))


def test_a_missing_slot_or_one_of_another_kind_is_named(tmp_path):
    buffer = filled(tmp_path / 'buffer')
    state = buffer.to_state()
    with pytest.raises(UserError, match='soft maps, expected hard'):
        MapBuffer(tmp_path / 'buffer', kind='hard').from_state(state)
    with pytest.raises(UserError, match='slot-000000-g0.*no such folder'):
        MapBuffer(tmp_path / 'elsewhere').from_state(state)


# -- nothing half-written, nothing without bound ----------------------------------------------

@pytest.mark.parametrize('fault', ['write', 'tensorflow', 'manifest', 'rename'])
def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch, fault):
    buffer = filled(tmp_path / 'buffer')
    before = sorted(path.name for path in buffer.folder.rglob('*'))

    def no_space(*_, **__):
        raise OSError(errno.ENOSPC, 'No space left on device')

    def tensorflow_error(self, payload):
        def fail():
            raise tf.errors.ResourceExhaustedError(None, None, f'{self.path}; No space left')
        return self._guarded(fail)

    with monkeypatch.context() as patch:
        if fault == 'write':
            patch.setattr(IndexedRecordWriter, 'write', no_space)
        elif fault == 'tensorflow':
            patch.setattr(IndexedRecordWriter, 'write', tensorflow_error)
        elif fault == 'manifest':
            patch.setattr(files, 'write_manifest', no_space)
        else:
            patch.setattr('os.rename', no_space)
        with pytest.raises(UserError) as error:
            buffer.write_slot('e01', map_set())
    message = str(error.value)
    assert str(buffer.folder / 'slot-000002-e01') in message and '\n' not in message
    assert '.tmp-' not in message
    assert sorted(path.name for path in buffer.folder.rglob('*')) == before
    buffer.write_slot('e01', map_set())
    buffer.aggregate(None, 'e01')
    assert buffer.labels == ['g0', 'e00', 'e01']


def test_a_generator_that_fails_leaves_nothing_behind(tmp_path):
    buffer = filled(tmp_path / 'buffer')

    def maps():
        yield from itertools.islice(map_set(), 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        buffer.write_slot('e01', maps())
    assert len(list(buffer.folder.iterdir())) == 2 and buffer.labels == ['g0', 'e00']


def test_write_slot_refuses_what_does_not_add_up(tmp_path):
    buffer = filled(tmp_path / 'buffer')
    one = ('a', 'train', logits(0))
    for maps, arguments, word in (([], {}, 'at least one'), ([one, one], {}, 'two maps of a'),
                                  ([one], dict(num_maps=2), 'got 1 maps, expected 2')):
        with pytest.raises(ValueError, match=word):
            buffer.write_slot('e01', maps, **arguments)
    with pytest.raises(ValueError, match='already'):
        buffer.write_slot('g0', [one])
    with pytest.raises(ValueError, match='write_slot has to come first'):
        buffer.aggregate(None, 'e01')
    assert len(list(buffer.folder.iterdir())) == 2


def test_size_is_bounded_and_the_limit_is_checked_before_writing(tmp_path):
    buffer = filled(tmp_path / 'buffer')
    estimate = buffer.estimate_bytes(len(IDS), (4, 5, 3))
    assert buffer.bytes() <= 2 * estimate.slot < estimate.buffer < estimate.on_disk
    assert buffer.bytes() == sum(slot.bytes() for slot in buffer.slots)
    limited = MapBuffer(tmp_path / 'limited', limit_bytes=estimate.slot - 1)
    drawn = []

    def maps():
        for item in map_set():
            drawn.append(item[0])
            yield item

    with pytest.raises(UserError, match='limit_bytes'):
        limited.write_slot('g0', maps(), num_maps=5)
    assert drawn == IDS[:1] and not list(limited.folder.iterdir())
    MapBuffer(tmp_path / 'enough', limit_bytes=estimate.slot).write_slot('g0', maps(), num_maps=5)
    small = MapBuffer(tmp_path / 'small', limit_bytes=8000)     # the number is not known before
    with pytest.raises(UserError, match='small/slot-000000-g0'):
        small.write_slot('g0', ((str(i), 'train', logits(i)) for i in range(100)))
    assert not list(small.folder.iterdir())


def test_the_papers_voc_size_stays_below_its_bound(tmp_path):
    """1464 images of 513 x 513 at stride 16 and a hold-out, B_max = 3: 1.5 GB (issue 2)."""
    buffer = MapBuffer(tmp_path / 'buffer')
    estimate = buffer.estimate_bytes(1464 + 435, (33, 33, 21))
    assert estimate.buffer < estimate.on_disk < 1.5e9
    quantised = buffer.estimate_bytes(1464 + 435, (129, 129, 21), 'quantised')
    assert quantised.slot < 0.7e9


def test_writing_holds_one_map_in_memory(tmp_path):
    buffer = MapBuffer(tmp_path / 'buffer', kind='hard')
    peaks = []
    for count in (20, 200):
        tracemalloc.start()
        buffer.write_slot(f'e0{count}', ((str(i), 'train', np.full((300, 300), i % 7, 'u1'))
                                         for i in range(count)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 90_000 * 10, '200 maps of 90 kB must not add up'


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='file'):
        MapBuffer(tmp_path / 'file' / 'buffer')
