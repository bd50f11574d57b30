"""Hung's stage end to end on small scenes: labelled images, then unlabelled ones beside them."""
import re
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import whole_run

from tf_advseg.core import configuration
from tf_advseg.core import files
from tf_advseg.core.errors import UserError
from tf_advseg.data.augmentation import recipes as augmentations
from tf_advseg.experiments.convert import preparing
from tf_advseg.experiments.train import run_report
from tf_advseg.experiments.train import training
from tf_advseg.methods.hung import discriminator_folders
from tf_advseg.methods.hung import hung_settings
from tf_advseg.run import networks
from tf_advseg.training import alternation, checkpoints, loop

SCENES = whole_run.scenes(num_train=8, num_val=3)
start = whole_run.starter('hung', (
    *SCENES, 'semi_supervised.fraction = 0.5', 'build_fc_discriminator.widths = (8, 16)',
    'hung.map_stride = 2', 'hung.semi_start = 4', 'hung.adversarial_start = 2',
    'hung.threshold = 0.1', 'hung.classifier_multiplier = 1.0', 'adversarial_stage.steps = 8',
    'adversarial_stage.evaluate_every_epochs = 2', 'adversarial_stage.diagnose_every = 5'))


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """(folder, results) of a finished run, and [(phase, images, labels)] of its steps."""
    path, seen = tmp_path_factory.mktemp('hung') / 'run', []
    call = loop.Stepper.__call__

    def watched(self, step, batch, *arguments, **scalars):
        if isinstance(step, str):
            seen.append((step, batch['image'].numpy(), batch['label'].numpy()))
        return call(self, step, batch, *arguments, **scalars)
    with mock.patch.object(loop.Stepper, '__call__', watched):
        results = start(path, report=True)
    yield path, results, seen


def test_a_run_leaves_scores_a_discriminator_confidence_and_a_report(made, lines_of):
    path, results, _ = made
    assert list(results['models']) == ['control (CE)', 'Hung'] and results['subject'] == 'Hung'
    assert results['models']['Hung']['test']['miou'] is not None
    assert networks.find(path).name == 'last'
    discriminator, about = discriminator_folders.load(
        path / 'checkpoints' / 'last' / discriminator_folders.FOLDER)
    assert about['map_stride'] == 2 and discriminator.decides == 'pixel'
    said = lines_of(path, event='confidence')
    assert [line['segmentor_step'] for line in said] == [4, 8]
    assert said[-1]['disc/share@0'] == 1.0 and 0 <= said[-1]['disc/share@0.1'] <= 1
    assert said[-1]['disc/accuracy@0'] == pytest.approx(said[-1]['accuracy'])
    assert (path / 'figures' / 'confidence.png').is_file()
    html = (path / 'report.html').read_text()
    assert 'a truth with more than 0.1; maps of a point for 2 x 2 pixels' in html
    assert 'Training images: 4 with labels, 4 without.' in html


def test_unlabelled_images_come_in_when_they_should(made, lines_of):
    path, _, seen = made
    method = seen[:8]
    assert [phase for phase, _, _ in method] == [
        'supervised', 'supervised', 'unlabelled_adversarial', 'unlabelled_adversarial',
        *['unlabelled'] * 4]
    assert [len(images) for _, images, _ in method] == [2, 2, 4, 4, 4, 4, 4, 4]
    lines = lines_of(path, stage='hung', event='stage')
    assert lines[-1]['segmentor_step'] == 8 and 'loss/semi' in lines[-1]
    assert not any('discriminator_step' in line for line in lines)  # the step is joint


def test_the_control_sees_the_labelled_images_of_each_step_and_no_other(made):
    path, _, seen = made
    method, control = seen[:8], seen[8:]
    assert {phase for phase, _, _ in control} == {'cross_entropy'} and len(control) == 8
    for (_, images, labels), (_, own, own_labels) in zip(method, control):
        rows = [i for i in range(len(labels)) if (labels[i] != 255).any()]
        assert len(rows) == 2  # those without label are 255 throughout
        found = [next(i for i in rows if np.array_equal(images[i], image)) for image in own]
        np.testing.assert_array_equal(labels[found], own_labels)
    split = files.read_json(path / 'split.json')['splits']
    assert len(split['train']) == len(split['unlabelled']) == 4
    assert not set(split['train']) & set(split['unlabelled'])


