"""The report of a method that alternates: its tables, its honest sentences, its figures."""
import dataclasses
import html
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest

from tf_advseg.experiments import recipe_registry as recipes
from tf_advseg.methods import recipe
from tf_advseg.reporting import tables
from tf_advseg.reporting.pages import adversarial_report
from tf_advseg.reporting.pages import adversarial_sentences
from tf_advseg.reporting.pages import report

NAMES = ('sky', 'ground', 'water')
PAPER = {'Luc et al., Standard': {'mean_class_accuracy': 0.665, 'pixel_accuracy': 0.733,
                                  'miou': 0.513},
         'Luc et al., Adversarial': {'mean_class_accuracy': 0.687, 'pixel_accuracy': 0.752,
                                     'miou': 0.543}}


def _results(make_summary, gain=0.011):
    def summary(miou, boundary=True):
        made = dict(make_summary(miou), mean_class_accuracy=miou + 0.1,
                    class_accuracy=dict(zip(NAMES, (miou, miou + 0.2, None))))
        if boundary:
            made['boundary'] = {'mean': miou - 0.1, 'std': 0.22}
        return made
    models = {'Stage 1': 0.4, 'control (CE)': 0.5, 'Luc': 0.5 + gain}
    return {'models': {name: {'holdout': summary(miou + 0.03, False), 'test': summary(miou)}
                       for name, miou in models.items()},
            'subject': 'Luc', 'seconds': {'luc': 600.0, 'control': 300.0}}


def _lines(table):
    return {row[0]: row[1:] for row in table.texts()}


def test_the_whole_page(metrics, make_summary, tmp_path):
    image = np.zeros((20, 30, 3), np.uint8)
    made = adversarial_report.adversarial_report(
        'Luc on shapes', _results(make_summary), metrics, 'luc', NAMES, paper=PAPER, masks=image,
        probabilities={'image 7': image}, configuration='luc.weight = 2', environment={'a': 1},
        summary=['Mine.'])
    assert made.state == 'finished' and made.summary[0] == 'Mine.'
    assert len(made.figures) == 5 and len(made.panels) == 2
    report.write_report(tmp_path / 'report.html', made)
    text = (tmp_path / 'report.html').read_text(encoding='utf-8')
    assert text.count('src="data:image/png;base64,') == 7
    text = html.unescape(text)
    for words in ('luc.weight = 2', 'Measures, test', 'Accuracy by class, test', 'image 7: class',
                  'vs control (CE)', 'hold-out (models were chosen by it)', '10 min 00 s'):
        assert words in text, words
    assert 'LoAd' not in text and 'peak' not in text


def test_measures_stand_beside_the_control_and_the_paper(make_summary):
    columns = {name: splits['test'] for name, splits in _results(make_summary)['models'].items()}
    found = _lines(adversarial_report.score_table(columns, 'Luc', 'control (CE)', 'test', PAPER))
    assert found['model'] == ['mean class accuracy', 'pixel accuracy', 'mIoU', 'BF, mean', 'BF, σ']
    assert found['control (CE)'] == ['60.00', '65.00', '50.00', '40.00', '22.00']
    assert found['Luc'] == ['61.10', '66.10', '51.10', '41.10', '22.00']
    # A difference of two standard deviations is no gain.
    assert found['gain over control (CE)'] == ['+1.10'] * 4 + [tables.MISSING]
    assert found['Luc et al., Adversarial'] == ['68.70', '75.20', '54.30'] + [tables.MISSING] * 2
    assert found['gain over Luc et al., Standard'][:3] == ['+2.20', '+1.90', '+3.00']


def test_measures_that_no_model_has_are_no_column(make_summary):
    table = adversarial_report.score_table({'Luc': make_summary(0.5), 'control': None}, 'Luc',
                                           'control')
    assert table.header == ('model', 'pixel accuracy', 'mIoU') and len(table.rows) == 1


def test_accuracy_by_class_with_gains(make_summary):
    columns = {name: splits['test'] for name, splits in _results(make_summary)['models'].items()}
    table = adversarial_report.accuracy_table({**columns, 'other': None}, 'Luc', 'control (CE)')
    assert table.header == ('class', 'Stage 1', 'control (CE)', 'Luc', 'vs control (CE)')
    assert _lines(table)['ground'] == ['60.00', '70.00', '71.10', '+1.10']
    assert _lines(table)['water'] == [tables.MISSING] * 4
    alone = adversarial_report.accuracy_table(columns, 'Luc')
    assert alone.header == ('class', 'Stage 1', 'control (CE)', 'Luc')


