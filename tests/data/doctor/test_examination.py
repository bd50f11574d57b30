"""The doctor: every planted mistake is found and named, and none where there is none."""
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from data_layouts import draw_pair, write_folder
from examinations import CLASSES, examined, kinds, messages, save
from official_layouts_ade_cmp_segtrack import write_ade20k, write_cmp
from official_layouts_voc_cityscapes import write_cityscapes, write_voc
from tf_advseg.core import files
from tf_advseg.core.errors import UserError
from tf_advseg.data.doctor import examination
from tf_advseg.data.doctor import leaks
from tf_advseg.data.doctor.edge_fit import LEAST_SURPLUS
from tf_advseg.data.doctor.findings import SEVERITIES, SUSPECT, TITLES
from tf_advseg.data.records import record_workers
from tf_advseg.data.spec import IGNORE_LABEL

NAMES = [f'{split}/p{i}' for i, split in enumerate(['train'] * 6 + ['val'] * 4 + ['test'] * 4)]


@pytest.fixture
def folder(tmp_path):
    """Fourteen sound pairs in three splits."""
    return write_folder(tmp_path / 'own', NAMES)


def test_sound_data_have_no_errors_or_warnings(folder):
    diagnosis = examined(folder)
    assert kinds(diagnosis) == {'small_split': 3}
    assert len(diagnosis.facts) == 14 and not diagnosis.count('error')
    pixels, images, ignored = diagnosis.class_shares()['train']
    labels = np.concatenate([draw_pair(i)[1].ravel() for i in range(6)])
    np.testing.assert_allclose(pixels, np.bincount(labels, minlength=256)[:4]
                               / np.sum(labels != 255))
    assert list(images) == [6] * 4
    assert ignored == pytest.approx(np.mean(labels == 255))


def test_every_broken_file_is_found_not_only_the_first(folder):
    image, label = draw_pair(0)
    (folder / 'images/train/p1.png').write_bytes(b'no image')
    whole = (folder / 'labels/train/p2.png').read_bytes()
    (folder / 'labels/train/p2.png').write_bytes(whole[:-40])
    save(folder, 'train/p3', label=np.stack([draw_pair(3)[1]] * 3, axis=-1))
    save(folder, 'val/p6', label=np.full_like(draw_pair(6)[1], 7))
    save(folder, 'val/p7', label=draw_pair(7)[1].T)
    diagnosis = examined(folder)
    assert kinds(diagnosis, 'error') == dict.fromkeys(
        ('unreadable_image', 'unreadable_label', 'colour_label', 'label_ids', 'sizes_differ'), 1)
    for kind, file in (('unreadable_image', 'images/train/p1.png'),
                       ('unreadable_label', 'labels/train/p2.png'),
                       ('colour_label', 'labels/train/p3.png'), ('label_ids', 'labels/val/p6.png'),
                       ('sizes_differ', 'labels/val/p7.png')):
        found = next(f for f in diagnosis.findings if f.kind == kind)
        assert file in found.message and any(file in name for name in found.files)
        assert found.advice and '\n' not in found.message
        assert found.advice.split()[0] not in found.message  # said once
    # Each split tells of all its images, and of those that do not count; so does the table.
    assert sorted(messages(diagnosis, 'small_split'))[1:] == [
        'split "train" has 6 images, of which 3 could not be counted: scores on it say little',
        'split "val" has 4 images, of which 2 could not be counted: scores on it say little']
    assert diagnosis.counted() == 9
    assert all(diagnosis.class_shares()['val'][1] <= 2)


def test_a_folder_its_reader_refuses_is_examined_all_the_same(folder):
    (folder / 'labels/train/p0.png').unlink()
    (folder / 'labels/train/p1.png').unlink()
    (folder / 'images/val/p6.png').unlink()
    shutil.copy(folder / 'images/val/p7.png', folder / 'images/val/p7.jpg')
    (folder / 'images/test/p11.png').write_bytes(b'')
    diagnosis = examined(folder)
    assert kinds(diagnosis, 'error') == {'lone_image': 2, 'lone_label': 1, 'twin': 1,
                                         'unreadable_image': 1}
    assert kinds(diagnosis, 'note')['refused'] == 1
    assert len(diagnosis.facts) == 11 and set(diagnosis.splits) == {'train', 'val', 'test'}


def test_names_that_are_not_utf8_are_found(folder):
    for part in ('images', 'labels'):
        path = folder / part / 'train' / 'p1.png'
        path.rename(path.with_name(os.fsdecode(b'caf\xe9.png')))
    diagnosis = examined(folder)
    assert kinds(diagnosis, 'error') == {'misnamed': 2} and len(diagnosis.facts) == 13
    assert json.loads(files.to_json(diagnosis.to_json()))['counts']['error'] == 2