@pytest.mark.slow  # tests/experiments/train/test_method_stage.py stops such a stage
def test_a_stopped_run_goes_on_to_the_same_weights(made, tmp_path, monkeypatch, weights, lines_of):
    path, _, _ = made
    write, count = checkpoints.write_state, []

    def killed(folder, *arguments, **trackables):
        write(folder, *arguments, **trackables)
        count.append(folder)
        if len(count) == 2:  # the durable state of step 4: between the two periods
            raise KeyboardInterrupt
    monkeypatch.setattr(checkpoints, 'write_state', killed)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / 'run', 'experiment.control = False')
    monkeypatch.undo()
    start(tmp_path / 'run', 'experiment.control = False')
    for a, b in zip(weights(path, 'last'), weights(tmp_path / 'run', 'last')):
        np.testing.assert_array_equal(a, b)
    assert (lines_of(path, stage='hung', event='confidence')
            == lines_of(tmp_path / 'run', stage='hung', event='confidence'))


@pytest.mark.slow  # the batches and the step have default tests of their own
def test_a_run_as_the_published_code_takes_even_batches_and_whole_truths(tmp_path, lines_of):
    """Crops of 41 hold the scenes of 33 to 40, so truths would be padded."""
    seen, call = [], loop.Stepper.__call__

    def watched(self, step, batch, *arguments, **scalars):
        if isinstance(step, str):
            seen.append({name: batch[name].numpy() for name in ('labeled', 'truth')})
        return call(self, step, batch, *arguments, **scalars)
    with mock.patch.object(loop.Stepper, '__call__', watched):
        start(tmp_path / 'run', "hung.published_code = 'all'", 'experiment.control = False',
              'adversarial_stage.steps = 3', 'hung.semi_start = 1', 'experiment.crop_size = 41',
              'adversarial_stage.diagnose_every = 0')
    assert len(seen) == 3
    for batch in seen:
        np.testing.assert_array_equal(batch['labeled'], [False, True, False, True])
        for truth in batch['truth'][batch['labeled']]:
            assert all((truth[:, column] != 255).any() for column in range(41))
            assert all((row != 255).any() for row in truth)
    last = lines_of(tmp_path / 'run', stage='hung', event='stage')[-1]
    assert np.isfinite(last['loss/semi'])


@pytest.mark.slow
def test_self_training_needs_no_discriminator(tmp_path, lines_of):
    results = start(tmp_path / 'run', "hung.terms = 'self_training'", 'experiment.control = False',
                    'adversarial_stage.steps = 6')
    assert list(results['models']) == ['Hung']
    last = lines_of(tmp_path / 'run', stage='hung', event='stage')[-1]
    assert last['semi/selected'] == pytest.approx(0.7, abs=0.01) and 'loss/adv' not in last
    assert not (tmp_path / 'run' / 'checkpoints' / 'last' / discriminator_folders.FOLDER).exists()


@pytest.mark.slow  # the steps have default tests of their own on two replicas
def test_two_replicas_give_the_same_run(made, tmp_path, two_replicas, weights):
    path, _, _ = made
    start(tmp_path / 'run', 'experiment.control = False', strategy=two_replicas)
    for a, b in zip(weights(path, 'last'), weights(tmp_path / 'run', 'last')):
        np.testing.assert_allclose(a, b, atol=2e-4)


@pytest.mark.parametrize('binding, text', [
    ("hung.terms = 'adv+sem'", 'Did you mean "adv+semi"'),
    ("hung.published_code = ('early_ou',)", 'Did you mean "early_out"'),
    ('hung.semi_start = 8', 'hung.semi_start = 8, and the stage has 8 steps'),
    ('hung.adversarial_start = 5', 'hung.adversarial_start = 5 is after hung.semi_start = 4'),
    ('semi_supervised.fraction = 1.0', 'there are no unlabelled images to learn from'),
    ('semi_supervised.fraction = 0.0', 'semi_supervised.fraction = 0.0: expected'),
    ('hung.map_stride = 8', 'expected at least 8 points a side'),
    ("label_maps.kind = 'product'", 'sees no image'),
    ("build_fc_discriminator.kind = 'image'", 'no confidence map to select points by'),
    ("hung.classifier_multiplier = 'ten'", 'hung.classifier_multiplier'),
    ('hung.separate_passes = True\naccumulate.micro_batches = 3',
     '2 and 2 of them on 1 replica in 3 micro-batches leave a pass without an image'),
    ('hung.separate_passes = True\ncompilation.jit_compile = True', 'is not known to XLA')])
def test_settings_out_of_range_are_told_before_anything_is_trained(tmp_path, binding, text):
    with pytest.raises(UserError) as caught:
        start(tmp_path / 'run', *binding.split('\n'))
    assert text in str(caught.value) and '\n' not in str(caught.value)
    assert not (tmp_path / 'run' / 'stages').exists()


def bound(*names):
    """{gin name without its module: value} of gin files."""
    configuration.parse(list(names))
    return {key.split('.', key.count('.') - 1)[-1]: value for key, value in
            configuration.bindings(configuration.config_text()).items()}


