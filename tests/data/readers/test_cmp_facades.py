"""CMP Facades: the real archive, a miniature of its layout, bad files."""
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from data_layouts import draw_pair
from official_layouts_ade_cmp_segtrack import CMP_NAMES, save, write_cmp
from tf_advseg.core.errors import UserError
from tf_advseg.data import splits as splits_lib
from tf_advseg.data.readers import make_reader, other_options, resizing
from tf_advseg.data.records.record_set import RecordSet, write_records


@pytest.fixture
def folder(tmp_path):
    return write_cmp(tmp_path / 'cmp')


@pytest.fixture
def split(tmp_path):
    parts = {'train': ['cmp_b0001', 'cmp_b0002', 'cmp_x0001'], 'val': ['cmp_b0003'],
             'test': ['cmp_x0002']}
    splits_lib.write_split(tmp_path / 'mine.json', parts, dataset='cmp_facades')
    return tmp_path / 'mine.json', parts


@pytest.fixture(scope='module')
def real(shared, tmp_path_factory):
    folder = tmp_path_factory.mktemp('cmp')
    with tarfile.open(shared / 'data' / 'cmp_facades.tar') as tar:
        tar.extractall(folder, filter='data')
    return folder


def test_real_archive_has_all_images_in_both_splits(real):
    reader = make_reader('cmp_facades', real)
    parts = reader.splits()
    assert {name: len(ids) for name, ids in parts.items()} == {
        'train': 400, 'val': 100, 'test': 106}
    assert len({i for ids in parts.values() for i in ids}) == 606
    parts = make_reader('cmp_facades', real, split='base_extended').splits()
    assert {name: len(ids) for name, ids in parts.items()} == {
        'train': 302, 'val': 76, 'test': 228}
    assert all(i.startswith('cmp_x') == (name == 'test')
               for name, ids in parts.items() for i in ids)


def test_real_labels_are_the_palette_s_indices_less_one(real):
    reader = make_reader('cmp_facades', real)
    for image_id in (*reader.splits()['val'][:3], *reader.splits()['test'][-3:]):
        image, label = reader.load(image_id)
        png = Image.open(reader.label_path(image_id))
        official = np.array(png)
        np.testing.assert_array_equal(label, official - 1)
        assert label.max() < 12 and image.shape == (*label.shape, 3)
        colours = np.array(png.getpalette()).reshape(-1, 3)[1:13]
        np.testing.assert_array_equal(colours, reader.spec.palette)
        assert reader.encoded_image(image_id)[:2] == b'\xff\xd8'
    text = (real / 'label_names.txt').read_text().split()
    assert tuple(text[1::3]) == reader.spec.class_names == CMP_NAMES


def test_miniature_to_records(folder, split, tmp_path):
    reader = make_reader('cmp_facades', folder, split=str(split[0]))
    assert reader.splits() == split[1]
    records = RecordSet(write_records(reader, None, tmp_path / 'records', progress=False))
    drawn = draw_pair(1, classes=12)[1]
    np.testing.assert_array_equal(records.load('cmp_b0002')[1], np.where(drawn == 255, 0, drawn))
    assert records.spec.class_names == CMP_NAMES and len(records) == 5
    np.testing.assert_array_equal(reader.spec.to_official(np.arange(12)), np.arange(1, 13))


def test_parts_may_lie_in_folders_of_their_own(folder, split, tmp_path):
    for part in ('base', 'extended'):
        (tmp_path / 'apart' / f'CMP_facade_DB_{part}').mkdir(parents=True)
        shutil.move(folder / part, tmp_path / 'apart' / f'CMP_facade_DB_{part}' / part)
    reader = make_reader('cmp_facades', tmp_path / 'apart', split=str(split[0]))
    assert reader.load('cmp_x0001')[1].max() == 11


