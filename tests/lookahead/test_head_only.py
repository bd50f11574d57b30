"""LoAd on the head alone: the backbone stays, and its maps are computed once."""
import contextlib
import json
import types
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core import configuration
from tf_advseg.core import files
from tf_advseg.core import random_streams
from tf_advseg.core.errors import UserError
from tf_advseg.data.records import record_set as record_sets
from tf_advseg.experiments import improve
from tf_advseg.lookahead import data as lookahead_data
from tf_advseg.lookahead import head_only
from tf_advseg.lookahead import load_report
from tf_advseg.lookahead import orchestrator
from tf_advseg.lookahead import settings as settings_lib
from tf_advseg.models import deeplab

CROP = 49
GIN = (
    'lookahead.head_only = True', 'lookahead.batch_size = 4', 'lookahead.min_epochs = 1',
    'lookahead.max_epochs = 1', 'lookahead.screening_images = 0', 'lookahead.durable_every = 2',
    "build_discriminator.name = 'patch'", 'build_discriminator.alpha = 0.1',
    'lookahead.balance_batches = 1', 'controller.patience = 4', 'controller.max_total_cycles = 1',
    'segmentor_optimizer.learning_rate = 0.01', "dataset.reader = 'shapes'",
    "dataset.options = {'num_train': 8, 'num_val': 6, 'num_test': 2, 'size': (49, 49), "
    "'smallest': (40, 40)}", 'dataset.holdout_fraction = 0.5')


class Backbone(tf.keras.layers.Layer):
    """Two convolutions of stride 4: all that a DeepLab's head asks for, compiled in no time."""
    output_stride, channels, skip_channels = 16, 6, 4

    def __init__(self):
        super().__init__(name='backbone')
        start = tf.keras.initializers.GlorotUniform(seed=5)
        self.first, self.second = (tf.keras.layers.Conv2D(
            width, 5, 4, 'same', activation='relu', kernel_initializer=start)
            for width in (self.skip_channels, self.channels))
        self.first.build((None, None, None, 3))
        self.second.build((None, None, None, self.skip_channels))
        self.built = True

    def call(self, image, mode=None):
        del mode
        skip = self.first(image)
        return {'features': self.second(skip), 'skip': skip}


def network(**changes):
    """The smallest DeepLab."""
    return deeplab.DeepLab(Backbone(), 8, seed=1, **changes)


def run(workdir, *bindings, model=None, strategy=None):
    """(the network as it was left, results)."""
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = model or network()
    results = improve.improve(model, None, workdir, crop_size=CROP, seed=3, strategy=strategy,
                              gin_params=(*GIN, *bindings))
    configuration.parse([], [])
    return model, results


def weights(folder):
    """{name: array} of a saved model."""
    reader = tf.train.load_checkpoint(str(folder / 'weights' / 'state'))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
            if not name.startswith(('_CHECKPOINTABLE', 'save_counter'))}


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A run that kept the backbone's maps."""
    path = tmp_path_factory.mktemp('head') / 'run'
    return (path, *run(path, 'lookahead.screening_images = 4'))


def test_the_backbone_stays_as_it_was_and_the_head_moves(finished):
    path, model, results = finished
    seconds = files.read_json(path / 'lookahead' / 'state.json')['seconds']
    assert seconds['backbone maps'] > 0.0  # a part of its own, not of the first evaluation
    first = network()
    first.backbone.trainable = False  # the order of variables goes by it
    for before, after in zip(first.backbone.variables, model.backbone.variables):
        np.testing.assert_array_equal(before, after)
    assert results['models']['LoAd']['test']['miou'] is not None
    assert model.backbone.trainable  # the network is the user's, and goes on whole
    first.backbone.trainable = True
    moved = [np.abs(before - after.numpy()).max() for before, after in zip(
        first.logits.variables, model.logits.variables)]
    assert min(moved) > 0


def trace(path):
    """The hold-out's mIoU at every propagation, and the losses."""
    lines = [json.loads(line) for line in (path / 'metrics.jsonl').read_text().splitlines()]
    return np.array([[line['miou'], line['loss/ce'], line['loss/adv']] for line in lines
                     if line['event'] == 'propagation'])


def test_maps_that_are_kept_and_maps_that_are_made_anew_train_alike(finished, tmp_path):
    with mock.patch.object(head_only, 'MOST_BYTES', 0):
        run(tmp_path / 'anew', 'experiment.control = False')
    kept, anew = trace(finished[0]), trace(tmp_path / 'anew')
    assert kept.shape == anew.shape and len(kept) >= 4
    # One is the backbone in batches of 8, the other in batches of 4: the same but for rounding.
    np.testing.assert_allclose(kept[:, 1:], anew[:, 1:], rtol=2e-3)
    assert np.abs(kept[:, 0] - anew[:, 0]).max() < 0.02


def test_the_control_trains_the_head_alone_too(finished):
    path = finished[0]
    control, start = (weights(path / 'checkpoints' / name) for name in ('control', 'stage1'))
    assert set(control) == set(start)
    moved = [name for name in start if not np.array_equal(control[name], start[name])]
    assert moved and not [name for name in moved if 'backbone' in name]


