"""The official layout of Stanford Background: real files, and bad ones."""
import gin
import numpy as np
import pytest
from PIL import Image

from tf_advseg.core import files
from tf_advseg.core.errors import UserError
from tf_advseg.data import split_files
from tf_advseg.data import splits as splits_lib
from tf_advseg.data.readers import make_reader
from tf_advseg.data.readers.stanford_background import DUPLICATES, StanfordBackgroundReader

MINI = {'train': 3, 'val': 2, 'test': 1}


def test_papers_split_of_the_real_data(stanford):
    reader = make_reader('stanford_background', stanford, seed=0)
    splits = reader.splits()
    assert [len(splits[n]) for n in ('train', 'val', 'test')] == [400, 172, 143]
    assert len({i for ids in splits.values() for i in ids}) == 715
    assert splits == make_reader('stanford_background', stanford, seed=0).splits()
    assert splits != make_reader('stanford_background', stanford, seed=1).splits()
    assert reader.spec.num_classes == 8 and reader.spec.class_names[0] == 'sky'


def test_the_list_of_the_package_is_what_seed_0_always_drew(stanford):
    ids = [path.stem for path in (stanford / 'images').glob('*.jpg')]
    sizes = {'train': 400, 'val': 172, 'test': 143}
    reader = make_reader('stanford_background', stanford)
    assert reader.splits() == splits_lib.make_split(ids, sizes, 0)
    assert reader.description == {'reader': 'stanford_background', 'options': {}}


def test_lucs_sizes_of_the_real_data(stanford):
    found = [make_reader('stanford_background', stanford, split='luc', fold=fold).splits()
             for fold in (0, 7)]
    assert [[len(ids) for ids in parts.values()] for parts in found] == [
        [501, 72, 142], [502, 71, 142]]
    assert found[0]['test'] == found[1]['test']


def test_the_same_scene_lies_in_two_parts_of_load_only_where_it_is_told(stanford):
    # Thumbnails that differ by less than 2 of 255; the next nearest differ by more than 16.
    paths = sorted((stanford / 'images').glob('*.jpg'))
    small = np.stack([np.array(Image.open(path).convert('L').resize((16, 16), Image.BOX), float)
                      for path in paths]).reshape(715, -1)
    squares = (small ** 2).sum(axis=1)
    distance = (squares[:, None] + squares - 2 * small @ small.T) / small.shape[1]
    found = {(paths[i].stem, paths[j].stem) for i, j in np.argwhere(distance < 4) if i < j}
    assert found == set(DUPLICATES) and not ((distance > 4) & (distance < 200)).any()
    equal = [pair for pair in DUPLICATES
             if len({(stanford / 'images' / f'{i}.jpg').read_bytes() for i in pair}) == 1]
    assert equal == list(DUPLICATES[:3])
    for split, folds, expected in (
            ('load', [None], {'6000068 (train) = 6000318 (val)', '6000117 (val) = 6000324 (train)',
                              '6000257 (test) = 6000348 (train)',
                              '1000875 (train) = 9000875 (test)',
                              '1001184 (train) = 9001184 (test)'}),
            ('luc', range(8), set())):
        for fold in folds:
            parts = make_reader('stanford_background', stanford, split=split, fold=fold).splits()
            part_of = {i: name for name, ids in parts.items() for i in ids}
            assert expected == {f'{a} ({part_of[a]}) = {b} ({part_of[b]})'
                                for a, b in found if part_of[a] != part_of[b]}
    text = ' '.join(StanfordBackgroundReader.__doc__.split())
    note = files.read_json(split_files.LISTS / 'stanford_background_load.json')['note']
    for a, b in DUPLICATES:
        if (a, b) != ('1000288', '9000288'):  # both in train
            assert f'{a} (' in text and f'= {b} (' in text and f'{a} = {b}' in note
    luc = files.read_json(split_files.LISTS / 'stanford_background_luc.json')
    assert [tuple(pair) for pair in luc['together']] == list(DUPLICATES)


def test_capitals_and_hidden_files(mini_stanford):
    image = mini_stanford / 'images' / '0000002.jpg'
    image.rename(image.with_suffix('.JPG'))
    (mini_stanford / 'images' / '._0000001.jpg').write_bytes(b'of macOS')
    (mini_stanford / 'labels' / '._0000001.regions.txt').write_bytes(b'of macOS')
    reader = make_reader('stanford_background', mini_stanford, sizes=MINI)
    assert reader.load('0000002')[0].shape == (48, 33, 3)
    assert sum(len(ids) for ids in reader.splits().values()) == 6


def test_a_split_file_of_one_s_own(mini_stanford, tmp_path):
    parts = {'train': ['0000000', '0000003'], 'val': ['0000001']}
    splits_lib.write_split(tmp_path / 'mine.json', parts)
    assert make_reader('stanford_background', mini_stanford,
                       split=str(tmp_path / 'mine.json')).splits() == parts


