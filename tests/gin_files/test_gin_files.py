"""Every gin file parses, resolves every name, says in its header what it is, and is reachable."""
import inspect
import pathlib

import gin
import pytest

from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.experiments import recipe_registry as recipes
from tf_advseg.experiments.train import idle_settings
from tf_advseg.lookahead import load_stage
from tf_advseg.lookahead import settings
from tf_advseg.methods import cross_entropy
from tf_advseg.methods import step_parts
from tf_advseg.run import networks
from tf_advseg.run import stage_optimizers

ROOT = pathlib.Path(__file__).resolve().parents[2] / 'gin'
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob('*.gin'))
# Files that are an experiment by themselves; the others are pieces.
MODELS = [name for name in FILES if name.startswith('models/')]
# What each network is trained with: slim's for residual networks, Yu & Koltun's, else the default.
WEIGHT_DECAY = {
    'deeplab_residual': 1e-4, 'deeplab_v2_resnet101': 1e-4, 'deeplabv3_mobilenet_v2': 4e-5,
    'deeplabv3_resnet101': 1e-4, 'deeplabv3plus_resnet101': 1e-4,
    'deeplabv3plus_xception65': 4e-5, 'dilated8': 5e-4, 'farabet': 4e-5}
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
                'map_buffer.capacity': 3, 'segmentor_optimizer.learning_rate': 5e-6,
                'segmentor_optimizer.momentum': 0.95, 'discriminator_optimizer.learning_rate': 0.01,
                'lookahead.batch_size': 5, 'lookahead.discriminator_batch_size': 16,
                'stage_one.batch_size': 7, 'stage_one.weighted_epochs': 4, 'stage_one.epochs': 8}
    assert {name: values[name] for name in expected} == expected


@pytest.mark.parametrize('name', EXPERIMENTS)
def test_every_setting_of_a_method_has_an_effect(name):
    """None is of another method than the file's."""
    configuration.parse([f'gin/{name}'])
    method = configuration.bound('experiment.method') or 'load'
    assert idle_settings.of_other_methods(recipes.find(method)) == {}


def test_a_setting_of_another_method_is_told():
    configuration.parse(['gin/methods/durall.gin'], ["label_maps.kind = 'product'"])
    with pytest.raises(UserError, match='label_maps.kind has no effect') as caught:
        idle_settings.require_of_method(recipes.find('durall'))
    assert '\n' not in str(caught.value)
    configuration.parse(['gin/methods/durall.gin'], ["label_maps.kind = 'product'"])
    # Stage 1 of any recipe's file:
    assert idle_settings.of_other_methods(recipes.find('cross_entropy')) == {}


@pytest.mark.parametrize('old, new', [
    ('redrawing_stage.steps = 3', '"redrawing_stage" is called "reconstruction_stage" now'),
    ('adversarial_stage.train_pictures = 3', 'is called "adversarial_stage.train_images" now'),
    ('build_fov_discriminator.picture_widths = (3,)',
     'is called "build_fov_discriminator.image_widths" now'),
    ('luc.pixels_per_picture = 3', 'is called "luc.pixels_per_image" now'),
    ('hung.second_truths = True', 'is called "hung.independent_ground_truth" now'),
    ('adversary_optimizer.name = "sgd"', 'is called "discriminator_optimizer" now'),
    ('generator_optimizer.name = "sgd"', 'is called "segmentor_optimizer" now'),
    ('build_adversary.name = "small_fov"', 'is called "build_fov_discriminator" now'),
    ('experiment.max_propagations = 3', 'is called "controller.max_propagations" now')])
def test_a_renamed_setting_is_an_error_that_gives_the_new_name(old, new):
    with pytest.raises(UserError) as caught:
        configuration.parse([], [old])
    assert new in str(caught.value) and '\n' not in str(caught.value)


def test_a_schedule_can_be_set_for_one_network():
    configuration.parse([], ['polynomial_decay.power = 0.5',
                             'discriminator_optimizer/polynomial_decay.power = 2.0'])
    own = stage_optimizers.segmentor_optimizer(10, learning_rate=1.0, schedule='poly')
    other = stage_optimizers.discriminator_optimizer(10, learning_rate=1.0, schedule='poly')
    for optimizer, power in ((own, 0.5), (other, 2.0)):
        rate = optimizer.get_config()['learning_rate']
        assert rate['config']['power'] == power


def test_a_macro_is_no_setting_of_a_method():
    configuration.parse(['gin/methods/luc.gin'], ['rate = 0.01',
                                                  'segmentor_optimizer.learning_rate = %rate'])
    assert idle_settings.of_other_methods(recipes.find('luc')) == {}


@pytest.mark.parametrize('bindings, text', [
    (['lookahead.propagation_steps = 3', 'lookahead.budget_steps = 4'], 'a multiple of the 3'),
    (['lookahead.budget_steps = 4', 'controller.max_propagations = 2'], 'set one of them')])
def test_a_budget_of_load_in_steps_fits_its_propagations(bindings, text):
    configuration.parse(['gin/methods/load.gin'], bindings)
    with pytest.raises(UserError, match=text):
        load_stage._propagations(settings.lookahead_settings(), 10)
