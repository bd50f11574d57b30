"""Weights from anywhere into a network by name, and folders that can be built again."""
import gzip
import json
import os
import pathlib
import shutil
import tempfile

import gin
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core import command_line
from tf_advseg.core.errors import UserError
from tf_advseg.data import spec as specs
from tf_advseg.experiments.score import evaluating
from tf_advseg.models import layers
from tf_advseg.models.zoo import tf1_checkpoint
from tf_advseg.run import networks


def description(num_classes=4, seed=0, **options):
    return networks.describe('deeplab_mobilenet_v2', num_classes=num_classes, seed=seed,
                             depth_multiplier=0.25, **options)


def contents(model):
    return {name: v.numpy() for name, v in layers.official_variables(model).items()}


def assert_equal(ours, theirs, but=()):
    theirs = contents(theirs)
    for name, value in contents(ours).items():
        assert np.array_equal(value, theirs[name]) != name.startswith(but or '-'), name


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """(folder, model): a model folder and beside it its TF1 checkpoint."""
    folder = tmp_path_factory.mktemp('made')
    model = networks.build(description(seed=3))
    spec = specs.DatasetSpec('four', 'abcd', specs.default_palette(4))
    networks.save(folder / 'model', model, description(seed=3), spec)
    tf1_checkpoint.write(folder / 'model.ckpt-1', model, 1)
    return folder, model


@pytest.mark.parametrize('name', ['model', 'model.ckpt-1'])
def test_the_same_classes_give_all_weights(made, name):
    model = networks.build(description(seed=5))
    networks.load_weights(networks.find_weights(made[0] / name), model)
    assert_equal(model, made[1])


@pytest.mark.parametrize('name', ['model', 'model.ckpt-1'])
def test_other_classes_start_the_logits_anew_and_say_so(made, name):
    model = networks.build(description(7, seed=5))
    fresh = model.logits.kernel.numpy()
    said = networks.load_weights(made[0] / name, model)
    assert 'logits/semantic/weights: 4 classes in the file, 7 in the network' in said
    np.testing.assert_array_equal(model.logits.kernel, fresh)
    np.testing.assert_array_equal(model.concat_projection.kernel, made[1].concat_projection.kernel)


@pytest.mark.parametrize('name', ['model', 'model.ckpt-1'])
def test_the_backbone_alone_goes_under_another_head(made, name):
    model = networks.build(description(seed=5, atrous_rates=(6,), decoder=True))
    before = contents(model)
    with pytest.raises(UserError):
        networks.load_weights(made[0] / name, model)
    for key, value in contents(model).items():
        np.testing.assert_array_equal(value, before[key])
    networks.load_weights(made[0] / name, model, backbone_only=True)
    np.testing.assert_array_equal(model.backbone.stem.kernel, made[1].backbone.stem.kernel)
    np.testing.assert_array_equal(model.logits.kernel, before['logits/semantic/weights'])


def test_networks_of_the_same_shapes_are_told_apart_by_their_names(tmp_path):
    """Caffe's and slim's ResNet-50 have the same variables and stride in other places."""
    def describe(variant):
        return networks.describe('deeplab_v2_resnet', num_classes=2, variant=variant,
                                 atrous_rates=(6,))

    model, other = (networks.build(describe(name)) for name in ('resnet_50', 'resnet_v1_50'))
    assert [v.shape for v in model.variables] == [v.shape for v in other.variables]
    spec = specs.DatasetSpec('two', 'ab', specs.default_palette(2))
    networks.save(tmp_path / 'kept', model, describe('resnet_50'), spec)
    before = contents(other)
    with pytest.raises(UserError, match='resnet_v1_50/conv1/weights'):
        networks.load_weights(tmp_path / 'kept', other)
    for name, value in contents(other).items():
        np.testing.assert_array_equal(value, before[name])


def test_a_folder_of_before_there_were_names_is_read_by_name(made, tmp_path):
    shutil.copytree(made[0] / 'model', tmp_path / 'old')
    path = tmp_path / 'old' / 'model.json'
    content = json.loads(path.read_text())
    del content['names_sha256']
    path.write_text(json.dumps(content))
    model = networks.build(description(seed=5))
    report = networks.read_weights(tmp_path / 'old', model)
    assert len(report.assigned) == len(contents(model)) and not report.reinitialised
    assert_equal(model, made[1])


