"""Every registered recipe by one body: what each method has without a line of its own."""
import html
import re
from unittest import mock

import numpy as np
import pytest
import steps
import tensorflow as tf
import whole_run

from tf_advseg.core import configuration
from tf_advseg.experiments import recipe_registry as recipes
from tf_advseg.experiments import small_methods
from tf_advseg.experiments.benchmarks import device_steps
from tf_advseg.experiments.train import dry_run
from tf_advseg.experiments.train import method_stage
from tf_advseg.experiments.train import training
from tf_advseg.methods import objective
from tf_advseg.methods import recipe as recipe_lib
from tf_advseg.run import costs
from tf_advseg.training import loop
from tf_advseg.training import optimizers

SINGLE = tf.distribute.OneDeviceStrategy('/cpu:0')
NAMES = [name for name, found in recipes.load_all().items() if found.trains]
SIDE = device_steps.SIDE


def built(recipe, strategy, *bindings):
    """{name: Method} at its smallest on a segmentor of fixed weights."""
    with strategy.scope(), small_methods.bound(bindings):
        segmentor = device_steps.NETWORKS['farabet']()
        return small_methods.make(recipe, segmentor, SIDE)


def batch_for(method):
    """Five images: the replicas' shares differ in size and in labelled pixels."""
    return small_methods.completed(method, small_methods.images(device_steps.CLASSES, SIDE, 5))


def values(method):
    """The trainable variables of every network that the method writes down."""
    return {f'{name} {number}': v.numpy() for name, part in sorted(method.state.items())
            if small_methods.is_network(part)
            for number, v in enumerate(part.trainable_variables)}


@pytest.mark.parametrize('name', NAMES)
def test_a_step_on_two_replicas_equals_one_on_one_device(two_replicas, name):
    recipe = recipes.find(name)
    ends = []
    for strategy in (SINGLE, two_replicas):
        method = built(recipe, strategy)[recipe.title]
        before = values(method)
        scalars, = steps.take(method, strategy, batch_for(method), [method.default_phase])
        ends.append((dict(scalars), before, values(method)))
    (one, before, ours), (two, _, theirs) = ends
    assert one.keys() == two.keys()
    for key, value in one.items():
        assert value == pytest.approx(two[key], rel=1e-4, abs=1e-5), key
    moved = {key: np.linalg.norm(ours[key] - before[key]) for key in ours}
    assert max(moved.values()) > 1e-4
    for key, value in ours.items():
        rounding = 4 * np.linalg.norm(np.spacing(np.abs(value)))
        assert np.linalg.norm(value - theirs[key]) <= 0.01 * moved[key] + rounding, key


@pytest.mark.parametrize('name', NAMES)
def test_without_its_terms_a_method_is_its_control_to_the_bit(name):
    recipe = recipes.find(name)
    assert recipe.silent, 'a recipe says how its terms are made to weigh nothing'
    method = built(recipe, SINGLE, *recipe.silent)[recipe.title]
    segmentor = device_steps.NETWORKS['farabet']()
    control = objective.Control(segmentor, optimizers.make_optimizer('sgd', 1e-2, 0.9),
                                method.pixel_loss)
    batch = batch_for(method)
    if name in ('hung', 'consistency'):  # its control sees labelled images alone
        batch = {key: value[batch['labeled']] for key, value in batch.items()}
    for taken, phase in ((method, method.default_phase), (control, 'cross_entropy')):
        steps.take(taken, SINGLE, batch, [phase] * 2, **recipe.silent_scalars)
    for ours, theirs in zip(method.segmentor.trainable_variables, segmentor.trainable_variables):
        np.testing.assert_array_equal(ours, theirs)


def start(name, workdir, *bindings, dry_run=False):
    """A whole run of a recipe at its smallest, its report included."""
    recipe = recipes.find(name)
    configuration.parse([f'gin/methods/{name}.gin'], [
        *whole_run.scenes(), *recipe.small, 'stage_one.weighted_epochs = 0',
        'stage_one.epochs = 1', 'stage_one.learning_rate = 0.01', *(
            ('adversarial_stage.steps = 4',) if recipe.ordinary else ()), *bindings])
    return training.experiment(workdir, tf.distribute.get_strategy(), dry_run)


