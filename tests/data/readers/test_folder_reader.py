"""Anybody's folder: its three ways to say splits, its class files, and what can be wrong."""
import json
import os
import shutil
import struct
import tarfile
import unicodedata
import zlib

import numpy as np
import pytest
from PIL import Image

from data_layouts import draw_pair, write_folder
from examinations import examined
from tf_advseg.core import archives
from tf_advseg.core.errors import UserError
from tf_advseg.data.readers import make_reader


def load(folder, image_id='p2', **options):
    return make_reader('folder', folder, **options).load(image_id)


def test_flat_folder_is_split_at_random(own_folder):
    reader = make_reader('folder', own_folder, num_classes=4)
    splits = reader.splits()
    assert {n: len(ids) for n, ids in splits.items()} == {'train': 6, 'val': 2, 'test': 2}
    assert sorted(i for ids in splits.values() for i in ids) == [f'p{i}' for i in range(10)]
    assert splits != make_reader('folder', own_folder, num_classes=4, seed=1).splits()
    halves = make_reader('folder', own_folder, num_classes=4, fractions={'a': 1, 'b': 1})
    assert {n: len(ids) for n, ids in halves.splits().items()} == {'a': 5, 'b': 5}
    for number in range(10):
        image, label = reader.load(f'p{number}')
        expected = draw_pair(number)
        np.testing.assert_array_equal(image, expected[0])
        np.testing.assert_array_equal(label, expected[1])


def test_sub_folders_are_splits(tmp_path):
    names = ['train/a', 'train/b', 'val/a', 'test/deep/c']
    reader = make_reader('folder', write_folder(tmp_path, names), num_classes=4)
    assert reader.splits() == {'test': ['test/deep/c'], 'train': ['train/a', 'train/b'],
                               'val': ['val/a']}
    np.testing.assert_array_equal(reader.load('val/a')[1], draw_pair(2)[1])


def test_linked_folders_are_splits_and_parts_of_them(tmp_path):
    folder = write_folder(tmp_path / 'own', ['train/a', 'val/b'])
    other = write_folder(tmp_path / 'other', ['c', 'd'])
    for part in ('images', 'labels'):
        (folder / part / 'test').symlink_to(other / part)
        (folder / part / 'train' / 'more').symlink_to(other / part)
    assert make_reader('folder', folder, num_classes=4).splits() == {
        'train': ['train/a', 'train/more/c', 'train/more/d'], 'val': ['val/b'],
        'test': ['test/c', 'test/d']}


def test_hard_links_are_files_as_others(tmp_path):
    folder = write_folder(tmp_path / 'own', ['train/a', 'train/b', 'val/c', 'test/d'])
    for part in ('images', 'labels'):
        os.link(folder / part / 'train' / 'a.png', folder / part / 'test' / 'again.png')
    with tarfile.open(tmp_path / 'own.tar', 'w') as tar:
        tar.add(folder, 'own')
        assert any(member.islnk() for member in tar.getmembers())
    (tmp_path / 'unpacked').mkdir()
    archives.unpack(tmp_path / 'own.tar', tmp_path / 'unpacked')
    for source in (folder, tmp_path / 'unpacked'):
        reader = make_reader('folder', source, num_classes=4)
        assert reader.splits()['test'] == ['test/again', 'test/d']
        for first, second in zip(reader.load('test/again'), reader.load('train/a')):
            np.testing.assert_array_equal(first, second)


def test_split_lists_choose_and_excuse_the_rest(own_folder):
    (own_folder / 'splits').mkdir()
    (own_folder / 'splits' / 'train.txt').write_text('p3\np1\n\n')
    (own_folder / 'splits' / 'val.txt').write_text('p2\n')
    (own_folder / 'labels' / 'p9.png').unlink()
    reader = make_reader('folder', own_folder, num_classes=4)
    assert reader.splits() == {'train': ['p3', 'p1'], 'val': ['p2']}


