"""Consistency end to end on small scenes: the teacher beside the student, selection, reports."""
import html
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import whole_run
from PIL import Image

from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.experiments.convert import exporting
from tf_advseg.experiments.convert import preparing
from tf_advseg.experiments.score import evaluating
from tf_advseg.experiments.score import predicting
from tf_advseg.experiments.train import training
from tf_advseg.methods import cue_audit
from tf_advseg.methods.consistency import consistency_panels
from tf_advseg.methods.consistency import consistency_recipe
from tf_advseg.methods.hung import discriminator_folders
from tf_advseg.run import networks
from tf_advseg.training import loop

SCENES = whole_run.scenes(num_train=8, num_val=3)
start = whole_run.starter('consistency', (
    *SCENES, 'semi_supervised.fraction = 0.5', 'consistency.map_stride = 2',
    'consistency.threshold = 0.2', 'consistency.start = 2', 'stage_one.weighted_epochs = 0',
    'stage_one.epochs = 0', 'adversarial_stage.steps = 6',
    'adversarial_stage.evaluate_every_epochs = 1'))
JUDGED = ('build_fc_discriminator.widths = (8, 16)',
          "consistency.selection = 'discriminator'", 'consistency.threshold = 0.9',
          'consistency.discriminator_threshold = 0.1')


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """(folder, results, panels) of a finished run with a report."""
    path, drawn = tmp_path_factory.mktemp('consistency') / 'run', []
    panel = consistency_panels.panel

    def watched(*arguments):
        drawn.append(panel(*arguments))
        return drawn[-1]
    # The audit looks at runs of 16 training images and more; without a discriminator it sees none.
    with mock.patch.object(consistency_panels, 'panel', watched), mock.patch.object(
            cue_audit, 'FEWEST', 1):
        results = start(path, report=True)
    yield path, results, drawn


def test_a_run_scores_student_teacher_and_control(made, lines_of):
    path, results, _ = made
    assert list(results['models']) == ['control (CE)', 'Consistency, teacher', 'Consistency']
    assert results['subject'] == 'Consistency'
    teacher, student = (results['models'][name]['test']
                        for name in ('Consistency, teacher', 'Consistency'))
    assert teacher['miou'] is not None and teacher['components'].keys() == student[
        'components'].keys()
    said = lines_of(path, event='teacher')
    assert said and {line['split'] for line in said} == {'holdout_teacher'}
    assert said[-1]['miou'] == pytest.approx(
        results['models']['Consistency, teacher']['holdout']['miou'], abs=1e-6)
    last = lines_of(path, stage='consistency', event='stage')[-1]
    assert 0 <= last['consistency/selected'] <= 1 and 'loss/adv' not in last
    page = (path / 'report.html').read_text()
    assert 'checkpoints/last/teacher' in page and 'were learnt from in the last' in page
    assert 'Training images: 4 with labels, 4 without.' in page


@pytest.mark.parametrize('selected, words', [
    (0.0, 'No point of an unlabelled image was learnt from'), (0.04, ' 0.04 % were learnt from'),
    (61.4, ' 61 % were learnt from')])
def test_the_report_says_where_nothing_was_learnt(selected, words):
    lines = [{'stage': 'consistency', 'step': step, 'segmentor_step': step,
              'consistency/selected': selected / 100, 'consistency/agreement': 0.5}
             for step in range(1, 4)]
    inputs = mock.Mock(masks={}, metrics=lines, stage='consistency')
    with mock.patch.object(consistency_panels, 'curve'):
        parts = consistency_recipe._report_parts(inputs)
    assert words in parts[0].content
    assert ('the student named' in parts[0].content) == (selected > 0)


@pytest.mark.parametrize('bindings, words', [
    (("consistency.selection = 'discriminator'",), None), ((), None),
    (("consistency.selection = 'discriminator'", 'consistency.discriminator_share = 0.6'),
     "at 60 % of an image's points"),
    (("consistency.selection = 'softmax+discriminator'", 'consistency.threshold = 0.8'),
     'sure by more than 0.8 and a discriminator takes it for a truth by more than 0.2'),
    (("consistency.selection = 'as_many_by_softmax'",), 'at its surest points, as many')])
def test_the_discriminators_thresholds_are_not_taken_for_what_the_run_selects(bindings, words):
    configuration.parse([], bindings)
    inputs = mock.Mock(masks={}, metrics=[], stage='consistency', control=None, observed={})
    said = ' '.join(str(part.content) for part in consistency_recipe._report_parts(inputs))
    assert ('this run learnt from' in said) == (words is not None) and (words or '') in said


@pytest.mark.parametrize('control, weight, words', [
    ('control', 0.0, 'what the unlabelled images brought'),
    ('control', 0.1, 'what the unlabelled images and L_adv brought'), (None, 0.0, None)])
