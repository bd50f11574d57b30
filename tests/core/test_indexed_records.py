"""TFRecord files: tf.data reads them, and any record can be read by its number."""
import os
import threading

import pytest

from tf_advseg.core import files
from tf_advseg.core.errors import UserError
from tf_advseg.core.indexed_records import IndexedRecordReader, IndexedRecordWriter

PAYLOADS = [b'', b'a' * 10, bytes(range(256)) * 40, b'\x00', b'end']


@pytest.fixture
def written(tmp_path):
    path = tmp_path / 'maps.tfrecord'
    with IndexedRecordWriter(path) as writer:
        for payload in PAYLOADS:
            writer.write(payload)
    return path, writer.index


def test_tf_data_reads_the_same_records(written):
    import tensorflow as tf
    path, _ = written
    assert [record.numpy() for record in tf.data.TFRecordDataset(str(path))] == PAYLOADS


def test_random_access_after_the_index_has_been_through_json(written, tmp_path):
    path, index = written
    files.write_json(tmp_path / 'index.json', index)
    with IndexedRecordReader(path, files.read_json(tmp_path / 'index.json')) as reader:
        assert len(reader) == 5
        assert [reader.read(i) for i in (3, 0, 4, 2, 1)] == [PAYLOADS[i] for i in (3, 0, 4, 2, 1)]
        for i in (-1, 5):
            with pytest.raises(IndexError):
                reader.read(i)


def test_threads_do_not_disturb_one_another(written):
    path, index = written
    reader = IndexedRecordReader(path, index)
    wrong = []

    def work(shift):
        for k in range(300):
            i = (k + shift) % 5
            if reader.read(i) != PAYLOADS[i]:
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(shift,)) for shift in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader.close()
    assert wrong == []


def test_damage_names_file_and_record(written):
    path, index = written
    with open(path, 'r+b') as file:
        file.seek(index[2][0] + 100)
        file.write(b'?')
    with IndexedRecordReader(path, index) as reader:
        assert reader.read(1) == PAYLOADS[1]
        with pytest.raises(UserError, match=r'maps.tfrecord: record 2 has a wrong checksum'):
            reader.read(2)
    os.truncate(path, index[4][0] + 1)
    with IndexedRecordReader(path, index) as reader, \
            pytest.raises(UserError, match='record 4 is cut off'):
        reader.read(4)


@pytest.mark.parametrize('entry', [(-1, 3, 0), (0, -1, 0), (0, 1 << 40, 0), (1 << 70, 1, 0)])
def test_places_outside_the_file_are_damage(written, entry):
    path, index = written
    with IndexedRecordReader(path, [entry, *index[1:]]) as reader:
        assert reader.read(1) == PAYLOADS[1]
        with pytest.raises(UserError, match='maps.tfrecord: record 0 is cut off'):
            reader.read(0)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match='no such file'):
        IndexedRecordReader(tmp_path / 'no', [])
    with pytest.raises(FileNotFoundError):
        IndexedRecordWriter(tmp_path / 'no' / 'x')


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='this system has no /dev/full')
def test_a_full_disk_is_one_line():
    with pytest.raises(UserError) as caught, IndexedRecordWriter('/dev/full') as writer:
        for _ in range(100):
            writer.write(b'x' * 100000)
    assert '/dev/full' in str(caught.value) and '\n' not in str(caught.value)


def test_an_error_in_the_block_is_not_hidden(tmp_path):
    with pytest.raises(KeyError), IndexedRecordWriter(tmp_path / 'x') as writer:
        writer.write(b'1')
        raise KeyError('mine')
