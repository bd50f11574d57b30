"""tools/demo.py: what it leaves to try, and what happens when it is started again."""
import json
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.data import readers
from tf_advseg.experiments.train import demonstration


def test_a_finished_demo_is_shown_again_and_another_is_refused(made_run, run_copy, capsys):
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


def test_the_expected_time_follows_what_a_first_step_took():
    for name in ('demo.gin', 'demo_smallest.gin'):
        configuration.find_gin_file(name)
        expected = [int(re.match(r'about (\d+) minutes? here', demonstration.expected_time(
            name, seconds))[1]) for seconds in (2, 20)]
        assert expected[1] == pytest.approx(10 * expected[0], abs=6)
    assert demonstration.expected_time('demo_smallest.gin', 0.5).startswith('about 1 minute here')
    assert demonstration.first_step_seconds() > 0


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