def test_the_report_says_what_the_control_is_there_for(control, weight, words):
    configuration.parse([], [f'consistency.adversarial_weight = {weight}'])
    lines = [{'stage': 'consistency', 'step': 1, 'segmentor_step': 1, 'consistency/selected': 0.5,
              'consistency/agreement': 0.5}]
    inputs = mock.Mock(masks={}, metrics=lines, stage='consistency', control=control)
    with mock.patch.object(consistency_panels, 'curve'):
        said = ' '.join(str(part.content) for part in consistency_recipe._report_parts(inputs)
                        if part.kind == 'sentence')
    assert words in said if words else 'brought' not in said


def test_the_panel_shows_unlabelled_images_and_what_is_learnt(made):
    _, _, drawn = made
    assert len(drawn) == 3 and all(one.ndim == 3 and one.dtype == np.uint8 for one in drawn)
    assert drawn[0].shape == drawn[-1].shape and (drawn[0] != drawn[-1]).any()


def test_the_teachers_folder_is_a_checkpoint_like_others(made):
    path, results, _ = made
    folder = path / 'checkpoints/last/teacher'
    assert networks.is_model_folder(folder) and evaluating.run_of(folder) == path
    found = evaluating.evaluate(folder, show=False)['models']
    assert next(iter(found.values()))['miou'] == pytest.approx(
        results['models']['Consistency, teacher']['test']['miou'], abs=1e-6)
    (student, _, _), (teacher, _, _) = (networks.load(place) for place in (folder.parent, folder))
    assert any(np.abs(a - b).max() > 0 for a, b in zip(student.get_weights(),
                                                       teacher.get_weights()))


def test_the_teacher_is_exported_and_predicts_like_the_student(made, tmp_path):
    """Not the student by mistake: its own weights are in what is written."""
    teacher, spec, _ = networks.load(made[0] / 'checkpoints/last/teacher')
    student, _, _ = networks.load(made[0] / 'checkpoints/last')
    exporting.export(made[0] / 'checkpoints/last/teacher', tmp_path / 'out')
    again, _, _ = networks.load(tmp_path / 'out')
    image = np.random.default_rng(3).integers(0, 256, (1, 33, 33, 3)).astype(np.float32)
    theirs, own = teacher(image).numpy(), student(image).numpy()
    np.testing.assert_allclose(again(image), theirs, rtol=1e-3, atol=1e-4)
    assert np.abs(own - theirs).max() > 1e-3
    (tmp_path / 'images').mkdir()
    Image.fromarray(image[0].astype(np.uint8)).save(tmp_path / 'images/one.png')
    predicting.predict(teacher, spec, (33, 33), [tmp_path / 'images'], tmp_path / 'maps',
                       show=False)
    assert list((tmp_path / 'maps').glob('one*.png'))


@pytest.mark.slow
def test_the_best_model_comes_with_the_teacher_of_its_step(tmp_path, weights):
    kept = []
    assign = networks.load_weights

    def watched(folder, network, *arguments, **options):
        kept.append(str(folder))
        return assign(folder, network, *arguments, **options)
    with mock.patch.object(networks, 'load_weights', watched):
        start(tmp_path / 'run', "adversarial_stage.keep = 'best'", 'experiment.control = False')
    restored = [folder for folder in kept if 'best-' in folder and folder.endswith('teacher')]
    assert len(restored) == 1
    assert networks.is_model_folder(tmp_path / 'run/checkpoints/best/teacher')


def test_with_a_discriminator_it_lies_beside_and_its_confidence_is_in_the_report(tmp_path,
                                                                               lines_of):
    path = tmp_path / 'run'
    start(path, *JUDGED, 'consistency.adversarial_weight = 0.01', 'experiment.control = False',
          report=True)
    for folder in ('last', 'last/teacher'):
        assert discriminator_folders.beside(path / 'checkpoints' / folder) is not None
    assert lines_of(path, event='confidence') and (path / 'figures/confidence.png').is_file()
    assert 'What the discriminator selects' in (path / 'report.html').read_text()
    last = lines_of(path, stage='consistency', event='stage')[-1]
    assert {'loss/adv', 'loss/adv_unlabelled', 'loss/disc', 'loss/consistency'} <= set(last)


@pytest.mark.slow
def test_a_discriminator_that_does_not_select_is_not_reported_as_if_it_did(tmp_path, lines_of):
    start(tmp_path / 'run', JUDGED[0], 'consistency.adversarial_weight = 0.01',
          'experiment.control = False', report=True)
    assert not lines_of(tmp_path / 'run', event='confidence')
    assert 'What the discriminator selects' not in (tmp_path / 'run/report.html').read_text()


