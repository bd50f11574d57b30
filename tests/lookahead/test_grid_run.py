"""A whole run whose discriminator sees the logits' own points: what it writes; its nulls."""
import math

import importlib.util
import pathlib
from unittest import mock

import pytest

from tf_advseg.core import configuration
from tf_advseg.core import journal
from tf_advseg.experiments import improve
from tf_advseg.lookahead import cycle_masks
from tf_advseg.lookahead import discriminator_data

_SPEC = importlib.util.spec_from_file_location(
    'tiny', pathlib.Path(__file__).with_name('tiny.py'))
tiny = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tiny)

GRID = ("build_discriminator.name = 'patch'", 'build_discriminator.dropout = 0.0',
        "input_encoding.size = 'logits'", "input_encoding.kind = 'concat'",
        "input_encoding.truth = 'scaling'",
        'controller.max_total_cycles = 2', 'controller.patience = 3')


def run(workdir, *bindings, model=None, strategy=None):
    """(results, the journal's lines) of a run of the tiny network."""
    results = improve.improve(
        model or tiny.network(), None, workdir, crop_size=tiny.CROP, seed=3, strategy=strategy,
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
    assert 0.0 <= found['accuracy'] <= 1.0 and found['blind'] == (
        found['accuracy'] <= 0.55 or found['log_loss'] >= 0.98 * math.log(2.0))
    order = [line['event'] for line in lines]
    assert order[:4] == ['start', 'aggregate', 'retrain', 'screening']
    assert 'Screening at g0' in (path / 'report.html').read_text()


@pytest.mark.slow
def test_two_replicas_screen_as_one(matched, tmp_path, two_replicas):
    with two_replicas.scope():
        model = tiny.network()
    lines = run(tmp_path / 'two', 'controller.max_total_cycles = 1', 'experiment.control = False',
                'lookahead.min_epochs = 2', 'lookahead.discriminator_holdout = 0.25',
                model=model, strategy=two_replicas)[1]
    ours, = [line for line in lines if line['event'] == 'screening']
    theirs, = [line for line in matched[2] if line['event'] == 'screening']
    assert ours['images'] == theirs['images'] and ours['unseen'] == theirs['unseen']
    # Stage 1 and D's training are equal but for the order of sums.
    assert ours['signal'] == pytest.approx(theirs['signal'], abs=0.05)
    assert ours['ce_signal'] == pytest.approx(theirs['ce_signal'], abs=0.05)


def test_a_target_accuracy_ends_a_retraining_before_its_first_epoch_ends_or_after(matched):
    path, _, lines = matched
    trained = [line for line in lines if line['event'] == 'retrain']
    assert len(trained) == 2 and all('disc/log_loss' in line for line in trained)
    reached = [line for line in trained if line['disc/accuracy'] >= 0.51]
    assert all(line['epochs'] <= 2 for line in trained)
    assert all(line['epochs'] == 1 for line in reached if line['best_epoch'] == 1)


@pytest.mark.slow
def test_nothing_is_drawn_after_the_last_cycle_until_it_goes_on(matched):
    path, results, lines = matched
    events = [line['event'] for line in lines]
    assert events.count('end') == 2 and events.count('aggregate') == 2  # at g0, after cycle 0
    again, lines = run(path, 'lookahead.target_accuracy = 0.51', 'lookahead.min_epochs = 2',
                       'lookahead.discriminator_holdout = 0.25', 'controller.max_total_cycles = 3')
    events = [line['event'] for line in lines]
    assert events.count('end') == 3 and events.count('aggregate') == 3
    assert again['models']['Stage 1'] == results['models']['Stage 1']


def test_hold_out_images_are_kept_through_the_cycles_and_shown(matched):
    path, _, lines = matched
    kept = cycle_masks.read(path / 'lookahead')
    assert set(kept) >= {'g0', *(line['label'] for line in lines
                                 if line['event'] in ('end', 'peak'))}
    assert len({len(masks) for masks in kept.values()}) == 1
    assert 'LoAd Figs 6 and 7' in (path / 'report.html').read_text()


def test_structure_is_measured(matched):
    _, results, _ = matched
    found = results['models']['LoAd']['test']
    assert found['components']['spurious']['total'] >= 0 and found['boundary']['scored'] > 0
    assert set(found['improved']) == {'Stage 1', 'control (CE)'}
    assert all(0.0 <= share <= 1.0 for share in found['improved'].values())


@pytest.mark.slow
def test_shuffled_targets_are_drawn_once_a_retraining_and_the_last_epoch_counts(tmp_path):
    asked, training = [], discriminator_data.DiscriminatorData.training

    def recorded(self, pairs, seed, targets=None):
        asked.append((pairs, targets))
        return training(self, pairs, seed, targets)
    with mock.patch.object(discriminator_data.DiscriminatorData, 'training', recorded):
        _, lines = run(tmp_path / 'null', "lookahead.null = 'shuffled'", 'lookahead.max_epochs = 3',
                       'lookahead.min_epochs = 3', 'controller.max_total_cycles = 1',
                       'experiment.control = False')
    assert 'a null of LoAd' in (tmp_path / 'null' / 'report.html').read_text()
    assert not any(line.get('accuracy') for line in lines if line['event'] == 'screening')
    assert len(asked) == 3
    of_epochs = [{tuple(pair): target for pair, target in zip(pairs.tolist(), targets)}
                 for pairs, targets in asked]
    assert of_epochs[0] == of_epochs[1] == of_epochs[2]  # else there is nothing to learn
    truths = {pair: float(pair[1] == discriminator_data.REAL) for pair in of_epochs[0]}
    assert of_epochs[0] != truths and sum(of_epochs[0].values()) == sum(truths.values())
    trained, = [line for line in lines if line['event'] == 'retrain']
    assert trained['best_epoch'] == trained['epochs'] == 3
