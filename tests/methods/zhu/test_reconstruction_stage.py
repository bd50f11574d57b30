"""Phase 1 of Zhu et al. as a stage of a run: resumed, taken over, alone; settings in one line."""
import shutil
import types

import numpy as np
import pytest
import whole_run

from tf_advseg.core import configuration, files
from tf_advseg.core.errors import UserError
from tf_advseg.methods.zhu import gan_folders
from tf_advseg.methods.zhu import reconstruction_stage
from tf_advseg.methods.zhu import zhu_settings
from tf_advseg.training import loop

start = whole_run.starter('zhu', (
    *whole_run.scenes(), 'stage_one.epochs = 0', 'experiment.control = False',
    'build_reconstruction_generator.widths = (3, 4)', 'build_patch_discriminator.widths = (3, 4)',
    'build_reconstruction_generator.dropout_layers = 1', 'reconstruction_stage.batch_size = 2',
    'reconstruction_stage.steps = 5', 'reconstruction_stage.evaluate_every_epochs = 1',
    'adversarial_stage.steps = 2', 'adversarial_stage.evaluate_every_epochs = 0',
    'adversarial_stage.diagnose_every = 0', 'adversarial_stage.train_images = 0'))
ALONE = 'reconstruction_stage.only = True'
WGAN = ("zhu_gan.form = 'wgan'", 'zhu_gan.critic_steps = 2')
BATCH = ("build_reconstruction_generator.normalisation = 'batch'",
         "build_patch_discriminator.normalisation = 'batch'")


def settings_of(*bindings):
    configuration.parse([], bindings)
    return zhu_settings.zhu_gan()


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """The directory of a run that ended after a phase 1 of the Wasserstein form."""
    path = tmp_path_factory.mktemp('zhu') / 'gan'
    assert start(path, ALONE, *WGAN) is None
    return path


def gan_of(run):
    """The values of a run's GAN, statistics included, and its description."""
    folder = run / 'checkpoints' / 'gan'
    found = gan_folders.load(folder, types.SimpleNamespace(
        of_use={}, identity=gan_folders.read(folder)['settings']))
    return [v.numpy() for network in (found.generator, found.discriminator)
            for v in network.variables], gan_folders.read(folder)


def stopped_and_resumed(path, monkeypatch, places, *bindings):
    """A run that is stopped at each (owner, name, how often it is passed) and started anew."""
    for owner, name, count in places:
        left, original = [count], getattr(owner, name)

        def watched(*arguments, original=original, left=left, **words):
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt
            return original(*arguments, **words)
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, watched)
            with pytest.raises(KeyboardInterrupt):
                start(path, *bindings)
        assert not (path / 'checkpoints' / 'gan').exists()
    start(path, *bindings)


def require_equal_gans(one, other):
    (ours, said), (theirs, also) = gan_of(one), gan_of(other)
    assert said == also and len(ours) == len(theirs)
    assert all(map(np.array_equal, ours, theirs))


@pytest.mark.slow
def test_a_stopped_phase_1_goes_on_as_if_it_had_not_been(made, tmp_path, monkeypatch, lines_of):
    """In a step of the critic after a durable state, and before the GAN is kept."""
    stopped_and_resumed(tmp_path / 'run', monkeypatch, (
        (loop.Stepper, '__call__', 9), (gan_folders, 'save', 1)), ALONE, *WGAN)
    require_equal_gans(made, tmp_path / 'run')
    assert lines_of(made) == lines_of(tmp_path / 'run')


@pytest.mark.slow
def test_a_stopped_conventional_gan_with_batch_norm_goes_on_to_the_bit(tmp_path, monkeypatch,
                                                                       lines_of):
    start(tmp_path / 'whole', ALONE, *BATCH)
    stopped_and_resumed(tmp_path / 'run', monkeypatch, (
        (loop.Stepper, '__call__', 4), (loop, '_save', 1), (gan_folders, 'save', 1)), ALONE, *BATCH)
    require_equal_gans(tmp_path / 'whole', tmp_path / 'run')
    assert lines_of(tmp_path / 'whole') == lines_of(tmp_path / 'run')
    values, said = gan_of(tmp_path / 'run')
    assert said['generator']['normalisation'] == 'batch' and len(values) == 23


