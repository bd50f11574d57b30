"""Images without labels: found at any depth, and labelled with nothing."""
import os

import numpy as np
import pytest
from PIL import Image

from data_layouts import draw_pair
from tf_advseg.core.errors import UserError
from tf_advseg.data.readers import make_reader
from tf_advseg.data.records.record_set import RecordSet, write_records

NAMES = ('a.png', 'a.jpg', 'deep/er/B.JPEG', 'deep/c.png')


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(NAMES):
        path = tmp_path / 'found' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_pair(number)[0]).save(path)
    for name in ('._a.png', '.hidden/d.png', 'notes.txt'):
        path = tmp_path / 'found' / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b'no image')
    return tmp_path / 'found'


def test_every_image_below_the_folder_and_nothing_else(folder):
    reader = make_reader('pictures', folder)
    assert reader.splits() == {'unlabelled': sorted(NAMES)}
    assert reader.spec.name == 'found' and make_reader(
        'pictures', folder, dataset_name='mine').spec.name == 'mine'
    for number, name in enumerate(NAMES):
        image, label = reader.load(name)
        assert label.shape == image.shape[:2] == draw_pair(number)[1].shape
        assert (label == 255).all() and label.dtype == np.uint8


def test_labels_are_not_taken_for_images(folder):
    for part in ('images', 'labels'):
        (folder / part).mkdir()
        Image.fromarray(draw_pair(8)[0]).save(folder / part / 'x.png')
    with pytest.raises(UserError, match='a data set with labels.*give .*/found/images$'):
        make_reader('pictures', folder)
    assert make_reader('pictures', folder / 'images').splits() == {'unlabelled': ['x.png']}


def test_linked_folders_are_searched(folder):
    (folder.parent / 'elsewhere').mkdir()
    Image.fromarray(draw_pair(7)[0]).save(folder.parent / 'elsewhere' / 'x.png')
    (folder / 'more').symlink_to('../elsewhere')
    (folder / 'deep' / 'loop').symlink_to('..')
    reader = make_reader('pictures', folder)
    assert reader.splits() == {'unlabelled': sorted([*NAMES, 'more/x.png'])}
    np.testing.assert_array_equal(reader.load('more/x.png')[0], draw_pair(7)[0])


def test_records_of_them_count_no_class(folder, tmp_path):
    Image.fromarray(draw_pair(9)[0]).convert('RGBA').save(folder / 'alpha.png')
    records = RecordSet(write_records(make_reader('pictures', folder), None, tmp_path / 'records',
                                      progress=False))
    assert sorted(records.ids) == sorted([*NAMES, 'alpha.png'])
    assert all(records.class_counts(name).sum() == 0 for name in records.ids)
    np.testing.assert_array_equal(records.load('a.png')[0], draw_pair(0)[0])
    np.testing.assert_array_equal(records.load('alpha.png')[0], draw_pair(9)[0])
    assert (records.load('a.png')[1] == 255).all()


def test_digests_tell_copies_of_a_file(folder, tmp_path):
    (folder / 'copy.jpg').write_bytes((folder / 'a.jpg').read_bytes())
    records = RecordSet(write_records(make_reader('pictures', folder), None, tmp_path / 'records',
                                      progress=False))
    digests = {name: records.image_digest(name) for name in records.ids}
    assert digests['copy.jpg'] == digests['a.jpg'] and len(set(digests.values())) == len(NAMES)


@pytest.mark.parametrize('spoil, words', [
    (lambda folder: folder.rename(folder.with_name('gone')), 'found: no such folder'),
    (lambda folder: [(folder / name).unlink() for name in NAMES], 'no image .* in this folder'),
    (lambda folder: (folder / 'a.png').write_bytes(b'xx'), 'found/a.png: not a readable image')])
def test_bad_folders_are_told_in_a_line(folder, tmp_path, spoil, words):
    spoil(folder)
    with pytest.raises(UserError, match=words) as caught:
        write_records(make_reader('pictures', folder), None, tmp_path / 'records', progress=False)
    assert '\n' not in str(caught.value) and not (tmp_path / 'records').exists()


def test_names_that_are_not_utf8_are_one_line(folder):
    (folder / 'a.png').rename(folder / os.fsdecode(b'caf\xe9.png'))
    with pytest.raises(UserError, match=r'caf\\xe9.png: the name is not UTF-8'):
        make_reader('pictures', folder)


def test_other_endings_are_read_or_told(folder, caplog):
    for ending in ('.jfif', '.jpe', '.bmp', '.tif', '.webp'):
        Image.fromarray(draw_pair(1)[0]).save(
            folder / f'x{ending}', 'JPEG' if ending in ('.jfif', '.jpe') else None)
    (folder / 'y.heic').write_bytes(b'x')
    assert len(make_reader('pictures', folder).splits()['unlabelled']) == len(NAMES) + 5
    assert '1 files are left out, as y.heic' in caplog.text
