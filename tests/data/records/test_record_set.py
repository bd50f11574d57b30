"""Records: what goes in comes out, in any order; kills, damage and changes are noticed."""
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data_layouts import draw_pair, write_folder
from tf_advseg.core import files
from tf_advseg.core.errors import UserError
from tf_advseg.data.readers import make_reader
from tf_advseg.data.readers import base
from tf_advseg.data.records.record_set import RecordSet, data_errors, write_records
from tf_advseg.data.spec import DatasetSpec, default_palette


@pytest.fixture
def reader(own_folder):
    return make_reader('folder', own_folder, num_classes=4)


@pytest.fixture
def folder(reader, tmp_path):
    return write_records(reader, None, tmp_path / 'records', shard_size=4, progress=False)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def stamps(folder):
    return {p.name: (p.stat().st_mtime_ns, p.stat().st_ino) for p in folder.iterdir()}


def test_round_trip(reader, folder):
    records = RecordSet(folder)
    assert records.spec == reader.spec and records.splits == reader.splits()
    assert len(records) == 10 and not folder.with_name('records.partial').exists()
    for image_id in records.ids:
        image, label = reader.load(image_id)
        loaded = records.load(image_id)
        np.testing.assert_array_equal(loaded[0], image)
        np.testing.assert_array_equal(loaded[1], label)
        assert tuple(records.image_sizes([image_id])[0]) == label.shape
        counts = np.bincount(label[label != 255], minlength=4)
        np.testing.assert_array_equal(records.class_counts(image_id), counts)
        assert records.class_presence([image_id])[image_id] == set(np.flatnonzero(counts))
    mean = np.mean([records.class_counts(i) for i in records.ids], axis=0)
    np.testing.assert_allclose(records.average_class_counts(records.ids), mean)


@pytest.mark.parametrize('change', [
    {'identity': []}, {'identity': {'format': 1}}, {'shards': [1]}, {'shards': None},
    {'identity': {'format': 1, 'spec': {'name': 'a'}, 'reader': {}}},
    {'identity': {'format': 1, 'spec': None, 'reader': {'options': []}}}])
def test_a_manifest_of_another_form_is_named(folder, change):
    manifest = files.read_json(folder / 'manifest.json')
    files.write_json(folder / 'manifest.json', {**manifest, **change})
    with pytest.raises(UserError) as caught:
        RecordSet(folder, verify=False)
    assert str(folder / 'manifest.json') in str(caught.value)


@pytest.mark.parametrize('change', [
    {'ids': ['a']}, {'index': [[0, 1]]}, {'sizes': None}, {'class_counts': [[0]] * 4},
    {'index': [['x', 1, 2]] * 4}])
def test_an_index_of_another_form_is_named(folder, change):
    path = next(folder.glob('pictures-00000-*.json'))
    path.write_text(files.to_json({**files.read_json(path), **change}))
    manifest = {key: value for key, value in files.read_json(folder / 'manifest.json').items()
                if key != 'files'}
    files.write_manifest(folder, **manifest)  # so that it is the index that is looked at
    with pytest.raises(UserError, match=f'{path.name}: does not hold what it should'):
        RecordSet(folder)


def test_data_set_gives_any_order_with_repeats(reader, folder):
    records = RecordSet(folder)
    order = ['p7', 'p0', 'p7', 'p9', 'p3']
    examples = list(records.dataset(order).as_numpy_iterator())
    assert [e['image_id'].decode() for e in examples] == order
    for image_id, example in zip(order, examples):
        np.testing.assert_array_equal(example['image'], reader.load(image_id)[0])
        np.testing.assert_array_equal(example['label'], reader.load(image_id)[1])


def test_real_images_keep_their_bytes_and_decode_alike_everywhere(stanford, tmp_path):
    reader = make_reader('stanford_background', stanford)
    ids = reader.splits()['test'][:3]
    records = RecordSet(write_records(reader, {'test': ids}, tmp_path / 'r', progress=False))
    for image_id, example in zip(ids, records.dataset(ids).as_numpy_iterator()):
        image, label = records.load(image_id)
        np.testing.assert_array_equal(example['image'], image)
        np.testing.assert_array_equal(label, reader.load(image_id)[1])
        # Pillow's decoder may round another way than TensorFlow's, but hardly.
        assert np.abs(image.astype(int) - reader.load(image_id)[0]).max() <= 2
        position = records.positions([image_id])[0]
        parsed = tf.train.Example.FromString(records.read(position)).features.feature
        assert parsed['image/encoded'].bytes_list.value[0] == reader.encoded_image(image_id)