def test_phase_1_leaves_lines_an_image_and_its_gan(made, lines_of):
    held = lines_of(made, stage='gan', event='reconstruction', split='holdout')
    assert [line['generator_step'] for line in held] == [3, 5]
    assert all(line['content/own'] > 0 and line['content/other'] > 0 for line in held)
    line = lines_of(made, stage='gan', event='stage')[-1]
    assert line['generator_step'] == 5 and line['step'] == 10
    assert line['loss/generator'] == pytest.approx(
        100 * line['loss/content'] + line['loss/adv'], rel=1e-5)
    assert (made / 'figures' / 'reconstructed_phase1.png').is_file()
    assert not (made / 'stages' / 'stage1').exists() and not (made / 'results.json').exists()
    values, said = gan_of(made)
    judge = values[-7:]  # three convolutions and a norm, each clipped
    assert max(np.abs(v).max() for v in judge) <= np.float32(0.01)
    assert said['settings']['critic_steps'] == 2 and said['steps'] == 5


@pytest.mark.slow
def test_one_gan_serves_its_own_run_and_others_alike(made, tmp_path, lines_of, weights):
    """The same command without `only` goes on; a run with `source` has the same phase 2."""
    own, other = tmp_path / 'own', tmp_path / 'other'
    shutil.copytree(made, own)
    started = len(lines_of(own, stage='gan'))
    results = start(own, *WGAN)
    assert list(results['models']) == ['Zhu'] and len(lines_of(own, stage='gan')) == started
    source = str(made).replace('gan', '{form}')
    made.rename(made.with_name('wgan'))
    try:
        taken = start(other, f'reconstruction_stage.source = {source!r}', *WGAN)
    finally:
        made.with_name('wgan').rename(made)
    assert not lines_of(other, stage='gan') and not (other / 'stages' / 'gan').exists()
    done = [files.read_json(run / 'stages' / 'zhu' / 'done.json') for run in (own, other)]
    assert done[0]['settings_hash'] == done[1]['settings_hash']
    assert results['models'] == taken['models'] and 'gan' not in taken['seconds']
    for a, b in zip(weights(own, 'last'), weights(other, 'last')):
        np.testing.assert_array_equal(a, b)
    (ours, _), (theirs, _), (first, _) = map(gan_of, (own, other, made))
    assert all(map(np.array_equal, ours, theirs)) and all(map(np.array_equal, ours, first))
    assert lines_of(own, stage='zhu') == lines_of(other, stage='zhu')


def test_a_missing_or_foreign_phase_1_is_one_clear_line(made, tmp_path):
    (tmp_path / 'empty').mkdir()
    for source, bindings, text in (
            (tmp_path / 'nowhere', WGAN, 'no such folder'), (tmp_path / 'empty', WGAN, 'no GAN'),
            (made, (), "zhu_gan.form = 'wgan', and here it is 'gan'"),
            (made, (*WGAN, "zhu_gan.lipschitz = 'penalty'"), "lipschitz = 'clip', and here"),
            (made, (*WGAN, 'build_patch_discriminator.widths = (3, 5)'), 'widths = [3, 4]')):
        with pytest.raises(UserError) as caught:
            start(tmp_path / 'run', f'reconstruction_stage.source = {str(source)!r}', *bindings)
        assert text in str(caught.value) and '\n' not in str(caught.value)
        assert not list(tmp_path.glob('run/stages/*'))


@pytest.mark.parametrize('bindings, text', [
    (["stage_one.schedule = 'polyy'", 'stage_one.epochs = 1'], 'polyy'),
    (["reconstruction_optimizer.name = 'adm'"], 'Did you mean "adam"'),
    ([ALONE, 'adversarial_stage.only_control = True'], 'set one of them')])