@pytest.mark.parametrize('options, words', [
    ({'sizes': MINI, 'split': 'luc'}, 'either sizes or split'),
    ({'split': 'luc', 'seed': 1}, 'leave out the seed'),
    ({'split': 'luk'}, 'Did you mean "luc"'),
    ({'split': 'luc'}, 'lists 715 images, but 715 of them are missing'),
])
def test_options_that_do_not_fit_are_refused(mini_stanford, options, words):
    with pytest.raises(UserError, match=words):
        make_reader('stanford_background', mini_stanford, **options).splits()


def test_real_images_and_labels(stanford):
    reader = make_reader('stanford_background', stanford)
    unknown = 0
    for image_id in reader.splits()['train'][:4]:
        image, label = reader.load(image_id)
        text = (stanford / 'labels' / f'{image_id}.regions.txt').read_text()
        official = np.array([[int(v) for v in row.split()] for row in text.splitlines()])
        assert image.dtype == label.dtype == np.uint8 and image.shape == (*label.shape, 3)
        np.testing.assert_array_equal(label, np.where(official < 0, 255, official))
        assert reader.encoded_image(image_id)[:2] == b'\xff\xd8'
        unknown += (official < 0).sum()
    assert unknown > 0


def test_every_negative_label_is_ignored(mini_stanford):
    reader = make_reader('stanford_background', mini_stanford, sizes=MINI)
    for number in range(6):
        _, label = reader.load(f'{number:07d}')
        assert (label[0, :3] == 255).all() and (label != 255).sum() == label.size - 3


def test_incomplete_data_needs_sizes_of_its_own(mini_stanford):
    with pytest.raises(UserError, match='6 images, but the 400/172/143 split needs all 715'):
        make_reader('stanford_background', mini_stanford).splits()
    splits = make_reader('stanford_background', mini_stanford, sizes=MINI).splits()
    assert {n: len(ids) for n, ids in splits.items()} == MINI


def _no_labels_folder(folder):
    for path in (folder / 'labels').iterdir():
        path.unlink()
    (folder / 'labels').rmdir()


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-200])


BROKEN = {
    'missing folder': (_no_labels_folder, 'labels: no such folder'),
    'image without label': (
        lambda f: (f / 'labels/0000002.regions.txt').unlink(),
        'images/0000002.jpg: image without label; expected'),
    'label without image': (
        lambda f: (f / 'images/0000002.jpg').unlink(),
        'labels/0000002.regions.txt: label without image'),
    'other size': (
        lambda f: (f / 'labels/0000002.regions.txt').write_text('0 1\n2 3\n'),
        'labels/0000002.regions.txt: label is 2x2, but its image 0000002.jpg is 33x48'),
    'ragged': (
        lambda f: (f / 'labels/0000002.regions.txt').write_text('0 1\n2\n'),
        'labels/0000002.regions.txt: not a matrix of whole numbers'),
    'no numbers': (
        lambda f: (f / 'labels/0000002.regions.txt').write_text('sky tree\n'),
        'labels/0000002.regions.txt: not a matrix of whole numbers'),
    'empty label': (
        lambda f: (f / 'labels/0000002.regions.txt').write_text('\n'),
        'labels/0000002.regions.txt: the label is empty'),
    'out of range': (
        lambda f: (f / 'labels/0000002.regions.txt').write_text('0 8\n2 3\n'),
        'labels/0000002.regions.txt: label id 8 is out of range; expected 0 to 7'),
    'truncated JPEG': (
        lambda f: _truncate(f / 'images/0000002.jpg'),
        'images/0000002.jpg: truncated or damaged image'),
    'no image at all': (
        lambda f: (f / 'images/0000002.jpg').write_text('<html>404</html>'),
        'images/0000002.jpg: not a readable image (unknown format)'),
    '16-bit image': (
        lambda f: Image.fromarray(np.zeros([48, 33], np.uint16)).save(
            f / 'images/0000002.jpg', format='PNG'),
        'images/0000002.jpg: pixels are of type I;16'),
}


@pytest.mark.parametrize('damage, words', BROKEN.values(), ids=BROKEN.keys())
def test_bad_input_is_named_in_one_line(mini_stanford, damage, words):
    damage(mini_stanford)
    with pytest.raises(UserError) as error:
        make_reader('stanford_background', mini_stanford, sizes=MINI).load('0000002')
    assert words in str(error.value) and '\n' not in str(error.value)
    assert str(mini_stanford) in str(error.value)


def test_wrong_folder_reader_or_option_are_named(tmp_path, mini_stanford):
    with pytest.raises(UserError, match='nowhere: no such folder'):
        make_reader('stanford_background', tmp_path / 'nowhere')
    with pytest.raises(UserError, match='no folder was given'):
        make_reader('stanford_background')
    with pytest.raises(UserError, match='Did you mean "stanford_background"'):
        make_reader('stanford_backgroud', mini_stanford)
    with pytest.raises(UserError, match='no option "sede".*Did you mean "seed"'):
        make_reader('stanford_background', mini_stanford, sede=1)


def test_gin_completes_the_options(mini_stanford):
    with gin.unlock_config():
        gin.parse_config(f'make_reader.sizes = {MINI}\nmake_reader.seed = 5')
    try:
        splits = make_reader('stanford_background', mini_stanford).splits()
    finally:
        gin.clear_config()
    assert splits == make_reader('stanford_background', mini_stanford, sizes=MINI,
                                 seed=5).splits()
