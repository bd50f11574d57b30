"""tools/sweep.py --runs: finished runs tabled, cell by cell, and kept in one file."""

from finished_cells import make_done
from PIL import Image
import pytest

from tf_advseg.core import configuration
from tf_advseg.core import files
from tf_advseg.core.errors import UserError
from tf_advseg.experiments.studies import finished_runs
from tf_advseg.experiments.studies import sweeping

GIN = '--gin_file=gin/demo_smallest.gin'


def test_finished_runs_are_tabled_without_a_grid(tmp_path, call, capsys):
    cells = sweeping.make_cells(tmp_path, [], [0, 1, 2])
    for cell in cells:
        make_done(cell, {'Stage 1': 0.5, 'control (CE)': 0.5, 'Luc': 0.5 + 0.01 * cell.seed})
        results = files.read_json(cell.folder / 'results.json')
        files.write_json(cell.folder / 'results.json', {
            **results, 'dataset': 'shapes', 'subject': 'Luc', 'seed': cell.seed})
    words = [f'--runs={cell.folder}' for cell in cells]
    call('sweep', *words)
    assert '+1.00 [-1.48, +3.48]' in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ['as_given']
    for change, text in (({'seed': 0}, 'seed 0 is there twice'),
                         ({'dataset': 'voc'}, 'give runs of one kind')):
        last = cells[2].folder / 'results.json'
        files.write_json(last, {**files.read_json(last), **change})
        with pytest.raises(UserError, match=text):
            finished_runs.collect({'all': [cell.folder for cell in cells]})
    (cells[1].folder / 'results.json').unlink()
    with pytest.raises(UserError, match='not a finished run'):
        finished_runs.collect({'all': [cell.folder for cell in cells]})


def test_runs_of_several_cells_are_named_by_patterns(tmp_path, call, capsys):
    """LoAd and a null from one start: the same method, the same seeds, another setting."""
    for null, shift in (('load', 0.02), ('shuffled', 0.01)):
        for seed in (1, 2, 10):
            folder = tmp_path / f'{null}_seed{seed}'
            folder.mkdir()
            files.write_json(folder / 'results.json', {
                'dataset': 'shapes', 'subject': 'LoAd', 'seed': seed,
                'models': {'LoAd': {'test': {'miou': 0.5 + shift * seed}}}})
    assert [path.name for path in finished_runs.parse([f'a={tmp_path}/load_seed*'])['a']] == [
        'load_seed1', 'load_seed2', 'load_seed10']
    call('sweep', f'--runs=LoAd={tmp_path}/load_seed*', f'--runs=null={tmp_path}/shuffled_seed*',
         '--against=null')
    row, = (line for line in capsys.readouterr().out.splitlines() if 'null: LoAd' in line)
    assert row.split()[:2] == ['LoAd', 'LoAd'] and '+4.33 [' in row and ' 3 ' in row
    with pytest.raises(UserError, match='nothing is called .*x_'):
        call('sweep', f'--runs=LoAd={tmp_path}/x_*')
    files.write_json(folder / 'results.json', {'dataset': 'shapes', 'subject': 'Luc', 'seed': 3,
                                               'models': {}})
    with pytest.raises(UserError, match='shuffled_seed10: Luc on shapes, but .* is LoAd'):
        finished_runs.collect(finished_runs.parse([f'a={tmp_path}/shuffled_seed*']))


@pytest.mark.parametrize('change', [
    {'models': []}, {'models': {'LoAd': []}}, {'models': {'LoAd': {'test': {'miou': 'high'}}}},
    {'models': {'LoAd': {'test': {'miou': 1e308}}}}, {'models': {}, 'subject': None},
    {'seed': None}, {'seed': []}, {'subject': 3}, {'dataset': ['shapes']}])
def test_results_of_another_form_are_named(tmp_path, call, change):
    files.write_json(tmp_path / 'results.json', {
        'dataset': 'shapes', 'subject': 'LoAd', 'seed': 0,
        'models': {'LoAd': {'test': {'miou': 0.5}}}, **change})
    with pytest.raises(UserError, match='results.json: does not hold what it should'):
        call('sweep', f'--runs={tmp_path}')


@pytest.mark.parametrize('line', ['[]', '{"cell": "a", "seed": 0, "subject": "b", "dataset": "c", '
                                  '"models": {"b": {"test": {"miou": "high"}}}}'])
