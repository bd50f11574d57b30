"""One flipped bit anywhere in records, a slot, a snapshot or a model's weights is found and named."""
import random

import numpy as np
import pytest

from tf_advseg.core import files
from tf_advseg.core.errors import UserError
from tf_advseg.data.records import record_set
from tf_advseg.lookahead import map_buffer
from tf_advseg.lookahead import snapshots
from tf_advseg.run import dataset
from tf_advseg.run import networks

FLIPS, MET = 40, 20  # of what is read as a whole; of records that a run reads one by one
OPTIONS = {'num_train': 6, 'num_val': 4, 'num_test': 3, 'size': (49, 49), 'smallest': (40, 40)}


def _layer(units=2):
    import tensorflow as tf
    layer = tf.keras.layers.Dense(units)
    layer.build([None, 3])
    return layer


def _records(folder):
    made = dataset.prepare('shapes', None, folder / 'records', OPTIONS, show=False)
    return made.folder, lambda: record_set.RecordSet(made.folder)


def _slot(folder):
    buffer = map_buffer.MapBuffer(folder / 'buffer')
    buffer.write_slot('g0', [(f'p{i}', 'train', np.full((4, 4, 8), i, np.float32))
                             for i in range(3)])
    buffer.aggregate('g0', None)
    state = buffer.to_state()
    return buffer.slots[0].folder, lambda: map_buffer.MapBuffer(folder / 'buffer').from_state(state)


def _snapshot(folder):
    import tensorflow as tf
    store = snapshots.SnapshotStore(folder / 'snapshots')
    layer, optimizer = _layer(), tf.keras.optimizers.SGD(0.1)
    store.save('g0', layer, optimizer)
    return store.folder / store.roles['g0'], lambda: store.restore('g0', layer, optimizer)


def _model(folder):
    from tf_advseg.data.readers import make_reader
    description = networks.describe('farabet', num_classes=8, seed=1, hidden=8, crop_size=(33, 33))
    networks.save(folder / 'model', networks.build(description), description,
                  make_reader('shapes').spec)
    weights = folder / 'model' / 'weights'
    assert (weights / files.MANIFEST).is_file()
    return weights, lambda: networks.load(folder / 'model')


KINDS = (_records, _slot, _snapshot, _model)


@pytest.mark.parametrize('make', KINDS)
def test_a_flipped_bit_is_named(make, tmp_path, capsys):
    folder, read = make(tmp_path)
    read()  # sound, it can be read
    paths = sorted(path for path in folder.rglob('*') if path.is_file())
    rng = random.Random(make.__name__)
    for _ in range(FLIPS):
        path = rng.choice(paths)
        sound = path.read_bytes()
        place, bit = rng.randrange(len(sound)), rng.randrange(8)
        where = f'{path}, byte {place}, bit {bit}'
        damaged = bytearray(sound)
        damaged[place] ^= 1 << bit
        path.write_bytes(damaged)
        try:
            read()
            found = None
        except UserError as error:
            found = str(error)
        finally:
            path.write_bytes(sound)
        if path.name == files.MANIFEST:  # has no checksum of itself: what is read of it is checked
            assert found is None or str(folder) in found, where
        else:
            assert found is not None and str(path) in found, where
        assert found is None or '\n' not in found, where
    with capsys.disabled():
        print(f'\n{make.__name__}: {FLIPS} flipped bits', flush=True)


def test_a_flipped_bit_that_is_met_while_running_gives_what_was_written_or_one_line(
        tmp_path, capsys):
    """Records are opened without their checksums in a run: each record has its own."""
    made = dataset.prepare('shapes', None, tmp_path / 'records', OPTIONS, show=False)
    sound = {image_id: made.load(image_id) for image_id in made.ids}
    rng, told = random.Random(7), 0
    path, = made.folder.glob('pictures-*.tfrecord')
    for _ in range(MET):
        content = path.read_bytes()
        place = rng.randrange(len(content))
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            records = record_set.RecordSet(made.folder, verify=False)
            for image_id, arrays in sound.items():
                for one, other in zip(records.load(image_id), arrays):
                    np.testing.assert_array_equal(one, other, err_msg=f'byte {place}')
        except UserError as error:
            assert path.name in str(error) and '\n' not in str(error)
            told += 1
        finally:
            path.write_bytes(content)
    assert told >= MET // 2
    with capsys.disabled():
        print(f'\nmet while running: {MET} flipped bits, {told} told', flush=True)


def test_the_number_is_the_documented_one(repository):
    number = FLIPS * len(KINDS) + MET
    assert f'(`tests/campaign/test_flipped_bytes.py`) | {number} | |' in (
        repository / 'docs' / 'internals.md').read_text('utf-8')
