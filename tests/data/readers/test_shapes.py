"""The drawn data set: exact, structured, varied, and drawn without loops over pixels."""
import hashlib

import numpy as np
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.data.readers import make_reader
from tf_advseg.data.readers import shapes_scene as scene
from tf_advseg.data.readers.shapes import SHAPES_VERSION, ShapesReader

# A change here changes everybody's images: raise SHAPES_VERSION with it.
PINNED = {
    'train_00000': 'dc88e1a823c4c35ac10a4c7d3942b8b7',
    'val_00007': '41a0fc45c0543e4f853b24aac1756764',
    'test_00012': '0b338e0a213e2bb4caf7f53d10dae78d',
}


def _digest(image, label):
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()
                          + label.tobytes()).hexdigest()[:32]


def _four_neighbours(mask):
    """Pixels with a neighbour in the mask."""
    near = np.zeros_like(mask)
    near[1:] |= mask[:-1]
    near[:-1] |= mask[1:]
    near[:, 1:] |= mask[:, :-1]
    near[:, :-1] |= mask[:, 1:]
    return near


@pytest.fixture(scope='module')
def scenes():
    reader = ShapesReader(num_train=80)
    return [reader.load(image_id) for image_id in reader.splits()['train']]


@pytest.mark.parametrize('image_id', sorted(PINNED))
def test_images_are_byte_equal_on_every_machine(image_id):
    assert SHAPES_VERSION == '1'
    assert _digest(*ShapesReader().load(image_id)) == PINNED[image_id]


def test_contract(scenes):
    reader = ShapesReader(num_train=3, num_val=2, num_test=0)
    assert reader.splits() == {'train': ['train_00000', 'train_00001', 'train_00002'],
                               'val': ['val_00000', 'val_00001']}
    assert reader.spec.num_classes == 8 and reader.spec.version == SHAPES_VERSION
    assert len(set(reader.spec.palette)) == 8 and (0, 0, 0) not in reader.spec.palette
    assert reader.encoded_image('train_00000') is None
    for image, label in scenes:
        assert image.dtype == label.dtype == np.uint8
        assert image.shape == label.shape + (3,)
        assert all(80 <= n <= 97 for n in label.shape)
        assert np.isin(label, [*range(8), 255]).all()
    full = [label.shape == (97, 97) for _, label in scenes]
    assert 0.3 < np.mean(full) < 0.8


def test_made_by_name():
    reader = make_reader('shapes', seed=3, num_train=1)
    assert reader.description == {'reader': 'shapes', 'options': {'seed': 3, 'num_train': 1}}


def test_image_depends_on_seed_and_id_only():
    small, large = ShapesReader(num_train=2), ShapesReader(num_train=50, num_val=1)
    image, label = small.load('train_00001')
    again, label_again = large.load('train_00001')
    assert np.array_equal(image, again) and np.array_equal(label, label_again)
    others = [small.load('train_00000'), small.load('val_00001'),
              ShapesReader(seed=1).load('train_00001')]
    assert all(other.shape != image.shape or (other != image).any() for other, _ in others)


def test_version_tells_parameters_apart():
    versions = [ShapesReader(**options).spec.version for options in (
        {}, {'num_train': 7}, {'seed': 1}, {'noise': 1.0}, {'size': (129, 129)})]
    assert versions[0] == versions[1] == SHAPES_VERSION
    assert len(set(versions[1:])) == 4


def test_every_class_occurs_and_some_are_rare(scenes):
    counts = sum(np.bincount(label.ravel(), minlength=256) for _, label in scenes)
    shares = counts / counts.sum()
    assert (shares[:8] > 0.01).all()
    assert shares[scene.SKY] > 6 * shares[scene.POLE]
    assert shares[scene.WINDOW] < 0.05 and 0.01 < shares[255] < 0.08
    present = np.mean([[(label == c).any() for c in range(8)] for _, label in scenes], axis=0)
    assert present[scene.SKY] == present[scene.GROUND] == 1.0
    assert (present[2:] > 0.25).all() and (present[2:] < 0.95).all()


