"""Writing records: once, whole or not at all, resumed after a kill; bad readers are refused."""
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from data_layouts import draw_pair
from tf_advseg.core import files
from tf_advseg.core.errors import UserError
from tf_advseg.data.readers import base
from tf_advseg.data.readers import make_reader
from tf_advseg.data.records.record_set import RecordSet, write_records
from tf_advseg.data.spec import DatasetSpec, default_palette


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def stamps(folder):
    return {p.name: (p.stat().st_mtime_ns, p.stat().st_ino) for p in folder.iterdir()}


def test_second_call_verifies_and_keeps(reader, own_folder, folder):
    before = stamps(folder)
    os.utime(own_folder / 'labels' / 'p1.png', ns=(1, 1))  # unpacked anew, say
    write_records(reader, None, folder, shard_size=4, progress=False)
    assert stamps(folder) == before


def test_other_content_in_the_same_place_is_refused(reader, own_folder, folder):
    def again(changed=reader, splits=None):
        with pytest.raises(UserError, match='records: holds records made with another') as error:
            write_records(changed, splits, folder, progress=False)
        return str(error.value)

    before = stamps(folder)
    assert 'options' in again(make_reader('folder', own_folder, num_classes=4, seed=1))
    assert 'split' in again(splits={'train': ['p1']})
    label = own_folder / 'labels' / 'p1.png'
    Image.fromarray(draw_pair(1)[1][::-1]).save(label)
    assert 'source files' in again()
    assert stamps(folder) == before


def test_other_folders_are_not_touched(reader, tmp_path):
    folder = tmp_path / 'photos'
    folder.mkdir()
    (folder / 'a.jpg').write_bytes(b'x')
    with pytest.raises(UserError, match='photos: exists and is no folder of records'):
        write_records(reader, None, folder)
    with pytest.raises(UserError, match='photos: no records here'):
        RecordSet(folder)
    assert names(folder) == ['a.jpg'] and names(tmp_path) == ['own', 'photos']


class FailsAt(base.Reader):
    """A reader that raises at one image."""

    def __init__(self, reader, image_id, error):
        self.spec, self.description = reader.spec, reader.description
        self._reader, self._image_id, self._error = reader, image_id, error
        self.loaded = []

    def splits(self):
        return self._reader.splits()

    def files(self, image_id):
        return self._reader.files(image_id)

    def load(self, image_id):
        if image_id == self._image_id:
            raise self._error
        self.loaded.append(image_id)
        return self._reader.load(image_id)


def test_failure_leaves_nothing_of_that_name_and_is_resumed(reader, tmp_path):
    splits = {'train': [f'p{i}' for i in range(10)]}
    output, partial = tmp_path / 'records', tmp_path / 'records.partial'
    with pytest.raises(KeyboardInterrupt):
        write_records(FailsAt(reader, 'p9', KeyboardInterrupt()), splits, output, 4, False)
    assert not output.exists()
    assert sum(n.endswith('.tfrecord') for n in names(partial)) == 2
    assert not [n for n in names(partial) if n.startswith(files.TEMPORARY)]
    (partial / (files.TEMPORARY + 'pictures-00002-of-00003.tfrecord')).write_bytes(b'torn')
    damaged = partial / 'pictures-00001-of-00003.tfrecord'
    damaged.write_bytes(damaged.read_bytes()[:-1])

    second = FailsAt(reader, None, None)
    records = RecordSet(write_records(second, splits, output, 4, False))
    # The first shard is kept, the damaged one and the missing one are written.
    assert sorted(second.loaded) == [f'p{i}' for i in range(4, 10)]
    np.testing.assert_array_equal(records.load('p5')[1], draw_pair(5)[1])
    assert not partial.exists()


def test_bad_image_at_the_start_leaves_no_trace(reader, own_folder, tmp_path):
    path = own_folder / 'images' / 'p1.png'
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(UserError, match='images/p1.png: truncated'):
        write_records(reader, None, tmp_path / 'records', progress=False)
    assert names(tmp_path) == ['own']


KILLED = '''
import os, signal, sys
from tf_advseg.core import runtime
runtime.configure()
from tf_advseg.data.readers import make_reader
from tf_advseg.data.records import record_writing
reader = make_reader('folder', sys.argv[1], num_classes=4)
load, count = reader.load, [0]
def killing_load(image_id):
    count[0] += 1
    if count[0] == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return load(image_id)
reader.load = killing_load
record_writing.write_records(reader, None, sys.argv[2], shard_size=3, progress=False, workers=1)
'''


def test_killed_process_is_resumed_to_the_same_bytes(reader, own_folder, tmp_path, repository):
    killed = subprocess.run([sys.executable, '-c', KILLED, str(own_folder),
                             str(tmp_path / 'records')], cwd=repository)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / 'records').exists() and (tmp_path / 'records.partial').exists()
    resumed = write_records(reader, None, tmp_path / 'records', 3, False)
    fresh = write_records(reader, None, tmp_path / 'fresh', 3, False)
    assert names(resumed) == names(fresh)
    for name in names(fresh):
        assert (resumed / name).read_bytes() == (fresh / name).read_bytes()


def test_two_writers_at_once_are_kept_apart(reader, tmp_path):
    class Nested(FailsAt):
        def load(self, image_id):
            write_records(reader, None, tmp_path / 'records', progress=False)

    with pytest.raises(UserError, match='another process is writing'):
        write_records(Nested(reader, None, None), None, tmp_path / 'records', progress=False)


@pytest.mark.parametrize('splits, words', [
    ({'train': ['p1'], 'val': []}, 'split "val" is empty'),
    ({'train': ['p1', 'p1']}, 'lists image "p1" twice'),
    ({'train': ['p1', 'p55']}, 'no image "p55"'),
])
def test_bad_splits_are_refused(reader, tmp_path, splits, words):
    with pytest.raises(UserError, match=words):
        write_records(reader, splits, tmp_path / 'records', progress=False)
    assert names(tmp_path) == ['own']


@pytest.mark.parametrize('image, label, words', [
    (np.zeros([4, 4, 3], np.uint8), np.full([4, 4], 2, np.uint8), 'label id 2 is out of range'),
    (np.zeros([4, 4, 3], np.float32), np.zeros([4, 4], np.uint8), 'the reader gives float32'),
    (np.zeros([4, 5, 3], np.uint8), np.zeros([4, 4], np.uint8), 'expected uint8'),
])
def test_readers_that_break_the_contract_are_caught(tmp_path, image, label, words):
    class Broken(base.Reader):
        spec = DatasetSpec('broken', ('a', 'b'), default_palette(2))

        def splits(self):
            return {'train': ['x']}

        def load(self, image_id):
            return image, label

    with pytest.raises(UserError, match=words):
        write_records(Broken(), None, tmp_path / 'records', progress=False)


def test_full_disk_is_said_and_leaves_nothing(reader, tmp_path, monkeypatch):
    from tf_advseg.core import indexed_records

    def full(self, payload):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(indexed_records.IndexedRecordWriter, 'write', full)
    with pytest.raises(UserError, match='pictures-00000-of-00001.tfrecord: the disk is full'):
        write_records(reader, None, tmp_path / 'records', progress=False)
    assert names(tmp_path) == ['own']