def test_unusual_images_come_out_as_the_reader_sees_them(tmp_path):
    folder = write_folder(tmp_path / 'own', ['cmyk', 'grey', 'alpha', 'turned'])
    rgb = [draw_pair(i)[0] for i in range(4)]
    for name in ('cmyk', 'turned'):
        (folder / 'images' / f'{name}.png').unlink()
    Image.fromarray(rgb[0]).convert('CMYK').save(folder / 'images' / 'cmyk.jpg')
    Image.fromarray(rgb[1]).convert('L').save(folder / 'images' / 'grey.png')
    Image.fromarray(rgb[2]).convert('RGBA').save(folder / 'images' / 'alpha.png')
    exif = Image.Exif()
    exif[0x0112] = 6  # a camera held upright; labels are drawn on the stored pixels
    Image.fromarray(rgb[3]).save(folder / 'images' / 'turned.jpg', exif=exif, quality=100)
    reader = make_reader('folder', folder, num_classes=4)
    splits = {'train': ['cmyk', 'grey', 'alpha', 'turned']}
    records = RecordSet(write_records(reader, splits, tmp_path / 'r', progress=False))
    for image_id in splits['train']:
        difference = records.load(image_id)[0].astype(int) - reader.load(image_id)[0]
        assert np.abs(difference).max() <= (2 if image_id == 'turned' else 0)


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


def test_damaged_files_are_found_and_named(folder):
    path = folder / 'pictures-00001-of-00003.tfrecord'
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match='pictures-00001-of-00003.tfrecord: its checksum'):
        RecordSet(folder)

    records = RecordSet(folder, verify=False)
    with pytest.raises(UserError, match='pictures-00001-of-00003.tfrecord: record .* checksum'):
        with data_errors():
            for _ in records.dataset(records.ids):
                pass
    path.write_bytes(content[:-5])
    with pytest.raises(UserError, match='pictures-00001-of-00003.tfrecord: has .* bytes'):
        RecordSet(folder, verify=False)
    path.unlink()
    with pytest.raises(UserError, match='pictures-00001-of-00003.tfrecord: missing'):
        RecordSet(folder)