def test_kept_runs_of_another_form_are_named(tmp_path, call, line):
    (tmp_path / 'kept.jsonl').write_text(line + '\n')
    with pytest.raises(UserError, match='kept.jsonl: line 1 is no run'):
        call('sweep', f'--runs={tmp_path}/kept.jsonl')


def test_runs_take_no_flag_of_a_training(tmp_path, call):
    cell, = sweeping.make_cells(tmp_path, [], [0])
    make_done(cell, {'Stage 1': 0.5, 'Luc': 0.6})
    for word in ('--workdir=runs/x', GIN, '--gin_param=luc.saturating = True', '--data_dir=x',
                 '--checkpoint=x', '--strategy=mirrored', '--dry_run', '--grid=a.b=1',
                 '--seeds=0', '--seeds=0,1'):
        with pytest.raises(UserError) as caught:
            call('sweep', f'--runs={cell.folder}', word)
        assert str(caught.value) == ('--runs tables finished runs and trains nothing: leave out '
                                     + word.partition('=')[0])
    with pytest.raises(UserError, match='leave out --workdir, --seeds$'):
        call('sweep', f'--runs={cell.folder}', '--seeds=1', '--workdir=x')


def test_runs_of_other_settings_are_told_apart_from_other_draws(tmp_path, call, capsys):
    cells = sweeping.make_cells(tmp_path, [], [0, 1, 2])
    configs = ['', "experiment.checkpoint = 'b'\nexperiment.data_dir = 'd'\n",
               'luc.adversarial_weight = 1.0\nswa.every = 7\na.b.c = 1\nd.e = 2\n']
    for cell, config in zip(cells, configs):
        make_done(cell, {'Stage 1': 0.5, 'Luc': 0.6})
        (cell.folder / 'config.gin').write_text(f'experiment.seed = {cell.seed}\n{config}')
        results = files.read_json(cell.folder / 'results.json')
        files.write_json(cell.folder / 'results.json', {**results, 'seed': cell.seed})
    folders = [cell.folder for cell in cells]
    call('sweep', *(f'--runs={folder}' for folder in folders))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        'not one configuration made these runs: '
        f'b.c was not set, now 1 in {folders[2]}; d.e was not set, now 2 in {folders[2]}; '
        f'luc.adversarial_weight was not set, now 1.0 in {folders[2]}; and 1 more')
    assert lines[1].startswith('mIoU in percent')
    assert finished_runs.configurations_note(folders[:2]) == ''
    (cells[1].folder / 'config.gin').unlink()
    assert finished_runs.configurations_note(folders[:2]) == ''


def test_pairs_of_other_settings_or_images_are_named(tmp_path):
    for cell, null in (('load', 'None'), ('null', "'shuffled'")):
        for seed in (1, 2):
            folder = tmp_path / f'{cell}{seed}'
            folder.mkdir()
            files.write_json(folder / 'results.json', {
                'seed': seed, 'dataset': 'shapes', 'subject': 'LoAd', 'models': {}})
            (folder / 'config.gin').write_text(
                f"lookahead.null = {null}\nexperiment.seed = {seed}\n"
                f"dataset.options = {{'seed': {seed}}}\n")
            files.write_json(folder / 'split.json', {'test': ['a', 'b'][:seed]})
    groups = finished_runs.parse([f'LoAd={tmp_path}/load*', f'null={tmp_path}/null*'])
    assert finished_runs.pairing_notes(groups) == ['null differs from LoAd in: lookahead.null']
    (tmp_path / 'null2' / 'split.json').write_text('{}')
    assert finished_runs.pairing_notes(groups)[1] == (
        'null has other images than LoAd in its splits, of seeds 2: no pairs')
    assert finished_runs.pairing_notes({'LoAd': groups['LoAd']}) == []