def test_a_run_may_take_the_backbone_alone(made, tmp_path, monkeypatch):
    """`experiment.backbone_only` gets to where weights are read; without weights it is an error."""
    from tf_advseg.experiments.train import training
    with pytest.raises(UserError, match='backbone_only takes the backbone of a checkpoint'):
        training.experiment(tmp_path / 'run', None, backbone_only=True)
    seen = []

    class Ended(Exception):
        pass

    def read_weights(path, segmentor, **options):
        seen.append((path, options))
        raise Ended

    gin.parse_config(["dataset.reader = 'shapes'", 'dataset.options = {"num_train": 2, '
                      '"num_val": 2, "num_test": 1, "size": (40, 40), "smallest": (33, 33)}',
                      'dataset.holdout_fraction = 0.5',
                      'deeplab_mobilenet_v2.depth_multiplier = 0.25'])
    monkeypatch.setattr(networks, 'read_weights', read_weights)
    try:
        with pytest.raises(Ended):
            training.experiment(tmp_path / 'run', tf.distribute.get_strategy(), crop_size=33,
                                checkpoint=str(made[0] / 'model'), backbone_only=True)
    finally:
        gin.clear_config()
    assert seen == [(made[0] / 'model', {'backbone_only': True})]


def test_a_network_is_not_guessed_from_bare_weights(made, tmp_path):
    (tmp_path / 'x.tar.gz').write_bytes(gzip.compress(b''))
    for path in (made[0] / 'model.ckpt-1', tmp_path / 'x.tar.gz'):
        with pytest.raises(UserError, match='which network .* import_checkpoint --model') as caught:
            evaluating.load(str(path))
        assert str(path) in str(caught.value) and '\n' not in str(caught.value)


def test_what_is_not_there_is_named_with_the_nearest(made):
    with pytest.raises(UserError, match='no such checkpoint.*Did you mean "model.ckpt-1'):
        networks.find_weights(made[0] / 'model.ckpt-2')
    with pytest.raises(UserError, match='no such checkpoint'):
        evaluating.load(made[0] / 'nowhere')


def test_what_is_missing_is_said_with_the_flag_it_was_given_by(made, tmp_path):
    with pytest.raises(UserError, match=r'no such checkpoint.* with --source=PATH'):
        networks.find_weights('nowhere.tflite', '--source')
    shutil.copy(made[0] / 'model.ckpt-1.data-00000-of-00001', tmp_path)
    with pytest.raises(UserError, match=r'model.ckpt-1.index is missing beside .*data-00000'):
        networks.find_weights(tmp_path / 'model.ckpt-1')


def test_which_belongs_to_a_run_directory(made, tmp_path):
    with pytest.raises(UserError, match='--which=control belongs to a run directory') as caught:
        networks.load(made[0] / 'model', 'control')
    assert '\n' not in str(caught.value)
    for name in ('best', 'control'):
        shutil.copytree(made[0] / 'model', tmp_path / 'checkpoints' / name)
    assert networks.find(tmp_path, 'control') == tmp_path / 'checkpoints' / 'control'
    assert len(evaluating.load_each([tmp_path, made[0] / 'model'], 'control')) == 2
    with pytest.raises(UserError, match='no checkpoint "last"'):
        evaluating.load_each([tmp_path, made[0] / 'model'], 'last')
    with pytest.raises(UserError, match='belongs to a run directory'):
        evaluating.load_each([made[0] / 'model'], 'best')


def test_the_model_of_a_run_is_its_averaged_one_and_of_loads_its_best(made, tmp_path):
    checkpoints = tmp_path / 'checkpoints'
    order = ['stage1', 'stage1_averaged', 'control', 'control_averaged', 'last', 'best', 'averaged']
    for name in order:  # each comes before those that were there already
        shutil.copytree(made[0] / 'model', checkpoints / name)
        assert networks.find(tmp_path) == checkpoints / name
    assert sorted(order) == sorted(networks.WHICH)
    (tmp_path / 'lookahead').mkdir()
    (tmp_path / 'lookahead' / 'state.json').write_text('{}')
    assert networks.find(tmp_path) == checkpoints / 'best'
    assert networks.find(tmp_path, 'averaged') == checkpoints / 'averaged'
    shutil.rmtree(checkpoints / 'best')
    assert networks.find(tmp_path) == checkpoints / 'averaged'


def test_every_model_of_a_run_has_a_word_on_the_command_line():
    folders = {evaluating.which_folder(word) for word in command_line.WHICH}
    assert folders == set(networks.WHICH)


def edited(made, folder, change):
    """A copy of the model folder, its description changed by a function of the dict."""
    shutil.copytree(made[0] / 'model', folder)
    path = folder / 'model.json'
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    return folder


