"""tools/sweep.py: cells, their processes, and the table's statistics."""
import json
import math
import shlex
import shutil
import statistics
import sys

from finished_cells import make_done
import pytest

from tf_advseg.core import configuration, files, run_directory
from tf_advseg.core.errors import UserError
from tf_advseg.experiments.studies import cell_runs
from tf_advseg.experiments.studies import sweep_table
from tf_advseg.experiments.studies import sweeping
from tf_advseg.experiments.studies import tabled_measures
from tf_advseg.reporting import tables

GIN = '--gin_file=gin/demo_smallest.gin'


def test_axes_keep_brackets_and_quotes_whole():
    assert sweeping.parse_axis("a.b=1,(2, 3),'x,y',word,@f()") == (
        'a.b', ('1', '(2, 3)', "'x,y'", "'word'", '@f()'))
    for text in ('a.b', '=1', 'a=1,,2', 'a=1,1', 'a='):
        with pytest.raises(UserError, match='--grid'):
            sweeping.parse_axis(text)
    assert sweeping.parse_seeds(['0', ' 12', '3-5', '7 - 7']) == [0, 12, 3, 4, 5, 7]
    for texts in (['a'], ['-1'], ['1-'], ['5-3'], ['1', '1'], ['1', '0-2'], []):
        with pytest.raises(UserError, match='--seeds'):
            sweeping.parse_seeds(texts)


def test_cells_are_every_combination_in_folders_of_their_own(tmp_path):
    axes = [sweeping.parse_axis('m.f.x=1,(2, 3)'), sweeping.parse_axis('g.y=a/b,a b')]
    cells = sweeping.make_cells(tmp_path, axes, [0, 5])
    assert len(cells) == 8 and len({cell.folder for cell in cells}) == 8
    assert cells[1].seed == 5 and cells[0].bindings == ['m.f.x = 1', "g.y = 'a/b'"]
    assert all(cell.folder.parent.parent == tmp_path for cell in cells)
    assert sweeping.make_cells(tmp_path, [], [3])[0].folder == tmp_path / 'as_given' / 'seed3'
    with pytest.raises(UserError, match='g.y is given twice'):
        sweeping.make_cells(tmp_path, [axes[1], axes[1]], [0])


def test_a_cell_may_be_another_method_under_the_sweeps_files(tmp_path):
    texts = ('Luc: methods/luc.gin', 'wide: methods/luc.gin; luc.adversarial_weight=2.0',
             'Hung: methods/hung.gin; hung.terms="adv"; hung.l2_weight=0.0')
    protocol = tmp_path / 'protocol.gin'
    protocol.write_text("include 'datasets/shapes.gin'\nadversarial_stage.steps = 7\n"
                        "adversarial_stage.batch_size = 2\nadversarial_stage.augmentation = 'flip'\n"
                        "segmentor_optimizer.learning_rate = 1e-3\n")
    named = [sweeping.parse_cell(text) for text in texts]
    assert named[1] == ('wide', (('luc.adversarial_weight', '2.0'),), ('methods/luc.gin',))
    cells = sweeping.check(sweeping.named_cells(tmp_path / 's', named, [3]), [str(protocol)], [])
    assert [cell.columns[0] for cell in cells] == ['Luc', 'Luc', 'Hung']
    # Of one method, whatever its settings, the control is one; here the optimizers differ.
    assert [cell.control_from for cell in cells[:2]] == [None, cells[0].folder]
    words = sweeping.cell_command(cells[1], [str(protocol)], [])
    given = [word for word in words if word.startswith('--gin_file=')]
    assert given == ['--gin_file=methods/luc.gin', f'--gin_file={protocol}']
    assert '--gin_param=luc.adversarial_weight = 2.0' in words
    with pytest.raises(UserError, match='no such gin file'):
        sweeping.check(sweeping.named_cells(
            tmp_path / 's', [sweeping.parse_cell('x: methods/lucy.gin')], [3]), [str(protocol)], [])
    with pytest.raises(UserError, match='expected NAME: BINDING'):
        sweeping.parse_cell('x: methods/luc.gin; luc.adversarial_weight')


