"""A run's folder: made once, refused to another configuration and to a second process."""
import os
import shutil
import subprocess
import sys

import pytest

import tf_advseg
from tf_advseg.core import files, lanes, run_directory
from tf_advseg.core.errors import UserError
from tf_advseg.core.run_directory import RunDirectory

CONFIG = 'lookahead.patience = 50\ntrain.strategy = "one_device"\n'


@pytest.fixture
def run(tmp_path):
    directory = RunDirectory(tmp_path / 'runs' / 'a')
    yield directory
    directory.close()


def test_layout(run):
    assert not run.exists()
    assert run.open(CONFIG) is run and run.exists() and not run.resumed
    for folder in (run.stages, run.checkpoints, run.figures, run.tensorboard,
                   run.lookahead / 'snapshots', run.lookahead / 'buffer'):
        assert folder.is_dir() and run.path in folder.parents
    assert run.config_path.read_text(encoding='utf-8') == CONFIG
    assert run.journal_path == run.path / 'journal.jsonl'
    assert run.metrics_path == run.path / 'metrics.jsonl'
    assert run.report_path == run.path / 'report.html'
    assert run.require() is run


def test_environment(run):
    run.open(CONFIG)
    run.close()
    RunDirectory(run.path).open(CONFIG).close()
    environment = files.read_json(run.environment_path)
    assert environment['python'] == '.'.join(map(str, sys.version_info[:3]))
    version = environment['packages']['tensorflow']
    assert version == lanes.of_python().constraint
    assert environment['cpu_count'] == os.cpu_count() and environment['argv'] == sys.argv
    assert len(environment['earlier_starts']) == 1