def test_what_is_tabled_can_be_kept_in_one_file(tmp_path, call, capsys):
    # The second is of an earlier version.
    for seed, score, key in ((1, 0.51, 'per_image'), (2, 0.53, 'per_picture')):
        (tmp_path / f'a{seed}').mkdir()
        files.write_json(tmp_path / f'a{seed}' / 'results.json', {
            'dataset': 'shapes', 'subject': 'LoAd', 'seed': seed, 'models': {
                name: {'test': {'miou': value, 'components': {
                    'spurious': {key: 2.0}, 'missed': {key: 1.0}}}}
                for name, value in (('control (CE)', 0.5), ('LoAd', score))}})
    kept = tmp_path / 'kept.jsonl'
    words = ['--measures=miou,components']
    call('sweep', f'--runs=mine={tmp_path}/a*', f'--keep={kept}', *words)
    first = capsys.readouterr().out
    call('sweep', f'--runs={kept}', *words)
    assert capsys.readouterr().out == first
    chart = tmp_path / 'chart.png'
    call('sweep', f'--runs={kept}', f'--chart={chart}', *words)
    with Image.open(chart) as drawn:
        assert drawn.format == 'PNG' and drawn.width > 500
    plain = chart.read_bytes()
    call('sweep', f'--runs={kept}', f'--chart={chart}', '--claim=mine=1.4', *words)
    assert chart.read_bytes() != plain
    with pytest.raises(UserError, match='unknown --claim'):
        call('sweep', f'--runs={kept}', '--claim=LoAd=1.4')
    with pytest.raises(UserError, match='nothing to draw'):
        call('sweep', f'--runs={tmp_path}/a1', f'--chart={chart}')
    assert '+2.00 [-10.71, +14.71]' in first and 'regions an image' in first
    assert len(kept.read_text().splitlines()) == 2
    with pytest.raises(UserError, match='seed 1 is there twice'):
        call('sweep', f'--runs={kept}', f'--runs=mine={tmp_path}/a1')
    kept.write_text('{}\n')
    with pytest.raises(UserError, match='kept.jsonl: line 1 is no run'):
        call('sweep', f'--runs={kept}')


def test_a_sweep_keeps_its_runs_under_the_names_of_its_cells(tmp_path, call, capsys):
    """So that they are tabled, and put into documents, without naming its folders again."""
    named = [sweeping.parse_cell(text) for text in ('a, as printed:', 'b:')]
    for cell in sweeping.named_cells(tmp_path / 's', named, [0, 1]):
        make_done(cell, {'Stage 1': 0.5, 'control (CE)': 0.51,
                         'LoAd': 0.52 + 0.01 * cell.seed * len(cell.name)})
    words = [GIN, f'--workdir={tmp_path}/s', '--seeds=0,1', '--cell=a, as printed:', '--cell=b:']
    call('sweep', *words, '--against=b')
    line, = (line for line in capsys.readouterr().out.splitlines()
             if 'b: LoAd' in line and ' test' in line)
    assert (tmp_path / 's' / 'cells.jsonl').read_text().count('"cell": "a, as printed"') == 2
    call('sweep', f'--runs={tmp_path}/s/cells.jsonl', '--against=b')
    assert line in capsys.readouterr().out.splitlines()
    call('sweep', f'--runs={tmp_path}/s/cells.jsonl', '--against=a, as printed')
    assert 'a, as printed: LoAd' in capsys.readouterr().out
    call('sweep', *words, f'--keep={tmp_path}/mine.jsonl')
    assert (tmp_path / 'mine.jsonl').read_text() == (tmp_path / 's' / 'cells.jsonl').read_text()


def test_the_docs_say_of_the_paired_cells_what_the_command_prints(call, capsys):
    root = configuration.gin_root().parent
    kept = root / 'docs' / 'numbers' / 'load_cells' / 'cells.jsonl'
    if not kept.is_file():
        pytest.skip('an installed package has no docs/')
    call('sweep', f'--runs={kept}', '--against=shuffled,random', '--measures=miou,components')
    printed = [line.split('  ') for line in capsys.readouterr().out.splitlines()]
    found = [next(cell.strip() for cell in line if '[' in cell) for line in printed
             if line[0] == 'LoAd' and ' test' in line and any('[' in cell for cell in line)]
    assert len(found) == 8
    for page in ('docs/results.md', 'docs/numbers/load_cells/README.md'):
        text = (root / page).read_text(encoding='utf-8')
        for less in ('control', 'shuffled', 'random'):
            line, = (line for line in text.splitlines()
                     if line.startswith('| LoAd − ') and less in line.split('|')[1])
            assert sum(interval in line for interval in set(found)) == 2, line
