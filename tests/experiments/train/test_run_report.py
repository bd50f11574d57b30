"""The report of a run: whose it says it is, and which rows of a paper stand in it."""
import gin
import pytest
import tensorflow as tf
import whole_run

from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.experiments import recipe_registry as recipes
from tf_advseg.experiments.train import run_report
from tf_advseg.experiments.train import training

ROWS = {'DeepLabv3': {'miou': 0.732}, 'SegGAN': {'miou': 0.738}, 'SegWGAN': {'miou': 0.739}}


def test_a_cross_entropy_run_is_no_loads(tmp_path):
    configuration.parse([], [*whole_run.scenes(), "experiment.method = 'cross_entropy'",
                             'stage_one.weighted_epochs = 0', 'stage_one.epochs = 1'])
    results = training.experiment(tmp_path / 'run', tf.distribute.get_strategy())
    page = (tmp_path / 'run' / 'report.html').read_text()
    assert 'Cross-entropy (Stage 1) on shapes' in page
    assert 'LoAd' not in page.split('gin</summary>')[0]
    assert list(results['models']) == ['Stage 1'] and 'the hold-out chose no moment' in page


@pytest.mark.parametrize('form, row', [('gan', 'SegGAN'), ('wgan', 'SegWGAN')])
def test_the_papers_row_of_a_zhu_run_is_that_of_its_form(form, row):
    gin.bind_parameter('zhu_gan.form', form)
    assert recipes.find('zhu').paper_row(ROWS) == row
    assert recipes.find('hung').paper_row(ROWS) == 'SegWGAN'  # the last, where a paper has one row


def test_rows_of_a_paper_stand_beside_runs_that_they_hold_for():
    binding = "paper_figures.holds_for = {'semi_supervised.fraction': 0.125}"
    for fraction, shown in ((0.125, ROWS), (0.25, None)):
        configuration.parse([], [f'paper_figures.paper_rows = {ROWS!r}', binding,
                                 f'semi_supervised.fraction = {fraction}'])
        assert run_report.paper_figures().shown() == shown
    configuration.parse([], [f'paper_figures.paper_rows = {ROWS!r}',
                             "paper_figures.holds_for = {'semi_supervised.fractoin': 0.125}"])
    with pytest.raises(UserError, match='fractoin'):
        run_report.paper_figures().shown()
