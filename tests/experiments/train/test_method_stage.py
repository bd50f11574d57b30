"""Luc's stage end to end on small scenes: a resume changes nothing, the control is a control."""
import re
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import whole_run

from tf_advseg.core import files
from tf_advseg.core.errors import UserError
from tf_advseg.data import spec as specs
from tf_advseg.experiments.train import best_model
from tf_advseg.experiments.train import method_stage
from tf_advseg.experiments.train import run_results
from tf_advseg.experiments.train import stage_training
from tf_advseg.models import farabet
from tf_advseg.run import hyperparameters
from tf_advseg.run import networks
from tf_advseg.training import checkpoints, loop

start = whole_run.starter('luc', (
    *whole_run.scenes(), "build_fov_discriminator.name = 'small_fov_light'",
    'adversarial_stage.steps = 10', 'adversarial_stage.evaluate_every_epochs = 1',
    'adversarial_stage.diagnose_every = 4',
    'discriminator_optimizer.learning_rate = 0.01', 'alternation.every = 2',
    'stage_one.weighted_epochs = 0', 'stage_one.epochs = 0'))


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """(folder, results) of a finished run."""
    path = tmp_path_factory.mktemp('luc') / 'run'
    results = start(path, report=True)
    yield path, results


def test_a_run_leaves_scores_curves_and_a_report(made, lines_of):
    path, results = made
    assert list(results['models']) == [run_results.CONTROL, 'Luc']
    assert results['subject'] == 'Luc' and set(results['models']['Luc']) == {'holdout', 'test'}
    assert results == files.read_json(path / 'results.json')
    test = results['models']['Luc']['test']
    assert 0 <= test['boundary']['mean'] <= 1 and test['boundary']['images'] == 2
    evaluated = lines_of(path, event='evaluation', stage='luc', split='holdout')
    assert [line['segmentor_step'] for line in evaluated] == [3, 6, 9, 10]
    assert len(evaluated[0]['class_accuracy']) == 8
    kept = networks.read_description(path / 'checkpoints' / 'best')
    assert kept['holdout_miou'] == max(line['miou'] for line in evaluated)
    assert results['models']['Luc']['holdout']['miou'] == pytest.approx(kept['holdout_miou'])
    phases = {name: len(lines_of(path, event='stage', stage=name)) for name in ('luc', 'control')}
    assert phases == {'luc': 2, 'control': 1}  # each tenth step of either network
    assert {'loss/disc', 'loss/adv'} <= {k for m in lines_of(path, stage='luc') for k in m}
    measured = lines_of(path, event='gradients')
    assert [line['segmentor_step'] for line in measured] == [1, 5, 9]
    assert all(line['grad_ratio/adv_ce'] > 0 for line in measured)
    html = (path / 'report.html').read_text()
    assert 'Luc' in html and 'data:image/png' in html
    assert (path / 'figures' / 'probabilities_1.png').is_file()


def test_a_finished_run_is_taken_up_and_another_setting_refused(made):
    path, results = made
    before = (path / 'metrics.jsonl').read_bytes()
    again = start(path)
    assert (path / 'metrics.jsonl').read_bytes() == before
    assert again['models'] == results['models']
    with pytest.raises(UserError, match='alternation.every'):
        start(path, 'alternation.every = 3')


class Stops:
    """Counts calls of places that a run passes, and stops it at one of them."""

    def __init__(self, monkeypatch):
        self.left, self.seeds = {}, []
        for owner, name in ((loop.Stepper, '__call__'), (loop, '_save'), (networks, 'save')):
            self._watch(monkeypatch, owner, name)

    def _watch(self, monkeypatch, owner, name):
        original = getattr(owner, name)

        def watched(*arguments, **words):
            places = [name]
            if name == '__call__':
                self.seeds.append((arguments[1], tuple(arguments[3])))
                places.append(arguments[1])
            for place in places:
                self.left[place] = self.left.get(place, 10 ** 6) - 1
                if not self.left[place]:
                    raise KeyboardInterrupt
            return original(*arguments, **words)
        monkeypatch.setattr(owner, name, watched)


