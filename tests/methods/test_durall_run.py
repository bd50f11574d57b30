"""Durall's stage end to end on small scenes: averaged weights beside the last, of both networks."""
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import whole_run

from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.experiments.score import evaluating
from tf_advseg.experiments import recipe_registry as recipes
from tf_advseg.experiments.train import run_report
from tf_advseg.experiments.train import training
from tf_advseg.run import networks
from tf_advseg.training import averaging, checkpoints, loop, schedules

SCENES = whole_run.scenes()
start = whole_run.starter('durall', (
    *SCENES, 'build_pixel_discriminator.widths = (8, 16)', 'durall.map_stride = 2',
    'adversarial_stage.steps = 8', 'adversarial_stage.evaluate_every_epochs = 1', 'swa.every = 3'))


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """(folder, results) of a finished run, and what its steps saw.

    'weights' are those that each step of an averaged network left, 'segmentor' and 'discriminator'
    the images of each step.
    """
    path, seen = tmp_path_factory.mktemp('durall') / 'run', {}
    follow, call = averaging.WeightAverage.after_step, loop.Stepper.__call__

    def followed(self):
        seen.setdefault('weights', []).append([v.numpy() for _, v in self._pairs])
        follow(self)

    def watched(self, step, batch, *arguments, **scalars):
        if isinstance(step, str):
            seen.setdefault(step, []).append(batch['image'].numpy())
        return call(self, step, batch, *arguments, **scalars)
    with mock.patch.object(averaging.WeightAverage, 'after_step', followed), mock.patch.object(
            loop.Stepper, '__call__', watched):
        results = start(path, report=True)
    yield path, results, seen


def test_a_run_shows_both_networks_plain_and_averaged(made, lines_of):
    path, results, _ = made
    # The start has random weights: no model to compare with.
    assert list(results['models']) == ['control (CE)', 'control (CE) + SWA', 'Durall',
                                       'Durall + SWA']
    assert results['subject'] == 'Durall + SWA' and results['starts_random']
    assert {line['segmentor_step'] for line in lines_of(path, stage='durall', event='evaluation',
                                                        split='holdout_averaged')} == {3, 6, 8}
    last = lines_of(path, stage='durall', event='evaluation', split='holdout_averaged')[-1]
    about = networks.read_description(path / 'checkpoints' / 'averaged')
    assert about['holdout_miou'] == last['miou'] and about['averaged']['models'] == 3
    assert results['models']['Durall + SWA']['holdout']['miou'] == pytest.approx(last['miou'])
    assert networks.find(path).name == 'averaged'  # what --checkpoint=RUN means
    html = (path / 'report.html').read_text()
    assert 'one decision a pixel, maps of every 2. pixel, λ 0.01' in html
    assert '3 models averaged, every 3 steps from step 0 on, n = 3 constant' in html
    assert 'Durall + SWA' in html and (path / 'figures' / 'masks_over_time.png').is_file()
    shown = run_report.masks_over_time(mock.Mock(run=mock.Mock(stages=path / 'stages')),
                                       recipes.find('durall'))
    assert {name: list(steps) for name, steps in shown.items()} == {
        'Durall': [3, 6, 8], 'control (CE)': [3, 6, 8]}
    assert all(mask.dtype == np.uint8 for mask in shown['Durall'][8])


def test_an_evaluation_says_which_model_it_is_of(made):
    path, results, _ = made
    for which, name in ((None, 'averaged'), ('last', 'last')):
        found = evaluating.evaluate(path, which=which, show=False)
        column = results['models']['Durall + SWA' if which is None else 'Durall']
        model, = found['models'].values()
        assert model['miou'] == pytest.approx(column['test']['miou'], abs=1e-6)
        assert list(found['which'].values()) == [name]
        assert ('averaged' in evaluating.table(found).title) is (which is None)


def test_averages_are_equation_seven_over_the_weights_of_the_steps(made):
    path, _, seen = made
    assert len(seen['weights']) == 16  # of Durall's segmentor, then of the control's
    for folder, last, steps in (('averaged', 'last', seen['weights'][:8]),
                                ('control_averaged', 'control', seen['weights'][8:])):
        segmentor, _, _ = networks.load(path / 'checkpoints' / 'stage1')
        theta = [v.numpy() for v in segmentor.trainable_variables]
        for number in (3, 6):  # "if mod(i, n) = 0", n = 3
            theta = [(3 * a + b) / 4 for a, b in zip(theta, steps[number - 1])]
        networks.load_weights(path / 'checkpoints' / last, segmentor)
        for a, b in zip(segmentor.trainable_variables, steps[-1]):
            np.testing.assert_array_equal(a.numpy(), b)
        networks.load_weights(path / 'checkpoints' / folder, segmentor)
        averaged = [v.numpy() for v in segmentor.trainable_variables]
        assert max(np.abs(a - b).max() for a, b in zip(averaged, steps[-1])) > 1e-4
        for a, b in zip(theta, averaged):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_both_networks_take_the_same_batches(made):
    """Algorithm 1 draws one batch an iteration; the generator goes first, and last."""
    _, _, seen = made
    assert len(seen['segmentor']) == 8 and len(seen['discriminator']) == 7
    for a, b in zip(seen['segmentor'], seen['discriminator']):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(seen['discriminator'][0], seen['discriminator'][1])


