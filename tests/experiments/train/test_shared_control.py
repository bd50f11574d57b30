"""A control is trained once for runs that differ in their adversaries alone."""
import os
import shutil
import types
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core import configuration, files, journal, lanes, run_directory
from tf_advseg.core.errors import UserError
from tf_advseg.data.records import record_set
from tf_advseg.experiments import recipe_registry as recipes
from tf_advseg.experiments.train import run_report
from tf_advseg.experiments.train import run_results
from tf_advseg.experiments.train import shared_control
from tf_advseg.experiments.train import stage_training
from tf_advseg.experiments.train import training
from tf_advseg.run import dataset
from tf_advseg.run import networks
from tf_advseg.training import checkpoints
from tf_advseg.training import stages

OPTIONS = {'num_train': 4, 'num_val': 2, 'num_test': 1, 'size': (33, 33), 'smallest': (33, 33)}
SCENES = ("dataset.reader = 'shapes'", f'dataset.options = {OPTIONS!r}',
          'dataset.holdout_fraction = 1', 'experiment.crop_size = 33',
          "experiment.network = 'farabet'", 'farabet.hidden = 8', 'adversarial_stage.steps = 2',
          'adversarial_stage.batch_size = 2', 'adversarial_stage.train_images = 0',
          'adversarial_stage.diagnose_every = 0')
DURALL = (*SCENES, 'build_pixel_discriminator.widths = (4, 8)', 'durall.map_stride = 4',
          'swa.every = 1')
LUC = (*SCENES, "build_fov_discriminator.name = 'small_fov_light'", 'alternation.every = 1',
       'stage_one.weighted_epochs = 0', 'stage_one.epochs = 0', 'label_maps.tau = 0.8')
ANOTHER_ADVERSARY = ("build_pixel_discriminator.kind = 'image'", 'durall.map_stride = 2',
                     'durall.adversarial_weight = 3.0',
                     'discriminator_optimizer.learning_rate = 0.03', 'alternation.every = 2',
                     'alternation.pretraining = 1')
MODELS = ('control', 'control_averaged')


def start(workdir, *bindings, method='durall'):
    """(results, which stages were trained) of a run without its report."""
    common = {'durall': DURALL, 'luc': LUC}[method]
    configuration.parse([f'gin/methods/{method}.gin'], [*common, *bindings])
    trained, run = [], stage_training.StageTraining.run

    def watched(self, folder):
        trained.append(folder.name)
        return run(self, folder)
    with mock.patch.object(run_report, 'write'), mock.patch.object(
            run_results, '_show'), mock.patch.object(
            stage_training.StageTraining, 'run', watched):
        return training.experiment(workdir, tf.distribute.get_strategy()), trained


@pytest.fixture(scope='module')
def first(tmp_path_factory):
    """(folder, results) of a run with its control."""
    path = tmp_path_factory.mktemp('shared') / 'first'
    results, trained = start(path)
    assert trained == ['durall', 'control']
    yield path, results


def values(run, name):
    segmentor, _, _ = networks.load(run / 'checkpoints' / name)
    return [v.numpy() for v in segmentor.variables]


def same_models(one, other, names=MODELS):
    return all(np.array_equal(a, b) for name in names
               for a, b in zip(values(one, name), values(other, name)))


def lines(run, of_control=True):
    """Lines of metrics.jsonl, the control's or the others."""
    return [line for line in journal.Journal.read(run / 'metrics.jsonl')
            if (line.get('stage') == 'control') == of_control]


def timeless(run):
    return [{k: v for k, v in line.items() if k != 'time'} for line in lines(run)]


def test_another_adversary_has_the_same_control(first, tmp_path, capsys):
    path, before = first
    bindings = (f"experiment.control_from = '{path}'", "build_pixel_discriminator.kind = 'image'",
                'durall.adversarial_weight = 3.0')
    results, trained = start(tmp_path / 'run', *bindings)
    told = capsys.readouterr().out
    assert trained == ['durall'] and f'control: taken over from {path}' in told
    assert told.index('taken over') < told.index('Durall: 2 steps')  # before the long training
    assert results['control_from'] == str(path) and 'control' not in results['seconds']
    for column in (run_results.CONTROL, run_results.CONTROL + run_results.AVERAGED):
        assert results['models'][column] == before['models'][column]
    assert same_models(path, tmp_path / 'run')
    assert lines(path) and lines(path) == lines(tmp_path / 'run')  # the report's curves have them
    again, trained = start(tmp_path / 'run', *bindings)  # nothing is copied or trained twice
    assert not trained and again['models'] == results['models']
    assert lines(tmp_path / 'run') == lines(path)
    assert 'taken over from' not in capsys.readouterr().out  # it has one of its own now


