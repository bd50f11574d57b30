"""Records: what goes in comes out, in any order; damage is noticed, named and can be skipped."""
import os
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
from tf_advseg.data.records.record_set import RecordSet, data_errors, write_records


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


