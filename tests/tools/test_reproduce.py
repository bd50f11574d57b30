"""tools/reproduce.py: every command is one its tool takes; what it gives is found again."""
import fnmatch
import itertools
import json
import pathlib
import re
import subprocess
import sys
import time

from logged_runs import make_run
import pytest

from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.experiments import recipe_registry as recipes
from tf_advseg.experiments.studies import papers
from tf_advseg.experiments.studies import reproducing
from tf_advseg.experiments.studies import sweeping
from tf_advseg.experiments.studies.papers import entry as entries
from tf_advseg.experiments.studies.papers import needs
from tf_advseg.experiments.train import idle_settings

WORK = '/work folder'
EVERYTHING = {(kind, name): f'/{kind}/{name}' for kind, found in needs.NEEDS.items()
              for name in found}
WAYS = [(f'{paper.name}-{entry.kind}{entry.number}-{name}', way)
        for paper in papers.PAPERS.values() for entry in paper.entries
        for name, way in entry.ways().items()]
_MADE = {}  # the same command stands in many ways
COMMANDS = sorted({tuple(words) for _, way in WAYS for words in
                   reproducing.commands(way, reproducing.Place(WORK, EVERYTHING))})


def cells_of(values):
    """The cells of a sweep's flags; of a run of `train` the one that it is."""
    folder = pathlib.Path(values['workdir'])
    if 'seeds' not in values:
        return [sweeping.Cell((), values['seed'], folder)]
    seeds = sweeping.parse_seeds(values['seeds'])
    if values['cell']:
        return sweeping.named_cells(folder, list(map(sweeping.parse_cell, values['cell'])), seeds)
    return sweeping.make_cells(folder, list(map(sweeping.parse_axis, values['grid'])), seeds)


def checked(values):
    """`cells_of`, with what each makes, once gin has taken every setting."""
    return sweeping.check(cells_of(values), values['gin_file'], values['gin_param'],
                          values['data_dir'], values['checkpoint'])


@pytest.mark.parametrize('words', COMMANDS, ids=[
    f'{number}-{words[0]}' for number, words in enumerate(COMMANDS)])
def test_a_tool_takes_the_command(words, parse_words):
    """Its flags exist; every gin file does, and every setting is known and has an effect."""
    values, rest = parse_words(*words)
    assert rest == []
    if words[0] not in ('train', 'sweep'):
        assert values['output'] or values['checkpoint']
        return
    assert values['gin_file'] and values['workdir'].startswith(WORK)
    for cell in checked(values):
        configuration.parse(values['gin_file'], [
            *(sweeping.of_seed(text, cell.seed) for text in values['gin_param']), *cell.bindings])
        method = configuration.bound('experiment.method') or 'load'
        assert idle_settings.of_other_methods(recipes.find(method)) == {}


def made_by(values, tool):
    """{folder: columns of its results}: what a command writes, below the work folder."""
    if tool in ('train', 'sweep'):
        return {str(cell.folder): {*cell.columns, entries.STAGE1} for cell in checked(values)}
    return {values['output']: set()} if values['output'] else {}


@pytest.mark.parametrize('name, way', WAYS, ids=[name for name, _ in WAYS])
def test_what_is_read_was_made_before(name, way, parse_words):
    """Starting weights, rows and figures are those of runs that the way's own commands make."""
    del name
    place, made, swept = reproducing.Place(WORK, EVERYTHING), {}, set()
    for words in reproducing.commands(way, place):
        values, _ = parse_words(*words)
        read = [values[flag] for flag in ('checkpoint', 'data_dir', 'source', 'input', 'compare')
                if values.get(flag)]
        for path in itertools.chain(*([one] if isinstance(one, str) else one for one in read)):
            if path.startswith(WORK) and not path.endswith('voc_test_images'):
                path = path.replace('{seed}', '0')
                assert any(path == folder or path.startswith(f'{folder}/') for folder in made), path
        if words[0] == 'sweep':
            swept.add(values['workdir'])
        if tuple(words) not in _MADE:
            _MADE[tuple(words)] = made_by(values, words[0])
        made.update(_MADE[tuple(words)])
    for label, sources in way.rows:
        for source in filter(None, sources):
            folders = fnmatch.filter(made, f'{WORK}/{source.runs}')
            assert folders, (label, source)
            for folder in folders:
                assert source.column.replace(' + SWA', '') in made[folder], (label, source)
    for pattern in way.chart.runs() if way.chart else ():
        assert fnmatch.filter(made, f'{WORK}/{pattern}'), pattern
    for pattern in way.files:
        folder = f'{WORK}/{pattern}'.rsplit('/', 1)[0]
        folder = folder[:-len('/figures')] if folder.endswith('/figures') else folder
        assert fnmatch.filter([*made, *swept], folder), pattern


