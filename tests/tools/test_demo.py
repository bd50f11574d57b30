"""tools/demo.py: its progress, what it leaves to try, and what happens when it is started again."""
import io
import json
import pathlib
import re
import shlex
import subprocess
import sys
import time

import numpy as np
import pytest

from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.data import readers
from tf_advseg.experiments.train import demo_forecast
from tf_advseg.experiments.train import demonstration


class Steps:
    """An overview that goes on by a tenth a look and measures from its second look on."""

    def __init__(self, begun=0.0):
        self.done, self.looks = begun, 0

    def look(self):
        """As Overview.look."""
        self.done, self.looks = min(1.0, self.done + 0.1), self.looks + 1
        return demo_forecast.Look(self.done, None if self.looks < 2 else 125.0, 'work')


class Terminal(io.StringIO):
    """A terminal to look at."""

    def isatty(self):
        """It is one."""
        return True


def terminal_as_stderr(monkeypatch):
    """A terminal in the place of stderr (in the test itself: pytest puts its own there before)."""
    stream = Terminal()
    monkeypatch.setattr(sys, 'stderr', stream)
    return stream


def wait_for(overview, looks):
    """Returns when an overview was looked at so many times; a test that hangs fails."""
    ends = time.monotonic() + 60
    while overview.looks < looks:
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_one_bar_takes_the_place_of_all_others(monkeypatch, capsys):
    stderr, overview = terminal_as_stderr(monkeypatch), Steps()
    with demonstration.one_bar(overview, every=0.15):
        print('from another bar', file=sys.stderr)
        print('Stage 1: done')
        wait_for(overview, 3)
    shown = stderr.getvalue()
    assert 'demo, percent' in shown and 'left=' in shown and 'from another bar' not in shown
    out = capsys.readouterr().out.splitlines()
    assert sorted(out) == sorted(['Stage 1: done', demonstration.time_told(125.0)])


class Bar:
    """A bar that remembers what it was told."""

    total, done = 100, 0

    def __init__(self):
        self.told = []

    def update(self, count, **values):
        """As Progress.update."""
        self.done += count
        self.told.append((self.done, values['left'], values['now']))

    def close(self):
        """As Progress.close."""
        self.told.append('closed')


@pytest.mark.parametrize('begun', [0.0, 0.75])
def test_the_bar_begins_where_the_run_is_and_ends_at_100(monkeypatch, begun):
    bar, overview = Bar(), Steps(begun)
    monkeypatch.setattr(demonstration.progress, 'Progress', lambda *args, **kwargs: bar)
    with demonstration.one_bar(overview, every=0.001):
        wait_for(overview, 20)
    first, second = bar.told[:2]
    assert first == (round(100 * begun) + 10, 'measuring', 'work')
    assert second[1:] == ('2:05', 'work')
    shown = [told[0] for told in bar.told[:-1]]
    assert shown == sorted(shown) and shown[-2] == 99
    assert bar.told[-2:] == [(100, '0:00', 'done'), 'closed']


def test_what_was_held_back_is_shown_where_a_bug_ends_the_demo(monkeypatch):
    stderr = terminal_as_stderr(monkeypatch)
    for error, expected in ((RuntimeError('a bug'), True), (UserError('x: bad'), False)):
        with pytest.raises(type(error)), demonstration.one_bar(Steps(), every=0.02):
            print('a warning', file=sys.stderr)
            raise error
        assert ('a warning' in stderr.getvalue()) == expected
        assert '100%' not in stderr.getvalue()
        stderr.truncate(0)


@pytest.mark.parametrize('seconds, text', [(5, 'about 1 minute '), (89, 'about 1 minute '),
                                           (340, 'about 6 minutes ')])
def test_the_time_is_told_in_minutes(seconds, text):
    assert demonstration.time_told(seconds).startswith(text)


def test_a_finished_demo_is_told_again_another_is_refused(made_run, run_copy, capsys):
    (run_copy / 'report.html').write_text('<html>')
    before = (run_copy / 'results.json').read_bytes()
    results, done = demonstration.run(run_copy, 'datasets/shapes.gin', made_run.gin, None)
    assert done and results == json.loads(before)
    demonstration.print_outcome(results, run_copy, done)
    out = capsys.readouterr().out
    for text in ('is done; remove the folder', 'chosen by 3 hold-out images: Stage 1 20.00',
                 'vs control (CE)', 'mIoU', 'pixel accuracy', 'report.html', 'Next:'):
        assert text in out
    with pytest.raises(UserError, match='another configuration: .*experiment.seed'):
        demonstration.run(run_copy, 'datasets/shapes.gin',
                          [*made_run.gin, 'experiment.seed = 1'], None)
    assert (run_copy / 'results.json').read_bytes() == before
    configuration.parse([], [])


def test_the_example_folder_is_what_the_folder_reader_takes(made_run, own_folder):
    reader = readers.make_reader('folder', own_folder)
    assert reader.spec.class_names == made_run.data.spec.class_names
    ids = [i for part in reader.splits().values() for i in part]
    assert sorted(ids) == made_run.data.train[:6]
    for image_id in ids:
        image, label = made_run.data.records.load(image_id)
        theirs, ids_map = reader.load(image_id)
        np.testing.assert_array_equal(ids_map, label)
        assert np.abs(theirs.astype(int) - image).mean() < 12     # JPEG


def test_the_next_commands_name_tools_flags_and_files_that_exist(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    lines = [line for line in demonstration.next_commands('demo_run') if not line.startswith('#')]
    tools = []
    for line in lines:
        python, script, *words = shlex.split(line)
        assert pathlib.Path(python).exists() and pathlib.Path(script).is_file()
        tools.append(pathlib.Path(script).stem)
        for word in words:
            name, value = re.fullmatch(r'--(\w+)=(.+)', word).groups()
            if name == 'gin_file':
                configuration.find_gin_file(value)
    assert tools == ['inspect_run', 'predict', 'prepare_data', 'train', 'evaluate']
    for line in lines:
        python, script, *words = shlex.split(line)
        shown = subprocess.run([python, script, '--help'], text=True, capture_output=True,
                               check=True).stdout
        for word in words:
            assert f'  {word.split("=")[0]} ' in shown


@pytest.mark.parametrize('name', ['demo.gin', 'demo_smallest.gin', 'own_data.gin'])
def test_its_gin_files_resolve(name):
    from tf_advseg.experiments.train import training
    configuration.parse([name])
    found = configuration.bindings(configuration.config_text())
    cycles = next(v for k, v in found.items() if k.endswith('controller.max_total_cycles'))
    assert cycles >= 1
    configuration.parse([], [])


def test_mistakes_are_one_line(repository, tmp_path):
    for words, text in ((['--smalest'], 'unknown flag --smalest. Did you mean --smallest?'),
                        (['stray'], 'unexpected argument "stray"'),
                        (['--seed=-1'], 'flag --seed=-1')):
        done = subprocess.run([sys.executable, repository / 'tools' / 'demo.py', *words],
                              cwd=tmp_path, text=True, capture_output=True, check=False)
        assert done.returncode == 1 and done.stderr.startswith(f'error: {text}')
        assert done.stderr.count('\n') == 1
