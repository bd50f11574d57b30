"""Folders of discriminators: what is saved comes back, whatever gin says; damage is one line."""
import json
import shutil

import gin
import numpy as np
import pytest

from tf_advseg.adversaries import fully_convolutional
from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.data import spec as specs
from tf_advseg.methods.hung import discriminator_folders
from tf_advseg.run import networks


def build(kind='pixel', num_classes=3, seed=4, pointwise=False):
    return fully_convolutional.build_fc_discriminator(
        num_classes=num_classes, kind=kind, widths=(4, 6), seed=seed, initial_values='he',
        map_size=(17, 21) if kind == 'image' else None, pointwise=pointwise)


@pytest.fixture
def saved(tmp_path):
    discriminator = build()
    folder = tmp_path / 'checkpoints' / 'last' / 'discriminator'
    folder.parent.mkdir(parents=True)
    discriminator_folders.save(folder, discriminator,
                               discriminator_folders.describe(discriminator, 4))
    return folder


@pytest.mark.parametrize('kind, pointwise', [
    *((kind, False) for kind in fully_convolutional.KINDS), ('pixel', True)])
def test_what_was_saved_judges_the_same_whatever_gin_says(tmp_path, kind, pointwise):
    discriminator = build(kind, pointwise=pointwise)
    discriminator_folders.save(tmp_path / 'd', discriminator,
                               discriminator_folders.describe(discriminator, 4))
    configuration.parse([], ['build_fc_discriminator.widths = (8, 8, 8)',
                             "build_fc_discriminator.initial_values = 'fan_in'"])
    found, description = discriminator_folders.load(tmp_path / 'd', 3)
    gin.clear_config()
    maps = np.random.default_rng(0).random((2, 17, 21, 3), np.float32)
    np.testing.assert_array_equal(found(maps), discriminator(maps))
    assert found.decides == kind and description['map_stride'] == 4
    assert description == json.loads(json.dumps(discriminator_folders.describe(discriminator, 4)))


def test_another_one_takes_the_place_whole(saved):
    other = build(seed=9)
    discriminator_folders.save(saved, other, discriminator_folders.describe(other, 2))
    found, description = discriminator_folders.load(saved)
    np.testing.assert_array_equal(found.variables[0], other.variables[0])
    assert description['map_stride'] == 2
    assert [path.name for path in saved.parent.iterdir()] == ['discriminator']


def test_the_discriminator_of_a_kept_moment_comes_back(saved, tmp_path):
    kept, now = build(), build(seed=9)
    discriminator_folders.restore(saved.parent, now)
    np.testing.assert_array_equal(now.variables[0], kept.variables[0])
    discriminator_folders.restore(tmp_path, now)  # a model without one: nothing
    discriminator_folders.restore(saved.parent, None)
    np.testing.assert_array_equal(now.variables[0], kept.variables[0])
    with pytest.raises(UserError, match='does not fit this network'):
        discriminator_folders.restore(saved.parent, build(num_classes=4))


def test_other_workers_leave_nothing(tmp_path):
    discriminator = build()
    discriminator_folders.save(tmp_path / 'd', discriminator,
                               discriminator_folders.describe(discriminator, 4), False)
    assert not list(tmp_path.iterdir())


def test_found_by_run_model_folder_and_itself(saved, tmp_path):
    for path in (saved, saved.parent, tmp_path):
        assert discriminator_folders.find(path) == saved
    assert discriminator_folders.beside(saved.parent) == saved
    assert discriminator_folders.beside(tmp_path / 'checkpoints' / 'averaged') == saved
    assert discriminator_folders.beside(tmp_path / 'checkpoints' / 'control') is None
    with pytest.raises(UserError, match='nowhere: no such file or folder'):
        discriminator_folders.find(tmp_path / 'nowhere')
    with pytest.raises(UserError, match='holds no discriminator in checkpoints/last or /best'):
        discriminator_folders.find(tmp_path / 'checkpoints')


def test_a_model_with_a_discriminator_beside_is_found_and_loaded_as_ever(saved, tmp_path):
    import importlib
    tiny = importlib.import_module('tf_advseg.models.farabet').farabet(num_classes=3, hidden=4)
    description = networks.describe('farabet', num_classes=3, hidden=4)
    spec = specs.DatasetSpec('three', ('a', 'b', 'c'), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    networks.save(saved.parent, tiny, description, spec)
    assert discriminator_folders.is_folder(saved)  # the segmentor's save leaves it alone
    assert networks.find(tmp_path) == saved.parent
    segmentor, _, _ = networks.load(tmp_path)
    np.testing.assert_array_equal(segmentor.variables[0], tiny.variables[0])
    found = discriminator_folders.beside(networks.find(tmp_path))
    assert discriminator_folders.load(found)[0].num_classes == 3


def damaged(saved, how):
    path = saved / discriminator_folders.DESCRIPTION
    content = json.loads(path.read_text())
    if how == 'gone':
        path.unlink()
    elif how == 'text':
        path.write_text('{"form')
    elif how == 'foreign':
        path.write_text('{"format": "something else"}')
    elif how == 'no weights':
        shutil.rmtree(saved / 'weights')
    elif how == 'weights':
        next((saved / 'weights').glob('state.data*')).write_bytes(b'short')
    elif how == 'part':
        del content['discriminator']['widths']
        path.write_text(json.dumps(content))
    else:
        content['discriminator'].update({'widths': {'widths': [5, 6]}, 'kind': {'kind': 'pxel'},
                                         'stride': {'map_stride': 'four'}}[how])
        path.write_text(json.dumps(content))


@pytest.mark.parametrize('how, text', (
    ('gone', 'a discriminator without its discriminator.json'), ('text', 'not valid JSON'),
    ('no weights', 'but no weights/ beside it'),
    ('foreign', 'its "format" is not'), ('weights', 'manifest.json says'),
    ('part', r'a part is missing \("widths"\)'), ('widths', 'does not fit this network'),
    ('kind', 'Did you mean "pixel"'), ('stride', "map_stride is 'four', expected a whole number")))
def test_damage_is_told_in_one_line(saved, how, text):
    damaged(saved, how)
    with pytest.raises(UserError, match=text) as caught:
        discriminator_folders.load(saved)
    assert '\n' not in str(caught.value) and str(saved) in str(caught.value)


def test_another_number_of_classes_is_refused(saved):
    with pytest.raises(UserError, match='maps of 3 classes, and the segmentor has 8'):
        discriminator_folders.load(saved, 8)
