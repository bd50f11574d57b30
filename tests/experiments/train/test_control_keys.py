"""What a control depends on, and which methods share one."""
from unittest import mock

import controlled_runs
import pytest
import tensorflow as tf

from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.experiments import recipe_registry as recipes
from tf_advseg.experiments.train import run_report
from tf_advseg.experiments.train import run_results
from tf_advseg.experiments.train import shared_control
from tf_advseg.experiments.train import stage_training
from tf_advseg.experiments.train import training


def key_of(method, *bindings):
    configuration.parse([f'gin/methods/{method}.gin'], bindings)
    return shared_control.key(configuration.config_text(), recipes.find(method))


@pytest.mark.parametrize('method, binding', [
    ('durall', "durall.reduction = 'sum'"), ('durall', 'durall.l2_weight = 0.0'),
    ('luc', 'luc.upsample_logits = True'), ('luc', "luc.reduction = 'sum'"),
    ('durall', 'swa.every = 7'), ('durall', 'experiment.seed = 1'),
    ('durall', 'segmentor_optimizer.learning_rate = 1e-3'),
    ('luc', 'segmentor_optimizer.momentum = 0.5'), ('durall', 'adversarial_stage.batch_size = 16'),
    ('luc', "experiment.checkpoint = 'x'"), ('luc', 'stage_one.epochs = 1'),
    ('hung', "hung.published_code = 'weight_decay'")])
def test_what_a_control_depends_on_counts(method, binding):
    assert key_of(method) != key_of(method, binding)


@pytest.mark.parametrize('method, binding', [
    ('durall', 'durall.adversarial_weight = 3.0'), ('durall', 'durall.map_stride = 8'),
    ('durall', "build_pixel_discriminator.kind = 'image'"), ('durall', 'alternation.every = 2'),
    ('durall', "discriminator_optimizer.name = 'sgd'"), ('luc', 'luc.adversarial_weight = 1.0'),
    ('luc', 'luc.saturating = True'), ('luc', "label_maps.kind = 'scaling'"),
    ('luc', "luc.reduction = 'mean'"), ('hung', "hung.terms = 'adv'"),
    ('luc', "build_fov_discriminator.name = 'small_fov'"), ('luc', 'alternation.pretraining = 9'),
    ('luc', "experiment.control_from = 'x'"), ('luc', 'experiment.control = False')])
def test_what_is_the_methods_does_not(method, binding):
    assert key_of(method) == key_of(method, binding)


def test_settings_of_averaging_count_where_there_is_any():
    off = 'swa.enabled = False'
    assert key_of('durall', off) == key_of('durall', off, 'swa.every = 7', 'swa.start = 0.5')


# Five methods with one pixel loss: mean cross-entropy at the images' size, without decay.
ONE_LOSS = {'luc': ('luc.upsample_logits = True', 'alternation.every = 1',
                    "build_fov_discriminator.name = 'small_fov_light'"),
            'durall': ('durall.l2_weight = 0.0', 'build_pixel_discriminator.widths = (4, 8)',
                       'durall.map_stride = 4', 'alternation.every = 1'),
            'hung': ('hung.l2_weight = 0.0', "hung.terms = 'adv'", 'hung.map_stride = 4',
                     'build_fc_discriminator.widths = (4, 8)'),
            'zhu': (), 'load': ('lookahead.budget_steps = 2',)}
ALIKE = (*controlled_runs.SCENES, 'stage_one.weighted_epochs = 0', 'stage_one.epochs = 0')


def alike(method, *bindings):
    """Configures a run of one of ONE_LOSS."""
    configuration.parse([], [*ALIKE, f"experiment.method = '{method}'", *ONE_LOSS[method],
                             *bindings])


def test_methods_with_one_pixel_loss_share_their_control():
    """LoAd too, where its budget is given in steps; else its control is its own."""
    keys = set()
    for method in ONE_LOSS:
        alike(method)
        keys.add(shared_control.key(configuration.config_text(), recipes.find(method)))
    assert len(keys) == 1
    assert recipes.find('load').control_steps() == 2
    configuration.parse([], ALIKE)
    assert recipes.find('load').control_steps() is None


@pytest.mark.slow
def test_a_control_is_taken_over_from_another_method(tmp_path):
    trained, run = [], stage_training.StageTraining.run

    def watched(self, folder):
        trained.append(folder.name)
        return run(self, folder)
    with mock.patch.object(run_report, 'write'), mock.patch.object(
            run_results, '_show'), mock.patch.object(stage_training.StageTraining, 'run', watched):
        alike('durall')
        one = training.experiment(tmp_path / 'one', tf.distribute.get_strategy())
        alike('luc', f"experiment.control_from = '{tmp_path / 'one'}'")
        two = training.experiment(tmp_path / 'two', tf.distribute.get_strategy())
    assert trained == ['durall', 'control', 'luc']
    assert two['control_from'] == str(tmp_path / 'one')
    assert two['models'][run_results.CONTROL] == one['models'][run_results.CONTROL]
    assert controlled_runs.same_models(tmp_path / 'one', tmp_path / 'two', ['control'])


def test_loads_own_control_is_never_another_runs(tmp_path):
    configuration.parse([], [*ALIKE, f"experiment.control_from = '{tmp_path}'"])
    (tmp_path / 'config.gin').touch()
    with pytest.raises(UserError, match='set lookahead.budget_steps'):
        training.experiment(tmp_path / 'run', tf.distribute.get_strategy())