def test_sentences_tell_steps_overfitting_and_the_adversary(metrics, make_summary):
    text = ' '.join(adversarial_report.adversarial_report(
        't', _results(make_summary), metrics, 'luc', NAMES).summary)
    assert 'Luc: 200 steps of the segmentor and 200 of the discriminator; control (CE): 200' in text
    assert 'not taken equally many' not in text
    assert 'Luc has 51.10 % mIoU: +11.10 points against Stage 1, +1.10 points against control' \
        in text
    assert 'after 200 steps of the segmentor: mIoU +10.00 with Luc, +20.00 with control' in text
    assert '70 % of the truths and 60 % of the segmentor\'s maps' in text


def test_what_is_logged_makes_no_method_another(metrics, make_summary):
    """A term of one paper's name in the logs of another method: its curve, and no word of Zhu's."""
    lines = [{**line, 'loss/content': 0.2} if line['stage'] == 'luc' else line for line in metrics]
    plain, logged = (adversarial_report.adversarial_report(
        't', _results(make_summary), each, 'luc', NAMES) for each in (metrics, lines))
    assert logged.summary == plain.summary
    assert len(logged.panels) == len(plain.panels) and logged.title == plain.title


def test_runs_of_different_length_are_told_apart(metrics, make_summary):
    shorter = [line for line in metrics if line['stage'] != 'control'
               or line['segmentor_step'] <= 100]
    text = ' '.join(adversarial_report.adversarial_report(
        't', _results(make_summary), shorter, 'luc', NAMES).summary)
    assert 'not taken equally many' in text
    assert 'after 100 steps of the segmentor: mIoU +5.00 with Luc, +10.00 with control' in text


@pytest.mark.parametrize('gain, words', [
    (0.019, 'within that and says nothing'), (-0.019, 'within that and says nothing'),
    (0.03, 'still that of a single pair'), (-0.03, '(-3.00 points) is larger')])
def test_no_single_pair_of_runs_is_a_gain(make_summary, gain, words):
    made = adversarial_report.adversarial_report('t', _results(make_summary, gain), [], 'luc',
                                                 NAMES)
    text, = adversarial_sentences.noise_sentences(made)
    assert words in text
    assert 'about 1.4 points of mIoU' in text and 'about 2.0 apart' in text
    assert 'tools/sweep.py' in text and text in made.summary


@pytest.mark.parametrize('keep, words', [('best', 'Luc is shown at the evaluation'),
                                         ('last', 'the hold-out chose no moment')])
def test_the_note_says_what_the_hold_out_chose(make_summary, keep, words):
    made = adversarial_report.adversarial_report('t', _results(make_summary), [], 'luc', NAMES,
                                                 keep=keep)
    page = html.unescape(report.render(made))
    assert words in page and 'What counts is the test split' in page
    assert adversarial_report.NO_CONTROL_NOTE not in page
    with pytest.raises(ValueError, match='best, last'):
        adversarial_report.adversarial_report('t', None, [], 'luc', NAMES, keep='averaged')


def test_without_a_control_the_page_says_what_that_means(metrics, make_summary):
    results = _results(make_summary)
    del results['models']['control (CE)']
    made = adversarial_report.adversarial_report('t', results, metrics, 'luc', NAMES, control=None)
    made = dataclasses.replace(made, figures=[])
    page = html.unescape(report.render(made))
    assert adversarial_report.NO_CONTROL_NOTE in page and 'Another seed alone' not in page
    assert 'gain over' not in page and '+20.00 with' not in page


@pytest.mark.parametrize('cut', [0, 8])
def test_a_run_under_way(metrics, cut):
    made = adversarial_report.adversarial_report('t', None, metrics[:cut], 'luc', NAMES)
    assert made.state == ('running' if cut else 'not started')
    assert len(made.figures) == (3 if cut else 0)
    page = html.unescape(report.render(made))
    assert 'Nothing has been evaluated yet' in page
    assert ('No step of the method\'s training' in page) == (not cut)
    with pytest.raises(TypeError, match='no field'):
        adversarial_report.adversarial_report('t', None, [], 'luc', NAMES, colour='red')


def test_it_needs_no_tensorflow(repository):
    code = ('import sys; import tf_advseg.reporting.pages.adversarial_report, '
            'tf_advseg.reporting.paper_figures.probability_panels; '
            'sys.exit("tensorflow" in sys.modules or "matplotlib.pyplot" in sys.modules)')
    assert subprocess.run([sys.executable, '-c', code], cwd=repository).returncode == 0