@pytest.mark.slow
def test_a_control_trained_beside_another_adversary_is_the_same_to_the_bit(first, tmp_path, capsys):
    """What `differences` passes over changes no control: else one would be taken over wrongly."""
    path, _ = first
    source = shutil.copytree(path, tmp_path / 'source')
    (source / 'stages' / 'control' / 'done.json').unlink()
    _, trained = start(tmp_path / 'run', f"experiment.control_from = '{source}'",
                       *ANOTHER_ADVERSARY)
    assert trained == ['durall', 'control']
    assert (f'control: trained here, not taken over from {source}: it has no finished control\n'
            in capsys.readouterr().out)
    assert same_models(path, tmp_path / 'run') and timeless(path) == timeless(tmp_path / 'run')
    assert not same_models(path, tmp_path / 'run', ['last'])


@pytest.mark.slow
def test_lucs_control_trained_beside_another_adversary_is_the_same_to_the_bit(tmp_path):
    start(tmp_path / 'one', method='luc')
    start(tmp_path / 'two', "label_maps.kind = 'product'", 'luc.saturating = True',
          "build_fov_discriminator.name = 'large_fov_light'", 'luc.adversarial_weight = 0.5',
          method='luc')
    assert same_models(tmp_path / 'one', tmp_path / 'two', ['control'])
    assert timeless(tmp_path / 'one') == timeless(tmp_path / 'two')
    assert not same_models(tmp_path / 'one', tmp_path / 'two', ['best'])


def test_a_folder_that_is_no_run_is_told(tmp_path):
    with pytest.raises(UserError) as caught:
        start(tmp_path / 'run', f"experiment.control_from = '{tmp_path}'")
    assert 'not a run directory' in str(caught.value) and '\n' not in str(caught.value)
    assert not (tmp_path / 'run' / 'stages').exists()  # told before anything is trained


def test_a_dry_run_says_what_will_become_of_the_control(first, tmp_path, capsys):
    path, _ = first
    for binding, text in (('durall.adversarial_weight = 3.0', f'(taken over from {path}'),
                          ('segmentor_optimizer.learning_rate = 0.5',
                           '(trained here, not taken over from')):
        configuration.parse(['gin/methods/durall.gin'], [
            *DURALL, f"experiment.control_from = '{path}'", binding])
        training.experiment(tmp_path / 'run', tf.distribute.get_strategy(), dry_run=True)
        assert text in capsys.readouterr().out


@pytest.mark.slow  # two runs
def test_a_method_that_goes_on_loses_no_line_of_a_control_that_came_later(first, tmp_path):
    path, _ = first
    with mock.patch.object(run_results, 'scores', side_effect=KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):  # the method is done, the control not asked for yet
            start(tmp_path / 'run', 'experiment.control = False')
    (tmp_path / 'run' / 'stages' / 'durall' / 'done.json').unlink()  # as if it had been stopped
    start(tmp_path / 'run', f"experiment.control_from = '{path}'")
    assert lines(path) and lines(tmp_path / 'run') == lines(path)


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


# Five methods with one pixel loss: mean cross-entropy at the images' size, without decay.
ONE_LOSS = {'luc': ('luc.upsample_logits = True', 'alternation.every = 1',
                    "build_fov_discriminator.name = 'small_fov_light'"),
            'durall': ('durall.l2_weight = 0.0', 'build_pixel_discriminator.widths = (4, 8)',
                       'durall.map_stride = 4', 'alternation.every = 1'),
            'hung': ('hung.l2_weight = 0.0', "hung.terms = 'adv'", 'hung.map_stride = 4',
                     'build_fc_discriminator.widths = (4, 8)'),
            'zhu': (), 'load': ('lookahead.budget_steps = 2',)}
ALIKE = (*SCENES, 'stage_one.weighted_epochs = 0', 'stage_one.epochs = 0')


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
    assert same_models(tmp_path / 'one', tmp_path / 'two', ['control'])


def test_loads_own_control_is_never_another_runs(tmp_path):
    configuration.parse([], [*ALIKE, f"experiment.control_from = '{tmp_path}'"])
    (tmp_path / 'config.gin').touch()
    with pytest.raises(UserError, match='set lookahead.budget_steps'):
        training.experiment(tmp_path / 'run', tf.distribute.get_strategy())