@pytest.mark.skipif(shutil.which('git') is None, reason='needs git')
def test_the_commit_of_the_code_is_told_and_whether_it_was_changed(monkeypatch, tmp_path):
    def git(*words):
        return subprocess.run(('git', '-c', 'user.name=a', '-c', 'user.email=a@b', *words),
                              cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    def told():
        return run_directory.describe_environment()['commit']

    module = tmp_path / 'tf_advseg' / '__init__.py'
    module.parent.mkdir()
    module.write_text('')
    monkeypatch.setattr(tf_advseg, '__file__', str(module))
    assert told() is None  # no checkout
    git('init', '-q')
    assert told() is None  # nothing committed
    git('add', '.')
    git('commit', '-q', '-m', 'first')
    head = git('rev-parse', 'HEAD').strip()
    (tmp_path / 'runs').mkdir()
    assert told() == head and len(head) >= 40
    module.write_text('changed = True')
    assert told() == head + '+'
    monkeypatch.setenv('PATH', str(tmp_path))
    assert told() is None  # no git


OTHER = {'reference': '3.13.1', 'current': '3.10.4'}  # Pythons of the other lane
SAME = {'reference': '3.9.2', 'current': '3.12.9'}    # of the same, another version


def test_a_run_of_the_other_lane_is_not_taken_up(run):
    """Its steps would come from two TensorFlows; nothing in it is touched."""
    run.open(CONFIG)
    run.close()
    assert run_directory.lane_of(run.path) == lanes.of_python().name
    environment = files.read_json(run.environment_path)
    environment['python'] = OTHER[lanes.of_python().name]
    files.write_json(run.environment_path, environment)
    before = run.environment_path.read_bytes()
    with pytest.raises(UserError) as error:
        RunDirectory(run.path).open(CONFIG)
    text = str(error.value)
    assert text.startswith(f'{run.path}: was started with Python 3.') and '\n' not in text
    assert 'another --workdir' in text and lanes.of_python().described in text
    assert run.environment_path.read_bytes() == before
    environment['python'] = SAME[lanes.of_python().name]
    files.write_json(run.environment_path, environment)
    RunDirectory(run.path).open(CONFIG).close()  # another Python of the same lane goes on


@pytest.mark.parametrize('content', [
    {}, {'python': None}, {'python': '3.14.0'}, {'python': 'pypy'}])
def test_a_run_that_does_not_tell_its_lane_is_gone_on_with(run, content):
    run.open(CONFIG)
    run.close()
    files.write_json(run.environment_path, content)
    assert run_directory.lane_of(run.path) is None
    RunDirectory(run.path).open(CONFIG).close()
    run.environment_path.unlink()
    assert run_directory.lane_of(run.path) is None


def test_second_start_goes_on_and_clears_what_a_kill_left(run):
    run.open(CONFIG)
    run.close()
    (run.lookahead / 'buffer' / '.tmp-slot').mkdir()
    (run.stages / 'kept').write_text('x')
    again = RunDirectory(run.path).open('# other comment\n' + CONFIG)
    again.close()
    assert again.resumed and again.removed == ['lookahead/buffer/.tmp-slot']
    assert (run.stages / 'kept').is_file()
    assert run.config_path.read_text(encoding='utf-8') == CONFIG


def test_a_first_start_that_was_killed_early_is_started_afresh(run):
    run.open(CONFIG)
    run.close()
    run.config_path.unlink()
    again = RunDirectory(run.path).open(CONFIG.replace('50', '60'))
    again.close()
    assert not again.resumed and again.exists()


def test_a_start_that_came_to_nothing_is_withdrawn(run, tmp_path):
    run.open(CONFIG)
    (run.path / 'split.json').write_text('{}')
    run.withdraw()
    assert not run.path.exists()
    run.path.mkdir()  # the user's own: it stays, as do records, to be checked piece by piece
    run.open(CONFIG)
    (run.path / 'records').mkdir()
    (run.path / 'records' / 'images').write_text('mine')
    run.withdraw()
    assert [path.name for path in run.path.iterdir()] == ['records.partial']
    assert (run.path / 'records.partial' / 'images').read_text() == 'mine'
    RunDirectory(run.path).open(CONFIG.replace('50', '60')).close()


def test_a_run_that_has_begun_is_not_withdrawn(run):
    other = RunDirectory(run.path)
    other.withdraw()  # never opened
    run.open(CONFIG)
    (run.stages / 'stage1').mkdir()
    run.withdraw()
    run.close()
    (run.stages / 'stage1').rmdir()
    other.open(CONFIG)  # resumed
    other.withdraw()
    other.close()
    assert run.exists() and run.stages.is_dir()


def test_another_configuration_is_refused_and_named(run):
    run.open(CONFIG)
    run.close()
    other = CONFIG.replace('50', '60').replace('one_device', 'mirrored')
    with pytest.raises(UserError) as caught:
        RunDirectory(run.path).open(other)
    message = str(caught.value)
    assert 'lookahead.patience: was 50, now 60' in message and 'train.strategy' in message
    assert str(run.path) in message
    with pytest.raises(UserError) as caught:
        RunDirectory(run.path).open(other, may_change=['strategy'])
    assert 'train.strategy' not in str(caught.value)
    # The refused start has given the lock back and changed nothing.
    RunDirectory(run.path).open(other.replace('60', '50'), may_change=['strategy']).close()
    assert run.config_path.read_text(encoding='utf-8') == CONFIG


def test_a_second_process_is_refused_until_the_first_ends(run, repository):
    code = ('import sys\n'
            'from tf_advseg.core.run_directory import RunDirectory\n'
            f'RunDirectory({str(run.path)!r}).open({CONFIG!r})\n'
            'print("locked", flush=True)\n'
            'sys.stdin.read()\n')
    process = subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, cwd=repository)
    try:
        assert process.stdout.readline() == b'locked\n'
        with pytest.raises(UserError, match='another process is using') as caught:
            run.open(CONFIG)
        assert f'process {process.pid}' in str(caught.value)
    finally:
        process.kill()
        process.communicate()
    assert run.open(CONFIG).resumed


def test_a_second_object_in_the_same_process_is_refused_too(run):
    run.open(CONFIG)
    with pytest.raises(UserError, match='another process is using'):
        RunDirectory(run.path).open(CONFIG)


def test_wrong_places(tmp_path):
    (tmp_path / 'file').write_text('x')
    with pytest.raises(UserError, match='is a file'):
        RunDirectory(tmp_path / 'file').open(CONFIG)
    with pytest.raises(UserError, match='holds other files'):
        RunDirectory(tmp_path).open(CONFIG)
    assert sorted(os.listdir(tmp_path)) == ['file']
    with pytest.raises(UserError, match='no such run directory'):
        RunDirectory(tmp_path / 'nowhere').require()
    with pytest.raises(UserError, match='not a run directory'):
        RunDirectory(tmp_path).require()
    with pytest.raises(UserError, match='not a folder'):
        RunDirectory(tmp_path / 'file' / 'below').open(CONFIG)


def test_operative_config_is_written_after_the_first_call(run):
    import gin
    gin.clear_config()
    run.open(CONFIG)
    run.write_operative_config()
    assert run.operative_config_path.is_file()