@pytest.mark.slow  # tests/training/test_averaging.py has the average cut and resumed
def test_a_stopped_run_has_the_same_average_to_the_bit(made, tmp_path, monkeypatch,
                                                       lines_of, weights):
    path, _, _ = made
    write, count = checkpoints.write_state, []

    def killed(folder, *arguments, **trackables):
        write(folder, *arguments, **trackables)
        count.append(folder)
        if len(count) == 4:
            raise KeyboardInterrupt
    monkeypatch.setattr(checkpoints, 'write_state', killed)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / 'run')
    monkeypatch.undo()
    assert not (tmp_path / 'run' / 'checkpoints' / 'averaged').exists()
    start(tmp_path / 'run')
    for name in ('averaged', 'control_averaged', 'last', 'control'):
        for a, b in zip(weights(path, name), weights(tmp_path / 'run', name)):
            np.testing.assert_array_equal(a, b)
    for split in ('holdout', 'holdout_averaged'):
        assert lines_of(path, split=split) == lines_of(tmp_path / 'run', split=split)


@pytest.mark.slow
def test_averaging_changes_no_training(made, tmp_path, weights):
    path, _, _ = made
    results = start(tmp_path / 'run', 'swa.enabled = False')
    assert list(results['models']) == ['control (CE)', 'Durall']
    for name in ('last', 'control'):
        for a, b in zip(weights(path, name), weights(tmp_path / 'run', name)):
            np.testing.assert_array_equal(a, b)
    assert networks.find(tmp_path / 'run').name == 'last'


@pytest.mark.slow  # the steps and the averages have default tests of their own on two replicas
def test_two_replicas_give_the_same_run(made, tmp_path, two_replicas, weights):
    path, _, _ = made
    start(tmp_path / 'run', 'experiment.control = False', strategy=two_replicas)
    for name in ('last', 'averaged'):
        for a, b in zip(weights(path, name), weights(tmp_path / 'run', name)):
            np.testing.assert_allclose(a, b, atol=2e-4)


@pytest.mark.parametrize('binding, text', [
    ("build_pixel_discriminator.kind = 'pixl'", 'Did you mean "pixel"'),
    ('discriminator_optimizer.beta_2 = 1.0',
     'discriminator_optimizer.beta_2 = 1.0: expected a number'),
    ("discriminator_optimizer.schedule = 'poli'", 'Did you mean "poly"'),
    ('adversarial_stage.same_batches = 1', 'adversarial_stage.same_batches = 1: expected True'),
    ('swa.every = 9', 'swa.every = 9: this stage has 8 steps'),
    ('swa.reestimate_batch_norm = True', 'swa.reestimate_batch_norm = True')])
def test_settings_out_of_range_are_told_before_anything_is_trained(tmp_path, binding, text):
    with pytest.raises(UserError) as caught:
        start(tmp_path / 'run', binding)
    assert text in str(caught.value) and '\n' not in str(caught.value)
    assert not (tmp_path / 'run' / 'stages').exists()


def test_the_methods_file_binds_what_is_printed():
    """Section 4.2, and Algorithm 1's order; gin reads it back."""
    configuration.parse(['gin/methods/durall.gin'])
    bound = {key.split('.', key.count('.') - 1)[-1]: value
             for key, value in configuration.bindings(configuration.config_text()).items()}
    printed = {'durall.adversarial_weight': 0.01, 'durall.l2_weight': 5e-5,
               'durall.map_stride': 1, 'build_pixel_discriminator.kind': 'pixel',
               'segmentor_optimizer.learning_rate': 2.5e-4, 'segmentor_optimizer.momentum': 0.9,
               'segmentor_optimizer.name': 'sgd', 'segmentor_optimizer.schedule': 'poly',
               'discriminator_optimizer.name': 'adam',
               'discriminator_optimizer.learning_rate': 1e-4,
               'discriminator_optimizer.beta_1': 0.9, 'discriminator_optimizer.beta_2': 0.99,
               'discriminator_optimizer.schedule': 'poly', 'adversarial_stage.batch_size': 10,
               'alternation.every': 1, 'alternation.first': 'segmentor', 'swa.enabled': True,
               'swa.every': 100, 'swa.reading': 'constant', 'swa.start': 0.0,
               'stage_one.epochs': 0}
    assert {name: bound.get(name) for name in printed} == printed
    assert schedules.polynomial_decay(1.0, 100)(50).numpy() == pytest.approx(0.5 ** 0.9)


PAPERS = sorted(path.relative_to(configuration.gin_root()).as_posix()
                for path in (configuration.gin_root() / 'papers' / 'durall').glob('*.gin'))
SMALL = (*SCENES[:2], "dataset.test_split='test'",
         "dataset.train_split='train'", 'dataset.holdout_fraction = 0.5',
         'experiment.crop_size = 33', 'experiment.data_dir = None', 'experiment.checkpoint = None',
         'adversarial_stage.steps = 2', 'adversarial_stage.batch_size = 2', 'swa.every = 1',
         'adversarial_stage.train_images = 1', 'experiment.control = False',
         # ResNet-101 without weights to start from would not bear a step.
         'segmentor_optimizer.learning_rate = 0.0')


@pytest.mark.slow
@pytest.mark.parametrize('name', PAPERS)
def test_every_file_takes_a_step_of_either_network(name, tmp_path, lines_of):
    configuration.parse([f'gin/{name}'], SMALL)
    with mock.patch.object(run_report, 'write'):
        results = training.experiment(tmp_path / 'run', tf.distribute.get_strategy())
    assert set(results['models']) == {'Durall', 'Durall + SWA'}
    assert results['models']['Durall + SWA']['test']['miou'] is not None
    phases = {key for line in lines_of(tmp_path / 'run', stage='durall') for key in line}
    assert {'loss/ce', 'loss/adv'} <= phases
    bindings = configuration.bindings((tmp_path / 'run' / 'operative_config.gin').read_text())
    kinds = [value for key, value in bindings.items() if key.endswith('_discriminator.kind')]
    assert kinds == ['image' if 'standard' in name else 'pixel']
