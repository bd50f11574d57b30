"""SegTrack-v2: objects become classes, masks become labels, sequences become splits."""
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from official_layouts_ade_cmp_segtrack import save, write_segtrack
from tf_advseg.core.errors import UserError
from tf_advseg.data import splits as splits_lib
from tf_advseg.data.readers import make_reader, segtrack_v2
from tf_advseg.data.records.record_set import RecordSet, write_records


@pytest.fixture
def folder(tmp_path):
    return write_segtrack(tmp_path / 'SegTrackv2')


def name_of(reader, label):
    return [reader.spec.class_names[i] for i in np.unique(label)]


def test_fourteen_sequences_of_24_objects_give_16_classes():
    assert len(segtrack_v2.OBJECTS) == 14
    assert sum(len(names) for names in segtrack_v2.OBJECTS.values()) == 24
    assert segtrack_v2.SPEC.num_classes == 16
    assert segtrack_v2.SPEC.class_names == (
        'background', 'bird', 'rider', 'bike', 'deer', 'cheetah', 'car', 'frog', 'girl',
        'hummingbird', 'monkey', 'dog', 'parachute', 'penguin', 'soldier', 'worm')
    # The published folders GroundTruth/<sequence>/1, 2, ...: which object each holds.
    assert segtrack_v2.OBJECTS == {
        'bird_of_paradise': ('bird',), 'birdfall': ('bird',), 'bmx': ('rider', 'bike'),
        'cheetah': ('deer', 'cheetah'), 'drift': ('car', 'car'), 'frog': ('frog',),
        'girl': ('girl',), 'hummingbird': ('hummingbird', 'hummingbird'), 'monkey': ('monkey',),
        'monkeydog': ('monkey', 'dog'), 'parachute': ('parachute',),
        'penguin': ('penguin',) * 6, 'soldier': ('soldier',), 'worm': ('worm',)}


def test_masks_are_cut_at_half_and_the_whiter_one_wins(folder):
    reader = make_reader('segtrack_v2', folder.parent)
    _, label = reader.load('bmx/bmx_7')
    rider, bike = (reader.spec.class_names.index(n) for n in ('rider', 'bike'))
    # Rows 1..6 are the first object's, its faint row 0 is not; rows 5 and 6 both claim.
    assert label[:, 0].tolist()[:12] == [0, *[rider] * 6, *[bike] * 5]
    assert (label[12:] == 0).all() and label.dtype == np.uint8
    # The second mask is the whiter one here.
    path = folder / 'GroundTruth' / 'bmx' / '1' / 'bmx_7.png'
    save(path, np.where(np.array(Image.open(path)) > 0, 150, 0).astype(np.uint8))
    label = reader.load('bmx/bmx_7')[1]
    assert label[:, 0].tolist()[:12] == [*[rider] * 6, *[bike] * 6]


def test_objects_of_one_name_are_one_class(folder):
    reader = make_reader('segtrack_v2', folder)
    label = reader.load('penguin/penguin_7')[1]
    assert name_of(reader, label) == ['background', 'penguin']
    assert (label[1:32, 0] > 0).all() and (label[32:] == 0).all()
    assert len(reader.files('penguin/penguin_7')) == 7
    assert name_of(reader, reader.load('frog/frog_9')[1]) == ['background', 'frog']


def test_frames_are_cut_in_the_order_of_time(folder):
    parts = make_reader('segtrack_v2', folder).splits()
    frames = [f'frog/frog_{i}' for i in (7, 8, 9, 10, 11)]
    found = {name: [i for i in ids if i.startswith('frog')] for name, ids in parts.items()}
    assert found == {'train': frames[:3], 'val': frames[3:4], 'test': frames[4:]}
    assert {name: len(ids) for name, ids in parts.items()} == {'train': 9, 'val': 3, 'test': 3}


def test_lists_of_the_data_set_say_which_frames_count(folder):
    (folder / 'ImageSets').mkdir()
    (folder / 'ImageSets' / 'frog.txt').write_text('frog/\r\nfrog_9\r\nfrog_7\r\nfrog_8\r\n')
    (folder / 'ImageSets' / 'all.txt').write_text('*frog\n*bmx\n')
    (folder / 'GroundTruth' / 'frog' / 'frog_10.png').unlink()
    reader = make_reader('segtrack_v2', folder)
    parts = reader.splits()
    assert [i for ids in parts.values() for i in ids if i.startswith('frog')] == [
        'frog/frog_9', 'frog/frog_7', 'frog/frog_8']
    with pytest.raises(UserError, match='no frame "frog/frog_11"'):
        reader.load('frog/frog_11')
    (folder / 'ImageSets' / 'frog.txt').write_text('frog/\nfrog_10\n')
    with pytest.raises(UserError, match='GroundTruth/frog: frame frog_10 is missing'):
        make_reader('segtrack_v2', folder)
    everything = [f'frog_{i}' for i in (7, 8, 9, 11)]
    for header in ('', '*frog\n', '\ufefffrog/\n', '\ufeff'):  # a list may lack the first line
        (folder / 'ImageSets' / 'frog.txt').write_text(header + '\n'.join(everything), 'utf-8')
        parts = make_reader('segtrack_v2', folder).splits()
        assert [i for ids in parts.values() for i in ids if i.startswith('frog')] == [
            f'frog/{frame}' for frame in everything]
    (folder / 'ImageSets' / 'frog.txt').write_text('frog/\n')
    with pytest.raises(UserError, match='frog.txt: lists no frame'):
        make_reader('segtrack_v2', folder)