def _averaged(make_summary):
    """Results of a run whose weights were averaged."""
    models = {'Stage 1': 0.4, 'control (CE)': 0.5, 'control (CE) + SWA': 0.52, 'Luc': 0.53,
              'Luc + SWA': 0.535}
    models = {name: dict(make_summary(miou), frequency_weighted_iou=miou + 0.2)
              for name, miou in models.items()}
    return {'models': {name: {'holdout': s, 'test': s} for name, s in models.items()},
            'subject': 'Luc + SWA'}


def _with_averages(metrics):
    return metrics + [dict(line, split='holdout_averaged') for line in metrics
                      if line.get('split') == 'holdout']


def test_every_gain_is_of_like_against_like(metrics, make_summary):
    made = adversarial_report.adversarial_report(
        't', _averaged(make_summary), _with_averages(metrics), 'luc', NAMES)
    assert (made.subject, made.control) == ('Luc + SWA', 'control (CE) + SWA')
    found = _lines(made.measures[-1])
    at = found['model'].index('mIoU')
    assert found['model'][:2] == ['pixel accuracy', 'fwIoU']
    gains = {name: row[at] for name, row in found.items() if 'gain over' in name}
    assert gains == {'Luc: gain over control (CE)': '+3.00',
                     'Luc + SWA: gain over control (CE) + SWA': '+1.50',
                     'control (CE) + SWA: gain over control (CE)': '+2.00',
                     'Luc + SWA: gain over Luc': '+0.50'}
    text = ' '.join(made.summary)
    for words in (
            'Luc: 200 steps of the segmentor',
            'Luc has 53.00 % mIoU: +13.00 points against Stage 1, +3.00 points against control '
            '(CE).',
            'Luc + SWA has 53.50 % mIoU: +13.50 points against Stage 1, +1.50 points against '
            'control (CE) + SWA.',
            'by +2.00 points for control (CE) and +0.50 points for Luc.',
            'The difference from control (CE) (+3.00 points) is larger',
            'that of Luc + SWA from control (CE) + SWA (+1.50 points) lies within'):
        assert words in text, words
    page = html.unescape(report.render(made))
    assert 'vs control (CE) + SWA' in page and 'vs control (CE)<' not in page
    assert made.choice_note.startswith('Luc is shown') and 'SWA' in made.choice_note
    assert 'Fig. 6' in made.figures[0][0] and len(made.figures) == 6


def test_a_yardstick_of_other_images_is_none(metrics, make_summary):
    made = adversarial_report.adversarial_report('t', _results(make_summary), metrics, 'luc', NAMES,
                                                 noise=None)
    text = ' '.join(made.summary)
    assert 'nobody has tried on these images' in text and 'lies within' not in text
    assert 'points of Luc over control (CE)' in text


def test_no_averages_no_word_of_them(metrics, make_summary):
    made = adversarial_report.adversarial_report('t', _results(make_summary), metrics, 'luc', NAMES)
    assert 'SWA' not in made.choice_note + ' '.join(made.summary)
    assert not any('Fig. 6' in caption for caption, _ in made.figures)


def test_a_control_alone_shows_what_averaging_gave(metrics, make_summary):
    results = _averaged(make_summary)
    del results['models']['Luc'], results['models']['Luc + SWA']
    results['subject'] = 'control (CE) + SWA'
    made = adversarial_report.adversarial_report(
        't', results, [line for line in metrics if line['stage'] == 'control'], 'luc', NAMES)
    assert (made.subject, made.control) == ('control (CE) + SWA', 'control (CE)')
    assert made.summary[0] == 'control (CE): 200 steps of the segmentor, on the labels alone.'
    assert '+2.00 points against control (CE).' in made.summary[1]
    assert 'Another seed alone' not in ' '.join(made.summary)


def test_a_start_of_random_weights_is_no_model_to_compare_with(metrics, make_summary):
    made = adversarial_report.adversarial_report(
        't', {**_results(make_summary), 'starts_random': True}, metrics, 'luc', NAMES)
    page = html.unescape(report.render(made))
    assert adversarial_report.RANDOM_START_NOTE in made.summary
    assert 'Stage 1' not in page and '+1.10 points against control (CE)' in page


