"""The averaged model of a stage: what is saved, what it scores, and that nothing else changes."""
import importlib.util
import pathlib
import types

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core import configuration, files, random_streams, run_directory
from tf_advseg.core.errors import UserError
from tf_advseg.data import pipeline
from tf_advseg.evaluation import metrics as figures
from tf_advseg.experiments.train import stage_one
from tf_advseg.experiments.train import training
from tf_advseg.lookahead import load_stage
from tf_advseg.models import segmentor as segmentors
from tf_advseg.run import averaged
from tf_advseg.run import context as contexts
from tf_advseg.run import dataset as datasets
from tf_advseg.run import networks
from tf_advseg.training import averaging

SIDE = 33
OPTIONS = {'num_train': 6, 'num_val': 4, 'num_test': 1, 'size': (SIDE, SIDE), 'smallest': (33, 33)}
GIN = ("dataset.reader = 'shapes'", f'dataset.options = {OPTIONS!r}',
       'dataset.holdout_fraction = 1', 'stage_one.weighted_epochs = 0', 'stage_one.epochs = 3',
       'stage_one.batch_size = 2', 'stage_one.learning_rate = 0.05',
       'stage_one.evaluate_every_epochs = 0', 'swa.enabled = True', 'swa.every = 2')


def network(live=True):
    """A convolution with Keras' batch norm under the segmentor contract."""
    start = tf.keras.initializers.GlorotUniform
    return segmentors.as_segmentor(tf.keras.Sequential([
        tf.keras.layers.Conv2D(4, 3, 2, 'same', kernel_initializer=start(seed=1)),
        tf.keras.layers.BatchNormalization(momentum=0.9),
        tf.keras.layers.Conv2D(8, 1, kernel_initializer=start(seed=2))]),
        normalise=lambda x: x / 127.5 - 1.0, fine_tune_batch_norm=live)


def trained(path, *bindings, average=True, live=True):
    """(result, segmentor, context) of Stage 1."""
    configuration.parse([], [*GIN, *bindings])
    with run_directory.RunDirectory(path) as run:
        run.open(configuration.config_text(), training.MAY_CHANGE)
        segmentor = network(live)
        context = contexts.Context(run, datasets.dataset(run.path), tf.distribute.get_strategy(),
                                   random_streams.RandomStreams(0), (SIDE, SIDE), None)
        return stage_one.run(context, segmentor, 'nothing', average=average), segmentor, context


def weights(context, name):
    """{'trainable': arrays, 'statistics': arrays} of a model folder of a run."""
    other = network()
    networks.load_weights(context.run.checkpoints / name, other)
    return {'trainable': [v.numpy() for v in other.trainable_variables],
            'statistics': [v.numpy() for v in other.non_trainable_variables]}


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """(path, result, segmentor, context) of a Stage 1 whose weights are averaged."""
    path = tmp_path_factory.mktemp('averaged') / 'run'
    return path, *trained(path)


def test_stage_one_leaves_its_averaged_model_and_what_it_scores(made):
    _, result, segmentor, context = made
    assert result['steps'] == 9 and result['averaged']['models'] == 5  # the start, 2, 4, 6, 8
    content = networks.read_description(context.run.checkpoints / 'stage1_averaged')
    assert content['averaged'] == {'models': 5, 'every': 2, 'constant': 2.0,
                                   'reading': 'constant', 'start': 0}
    for name in ('holdout_miou', 'holdout_miou_before_batch_norm'):
        assert content[name] == result['averaged'][name] and 0.0 <= content[name] <= 1.0
    plain, mean = (weights(context, name) for name in ('stage1', 'stage1_averaged'))
    for one, other, now in zip(plain['trainable'], mean['trainable'],
                               segmentor.trainable_variables):
        assert np.any(one != other)
        np.testing.assert_array_equal(one, now)  # the network goes on as it was
    other = network()
    networks.load_weights(context.run.checkpoints / 'stage1_averaged', other)
    assert context.holdout_miou(other) == content['holdout_miou']
    checked = figures.mean_iou(context.counts(other, context.data.holdout),
                               context.data.spec.absent)
    assert content['holdout_miou'] == pytest.approx(float(checked))


def test_its_statistics_are_those_of_one_pass_over_the_training_images(made):
    _, _, _, context = made
    other = network()
    networks.load_weights(context.run.checkpoints / 'stage1_averaged', other)
    saved = [v.numpy() for v in other.non_trainable_variables]
    batches = pipeline.training_batches(
        context.data.records, context.data.train, 2, (SIDE, SIDE), context.streams, 0, 3,
        recipe=stage_one.stage_one().recipe)
    features = [other.model.layers[0](b['image'] / 127.5 - 1.0).numpy().astype(np.float64)
                for b in batches]
    assert len(features) == 3
    for values, expected in zip(saved, (
            np.mean([f.mean((0, 1, 2)) for f in features], 0),
            np.mean([f.reshape(-1, 4).var(0, ddof=1) for f in features], 0))):
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6)


