"""The gin files of Luc's Table 2: what is committed is what the table gives; each takes a step."""
import re
from unittest import mock

import gin
import pytest
import tensorflow as tf

from tf_advseg.core import configuration
from tf_advseg.experiments.studies import luc_cells
from tf_advseg.experiments.train import run_report
from tf_advseg.experiments.train import method_stage
from tf_advseg.experiments.train import training

ROOT = configuration.gin_root()
OPTIONS = {'num_train': 3, 'num_val': 2, 'num_test': 1, 'size': (40, 40), 'smallest': (33, 33)}
SMALL = ("dataset.reader = 'shapes'", f'dataset.options = {OPTIONS!r}', "dataset.test_split='test'",
         "dataset.train_split='train'", 'dataset.holdout_fraction = 0.5',
         'experiment.crop_size = 33', 'experiment.data_dir = None', 'experiment.checkpoint = None',
         'stage_one.weighted_epochs = 0', 'stage_one.epochs = 0', 'adversarial_stage.steps = 2',
         'adversarial_stage.batch_size = 2', 'alternation.every = 1', 'dilated8.fc_channels = 8',
         'alternation.pretraining = 0', 'experiment.control = False')
PAPERS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / 'papers/luc').glob('*.gin'))


def test_the_committed_files_are_the_tables():
    made = {cell.name: cell.text() for cell in luc_cells.cells()}
    assert len(made) == 13
    there = {name for name in PAPERS if name.startswith('papers/luc/voc_dilated8_')}
    assert there == set(made)
    for name, text in made.items():
        assert (ROOT / name).read_text(encoding='utf-8') == text


def test_a_cell_binds_what_is_printed():
    """LargeFOV on Product: slr 1e-6, alr 0.1, lambda 1, mIOU 72.04, mBF 47.70, sigma 22.42."""
    name = 'papers/luc/voc_dilated8_large_fov_product.gin'
    configuration.parse([f'gin/{name}'])
    assert gin.get_bindings('segmentor_optimizer')['learning_rate'] == 1e-6
    assert gin.get_bindings('discriminator_optimizer')['learning_rate'] == 0.1
    assert gin.get_bindings('luc')['adversarial_weight'] == 1.0
    assert 'mIOU 72.04, mBF 47.70, sigma 22.42' in (ROOT / name).read_text(encoding='utf-8')


def number(text):
    """'<b>72.02</b>', '0.5' or '$10^{-4}$'."""
    power = re.fullmatch(r'\$10\^\{(-\d+)\}\$', text)
    return float(f'1e{power[1]}') if power else float(re.sub('</?b>', '', text))


def test_the_table_is_the_supplements(shared):
    """All numbers of its Table 2, read from the paper's text."""
    text = (shared / 'papers' / 'luc_adversarial_networks.txt').read_text(encoding='utf-8')
    text = text[text.index('Supplementary Material'):]
    rows = [[[number(word) for word in field.split()] for field in fields]
            for _, *fields in (line.rstrip().split('\t') for line in text.splitlines()
                               if re.match(r'(Large|Small)FOV(-light)?\t<?b?>?7\d\.\d\d', line))]
    assert len(rows) == 4 == len(luc_cells.TABLE)
    for fields, (name, cells) in zip(rows, luc_cells.TABLE.items()):
        found = [(*(pair[0] for pair in fields[place:place + 3]),
                  *(pair[1] for pair in fields[place:place + 3])) for place in (0, 3, 6)]
        assert found == [tuple(cell) for cell in cells], name
    names = re.findall(r'^(\w+FOV[\w-]*)\t(?:<b>)?7\d\.\d\d', text, re.MULTILINE)
    assert [re.sub('(Large|Small)FOV', r'\1_fov', name).lower().replace('-', '_')
            for name in names] == list(luc_cells.TABLE)
    baseline = next(line for line in text.splitlines() if line.startswith('Baseline\t71'))
    assert tuple(number(word) for word in baseline.split()[1:]) == luc_cells.BASELINE


def test_the_baseline_trains_no_adversary():
    configuration.parse(['gin/papers/luc/voc_dilated8_baseline.gin'])
    assert method_stage.adversarial_stage().only_control is True


@pytest.mark.slow
@pytest.mark.parametrize('name', PAPERS)
def test_every_file_takes_a_step_of_either_network(name, tmp_path):
    configuration.parse([f'gin/{name}'], SMALL)
    with mock.patch.object(run_report, 'write'):
        results = training.experiment(tmp_path / 'run', tf.distribute.get_strategy())
    alone = name.endswith('_baseline.gin')
    column = 'control (CE)' if alone else 'Luc'
    assert set(results['models']) == {column}
    assert results['models'][column]['test']['miou'] is not None
    assert (tmp_path / 'run' / 'stages' / 'luc').exists() is not alone
    bindings = configuration.bindings((tmp_path / 'run' / 'operative_config.gin').read_text())
    assert any(key.endswith('adversarial_stage.only_control') for key in bindings)