@pytest.mark.parametrize('steps, logged, shown', [(9, 1, False), (0, 0, False), (19, 2, True)])
def test_too_few_steps_of_the_adversary_are_no_chart(metrics, make_summary, steps, logged, shown):
    """The log has every tenth step and the last; the segmentor took 200."""
    lines = [line for line in metrics if line['event'] == 'stage' and 'loss/disc' not in line]
    for line in lines:
        if line['stage'] == 'luc':
            line['step'] = line['segmentor_step'] + steps
    lines += [{'event': 'stage', 'stage': 'luc', 'step': step, 'loss/disc': 1.0,
               'disc/acc_real': 0.7, 'disc/acc_fake': 0.6} for step in (10, steps)[2 - logged:]]
    made = adversarial_report.adversarial_report('t', _results(make_summary), lines, 'luc', NAMES)
    assert any('The discriminator over' in caption for caption, _ in made.figures) == shown
    text = ' '.join(made.summary)
    assert ('There is no chart of the discriminator' in text) == (0 < steps < 10)
    if 0 < steps < 10:
        assert 'of its 9 steps the log has 1.' in text


def test_masks_over_time_and_the_cosine_are_told(metrics, make_summary):
    image = np.zeros((20, 30, 3), np.uint8)
    made = adversarial_report.adversarial_report(
        't', _results(make_summary), metrics, 'luc', NAMES, masks=image,
        masks_over_time=image, probabilities={'p': image})
    assert ['Fig. 5' in caption for caption, _ in made.panels] == [False, True, False]
    assert any('cosine' in caption for caption, _ in made.figures)


def parts_of(method, metrics, observed):
    """A method's own parts of a report, from its lines and what it saw of a model."""
    context = types.SimpleNamespace(run=types.SimpleNamespace(checkpoints=pathlib.Path('nowhere')))
    return recipes.find(method).report_parts(recipe.ReportInputs(
        context, metrics, {}, {'best': observed}, {}, method, 'control'))


def _joint_lines(steps=200, every=10):
    """What is logged of a run whose steps move both networks at once."""
    lines = [{'event': 'stage', 'stage': 'hung', 'step': step, 'segmentor_step': step,
              'loss/ce': 1.0, 'loss/adv': 1.5, 'loss/adv_unlabelled': 1.7, 'loss/semi': 0.3,
              'semi/selected': 0.2, 'loss/disc': 0.6, 'disc/acc_real': 0.9, 'disc/acc_fake': 0.7,
              'disc/fooled': 0.3} for step in range(every, steps + 1, every)]
    more = {f'{who}/{what}@{t}': value for t in ('0', '0.2') for who, what, value in (
        ('disc', 'share', 0.5), ('disc', 'accuracy', 0.9), ('softmax', 'accuracy', 0.95))}
    return lines + [{'event': 'confidence', 'stage': 'hung', 'split': 'holdout', 'step': step,
                     'segmentor_step': step, 'points': 9, 'accuracy': 0.8, 'disc/auc': 0.7,
                     'softmax/auc': 0.8, **more} for step in (100, steps)]


def test_joint_steps_and_confidence(make_summary):
    image = np.zeros((20, 30, 3), np.uint8)
    metrics = _joint_lines()
    made = adversarial_report.adversarial_report(
        'Hung', _results(make_summary), metrics, 'hung', NAMES,
        parts=parts_of('hung', metrics, image))
    text = ' '.join(made.summary)
    assert 'Luc: 200 steps, each of both networks at once.' in text
    assert 'took 90 % of the truths and 70 % of the segmentor\'s maps' in text
    captions = [caption for caption, _ in made.figures]
    discriminator = next(figure for caption, figure in made.figures
                         if 'The discriminator over' in caption)
    assert 'tinted' not in next(c for c in captions if 'The discriminator over' in c)
    assert discriminator.axes[-1].get_xlabel() == 'steps, of both networks at once'
    shares = {one.get_label() for one in discriminator.axes[-1].get_lines()}
    assert {'real taken for real', 'fake taken for fake'} <= shares
    losses = next(figure for caption, figure in made.figures if 'further terms' in caption)
    drawn = {one.get_label() for axes in losses.axes for one in axes.get_lines()}
    assert {'adversarial term', 'the same, unlabelled', 'self-taught term'} <= drawn
    assert any('confidence on the hold-out' in caption for caption in captions)
    table = made.measures[-1]
    assert 'Table 7), hold-out after 200 steps; AUC: discriminator 0.700' in table.title
    assert _lines(table)['0.2'] == ['50.00', '90.00', '95.00', '-5.00']
    assert any('Fig. 3) beside the largest' in caption for caption, _ in made.panels)


def test_runs_that_take_turns_have_no_confidence(metrics, make_summary):
    made = adversarial_report.adversarial_report('Luc', _results(make_summary), metrics, 'luc',
                                                 NAMES)
    assert not any('confidence' in caption for caption, _ in made.figures)
    assert not adversarial_sentences.is_joint(metrics, 'luc')
    assert adversarial_sentences.steps_taken(metrics, 'luc') == (200, 200)