def test_windows_belong_to_buildings(scenes):
    allowed = [scene.WINDOW, scene.BUILDING, scene.POLE, scene.IGNORE]
    for _, label in scenes:
        around = label[_four_neighbours(label == scene.WINDOW)]
        assert np.isin(around, allowed).all()


def test_borders_lie_between_instances_and_spare_thin_things(scenes):
    for _, label in scenes:
        border = label == scene.IGNORE
        inside = border & ~_four_neighbours(~border)
        assert inside.sum() <= 0.2 * border.sum()
    reader = ShapesReader(ignore_border=0)
    for number in range(10):
        _, bare = reader.load(f'train_{number:05d}')
        image, label = ShapesReader().load(f'train_{number:05d}')
        assert (bare != scene.IGNORE).all()
        assert np.array_equal(bare[label != scene.IGNORE], label[label != scene.IGNORE])
        assert ((bare == scene.POLE) == (label == scene.POLE)).all()


def _colours(scenes):
    """(coarse colour, class) of every labelled pixel."""
    valid = [label != scene.IGNORE for _, label in scenes]
    keys = [(image[v] // 32).astype(np.int64) @ [64, 8, 1] for (image, _), v in zip(scenes, valid)]
    return np.concatenate(keys), np.concatenate(
        [label[v].astype(np.int64) for (_, label), v in zip(scenes, valid)])


def test_colour_alone_does_not_tell(scenes):
    """The best lookup table from coarse colour to class is poor on images it has not seen."""
    table = np.zeros((8 ** 3, 8), np.int64)
    np.add.at(table, _colours(scenes), 1)
    reader = ShapesReader()
    colours, truths = _colours([reader.load(image_id) for image_id in reader.splits()['val'][:40]])
    matrix = np.bincount(truths * 8 + table.argmax(1)[colours], minlength=64).reshape(8, 8)
    hits = np.diag(matrix)
    iou = hits / (matrix.sum(0) + matrix.sum(1) - hits)
    assert 0.1 < iou.mean() < 0.5
    assert (iou[[scene.BUILDING, scene.WINDOW, scene.VEHICLE, scene.POLE]] < 0.3).all()


def test_difficulty_parameters_do_what_they_say():
    def roughness(**options):
        image, _ = ShapesReader(**options).load('train_00003')
        return np.abs(np.diff(image.astype(float), axis=1)).mean()

    def objects(clutter):
        reader = ShapesReader(clutter=clutter)
        return sum((reader.load(f'train_{n:05d}')[1] > scene.WATER).sum() for n in range(10))
    assert roughness(noise=0.0) < roughness(noise=0.5) < roughness(noise=2.0)
    assert objects(0.0) == 0 < objects(0.5) < objects(2.0)


def test_other_sizes():
    reader = ShapesReader(size=(65, 129), smallest=(65, 129))
    image, label = reader.load('train_00000')
    assert image.shape == (65, 129, 3) and len(np.unique(label)) >= 3


@pytest.mark.parametrize('side', [97, 388])
def test_pixels_are_drawn_by_numpy(lines_run, side):
    """A scene runs some 2000 lines of Python, of any size; a loop over pixels 9409 and more."""
    for number in range(8):
        reader = ShapesReader(size=(side, side), smallest=(side, side))
        assert lines_run(lambda: reader.load(f'train_{number:05d}')) < 5000


@pytest.mark.parametrize('options', [
    {'num_train': -1}, {'seed': -1}, {'noise': 'much'}, {'overlap': 1.5}, {'ignore_border': 3},
    {'size': 97}, {'size': (97, 97), 'smallest': (97, 98)}, {'smallest': (8, 8)},
    {'clutter': float('nan')}])
def test_impossible_parameter_is_one_line(options):
    with pytest.raises(UserError) as caught:
        ShapesReader(**options)
    message = str(caught.value)
    assert '\n' not in message and 'expected' in message and 'shapes' in message


@pytest.mark.parametrize('image_id', ['train_1', 'other_00001', '', 'train_-0001', 'train'])
def test_unknown_image(image_id):
    with pytest.raises(UserError, match='no image'):
        ShapesReader().load(image_id)