@pytest.mark.parametrize('damage, words', [
    (lambda f: shutil.rmtree(f / 'extended'), 'no folder extended in it or below'),
    (lambda f: [p.unlink() for p in (f / 'extended').glob('*.jpg')],
     'extended: no image *.jpg in this folder'),
    (lambda f: [p.unlink() for p in (f / 'base').glob('*.jpg')],
     'base: no image *.jpg in this folder'),
    (lambda f: (f / 'base' / 'cmp_b0002.png').unlink(),
     'base/cmp_b0002.jpg: image without label'),
    (lambda f: (f / 'extended' / 'cmp_x0002.jpg').unlink(),
     'extended/cmp_x0002.png: label without image'),
    (lambda f: save(f / 'base' / 'cmp_b0002.png', np.full([33, 48], 13, np.uint8)),
     'cmp_b0002.png: label id 13 is out of range; expected 1 to 12'),
    (lambda f: save(f / 'base' / 'cmp_b0002.png', np.zeros([33, 48], np.uint8)),
     'cmp_b0002.png: label id 0 is out of range'),
    (lambda f: (f / 'label_names.txt').write_text('1 facade 1\n'),
     'label_names.txt: class 1 is "facade", expected "background"'),
    (lambda f: shutil.copy(f / 'base' / 'cmp_b0001.jpg', f / 'extended' / 'cmp_b0001.jpg'),
     'lies in both'),
])
def test_bad_input_is_named_in_one_line(folder, damage, words):
    damage(folder)
    with pytest.raises(UserError) as error:
        make_reader('cmp_facades', folder).load('cmp_b0002')
    assert words in str(error.value) and str(folder) in str(error.value)


def test_incomplete_data_and_unknown_splits_are_named(folder):
    with pytest.raises(UserError, match='split list "cmp" lists 606 images, but 599 of them '
                                        'are missing, the first is "cmp_b0005"'):
        make_reader('cmp_facades', folder).splits()
    with pytest.raises(UserError, match='Did you mean "base_extended"'):
        make_reader('cmp_facades', folder, split='base_extnded').splits()


def test_capitals_hidden_files_and_a_mark_in_the_names(folder, split):
    for suffix in ('jpg', 'png'):
        (folder / f'base/cmp_b0002.{suffix}').rename(folder / f'base/cmp_b0002.{suffix.upper()}')
    (folder / 'base' / '._cmp_b0001.jpg').write_bytes(b'of macOS')
    names = folder / 'label_names.txt'
    names.write_bytes(b'\xef\xbb\xbf' + names.read_bytes())
    reader = make_reader('cmp_facades', folder, split=str(split[0]))
    assert reader.splits() == split[1] and reader.load('cmp_b0002')[1].shape == (33, 48)


def test_longest_side_makes_the_larger_ones_smaller(folder, split, tmp_path):
    plain, small = (make_reader('cmp_facades', folder, split=str(split[0]), **options)
                    for options in ({}, {'longest_side': 41}))
    assert small.splits() == plain.splits()
    records = RecordSet(write_records(small, None, tmp_path / 'records', progress=False))
    expected = {'cmp_b0001': (29, 41), 'cmp_b0002': (28, 41), 'cmp_b0003': (41, 28),
                'cmp_x0001': (29, 41), 'cmp_x0002': (28, 41)}
    for name, size in expected.items():
        image, label = plain.load(name)
        assert label.shape != size and records.load(name)[1].shape == size
        np.testing.assert_array_equal(records.load(name)[0], resizing.bilinear(image, size))
        np.testing.assert_array_equal(records.load(name)[1], resizing.nearest(label, size))
        assert set(np.unique(records.load(name)[1])) <= set(np.unique(label))  # none in between
    # The fourth layout is 37x41: as it was, for nothing is enlarged or touched.
    for mine, published in zip(small.load('cmp_b0004'), plain.load('cmp_b0004')):
        np.testing.assert_array_equal(mine, published)
    assert make_reader('cmp_facades', folder, longest_side=9999).load('cmp_b0001')[1].shape == (
        40, 56)
    assert small.description['options'] == {'split': str(split[0]), 'longest_side': 41}


def test_a_longest_side_that_is_none_is_named(folder):
    with pytest.raises(UserError, match='^cmp_facades: longest_side is 320.5, expected a whole'):
        make_reader('cmp_facades', folder, longest_side=320.5)
    with pytest.raises(UserError, match='no option "longest_sid".*Did you mean "longest_side"'):
        make_reader('cmp_facades', folder, longest_sid=320)


def test_records_know_the_longest_side_they_were_made_with(folder, split, tmp_path):
    """What run.dataset refuses records by; its test has the line that is told."""
    for name, options in (('small', {'longest_side': 41}), ('plain', {})):
        made = RecordSet(write_records(
            make_reader('cmp_facades', folder, split=str(split[0]), **options), None,
            tmp_path / name, progress=False)).manifest['identity']['reader']
        was = options.get('longest_side')
        for asked in (41, 20, None):
            found = other_options(made, 'cmp_facades', {'longest_side': asked})
            assert found == ({} if asked == was else {'longest_side': (asked, was)})
    with pytest.raises(UserError, match='made with another reader or other options of it'):
        write_records(make_reader('cmp_facades', folder, split=str(split[0])), None,
                      tmp_path / 'small', progress=False)
