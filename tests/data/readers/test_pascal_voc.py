"""PASCAL VOC 2012 with SBD in both its forms: miniatures of the official layout, real files."""
import logging
import os
import pathlib
import pickle
import shutil

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from official_layouts_voc_cityscapes import (
    SBD_TRAIN, SBD_VAL, TRAIN, VAL, sbd_label, unpack_samples, voc_pair, write_aug, write_sbd,
    write_voc)
from tf_advseg.core.errors import UserError
from tf_advseg.data.readers import make_reader, pascal_voc
from tf_advseg.data.records.record_set import RecordSet, write_records

MORE = tuple(i for i in SBD_TRAIN + SBD_VAL if i not in TRAIN + VAL)


@pytest.fixture
def voc(tmp_path):
    return write_voc(tmp_path / 'VOCdevkit' / 'VOC2012')


@pytest.fixture
def sbd(tmp_path):
    return write_sbd(tmp_path / 'benchmark_RELEASE' / 'dataset')


@pytest.fixture
def aug(tmp_path):
    return write_aug(tmp_path / 'SegmentationClassAug')


def test_official_lists_and_palette_labels(voc):
    for source in (voc, voc.parent, voc.parent.parent):
        reader = make_reader('pascal_voc_2012', source)
        assert reader.splits() == {'train': list(TRAIN), 'val': list(VAL),
                                   'trainval': list(TRAIN + VAL)}
    for image_id in TRAIN + VAL:
        image, label = reader.load(image_id)
        np.testing.assert_array_equal(label, voc_pair(image_id)[1])
        assert (label == 255).sum() == 3 and image.shape == (*label.shape, 3)
    assert reader.encoded_image(TRAIN[0]) == (voc / f'JPEGImages/{TRAIN[0]}.jpg').read_bytes()


def test_2012_is_found_beside_another_year(voc):
    write_voc(voc.parent / 'VOC2007')
    (voc.parent / 'VOC2007/ImageSets/Segmentation/val.txt').write_text(VAL[0] + '\n')
    assert make_reader('pascal_voc_2012', voc.parent).splits()['val'] == list(VAL)


def test_val_is_test_only_if_asked(voc):
    assert 'test' not in make_reader('pascal_voc_2012', voc).splits()
    assert make_reader('pascal_voc_2012', voc, test_is_val=True).splits()['test'] == list(VAL)


@pytest.mark.parametrize('place', ['dataset', 'benchmark_RELEASE', 'above'])
def test_sbd_adds_train_aug_and_a_val_without_borders(voc, sbd, place):
    folder = {'dataset': sbd, 'benchmark_RELEASE': sbd.parent, 'above': sbd.parent.parent}[place]
    reader = make_reader('pascal_voc_2012', voc, sbd=folder)
    splits = reader.splits()
    assert splits['train_aug'] == list(TRAIN + MORE) and not set(splits['train_aug']) & set(VAL)
    assert splits['val_sbd'] == ['sbd/2008_000011']
    for image_id in splits['train_aug']:
        expected = voc_pair(image_id)[1] if image_id in TRAIN else sbd_label(image_id)
        np.testing.assert_array_equal(reader.load(image_id)[1], expected)
    # Records are written by processes that get the reader through a pipe.
    image, label = pickle.loads(pickle.dumps(reader)).load('sbd/2008_000011')
    np.testing.assert_array_equal(image, reader.load('2008_000011')[0])
    np.testing.assert_array_equal(label, sbd_label('2008_000011'))
    assert (reader.load('2008_000011')[1] != label).any() and not (label == 255).any()


def test_both_forms_of_sbd_give_the_same_train_aug(voc, sbd, aug):
    by_mat = make_reader('pascal_voc_2012', voc, sbd=sbd)
    by_png = make_reader('pascal_voc_2012', voc, aug=aug)
    ids = by_mat.splits()['train_aug']
    assert sorted(by_png.splits()['train_aug']) == sorted(ids)
    assert 'val_sbd' not in by_png.splits()
    for image_id in ids:
        np.testing.assert_array_equal(by_mat.load(image_id)[1], by_png.load(image_id)[1])