def test_classes_from_files_options_or_labels(own_folder):
    assert make_reader('folder', own_folder).spec.class_names == (
        'class_0', 'class_1', 'class_2', 'class_3')
    (own_folder / 'classes.txt').write_text('a\nb\nc\nd\ne\n')
    assert make_reader('folder', own_folder).spec.class_names == tuple('abcde')
    palette = [[i, 0, 0] for i in range(4)]
    (own_folder / 'classes.json').write_text(json.dumps({'names': list('wxyz'),
                                                         'palette': palette}))
    spec = make_reader('folder', own_folder, dataset_name='mine').spec
    assert spec.class_names == tuple('wxyz') and spec.name == 'mine'
    assert spec.palette[3] == (3, 0, 0)
    assert make_reader('folder', own_folder, class_names=list('klmn')).spec.num_classes == 4
    with pytest.raises(UserError, match='num_classes is 3, but there are 4 class names'):
        make_reader('folder', own_folder, num_classes=3)


def test_inferred_number_of_classes_is_said(own_folder, caplog):
    with caplog.at_level('INFO', logger='absl'):
        make_reader('folder', own_folder)
    assert '4 classes, as the highest label id is 3' in caplog.text


def test_other_ignore_label(own_folder):
    label = draw_pair(2)[1]
    label[label == 255] = 77
    Image.fromarray(label).save(own_folder / 'labels' / 'p2.png')
    loaded = load(own_folder, num_classes=4, ignore_label=77)[1]
    np.testing.assert_array_equal(loaded, draw_pair(2)[1])


def test_palette_png_gives_its_indices(own_folder):
    label = draw_pair(2)[1]
    image = Image.fromarray(label).convert('L')
    image.putpalette([v for i in range(256) for v in (255 - i, 7, i)])
    assert image.mode == 'P'
    image.save(own_folder / 'labels' / 'p2.png')
    np.testing.assert_array_equal(load(own_folder, num_classes=4)[1], label)


@pytest.mark.parametrize('depth', [1, 2, 4])
def test_grey_png_of_few_bits_gives_ids_not_stretched_values(own_folder, depth):
    ids = (np.arange(48 * 33).reshape(48, 33) % min(2 ** depth, 4)).astype(np.uint8)
    bits = np.unpackbits(ids[..., None], axis=2)[..., 8 - depth:].reshape(48, -1)
    rows = b''.join(b'\0' + np.packbits(row).tobytes() for row in bits)

    def chunk(kind, data):
        return (struct.pack('>I', len(data)) + kind + data
                + struct.pack('>I', zlib.crc32(kind + data)))

    (own_folder / 'labels' / 'p2.png').write_bytes(
        b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 33, 48, depth, 0, 0, 0, 0))
        + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))
    np.testing.assert_array_equal(load(own_folder, num_classes=4)[1], ids)


def test_images_that_are_not_plain_rgb_are_converted(own_folder):
    grey = draw_pair(2)[0][..., 1]
    Image.fromarray(grey).save(own_folder / 'images' / 'p2.png')
    reader = make_reader('folder', own_folder, num_classes=4)
    np.testing.assert_array_equal(reader.load('p2')[0], np.stack([grey] * 3, axis=-1))
    assert reader.encoded_image('p2') is None
    assert reader.encoded_image('p3').startswith(b'\x89PNG')


def test_hidden_files_are_left_out(own_folder):
    (own_folder / 'images' / '._p1.png').write_bytes(b'finder')
    (own_folder / 'images' / 'notes.txt').write_text('x')
    assert len(make_reader('folder', own_folder, num_classes=4).splits()['train']) == 6


def _write(path, pixels, mode=None, **options):
    Image.fromarray(pixels, mode).save(path, **options)