# A stand-in for train.py: notes that it ran, fails for one cell, else writes results.
STAND_IN = '''
import json, pathlib, sys
words = dict(word[2:].split("=", 1) for word in sys.argv[1:])
folder = pathlib.Path(words["workdir"])
folder.mkdir(parents=True, exist_ok=True)
with open(folder.parent / "calls", "a") as file:
    file.write(json.dumps(words) + "\\n")
seed = int(words["seed"])
if "broken" in words["gin_param"] and not (folder / "mended").exists():
    print("error: this one fails", file=sys.stderr)
    raise SystemExit(1)
models = {"Stage 1": 0.5, "control (CE)": 0.51 + 0.001 * seed, "LoAd": 0.52 + 0.003 * seed}
scores = {m: {s: {"miou": v} for s in ("holdout", "test")} for m, v in models.items()}
(folder / "results.json").write_text(json.dumps({"models": scores}))
if "killed while drawing" not in words["gin_param"] or (folder / "mended").exists():
    (folder / "report.html").touch()
'''


def test_a_crash_stops_no_other_run_and_done_ones_are_skipped(tmp_path, entries):
    script = tmp_path / 'train.py'
    script.write_text(STAND_IN)
    cells = sweeping.make_cells(tmp_path / 'sweep', [('f.x', ("'broken'", '2'))], [0, 1])
    prefix = [sys.executable, str(script)]

    def command(cell):
        return sweeping.cell_command(cell, ['x.gin'], [], 'data', prefix=prefix)

    failed = cell_runs.run_cells(cells, tmp_path / 'sweep', command, show=False)
    assert [cell.seed for cell, _ in failed] == [0, 1]
    assert all(line == 'exit code 1: error: this one fails' for _, line in failed)
    good = cells[2].folder.parent
    calls = entries(good / 'calls')
    assert len(calls) == 2 and calls[0] == {
        'gin_file': 'x.gin', 'gin_param': 'f.x = 2', 'seed': '0', 'data_dir': 'data',
        'workdir': str(cells[2].folder)}
    (cells[0].folder / 'mended').touch()
    failed = cell_runs.run_cells(cells, tmp_path / 'sweep', command, show=False)
    assert [cell.seed for cell, _ in failed] == [1]
    assert len(entries(good / 'calls')) == 2 and len(entries(cells[0].folder.parent / 'calls')) == 4


def test_a_run_killed_while_its_report_was_drawn_is_started_again(tmp_path, entries):
    script = tmp_path / 'train.py'
    script.write_text(STAND_IN)
    cell, = sweeping.make_cells(tmp_path / 'sweep', [('f.x', ("'killed while drawing'",))], [0])

    def run():
        return cell_runs.run_cells([cell], tmp_path / 'sweep', lambda cell: sweeping.cell_command(
            cell, ['x.gin'], [], prefix=[sys.executable, str(script)]), show=False)

    assert len(run()) == 1 and (cell.folder / 'results.json').exists() and not cell.done
    assert not sweeping.collect([cell])[cell.name]
    (cell.folder / 'mended').touch()
    assert run() == [] and cell.done
    assert run() == [] and len(entries(cell.folder.parent / 'calls')) == 2


def test_a_cell_that_another_process_trains_is_waited_for(tmp_path, entries, monkeypatch, capfd):
    """Of a sweep beside this one, or of a killed one whose run goes on."""
    script = tmp_path / 'train.py'
    script.write_text(STAND_IN)
    cells = sweeping.make_cells(tmp_path / 'sweep', [], [0, 1])
    cells[0].folder.mkdir(parents=True)
    run = run_directory.RunDirectory(cells[0].folder)
    run._take_lock()
    looks, pause = [], cell_runs.time.sleep

    def sleep(seconds):  # the other's run ends while this one waits
        if seconds != cell_runs.WAIT:  # between two looks at a process of this sweep's own
            pause(seconds)
            return
        looks.append(seconds)
        files.write_json(cells[0].folder / 'results.json', {'models': {}})
        (cells[0].folder / 'report.html').touch()
        run.close()

    monkeypatch.setattr(cell_runs.time, 'sleep', sleep)
    assert cell_runs.run_cells(cells, tmp_path / 'sweep', lambda cell: sweeping.cell_command(
        cell, ['x.gin'], ['f.x = 1'], prefix=[sys.executable, str(script)]), show=False) == []
    assert looks == [cell_runs.WAIT]
    assert 'another process is training it' in capfd.readouterr().out
    assert [call['seed'] for call in entries(cells[0].folder.parent / 'calls')] == ['1']