@pytest.fixture
def other(first, tmp_path):
    """A run that stands before its control, with another discriminator: a context, and `identity`.

    `barriers` counts those that were passed.
    """
    path, _ = first
    run = run_directory.RunDirectory(shutil.copytree(path, tmp_path / 'run'))
    shutil.rmtree(run.stages / 'control')
    for name in MODELS:
        shutil.rmtree(run.checkpoints / name)
    run.metrics_path.write_text(''.join(files.to_json(line) + '\n' for line in lines(path, False)))
    configuration.parse(['gin/methods/durall.gin'], [*DURALL, *ANOTHER_ADVERSARY])
    parts = files.read_json(path / 'split.json')['splits']
    context = types.SimpleNamespace(
        run=run, chief=True, barriers=0, data=dataset.ExperimentData(
            record_set.RecordSet(path / 'records', verify=False), parts['train'], parts['holdout'],
            parts['val_without_holdout'], parts['test']),
        identity=files.read_json(path / 'stages' / 'control' / 'done.json')['settings'])

    def barrier():
        context.barriers += 1
    context.barrier = barrier
    return context


@pytest.fixture
def source(first, tmp_path):
    """A copy of the first run that a test may spoil."""
    return shutil.copytree(first[0], tmp_path / 'source')


def take_over(context, source):
    return shared_control.take_over(context, source, context.identity)


def test_the_copy_says_where_it_is_from(other, source):
    found = take_over(other, source)
    assert found.kind == shared_control.TAKEN and found.text.endswith(str(source))
    stage = other.run.stages / 'control'
    done = files.read_json(stage / 'done.json')
    was = files.read_json(source / 'stages' / 'control' / 'done.json')
    assert done['result'] == {**was.pop('result'), 'taken_from': str(source)}
    assert {k: v for k, v in done.items() if k != 'result'} == was
    assert sorted(path.name for path in stage.iterdir()) == ['done.json', 'masks']
    assert take_over(other, source) == shared_control.Outcome(shared_control.OWN, str(source))
    assert shared_control.Outcome(shared_control.OWN, 'x').text == ''


def rewrite(path, *keys, value):
    """Changes an entry of a JSON file; None takes it out."""
    content = files.read_json(path)
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    if value is None:
        del place[keys[-1]]
    files.write_json(path, content)


def _weights(run, model='stage1', step=0.0, **more):
    """Saves a model of a run anew, its first variable `step` larger."""
    segmentor, _, _ = networks.load(run / 'checkpoints' / model)
    segmentor.variables[0].assign_add(tf.fill(segmentor.variables[0].shape, step))
    checkpoints.write_state(run / 'checkpoints' / model / 'weights', network=segmentor, **more)


def _damage(run, model):
    path = next((run / 'checkpoints' / model / 'weights').glob('*.data-*'))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _done(run, *keys, value):
    rewrite(run / 'stages' / 'control' / 'done.json', *keys, value=value)


def _control_settings(run, **changed):
    """As if the control had been trained with other settings."""
    path = run / 'stages' / 'control' / 'done.json'
    settings = {**files.read_json(path)['settings'], **changed}
    _done(run, 'settings', value=settings)
    _done(run, 'settings_hash', value=stages.settings_hash(settings))


def _old_records(run):
    """As before a stage's result told its records; they were made of something else."""
    _done(run, 'result', 'records', value=None)
    rewrite(run / 'records' / 'manifest.json', 'identity', 'sources', value='x')
    (run / 'stages' / 'control' / 'done.json').touch()


def _no_records(run):
    _done(run, 'result', 'records', value=None)
    shutil.rmtree(run / 'records')


def _split(run, part, ids):
    rewrite(run / 'split.json', 'splits', part, value=ids)


OTHER_LANE = {'reference': '3.13.1', 'current': '3.10.4'}


@pytest.mark.parametrize('spoil, reason', [
    (lambda run: (run / 'stages' / 'control' / 'done.json').unlink(), 'it has no finished control'),
    (lambda run: rewrite(run / 'environment.json', 'python',
                         value=OTHER_LANE[lanes.of_python().name]),
     'it was trained with another TensorFlow (environment.json)'),
    (lambda run: _control_settings(run, seed=4, swa=None), 'other settings (swa, seed)'),
    (lambda run: _weights(run, step=1e-4), 'it starts from other weights (checkpoints/stage1)'),
    (lambda run: _split(run, 'train', ['train_00001', 'train_00000']), '(split.json: train)'),
    (lambda run: _split(run, 'holdout', ['val_00000']), '(split.json: holdout)'),
    (lambda run: _split(run, 'test', ['val_00000']), '(split.json: test)'),
    (lambda run: _done(run, 'result', 'records', value='x'), 'it was trained on other records'),
    (_old_records, 'it was trained on other records'),
    (_no_records, 'nothing tells which records it was trained on'),
    (lambda run: _done(run, 'settings_hash', value='x'), 'other settings (not told which)'),
    (lambda run: _control_settings(run, steps=9), 'its stage was done with other settings (steps)'),
    (lambda run: _damage(run, 'stage1'), 'its checksum is not the one in manifest.json'),
    (lambda run: _damage(run, 'control_averaged'), 'its checksum is not the one in manifest.json'),
    (lambda run: shutil.rmtree(run / 'checkpoints' / 'control_averaged'), 'model.json: no such'),
    (lambda run: (run / 'metrics.jsonl').unlink(), 'metrics.jsonl: no such file')])