DESCRIPTIONS = {
    'list': (lambda content: [], 'not a description that this package wrote'),
    'other': (lambda content: {'a': 1}, 'not a description that this package wrote'),
    'part': (lambda content: {'format': networks.FORMAT}, 'a part is missing'),
    'flat': (lambda content: {**content, 'model': 'deeplab'}, 'a part is missing'),
    'classes': (lambda content: {**content, 'model': description(7)},
                'says 7 classes for the network and 4 for its data set'),
    'network': (lambda content: {**content, 'model': {**description(), 'arguments': {
        **description()['arguments'], 'depth_multiplier': 0.5}}},
                'model.json describes another network'),
    'argument': (lambda content: {**content, 'model': {**description(), 'arguments': {
        **description()['arguments'], 'depth': 3}}},
                 'model.json: .* cannot be built with .*depth = 3: TypeError'),
    'number': (lambda content: {**content, 'model': {**description(), 'arguments': {
        **description()['arguments'], 'depth_multiplier': []}}}, 'model.json: '),
    'builder': (lambda content: {**content, 'model': {**description(), 'network': 'deep'}},
                'model.json: unknown network "deep"'),
    'palette': (lambda content: {**content, 'dataset': {**content['dataset'], 'palette': [None]}},
                'model.json: data set .* of another kind than expected'),
    'names': (lambda content: {**content, 'dataset': {**content['dataset'], 'class_names': 'aa'}},
              'model.json: data set .*class name "a" is given twice'),
}


@pytest.mark.parametrize('case', DESCRIPTIONS)
def test_a_description_that_does_not_belong_is_one_line(made, tmp_path, case):
    change, message = DESCRIPTIONS[case]
    folder = edited(made, tmp_path / 'kept', change)
    model = networks.build(description(seed=5))
    for read in (networks.load, lambda path: networks.read_weights(path, model)):
        if read is not networks.load and case not in ('list', 'other', 'part', 'flat'):
            continue  # whatever is written there, the weights are this network's by their names
        with pytest.raises(UserError, match=message) as caught:
            read(folder)
        assert str(folder) in str(caught.value) and '\n' not in str(caught.value)


def test_a_description_of_other_classes_than_the_weights_is_one_line(made, tmp_path):
    spec = specs.DatasetSpec('seven', 'abcdefg', specs.default_palette(7))
    folder = edited(made, tmp_path / 'kept', lambda content: {
        **content, 'model': description(7), 'num_classes': 7, 'dataset': spec.to_json()})
    model = networks.build(description(7, seed=5))
    for read in (networks.load, lambda path: networks.read_weights(path, model)):
        with pytest.raises(UserError, match=r'describes another network .*7 classes. than weights'):
            read(folder)


def test_a_description_without_weights_says_what_to_do(made, tmp_path):
    shutil.copytree(made[0] / 'model', tmp_path / 'bare')
    shutil.rmtree(tmp_path / 'bare' / 'weights')
    with pytest.raises(UserError, match='no weights/ beside it; copy the whole folder'):
        networks.load(tmp_path / 'bare')


@pytest.fixture
def locked():
    """Function (mode) -> a folder of that mode, seen without root's rights."""
    folder = pathlib.Path(tempfile.mkdtemp())  # pytest's own lie where root alone may look
    folder.chmod(0o755)
    inner = folder / 'locked'
    inner.mkdir()

    def lock(mode):
        inner.chmod(mode)
        if os.getuid() == 0:
            os.seteuid(65534)
        return inner

    yield lock
    os.seteuid(os.getuid())
    shutil.rmtree(folder)


@pytest.mark.parametrize('mode', [0o000, 0o111, 0o444])
def test_a_folder_without_permission_is_one_line(locked, mode):
    folder = locked(mode)
    for look in (networks.find_weights, networks.find, networks.load, evaluating.load,
                 evaluating.run_of, lambda path: networks.read_weights(path, None)):
        if look is evaluating.run_of and mode == 0o111:
            continue  # names that are known may be looked for
        with pytest.raises(UserError, match='permission denied') as caught:
            look(folder)
        assert str(folder) in str(caught.value)
    with pytest.raises(UserError, match='permission denied|no such checkpoint'):
        networks.find_weights(folder / 'model.ckpt-1')


def test_a_folder_is_built_again(made, tmp_path):
    model, spec, content = networks.load(made[0] / 'model')
    assert_equal(model, made[1])
    assert spec.num_classes == 4 and content['model'] == {
        **description(seed=3), 'arguments': {**description(seed=3)['arguments'],
                                             'atrous_rates': []}}
    shutil.copytree(made[0] / 'model', tmp_path / 'damaged')
    data = next((tmp_path / 'damaged' / 'weights').glob('*.data-*'))
    data.write_bytes(data.read_bytes()[:-100])
    with pytest.raises(UserError, match='damaged'):
        networks.load(tmp_path / 'damaged')


def test_every_name_leads_to_a_builder_of_that_name():
    for name, builder in networks.NETWORKS.items():
        assert builder.__name__ == name