@pytest.mark.parametrize('words', [words for words in COMMANDS if words[0] == 'sweep' and any(
    'papers/zhu' in word and 'mobilenet' in word for word in words)])
def test_every_seed_has_a_gan_of_its_own(words, parse_words):
    """Else the GAN's variance would be missing in the interval."""
    values, _ = parse_words(*words)
    if 'experiment.method' in str(values['gin_param']):
        return  # Stage 1 alone
    sources = {}
    for cell in cells_of(values):
        configuration.parse(values['gin_file'], [
            *(sweeping.of_seed(text, cell.seed) for text in values['gin_param']), *cell.bindings])
        source = configuration.bound('reconstruction_stage.source')
        sources[cell.folder] = source or cell.folder
    assert len(sources) == 6 and len(set(sources.values())) == 6


def entry_of(commands, **more):
    """A made-up table of two columns with a way on the paper's data and one here."""
    ours = entries.Way(commands, (('control', (entries.Source('run*', entries.CONTROL),)),
                                  ('extra', (entries.Source('run*', 'Luc'), None))),
                       files=('run*/figures/panel.png',))
    return entries.Entry('table', '1', 'a table', ('mIoU', 'IoU, sky'), ('miou', 'iou/sky'),
                         (('control', (50.0, None)), ('other', (61.25, 7))),
                         entries.Way(('train --data_dir=<data:ade20k>',)), ours, **more)


# A stand-in for a tool: fails where no file 'mended' is, else notes its words and writes results.
STAND_IN = '''
import json, pathlib, sys
words = dict(word[2:].split("=", 1) for word in sys.argv[1:])
folder = pathlib.Path(words["workdir"])
with open(folder.parent / "calls", "a") as file:
    file.write(folder.name + "\\\\n")
if words.get("data_dir") == "broken" and not (folder.parent / "mended").exists():
    raise SystemExit(3)
(folder / "figures").mkdir(parents=True)
(folder / "figures" / "panel.png").touch()
score = float(words["score"])
scores = {"miou": score, "class_iou": {"sky": score / 2}}
(folder / "results.json").write_text(json.dumps({"models": {
    "control (CE)": {"test": scores}, "Luc": {"test": {"miou": 0.9}}}}))
'''


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    script = tmp_path / 'stand_in.py'
    script.write_text(STAND_IN.replace('\\\\n', '\\n'))
    monkeypatch.setattr(reproducing, '_program', lambda tool: [sys.executable, str(script)])
    return tmp_path / 'work'


def test_commands_run_in_order_and_ours_stand_beside_the_papers(stand_in):
    entry = entry_of(('train --workdir=<work>/run0 --score=0.5',
                      'train --workdir=<work>/run1 --score=0.6'))
    place = reproducing.Place(str(stand_in))
    said = []
    reproducing.run(entry.here, place, said.append)
    assert (stand_in / 'calls').read_text().split() == ['run0', 'run1']
    assert len(said) == 2 and said[1].startswith('[2/2] python tools/train.py')
    texts = reproducing.comparison(entry, 'here', entry.here, place).texts()
    assert texts == [
        ['', 'mIoU', 'IoU, sky'],
        ["control (the paper's)", '50.00', '–'],
        ['control (here)', '55.00 ± 7.07 (2 runs)', '27.50 ± 3.54 (2 runs)'],
        ["other (the paper's)", '61.25', '7'],
        ['extra (here)', '90.00 ± 0.00 (2 runs)', '–']]
    assert reproducing.made_files(entry.here, place) == [
        str(stand_in / f'run{number}' / 'figures' / 'panel.png') for number in (0, 1)]