@pytest.mark.parametrize('place', ['inside', 'beside', 'voc'])
def test_a_list_of_paths_beside_the_aug_labels_is_followed(voc, aug, place):
    folder = {'inside': aug, 'beside': aug.parent, 'voc': voc / 'ImageSets/Segmentation'}[place]
    lines = [f'/JPEGImages/{i}.jpg /SegmentationClassAug/{i}.png' for i in TRAIN + MORE[:1]]
    (folder / 'train_aug.txt').write_text('\n'.join(lines) + '\n')
    reader = make_reader('pascal_voc_2012', voc, aug=aug)
    assert reader.splits()['train_aug'] == list(TRAIN + MORE[:1])


def test_images_missing_in_voc_come_from_sbd(voc, sbd):
    (voc / f'JPEGImages/{MORE[0]}.jpg').unlink()
    reader = make_reader('pascal_voc_2012', voc, sbd=sbd)
    image, _ = reader.load(MORE[0])
    assert image.shape == voc_pair(MORE[0])[0].shape
    (sbd / f'img/{MORE[0]}.jpg').unlink()
    with pytest.raises(UserError, match=f'{MORE[0]}.jpg: no such image file, though the lists'):
        make_reader('pascal_voc_2012', voc, sbd=sbd)


def test_records_keep_both_labels_of_an_image(voc, sbd, tmp_path):
    reader = make_reader('pascal_voc_2012', voc, sbd=sbd)
    records = RecordSet(write_records(reader, None, tmp_path / 'records', progress=False))
    assert records.splits == reader.splits() and records.spec == reader.spec
    assert len(records) == len(TRAIN + VAL + MORE) + 1
    for image_id in ('2008_000011', 'sbd/2008_000011'):
        np.testing.assert_array_equal(records.load(image_id)[1], reader.load(image_id)[1])
    assert records.load_instances('2008_000011') is None


def _mat(content):
    return lambda voc, sbd: savemat(sbd / f'cls/{MORE[0]}.mat', content)


BROKEN = {
    'no folder': (lambda voc, sbd: shutil.rmtree(voc / 'SegmentationClass'),
                  'expected the official folder VOCdevkit/VOC2012'),
    'no list': (lambda voc, sbd: (voc / 'ImageSets/Segmentation/val.txt').unlink(),
                'val.txt: cannot be read (No such file'),
    'empty list': (lambda voc, sbd: (voc / 'ImageSets/Segmentation/val.txt').write_text('\n'),
                   'val.txt: empty list'),
    'twice': (lambda voc, sbd: (sbd / 'train.txt').write_text('2009_000021\n2009_000021\n'),
              'train.txt: lists "2009_000021" twice'),
    'no label': (lambda voc, sbd: (voc / f'SegmentationClass/{VAL[0]}.png').unlink(),
                 f'SegmentationClass/{VAL[0]}.png: no such label file'),
    'no mat': (lambda voc, sbd: (sbd / f'cls/{MORE[0]}.mat').unlink(),
               f'cls/{MORE[0]}.mat: no such label file'),
    'damaged mat': (lambda voc, sbd: (sbd / f'cls/{MORE[0]}.mat').write_bytes(b'MATLAB 5.0'),
                    f'cls/{MORE[0]}.mat: not a readable label of SBD'),
    'truncated mat': (lambda voc, sbd: (sbd / f'cls/{MORE[0]}.mat').write_bytes(
        (sbd / f'cls/{MORE[0]}.mat').read_bytes()[:-60]), 'not a readable label of SBD'),
    'instances for classes': (_mat({'GTinst': {'Segmentation': np.zeros([4, 4])}}),
                              'expected whole numbers [H, W] in GTcls.Segmentation'),
    'fractions': (_mat({'GTcls': {'Segmentation': np.full([40, 56], 0.5)}}),
                  'GTcls.Segmentation is float64 [40, 56]'),
    'out of range': (_mat({'GTcls': {'Segmentation': np.full([40, 56], 21, np.uint8)}}),
                     f'{MORE[0]}.mat: data set pascal_voc_2012: official id 21 is out of range; '
                     'expected 0 to 20, or 255'),
    'other size': (_mat({'GTcls': {'Segmentation': np.zeros([4, 5], np.uint8)}}),
                   f'{MORE[0]}.mat: label is 5x4, but its image'),
}