@pytest.mark.parametrize('gin_files, bindings, columns', [
    (['gin/demo_smallest.gin'], [], {'LoAd', 'control (CE)'}),
    ([], [], {'LoAd', 'control (CE)'}),
    ([], ['experiment.control = False'], {'LoAd'}),
    ([], ["experiment.method = 'cross_entropy'"], set()),
    (['gin/methods/luc.gin'], [], {'Luc', 'control (CE)'}),
    (['gin/methods/luc.gin'], ['experiment.control = False'], {'Luc'}),
    (['gin/methods/luc.gin'], ['adversarial_stage.only_control = True'], {'control (CE)'})])
def test_a_run_is_done_when_it_has_every_model_asked_for(gin_files, bindings, columns, tmp_path):
    cell, = sweeping.check(sweeping.make_cells(tmp_path, [], [0]), gin_files, bindings)
    assert set(cell.columns) == columns
    make_done(cell, {'Stage 1': 0.5, **dict.fromkeys(columns, 0.6)})
    assert cell.done
    for column in columns:
        files.write_json(cell.folder / 'results.json', {'models': dict.fromkeys(
            {'Stage 1', *columns} - {column}, {})})
        assert not cell.done, column


def test_a_cells_own_axis_may_switch_the_control(tmp_path):
    axes = [sweeping.parse_axis('experiment.control=True,False')]
    cells = sweeping.check(sweeping.make_cells(tmp_path, axes, [0]), ['gin/demo_smallest.gin'], [])
    for cell in cells:
        make_done(cell, {'Stage 1': 0.5, 'LoAd': 0.6})
    assert [cell.done for cell in cells] == [False, True]


def test_a_run_of_no_propagation_has_no_control_to_wait_for(tmp_path):
    cell, = sweeping.check(sweeping.make_cells(tmp_path, [], [0]), ['gin/demo_smallest.gin'], [])
    make_done(cell, {'Stage 1': 0.5, 'LoAd': 0.5})
    (cell.folder / 'lookahead').mkdir()
    for propagations, done in ((3, False), (0, True)):
        files.write_json(cell.folder / 'lookahead' / 'state.json',
                         {'controller': {'propagations': propagations}})
        assert cell.done is done


def test_bf_and_its_sigma_are_tabled(tmp_path):
    cells = sweeping.make_cells(tmp_path, [], [0, 1])
    for cell in cells:
        make_done(cell, {})
        files.write_json(cell.folder / 'results.json', {'models': {'Luc': {
            'holdout': {'miou': 0.5}, 'test': {'miou': 0.5, 'boundary': {
                'mean': 0.47, 'std': 0.21 + 0.02 * cell.seed}}}}})
    for measure, value in (('boundary', '47.00 ± 0.00'), ('boundary_std', '22.00 ± 1.41')):
        table = sweep_table.table(sweeping.collect(cells), *tabled_measures.parse_measures([measure]))
        assert [row[3].value for row in table.rows] == ['–', value]