@pytest.mark.slow
def test_two_replicas(tmp_path, two_replicas):
    plain = ('experiment.control = False', 'segmentor_optimizer.learning_rate = 0.001')
    run(tmp_path / 'two', *plain, strategy=two_replicas)
    run(tmp_path / 'one', *plain)
    two, one = trace(tmp_path / 'two'), trace(tmp_path / 'one')
    assert len(two) == len(one)
    np.testing.assert_allclose(two[:, 1], one[:, 1], rtol=1e-2)


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_as_one_that_was_not(finished, tmp_path):
    taken, propagate = [], orchestrator.LookAhead._propagate

    def stopped(self):
        if len(taken) == 3:
            raise KeyboardInterrupt
        taken.append(1)
        return propagate(self)
    with mock.patch.object(orchestrator.LookAhead, '_propagate', stopped):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / 'run', 'lookahead.screening_images = 4')
    run(tmp_path / 'run', 'lookahead.screening_images = 4')
    whole, again = (weights(path / 'checkpoints/best') for path in (finished[0], tmp_path / 'run'))
    for name in whole:
        np.testing.assert_array_equal(whole[name], again[name], err_msg=name)
    np.testing.assert_array_equal(trace(finished[0]), trace(tmp_path / 'run'))


@pytest.mark.parametrize('bindings, changes, words', [
    (('lookahead.head_only = 1',), {}, 'head_only'),
    (('lookahead.budget_steps = 4',), {}, 'trains the whole network'),
    ((), {'fine_tune_batch_norm': True}, 'frozen batch norms')])
def test_what_cannot_be_is_one_line(tmp_path, bindings, changes, words):
    with pytest.raises(UserError, match=words):
        run(tmp_path / 'run', *bindings, model=network(**changes))


def test_a_foreign_network_has_no_head(tmp_path):
    model = tf.keras.Sequential([tf.keras.layers.Conv2D(8, 3, 4, 'same')])
    with pytest.raises(UserError, match='needs a DeepLab'):
        run(tmp_path / 'run', model=model)


def test_what_is_kept_is_what_the_backbone_makes_of_the_batch(finished):
    """Of mirrored images as of others, and at the decoder's stride as well."""
    path, model, _ = finished
    records = record_sets.RecordSet(path / 'records')
    settings = settings_lib.LookaheadSettings(batch_size=4)
    data = types.SimpleNamespace(records=records, train=records.split('train'),
                                 holdout=records.split('val'))
    context = types.SimpleNamespace(data=data, crop_size=(CROP, CROP))
    kept = head_only.BackboneMaps(context, model, 3)
    batches = lookahead_data.LookaheadData(
        records, data.train, data.holdout, (CROP, CROP), settings, random_streams.RandomStreams(1),
        tf.distribute.get_strategy(), model, 'soft', kept).batches(0, 4)
    mirrored = []
    for batch in batches:
        expected = model.backbone(model.normalisation(batch['image']))['features']
        np.testing.assert_allclose(batch['backbone_features'], expected, atol=1e-5)
        assert np.abs(expected[0] - expected[1]).max() > 1e-2  # another image has other features
        mirrored += list((batch['label'].numpy()[:, :, 0] == 255).any(1))
    assert 0 < sum(mirrored) < len(mirrored)


@pytest.mark.parametrize('head_alone', [True, False])
@pytest.mark.parametrize('frozen', ['nothing', 'a layer', 'all'])
def test_a_backbone_is_left_as_its_owner_had_it(tmp_path, frozen, head_alone):
    model = network()
    if frozen == 'a layer':
        model.backbone.first.trainable = False
    model.backbone.trainable = model.backbone.trainable if frozen == 'a layer' else (
        frozen == 'nothing')
    if frozen == 'a layer':
        model.backbone.first.trainable = False
    names = [variable.name for variable in model.trainable_variables]
    run(tmp_path / 'run', 'experiment.control = False', 'lookahead.adversarial_weight = 0.0',
        'controller.max_propagations = 1', f'lookahead.head_only = {head_alone}', model=model)
    assert [variable.name for variable in model.trainable_variables] == names


@pytest.mark.slow
def test_the_null_random_moves_the_head_alone_and_otherwise_than_load(finished, tmp_path):
    run(tmp_path / 'run', 'experiment.control = False', "lookahead.null = 'random'")
    start = weights(tmp_path / 'run/checkpoints/stage1')
    end = weights(tmp_path / 'run/checkpoints/best')
    assert not [name for name in start if 'backbone' in name
                and not np.array_equal(start[name], end[name])]
    null, load = trace(tmp_path / 'run'), trace(finished[0])
    np.testing.assert_allclose(null[0, 1:], load[0, 1:], rtol=1e-3)  # before a step they are one
    assert np.abs(null[-1, 1] - load[-1, 1]) > 1e-4


def test_a_dry_run_counts_the_head_alone(finished):
    path, model, _ = finished
    timed = []
    context = types.SimpleNamespace(crop_size=(CROP, CROP))
    loop = types.SimpleNamespace(method=types.SimpleNamespace(segmentor=model),
                                 settings=settings_lib.LookaheadSettings(batch_size=2),
                                 data=types.SimpleNamespace(known=None))
    with mock.patch.object(load_report.costs, 'seconds_of',
                           lambda what, inputs: timed.append((what, inputs)) or 1.0):
        load_report._image_seconds(context, loop)
        loop.data.known = object()
        load_report._image_seconds(context, loop)
    (whole, images), (head, maps) = timed
    assert whole is model and images.shape == (2, CROP, CROP, 3)
    assert head == model.head and maps['features'].shape[0] == 2
    np.testing.assert_allclose(head(maps), model(images), atol=1e-4)


def test_a_decoder_gets_its_skip_maps():
    model = network(decoder=True)
    image = tf.random.stateless_uniform([2, CROP, CROP, 3], [1, 2], 0, 255)
    maps = head_only.maps_of(model, image)
    assert set(maps) == {'features', 'skip'}
    np.testing.assert_allclose(model.head(maps), model(image), atol=1e-5)