def flip_byte(folder, image_id):
    """Flips one byte of an image's record; returns the name of its file."""
    records = RecordSet(folder, verify=False)
    shard, number = records._places[records.positions([image_id])[0]]
    path = folder / (records.manifest['shards'][shard] + '.tfrecord')
    offset, length, _ = records._indices[shard][number]
    content = bytearray(path.read_bytes())
    content[offset + length // 2] ^= 1
    path.write_bytes(content)
    return path.name


@pytest.mark.parametrize('image_id', ['p0', 'p5', 'p9'])
def test_one_flipped_byte_is_named_with_file_and_image(folder, image_id):
    name = flip_byte(folder, image_id)
    words = f'{name}: its checksum .*; 1 damaged image: "{image_id}" in {name} '
    with pytest.raises(UserError, match=words):
        RecordSet(folder)
    records = RecordSet(folder, verify=False)
    with pytest.raises(UserError, match=f'{name}: record .* \\(image "{image_id}"; .*skip'):
        records.load(image_id)
    with pytest.raises(UserError, match=f'image "{image_id}"'), data_errors():
        for _ in records.dataset(records.ids):
            pass


@pytest.mark.parametrize('verify', [True, False])
def test_damaged_images_are_skipped_by_choice(reader, folder, verify, caplog):
    whole = RecordSet(folder)
    gone = {image_id: flip_byte(folder, image_id) for image_id in ('p2', 'p7')}
    records = RecordSet(folder, verify=verify, damaged='skip')
    assert sorted(records.damaged) == sorted(gone.items())
    assert sorted(records.left_out) == ['p2', 'p7']
    assert {name: records.left_out_of(name) for name in whole.splits} == {
        name: [i for i in ids if i in gone] for name, ids in whole.splits.items()}
    assert records.ids == [i for i in whole.ids if i not in gone] and len(records) == 8
    assert records.splits == {name: [i for i in ids if i not in gone]
                              for name, ids in whole.splits.items()}
    for example in records.dataset(records.ids).as_numpy_iterator():
        image_id = example['image_id'].decode()
        np.testing.assert_array_equal(example['label'], reader.load(image_id)[1])
        assert tuple(records.image_sizes([image_id])[0]) == tuple(whole.image_sizes([image_id])[0])
        np.testing.assert_array_equal(records.class_counts(image_id),
                                      whole.class_counts(image_id))
    with pytest.raises(UserError, match='no image "p2"'):
        records.load('p2')
    said = [r.getMessage() for r in caplog.records if 'left out' in r.getMessage()]
    assert len(said) == 1 and '2 damaged of 10 images left out: ' in said[0]
    assert all(f'"{image_id}" in {name}' in said[0] for image_id, name in gone.items())


def test_a_file_cut_short_costs_only_the_images_cut_off(folder):
    path = folder / 'pictures-00001-of-00003.tfrecord'
    ids = files.read_json(path.with_suffix('.json'))['ids']
    path.write_bytes(path.read_bytes()[:-30])
    records = RecordSet(folder, damaged='skip')
    assert records.damaged == [(ids[-1], path.name)]


def test_skipping_undamaged_records_changes_nothing(folder):
    records, whole = RecordSet(folder, damaged='skip'), RecordSet(folder)
    assert (records.ids, records.splits, records.damaged) == (whole.ids, whole.splits, [])
    assert records.left_out == [] and records.left_out_of('train') == []


def test_what_cannot_be_skipped_is_refused(folder):
    with pytest.raises(UserError, match='way with damaged records "skp".*"skip"'):
        RecordSet(folder, damaged='skp')
    for image_id in RecordSet(folder, verify=False).split('test'):
        flip_byte(folder, image_id)
    with pytest.raises(UserError, match='every image of split "test" is damaged'):
        RecordSet(folder, damaged='skip')
    index = folder / 'pictures-00001-of-00003.json'
    index.write_text(index.read_text().replace('p', 'q'))
    with pytest.raises(UserError, match='pictures-00001-of-00003.json: its checksum'):
        RecordSet(folder, damaged='skip')
    (folder / 'pictures-00000-of-00003.tfrecord').unlink()
    with pytest.raises(UserError, match='pictures-00000-of-00003.tfrecord: missing'):
        RecordSet(folder, damaged='skip')


def test_other_errors_inside_tf_data_pass_unchanged():
    with pytest.raises(tf.errors.InvalidArgumentError):
        with data_errors():
            tf.io.decode_png(b'no image')


def test_few_files_are_open_however_many_shards(reader, tmp_path, monkeypatch):
    from tf_advseg.data.records import record_set as module
    monkeypatch.setattr(module, 'OPEN_FILES', 2)
    records = RecordSet(write_records(reader, None, tmp_path / 'many', 1, False))
    before = len(os.listdir('/proc/self/fd'))
    for _ in range(2):
        assert len(list(records.dataset(records.ids))) == 10
    assert len(os.listdir('/proc/self/fd')) <= before + 2


def test_open_records_end_quietly(folder, repository):
    code = ('import sys; from tf_advseg.core import runtime; runtime.configure(); '
            'from tf_advseg.data.records.record_set import RecordSet; r = RecordSet(sys.argv[1]); '
            'print(len(list(r.dataset(r.ids))))')
    run = subprocess.run([sys.executable, '-c', code, str(folder)], cwd=repository,
                         capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, '10\n', '')


def test_unknown_names_are_named(folder):
    records = RecordSet(folder)
    with pytest.raises(UserError, match='no image "p77"'):
        records.load('p77')
    with pytest.raises(UserError, match='no split "vall"; there are train, val, test'):
        records.split('vall')
    assert records.split('val') == records.splits['val']


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
