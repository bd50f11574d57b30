"""Cityscapes: a miniature of the official layout, the official table, a real frame, bad files."""
import pickle
import shutil

import cityscapesscripts.helpers.labels as official
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import maximum_filter

from official_layouts_voc_cityscapes import (
    arrange_cityscapes, city_maps, unpack_samples, write_cityscapes)
from tf_advseg.core.errors import UserError
from tf_advseg.data.official_specs import SPECS
from tf_advseg.data.readers import make_reader
from tf_advseg.data.records.record_set import RecordSet, write_records

TRAIN = [f'{city}_00000{i}_000019' for city in ('aachen', 'ulm') for i in (0, 1)]
VAL = [f'frankfurt_00000{i}_000019' for i in (0, 1)]
LABEL = f'gtFine/train/aachen/{TRAIN[0]}_gtFine_labelIds.png'
INSTANCES = f'gtFine/train/aachen/{TRAIN[0]}_gtFine_instanceIds.png'


@pytest.fixture
def folder(tmp_path):
    return write_cityscapes(tmp_path / 'cityscapes')


def official_train_ids(ids):
    table = np.array([official.id2label[i].trainId for i in range(34)])
    return table[ids].astype(np.uint8)


def test_specification_is_the_official_table():
    spec = SPECS['cityscapes']
    labels = [official.trainId2label[i] for i in range(spec.num_classes)]
    assert list(spec.class_names) == [label.name for label in labels]
    assert list(spec.categories) == [label.category for label in labels]
    assert list(spec.palette) == [label.color for label in labels]
    assert spec.instance_classes == tuple(
        label.trainId for label in labels if label.hasInstances)
    assert set(spec.official_void) == {
        label.id for label in official.labels if label.ignoreInEval}
    assert spec.category_names == ('flat', 'construction', 'object', 'nature', 'sky', 'human',
                                   'vehicle')


def test_official_splits_and_table(folder):
    for source in (folder, folder.parent):
        reader = make_reader('cityscapes', source)
        assert reader.splits() == {'train': TRAIN, 'val': VAL}
    for number, image_id in enumerate(TRAIN + VAL):
        image, ids, instances = city_maps(number)
        np.testing.assert_array_equal(reader.load(image_id)[0], image)
        np.testing.assert_array_equal(reader.load(image_id)[1], official_train_ids(ids))
        np.testing.assert_array_equal(reader.instances(image_id), instances)
        # Records are written by processes that get the reader through a pipe.
        np.testing.assert_array_equal(
            pickle.loads(pickle.dumps(reader)).instances(image_id), instances)


def test_two_archives_unpacked_side_by_side(folder):
    for kind in ('leftImg8bit', 'gtFine'):
        shutil.move(folder / kind, folder / f'{kind}_trainvaltest' / kind)
    assert make_reader('cityscapes', folder).splits() == {'train': TRAIN, 'val': VAL}


def test_train_ids_serve_where_only_they_are_there(tmp_path, folder):
    other = make_reader('cityscapes', write_cityscapes(tmp_path / 'other',
                                                       only=('labelTrainIds',)))
    reader = make_reader('cityscapes', folder)
    for image_id in TRAIN + VAL:
        np.testing.assert_array_equal(other.load(image_id)[1], reader.load(image_id)[1])
        assert other.instances(image_id) is None and len(other.files(image_id)) == 2
        assert len(reader.files(image_id)) == 3


def test_dummy_test_labels_only_if_asked(folder):
    reader = make_reader('cityscapes', folder, dummy_test=True)
    assert len(reader.splits()['test']) == 2
    assert all((reader.load(i)[1] == 255).all() for i in reader.splits()['test'])
    assert make_reader('cityscapes', folder, test_is_val=True).splits()['test'] == VAL
    with pytest.raises(UserError, match='both make a split "test"'):
        make_reader('cityscapes', folder, dummy_test=True, test_is_val=True)


def test_records_keep_instances(folder, tmp_path):
    reader = make_reader('cityscapes', folder)
    (folder / INSTANCES).unlink()
    records = RecordSet(write_records(reader, None, tmp_path / 'records', progress=False))
    assert records.splits == reader.splits() and records.spec == reader.spec
    assert records.load_instances(TRAIN[0]) is None
    for image_id in TRAIN[1:] + VAL:
        instances = records.load_instances(image_id)
        assert instances.dtype == np.int32 and instances.max() > 24000
        np.testing.assert_array_equal(instances, reader.instances(image_id))
        np.testing.assert_array_equal(records.load(image_id)[1], reader.load(image_id)[1])


