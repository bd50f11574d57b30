"""Folders of Zhu et al.'s GAN: back to the bit; damaged, missing and foreign ones in one line."""
import json
import types

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.adversaries import reconstruction_networks
from tf_advseg.core.errors import UserError
from tf_advseg.methods.zhu import gan_folders
from tf_advseg.methods.zhu import zhu
from tf_advseg.methods.zhu import zhu_settings

NAMES = ('road', 'sky', 'tree')


def made(normalisation='batch', seed=0, **settings):
    """A Reconstruction whose every value, statistics too, is unlike an initial one."""
    settings = zhu_settings.zhu_gan(**settings)
    reconstruction = zhu.Reconstruction(
        reconstruction_networks.build_reconstruction_generator(
            3, settings.generator_sees != 'mask', seed, (3, 4), normalisation, 0.25, 1),
        reconstruction_networks.build_patch_discriminator(
            settings.condition_channels(3), seed, (3, 4), normalisation), settings)
    random = np.random.default_rng(seed)
    for variable in (*reconstruction.generator.variables, *reconstruction.discriminator.variables):
        variable.assign(random.uniform(0.1, 1.0, variable.shape))
    return reconstruction


def data(names=NAMES, dataset='streets', train=('a', 'b'), ids=('a', 'b', 'c', 'd')):
    return types.SimpleNamespace(
        spec=types.SimpleNamespace(class_names=names, name=dataset), train=list(train),
        records=types.SimpleNamespace(ids=list(ids)))


@pytest.fixture
def kept(tmp_path):
    """(folder, what was saved there) in the place that a run has it."""
    folder, reconstruction = tmp_path / 'run' / 'checkpoints' / 'gan', made()
    folder.parent.mkdir(parents=True)
    gan_folders.save(folder, reconstruction, gan_folders.describe(reconstruction, data(), 40))
    return folder, reconstruction


def problem(function, *arguments):
    with pytest.raises(UserError) as caught:
        function(*arguments)
    assert '\n' not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize('normalisation, settings', [
    ('batch', {}), ('instance', {'form': 'wgan', 'generator_sees': 'mask_and_image'}),
    ('none', {'discriminator_sees': 'nothing', 'map_stride': 2})])
def test_a_gan_comes_back_to_the_bit(tmp_path, normalisation, settings):
    reconstruction = made(normalisation, **settings)
    gan_folders.save(tmp_path / 'gan', made(seed=9), gan_folders.describe(made(seed=9), data(), 1))
    gan_folders.save(tmp_path / 'gan', reconstruction,  # in the place of another
                     gan_folders.describe(reconstruction, data(), 40))
    again = gan_folders.load(tmp_path / 'gan', reconstruction.settings)
    for ours, theirs in ((reconstruction.generator, again.generator),
                         (reconstruction.discriminator, again.discriminator)):
        assert ours.arguments == theirs.arguments and len(ours.variables) == len(theirs.variables)
        assert all(np.array_equal(a, b) for a, b in zip(ours.variables, theirs.variables))
    assert again.digest() == reconstruction.digest() and again.settings == reconstruction.settings
    assert zhu.Reconstruction(again.generator, again.discriminator, again.settings).digest() == (
        again.digest())  # what was written down is of these weights
    found = gan_folders.read(tmp_path / 'gan')
    assert found['steps'] == 40 and found['train'] == ['a', 'b']
    masks = tf.one_hot(np.random.default_rng(0).integers(0, 3, (1, 9, 12)), 3)
    if not again.generator.sees_image:
        seed = tf.constant([1, 2])
        np.testing.assert_array_equal(again.generator(masks, dropout_seed=seed),
                                      reconstruction.generator(masks, dropout_seed=seed))


def test_it_says_how_it_was_trained_whatever_is_set_now(tmp_path):
    """What phase 2 does not depend on may differ; a report tells phase 1's."""
    trained = made('none', form='wgan', lipschitz='penalty', penalty_weight=5.0)
    gan_folders.save(tmp_path / 'gan', trained, gan_folders.describe(trained, data(), 1))
    again = gan_folders.load(tmp_path / 'gan', zhu_settings.zhu_gan(form='wgan'))
    assert again.settings == trained.settings and 'penalty 5' in again.settings.about()
    path = tmp_path / 'gan' / gan_folders.DESCRIPTION
    older = json.loads(path.read_text())  # one that says only what phase 2 depends on
    older['settings'] = trained.settings.of_use
    older['generator']['sees_picture'] = older['generator'].pop('sees_image')  # its former name
    path.write_text(json.dumps(older))
    assert gan_folders.load(tmp_path / 'gan', trained.settings).settings == trained.settings