def test_lists_that_name_what_is_not_there(folder):
    (folder / 'splits').mkdir()
    (folder / 'splits/train.txt').write_text('train/p0\ntrain/p1\ntrain/gone\n')
    (folder / 'splits/val.txt').write_text('val/p6\nval/nowhere\n')
    diagnosis = examined(folder)
    assert kinds(diagnosis, 'error') == {'unlisted': 2}
    assert diagnosis.splits == {'train': ['train/p0', 'train/p1'], 'val': ['val/p6']}


def test_an_incomplete_published_data_set(mini_stanford):
    first = mini_stanford / 'labels' / '0000001.regions.txt'
    first.unlink()
    (mini_stanford / 'labels' / '0000003.regions.txt').write_text('0 1\n2\n')
    diagnosis = examined(mini_stanford, {'split': 'load'}, 'stanford_background')
    assert kinds(diagnosis, 'error') == {'lone_image': 1, 'unreadable_label': 1}
    assert str(first) in messages(diagnosis, 'lone_image')[0]
    assert len(diagnosis.facts) == 5 and diagnosis.spec.class_names[0] == 'sky'


def test_whole_pairs_whose_split_does_not_fit_are_one_error(mini_stanford):
    diagnosis = examined(mini_stanford, {'split': 'load'}, 'stanford_background')
    assert kinds(diagnosis, 'error') == {'refused': 1}
    assert '400/172/143' in messages(diagnosis, 'refused')[0] and len(diagnosis.facts) == 6


def test_copies_across_splits_are_leaks_by_content(folder):
    image, label = draw_pair(0)
    save(folder, 'test/other', image, label)                    # train/p0, under another name
    save(folder, 'train/again', *draw_pair(1))                  # train/p1: within a split
    diagnosis = examined(folder)
    leak, = [f for f in diagnosis.findings if f.kind == 'leak']
    assert leak.severity == 'warning' and set(leak.images) == {'train/p0', 'test/other'}
    assert leak.message.endswith('have the same pixels, and the same label')
    assert '"train/p0" (train)' in leak.message and '"test/other" (test)' in leak.message
    copy, = [f for f in diagnosis.findings if f.kind == 'duplicate']
    assert copy.severity == 'note' and set(copy.images) == {'train/p1', 'train/again'}
    save(folder, 'train/again', label=np.where(draw_pair(1)[1] == 2, 1, draw_pair(1)[1]))
    copy, = [f for f in examined(folder).findings if f.kind == 'duplicate']
    label, other = draw_pair(1)[1], np.where(draw_pair(1)[1] == 2, 1, draw_pair(1)[1])
    share = 100 * np.mean((label == other)[label != IGNORE_LABEL])
    assert copy.severity == 'warning'
    assert f'but different labels (agree on {share:.1f} % of the pixels)' in copy.message


def smooth(number, side=(60, 80)):
    """An image that survives compression: large patches of colour."""
    random = np.random.default_rng(number)
    patches = Image.fromarray(random.integers(0, 256, [5, 6, 3]).astype(np.uint8))
    return np.asarray(patches.resize(side[::-1], Image.BICUBIC))


@pytest.mark.parametrize('change', ['jpeg', 'scaled', 'mirrored', 'brighter'])
def test_near_copies_are_found_and_others_are_not(tmp_path, change):
    folder = tmp_path / 'own'
    names = [f'train/p{i}' for i in range(12)] + [f'val/p{i}' for i in range(12, 24)]
    label = np.kron(np.arange(4).reshape(2, 2), np.ones([30, 40])).astype(np.uint8)
    for number, name in enumerate(names):
        for kind in ('images', 'labels'):
            (folder / kind / name).parent.mkdir(parents=True, exist_ok=True)
        save(folder, name, smooth(number), label)
    assert not set(kinds(examined(folder))) & {'leak', 'near_leak', 'duplicate', 'near_duplicate'}
    image = smooth(3)
    if change == 'jpeg':
        Image.fromarray(image).save(folder / 'images/val/copy.jpg', quality=40)
    elif change == 'brighter':
        save(folder, 'val/copy', np.clip(image.astype(int) + 4, 0, 255).astype(np.uint8))
    else:
        save(folder, 'val/copy', image[:, ::-1] if change == 'mirrored' else
             np.asarray(Image.fromarray(image).resize((120, 90))))
    save(folder, 'val/copy', label=label if change != 'scaled' else
         np.asarray(Image.fromarray(label).resize((120, 90), Image.NEAREST)))
    leak, = [f for f in examined(folder).findings if f.kind == 'near_leak']
    assert leak.severity == 'warning' and set(leak.images) == {'train/p3', 'val/copy'}
    assert '"train/p3" (train), "val/copy" (val) look alike' in leak.message
    agree = {'jpeg': '100.0 %', 'brighter': '100.0 %', 'mirrored': '0.0 %'}.get(change)
    assert (f'their labels agree on {agree} of the pixels' in leak.message) == (agree is not None)