def test_a_trial_has_the_users_file_last_and_says_so(stand_in, call):
    """In every training and in no other tool; in a folder of its own."""
    entry = entry_of(('train --gin_file=a.gin --workdir=<work>/run0 --score=0.5',
                      'evaluate --checkpoint=<work>/run0'))
    place = reproducing.Place(str(stand_in), gin_files=('my.gin', 'more.gin'))
    train, evaluate = reproducing.commands(entry.here, place)
    assert [word for word in train if 'gin' in word] == [
        '--gin_file=a.gin', '--gin_file=my.gin', '--gin_file=more.gin']
    assert evaluate == ['evaluate', f'--checkpoint={stand_in}/run0']
    assert reproducing.comparison(entry, 'here', entry.here, place).title.endswith(
        'with my.gin, more.gin')
    with pytest.raises(UserError, match='add a --workdir of their own') as caught:
        call('reproduce', '--paper=luc', '--table=1', '--gin_file=my.gin')
    assert '\n' not in str(caught.value)


def test_a_failure_ends_it_and_the_same_call_goes_on(stand_in):
    way = entry_of(('train --workdir=<work>/run0 --score=0.5 --data_dir=broken',
                    'train --workdir=<work>/run1 --score=0.6')).here
    place = reproducing.Place(str(stand_in))
    with pytest.raises(UserError, match='command 1 of 2 .train. ended with exit code 3'):
        reproducing.run(way, place, str)
    assert (stand_in / 'calls').read_text().split() == ['run0']
    (stand_in / 'mended').touch()
    reproducing.run(way, place, str)
    assert (stand_in / 'calls').read_text().split() == ['run0', 'run0', 'run1']


# A tool that notes its end, and a program that runs it and takes SIGTERM as Ctrl-C.
SLEEPER = '''
import pathlib, signal, sys, time
def end(*_):
    pathlib.Path("ended").touch()
    raise SystemExit(143)
signal.signal(signal.SIGTERM, end)
pathlib.Path("begun").touch()
time.sleep(120)
'''
CALLER = '''
import signal, sys
from tf_advseg.experiments.studies import reproducing
def interrupt(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGTERM, interrupt)
reproducing._PATIENCE = 0.1
reproducing._call([sys.executable, "sleeper.py"])
'''


def test_an_interrupt_ends_the_tool_too(tmp_path):
    (tmp_path / 'sleeper.py').write_text(SLEEPER)
    (tmp_path / 'caller.py').write_text(CALLER)
    caller = subprocess.Popen([sys.executable, 'caller.py'], cwd=tmp_path, stderr=subprocess.PIPE)
    until = time.monotonic() + 60
    while not (tmp_path / 'begun').exists() and time.monotonic() < until:
        time.sleep(0.05)
    caller.terminate()
    assert b'KeyboardInterrupt' in caller.communicate(timeout=60)[1]
    assert (tmp_path / 'ended').exists()


def test_nothing_runs_where_something_is_missing(stand_in):
    way = entry_of(('train --workdir=<work>/run0 --score=0.5',)).paper
    with pytest.raises(UserError, match='not at hand: ade20k') as caught:
        reproducing.run(way, reproducing.Place(str(stand_in)))
    assert '\n' not in str(caught.value) and not stand_in.exists()


def test_the_way_is_the_papers_where_its_data_are_at_hand(tmp_path):
    entry = entry_of(('train --data_dir=<data:shapes>',), why='so it is')
    assert reproducing.choose(entry)[0] == 'here'
    name, way, place = reproducing.choose(entry, data_dir=f'ade20k={tmp_path}')
    assert name == 'paper' and place.of('data', 'ade20k') == str(tmp_path)
    assert reproducing.commands(way, place) == [['train', f'--data_dir={tmp_path}']]
    assert reproducing.choose(entry, 'paper')[0] == 'paper'
    for arguments, text in (((None, str(tmp_path)), 'for which'),
                            (('paper', str(tmp_path / 'none')), 'no such file'),
                            ((None, f'ade20k={tmp_path / "none"}'), 'no such file')):
        with pytest.raises(UserError, match=text) as caught:
            reproducing.choose(entry, *arguments)
        assert '\n' not in str(caught.value)