@pytest.mark.parametrize('settings', [
    {'form': 'wgan'}, {'generator_sees': 'mask_and_image'}, {'discriminator_sees': 'image'},
    {'decision': 'each'}, {'map_stride': 2}])
def test_a_gan_of_other_settings_is_refused(kept, settings):
    (name, value), = settings.items()
    said = problem(gan_folders.load, kept[0], zhu_settings.zhu_gan(**settings))
    assert f'zhu_gan.{name}' in said and repr(value) in said
    assert 'reconstruction_stage.source' in said


def test_damaged_ones_are_refused(kept):
    folder, reconstruction = kept
    weights, path = next(folder.glob('weights/*.data*')), folder / gan_folders.DESCRIPTION
    whole, text = weights.read_bytes(), path.read_text()
    weights.write_bytes(whole[:-1])
    assert 'damaged' in problem(gan_folders.load, folder, reconstruction.settings)
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert 'checksum' in problem(gan_folders.load, folder, reconstruction.settings)
    weights.unlink()
    assert 'missing' in problem(gan_folders.load, folder, reconstruction.settings)
    weights.write_bytes(whole)
    for broken, words in ((text[:40], 'JSON'), ('{}', 'not a description'), ('[]', 'not a descr')):
        path.write_text(broken)
        assert words in problem(gan_folders.load, folder, reconstruction.settings)
    content = json.loads(text)
    for name in ('settings', 'generator', 'train', 'steps'):
        path.write_text(json.dumps({k: v for k, v in content.items() if k != name}))
        assert f'"{name}"' in problem(gan_folders.load, folder, reconstruction.settings)
    for generator in ({**content['generator'], 'widths': [3, 5]},
                      {**content['generator'], 'kernel': 3}, {'num_classes': 0}, None):
        path.write_text(json.dumps({**content, 'generator': generator}))
        assert str(folder) in problem(gan_folders.load, folder, reconstruction.settings)
    path.write_text(text)
    assert gan_folders.load(folder, reconstruction.settings).digest() == reconstruction.digest()


def test_foreign_ones_are_refused(kept):
    folder, _ = kept
    gan_folders.require_fitting(folder, data())
    gan_folders.require_fitting(folder, data(dataset='other streets', ids='cdef', train='cd'))
    gan_folders.require_fitting(folder, data(train='abcd'))
    for names in (('road', 'sky'), ('sky', 'road', 'tree')):
        said = problem(gan_folders.require_fitting, folder, data(names))
        assert 'classes' in said and 'reconstruction_stage.source' in said
    said = problem(gan_folders.require_fitting, folder, data(train='ac'))  # b is of the hold-out
    assert 'would leak' in said and '1 image that is' in said and '"b"' in said
    renamed = data(dataset='streets, a copy', train='ac')  # the same by another name
    assert 'would leak' in problem(gan_folders.require_fitting, folder, renamed)


def test_a_gan_is_found_by_its_run_and_by_its_form(kept, tmp_path):
    folder, run = kept[0], kept[0].parent.parent
    assert gan_folders.find(folder) == gan_folders.find(str(run)) == folder
    run.rename(tmp_path / 'cmp_wgan')
    found = gan_folders.find(tmp_path / 'cmp_{form}', 'wgan')
    assert found == tmp_path / 'cmp_wgan' / 'checkpoints' / 'gan'
    said = problem(gan_folders.find, tmp_path / 'cmp_{form}')
    assert 'cmp_gan' in said and 'no such folder' in said
    (tmp_path / 'empty').mkdir()
    assert 'holds no GAN' in problem(gan_folders.find, tmp_path / 'empty')


def test_another_worker_writes_nothing(tmp_path):
    reconstruction = made()
    gan_folders.save(tmp_path / 'gan', reconstruction,
                     gan_folders.describe(reconstruction, data(), 1), False)
    assert not list(tmp_path.iterdir())