def test_averaging_changes_nothing_of_the_training_and_old_stages_are_recognised(made, tmp_path):
    path, result, segmentor, context = made
    assert trained(path)[0] == result  # taken up, not done again
    plain, other, without = trained(tmp_path / 'plain', average=False)
    assert 'averaged' not in plain and plain['holdout_miou'] == result['holdout_miou']
    for one, two in zip(segmentor.variables, other.variables):
        np.testing.assert_array_equal(one, two)
    assert not (without.run.checkpoints / stage_one.AVERAGED).exists()
    done = {name: files.read_json(c.run.stages / 'stage1' / 'done.json')['settings']
            for name, c in (('with', context), ('without', without))}
    assert 'swa' not in done['without'] and done['with'].pop('swa')['every'] == 2
    assert done['with'] == done['without']


def test_another_average_is_another_stage(made):
    context = made[-1]
    configuration.parse([], [*GIN, 'swa.every = 3'])
    with pytest.raises(UserError, match='done with other settings .swa.'):
        stage_one.run(context, network(), 'nothing', average=True)


def test_frozen_statistics_go_into_the_averaged_model_as_they_are(tmp_path):
    result, _, context = trained(tmp_path / 'run', live=False)
    assert result['averaged']['holdout_miou_before_batch_norm'] is None
    for one, two in zip(weights(context, 'stage1_averaged')['statistics'],
                        network().non_trainable_variables):
        np.testing.assert_array_equal(one, two)


def test_as_many_batches_are_read_as_the_settings_say():
    segmentor, taken = network(), []

    def count(number):
        taken.append(number)
        return tf.data.Dataset.range(number).map(lambda _: {
            'image': tf.random.stateless_uniform([2, SIDE, SIDE, 3], [0, 1], 0, 255)})

    batches = types.SimpleNamespace(take=count, element_spec=count(1).element_spec)
    batches.element_spec = {'image': tf.TensorSpec([2, SIDE, SIDE, 3])}
    context = types.SimpleNamespace(data=types.SimpleNamespace(train=list('abcde')),
                                    strategy=tf.distribute.get_strategy())
    for settings in (averaging.swa(), averaging.swa(batch_norm_batches=7)):
        assert averaged.reestimate(context, segmentor, settings, batches)
    assert taken[1:] == [3, 7]  # a pass over five images in twos, and what was asked for
    assert not averaged.reestimate(context, network(live=False), averaging.swa(), batches)


@pytest.mark.slow
def test_load_and_its_control_leave_averaged_models(tmp_path):
    spec = importlib.util.spec_from_file_location(
        'tiny', pathlib.Path(__file__).parents[1] / 'lookahead' / 'tiny.py')
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    tiny.run(tmp_path / 'run', fine_tune_batch_norm=True, gin_params=(
        *tiny.GIN, 'controller.max_total_cycles = 2', 'controller.patience = 3',
        'swa.enabled = True', 'swa.every = 1', "swa.reading = 'models'"))
    folder = tmp_path / 'run' / 'checkpoints'
    assert not (folder / stage_one.AVERAGED).exists()  # the method is LoAd, not its Stage 1
    for name, plain in (('averaged', 'best'), ('control_averaged', 'control')):
        content = networks.read_description(folder / name)
        assert content['label'] == networks.read_description(folder / plain)['label']
        assert content['averaged']['models'] >= 1 and 0.0 <= content['holdout_miou'] <= 1.0
        assert content['holdout_miou_before_batch_norm'] is not None
    assert networks.find(tmp_path / 'run') == folder / 'best'


@pytest.mark.parametrize('caps, steps, refused', [
    (dict(max_propagations=12), 1, True), (dict(max_propagations=12), 9, False),
    (dict(max_cycles=3), 1, True), (dict(max_total_cycles=30), 1, False), ({}, 1, False)])
def test_load_refuses_an_average_that_its_caps_leave_no_step_for(caps, steps, refused):
    """Told before the first propagation; n is 100, a cycle 5 propagations."""
    rules = types.SimpleNamespace(**{'max_propagations': None, 'max_total_cycles': None,
                                     'max_cycles': None, 'patience': 5, **caps})
    average = types.SimpleNamespace(every=100)
    if not refused:
        load_stage._require_averaged(average, rules, steps)
        return
    with pytest.raises(UserError, match='swa.every = 100: about 1[25] propagations') as caught:
        load_stage._require_averaged(average, rules, steps)
    assert '\n' not in str(caught.value)