def test_missing_data_is_said_and_what_would_be_run(call, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv('TF_ADVSEG_SHARED', str(tmp_path))
    call('reproduce', '--paper=luc', '--table=2', '--on=paper', f'--workdir={tmp_path}')
    output = capsys.readouterr().out
    assert re.search(r'needs PASCAL VOC 2012 with SBD: MISSING: --data_dir', output)
    assert '--data_dir=PASCAL_VOC_2012_SBD' in output and '72.04' not in output
    assert output.count("(the paper's)") == 13 and output.count('--cell="') == 13
    assert f'nothing of it is in {tmp_path} yet: --run makes it' in output
    with pytest.raises(UserError, match='not at hand: pascal_voc_2012_sbd'):
        call('reproduce', '--paper=luc', '--table=2', '--on=paper', '--run',
             f'--workdir={tmp_path / "new"}')
    assert not (tmp_path / 'new').exists()


def test_a_time_that_nobody_measured_says_how_to_guess_it(call, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv('TF_ADVSEG_SHARED', str(tmp_path))
    call('reproduce', '--list', '--paper=luc')
    times = {line.strip() for line in capsys.readouterr().out.splitlines() if 'time: ' in line}
    assert 'time: not measured; a guess needs the data (pascal_voc_2012_sbd)' in times
    (tmp_path / 'data').mkdir()
    name = needs.NEEDS['data']['stanford_background'].shared
    (tmp_path / name).touch()
    call('reproduce', '--list', '--paper=el_gan')
    assert 'time: not measured; --estimate guesses it here' in capsys.readouterr().out


def test_an_estimate_trains_nothing(call, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv('TF_ADVSEG_SHARED', str(tmp_path / 'none'))
    words = ('reproduce', '--paper=luc', '--table=S3', '--estimate', f'--workdir={tmp_path}/new')
    call(*words)
    output = capsys.readouterr().out
    assert output.count('needs the data (pascal_voc_2012_sbd)') == 4  # three runs and "time:"
    assert output.count('trains nothing') == 3 and not list(tmp_path.iterdir())
    for more in ('--run', '--list'):
        with pytest.raises(UserError, match='leave out --list and --run'):
            call(*words, more)


def test_the_list_names_all(call, capsys):
    call('reproduce', '--list')
    output = capsys.readouterr().out
    for paper in papers.PAPERS.values():
        for entry in paper.entries:
            assert f'--paper={paper.name} --{entry.kind}={entry.number}  ' in output
    assert 'python tools/train.py' not in output and '--list --paper=luc has the' in output
    call('reproduce', '--list', '--paper=luc')
    output = capsys.readouterr().out
    assert '--paper=hung' not in output and 'python tools/train.py' in output


def test_the_list_says_what_is_at_hand_and_how_long_it_takes(call, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv('TF_ADVSEG_SHARED', str(tmp_path))

    def said():
        call('reproduce', '--list')
        lines = capsys.readouterr().out.splitlines()
        return lines[next(number for number, line in enumerate(lines)
                          if line.startswith('--paper=luc --table=1  ')) + 1].strip()

    assert said() == "on the paper's data: needs stanford_background"
    path = tmp_path / needs.NEEDS['data']['stanford_background'].shared
    path.parent.mkdir(parents=True)
    path.touch()
    assert said().startswith("on the paper's data: at hand, a run 9 to 12 minutes for the control")


@pytest.mark.parametrize('words, text', [
    ((), '--list'), (('--paper=luc',), '--list'), (('--table=1',), '--list'),
    (('--paper=luc', '--table=1', '--figure=1'), '--list'),
    (('--paper=luc', '--figure=1', '--run'), 'a drawing'),
    (('--paper=luc', '--table=1', '--on=here'), 'no such way')])
def test_a_question_that_has_no_answer_is_one_line(call, words, text):
    with pytest.raises(UserError, match=text) as caught:
        call('reproduce', *words)
    assert '\n' not in str(caught.value)


def test_a_table_is_made_from_finished_runs_alone(call, capsys, tmp_path):
    folder = tmp_path / 'luc_farabet' / 'as_given' / 'seed0'
    folder.mkdir(parents=True)
    (folder / 'results.json').write_text(json.dumps({'models': {'Luc': {'test': {'miou': 0.5}}}}))
    call('reproduce', '--paper=luc', '--table=1', f'--workdir={tmp_path}')
    output = capsys.readouterr().out
    rows = {line.split('  ')[0].strip(): line for line in output.splitlines()}
    assert 'nothing of it' not in output
    assert rows['Adversarial (here)'].endswith('50.00 (1 run)')
    assert "54.3" in rows["Adversarial (the paper's)"]


def test_a_chart_is_drawn_of_what_there_is(call, tmp_path):
    for words, text in ((('--paper=luc', '--table=S3'), 'take the table'),
                        (('--paper=durall', '--figure=8'), 'nothing to draw yet')):
        with pytest.raises(UserError, match=text):
            call('reproduce', *words, f'--workdir={tmp_path}', f'--chart={tmp_path / "a.png"}')
    with pytest.raises(UserError, match='expected a PNG'):
        call('reproduce', '--paper=luc', '--table=1', '--chart=a.svg')
    assert not list(tmp_path.iterdir())
    call('reproduce', '--paper=luc', '--table=1', f'--workdir={tmp_path}',
         f'--chart={tmp_path / "a.png"}')
    assert (tmp_path / 'a.png').read_bytes().startswith(b'\x89PNG')


def test_a_figure_of_several_runs_is_drawn_of_those_under_way(call, capsys, tmp_path):
    lines = [{'event': 'stage', 'stage': 'zhu', 'segmentor_step': step, 'loss/ce': 0.5,
              'loss/generator': 0.1} for step in range(10, 70, 10)]
    words = ('reproduce', '--paper=zhu', '--figure=9', f'--workdir={tmp_path}')
    make_run(tmp_path / 'zhu_stanford' / 'SegGAN' / 'seed0', lines)
    call(*words)
    out, path = capsys.readouterr().out, tmp_path / 'zhu_stanford_losses.png'
    assert f'gives {path}' in out and f'made: {path}' in out
    assert re.search(r'SegGAN +0.100 ± 0.000 +0.500 ± 0.000', out) and 'SegWGAN  ' not in out
    drawn = path.read_bytes()
    assert drawn.startswith(b'\x89PNG')
    call(*words, f'--chart={tmp_path / "mine.png"}')
    assert (tmp_path / 'mine.png').read_bytes() == drawn


def test_a_chart_that_has_nothing_to_show_is_no_file(call, capsys, tmp_path):
    for paper, number in (('zhu', 4), ('durall', 4), ('durall', 8)):
        call('reproduce', f'--paper={paper}', f'--figure={number}', f'--workdir={tmp_path}')
        assert 'gives ' in capsys.readouterr().out
        with pytest.raises(UserError, match=f'figure {number} has nothing to draw yet'):
            call('reproduce', f'--paper={paper}', f'--figure={number}', f'--workdir={tmp_path}',
                 f'--chart={tmp_path / "a.png"}')
    assert not list(tmp_path.iterdir())


def test_settings_and_bars_are_drawn_of_finished_runs(call, tmp_path):
    models = {name: {'test': {'miou': miou}} for name, miou in (
        ('control (CE)', 0.5), ('control (CE) + SWA', 0.52), ('Durall', 0.51),
        ('Durall + SWA', 0.53))}
    for folder in ('durall_stanford_lambda/durall.adversarial_weight=0.01/seed0',
                   'durall_stanford_start/swa.start=0.5/seed1', 'durall_resnet18/as_given/seed2'):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / 'results.json').write_text(json.dumps({'models': models}))
    for number, file in ((4, 'durall_stanford_settings.png'), (8, 'durall_resnet18_bars.png')):
        call('reproduce', '--paper=durall', f'--figure={number}', f'--workdir={tmp_path}')
        assert (tmp_path / file).read_bytes().startswith(b'\x89PNG')
    (tmp_path / folder / 'results.json').write_text('{"models": []}')
    with pytest.raises(UserError, match='results.json: does not hold') as caught:
        call('reproduce', '--paper=durall', '--figure=8', f'--workdir={tmp_path}')
    assert '\n' not in str(caught.value)


def test_what_the_other_way_lacks_is_said(call, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv('TF_ADVSEG_SHARED', str(tmp_path))
    call('reproduce', '--paper=durall', '--table=3', f'--workdir={tmp_path}')
    assert "the paper's data; not at hand: segtrack_v2, resnet101_imagenet)" in (
        capsys.readouterr().out)