# (where, how often it is passed before it stops the run) -> durable steps of Luc's stage, which
# is evaluated after 7, 12, 19 and 20 of them. Which of these keeps a model depends on the scores.
STOPS = (('__call__', 3, {0}), ('_save', 1, {0}), ('__call__', 12, {7}), ('_save', 2, {12}),
         ('save', 1, {12, 19, 20}), ('cross_entropy', 5, {20}))


@pytest.mark.parametrize('places', [
    pytest.param((STOPS[2], STOPS[5]), id='two'),
    pytest.param(STOPS, id='all', marks=pytest.mark.slow)])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(made, tmp_path, monkeypatch,
                                                     lines_of, weights, places):
    """Stopped in each phase, between a kept model and its state, in saving, in the control."""
    path, results = made
    stops, other = Stops(monkeypatch), tmp_path / 'run'
    state = other / 'stages' / 'luc' / loop.STATE
    for place, count, durable in places:
        stops.left = {place: count}
        with pytest.raises(KeyboardInterrupt):
            start(other)
        found = files.read_json(state)
        assert found['step'] in durable
        if found['step'] in (7, 12, 19):  # a state names the best model, which is there
            assert networks.is_model_folder(state.parent / found['memory']['folder'])
    stops.left = {}
    assert files.read_json(other / 'stages' / 'control' / loop.STATE)['step'] == 3
    assert start(other)['models'] == results['models']
    for name in ('best', 'control'):
        for a, b in zip(weights(path, name), weights(other, name)):
            np.testing.assert_array_equal(a, b)
    assert lines_of(other) == lines_of(path)
    assert not list(other.glob('stages/*/best-*'))
    seeds = {phase: {seed for name, seed in stops.seeds if name == phase}
             for phase in ('segmentor', 'discriminator', 'cross_entropy')}
    assert seeds['segmentor'] == seeds['cross_entropy'] and len(seeds['segmentor']) == 10
    assert not seeds['segmentor'] & seeds['discriminator']


def test_the_first_of_equals_is_kept_and_a_lost_best_does_not_count(tmp_path):
    segmentor = farabet.farabet(3, hidden=4)
    context = mock.Mock(chief=True, description=None)
    context.data.spec = specs.DatasetSpec('abc', 'abc', specs.default_palette(3))
    stage = mock.Mock(segmentor=segmentor, settings=method_stage.Settings(train_images=0),
                      is_control=True)
    stage.name = 'luc'
    context.data.train, context.data.holdout = ['a'], ['b']
    context.streams.generator.return_value.permutation.return_value = np.arange(1)
    runner = stage_training.StageTraining(context, stage)
    runner._best = best_model.BestModel(tmp_path, runner._memory, runner._save, True)
    for done, miou in ((1, 0.4), (2, 0.4), (3, 0.3), (4, None)):
        runner._best.offer(done, miou)
    assert runner._memory == {'miou': 0.4, 'step': 1, 'folder': 'best-0000001'}
    # Killed before the state that names it: the one before is still there.
    runner._best.offer(5, 0.5)
    assert (tmp_path / 'best-0000001').is_dir() and runner._memory['step'] == 5
    runner._best.offer(6, 0.1)
    assert [path.name for path in tmp_path.iterdir()] == ['best-0000005']


def test_the_adversary_has_batches_of_its_own(tmp_path, monkeypatch):
    """Asked of the input alone: no step is taken."""
    asked, batches = [], stage_training.pipeline.training_batches

    def watched(*arguments, **words):
        asked.append((words['stream'], words['augment_stream']))
        return batches(*arguments, **words)
    monkeypatch.setattr(stage_training.pipeline, 'training_batches', watched)
    monkeypatch.setattr(loop.Stepper, '__call__', lambda *_, **__: {'loss/ce': 1.0})
    start(tmp_path / 'run', 'adversarial_stage.steps = 2', 'alternation.every = 1')
    assert asked == [('disc_data', 'disc_augment'), ('data', 'augment'), ('data', 'augment')]


