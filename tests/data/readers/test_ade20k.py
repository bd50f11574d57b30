"""ADE20K: a miniature of the official layout in both numberings, real files, bad ones."""
import pathlib
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from data_layouts import draw_pair
from official_layouts_ade_cmp_segtrack import save, write_ade20k
from tf_advseg.core.errors import UserError
from tf_advseg.data.readers import make_reader
from tf_advseg.data.records.record_set import RecordSet, write_records


@pytest.fixture
def folder(tmp_path):
    return write_ade20k(tmp_path / 'ADEChallengeData2016')


def test_official_splits_and_shifted_classes(folder):
    for source in (folder, folder.parent):
        reader = make_reader('ade20k', source)
        assert reader.splits() == {
            'train': [f'ADE_train_0000000{i}' for i in (1, 2, 3)],
            'val': ['ADE_val_00000001', 'ADE_val_00000002']}
    assert reader.spec.num_classes == 150 and reader.spec.class_names[0] == 'wall'
    assert reader.spec.absent == 'zero'  # as SceneParsing's evaluationCode averages
    assert make_reader('ade20k', folder, numbering=151).spec.absent == 'left_out'
    image, label = reader.load('ADE_train_00000002')
    drawn = draw_pair(1)[1]
    expected = np.where(drawn == 255, 255, np.array([0, 50, 100, 149])[np.minimum(drawn, 3)])
    np.testing.assert_array_equal(label, expected)
    assert (label == 255).sum() == 3 and image.shape == (*label.shape, 3)


def test_zoo_s_numbering_is_the_same_label_one_higher(folder):
    shifted, official = (make_reader('ade20k', folder, numbering=n) for n in (150, 151))
    assert official.spec.num_classes == 151
    translation = shifted.spec.translation(official.spec)
    for image_id in shifted.splits()['train']:
        ours, theirs = shifted.read_label(image_id), official.read_label(image_id)
        valid = ours != 255
        np.testing.assert_array_equal(theirs[valid], translation[ours[valid]])
        np.testing.assert_array_equal(valid, theirs != 255)
        assert shifted.spec.class_names[ours[valid][0]] == official.spec.class_names[
            theirs[valid][0]]
        assert not (theirs == 0).any()


def test_val_is_called_test_when_asked(folder):
    splits = make_reader('ade20k', folder, test_is_val=True).splits()
    assert splits['test'] == splits['val'] and len(splits['train']) == 3


def test_records_keep_labels_and_splits(folder, tmp_path):
    reader = make_reader('ade20k', folder, numbering=151)
    records = RecordSet(write_records(reader, None, tmp_path / 'records', progress=False))
    assert records.splits == reader.splits() and records.spec == reader.spec
    for image_id in records.ids:
        np.testing.assert_array_equal(records.load(image_id)[1], reader.load(image_id)[1])


def test_real_files_in_the_official_layout(shared, tmp_path):
    with tarfile.open(shared / 'data' / 'format_samples.tar.xz') as tar:
        members = [m for m in tar.getmembers() if '/ade20k/' in m.name]
        tar.extractall(tmp_path, members, filter='data')
    flat = tmp_path / 'format_samples' / 'ade20k'
    official = tmp_path / 'ADEChallengeData2016'
    for kind in ('images', 'annotations'):
        for part in ('training', 'validation'):
            (official / kind / part).mkdir(parents=True)
        for path in sorted((flat / kind).iterdir()):
            part = 'training' if path.stem.endswith('3') else 'validation'
            shutil.copy(path, official / kind / part / path.name)
    reader = make_reader('ade20k', official)
    assert {name: len(ids) for name, ids in reader.splits().items()} == {'train': 1, 'val': 2}
    for image_id in ('ADE_val_00000001', 'ADE_val_00000003'):
        image, label = reader.load(image_id)
        ids = np.array(Image.open(flat / 'annotations' / f'{image_id}.png'))
        np.testing.assert_array_equal(label, ids - np.uint8(1))  # 0 becomes 255, as it should
        assert (ids == 0).any() and image.shape == (*ids.shape, 3)
        np.testing.assert_array_equal(reader.spec.to_official(label), ids)


def _label(folder, name):
    return folder / 'annotations' / 'training' / f'{name}.png'


@pytest.mark.parametrize('damage, words', [
    (lambda f: _label(f, 'ADE_train_00000002').unlink(),
     'ADE_train_00000002.jpg: image without label'),
    (lambda f: (f / 'images' / 'validation' / 'ADE_val_00000001.jpg').unlink(),
     'ADE_val_00000001.png: label without image'),
    (lambda f: shutil.rmtree(f / 'annotations' / 'validation'), 'validation: no such folder'),
    (lambda f: shutil.rmtree(f / 'annotations'), 'no folder images and annotations'),
    (lambda f: save(_label(f, 'ADE_train_00000002'), np.full([33, 48], 151, np.uint8)),
     'ADE_train_00000002.png: data set ade20k: official id 151 is out of range'),
    (lambda f: save(_label(f, 'ADE_train_00000002'), np.zeros([33, 48, 3], np.uint8)),
     'ADE_train_00000002.png: a colour PNG'),
    (lambda f: save(_label(f, 'ADE_train_00000002'), np.zeros([4, 5], np.uint8)),
     'ADE_train_00000002.png: label is 5x4'),
])
def test_bad_input_is_named_in_one_line(folder, damage, words):
    damage(folder)
    with pytest.raises(UserError) as error:
        make_reader('ade20k', folder).load('ADE_train_00000002')
    assert words in str(error.value) and str(pathlib.Path(folder)) in str(error.value)


def test_options_and_ids_are_checked(folder):
    with pytest.raises(UserError, match='numbering is 100, expected 150'):
        make_reader('ade20k', folder, numbering=100)
    with pytest.raises(UserError, match='no image "x"'):
        make_reader('ade20k', folder).load('x')


def test_suffixes_in_capitals_and_hidden_files(folder):
    before = make_reader('ade20k', folder)
    name = 'ADE_train_00000002'
    image = folder / 'images' / 'training' / f'{name}.jpg'
    image.rename(image.with_suffix('.JPG'))
    _label(folder, name).rename(_label(folder, name).with_suffix('.PNG'))
    (image.parent / '._ADE_train_00000001.jpg').write_bytes(b'of macOS')
    reader = make_reader('ade20k', folder)
    assert reader.splits() == before.splits()
    assert reader.files(name) == (image.with_suffix('.JPG'),
                                  _label(folder, name).with_suffix('.PNG'))
    assert reader.load(name)[1].shape == (33, 48)


@pytest.mark.parametrize('value', ['false', 0, None])
def test_a_switch_is_true_or_false(folder, value):
    with pytest.raises(UserError, match='test_is_val is .*, expected true or false'):
        make_reader('ade20k', folder, test_is_val=value)
