"""A control is trained once for runs that differ in their adversaries alone."""
import os
import shutil
import types
from unittest import mock

import controlled_runs
import pytest
import tensorflow as tf

from tf_advseg.core import configuration, files, journal, lanes, run_directory
from tf_advseg.core.errors import UserError
from tf_advseg.data.records import record_set
from tf_advseg.experiments.train import run_results
from tf_advseg.experiments.train import shared_control
from tf_advseg.experiments.train import training
from tf_advseg.run import dataset
from tf_advseg.run import networks
from tf_advseg.training import checkpoints
from tf_advseg.training import stages

ANOTHER_ADVERSARY = ("build_pixel_discriminator.kind = 'image'", 'durall.map_stride = 2',
                     'durall.adversarial_weight = 3.0',
                     'discriminator_optimizer.learning_rate = 0.03', 'alternation.every = 2',
                     'alternation.pretraining = 1')


@pytest.fixture(scope='module')
def first(tmp_path_factory):
    """(folder, results) of a run with its control."""
    path = tmp_path_factory.mktemp('shared') / 'first'
    results, trained = controlled_runs.start(path)
    assert trained == ['durall', 'control']
    yield path, results


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
    results, trained = controlled_runs.start(tmp_path / 'run', *bindings)
    text = capsys.readouterr().out
    assert trained == ['durall'] and f'control: taken over from {path}' in text
    assert text.index('taken over') < text.index('Durall: 2 steps')  # before the long training
    assert results['control_from'] == str(path) and 'control' not in results['seconds']
    for column in (run_results.CONTROL, run_results.CONTROL + run_results.AVERAGED):
        assert results['models'][column] == before['models'][column]
    assert controlled_runs.same_models(path, tmp_path / 'run')
    assert lines(path) and lines(path) == lines(tmp_path / 'run')  # the report's curves have them
    # Nothing is copied or trained twice.
    again, trained = controlled_runs.start(tmp_path / 'run', *bindings)
    assert not trained and again['models'] == results['models']
    assert lines(tmp_path / 'run') == lines(path)
    assert 'taken over from' not in capsys.readouterr().out  # it has one of its own now


@pytest.mark.slow
def test_a_control_trained_beside_another_adversary_is_the_same_to_the_bit(first, tmp_path, capsys):
    """What `differences` passes over changes no control: else one would be taken over wrongly."""
    path, _ = first
    source = shutil.copytree(path, tmp_path / 'source')
    (source / 'stages' / 'control' / 'done.json').unlink()
    _, trained = controlled_runs.start(tmp_path / 'run', f"experiment.control_from = '{source}'",
                       *ANOTHER_ADVERSARY)
    assert trained == ['durall', 'control']
    assert (f'control: trained here, not taken over from {source}: it has no finished control\n'
            in capsys.readouterr().out)
    assert controlled_runs.same_models(path, tmp_path / 'run')
    assert timeless(path) == timeless(tmp_path / 'run')
    assert not controlled_runs.same_models(path, tmp_path / 'run', ['last'])


@pytest.mark.slow
def test_lucs_control_trained_beside_another_adversary_is_the_same_to_the_bit(tmp_path):
    controlled_runs.start(tmp_path / 'one', method='luc')
    controlled_runs.start(tmp_path / 'two', "label_maps.kind = 'product'", 'luc.saturating = True',
          "build_fov_discriminator.name = 'large_fov_light'", 'luc.adversarial_weight = 0.5',
          method='luc')
    assert controlled_runs.same_models(tmp_path / 'one', tmp_path / 'two', ['control'])
    assert timeless(tmp_path / 'one') == timeless(tmp_path / 'two')
    assert not controlled_runs.same_models(tmp_path / 'one', tmp_path / 'two', ['best'])


def test_a_folder_that_is_no_run_is_told(tmp_path):
    with pytest.raises(UserError) as caught:
        controlled_runs.start(tmp_path / 'run', f"experiment.control_from = '{tmp_path}'")
    assert 'not a run directory' in str(caught.value) and '\n' not in str(caught.value)
    assert not (tmp_path / 'run' / 'stages').exists()  # told before anything is trained