def test_a_typo_is_told_before_anything_is_trained_and_binds_nothing(tmp_path):
    with pytest.raises(UserError, match='Did you mean "product"'):
        start(tmp_path / 'run', "label_maps.kind = 'prodcut'", 'stage_one.epochs = 1')
    assert not (tmp_path / 'run' / 'config.gin').exists()


@pytest.mark.slow
def test_diagnostics_may_change_in_a_finished_run_and_the_control_run_alone(
        made, tmp_path, lines_of):
    path, results = made
    assert start(path, 'adversarial_stage.diagnose_every = 5')['models'] == results['models']
    alone = start(tmp_path / 'run', 'adversarial_stage.only_control = True')
    assert list(alone['models']) == [run_results.CONTROL]
    assert alone['subject'] == run_results.CONTROL
    assert alone['models'][run_results.CONTROL] == results['models'][run_results.CONTROL]
    before = lines_of(tmp_path / 'run', stage='control')
    assert before and not lines_of(tmp_path / 'run', stage='luc')
    # The method follows in the same run: the control is done, and its lines stay.
    both = start(tmp_path / 'run')
    assert both['models'] == results['models'] and lines_of(tmp_path / 'run', stage='luc')
    assert lines_of(tmp_path / 'run', stage='control') == before


def test_the_control_is_the_same_run_without_lambda(made, tmp_path, weights):
    """With lambda 0 the segmentor takes the control's steps; with 2 it does not."""
    path, _ = made
    without = tmp_path / 'run'
    start(without, 'luc.adversarial_weight = 0.0')
    same = [np.array_equal(a, b) for a, b in zip(weights(without, 'best'),
                                                 weights(without, 'control'))]
    assert all(same)
    for a, b in zip(weights(path, 'control'), weights(without, 'control')):
        np.testing.assert_array_equal(a, b)
    assert not all(np.array_equal(a, b) for a, b in zip(weights(path, 'best'),
                                                        weights(path, 'control')))


@pytest.mark.slow
def test_with_labelled_images_mixed_a_stopped_run_goes_on_to_the_same_bits(tmp_path, monkeypatch,
                                                                           weights):
    """Of method and control, which without lambda end alike."""
    given = ('luc.adversarial_weight = 0.0', 'adversarial_stage.steps = 4',
             "adversarial_stage.augmentation = 'flip+cutmix'", 'cutmix.probability = 1.0')
    start(tmp_path / 'whole', *given)
    stops = Stops(monkeypatch)
    for place, count in (('segmentor', 4), ('cross_entropy', 4)):  # each after an evaluation
        stops.left = {place: count}
        with pytest.raises(KeyboardInterrupt):
            start(tmp_path / 'cut', *given)
    stops.left = {}
    start(tmp_path / 'cut', *given)
    whole = {name: weights(tmp_path / 'whole', name) for name in ('best', 'control')}
    for name, values in whole.items():
        for one, other, control in zip(values, weights(tmp_path / 'cut', name), whole['control']):
            np.testing.assert_array_equal(one, other)
            np.testing.assert_array_equal(one, control)


@pytest.mark.slow
def test_two_replicas_give_the_same_run(made, tmp_path, two_replicas, weights):
    """Both phases, the control, the evaluations and the choice of the best."""
    path, results = made
    found = start(tmp_path / 'run', strategy=two_replicas)
    for name in ('best', 'control'):
        for a, b in zip(weights(path, name), weights(tmp_path / 'run', name)):
            np.testing.assert_allclose(a, b, atol=2e-5)
    assert found['models']['Luc']['test']['miou'] == pytest.approx(
        results['models']['Luc']['test']['miou'], abs=1e-2)  # a pixel or two that tie
    board = tmp_path / 'run' / 'tensorboard' / hyperparameters.FOLDER
    scores = [tf.make_ndarray(value.tensor)
              for path in board.iterdir() for record in tf.data.TFRecordDataset(str(path))
              for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value
              if value.tag == 'miou/test/Luc']
    np.testing.assert_allclose(scores, [found['models']['Luc']['test']['miou']], rtol=1e-6)