@pytest.mark.slow
def test_a_folder_of_images_of_other_sizes(tmp_path, lines_of):
    (tmp_path / 'more').mkdir()
    random = np.random.default_rng(1)
    for number, size in enumerate(((20, 60), (50, 41), (33, 33))):
        Image.fromarray(random.integers(0, 256, (*size, 3)).astype(np.uint8)).save(
            tmp_path / 'more' / f'{number}.png')
    start(tmp_path / 'run', f"semi_supervised.unlabelled_dir = '{tmp_path / 'more'}'",
          'experiment.control = False')
    last = lines_of(tmp_path / 'run', stage='consistency', event='stage')[-1]
    assert np.isfinite(last['loss/consistency'])


@pytest.mark.slow
def test_own_data_with_few_labels_as_the_page_has_it(tmp_path):
    """gin/own_data_few_labels.gin on two folders: a report that weighs the unlabelled images."""
    random, records = np.random.default_rng(2), tmp_path / 'records'
    for folder, count in (('own/images', 12), ('own/labels', 12), ('more', 5)):
        (tmp_path / folder).mkdir(parents=True)
        shape, most = ((40, 52), 3) if 'labels' in folder else ((40, 52, 3), 256)
        for number in range(count):
            Image.fromarray(random.integers(0, most, shape).astype(np.uint8)).save(
                tmp_path / folder / f'p{number}.png')
    preparing.prepare('folder', tmp_path / 'own', records, show=False)
    configuration.parse(['gin/own_data_few_labels.gin'], [
        f"experiment.data_dir = '{records}'", 'experiment.crop_size = 49',
        'deeplab_mobilenet_v2.depth_multiplier = 0.25', 'deeplab_mobilenet_v2.atrous_rates = ()',
        'stage_one.epochs = 1', 'stage_one.batch_size = 4', 'adversarial_stage.steps = 2',
        'adversarial_stage.batch_size = 2', 'adversarial_stage.train_images = 0',
        'consistency.threshold = 0.2',  # one of three classes is always surer
        f"semi_supervised.unlabelled_dir = '{tmp_path / 'more'}'"])
    results = training.experiment(tmp_path / 'run', tf.distribute.get_strategy())
    assert results['subject'] == 'Consistency' and 'control (CE)' in results['models']
    page = html.unescape((tmp_path / 'run/report.html').read_text())
    assert f'{results["training_images"]["labelled"]} with labels, 5 without' in page
    assert 'were learnt from' in page and 'against control (CE)' in page
    assert 'the difference from it is what the unlabelled images brought' in page
    assert networks.is_model_folder(tmp_path / 'run/checkpoints/last/teacher')


@pytest.mark.parametrize('bindings, words', [
    (('adversarial_stage.batch_size = 1',), 'at least 2'),
    (('consistency.unlabelled_batch_size = 1',), 'at least 2'),
    (('consistency.unlabelled_batch_size = 1', 'consistency.cutmix = 0.0',
      'consistency.classmix = 1.0'), 'ClassMix between'),
    (('consistency.cutmix = 0.0', "adversarial_stage.augmentation = 'hung'"), 'would be the same'),
    (('consistency.start = 6',), 'would never come in'),
    (('consistency.start = 4', 'consistency.ramp_up = 3'), 'would never be reached'),
    (('semi_supervised.fraction = 1.0',), 'no unlabelled images'),
    ((*JUDGED, "build_fc_discriminator.kind = 'image'"), 'consistency.selection'),
    (('hung.threshold = 0.5',), 'hung')])
def test_what_cannot_be_is_said_before_anything_is_trained(tmp_path, bindings, words):
    with pytest.raises(UserError, match=words):
        start(tmp_path / 'run', *bindings, dry_run=True)


@pytest.mark.slow
def test_a_killed_run_with_class_mix_in_micro_batches_ends_with_the_same_bits(tmp_path, weights):
    given = ('consistency.cutmix = 0.0', 'consistency.classmix = 1.0', 'experiment.control = False',
             'accumulate.micro_batches = 2')
    results = start(tmp_path / 'whole', *given)
    call, count = loop.Stepper.__call__, [0]

    def killed(self, *arguments, **scalars):
        count[0] += 1
        if count[0] == 5:  # with unlabelled images
            raise KeyboardInterrupt
        return call(self, *arguments, **scalars)
    with mock.patch.object(loop.Stepper, '__call__', killed), pytest.raises(KeyboardInterrupt):
        start(tmp_path / 'cut', *given)
    assert start(tmp_path / 'cut', *given)['models'] == results['models']
    for folder in ('last', 'last/teacher'):
        for one, other in zip(*(weights(tmp_path / run, folder) for run in ('whole', 'cut'))):
            np.testing.assert_array_equal(one, other)