def test_the_methods_file_binds_what_is_printed():
    """Section 5 and Table 9; gin reads it back."""
    found = bound('gin/methods/hung.gin')
    printed = {'hung.adversarial_weight': 0.01, 'hung.unlabelled_adversarial_weight': 0.001,
               'hung.semi_weight': 0.1, 'hung.threshold': 0.2, 'hung.semi_start': 5000,
               'hung.l2_weight': 1e-4, 'segmentor_optimizer.learning_rate': 2.5e-4,
               'segmentor_optimizer.name': 'momentum', 'segmentor_optimizer.momentum': 0.9,
               'segmentor_optimizer.nesterov': True,
               'segmentor_optimizer.schedule': 'poly', 'discriminator_optimizer.name': 'adam',
               'discriminator_optimizer.learning_rate': 1e-4,
               'discriminator_optimizer.schedule': 'poly'}
    assert {name: found.get(name) for name in printed} == printed


def test_one_file_switches_to_the_published_codes_behaviour():
    recipe = 'gin/papers/hung/voc_deeplab_v2_resnet101.gin'
    before = bound(recipe)
    after = bound(recipe, 'gin/methods/hung_published_code.gin')
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {'hung.published_code', 'deeplab_v2_resnet.atrous_rates',
                       'segmentor_optimizer.nesterov', 'hung_recipe.min_scale',
                       'hung_recipe.max_scale', 'hung_recipe.flip',
                       'adversarial_stage.fine_tune_batch_norm'}
    cuts_alone = augmentations.make_recipe('hung')
    assert not cuts_alone.flip and not cuts_alone.random_scale.active
    assert after['deeplab_v2_resnet.atrous_rates'] == (6, 12)
    settings = hung_settings.hung()
    assert settings.published_code == tuple(hung_settings.PUBLISHED_CODE)
    # facts/official_code.md, "AdvSemiSeg"
    assert (settings.adversarial_weight, settings.l2_weight) == (0.1, 5e-4)
    assert (settings.adversarial_start, settings.semi_start) == (0, 5000)
    assert settings.early_out and settings.independent_ground_truth
    assert not settings.mask_predictions and settings.separate_passes and settings.unpadded_truths
    assert (settings.semi_normaliser, settings.discriminator_fakes) == ('selected', 'all')


def test_cityscapes_records_are_made_as_the_recipe_counts_on_them():
    path = configuration.gin_root() / 'papers' / 'hung' / 'cityscapes_deeplab_v2_resnet101.gin'
    given = re.search('--option="(.*)"', path.read_text(encoding='utf-8')).group(1)
    found = bound(f'gin/papers/hung/{path.name}')
    assert preparing.reader_options([given]) == found['dataset.options']
    assert found['experiment.crop_size'] == found['dataset.options']['size']  # nothing is cut


PAPERS = sorted(path.relative_to(configuration.gin_root()).as_posix()
                for path in (configuration.gin_root() / 'papers' / 'hung').glob('*.gin'))
SMALL = (*SCENES[:2], "dataset.test_split='test'",
         "dataset.train_split='train'", 'dataset.holdout_fraction = 0.5',
         'semi_supervised.labelled_split = None', 'semi_supervised.fraction = 0.5',
         'experiment.crop_size = 65', 'experiment.data_dir = None', 'experiment.checkpoint = None',
         'adversarial_stage.steps = 2', 'adversarial_stage.batch_size = 2', 'hung.semi_start = 1',
         'adversarial_stage.train_images = 1', 'experiment.control = False',
         # ResNet-101 without weights to start from would not bear a step.
         'segmentor_optimizer.learning_rate = 0.0',
         # A twentieth of two steps is none.
         *(f'{network}_optimizer/polynomial_decay.slow_start_steps = 0'
           for network in ('segmentor', 'discriminator')))


@pytest.mark.slow
@pytest.mark.parametrize('more', [(), ('gin/methods/hung_published_code.gin',)])
@pytest.mark.parametrize('name', PAPERS)
def test_every_file_takes_both_kinds_of_steps(name, more, tmp_path, lines_of):
    configuration.parse([f'gin/{name}', *more], SMALL)
    with mock.patch.object(run_report, 'write'):
        results = training.experiment(tmp_path / 'run', tf.distribute.get_strategy())
    assert set(results['models']) == {'Hung'}
    last, = lines_of(tmp_path / 'run', stage='hung', event='stage')
    assert {'loss/ce', 'loss/adv', 'loss/semi', 'loss/disc'} <= set(last)


def test_a_plan_without_unlabelled_images_has_one_period():
    configuration.parse(['gin/methods/hung.gin'], ["hung.terms = 'adv'"])
    from tf_advseg.experiments import recipe_registry as recipes
    plan = recipes.find('hung').plan(10)
    assert {plan.turn(step).stream for step in range(10)} == {alternation.SEGMENTOR}