@pytest.mark.slow
def test_the_last_model_is_kept_where_that_was_asked_for(tmp_path):
    path = tmp_path / 'run'
    start(path, "adversarial_stage.keep = 'last'", 'adversarial_stage.evaluate_every_epochs = 0',
          'experiment.control = False')
    assert not (path / 'checkpoints' / 'best').exists()
    described = networks.read_description(path / 'checkpoints' / 'last')
    assert described['kept_step'] == 10 and described['holdout_miou'] is None
    state = files.read_json(path / 'stages' / 'luc' / loop.STATE)
    segmentor, _, _ = networks.load(path)
    kept = [v.numpy() for v in segmentor.variables]
    checkpoints.read_state(path / 'stages' / 'luc' / state['state'], segmentor=segmentor)
    assert all(np.array_equal(a, v) for a, v in zip(kept, segmentor.variables))


def test_a_dry_run_builds_everything_and_leaves_nothing(tmp_path, capsys):
    assert start(tmp_path / 'run', dry_run=True) is None
    said = capsys.readouterr().out
    assert re.search(
        r'^Luc: about .*10 steps of the segmentor, .* of the discriminator .*parameters',
        said, re.M)
    assert re.search(r'^Stage 1: about', said, re.M) and re.search(r'^control: about', said, re.M)
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('binding, text', [
    ('adversarial_stage.evaluate_every_epochs = 0', 'chooses among evaluations'),
    ("adversarial_stage.keep = 'bset'", 'Did you mean "best"'),
    ('adversarial_stage.batch_size = 0', 'adversarial_stage.batch_size = 0'),
    ('adversarial_stage.batch_size = 2.5', 'batch_size = 2.5: expected a whole number'),
    ('adversarial_stage.diagnose_every = None', 'diagnose_every = None'),
    ('adversarial_stage.evaluate_every_epochs = -1', 'evaluate_every_epochs = -1'),
    ('adversarial_stage.augmentation = None', 'adversarial_stage.augmentation = None'),
    ("adversarial_stage.augmentation = 'hnug'", 'Did you mean "hung"'),
    ('adversarial_stage.steps = 0', 'adversarial_stage.steps = 0')])
def test_settings_out_of_range_are_told_in_one_line(tmp_path, binding, text):
    with pytest.raises(UserError) as caught:
        start(tmp_path / 'run', binding)
    assert text in str(caught.value) and '\n' not in str(caught.value)


def test_class_maps_of_few_evaluations_are_kept_the_first_and_the_last_among_them(
        tmp_path, monkeypatch):
    for name, found in (('load', []), ('test_ids', []), ('masks', [np.zeros((2, 2), np.uint8)])):
        monkeypatch.setattr(stage_training.shown_images, name, lambda *_, found=found: found)
    training = object.__new__(stage_training.StageTraining)
    training._context = mock.Mock(chief=True)
    training._stage, training._folder = mock.Mock(evaluate_every=7), tmp_path
    for done in (*range(7, 7 * 300, 7), 7 * 300 - 3):  # the last one comes before its turn
        training._keep_masks(done)
    kept = sorted(int(path.stem) for path in (tmp_path / stage_training.MASKS).iterdir())
    assert kept[0] == 7 and kept[-1] == 7 * 300 - 3 and 32 <= len(kept) <= 65
    assert len({b - a for a, b in zip(kept[:-1], kept[1:-1])}) == 1
