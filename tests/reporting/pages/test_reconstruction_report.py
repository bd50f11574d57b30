"""The adversarial report of a method whose GAN reconstructs images."""
import pathlib
import types

import numpy as np
import pytest

from tf_advseg.experiments import recipe_registry as recipes
from tf_advseg.methods import recipe
from tf_advseg.reporting.pages import adversarial_report

NAMES = ('sky', 'ground', 'water')


def parts_of(method, metrics, observed):
    """A method's own parts of a report, from its lines and what it saw of a model."""
    context = types.SimpleNamespace(run=types.SimpleNamespace(checkpoints=pathlib.Path('nowhere')))
    return recipes.find(method).report_parts(recipe.ReportInputs(
        context, metrics, {}, {'best': observed}, {}, method, 'control'))


def _reconstruction_results(make_summary):
    return {'models': {name: {'test': dict(make_summary(miou), mean_class_accuracy=miou + 0.1)}
                       for name, miou in (('Stage 1', 0.4), ('control (CE)', 0.5), ('Zhu', 0.52))},
            'subject': 'Zhu', 'seconds': {'gan': 200.0, 'zhu': 100.0, 'control': 90.0}}


@pytest.mark.parametrize('critic', [1, 5])
def test_a_gan_that_redraws_images(make_summary, make_redrawing, critic):
    image = np.zeros((20, 30, 3), np.uint8)
    before = [{'event': 'stage', 'stage': 'stage1', 'step': 1, 'loss/ce': 2.0}]
    lines = before + make_redrawing(critic=critic)
    made = adversarial_report.adversarial_report(
        'SegGAN', _reconstruction_results(make_summary), lines, 'zhu', NAMES, masks=image,
        parts=parts_of('zhu', lines, None))
    captions = [caption for caption, _ in made.figures]
    assert not any('The discriminator over' in caption for caption in captions)
    drawn, = (figure for caption, figure in made.figures if 'gloss and segloss' in caption)
    assert len(drawn.axes) == 5
    terms, = (figure for caption, figure in made.figures if 'further terms' in caption)
    assert {'adversarial term', 'content term'} <= {
        one.get_label() for axes in terms.axes for one in axes.get_lines()}
    earlier, = (figure for caption, figure in made.figures if 'stages before' in caption)
    assert [text.get_text() for text in earlier.axes[0].get_legend().get_texts()] == ['stage1']
    text = ' '.join(made.summary)
    for words in ('Zhu: 100 steps of the segmentor; control (CE): 100 of the segmentor.',
                  f'100 steps of its generator and {100 * critic} of its discriminator.',
                  '0.2000 with the images\' own masks and 0.3500 with those of others',
                  '+2.00 points against control (CE)'):
        assert words in text, words
    # Nobody contends in the second phase.
    for words in ('the discriminator', 'guessing', 'both networks'):
        assert words not in text, words
    header = made.measures[0].header
    assert {'mean class accuracy', 'pixel accuracy', 'mIoU'} <= set(header)
    assert len(made.figures) == 3


def test_a_gan_without_a_second_phase_yet_and_one_taken_from_elsewhere(make_summary,
                                                                       make_redrawing):
    lines = make_redrawing()
    first, second = ([line for line in lines if line['stage'] == stage]
                     for stage in ('gan', 'zhu'))
    made = adversarial_report.adversarial_report(
        't', None, first, 'zhu', NAMES, parts=parts_of('zhu', first, None))
    text = ' '.join(made.summary)
    assert 'No step of the method\'s training is logged yet.' in text
    caption, = (caption for caption, _ in made.figures)
    assert 'Phase 1' in caption and 'Phase 2' not in caption
    made = adversarial_report.adversarial_report(
        't', _reconstruction_results(make_summary), second, 'zhu', NAMES,
        parts=parts_of('zhu', second, None))
    assert 'Phase 1' not in ' '.join(made.summary)
    caption, = (caption for caption, _ in made.figures if 'gloss' in caption)
    assert 'Phase 2' in caption and 'Phase 1' not in caption and 'hold-out' not in caption


def test_unequal_lengths_with_a_frozen_gan_are_not_laid_on_an_adversary(make_summary,
                                                                        make_redrawing):
    lines = [line for line in make_redrawing() if line['stage'] != 'control'
             or line['segmentor_step'] <= 50]
    text = ' '.join(adversarial_report.adversarial_report(
        't', _reconstruction_results(make_summary), lines, 'zhu', NAMES).summary)
    assert 'their difference is not the method\'s alone' in text


def test_gradients_of_the_gans_terms_have_a_caption_of_their_own(make_summary, make_redrawing,
                                                                 metrics):
    lines = make_redrawing() + [{'event': 'gradients', 'stage': 'zhu', 'segmentor_step': 1,
                                 'grad_ratio/adv_ce': 0.1, 'grad_ratio/content_ce': 0.5}]
    for given, stage, words in ((lines, 'zhu', 'gradients of the further terms'),
                                (metrics, 'luc', 'adversarial gradient over')):
        made = adversarial_report.adversarial_report('t', None, given, stage, NAMES)
        caption, = (caption for caption, _ in made.figures if 'Norm of the' in caption)
        assert words in caption