def test_changed_instances_are_other_records(folder, tmp_path):
    reader = make_reader('cityscapes', folder)
    write_records(reader, None, tmp_path / 'records', progress=False)
    Image.fromarray(np.zeros_like(reader.instances(TRAIN[0]), np.uint16)).save(folder / INSTANCES)
    with pytest.raises(UserError, match='state of the source files'):
        write_records(reader, None, tmp_path / 'records', progress=False)


def _label(value):
    return lambda folder: Image.fromarray(np.full([40, 56], value, np.uint8)).save(folder / LABEL)


BROKEN = {
    'no images': (lambda f: shutil.rmtree(f / 'leftImg8bit'), 'no folder leftImg8bit'),
    'no labels': (lambda f: shutil.rmtree(f / 'gtFine'), 'no folder gtFine'),
    'neither split': (lambda f: [shutil.rmtree(f / k / s) for k in ('leftImg8bit', 'gtFine')
                                 for s in ('train', 'val')], 'no folder train or val in it'),
    'labels of a split': (lambda f: shutil.rmtree(f / 'gtFine/val'),
                          'expected the labels of split "val"'),
    'no label': (lambda f: [p.unlink() for p in (f / LABEL).parent.glob(TRAIN[0] + '*Ids.png')],
                 'aachen_000000_000019_leftImg8bit.png: image without label'),
    'no image': (lambda f: (f / f'leftImg8bit/val/frankfurt/{VAL[1]}_leftImg8bit.png').unlink(),
                   'frankfurt_000001_000019_gtFine_labelIds.png: label without image'),
    'in two splits': (lambda f: [shutil.copytree(f / k / 'train/ulm', f / k / 'val/ulm')
                                 for k in ('leftImg8bit', 'gtFine')],
                      '"ulm_000000_000019" lies in train/ulm and in val/ulm'),
    'unknown id': (_label(34), 'labelIds.png: data set cityscapes: official id 34 is out of '
                               'range'),
    'train ids for ids': (_label(255), 'official id 255 is out of range'),
    'other size': (lambda f: Image.fromarray(np.zeros([4, 5], np.uint8)).save(f / LABEL),
                   'labelIds.png: label is 5x4, but its image'),
    'size of instances': (lambda f: Image.fromarray(np.zeros([4, 5], np.uint16)).save(
        f / INSTANCES), 'instanceIds.png: 5x4, but the label of this image is 56x40'),
    'colour instances': (lambda f: Image.fromarray(np.zeros([4, 5, 3], np.uint8)).save(
        f / INSTANCES), 'instanceIds.png: a PNG of mode RGB, expected a 16-bit grey PNG'),
    'truncated instances': (lambda f: (f / INSTANCES).write_bytes(
        (f / INSTANCES).read_bytes()[:-60]), 'instanceIds.png: truncated or damaged'),
}


@pytest.mark.parametrize('damage, words', BROKEN.values(), ids=BROKEN.keys())
def test_bad_input_is_named_in_one_line(folder, damage, words):
    damage(folder)
    with pytest.raises(UserError) as error:
        reader = make_reader('cityscapes', folder)
        reader.load(TRAIN[0])
        reader.instances(TRAIN[0])
    assert words in str(error.value) and '\n' not in str(error.value)
    assert str(folder) in str(error.value)


def test_real_frame(shared, tmp_path):
    flat = unpack_samples(shared, tmp_path, 'cityscapes_mini')
    folder = arrange_cityscapes(flat, tmp_path / 'cityscapes')
    reader = make_reader('cityscapes', folder)
    assert reader.splits() == {'val': ['frankfurt_000000_000294']}
    image, label = reader.load('frankfurt_000000_000294')
    published = np.array(Image.open(next((flat / 'gtFine').glob('*_labelTrainIds.png'))))
    # The sample was made small, labelTrainIds apart from labelIds: they differ by a pixel at edges.
    near = np.zeros(label.shape, bool)
    for train_id in np.unique(published):
        near |= (published == train_id) & maximum_filter(label == train_id, 5)
    assert near.all() and (label == published).mean() > 0.995
    assert image.shape == (128, 256, 3) and 0 < (label == 255).mean() < 0.5
    instances = reader.instances('frankfurt_000000_000294')
    ids = np.array(Image.open(next((flat / 'gtFine').glob('*_labelIds.png'))))
    np.testing.assert_array_equal(np.where(instances > 999, instances // 1000, instances), ids)
    objects = np.unique(instances[instances > 999]) // 1000
    assert set(reader.spec.from_official(objects)) <= {*reader.spec.instance_classes, 255}


@pytest.mark.parametrize('option', ['dummy_test', 'test_is_val'])
def test_a_switch_is_true_or_false(tmp_path, option):
    write_cityscapes(tmp_path)
    with pytest.raises(UserError, match=f"{option} is 'false', expected true or false"):
        make_reader('cityscapes', tmp_path, **{option: 'false'})