def _cut(path):
    path.write_bytes(path.read_bytes()[:len(path.read_bytes()) // 2])


def _jpeg_cut(folder):
    (folder / 'images/p2.png').unlink()
    _write(folder / 'images/p2.jpg', draw_pair(2)[0])
    _cut(folder / 'images/p2.jpg')


def _list(folder, text):
    (folder / 'splits').mkdir()
    (folder / 'splits' / 'val.txt').write_text(text)


def _outside(folder):
    label = draw_pair(2)[1]
    label[5, 5] = 9
    _write(folder / 'labels/p2.png', label)


BROKEN = {
    'missing folder': (lambda f: (f / 'images').rename(f / 'pictures'),
                       'images: no such folder'),
    'image without label': (lambda f: (f / 'labels/p2.png').unlink(),
                              'images/p2.png: image without label; expected'),
    'label without image': (lambda f: (f / 'images/p2.png').unlink(),
                              'labels/p2.png: label without image'),
    'other size': (lambda f: _write(f / 'labels/p2.png', np.zeros([48, 32], np.uint8)),
                   'labels/p2.png: label is 32x48, but its image p2.png is 33x48'),
    'out of range': (_outside, 'labels/p2.png: label id 9 is out of range; expected 0 to 3'),
    'colours': (lambda f: _write(f / 'labels/p2.png', draw_pair(2)[0]),
                'labels/p2.png: a colour PNG where class ids are expected'),
    'JPEG label': (lambda f: _write(f / 'labels/p2.png', draw_pair(2)[1], format='JPEG'),
                   'labels/p2.png: a JPEG file, expected a PNG'),
    '16-bit label': (lambda f: _write(f / 'labels/p2.png', np.zeros([48, 33], np.uint16)),
                     'labels/p2.png: mode I'),
    'truncated JPEG': (_jpeg_cut, 'images/p2.jpg: truncated or damaged image'),
    'truncated PNG': (lambda f: _cut(f / 'images/p2.png'),
                      'images/p2.png: truncated or damaged image'),
    'truncated label': (lambda f: _cut(f / 'labels/p2.png'),
                        'labels/p2.png: truncated or damaged label'),
    'empty file': (lambda f: (f / 'images/p2.png').write_bytes(b''),
                   'images/p2.png: not a readable image'),
    'two images of one name': (lambda f: _write(f / 'images/p2.jpg', draw_pair(2)[0]),
                                 'images/p2.png: has the same name as p2.jpg'),
    'no images': (lambda f: [p.unlink() for p in (f / 'images').iterdir()],
                    'images: no image'),
    'empty split folder': (lambda f: (f / 'images/val').mkdir(), 'images/val: empty split'),
    'beside split folders': (lambda f: write_folder(f, ['train/x']),
                             'images/p0.png: lies beside the split folders'),
    'empty split list': (lambda f: _list(f, '\n'), 'splits/val.txt: empty list'),
    'list of others': (lambda f: _list(f, 'p2\np77\n'), 'splits/val.txt: lists "p77", but'),
    'list repeats': (lambda f: _list(f, 'p2\np2\n'), 'splits/val.txt: lists "p2" twice'),
    'bad classes.json': (lambda f: (f / 'classes.json').write_text('{"a": 1}'),
                         'classes.json: expected a list of class names'),
    'classes.json of numbers': (lambda f: (f / 'classes.json').write_text('[1, null, 3, 4]'),
                                'classes.json: expected a list of class names'),
    'classes.json of other colours': (
        lambda f: (f / 'classes.json').write_text('{"names": ["a", "b"], "palette": [[0, 0, 0]]}'),
        'classes.json: 1 colours for 2 classes'),
    'classes.json of no colours': (
        lambda f: (f / 'classes.json').write_text('{"names": ["a"], "palette": [[null]]}'),
        'classes.json: class_names, palette or ids of another kind than expected'),
    'classes.txt with a name twice': (lambda f: (f / 'classes.txt').write_text('a\nb\na\n'),
                                      'classes.txt: class name "a" is given twice'),
    'empty classes.txt': (lambda f: (f / 'classes.txt').write_text('\n'),
                          'classes.txt: no class name in it'),
}


@pytest.mark.parametrize('damage, words', BROKEN.values(), ids=BROKEN.keys())
def test_bad_input_is_named_in_one_line(own_folder, damage, words):
    damage(own_folder)
    options = {} if 'classes' in words else {'num_classes': 4}
    with pytest.raises(UserError) as error:
        load(own_folder, **options)
    assert words in str(error.value) and '\n' not in str(error.value)
    assert str(own_folder) in str(error.value)


@pytest.mark.parametrize('suffix', ['.png', '.jpg'])
def test_an_image_cut_anywhere_is_never_accepted_as_something_else(tmp_path, suffix):
    folder = write_folder(tmp_path, ['a', 'b', 'c'], suffix)
    path = folder / 'images' / ('b' + suffix)
    whole, expected = path.read_bytes(), load(folder, 'b', num_classes=4)[0]
    refused = 0
    for length in range(0, len(whole), 61):
        path.write_bytes(whole[:length])
        try:
            # The last bytes may be padding no pixel depends on.
            np.testing.assert_array_equal(load(folder, 'b', num_classes=4)[0], expected)
        except UserError as error:
            refused += 1
            assert f'b{suffix}' in str(error)
    assert refused >= len(whole) // 61 - 1


def test_labels_that_are_all_ignored_give_no_number_of_classes(tmp_path):
    folder = write_folder(tmp_path, ['a', 'b', 'c'])
    for name in 'abc':
        shape = np.array(Image.open(folder / 'labels' / f'{name}.png')).shape
        _write(folder / 'labels' / f'{name}.png', np.full(shape, 255, np.uint8))
    with pytest.raises(UserError, match='every pixel is ignored'):
        make_reader('folder', folder)


def test_texts_of_windows_editors_are_read(own_folder):
    names = 'sky\r\ntree\r\nroad\r\ngrass\r\n'
    (own_folder / 'classes.txt').write_bytes(names.encode('utf-8-sig'))
    (own_folder / 'splits').mkdir()
    (own_folder / 'splits/train.txt').write_bytes('p1\r\np2\r\n'.encode('utf-8-sig'))
    reader = make_reader('folder', own_folder)
    assert reader.spec.class_names == ('sky', 'tree', 'road', 'grass')
    assert reader.splits() == {'train': ['p1', 'p2']}


@pytest.mark.parametrize('options, words', [
    ({'seed': 'abc'}, "seed is 'abc', expected a whole number"),
    ({'seed': -1}, 'seed is -1, expected a whole number of at least 0'),
    ({'seed': None}, 'seed is None, expected a whole number'),
    ({'seed': True}, 'seed is True, expected a whole number'),
    ({'fractions': 0.5}, 'split fractions are 0.5, expected a number for each part'),
    ({'fractions': {'train': 'half'}}, 'expected a number for each part'),
    ({'fractions': {}}, 'expected a number for each part'),
    ({'class_names': 'abc'}, "class_names is 'abc', expected a list"),
    ({'fractions': {'train': float('nan')}}, 'expected a number for each part'),
    ({'num_classes': 'four'}, "num_classes is 'four', expected a whole number"),
    ({'num_classes': 10 ** 30}, 'expected a whole number from 1 to 255'),
    ({'ignore_label': 10 ** 30}, 'ignore_label is 1000'),
    ({'label_values': [[1], [2]]}, 'label_values is [[1], [2]], expected different whole'),
    ({'palette': 'abcd'}, 'class_names, palette or ids of another kind than expected'),
    ({'palette': [[0, 0, float('inf')]] * 4}, 'palette or ids of another kind')])
def test_options_of_another_kind_are_named_in_one_line(own_folder, options, words):
    with pytest.raises(UserError) as error:
        make_reader('folder', own_folder, **{'num_classes': 4, **options})
    assert words in str(error.value) and '\n' not in str(error.value)


def test_names_that_are_not_utf8_are_one_line(tmp_path):
    folder = write_folder(tmp_path / os.fsdecode(b'caf\xe9'), ['a', 'b', 'c', 'd', 'e'])
    assert make_reader('folder', folder, num_classes=4).spec.name == 'caf\\xe9'
    for part in ('images', 'labels'):
        (folder / part / 'b.png').rename(folder / part / os.fsdecode(b'b\xe9.png'))
    with pytest.raises(UserError, match=r'b\\xe9.png: the name is not UTF-8.*rename') as caught:
        make_reader('folder', folder, num_classes=4)
    assert str(caught.value).encode('utf-8')


def test_every_lossless_format_is_read_and_others_are_told(own_folder, caplog):
    for number, ending in enumerate(('.JFIF', '.jpe', '.bmp', '.tif', '.webp', '.gif')):
        image = Image.fromarray(draw_pair(number)[0])
        image.save(own_folder / 'images' / f'p{number}{ending}',
                   'JPEG' if 'j' in ending.lower() else None)
        (own_folder / 'images' / f'p{number}.png').unlink()
    for number, ending in enumerate(('.bmp', '.tiff', '.TIF')):
        Image.fromarray(draw_pair(number)[1]).save(own_folder / 'labels' / f'p{number}{ending}')
        (own_folder / 'labels' / f'p{number}.png').unlink()
    (own_folder / 'images' / 'x.heic').write_bytes(b'x')
    reader = make_reader('folder', own_folder, num_classes=4)
    assert sum(map(len, reader.splits().values())) == 10
    for number in range(6):
        image, label = reader.load(f'p{number}')
        assert image.shape == draw_pair(number)[0].shape
        np.testing.assert_array_equal(label, draw_pair(number)[1])
    assert '1 files are left out, as x.heic' in caplog.text


def test_lossy_tiff_labels_are_refused(own_folder):
    Image.fromarray(draw_pair(2)[1]).save(own_folder / 'labels' / 'p2.tif', compression='jpeg')
    (own_folder / 'labels' / 'p2.png').unlink()
    with pytest.raises(UserError, match='p2.tif: a TIFF file.*lossy formats change ids'):
        load(own_folder, num_classes=4)


@pytest.mark.parametrize('form', ['NFC', 'NFD'])
def test_names_in_two_unicode_forms_are_one(tmp_path, form):
    names = ['café', 'b', 'c', 'd', 'e']
    folder = write_folder(tmp_path, [unicodedata.normalize(form, name) for name in names])
    other = unicodedata.normalize('NFD' if form == 'NFC' else 'NFC', 'café')
    path = folder / 'labels' / unicodedata.normalize(form, 'café.png')
    path.rename(path.with_name(f'{other}.png'))
    _list(folder, f'{other}\nb\n')
    reader = make_reader('folder', folder, num_classes=4)
    assert reader.splits() == {'val': ['café', 'b']}
    np.testing.assert_array_equal(reader.load('café')[1], draw_pair(0)[1])
    shutil.copy(path.with_name(f'{other}.png'), path)
    with pytest.raises(UserError, match='same name as .* in another Unicode form'):
        make_reader('folder', folder, num_classes=4)


def test_labels_in_one_folder_belong_to_images_by_name(tmp_path):
    folder = write_folder(tmp_path / 'own', ['p0', 'p1', 'p2', 'p3'])
    (tmp_path / 'own' / 'elsewhere').mkdir()
    for name in ('p2', 'p3'):
        (folder / 'images' / f'{name}.png').rename(folder / 'elsewhere' / f'{name}.png')
    (folder / 'images' / 'more').symlink_to('../elsewhere')
    reader = make_reader('folder', folder, num_classes=4)
    assert sorted(i for ids in reader.splits().values() for i in ids) == [
        'more/p2', 'more/p3', 'p0', 'p1']
    np.testing.assert_array_equal(reader.load('more/p3')[1], draw_pair(3)[1])
    (folder / 'images' / 'train').mkdir()
    for name in ('p0', 'p1'):
        (folder / 'images' / f'{name}.png').rename(folder / 'images' / 'train' / f'{name}.png')
    assert make_reader('folder', folder, num_classes=4).splits() == {
        'more': ['more/p2', 'more/p3'], 'train': ['train/p0', 'train/p1']}


def test_the_folder_is_found_below_beside_what_is_none(tmp_path):
    write_folder(tmp_path / 'got' / 'deep' / 'data', ['a', 'b', 'c'])
    write_folder(tmp_path / 'got' / '__MACOSX' / 'data', ['._a'])
    write_folder(tmp_path / 'got' / '.trash', ['a'])
    (tmp_path / 'got' / 'README').write_text('x')
    reader = make_reader('folder', tmp_path / 'got', num_classes=4)
    assert reader.spec.name == 'data' and sum(map(len, reader.splits().values())) == 3
    write_folder(tmp_path / 'got' / 'deep' / 'older', ['a'])
    with pytest.raises(UserError, match='several folders with images/ and labels/.*name one'):
        make_reader('folder', tmp_path / 'got', num_classes=4)


FORMATS = {
    'jpeg': (lambda f: _moved(f, '.jpg', 'L'), 'p2.jpg is there, but JPEG changes ids'),
    'polygons': (lambda f: (f / 'labels/p2.png').rename(f / 'labels/p2.json'),
                 'p2.json is there, but labels are PNGs'),
    '16 bits': (lambda f: _write(f / 'labels/p2.png', draw_pair(2)[1].astype(np.uint16)),
                'more than 8 bits a pixel.*without scaling'),
    'transparency': (lambda f: _moved(f, '.png', 'LA'), 'grey with transparency.*getchannel'),
    'colours': (lambda f: _moved(f, '.png', 'RGB'), 'a colour PNG.*id of its class'),
}


def _moved(folder, ending, mode):
    path = folder / 'labels' / 'p2.png'
    image = Image.open(path).convert(mode)
    path.unlink()
    image.save(path.with_suffix(ending))


@pytest.mark.parametrize('change, words', FORMATS.values(), ids=FORMATS.keys())
def test_labels_in_other_formats_are_told_with_what_to_do(own_folder, change, words):
    change(own_folder)
    with pytest.raises(UserError, match=words) as caught:
        load(own_folder, num_classes=4)
    assert 'fetch the file again' not in str(caught.value)


def test_sub_folders_with_no_split_among_them_are_split_at_random(tmp_path, caplog):
    names = [f'site{i % 3}/2024-0{1 + i % 2}/p{i}' for i in range(10)]
    folder = write_folder(tmp_path, names)
    (folder / 'images' / 'site3').mkdir()  # nobody's split, so it may be empty
    reader = make_reader('folder', folder, num_classes=4)
    assert {name: len(ids) for name, ids in reader.splits().items()} == {
        'train': 6, 'val': 2, 'test': 2}
    assert sorted(i for ids in reader.splits().values() for i in ids) == sorted(names)
    assert 'no sub-folder is named train, val or test, so all images are split' in caplog.text
    caplog.clear()
    make_reader('folder', write_folder(tmp_path / 'flat', ['a', 'b', 'c']), num_classes=4)
    assert not caplog.text


def test_other_names_of_splits(tmp_path):
    reader = make_reader('folder', write_folder(
        tmp_path, ['training/a', 'validation/b', 'day2/c']), num_classes=4)
    assert reader.splits() == {'day2': ['day2/c'], 'training': ['training/a'],
                               'validation': ['validation/b']}


def test_labels_named_otherwise_are_told(own_folder):
    for path in sorted((own_folder / 'labels').iterdir()):
        path.rename(path.with_name(f'{path.stem}_seg.png'))
    told = r'p0_seg\.png is there, but a label has the name of its image; rename'
    with pytest.raises(UserError, match=f'image without label.*{told}'):
        make_reader('folder', own_folder)
    found = [f for f in examined(own_folder, {}).findings if f.kind == 'lone_image']
    assert len(found) == 10 and all('_seg.png is there, but' in f.message for f in found)


def test_a_folder_with_neither_part_says_what_is_there(tmp_path):
    write_folder(tmp_path, ['a'])
    (tmp_path / 'images').rename(tmp_path / 'photos')
    (tmp_path / 'labels').rename(tmp_path / 'masks')
    told = r'no folder images/ \(it has masks, photos\); expected the images in images/'
    for attempt in (lambda: make_reader('folder', tmp_path), lambda: examined(tmp_path, {})):
        with pytest.raises(UserError, match=told):
            attempt()
