"""What a run starts from where it is given nothing: the zoo's weights if they can be had."""
import json
import types

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.experiments.train import starting_weights
from tf_advseg.experiments.train import training
from tf_advseg.models.zoo import fetching
from tf_advseg.models.zoo import tf1_checkpoint
from tf_advseg.run import networks

NAME = 'zoo:mobilenetv2_dm05_coco_voc_trainaug'
OPTIONS = {'num_train': 2, 'num_val': 2, 'num_test': 1, 'size': (40, 40), 'smallest': (33, 33)}


def start(workdir, depth=0.5, default=NAME, others=()):
    """Starts a run of nothing but its starting weights; returns stage1's weights."""
    configuration.parse([], [
        "dataset.reader = 'shapes'", f'dataset.options = {OPTIONS!r}',
        'dataset.holdout_fraction = 0.5', 'experiment.crop_size = 33',
        "experiment.method = 'cross_entropy'", 'stage_one.epochs = 0',
        'stage_one.weighted_epochs = 0', f'deeplab_mobilenet_v2.depth_multiplier = {depth}',
        *([] if default is None else [f'experiment.default_checkpoint = {default!r}']), *others])
    training.experiment(workdir, tf.distribute.get_strategy())
    description = networks.read_description(workdir / 'checkpoints' / 'stage1')['model']
    segmentor = networks.build(description)
    networks.load_weights(workdir / 'checkpoints' / 'stage1', segmentor)
    return segmentor.weights[0].numpy()


@pytest.fixture(scope='module')
def published(tmp_path_factory):
    """(the first kernel of published weights, a TF1 checkpoint of them)."""
    segmentor = networks.build(networks.describe(
        'deeplab_mobilenet_v2', num_classes=21, seed=5, depth_multiplier=0.5))
    prefix = tmp_path_factory.mktemp('zoo') / 'model.ckpt-1'
    tf1_checkpoint.write(prefix, segmentor)
    return segmentor.weights[0].numpy(), prefix


def test_a_new_run_starts_from_them_and_keeps_to_it(published, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fetching, 'fetch', lambda name: published[1])
    workdir = tmp_path / 'run'
    np.testing.assert_array_equal(start(workdir), published[0])
    assert 'starting weights:' in capsys.readouterr().out
    assert json.loads((workdir / 'start.json').read_text())['checkpoint'] == NAME


def test_without_a_network_it_starts_from_random_ones_says_so_and_keeps_to_it(
        published, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv('TF_ADVSEG_CACHE', str(tmp_path / 'cache'))
    workdir = tmp_path / 'run'
    first = start(workdir)  # conftest.py takes the network away
    assert 'starts from random weights' in caplog.text and 'TF_ADVSEG_OFFLINE' in caplog.text
    assert not np.array_equal(first, published[0])
    monkeypatch.setattr(fetching, 'fetch', lambda name: published[1])
    np.testing.assert_array_equal(start(workdir), first)
    assert json.loads((workdir / 'start.json').read_text())['checkpoint'] is None


def test_weights_of_another_network_are_left_with_a_warning(published, tmp_path, monkeypatch,
                                                           caplog):
    monkeypatch.setattr(fetching, 'fetch', lambda name: published[1])
    start(tmp_path / 'run', depth=0.25)
    assert 'starts from random weights' in caplog.text
    assert json.loads((tmp_path / 'run' / 'start.json').read_text())['checkpoint'] is None


def test_a_run_begun_before_there_was_a_default_goes_on_without(published, tmp_path, monkeypatch):
    first = start(tmp_path / 'run', default=None)
    monkeypatch.setattr(fetching, 'fetch', lambda name: published[1])
    np.testing.assert_array_equal(start(tmp_path / 'run'), first)
    assert not (tmp_path / 'run' / 'start.json').exists()


@pytest.mark.parametrize('content', ['3', '[]', '{}', '{"checkpoint": 3}'])
def test_a_run_that_says_something_else_of_its_start_is_one_line(tmp_path, content):
    (tmp_path / 'start.json').write_text(content)
    context = types.SimpleNamespace(run=types.SimpleNamespace(path=tmp_path))
    with pytest.raises(errors.UserError, match='start.json: does not hold what it should'):
        starting_weights.read(context, None, None, NAME)


def test_weights_that_were_asked_for_come_first(published, tmp_path, monkeypatch):
    def never(name):
        raise AssertionError(name)
    monkeypatch.setattr(fetching, 'fetch', never)
    kernel = start(tmp_path / 'run', others=[f'experiment.checkpoint = {str(published[1])!r}'])
    np.testing.assert_array_equal(kernel, published[0])


@pytest.mark.parametrize('default, message', [
    ('weights.tflite', 'expected a name of the zoo'), ('zoo:no_such_weights', 'no_such_weights')])
def test_what_is_no_name_of_the_zoo_is_one_line(tmp_path, default, message):
    with pytest.raises(errors.UserError, match=message):
        start(tmp_path / 'run', default=default)
    assert starting_weights.START not in {path.name for path in tmp_path.rglob('*')}