def test_the_table_pairs_runs_of_one_seed(tmp_path):
    cells = sweeping.make_cells(tmp_path, [('f.x', ('1', '2', '3'))], [0, 1, 2])
    load, control = [0.60, 0.62, 0.67], [0.59, 0.60, 0.62]
    for cell, a, b in zip(cells[:3], load, control):
        make_done(cell, {'Stage 1': 0.5, 'control (CE)': b, 'LoAd': a})
    make_done(cells[3], {'Stage 1': 0.5, 'LoAd': 0.55})
    table = sweep_table.table(sweeping.collect(cells))
    rows = {(row[0].value, row[1].value): [cell.value for cell in row[2:]] for row in table.rows}
    differences = [100 * (a - b) for a, b in zip(load, control)]
    mean, half = statistics.fmean(differences), 4.302653 * statistics.stdev(
        differences) / math.sqrt(3)
    assert rows['f.x=1', 'test'] == ['3', '50.00 ± 0.00', '60.33 ± 1.53', '63.00 ± 3.61']
    assert rows['f.x=2', 'holdout'] == ['1', '50.00', '–', '55.00']
    assert rows['f.x=3', 'test'] == ['0', '–', '–', '–']
    gains = {row[:4]: row[5] for row in map(tuple, sweep_table.differences(
        sweep_table.compared(sweeping.collect(cells))).texts())}
    assert gains['f.x=1', 'LoAd', 'control (CE)', 'test'] == (
        f'{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]')
    assert gains['f.x=1', 'LoAd', 'Stage 1', 'test'] == '+13.00 [+4.04, +21.96]'
    assert gains['f.x=2', 'LoAd', 'Stage 1', 'holdout'] == '+5.00 –'
    assert ('f.x=2', 'LoAd', 'control (CE)', 'test') not in gains
    assert 'f.x=2' in tables.to_csv(table)


def test_dry_run_lists_the_commands_and_runs_nothing(call, tmp_path, capsys):
    call('sweep', GIN, f'--workdir={tmp_path}/s', '--grid=lookahead.balance=0.5,1', '--seeds=0,1',
         '--dry_run')
    *lines, total = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and all(line.startswith('to run ') for line in lines[::2])
    assert lines[1::2] == ['        and the same with seed 1'] * 2
    assert total.startswith('4 runs, 4 to run; ')
    assert "'--gin_param=lookahead.balance = 0.5' --seed=0" in lines[0]
    assert 'train.py --gin_file=gin/demo_smallest.gin' in lines[0]
    assert not (tmp_path / 's').exists()


def test_a_finished_sweep_prints_its_table(call, tmp_path, capsys):
    for cell in sweeping.make_cells(tmp_path, [], [0, 1]):
        make_done(cell, {'Stage 1': 0.5, 'control (CE)': 0.51, 'LoAd': 0.52 + 0.01 * cell.seed})
    call('sweep', GIN, f'--workdir={tmp_path}', '--seeds=0,1')
    assert '+1.50 [-4.85, +7.85]' in capsys.readouterr().out
    assert '52.50 ± 0.71' in (tmp_path / 'sweep.csv').read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'as_given', 'cells.jsonl', 'logs', 'sweep.csv', 'sweep.png', 'sweep_differences.csv']


def test_a_grids_cells_are_held_against_the_first_on_paper_too(call, tmp_path, capsys):
    axes = [sweeping.parse_axis('lookahead.balance=0.5,1')]
    for cell, score in zip(sweeping.make_cells(tmp_path, axes, [0, 1]), (0.5, 0.7, 0.52, 0.73)):
        make_done(cell, {'Stage 1': 0.5, 'control (CE)': 0.5, 'LoAd': score})
    call('sweep', GIN, f'--workdir={tmp_path}', '--grid=lookahead.balance=0.5,1', '--seeds=0,1',
         '--measures=miou,fwiou')
    interval = '+2.50 [-3.85, +8.85]'
    text = capsys.readouterr().out
    assert interval in text and 'lookahead.balance=0.5: LoAd' in text
    names = {path.name for path in tmp_path.glob('*.csv')}
    assert names == {'sweep.csv', 'sweep_differences.csv', 'sweep_fwiou.csv'}  # none has that
    assert interval in (tmp_path / 'sweep_differences.csv').read_text()