@pytest.mark.parametrize('damage, words', BROKEN.values(), ids=BROKEN.keys())
def test_bad_input_is_named_in_one_line(voc, sbd, damage, words):
    damage(voc, sbd)
    with pytest.raises(UserError) as error:
        make_reader('pascal_voc_2012', voc, sbd=sbd).load(MORE[0])
    assert words in str(error.value) and '\n' not in str(error.value)
    assert str(voc.parent.parent) in str(error.value)


def test_colours_instead_of_ids_are_refused(voc):
    path = voc / f'SegmentationClass/{VAL[0]}.png'
    Image.open(path).convert('RGB').save(path)
    with pytest.raises(UserError, match='a colour PNG where class ids are expected'):
        make_reader('pascal_voc_2012', voc).load(VAL[0])


def test_contradicting_options_and_leaks_are_refused(voc, sbd, aug, tmp_path):
    with pytest.raises(UserError, match='both sbd and aug are given'):
        make_reader('pascal_voc_2012', voc, sbd=sbd, aug=aug)
    (aug / 'train_aug.txt').write_text('\n'.join(TRAIN + VAL[:1]))
    with pytest.raises(UserError, match=f'lists "{VAL[0]}" to train on, which is in val'):
        make_reader('pascal_voc_2012', voc, aug=aug)
    empty = tmp_path / 'empty'
    empty.mkdir()
    with pytest.raises(UserError, match='empty: no label'):
        (aug / 'train_aug.txt').unlink()
        make_reader('pascal_voc_2012', voc, aug=empty)


def test_real_files(shared, tmp_path):
    folder = unpack_samples(shared, tmp_path, 'VOC2012')
    train = folder / 'ImageSets/Segmentation/train.txt'
    with pytest.raises(UserError, match='train.txt: lists "2007_000033", which is in val.txt too'):
        make_reader('pascal_voc_2012', folder)  # whoever took the sample listed all of it there
    train.write_text('2007_000032\n2007_000039\n')
    reader = make_reader('pascal_voc_2012', folder)
    splits = reader.splits()
    assert {name: len(ids) for name, ids in splits.items()} == {
        name: len((folder / f'ImageSets/Segmentation/{name}.txt').read_text().split())
        for name in ('train', 'val', 'trainval')}
    seen = set()
    for image_id in set(splits['train'] + splits['val']):
        image, label = reader.load(image_id)
        # The published colours of the palette PNG are those our specification has for the ids.
        colours = np.array(Image.open(folder / f'SegmentationClass/{image_id}.png').convert('RGB'))
        valid = label != 255
        np.testing.assert_array_equal(np.array(reader.spec.palette)[label[valid]], colours[valid])
        assert image.shape == colours.shape and (colours[~valid] == (224, 224, 192)).all()
        seen |= {reader.spec.class_names[i] for i in np.unique(label[valid])}
        assert (~valid).any()
    assert {'background', 'aeroplane', 'tvmonitor'} <= seen


def test_the_folder_given_is_taken_before_any_below_and_images_are_not_walked(
        voc, monkeypatch):
    write_voc(voc / 'old' / 'VOC2012')
    (voc / 'old/VOC2012/ImageSets/Segmentation/val.txt').write_text(VAL[0] + '\n')
    assert make_reader('pascal_voc_2012', voc).splits()['val'] == list(VAL)
    shutil.rmtree(voc / 'old')
    looked, real = [], os.scandir
    monkeypatch.setattr(os, 'scandir', lambda path: looked.append(
        pathlib.Path(path).name) or real(path))
    voc.rename(voc.parent / 'VOC2007')  # so that all of it is searched for VOC2012
    assert pascal_voc._find(voc.parent.parent).name == 'VOC2007'
    assert 'VOC2007' in looked and not {'JPEGImages', 'SegmentationClass'} & set(looked)


