"""The protocols: their arms parse, share one control, and run from one start."""
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.experiments.studies import sweeping
from tf_advseg.experiments.train import run_stages
from tf_advseg.experiments.train import training
from tf_advseg.methods.recipe import Arm
from tf_advseg.training import alternation

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROTOCOLS = {'shapes': 'shapes', 'stanford_background': 'stanford_background',
             'cmp_facades': 'stanford_background', 'own_data': 'stanford_background'}
# What shows every arm in seconds.
TINY = ("dataset.options={'num_train': 16, 'num_val': 4, 'num_test': 3, 'size': (33, 33), "
        "'smallest': (32, 32)}", 'experiment.crop_size=33', 'semi_supervised.fraction=0.5',
        'deeplab_mobilenet_v2.depth_multiplier=0.25', 'adversarial_stage.batch_size=2',
        'adversarial_stage.evaluate_every_epochs=0', 'adversarial_stage.steps=2')
STEPS = {'adversarial_stage.steps': 2, 'lookahead.budget_steps': 2, 'hung.semi_start': 1,
         'lookahead.propagation_steps': 1, 'swa.every': 1, 'swa.start': 0.5}


def cells_of(name):
    return ROOT / 'gin' / 'protocols' / f'{name}.cells'


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_all_arms_share_one_control(protocol, tmp_path):
    named = sweeping.read_cells(cells_of(PROTOCOLS[protocol]))
    cells = sweeping.check(sweeping.named_cells(tmp_path, named, [0]),
                           [f'gin/protocols/{protocol}.gin'], [])
    methods = [cell for cell in cells if len(cell.columns) > 1]
    assert [cell.control_from for cell in methods] == [None] + [methods[0].folder] * (
        len(methods) - 1)
    alone = [cell for cell in cells if len(cell.columns) == 1]
    assert len(alone) >= 4 and {cell.control_from for cell in alone} == {None}
    assert {'Luc', 'EL-GAN', 'Durall', 'Hung', 'Consistency', 'Zhu', 'LoAd'} == {
        cell.columns[0] for cell in methods}


def test_the_smallest_has_one_control_and_takes_few_steps(tmp_path):
    cells = sweeping.check(
        sweeping.named_cells(tmp_path, sweeping.read_cells(cells_of('smallest')), [1]),
        ['gin/protocols/smallest.gin'], [])
    assert [cell.control_from for cell in cells] == [None, cells[0].folder, cells[0].folder]
    assert configuration.bound('lookahead.budget_steps') == 40 == configuration.bound(
        'adversarial_stage.steps')


def test_trials_share_the_control_of_the_protocol(tmp_path):
    """Another weight of an adversarial term changes nothing of the control."""
    named = [each for name in ('shapes', 'shapes_trials')
             for each in sweeping.read_cells(cells_of(name)) if not each[0].startswith('CE')]
    cells = sweeping.check(sweeping.named_cells(tmp_path, named, [100]),
                           ['gin/protocols/shapes.gin'], [])
    assert [cell.control_from for cell in cells] == [None] + [cells[0].folder] * (len(cells) - 1)


def test_a_file_of_cells_is_read_line_by_line(tmp_path):
    path = tmp_path / 'x.cells'
    path.write_text('# about\n\n a: methods/luc.gin; luc.reduction="sum"\nb:\n')
    assert sweeping.read_cells(path) == [
        ('a', (('luc.reduction', '"sum"'),), ('methods/luc.gin',)), ('b', (), ())]


def test_a_mistyped_file_of_cells_is_told_the_nearest():
    with pytest.raises(UserError, match='Did you mean "gin/protocols/shapes.cells"'):
        sweeping.read_cells('gin/protocols/shape.cells')


@pytest.mark.parametrize('content, message', [
    (b'# none\n', 'no cell in it'), (b'a: x=1\nb\n', 'line 2.*expected NAME'),
    (b'\xff\xfe\x00', 'cannot be read as text')])
def test_a_file_without_cells_is_refused(tmp_path, content, message):
    path = tmp_path / 'x.cells'
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        sweeping.read_cells(path)


def arm_of(tmp_path, name, function, *bindings):
    """Calls function(run_stages.Run) on an arm of the protocol on shapes that is put together.

    Crop, batches and networks are the protocol's; of the scenes there are few.
    """
    (_, settings, gin_files), = [each for each in sweeping.read_cells(cells_of('shapes'))
                                 if each[0] == name]
    scenes = {'num_train': 64, 'num_val': 4, 'num_test': 3, 'size': (65, 65), 'smallest': (56, 56)}
    configuration.parse([*gin_files, 'gin/protocols/shapes.gin'], [
        f'dataset.options={scenes}', *(f'{key}={value}' for key, value in settings), *bindings])
    training.experiment(tmp_path / 'run', tf.distribute.get_strategy(),
                        instead=lambda *parts: function(run_stages.Run(*parts)))


