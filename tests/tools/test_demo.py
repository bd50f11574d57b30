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
from tf_advseg.experiments import demonstration


@pytest.fixture
def demo_config():
    """The demo's whole configuration as text; gin is emptied afterwards."""
    from tf_advseg.experiments import training  # noqa: F401  registers what the file binds
    configuration.parse(['demo.gin'])
    yield configuration.config_text()
    configuration.parse([], [])


def story(cycles=3, patience=20, epochs=(4, 3, 4), steps=1000):
    """(file, entry) of a whole demo in the order they are written."""
    for step in range(10, steps + 1, 10):
        yield 'metrics.jsonl', {'event': 'stage', 'step': step}
    yield 'journal.jsonl', {'event': 'start', 'cycle': 0}
    for cycle in range(cycles):
        yield 'journal.jsonl', {'event': 'aggregate', 'cycle': cycle}
        for _ in range(epochs[cycle]):
            yield 'metrics.jsonl', {'event': 'discriminator', 'cycle': cycle}
        yield 'journal.jsonl', {'event': 'retrain', 'cycle': cycle}
        for _ in range(patience):
            yield 'metrics.jsonl', {'event': 'propagation', 'cycle': cycle}
        yield 'journal.jsonl', {'event': 'end', 'cycle': cycle}
    yield 'journal.jsonl', {'event': 'aggregate', 'cycle': cycles}
    total = cycles * patience
    yield 'journal.jsonl', {'event': 'finished', 'propagations': total}
    for _ in range(total):
        yield 'control/metrics.jsonl', {'event': 'propagation', 'cycle': 0}


def test_the_bar_only_goes_forward_and_names_what_is_done(tmp_path, demo_config):
    (tmp_path / 'control').mkdir()
    overview = demonstration.Overview(tmp_path, demo_config, 400)
    seen = [overview.look()]
    for name, entry in story():
        with open(tmp_path / name, 'a') as file:
            file.write(json.dumps({'time': 0, **entry}) + '\n')
        seen.append(overview.look())
    fractions = [fraction for fraction, _ in seen]
    assert fractions[0] == 0.0 and fractions == sorted(fractions) and fractions[-1] < 1.0
    assert max(b - a for a, b in zip(fractions, fractions[1:])) < 0.08
    texts = [text for _, text in seen]
    assert texts[0] == 'Stage 1, step 0/1000' and texts[-1] == 'scores and report'
    for text in ('Stage 1, step 500/1000', 'LoAd, cycle 1/3', 'LoAd, cycle 3/3', 'control, 30/60'):
        assert text in texts


class Steps:
    """An overview that goes on by a tenth a look."""

    def __init__(self, begun=0.0):
        self.done = begun

    def look(self):
        """As Overview.look."""
        self.done = min(1.0, self.done + 0.1)
        return self.done, 'work'


def test_one_bar_takes_the_place_of_all_others(monkeypatch, capsys):
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setattr(sys, 'stderr', stream)
    with demonstration.one_bar(Steps(), every=0.02):
        print('from another bar', file=sys.stderr)
        print('Stage 1: done')
        # The bar is drawn by a thread, at most ten times a second: waited for, not timed.
        end = time.monotonic() + 60
        while 'work' not in stream.getvalue() and time.monotonic() < end:
            time.sleep(0.01)
    shown = stream.getvalue()
    assert 'demo, percent' in shown and 'work' in shown and 'from another bar' not in shown
    assert '<' in shown, 'no time left'
    assert capsys.readouterr().out == 'Stage 1: done\n'
    for error, expected in ((RuntimeError('a bug'), True), (UserError('x: bad'), False)):
        with pytest.raises(type(error)), demonstration.one_bar(Steps(), every=0.02):
            print('a warning', file=sys.stderr)
            raise error
        assert ('a warning' in stream.getvalue()) == expected
        stream.truncate(0)


def test_a_finished_demo_is_told_again_another_is_refused(made_run, run_copy, capsys):
    (run_copy / 'report.html').write_text('<html>')
    before = (run_copy / 'results.json').read_bytes()
    results, done = demonstration.run(run_copy, 'datasets/shapes.gin', made_run.gin, None)
    assert done and results == json.loads(before)
    demonstration.print_outcome(results, run_copy, done)
    out = capsys.readouterr().out
    for text in ('is done; remove the folder', 'chosen by 3 hold-out pictures: Stage 1 20.00',
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
    from tf_advseg.experiments import training  # noqa: F401
    configuration.parse([name])
    found = configuration.bindings(configuration.config_text())
    cycles = next(v for k, v in found.items() if k.endswith('controller.max_total_cycles'))
    assert cycles >= 3
    configuration.parse([], [])


def test_mistakes_are_one_line(repository, tmp_path):
    for words, text in ((['--smalest'], 'unknown flag --smalest. Did you mean --smallest?'),
                        (['stray'], 'unexpected argument "stray"'),
                        (['--seed=-1'], 'flag --seed=-1')):
        done = subprocess.run([sys.executable, repository / 'tools' / 'demo.py', *words],
                              cwd=tmp_path, text=True, capture_output=True, check=False)
        assert done.returncode == 1 and done.stderr.startswith(f'error: {text}')
        assert done.stderr.count('\n') == 1
