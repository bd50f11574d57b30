"""Runs of Zhu et al.'s recipes: each takes steps of both phases; what their heads promise."""
import re
from unittest import mock

import pytest
import tensorflow as tf
import whole_run

from tf_advseg.core import configuration
from tf_advseg.experiments.convert import preparing
from tf_advseg.experiments.train import run_report
from tf_advseg.experiments.train import training

PAPERS = sorted(path.relative_to(configuration.gin_root()).as_posix()
                for path in (configuration.gin_root() / 'papers' / 'zhu').glob('*.gin'))
SMALL = (*whole_run.scenes()[:2], "dataset.test_split = 'test'", 'dataset.holdout_fraction = 0.5',
         'experiment.crop_size = 65', 'experiment.data_dir = None', 'experiment.checkpoint = None',
         'experiment.control = False', 'stage_one.epochs = 0', 'reconstruction_stage.steps = 2',
         'reconstruction_stage.batch_size = 2', 'reconstruction_stage.evaluate_every_epochs = 0',
         'adversarial_stage.steps = 2', 'adversarial_stage.batch_size = 2',
         'adversarial_stage.train_images = 1', 'adversarial_stage.evaluate_every_epochs = 0',
         # Xception-65 without weights to start from would not bear a step.
         'segmentor_optimizer.learning_rate = 0.0')


@pytest.mark.slow
@pytest.mark.parametrize('form', ['gan', 'wgan'])
@pytest.mark.parametrize('name', PAPERS)
def test_every_file_takes_steps_of_both_phases(name, form, tmp_path, lines_of):
    configuration.parse([f'gin/{name}'], [*SMALL, f"zhu_gan.form = '{form}'"])
    with mock.patch.object(run_report, 'write'):
        results = training.experiment(tmp_path / 'run', tf.distribute.get_strategy())
    assert set(results['models']) == {'Zhu'}
    assert lines_of(tmp_path / 'run', stage='gan', event='stage')[-1]['generator_step'] == 2
    last = lines_of(tmp_path / 'run', stage='zhu', event='stage')[-1]
    assert {'loss/ce', 'loss/content', 'loss/adv', 'loss/generator'} <= set(last)


def test_cmps_records_are_made_as_the_recipe_counts_on_them():
    path = configuration.gin_root() / 'papers' / 'zhu' / 'cmp_facades_mobilenet_v2.gin'
    header = path.read_text(encoding='utf-8').split('\n\n')[0]
    configuration.parse([f'gin/papers/zhu/{path.name}'])
    found = configuration.bindings(configuration.config_text())
    options = next(value for name, value in found.items() if name.endswith('dataset.options'))
    assert preparing.reader_options(re.findall(r'--option=(\S+)', header)) == options