def test_a_dry_run_says_what_will_become_of_the_control(first, tmp_path, capsys):
    path, _ = first
    for binding, text in (('durall.adversarial_weight = 3.0', f'(taken over from {path}'),
                          ('segmentor_optimizer.learning_rate = 0.5',
                           '(trained here, not taken over from')):
        configuration.parse(['gin/methods/durall.gin'], [
            *controlled_runs.DURALL, f"experiment.control_from = '{path}'", binding])
        training.experiment(tmp_path / 'run', tf.distribute.get_strategy(), dry_run=True)
        assert text in capsys.readouterr().out


@pytest.mark.slow  # two runs
def test_a_method_that_goes_on_loses_no_line_of_a_control_that_came_later(first, tmp_path):
    path, _ = first
    with mock.patch.object(run_results, 'scores', side_effect=KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):  # the method is done, the control not asked for yet
            controlled_runs.start(tmp_path / 'run', 'experiment.control = False')
    (tmp_path / 'run' / 'stages' / 'durall' / 'done.json').unlink()  # as if it had been stopped
    controlled_runs.start(tmp_path / 'run', f"experiment.control_from = '{path}'")
    assert lines(path) and lines(tmp_path / 'run') == lines(path)


@pytest.fixture
def other(first, tmp_path):
    """A run that stands before its control, with another discriminator: a context, and `identity`.

    `barriers` counts those that were passed.
    """
    path, _ = first
    run = run_directory.RunDirectory(shutil.copytree(path, tmp_path / 'run'))
    shutil.rmtree(run.stages / 'control')
    for name in controlled_runs.MODELS:
        shutil.rmtree(run.checkpoints / name)
    run.metrics_path.write_text(''.join(files.to_json(line) + '\n' for line in lines(path, False)))
    configuration.parse(['gin/methods/durall.gin'], [*controlled_runs.DURALL, *ANOTHER_ADVERSARY])
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
    assert done.pop('result_hash') != was.pop('result_hash')
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
    (_no_records, 'nothing says which records it was trained on'),
    (lambda run: _done(run, 'settings_hash', value='x'), 'other settings (not known which)'),
    (lambda run: _control_settings(run, steps=9), 'its stage was done with other settings (steps)'),
    (lambda run: _damage(run, 'stage1'), 'its checksum is not the one in manifest.json'),
    (lambda run: _damage(run, 'control_averaged'), 'its checksum is not the one in manifest.json'),
    (lambda run: shutil.rmtree(run / 'checkpoints' / 'control_averaged'), 'model.json: no such'),
    (lambda run: (run / 'metrics.jsonl').unlink(), 'metrics.jsonl: no such file'),
    (lambda run: (run / 'stages' / 'control' / 'done.json').write_text('3'),
     'done.json: does not hold what it should'),
    (lambda run: _done(run, 'result', value=[]), 'done.json: does not hold what it should')])
def test_another_control_is_refused_and_the_reason_told(other, source, spoil, reason):
    spoil(source)
    found = take_over(other, source)
    assert found.kind == shared_control.REFUSED and reason in found.reason
    assert found.text.startswith(f'control: trained here, not taken over from {source}: ')
    assert '\n' not in found.text
    assert not (other.run.stages / 'control').exists()
    assert not any((other.run.checkpoints / name).exists() for name in controlled_runs.MODELS)
    assert not lines(other.run.path)


def test_a_run_is_no_source_of_its_own_control(other):
    assert take_over(other, other.run.path).reason == 'it is this very run'


@pytest.mark.parametrize('mend', [
    lambda run: _done(run, 'result', 'records', value=None),  # of before it was written down
    lambda run: _weights(run, other=tf.train.Checkpoint())])  # other bytes, the same weights
def test_the_same_by_another_way_is_taken(other, source, mend):
    mend(source)
    assert take_over(other, source).kind == shared_control.TAKEN
    assert controlled_runs.same_models(source, other.run.path)


def test_old_controls_of_records_that_were_made_anew_since_are_refused(other, source, tmp_path):
    """Before a stage's result told its records, the configuration led to them."""
    folder = shutil.copytree(source / 'records', tmp_path / 'data')
    _no_records(source)
    binding = f"experiment.data_dir = '{folder}'"
    (source / 'config.gin').write_text((source / 'config.gin').read_text() + f'\n{binding}\n')
    configuration.parse(['gin/methods/durall.gin'], [*controlled_runs.DURALL, binding])
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
    assert lines(other.run.path) == lines(source)
    assert controlled_runs.same_models(source, other.run.path)
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
