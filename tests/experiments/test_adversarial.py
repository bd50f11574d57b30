"""Luc's stage end to end on small scenes: a resume changes nothing, the control is a control."""
import json
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core import configuration, files
from tf_advseg.core.errors import UserError
from tf_advseg.experiments import adversarial_outcome, networks, outcome, training
from tf_advseg.training import checkpoints, loop

SIDE = 33
OPTIONS = {'num_train': 6, 'num_val': 4, 'num_test': 2, 'size': (40, 40), 'smallest': (33, 33)}
BINDINGS = ("dataset.reader = 'shapes'", f'dataset.options = {OPTIONS!r}',
            'dataset.holdout_fraction = 1', f'experiment.crop_size = {SIDE}',
            "experiment.network = 'farabet'", 'farabet.hidden = 8',
            "build_adversary.name = 'small_fov_light'", 'adversarial_stage.steps = 10',
            'adversarial_stage.batch_size = 2', 'adversarial_stage.evaluate_every_epochs = 1',
            'adversarial_stage.train_pictures = 2', 'adversarial_stage.diagnose_every = 4',
            'segmentor_optimizer.learning_rate = 0.05', 'adversary_optimizer.learning_rate = 0.01',
            'alternation.every = 2', 'experiment.seed = 3', 'stage_one.weighted_epochs = 0',
            'stage_one.epochs = 0')


def start(workdir, *bindings, strategy=None, dry_run=False, report=False):
    """A run as tools/train.py starts it; the report, which takes seconds, on demand."""
    configuration.parse(['gin/methods/luc.gin'], [*BINDINGS, *bindings])
    arguments = workdir, strategy or tf.distribute.get_strategy(), dry_run
    if report:
        return training.experiment(*arguments)
    with mock.patch.object(adversarial_outcome, 'report'):
        return training.experiment(*arguments)


def weights(run, name):
    """The arrays of a model folder of a run."""
    segmentor, _, _ = networks.load(run / 'checkpoints' / name)
    return [v.numpy() for v in segmentor.variables]


def lines_of(run, **fields):
    """Lines of metrics.jsonl with these values, their clock time left out."""
    lines = [json.loads(line) for line in (run / 'metrics.jsonl').read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != 'time'} for line in lines
            if all(line.get(name) == value for name, value in fields.items())]


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """(folder, results) of a finished run."""
    path = tmp_path_factory.mktemp('luc') / 'run'
    results = start(path, report=True)
    yield path, results


def test_a_run_leaves_scores_curves_and_a_report(made):
    path, results = made
    assert list(results['models']) == [outcome.START, outcome.CONTROL, 'Luc']
    assert results['subject'] == 'Luc' and set(results['models']['Luc']) == {'holdout', 'test'}
    assert results == files.read_json(path / 'results.json')
    test = results['models']['Luc']['test']
    assert 0 <= test['boundary']['mean'] <= 1 and test['boundary']['pictures'] == 2
    evaluated = lines_of(path, event='evaluation', stage='luc', split='holdout')
    assert [line['generator_step'] for line in evaluated] == [3, 6, 9, 10]
    assert len(evaluated[0]['class_accuracy']) == 8
    kept = networks.read_description(path / 'checkpoints' / 'best')
    assert kept['holdout_miou'] == max(line['miou'] for line in evaluated)
    assert results['models']['Luc']['holdout']['miou'] == pytest.approx(kept['holdout_miou'])
    phases = {name: len(lines_of(path, event='stage', stage=name)) for name in ('luc', 'control')}
    assert phases == {'luc': 2, 'control': 1}  # each tenth step of either network
    assert {'loss/disc', 'loss/adv'} <= {k for m in lines_of(path, stage='luc') for k in m}
    measured = lines_of(path, event='gradients')
    assert [line['generator_step'] for line in measured] == [1, 5, 9]
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


def test_a_stopped_run_goes_on_as_if_it_had_not_been(made, tmp_path, monkeypatch):
    """Stopped at every kind of place: in each phase, between evaluation and state, in the control.

    The state is written after 2 steps and after evaluations only: what comes later is done again.
    """
    path, results = made
    steps = {'left': 0}
    take = loop.Stepper.__call__

    def stepper(self, step, *arguments, **scalars):
        if step in ('segmentor', 'adversary', 'cross_entropy'):
            steps['left'] -= 1
            if not steps['left']:
                raise KeyboardInterrupt
        return take(self, step, *arguments, **scalars)

    monkeypatch.setattr(loop.Stepper, '__call__', stepper)
    other = tmp_path / 'run'
    for stop in (4, 9, 14):
        steps['left'] = stop
        with pytest.raises(KeyboardInterrupt):
            start(other)
    steps['left'] = 10 ** 6
    found = start(other)
    assert found['models'] == results['models']
    for name in ('best', 'control'):
        for a, b in zip(weights(path, name), weights(other, name)):
            np.testing.assert_array_equal(a, b)
    assert lines_of(other) == lines_of(path)


def test_the_control_is_the_same_run_without_lambda(made, tmp_path):
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
def test_two_replicas_give_the_same_run(made, tmp_path, two_replicas):
    """Both phases, the control, the evaluations and the choice of the best."""
    path, results = made
    found = start(tmp_path / 'run', strategy=two_replicas)
    for name in ('best', 'control'):
        for a, b in zip(weights(path, name), weights(tmp_path / 'run', name)):
            np.testing.assert_allclose(a, b, atol=2e-5)
    assert found['models']['Luc']['test']['miou'] == pytest.approx(
        results['models']['Luc']['test']['miou'], abs=5e-3)


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
    assert 'adversary: ' in said and 'parameters' in said and '10 steps' in said
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('binding, text', [
    ('adversarial_stage.evaluate_every_epochs = 0', 'chooses among evaluations'),
    ("adversarial_stage.keep = 'bset'", 'Did you mean "best"'),
    ('adversarial_stage.batch_size = 0', 'adversarial_stage.batch_size = 0'),
    ('adversarial_stage.steps = 0', '0 steps of the segmentor')])
def test_settings_out_of_range_are_told_in_one_line(tmp_path, binding, text):
    with pytest.raises(UserError) as caught:
        start(tmp_path / 'run', binding)
    assert text in str(caught.value) and '\n' not in str(caught.value)
