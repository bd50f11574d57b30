"""The wheel, built and installed elsewhere: console scripts and gin files work without a clone."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import venv
import zipfile

import pytest

TOOLS = ('train', 'evaluate', 'predict', 'prepare_data', 'inspect_run', 'benchmark', 'sweep',
         'demo', 'import_checkpoint', 'export', 'doctor', 'confidence', 'gpu_check', 'browse',
         'reproduce')


def call(command, cwd):
    """Runs a command away from the clone, without its paths; returns the finished process."""
    environment = {name: value for name, value in os.environ.items()
                   if name not in ('PYTHONPATH', 'PYTHONHOME')}
    return subprocess.run([str(part) for part in command], cwd=cwd, text=True,
                          capture_output=True, env=environment, check=False)


@pytest.fixture(scope='module')
def source(tmp_path_factory, repository):
    """A copy of what is packed, so that building leaves nothing in the clone."""
    folder = tmp_path_factory.mktemp('source')
    for name in ('tf_advseg', 'gin', 'tools'):
        shutil.copytree(repository / name, folder / name,
                        ignore=shutil.ignore_patterns('__pycache__', '*.egg-info'))
    for name in ('setup.py', 'README.md', 'LICENSE'):
        if (repository / name).is_file():
            shutil.copy(repository / name, folder / name)
    probe = folder / 'gin' / 'probe' / 'deep'
    probe.mkdir(parents=True)
    (probe / 'probe.gin').write_text('value = 1\n')
    return folder


@pytest.fixture(scope='module')
def wheel(tmp_path_factory, source):
    """The built wheel's path."""
    folder = tmp_path_factory.mktemp('wheel')
    done = call([sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation',
                 '--no-index', '--use-pep517', '-w', folder, source], folder)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return next(folder.glob('*.whl'))


@pytest.fixture(scope='module')
def installed(tmp_path_factory, wheel):
    """The bin folder of a fresh environment with the wheel, which borrows our dependencies."""
    folder = tmp_path_factory.mktemp('elsewhere') / 'venv'
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / 'bin' / 'python'
    done = call([sys.executable, '-m', 'pip', '--python', python, 'install', '--no-deps',
                 '--no-index', wheel], folder)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    site = next(folder.glob('lib/python*/site-packages'))
    ours = [path for path in sys.path if path.endswith(('site-packages', 'dist-packages'))]
    # A .pth file adds folders behind the environment's own, and does not read theirs.
    (site / 'borrowed.pth').write_text('\n'.join(ours) + '\n')
    return folder / 'bin'


def test_wheel_holds_gin_files_and_tools_under_the_package_s_name(wheel, source):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert list((source / 'gin').rglob('*.cells'))
    for path in (*(source / 'gin').rglob('*.gin'), *(source / 'gin').rglob('*.cells')):
        assert f'tf_advseg/_gin/{path.relative_to(source / "gin").as_posix()}' in names
    for path in (source / 'tools').rglob('*.py'):
        assert f'tf_advseg/tools/{path.relative_to(source / "tools").as_posix()}' in names
    for path in (source / 'tf_advseg').rglob('*.py'):
        assert path.relative_to(source).as_posix() in names, 'a folder without __init__.py?'
    data = [path for ending in ('json', 'md', 'html')
            for path in (source / 'tf_advseg').rglob(f'*.{ending}')]
    assert {'ADD_YOUR_DATA.md', 'METRICS.md', 'report.html'} <= {path.name for path in data}
    for path in data:
        assert path.relative_to(source).as_posix() in names, 'not in package_data?'
    assert 'tf_advseg/py.typed' in names
    assert {name.split('/')[0] for name in names if '.dist-info/' not in name} == {'tf_advseg'}
    assert not any(name.endswith('_gin/__init__.py') for name in names)


def test_gin_files_are_found_away_from_the_clone(installed, tmp_path):
    code = ('import json, tf_advseg\n'
            'from tf_advseg.core import configuration\n'
            'names = ["gin/probe/deep/probe.gin", "probe/deep/probe.gin"]\n'
            'print(json.dumps([tf_advseg.__file__, str(configuration.gin_root()),\n'
            '    *[str(configuration.find_gin_file(name)) for name in names]]))\n')
    done = call([installed / 'python', '-c', code], tmp_path)
    assert done.returncode == 0, done.stderr
    package, root, *found = json.loads(done.stdout)
    assert pathlib.Path(package).is_relative_to(installed.parent)
    assert pathlib.Path(root) == pathlib.Path(package).parent / '_gin'
    assert found == [str(pathlib.Path(root) / 'probe' / 'deep' / 'probe.gin')] * 2


@pytest.mark.parametrize('tool', TOOLS)
def test_console_script_runs_from_another_directory(installed, tmp_path, repository, tool):
    script = installed / f'tf-advseg-{tool.replace("_", "-")}'
    assert script.is_file()
    if not (repository / 'tools' / f'{tool}.py').is_file():
        pytest.skip(f'tools/{tool}.py is not there yet')
    done = call([script, '--help'], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == '' and len(done.stdout.splitlines()) <= 50
    mistaken = call([script, '--no_such_flag'], tmp_path)
    assert mistaken.returncode == 1
    assert mistaken.stderr.startswith('error: ') and mistaken.stderr.count('\n') == 1


@pytest.mark.parametrize('tool', TOOLS)
def test_tool_runs_as_a_script_from_another_directory(tmp_path, repository, tool):
    script = repository / 'tools' / f'{tool}.py'
    if not script.is_file():
        pytest.skip(f'tools/{tool}.py is not there yet')
    done = call([sys.executable, script, '--help'], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ''