def test_random_frames_depend_on_the_seed_and_fill_the_same_shares(folder):
    def splits(seed):
        return make_reader('segtrack_v2', folder, split='random', seed=seed,
                           fractions={'train': 0.8, 'val': 0.2}).splits()
    assert splits(0) == splits(0)
    assert len({str(splits(seed)) for seed in range(5)}) == 5
    parts = splits(1)
    assert {name: len(ids) for name, ids in parts.items()} == {'train': 12, 'val': 3}
    assert sorted(i.split('/')[0] for i in parts['val']) == ['bmx', 'frog', 'penguin']
    assert not set(parts['train']) & set(parts['val'])


def test_a_split_file_of_one_s_own_and_records(folder, tmp_path):
    parts = {'train': ['bmx/bmx_7', 'penguin/penguin_8'], 'val': ['frog/frog_10']}
    splits_lib.write_split(tmp_path / 'mine.json', parts)
    reader = make_reader('segtrack_v2', folder, split=str(tmp_path / 'mine.json'))
    records = RecordSet(write_records(reader, None, tmp_path / 'records', progress=False))
    assert records.splits == parts
    for image_id in records.ids:
        image, label = reader.load(image_id)
        np.testing.assert_array_equal(records.load(image_id)[0], image)  # BMP and PNG alike
        np.testing.assert_array_equal(records.load(image_id)[1], label)
    with pytest.raises(UserError, match='Did you mean "random"'):
        make_reader('segtrack_v2', folder, split='randm').splits()


def test_real_fragment_in_the_official_layout(shared, tmp_path):
    with tarfile.open(shared / 'data' / 'format_samples.tar.xz') as tar:
        members = [m for m in tar.getmembers() if '/segtrack_fragment/' in m.name]
        tar.extractall(tmp_path, members, filter='data')
    fragment = tmp_path / 'format_samples' / 'segtrack_fragment'
    official = tmp_path / 'SegTrackv2'
    for part in ('train', 'test'):
        for path in sorted((fragment / part / 'x').iterdir()):
            mask = np.array(Image.open(fragment / part / 'y' / path.name))
            target = official / 'JPEGImages' / 'bmx' / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
            # The fragment has the bicycle alone, which is the official second object.
            save(official / 'GroundTruth' / 'bmx' / '1' / path.name, np.zeros_like(mask))
            save(official / 'GroundTruth' / 'bmx' / '2' / path.name, mask)
    reader = make_reader('segtrack_v2', official)
    parts = reader.splits()
    assert sum(len(ids) for ids in parts.values()) == 36
    assert parts['train'][0] == 'bmx/bmx_06668' and parts['test'][-1] == 'bmx/bmx_06703'
    image, label = reader.load('bmx/bmx_06671')
    mask = np.array(Image.open(fragment / 'train' / 'y' / 'bmx_06671.png'))
    assert name_of(reader, label) == ['background', 'bike']
    np.testing.assert_array_equal(label > 0, mask.max(axis=-1) >= 128)
    assert 0 < ((mask > 0) & (mask < 255)).any(axis=-1).sum()  # it is antialiased
    assert image.shape == (*label.shape, 3) == (360, 640, 3)


@pytest.mark.parametrize('damage, words', [
    (lambda f: shutil.rmtree(f / 'GroundTruth' / 'bmx' / '2'),
     'GroundTruth/bmx/2: no such folder; expected the masks of object 2 of 2'),
    (lambda f: (f / 'GroundTruth' / 'frog' / 'frog_9.png').unlink(),
     'GroundTruth/frog: frame frog_9 is missing'),
    (lambda f: (f / 'JPEGImages' / 'bmx' / 'bmx_9.png').unlink(),
     'JPEGImages/bmx: frame bmx_9 is missing'),
    (lambda f: (f / 'JPEGImages' / 'bmx').rename(f / 'JPEGImages' / 'bmxx'),
     'JPEGImages/bmxx: not a sequence of SegTrack-v2'),
    (lambda f: save(f / 'GroundTruth' / 'bmx' / '2' / 'bmx_7.png', np.zeros([4, 5], np.uint8)),
     'bmx/2/bmx_7.png: mask is 5x4'),
    (lambda f: save(f / 'GroundTruth' / 'bmx' / '1' / 'bmx_7.png', np.eye(40, 56, dtype=np.uint8)),
     'bmx/1/bmx_7.png: the highest value is 1, expected a mask'),
    (lambda f: save(f / 'JPEGImages' / 'bmx' / 'bmx_7.bmp', np.zeros([4, 5, 3], np.uint8)),
     'bmx_7.png: has the same name as bmx_7.bmp'),
    (lambda f: shutil.rmtree(f / 'GroundTruth'), 'no folder JPEGImages and GroundTruth'),
])
def test_bad_input_is_named_in_one_line(folder, damage, words):
    damage(folder)
    with pytest.raises(UserError) as error:
        make_reader('segtrack_v2', folder).load('bmx/bmx_7')
    assert words in str(error.value) and str(folder) in str(error.value)


def test_too_few_frames_for_the_splits_are_named(tmp_path):
    folder = write_segtrack(tmp_path / 'SegTrackv2', frames=2)
    with pytest.raises(UserError, match='sequence bmx: 2 images are too few'):
        make_reader('segtrack_v2', folder).splits()
