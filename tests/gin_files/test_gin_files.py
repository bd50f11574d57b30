"""Every gin file parses, resolves every name, says in its header what it is, and is reachable."""
import inspect
import pathlib

import gin
import pytest

from tf_advseg.core import configuration
from tf_advseg.experiments.train import training
from tf_advseg.methods import cross_entropy
from tf_advseg.methods import step_parts
from tf_advseg.run import networks

ROOT = pathlib.Path(__file__).resolve().parents[2] / 'gin'
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob('*.gin'))
# Files that are an experiment by themselves; the others are pieces.
MODELS = [name for name in FILES if name.startswith('models/')]
# What each network is trained with: slim's for residual networks, Yu & Koltun's, else the default.
WEIGHT_DECAY = {
    'deeplab_residual': 1e-4, 'deeplab_v2_resnet101': 1e-4, 'deeplabv3_mobilenet_v2': 4e-5,
    'deeplabv3plus_resnet101': 1e-4, 'deeplabv3plus_xception65': 4e-5, 'dilated8': 5e-4,
    'farabet': 4e-5}
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


@pytest.mark.parametrize('name', MODELS)
def test_the_official_recipe_keeps_a_models_weight_decay(name):
    configuration.parse([f'gin/{name}', 'gin/methods/official_deeplab.gin'])
    given = gin.get_bindings(cross_entropy.cross_entropy)
    default = inspect.signature(cross_entropy.cross_entropy).parameters['l2_weight'].default
    assert given['bias_gradient_multiplier'] == 2.0  # the recipe was read
    assert given.get('l2_weight', default) == WEIGHT_DECAY[pathlib.PurePath(name).stem]


@pytest.mark.parametrize('name, smaller', [('dilated8', {'fc_channels': 8}), ('farabet', {})])
def test_networks_with_scopes_of_their_own_say_which_layers_are_last(name, smaller):
    configuration.parse([f'gin/models/{name}.gin'])
    network = networks.build(networks.describe(name, num_classes=3, **smaller))
    last_layers = gin.get_bindings(cross_entropy.cross_entropy)['last_layers']
    multipliers = step_parts.gradient_multipliers(network, 10.0, 1.0, last_layers)
    last = {id(v) for v in network.logits.trainable_variables}
    assert multipliers == [10.0 if id(v) in last else 1.0 for v in network.trainable_variables]


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