def test_another_control_is_refused_and_the_reason_told(other, source, spoil, reason):
    spoil(source)
    found = take_over(other, source)
    assert found.kind == shared_control.REFUSED and reason in found.reason
    assert found.text.startswith(f'control: trained here, not taken over from {source}: ')
    assert '\n' not in found.text
    assert not (other.run.stages / 'control').exists()
    assert not any((other.run.checkpoints / name).exists() for name in MODELS)
    assert not lines(other.run.path)


def test_a_run_is_no_source_of_its_own_control(other):
    assert take_over(other, other.run.path).reason == 'it is this very run'


@pytest.mark.parametrize('mend', [
    lambda run: _done(run, 'result', 'records', value=None),  # of before it was written down
    lambda run: _weights(run, other=tf.train.Checkpoint())])  # other bytes, the same weights
def test_the_same_by_another_way_is_taken(other, source, mend):
    mend(source)
    assert take_over(other, source).kind == shared_control.TAKEN
    assert same_models(source, other.run.path)


def test_old_controls_of_records_that_were_made_anew_since_are_refused(other, source, tmp_path):
    """Before a stage's result told its records, the configuration led to them."""
    folder = shutil.copytree(source / 'records', tmp_path / 'data')
    _no_records(source)
    binding = f"experiment.data_dir = '{folder}'"
    (source / 'config.gin').write_text((source / 'config.gin').read_text() + f'\n{binding}\n')
    configuration.parse(['gin/methods/durall.gin'], [*DURALL, binding])
    for seconds, kind in ((1e10, shared_control.REFUSED), (1e9, shared_control.TAKEN)):
        os.utime(folder / 'manifest.json', (seconds, seconds))
        assert take_over(other, source).kind == kind


@pytest.mark.parametrize('place', ['checkpoints/control', 'checkpoints/control_averaged',
                                   'metrics.jsonl', 'stages/control'])
def test_a_takeover_that_was_killed_is_done_again(other, source, place):
    def killed(make):
        def made(path, *mode):
            if str(path) == str(other.run.path / place):
                raise KeyboardInterrupt
            return make(path, *mode)
        return made
    with mock.patch.multiple(files, atomic_folder=killed(files.atomic_folder),
                             atomic_file=killed(files.atomic_file)):
        with pytest.raises(KeyboardInterrupt):
            take_over(other, source)
    assert not (other.run.stages / 'control').exists()
    assert len(lines(other.run.path)) == (len(lines(source)) if place == 'stages/control' else 0)
    before = lines(other.run.path, False)
    assert take_over(other, source).kind == shared_control.TAKEN
    assert lines(other.run.path) == lines(source) and same_models(source, other.run.path)
    assert lines(other.run.path, False) == before == lines(source, False)


def test_lines_that_another_takeover_has_left_are_replaced(other, source):
    with journal.Journal(other.run.metrics_path) as metrics:
        metrics.append('stage', stage='control', step=1)
    assert take_over(other, source).kind == shared_control.TAKEN
    assert lines(other.run.path) == lines(source)


@pytest.mark.parametrize('chief', [True, False])
def test_every_worker_passes_the_same_barriers_on_every_path(other, source, chief):
    """The chief copies behind the second, which all pass when they have looked."""
    other.chief, copied = chief, []
    with mock.patch.object(shared_control, '_copy', lambda *_: copied.append(other.barriers)):
        assert take_over(other, source).kind == shared_control.TAKEN
        assert other.barriers == 3 and copied == [2] * chief
        (other.run.stages / 'control').mkdir()
        assert take_over(other, source).kind == shared_control.OWN and other.barriers == 6
        (other.run.stages / 'control').rmdir()
        (source / 'stages' / 'control' / 'done.json').unlink()
        assert take_over(other, source).kind == shared_control.REFUSED and other.barriers == 9
        assert len(copied) == chief
