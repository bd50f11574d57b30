"""`make` picks a Python that fits, and says so in one line where there is none."""
import os
import shutil
import subprocess

import pytest


@pytest.fixture
def clone(tmp_path, repository):
    """A folder with the Makefile and what its set-up depends on, and nothing else."""
    for name in ('Makefile', 'constraints.txt', 'setup.py'):
        shutil.copy(repository / name, tmp_path / name)
    return tmp_path


def interpreter(folder, name, version):
    """Writes a script that answers every call like a Python of this version."""
    path = folder / name
    path.write_text(f'#!/bin/sh\necho "$@" >> {folder}/calls\necho {version}\n')
    path.chmod(0o755)
    return path


def make(clone, *arguments, environment=None):
    """Runs make; returns (exit code, stdout, lines of stderr that are not make's own)."""
    done = subprocess.run(
        ['make', *arguments], cwd=clone, text=True, capture_output=True,
        env={name: value for name, value in {**os.environ, **(environment or {})}.items()
             if not name.startswith('MAKE')})
    return done.returncode, done.stdout, [line for line in done.stderr.splitlines()
                                          if not line.startswith('make')]


@pytest.mark.parametrize('version', ['3.8', '3.14', '2.7'])
def test_a_python_outside_is_one_line(clone, version):
    python = interpreter(clone, 'python-other', version)
    code, out, err = make(clone, 'setup', f'PYTHON={python}')
    assert code != 0 and out == ''
    assert err == [f'error: PYTHON={python} is Python {version}; give the full path of a Python '
                   '3.9 to 3.13 (3.11 if you can choose)']
    code, out, err = make(clone, 'setup', f'PYTHONS={clone}/nowhere {python}')
    assert code != 0 and out == ''
    assert err == [f'error: Python 3.9 to 3.13 is needed and was not found, {python} is '
                   f'{version}; install one (3.11 if you can choose), or name it: '
                   'make PYTHON=/path/to/python']
    assert not (clone / '.venv').exists()


def test_a_python_that_does_not_run_is_one_line(clone):
    code, out, err = make(clone, 'setup', f'PYTHON={clone}/nowhere')
    assert code != 0 and out == ''
    assert err == [f'error: PYTHON={clone}/nowhere does not run; give the full path of a Python '
                   '3.9 to 3.13 (3.11 if you can choose)']


def test_the_first_python_that_fits_is_taken(clone):
    names = [str(interpreter(clone, name, version)) for name, version in
             [('a', '3.14'), ('b', '3.10'), ('c', '3.11')]]
    code, out, err = make(clone, 'setup', f'PYTHONS={clone}/nowhere {" ".join(names)}')
    assert out.startswith('setup: 1/3 virtual environment .venv with Python 3.10\n')
    assert '-m venv .venv' in (clone / 'calls').read_text(encoding='utf-8')
    # The pretended interpreter makes no environment, so the next step fails: log and one line.
    assert code != 0 and err[-1] == 'error: setup failed; the whole log is in .venv/setup.log'
    assert not (clone / '.venv' / 'setup.done').exists()


def test_the_reference_lane_is_looked_for_first_and_a_later_python_serves(clone):
    """A PATH with two lanes gives the reference lane; one with Python 3.13 alone gives that."""
    folder = clone / 'bin'
    folder.mkdir()
    for name in ('sh', 'rm', 'mkdir', 'tail', 'make', 'cat', 'echo'):
        (folder / name).symlink_to(shutil.which(name))
    interpreter(folder, 'python3.13', '3.13')
    for expected in ('3.13', '3.10'):
        if expected == '3.10':
            interpreter(folder, 'python3.10', '3.10')
        out = make(clone, 'setup', environment={'PATH': str(folder)})[1]
        assert out.startswith(f'setup: 1/3 virtual environment .venv with Python {expected}\n')


def test_setup_is_done_once_and_again_when_what_it_depends_on_changes(clone):
    done = clone / '.venv' / 'setup.done'
    done.parent.mkdir()
    done.touch()
    os.utime(done, (2e9, 2e9))
    assert make(clone, '--question', 'setup')[0] == 0
    for name in ('constraints.txt', 'setup.py'):
        os.utime(clone / name, (2.1e9, 2.1e9))
        assert make(clone, '--question', 'setup')[0] == 1
        os.utime(clone / name, (1e9, 1e9))


def test_an_environment_of_another_python_is_told(clone):
    """PYTHON= chooses when the environment is made; later it would be ignored in silence."""
    done = clone / '.venv' / 'setup.done'
    (clone / '.venv' / 'bin').mkdir(parents=True)
    done.touch()
    os.utime(done, (2e9, 2e9))
    interpreter(clone / '.venv' / 'bin', 'python', '3.11')
    other = interpreter(clone, 'python-other', '3.13')
    code, _, err = make(clone, 'setup', f'PYTHON={other}')
    assert code != 0 and err == [
        f'error: .venv has Python 3.11, and PYTHON={other} is 3.13; give it a folder of its own: '
        f'make VENV=.venv-3.13 PYTHON={other}']
    code, _, err = make(clone, 'setup', 'PYTHON=/nowhere')
    assert code != 0 and err == [
        'error: PYTHON=/nowhere does not run; give the full path of a Python 3.9 to 3.13']
    assert make(clone, 'setup', f'PYTHON={clone}/.venv/bin/python')[0] == 0
    assert make(clone, 'setup')[0] == 0


def test_targets_call_the_environment_s_python(clone):
    done = clone / '.venv' / 'setup.done'
    done.parent.mkdir()
    done.touch()
    os.utime(done, (2e9, 2e9))
    assert make(clone, '-n', 'test', 'TEST_FLAGS=-x')[1] == \
        '.venv/bin/python -m pytest -n 2 --dist loadfile -x\n'
    assert make(clone, '-n', 'demo', 'DEMO_FLAGS=--smallest --workdir /tmp/a')[1] == \
        '.venv/bin/python tools/demo.py --smallest --workdir /tmp/a\n'
    assert make(clone, '-n', 'gpu-check', 'GPU_FLAGS=--device=cpu')[1] == \
        '.venv/bin/python tools/gpu_check.py --device=cpu\n'
    (clone / 'build').mkdir()
    assert make(clone, 'clean')[0] == 0
    assert not (clone / '.venv').exists() and not (clone / 'build').exists()