def test_shared_ids_are_leaks_in_one_s_own_lists_and_notes_in_documented_splits(folder):
    (folder / 'splits').mkdir()
    for name, ids in (('train', NAMES[:6]), ('val', NAMES[5:10]), ('test', NAMES[9:]),
                      ('trainval', NAMES[:10])):
        (folder / f'splits/{name}.txt').write_text('\n'.join(ids))
    found = {f.message: f for f in examined(folder).findings if f.kind in ('leak', 'overlap')}
    assert sorted((f.severity, f.kind) for f in found.values()) == [
        ('error', 'leak'), ('note', 'overlap'), ('warning', 'overlap')]
    assert any('"train" and "val" share 1 image' in message for message in found)
    splits = {'train': ['a', 'b'], 'val': ['b']}
    assert [f.severity for f in leaks.overlaps(splits, documented=True)] == ['note']


def test_suspects_are_shown(folder):
    image, label = draw_pair(0)
    save(folder, 'train/p0', np.full_like(image, 90))
    save(folder, 'train/p4', label=np.full_like(draw_pair(4)[1], 2))
    save(folder, 'val/p6', label=np.full_like(draw_pair(6)[1], 255))
    mostly = np.full_like(draw_pair(7)[1], 255)
    mostly[0, :2] = 0, 1
    save(folder, 'val/p7', label=mostly)
    save(folder, 'test/p11', draw_pair(11)[0][:20, :20], draw_pair(11)[1][:20, :20])
    turned = Image.fromarray(draw_pair(12)[0])
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / 'images/test/p12.png', exif=exif)
    diagnosis = examined(folder)
    for kind, image_id in (('constant_image', 'train/p0'), ('one_class', 'train/p4'),
                           ('all_ignored', 'val/p6'), ('mostly_ignored', 'val/p7'),
                           ('small_image', 'test/p11'), ('rotated', 'test/p12')):
        found, = [f for f in diagnosis.findings if f.kind == kind]
        assert found.images == (image_id,) and kind in SUSPECT
    assert not diagnosis.count('error')


def test_classes_and_balance(tmp_path):
    folder, random = tmp_path / 'own', np.random.default_rng(0)
    for split, classes in (('train', (0, 1)), ('val', (0, 1, 2))):
        for number in range(12):
            for kind in ('images', 'labels'):
                (folder / kind / split).mkdir(parents=True, exist_ok=True)
            label = np.zeros([40, 40], np.uint8)
            for c in classes[1:]:
                label[:random.integers(8, 30), c * 12:c * 12 + 10] = c
            image = random.integers(0, 60, [40, 40, 3]).astype(np.uint8) + label[..., None] * 90
            save(folder, f'{split}/p{number}', image, label)
    diagnosis = examined(folder)
    assert messages(diagnosis, 'class_unused') == ['no image shows class "class_3"']
    assert messages(diagnosis, 'class_missing') == ['split "train" does not show class "class_2"']
    assert len(messages(diagnosis, 'unbalanced')) == 1
    assert examined(folder, {'class_names': ['a', 'b', 'c']}).count('warning') == 1


def test_many_classes_that_are_not_there_are_one_finding(folder):
    message, = messages(examined(folder, {'num_classes': 20}), 'class_unused')
    assert message.startswith('no image shows 16 classes: "class_4", "class_5"')
    assert message.endswith('"class_15" and 4 more')


def test_masks_of_0_and_255_are_explained(tmp_path):
    folder = write_folder(tmp_path / 'own', NAMES)
    for name in NAMES:
        label = np.asarray(Image.open(folder / 'labels' / f'{name}.png'))
        save(folder, name, label=np.where(label > 1, 255, 0).astype(np.uint8))
    finding, = [f for f in examined(folder, {'num_classes': 1}).findings
                if f.kind == 'single_class']
    assert finding.severity == 'error' and '0 and 255' in finding.advice


def test_voc_s_documented_unions_are_notes(tmp_path):
    diagnosis = examined(write_voc(tmp_path / 'voc'), {'test_is_val': True}, 'pascal_voc_2012')
    assert kinds(diagnosis, 'note')['overlap'] >= 2 and 'leak' not in kinds(diagnosis)


