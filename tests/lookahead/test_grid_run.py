"""A whole run whose discriminator sees the logits' own points: what it writes; its nulls."""
import importlib.util
import json
import pathlib

import pytest

from tf_advseg.core import configuration
from tf_advseg.core import journal
from tf_advseg.experiments import improve

_SPEC = importlib.util.spec_from_file_location(
    'tiny', pathlib.Path(__file__).with_name('tiny.py'))
tiny = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tiny)

GRID = ("build_discriminator.name = 'patch'", "input_encoding.size = 'logits'",
        "input_encoding.truth = 'scaling'", "input_encoding.kind = 'concat'",
        'controller.max_total_cycles = 2', 'controller.patience = 3')


def run(workdir, *bindings):
    """(results, the journal's lines) of a run of the tiny network."""
    results = improve.improve(
        tiny.network(), None, workdir, crop_size=tiny.CROP, seed=3,
        normalise=lambda x: x / 127.5 - 1.0, gin_params=(*tiny.GIN, *GRID, *bindings))
    configuration.parse([], [])
    return results, journal.Journal.read(workdir / 'journal.jsonl')


@pytest.fixture(scope='module')
def matched(tmp_path_factory):
    """A run of two cycles whose discriminator stops at a modest accuracy."""
    path = tmp_path_factory.mktemp('grid') / 'run'
    return (path, *run(path, 'lookahead.target_accuracy = 0.51', 'lookahead.min_epochs = 2',
                       'lookahead.discriminator_holdout = 0.25'))


def test_the_first_discriminator_is_screened_once_and_the_report_says_it(matched):
    path, _, lines = matched
    found, = [line for line in lines if line['event'] == 'screening']
    assert found['images'] == 12 and found['unseen'] == 4
    assert -1 <= found['signal'] <= 1 and 0 <= found['chance'] <= 1
    assert set(found['cues']) and isinstance(found['points_nowhere'], bool)
    assert 0.0 <= found['accuracy'] <= 1.0 and found['blind'] == (found['accuracy'] <= 0.55)
    order = [line['event'] for line in lines]
    assert order[:4] == ['start', 'aggregate', 'retrain', 'screening']
    assert 'Screening at g0' in (path / 'report.html').read_text()


def test_a_target_accuracy_ends_a_retraining_before_its_first_epoch_ends_or_after(matched):
    path, _, lines = matched
    trained = [line for line in lines if line['event'] == 'retrain']
    assert len(trained) == 2 and all('disc/log_loss' in line for line in trained)
    reached = [line for line in trained if line['disc/accuracy'] >= 0.51]
    assert all(line['epochs'] <= 2 for line in trained)
    assert all(line['epochs'] == 1 for line in reached if line['best_epoch'] == 1)


def test_nothing_is_drawn_after_the_last_cycle_until_it_goes_on(matched):
    path, results, lines = matched
    events = [line['event'] for line in lines]
    assert events.count('end') == 2 and events.count('aggregate') == 2  # at g0, after cycle 0
    again, lines = run(path, 'lookahead.target_accuracy = 0.51', 'lookahead.min_epochs = 2',
                       'lookahead.discriminator_holdout = 0.25', 'controller.max_total_cycles = 3')
    events = [line['event'] for line in lines]
    assert events.count('end') == 3 and events.count('aggregate') == 3
    assert again['models']['Stage 1'] == results['models']['Stage 1']


def test_structure_is_measured(matched):
    _, results, _ = matched
    found = results['models']['LoAd']['test']
    assert found['components']['spurious']['total'] >= 0 and found['boundary']['scored'] > 0
    assert set(found['improved']) == {'Stage 1', 'control (CE)'}
    assert all(0.0 <= share <= 1.0 for share in found['improved'].values())


def test_shuffled_targets_leave_nothing_to_learn(tmp_path):
    _, lines = run(tmp_path / 'null', "lookahead.null = 'shuffled'", 'lookahead.max_epochs = 3',
                   'lookahead.min_epochs = 3', 'controller.max_total_cycles = 1',
                   'experiment.control = False')
    metrics = [json.loads(line) for line in
               (tmp_path / 'null' / 'metrics.jsonl').read_text().splitlines()]
    epochs = [line for line in metrics if line['event'] == 'discriminator']
    assert len(epochs) == 3
    # Of 12 truths and 12 maps that are told apart by chance, 0.5 give or take 0.3.
    assert all(0.2 <= line['disc/accuracy'] <= 0.8 for line in epochs)
    assert any(line['event'] == 'retrain' for line in lines)