def labelled_rows(stage, steps=3):
    """The labelled rows of a stage's batches of the segmentor, sorted: (id, image, label)."""
    streams, found = stage.batch_streams(), []
    own = next(name for name in (alternation.UNLABELLED, alternation.SEGMENTOR) if name in streams)
    for batch in streams[own](0).take(steps):
        batch = {name: value.numpy() for name, value in batch.items()}
        rows = np.flatnonzero(batch.get('labeled', np.ones(len(batch['label']), bool)))
        found.append(sorted((batch['image_id'][row], batch['image'][row].tobytes(),
                             batch['label'][row].tobytes()) for row in rows))
    return found


@pytest.mark.parametrize('name', ['LoAd', 'Hung', *(
    pytest.param(name, marks=pytest.mark.slow) for name, _, _ in sweeping.read_cells(
        cells_of('shapes')) if name not in ('LoAd', 'Hung') and not name.startswith('CE'))])
def test_an_arm_and_its_control_see_the_same_labelled_batches(name, tmp_path):
    """And train batch norm alike: an arm with a loop of its own has settings of its own for it."""
    def compare(run):
        run.check()
        method, control = (labelled_rows(run.stage(arm)) for arm in Arm)
        assert method == control and len(method) == 3 and method[0] != method[1]
        method, control = (run.stage(arm) for arm in Arm)
        assert control.steps == 1000 == (
            method.steps if run.recipe.arm_stage is None else method.most_steps)
        if run.recipe.arm_stage is not None:
            assert run.segmentor.fine_tune_batch_norm
            built = run.recipe.build(run.context, run.segmentor, None)  # as `benchmark cues` does
            assert built.segmentor is run.segmentor

    arm_of(tmp_path, name, compare)


@pytest.mark.parametrize('name, option', [('Luc', 'classmix'), *(
    pytest.param(name, option, marks=pytest.mark.slow) for name, option in (
        ('Hung', 'classmix'), ('Consistency', 'cutmix'), ('EL-GAN', 'cutmix'),
        ('Durall', 'cutmix')))])
def test_labelled_images_are_mixed_alike_in_an_arm_and_its_control(name, option, tmp_path):
    def compare(run):
        run.check()
        method, control = (run.stage(arm) for arm in Arm)
        assert labelled_rows(method) == labelled_rows(control)
        batch = next(iter(control.batch_streams()[alternation.SEGMENTOR](0)))
        assert any(pasted for pasted in batch['pasted_id'].numpy())
        assert method.identity()['recipe'][option] == control.identity()['recipe'][option]

    arm_of(tmp_path, name, compare, f'adversarial_stage.augmentation="hung+photometric+{option}"')


def test_an_arm_whose_batch_norm_is_not_its_controls_is_refused(tmp_path):
    with pytest.raises(UserError, match='the control alone.*LoAd would train with False') as told:
        arm_of(tmp_path, 'LoAd', lambda run: run.check(),
               'deeplab_mobilenet_v2.fine_tune_batch_norm=False')
    assert '\n' not in str(told.value)


# What all arms of a protocol share, and the arms to compare with change: {arm: these settings}.
SHARED = ('adversarial_stage.steps', 'adversarial_stage.batch_size', 'adversarial_stage.keep',
          'adversarial_stage.augmentation', 'adversarial_stage.fine_tune_batch_norm',
          'segmentor_optimizer.name', 'segmentor_optimizer.learning_rate',
          'segmentor_optimizer.momentum', 'segmentor_optimizer.schedule',
          'semi_supervised.fraction', 'semi_supervised.stratified', 'folds.count', 'folds.seed',
          'stage_one.epochs', 'stage_one.weighted_epochs', 'dataset.holdout_fraction')