def test_a_list_to_train_on_that_holds_val_is_refused(voc):
    (voc / 'ImageSets/Segmentation/train.txt').write_text('\n'.join(TRAIN + VAL[1:]))
    with pytest.raises(UserError, match=f'train.txt: lists "{VAL[1]}", which is in val.txt too'):
        make_reader('pascal_voc_2012', voc)


def test_other_sizes_than_the_published_ones_are_warned_of(voc, monkeypatch, caplog):
    def warned():
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            make_reader('pascal_voc_2012', voc)
        return [record.getMessage() for record in caplog.records]
    assert [(f'{len(ids)} images in split "{name}", published with {size}' in text)
            for text, (name, ids, size) in zip(warned(), (
                ('train', TRAIN, 1464), ('val', VAL, 1449), ('trainval', TRAIN + VAL, 2913)))
            ] == [True] * 3
    monkeypatch.setattr(pascal_voc, 'PUBLISHED_SIZES', {
        'train': len(TRAIN), 'val': len(VAL), 'trainval': 9, 'train_aug': 10582})
    assert len(warned()) == 1 and 'published with 9' in warned()[0]
    assert 'scores do not compare' in warned()[0]


def test_suffixes_in_capitals_and_hidden_files(voc):
    (voc / f'JPEGImages/{VAL[0]}.jpg').rename(voc / f'JPEGImages/{VAL[0]}.JPG')
    (voc / f'SegmentationClass/{VAL[0]}.png').rename(voc / f'SegmentationClass/{VAL[0]}.PNG')
    (voc / f'JPEGImages/._{VAL[0]}.jpg').write_bytes(b'of macOS')
    reader = make_reader('pascal_voc_2012', voc)
    np.testing.assert_array_equal(reader.load(VAL[0])[1], voc_pair(VAL[0])[1])


@pytest.mark.parametrize('options, words', [
    ({'sbd': 2012}, '2012 is no path of a folder; expected the official folder benchmark_RELEASE'),
    ({'aug': 2012}, '2012 is no path of a folder; expected SegmentationClassAug'),
    ({'test_is_val': 'false'}, "test_is_val is 'false', expected true or false"),
    ({'test_is_val': 1}, 'test_is_val is 1, expected true or false')])
def test_options_of_another_kind_are_named_in_one_line(voc, options, words):
    with pytest.raises(UserError) as error:
        make_reader('pascal_voc_2012', voc, **options)
    assert words in str(error.value) and '\n' not in str(error.value)


def test_an_uncompressed_label_with_another_type_is_one_line(voc, sbd):
    path = sbd / f'cls/{MORE[0]}.mat'
    savemat(path, {'GTcls': {'Segmentation': sbd_label(MORE[0])}})
    content = bytearray(path.read_bytes())
    content[144] ^= 2  # the array's class, of which SciPy makes an UnboundLocalError
    path.write_bytes(content)
    with pytest.raises(UserError, match=f'{MORE[0]}.mat: not a readable label of SBD'):
        make_reader('pascal_voc_2012', voc, sbd=sbd).load(MORE[0])


@pytest.mark.parametrize('error', [UnboundLocalError('x'), MemoryError(), AssertionError('y')])
def test_whatever_scipy_raises_is_one_line(voc, sbd, monkeypatch, error):
    def loadmat(*_, **__):
        raise error
    monkeypatch.setattr('scipy.io.loadmat', loadmat)
    with pytest.raises(UserError, match=f'{MORE[0]}.mat: not a readable label of SBD'):
        make_reader('pascal_voc_2012', voc, sbd=sbd).load(MORE[0])