def test_what_is_wrong_is_told_before_phase_1_and_can_be_corrected(bindings, text, tmp_path):
    with pytest.raises(UserError) as caught:
        start(tmp_path / 'run', *bindings)
    assert text in str(caught.value) and '\n' not in str(caught.value)
    assert not list(tmp_path.glob('run/stages/*')) and not (tmp_path / 'run/config.gin').exists()


def test_a_dry_run_tells_of_phase_1_what_a_run_would(tmp_path, capsys):
    start(tmp_path / 'run', dry_run=True)
    said = capsys.readouterr().out
    assert 'phase 1: about' in said and '5 steps of the generator' in said
    assert 'generator of images ' in said
    assert '2 steps of the segmentor with the terms of the GAN' in said
    with pytest.raises(UserError, match='Did you mean "adam"'):
        start(tmp_path / 'run', "reconstruction_optimizer.name = 'adm'", dry_run=True)


def context(path, classes=3, train=6):
    """What `build` and `plan` look at."""
    run = types.SimpleNamespace(checkpoints=path / 'checkpoints', stages=path / 'stages')
    data = types.SimpleNamespace(spec=types.SimpleNamespace(num_classes=classes),
                                 train=list(range(train)))
    return types.SimpleNamespace(run=run, data=data, streams=types.SimpleNamespace(seed_value=1))


def test_a_finished_phase_1_whose_gan_is_gone_is_told(tmp_path):
    """Not the initial weights in its place."""
    (tmp_path / 'stages' / 'gan').mkdir(parents=True)
    assert reconstruction_stage.build(context(tmp_path)).generator.num_classes == 3
    (tmp_path / 'stages' / 'gan' / 'done.json').write_text('{}')
    with pytest.raises(UserError, match='its GAN is missing') as caught:
        reconstruction_stage.build(context(tmp_path))
    assert '\n' not in str(caught.value)


def test_a_penalty_and_batch_norm_do_not_go_together(tmp_path):
    settings_of("zhu_gan.form = 'wgan'", "zhu_gan.lipschitz = 'penalty'", *BATCH)
    with pytest.raises(UserError, match='build_patch_discriminator.normalisation') as caught:
        reconstruction_stage.build(context(tmp_path))
    assert '\n' not in str(caught.value)
    settings_of("zhu_gan.form = 'wgan'", "zhu_gan.lipschitz = 'penalty'", BATCH[0],
                "build_patch_discriminator.normalisation = 'none'")
    assert reconstruction_stage.build(context(tmp_path)).generator.fine_tune_batch_norm


def test_steps_of_phase_1(tmp_path):
    settings_of('reconstruction_stage.epochs = 10', 'reconstruction_stage.batch_size = 4')
    assert reconstruction_stage.plan(context(tmp_path)).total == 15  # 10 epochs of 6 images by 4
    settings_of("zhu_gan.form = 'wgan'", 'reconstruction_stage.steps = 7')
    plan = reconstruction_stage.plan(context(tmp_path))
    assert (plan.generator_steps, plan.total) == (7, 35)
    settings_of('reconstruction_stage.epochs = 0.1', 'reconstruction_stage.steps = None')
    with pytest.raises(UserError, match='less than one step'):
        reconstruction_stage.plan(context(tmp_path))


@pytest.mark.parametrize('words, text', [
    (dict(batch_size=0), 'reconstruction_stage.batch_size = 0'), (dict(epochs=-1), 'epochs = -1'),
    (dict(steps=0), 'steps = 0'), (dict(steps=1.5), 'steps = 1.5: expected a whole number'),
    (dict(evaluate_every_epochs=None), 'evaluate_every_epochs = None'),
    (dict(only=1), 'reconstruction_stage.only = 1: expected True or False'),
    (dict(source=3), 'reconstruction_stage.source = 3: expected text'),
    (dict(augmentation='zuh'), 'Did you mean "zhu"')])
def test_settings_out_of_range_are_told_in_one_line(words, text):
    with pytest.raises(UserError) as caught:
        reconstruction_stage.reconstruction_stage(**words)
    assert text in str(caught.value) and '\n' not in str(caught.value)