OTHERWISE = {'CE longer': {'adversarial_stage.steps'}, 'CE at its best': {'adversarial_stage.keep'},
             'CE all labels': {'semi_supervised.fraction', 'semi_supervised.stratified'}}


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_arms_differ_in_nothing_but_what_they_are_for(protocol):
    """Start, data, budget, schedule and selection are the protocol's, in every arm."""
    found = {}
    for name, settings, gin_files in sweeping.read_cells(cells_of(PROTOCOLS[protocol])):
        configuration.parse([*gin_files, f'gin/protocols/{protocol}.gin'],
                            [f'{key}={value}' for key, value in settings])
        found[name] = {key: configuration.bound(key) for key in (*SHARED, 'swa.enabled')}
        if name == 'LoAd':  # whose loop has settings of its own for the same things
            assert [configuration.bound(f'lookahead.{key}') for key in (
                'budget_steps', 'batch_size', 'augmentation')] == [
                    found[name][f'adversarial_stage.{key}'] for key in (
                        'steps', 'batch_size', 'augmentation')]
        if not name.startswith('CE'):
            assert not configuration.bound('adversarial_stage.only_control')
    shared = found['Luc']
    assert shared['adversarial_stage.keep'] == 'last' and shared['stage_one.epochs'] == 0
    assert shared['semi_supervised.fraction'] == 0.125 and shared['semi_supervised.stratified']
    assert shared['folds.count'] == (None if protocol == 'shapes' else 10)
    for name, its in found.items():
        differs = {key for key in SHARED if its[key] != shared[key]}
        assert differs == OTHERWISE.get(name, set()), name
    assert found['CE longer']['adversarial_stage.steps'] > 2 * shared['adversarial_stage.steps']
    assert found['CE at its best']['adversarial_stage.keep'] == 'best'
    assert found['CE all labels']['semi_supervised.fraction'] == 1
    assert found['Durall']['swa.enabled'] is False  # averaging is an arm of its own


@pytest.mark.parametrize('protocol, labelled', [('shapes', 50), ('stanford_background', 71.5)])
def test_the_best_control_looks_as_often_as_load(protocol, labelled):
    """Its evaluations are as many steps apart as LoAd's propagations are long."""
    cells = {name: (settings, files) for name, settings, files in sweeping.read_cells(
        cells_of(protocol))}

    def bound(name, key):
        settings, gin_files = cells[name]
        configuration.parse([*gin_files, f'gin/protocols/{protocol}.gin'],
                            [f'{setting}={value}' for setting, value in settings])
        return configuration.bound(key)

    epochs = bound('CE at its best', 'adversarial_stage.evaluate_every_epochs')
    steps = epochs * labelled / bound('CE at its best', 'adversarial_stage.batch_size')
    assert round(steps) == bound('LoAd', 'lookahead.propagation_steps')


KEPT = sorted(ROOT.glob('docs/numbers/protocols/cells_*.jsonl'))


@pytest.mark.parametrize('path', KEPT, ids=lambda path: path.stem)
def test_the_kept_rows_are_of_the_cells_as_they_stand(path):
    """Else the file of cells was changed after they were run, and makes other rows now."""
    protocol = path.stem[len('cells_'):]
    asked = {}
    for cell in sweeping.named_cells('.', sweeping.read_cells(cells_of(PROTOCOLS[protocol])), [0]):
        words = sweeping.cell_command(cell, [f'gin/protocols/{protocol}.gin'], [])
        asked[cell.name] = [word for word in words
                            if word.startswith(('--gin_file', '--gin_param'))]
    for line in path.read_text('utf-8').splitlines():
        row = json.loads(line)
        assert row['cell'] in asked
        if 'settings' in row:  # older ones do not say
            assert row['settings'] == asked[row['cell']], (row['cell'], row['seed'])


@pytest.mark.slow
def test_every_arm_runs_from_one_start(tmp_path):
    for file in ('shapes_start', 'shapes'):
        (tmp_path / f'{file}.cells').write_text(tiny(file))

    def sweep(workdir, *words):
        done = subprocess.run(
            [sys.executable, str(ROOT / 'tools' / 'sweep.py'), '--seeds=1',
             '--gin_file=gin/protocols/shapes.gin', f'--workdir={tmp_path / workdir}',
             *(f'--gin_param={text}' for text in TINY), *words],
            capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    sweep('starts', f'--cells={tmp_path}/shapes_start.cells')
    sweep('arms', f'--cells={tmp_path}/shapes.cells',
          f'--checkpoint={tmp_path}/starts/start/seed{{seed}}/checkpoints/control')
    results = [json.loads(path.read_text()) for path in tmp_path.glob('arms/*/seed1/results.json')]
    assert len(results) == len(sweeping.read_cells(cells_of('shapes')))
    starts = [found['models']['Stage 1']['holdout']['confusion_matrix'] for found in results]
    assert all(start == starts[0] for start in starts)  # of the arms of CE alone, too
    taken = [found.get('control_from') for found in results if found['subject'] != 'control (CE)']
    assert len([source for source in taken if source]) == len(taken) - 1


def tiny(name):
    """The text of a file of cells, each of which takes two steps."""
    lines = []
    for cell, bindings, gin_files in sweeping.read_cells(cells_of(name)):
        settings = [f'{key}={STEPS.get(key, value)}' for key, value in bindings]
        if 'zhu' in ''.join(gin_files):
            settings.append('reconstruction_stage.epochs=1')
        if 'load' in ''.join(gin_files):
            settings += ['lookahead.min_epochs=1', 'lookahead.max_epochs=1']
        lines.append(f'{cell}: {"; ".join([*gin_files, *settings])}')
    return '\n'.join(lines)
