"""Every gin file parses, resolves every name, says in its header what it is, and is reachable."""
import pathlib

import pytest

from tf_advseg.core import configuration
from tf_advseg.experiments import training  # noqa: F401  registers every configurable

ROOT = pathlib.Path(__file__).resolve().parents[2] / 'gin'
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob('*.gin'))
# Files that are an experiment by themselves; the others are pieces.
EXPERIMENTS = [name for name in FILES if not name.startswith(('models/', 'datasets/', 'methods/'))]


@pytest.mark.parametrize('name', FILES)
def test_it_parses_and_knows_every_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # from any directory
    configuration.parse([f'gin/{name}'])
    assert configuration.bindings(configuration.config_text())


@pytest.mark.parametrize('name', FILES)
def test_its_header_says_what_it_is(name):
    text = (ROOT / name).read_text(encoding='utf-8')
    assert text.startswith('# ') and len(text.splitlines()[0]) > 20


@pytest.mark.parametrize('name', EXPERIMENTS)
def test_an_experiment_names_its_command(name):
    header = (ROOT / name).read_text(encoding='utf-8').split('\n\n')[0]
    assert 'Command:' in header


@pytest.mark.parametrize('name', [name for name in FILES if name.startswith('papers/')])
def test_a_papers_file_names_the_table_and_what_differs(name):
    header = (ROOT / name).read_text(encoding='utf-8').split('\n\n')[0]
    assert 'Paper: Table' in header and 'Differs' in header


def test_the_papers_defaults_are_those_printed_in_section_4():
    configuration.parse(['gin/papers/load/stanford_background_mobilenet_v2.gin'])
    values = {name.split('.', name.count('.') - 1)[-1]: value for name, value in
              configuration.bindings(configuration.config_text()).items()}
    expected = {'controller.beta_u': 0.001, 'controller.beta_l': 0.05, 'controller.patience': 50,
                'map_buffer.capacity': 3, 'generator_optimizer.learning_rate': 5e-6,
                'generator_optimizer.momentum': 0.95, 'discriminator_optimizer.learning_rate': 0.01,
                'lookahead.batch_size': 5, 'lookahead.discriminator_batch_size': 16,
                'stage_one.batch_size': 7, 'stage_one.weighted_epochs': 4, 'stage_one.epochs': 8}
    assert {name: values[name] for name in expected} == expected
