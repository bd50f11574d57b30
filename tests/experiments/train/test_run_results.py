"""What a run's tables say of the images they were made from."""
import json
import types

import numpy as np
import pytest

from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.experiments.train import run_report
from tf_advseg.experiments.train import run_results
from tf_advseg.lookahead import load_report

SUMMARY = {'miou': 0.5, 'pixel_accuracy': 0.6, 'class_iou': {'sky': 0.5}}


@pytest.fixture
def results():
    return {'models': {run_results.START: {'holdout': SUMMARY, 'test': SUMMARY}},
            'subject': run_results.START, 'dataset': 'mine', 'seed': 3, 'images': {'test': 9},
            'left_out': [], 'images_left_out': {'train': 0, 'val': 0, 'test': 0},
            'test_shares': {'train': 0, 'holdout': 0}}


def test_a_test_split_that_nothing_is_wrong_with_is_only_named(results):
    assert run_results.table(results).title == 'IoU in percent, test, mine, seed 3'
    assert run_results.notes_on_test(results) == run_results.notes_on_training(results) == []
    assert load_report._shared_notes(results) == {}


def test_images_left_out_of_test_are_counted(results):
    results['images_left_out'] = {'train': 4, 'val': 0, 'test': 1}
    assert run_results.table(results).title.endswith('seed 3; 1 damaged image of it left out')
    results['images_left_out']['test'] = 2
    assert run_results.table(results).title.endswith('; 2 damaged images of it left out')
    assert run_results.table(results, 'holdout').title == 'IoU in percent, holdout, mine, seed 3'


def test_a_test_split_with_the_hold_out_in_it_says_so(results):
    results['test_shares'] = {'train': 0, 'holdout': 3}
    assert '3 of its 9 images are the hold-out' in run_results.table(results).title
    assert '3 of its 9 images' in run_results.notes_on_test(results)[0]
    notes = load_report._shared_notes(results)
    assert 'chose nothing.' not in notes['split_notes']['test']
    assert 'test split, which chose nothing' not in notes['choice_note']


def test_results_that_speak_of_pictures_say_the_same(results):
    results['test_shares'] = {'train': 0, 'holdout': 3}
    results['images_left_out'] = {'train': 4, 'val': 0, 'test': 1}
    said, title = run_results.notes_on_test(results), run_results.table(results).title
    for name in ('images', 'images_left_out'):
        results[name.replace('images', 'pictures')] = results.pop(name)
    assert run_results.notes_on_test(results) == said and len(said) == 2
    assert run_results.table(results).title == title


def test_results_of_earlier_versions_still_have_a_table(results):
    for name in ('subject', 'images', 'left_out', 'images_left_out', 'test_shares'):
        del results[name]
    assert run_results.table(results).title == 'IoU in percent, test, mine, seed 3'


@pytest.mark.parametrize('rows', ['3', "{'a': 3}", "{'a': {'miuo': 0.3}}", "{'a': {'miou': 51.3}}"])
def test_figures_of_a_paper_are_fractions_by_known_names(rows):
    configuration.parse([], [f'paper_figures.paper_rows = {rows}'])
    with pytest.raises(UserError, match='paper_figures.paper_rows') as caught:
        run_report.paper_figures().paper_rows
    assert '\n' not in str(caught.value)


def test_figures_of_a_paper_may_name_all_four_of_durall():
    row = {'pixel_accuracy': 0.944, 'mean_class_accuracy': 0.841, 'frequency_weighted_iou': 0.9,
           'miou': 0.754}
    configuration.parse([], [f"paper_figures.paper_rows = {{'proposed': {row}}}"])
    assert run_report.paper_figures().paper_rows == {'proposed': row}


def test_images_that_became_better_are_counted_like_with_like():
    by_image = {'Stage 1': np.array([0.2, 0.5, 0.5, np.nan]),
                'control (CE)': np.array([0.3, 0.5, 0.4, np.nan]),
                'control (CE) + SWA': np.array([0.9, 0.9, 0.9, np.nan])}
    found = np.array([0.4, 0.5, 0.3, 0.7])
    assert run_results.improved(found, by_image, 'Durall') == {
        'Stage 1': 0.5, 'control (CE)': 0.5}
    assert run_results.improved(found, by_image, 'Durall + SWA') == {'control (CE) + SWA': 0.0}
    assert run_results.improved(np.full(4, np.nan), by_image, 'Durall') == {
        'Stage 1': None, 'control (CE)': None}


def test_a_model_that_names_one_class_alone_is_told_of():
    """Runs of such models score alike, so an interval over them would have no width."""
    found = run_results.one_class_sentences({'models': {
        'control (CE)': {'test': {'confusion_matrix': [[5, 0], [3, 0]]}},
        'Luc': {'test': {'confusion_matrix': [[5, 0], [2, 1]]}}}})
    assert len(found) == 1 and found[0].startswith('control (CE) names one class alone')


@pytest.mark.parametrize('event, own', [({'event': 'stage', 'stage': 'luc', 'loss/disc': 0.5}, True),
                                        ({'event': 'discriminator'}, True),
                                        ({'event': 'stage', 'stage': 'other', 'loss/disc': 0.5},
                                         False)])
def test_the_discriminators_accuracy_is_that_of_the_last_tenth(tmp_path, event, own):
    """Of the method's own stage, or of LoAd's retrainings."""
    path = tmp_path / 'metrics.jsonl'
    lines = [{**event, 'disc/acc_real': 0.5 if step < 18 else 0.75, 'disc/acc_fake': 0.25}
             for step in range(20)] + [{'event': 'evaluation'}]
    path.write_text(''.join(f'{json.dumps(line)}\n' for line in lines))
    context = types.SimpleNamespace(run=types.SimpleNamespace(metrics_path=path))
    found = run_results.of_discriminator(context, types.SimpleNamespace(name='luc'))
    assert found == ({'discriminator_accuracy': {'real': 0.75, 'fake': 0.25}} if own else {})
    path.unlink()
    assert run_results.of_discriminator(context, types.SimpleNamespace(name='luc')) == {}