def test_mistakes_are_told_before_anything_runs(call, tmp_path):
    out = f'--workdir={tmp_path}/s'
    for words, text in (
            ([out], 'add --gin_file'),
            ([GIN], 'add --workdir'),
            ([GIN, out, '--grid=lookahead.balnce=1'], 'Did you mean "balance"?'),
            ([GIN, out, '--grid=lookahed.balance=1'], 'no configurable is called "lookahed"'),
            (['--gin_file=gin/dmeo.gin', out], 'no such gin file. Did you mean'),
            ([GIN, out, '--seeds=x'], '--seeds=x: expected whole numbers')):
        with pytest.raises(UserError) as caught:
            call('sweep', *words)
        assert text in str(caught.value) and '\n' not in str(caught.value)
    assert not (tmp_path / 's').exists()


def test_without_ray_a_line_says_how_to_get_it(call, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    words = ['sweep', GIN, f'--workdir={tmp_path}/s']
    with pytest.raises(UserError, match=r"no package ray here; python -m pip install 'ray'"):
        call(*words, '--on=ray')
    with pytest.raises(UserError, match='--cell_cpus, --cell_gpus: for --on=ray alone'):
        call(*words, '--cell_gpus=1', '--cell_cpus=2')
    assert not (tmp_path / 's').exists()


def test_a_cell_of_another_configuration_is_refused(made_run, tmp_path):
    cells = sweeping.make_cells(tmp_path, [], [4])
    shutil.copytree(made_run.path, cells[0].folder)
    with pytest.raises(UserError, match='seed4: was made with another configuration: .*seed'):
        sweeping.check(cells, [], made_run.gin)
    configuration.parse([], [])
    assert json.loads((cells[0].folder / 'results.json').read_text())['seed'] == 0


def test_averaged_weights_are_compared_with_averaged_ones(tmp_path):
    cells = sweeping.make_cells(tmp_path, [], [0, 1])
    for cell in cells:
        make_done(cell, {'Stage 1': 0.1, 'control (CE)': 0.50, 'control (CE) + SWA': 0.52,
                         'Durall': 0.53, 'Durall + SWA': 0.54})
    shown = {(row[1], row[2]): row[5]
             for row in sweep_table.differences(
                 sweep_table.compared(sweeping.collect(cells))).texts()}
    assert shown['Durall + SWA', 'control (CE) + SWA'].startswith('+2.00')
    assert shown['Durall', 'control (CE)'].startswith('+3.00')
    assert shown['control (CE) + SWA', 'control (CE)'].startswith('+2.00')
    assert shown['Durall + SWA', 'Durall'].startswith('+1.00')
    assert ('Durall + SWA', 'control (CE)') not in shown
    for cell in cells:  # a start of random weights is no model to compare with
        results = files.read_json(cell.folder / 'results.json')
        files.write_json(cell.folder / 'results.json', {**results, 'starts_random': True})
    table = sweep_table.table(sweeping.collect(cells))
    assert 'Stage 1' not in table.header


LUC = ['gin/methods/luc.gin']


def test_a_cell_takes_the_control_of_the_first_that_trains_the_same(tmp_path):
    axes = [sweeping.parse_axis('luc.adversarial_weight=1.0,2.0'),
            sweeping.parse_axis('segmentor_optimizer.learning_rate=0.1,0.01')]
    cells = sweeping.check(sweeping.make_cells(tmp_path, axes, [0, 1]), LUC, [])
    assert [cell.control_from for cell in cells] == [None] * 4 + [
        cell.folder for cell in cells[:4]]  # the same rate and seed, lambda 1
    later = cells[7]
    assert not any('control_from' in word for word in sweeping.cell_command(later, [], []))
    later.control_from.mkdir(parents=True)
    (later.control_from / 'config.gin').touch()  # it was begun
    assert f"--gin_param=experiment.control_from = '{cells[3].folder}'" in sweeping.cell_command(
        later, [], [])


@pytest.mark.parametrize('gin_files, axis, sources', [
    (['gin/demo_smallest.gin'], 'lookahead.balance=0.5,1', [None, None]),  # as many steps as LoAd's
    (['gin/methods/zhu.gin'], 'zhu_gan.form=gan,wgan', [None, 0]),
    (LUC, "experiment.method='cross_entropy',luc,durall", [None, None, None]),
    # The first has no control, the third takes the second's.
    (LUC, 'experiment.control=False,True', [None, None]),
    (LUC, 'luc.adversarial_weight=1,2,3', [None, 0, 0]),
    (LUC, 'luc.adversarial_weight=1,2', [None, 0]),
    (LUC, 'adversarial_stage.only_control=True,False', [None, 0]),
    (LUC, 'luc.upsample_logits=True,False', [None, None])])
def test_which_cells_have_a_source(gin_files, axis, sources, tmp_path):
    cells = sweeping.check(sweeping.make_cells(tmp_path, [sweeping.parse_axis(axis)], [0]),
                           gin_files, [])
    assert [cell.control_from for cell in cells] == [
        None if number is None else cells[number].folder for number in sources]


def test_a_cell_without_a_control_is_no_source_and_needs_none(tmp_path):
    axes = [sweeping.parse_axis('experiment.control=False,True'),
            sweeping.parse_axis('luc.adversarial_weight=1,2')]
    cells = sweeping.check(sweeping.make_cells(tmp_path, axes, [0]), LUC, [])
    assert [cell.control_from for cell in cells] == [None, None, None, cells[2].folder]


def test_cells_may_be_named_and_depend_on_the_seed(tmp_path, call, capsys):
    words = [GIN, f'--workdir={tmp_path}/s', '--seeds=1,2',
             "--gin_param=dataset.options={'num_train': 8, 'seed': {seed}}", '--cell=LoAd:',
             "--cell=null: lookahead.null = 'shuffled'; experiment.control = False", '--dry_run']
    call('sweep', *words)
    first, others, null, _, _ = capsys.readouterr().out.splitlines()
    assert "--gin_param=dataset.options={'num_train': 8, 'seed': 1}" in shlex.split(first)
    assert 'shuffled' in null and 'shuffled' not in first and others.endswith('with seed 2')
    cell = sweeping.named_cells(f'{tmp_path}/s', [sweeping.parse_cell('null:')], [1, 2])[1]
    command = sweeping.cell_command(cell, [], ["dataset.options={'num_train': 8, 'seed': {seed}}"])
    assert f'--workdir={tmp_path}/s/null/seed2' in command
    assert "--gin_param=dataset.options={'num_train': 8, 'seed': 2}" in command
    for extra, text in (('--grid=lookahead.balance=1,2', 'give one of the two'),
                        ('--cell=LoAd:', 'LoAd is given twice'),
                        ('--against=lod', 'Did you mean "LoAd"'),
                        ('--claim=lod=1.4', 'Did you mean "LoAd"'),
                        ('--chart=x.svg', 'expected a PNG file'),
                        ('--cell=no bindings', 'expected NAME: BINDING'),
                        ('--cell=x: lookahead.balance', 'expected NAME: BINDING'),
                        ('--cell=x: lookahead.balnce=1', 'Did you mean "balance"')):
        with pytest.raises(UserError, match=text):
            call('sweep', *words, extra)


def test_each_seed_may_start_from_weights_of_its_own(tmp_path):
    cells = sweeping.check(sweeping.make_cells(tmp_path, [], [0, 7]), LUC, [],
                           checkpoint='runs/first/seed{seed}')
    words = [sweeping.cell_command(cell, LUC, [], checkpoint='runs/first/seed{seed}')
             for cell in cells]
    assert [w[-1] for w in words] == [f'--checkpoint=runs/first/seed{seed}' for seed in (0, 7)]
    assert sweeping.of_seed('weights.tflite', 7) == 'weights.tflite'


def test_each_seed_may_have_a_gan_of_its_own(tmp_path):
    given = ["reconstruction_stage.source = 'gans/{form}/seed{seed}'"]
    cells = sweeping.make_cells(tmp_path, [sweeping.parse_axis('zhu_gan.form=gan,wgan')], [0, 7])
    for cell in sweeping.check(cells, ['gin/methods/zhu.gin'], given):
        source = f"reconstruction_stage.source = 'gans/{{form}}/seed{cell.seed}'"
        assert f'--gin_param={source}' in sweeping.cell_command(cell, [], given)