@pytest.mark.parametrize('name', NAMES)
def test_a_dry_run_tells_the_time_of_every_stage(tmp_path, capsys, name):
    recipe = recipes.find(name)
    start(name, tmp_path / 'run', dry_run=True)
    said = capsys.readouterr().out
    for stage in ('Stage 1', recipe.title, 'control', 'together'):
        assert re.search(rf'^{stage}: about \d', said, re.M), stage
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('name', [NAMES[0], *(
    pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:])])
def test_a_dry_run_counts_the_second_forward_pass_of_micro_batches(tmp_path, name):
    """Of every stage that trains a segmentor: one more beside the three of a gradient."""
    found = []

    def told(*arguments):
        found.append({cost.stage: cost.seconds for cost in costs_of(*arguments)})
        return ()

    costs_of = dry_run.stage_costs
    with mock.patch.object(costs, 'seconds_of', lambda *_: 1.0), \
            mock.patch.object(dry_run, 'stage_costs', told):
        for parts in (1, 2):
            start(name, tmp_path / 'run', f'accumulate.micro_batches = {parts}', dry_run=True)
    whole, parted = found
    assert parted['Stage 1'] == pytest.approx(whole['Stage 1'] * 4 / 3)
    for stage in ('control', recipes.find(name).title):  # where D takes its time, too
        assert 1 < parted[stage] / whole[stage] <= 4 / 3 + 1e-9


@pytest.mark.slow  # two runs and a half of each method
@pytest.mark.parametrize('name', NAMES)
def test_a_killed_run_ends_as_an_uninterrupted_one_and_its_report_has_its_parts(tmp_path, name,
                                                                               weights):
    recipe, whole, cut = recipes.find(name), tmp_path / 'whole', tmp_path / 'cut'
    parts = []

    def watched(self, *arguments):
        parts.extend(recipe.report_parts(*arguments))
        return parts
    phases, original = [], loop.Stepper.__call__

    def told(self, phase, *arguments, **scalars):
        phases.append(phase)
        return original(self, phase, *arguments, **scalars)
    with mock.patch.object(recipe_lib.Recipe, 'own_parts', watched), \
            mock.patch.object(loop.Stepper, '__call__', told):
        results = start(name, whole)
    page = html.unescape((whole / 'report.html').read_text())
    assert f'{recipe.title} on shapes' in page and set(results['models']) >= {
        recipe.title, 'control (CE)'}
    for part in parts:
        assert (part.caption or str(part.content))[:20] in page or part.kind == 'table'
    count, last = [0], phases.index('cross_entropy')  # the control's first step

    def killed(self, *arguments, **scalars):
        count[0] += 1
        if count[0] == last:  # the last of the method's training
            raise KeyboardInterrupt
        return original(self, *arguments, **scalars)
    with mock.patch.object(loop.Stepper, '__call__', killed):
        with pytest.raises(KeyboardInterrupt):
            start(name, cut)
    again = start(name, cut)
    assert again['models'] == results['models']
    for folder in sorted(path.parent.relative_to(whole / 'checkpoints')
                         for path in (whole / 'checkpoints').rglob('model.json')):
        for ours, theirs in zip(weights(whole, folder), weights(cut, folder)):
            np.testing.assert_array_equal(ours, theirs)


def test_a_method_without_a_title_or_of_a_known_name_is_refused_at_once():
    with pytest.raises(ValueError, match='has no title'):
        recipe_lib.register(recipe_lib.Recipe('new', ''))
    with pytest.raises(ValueError, match='two recipes called'):
        recipe_lib.register(recipe_lib.Recipe(NAMES[0], 'Another'))


@pytest.mark.parametrize('one, other', [('luc', 'durall'), ('hung', 'zhu')])
def test_controls_of_methods_with_one_pixel_loss_are_the_same(one, other):
    """Their identity holds nothing of the method: what differs is the pixel loss alone."""
    losses = []
    for name in (one, other):
        method = built(recipes.find(name), SINGLE)[recipes.find(name).title]
        control = objective.Control(method.segmentor, optimizers.make_optimizer('sgd', 0.1),
                                    objective.PixelLoss(l2_weight=1e-4))
        losses.append((control.identity, method_stage.optimizer_settings(control.optimizer)))
    assert losses[0] == losses[1] and list(losses[0][0]) == ['pixel_loss']