def test_a_broken_voc_is_told_of_list_by_list(tmp_path):
    folder = write_voc(tmp_path / 'voc')
    whole = examined(folder, {}, 'pascal_voc_2012')
    assert not whole.count('error')
    gone = [next(folder.rglob(f'{whole.splits[split][0]}.png')) for split in ('train', 'val')]
    for path in gone:
        path.unlink()
    diagnosis = examined(folder, {}, 'pascal_voc_2012')
    named = ' '.join(messages(diagnosis, 'unlisted'))
    assert all(path.stem in named for path in gone)
    assert len(diagnosis.facts) == len(whole.facts) - 2
    assert kinds(diagnosis, 'note')['lone_image'] == 1  # VOC has more images than labels


@pytest.mark.parametrize('name', ['cityscapes', 'ade20k', 'cmp_facades'])
def test_other_published_layouts_without_some_files(tmp_path, name):
    folder = {'cityscapes': write_cityscapes, 'ade20k': write_ade20k,
              'cmp_facades': write_cmp}[name](tmp_path / name)
    before = examined(folder, {}, name)
    images = sorted(p for p in folder.rglob('*') if 'test' not in p.parts and p.name.endswith(
        '_leftImg8bit.png' if name == 'cityscapes' else '.jpg'))
    images[0].unlink()
    images[-1].write_bytes(b'')
    diagnosis = examined(folder, {}, name)
    assert kinds(diagnosis, 'error')['lone_label'] == 1
    assert kinds(diagnosis, 'error')['unreadable_image'] == 1
    assert len(diagnosis.facts) == len(before.facts) - 1


def test_children_find_what_one_process_finds(folder, monkeypatch):
    (folder / 'images/train/p1.png').write_bytes(b'no image')
    alone = examination.examine_source('folder', folder, CLASSES, show=False, workers=1)
    monkeypatch.setattr(record_workers, 'WORTH_WHILE', 1)
    together = examination.examine_source('folder', folder, CLASSES, show=False, workers=2)
    assert together.to_json() == alone.to_json()


def test_a_child_that_dies_promises_nothing(folder, monkeypatch):
    monkeypatch.setattr(record_workers, 'WORTH_WHILE', 1)
    monkeypatch.setattr(record_workers, '_CHILD', 'import os; os.kill(os.getpid(), 9)')
    with pytest.raises(UserError, match='has ended .signal 9.*start it again') as caught:
        examination.examine_source('folder', folder, CLASSES, show=False, workers=2)
    assert 'where it stopped' not in str(caught.value)


def test_findings_are_data(folder):
    (folder / 'images/train/p1.png').write_bytes(b'no image')
    content = json.loads(files.to_json(examined(folder).to_json()))
    assert content['splits'] == {'train': 6, 'val': 4, 'test': 4}
    assert content['counts']['error'] == 1
    first = content['findings'][0]
    assert first['severity'] in SEVERITIES and first['kind'] in TITLES
    assert first['files'][0].endswith('images/train/p1.png')


def test_what_cannot_be_examined_is_told(tmp_path):
    with pytest.raises(UserError, match='no such folder'):
        examined(tmp_path / 'nowhere')
    with pytest.raises(UserError, match='images'):
        examined(tmp_path)
    with pytest.raises(UserError, match='JPEGImages'):
        examined(tmp_path, {}, 'pascal_voc_2012')
    diagnosis = examined(tmp_path, {}, 'segtrack_v2')
    assert kinds(diagnosis) == {'refused': 1} and diagnosis.reader is None


def test_an_official_data_set_taken_for_a_folder_is_one_finding(mini_stanford, tmp_path):
    for source in (mini_stanford, write_voc(tmp_path / 'voc')):
        diagnosis = examination.examine_source(None, source, show=False)
        finding, = diagnosis.findings
        assert (finding.severity, finding.kind) == ('error', 'assumed')
        name = 'stanford_background' if source == mini_stanford else 'pascal_voc_2012'
        assert finding.advice == f'--dataset={name}' and f'looks like {name}' in finding.message
    assert kinds(examined(mini_stanford), 'error')['lone_image'] == 6  # as the user said


def test_a_folder_without_any_label_is_one_finding(folder):
    for path in (folder / 'labels').rglob('*.png'):
        path.unlink()
    finding, = examination.examine_source(None, folder, show=False).findings
    assert 'none of its 14 images has a label' in finding.message
    assert finding.advice.startswith('add the labels; an official data set')


def test_severities_of_labels_that_do_not_fit_are_told_apart():
    assert TITLES['edges'] != TITLES['edges_weak']
    assert 'below 0 ' in TITLES['edges'] and f'{LEAST_SURPLUS:g} ' in TITLES['edges_weak']
