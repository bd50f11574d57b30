"""Two writers: another process waits or is told in one line, and a kill frees what it held."""
import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading

import pytest

from tf_advseg.core import locks
from tf_advseg.core.errors import UserError

HOLD = '''
import sys
from tf_advseg.core import locks
with locks.writing(sys.argv[1]):
    print('held', flush=True)
    sys.stdin.read()
'''


@pytest.fixture
def other(repository, tmp_path):
    """A process that writes tmp_path/out until it is told or killed."""
    process = subprocess.Popen([sys.executable, '-c', HOLD, str(tmp_path / 'out')],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=repository)
    assert process.stdout.readline() == b'held\n'
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_second_is_told_who_writes(other, tmp_path):
    told = f'out: another process is writing it \\(process {other.pid}\\)'
    with pytest.raises(UserError, match=told):
        locks.require_free(tmp_path / 'out')
    with pytest.raises(UserError, match='out: busy'), \
            locks.writing(tmp_path / 'out', busy='busy'):
        pass
    with locks.writing(tmp_path / 'elsewhere', busy='busy'):
        locks.require_free(tmp_path / 'third')
    other.stdin.close()
    other.wait()
    assert not os.listdir(tmp_path)  # no lock file stays


def test_the_second_waits_and_says_so(other, tmp_path, capfd):
    order = []

    def end():
        order.append('first')
        other.stdin.close()

    timer = threading.Timer(0.5, end)
    timer.start()
    with locks.writing(tmp_path / 'out'):
        order.append('second')
    timer.join()
    assert order == ['first', 'second']
    assert f'out: another process is writing it (process {other.pid}); waiting' in (
        capfd.readouterr().err)
    assert not os.listdir(tmp_path)


def test_a_kill_frees_the_lock(other, tmp_path):
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert os.listdir(tmp_path) == ['.out.lock']
    locks.require_free(tmp_path / 'out')
    with locks.writing(tmp_path / 'out', busy='busy'):
        assert locks.holder(tmp_path / '.out.lock') == os.getpid()
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize('number', [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_where_there_are_no_locks_it_says_so_and_goes_on(tmp_path, monkeypatch, capfd, number):
    def flock(descriptor, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, 'flock', flock)
    locks.require_free(tmp_path / 'out')
    with locks.writing(tmp_path / 'out', busy='busy'):
        pass
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1 and f'{tmp_path}/out: its file system has no locks' in lines[0]


def test_another_failure_is_one_line(tmp_path, monkeypatch):
    def flock(descriptor, how):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, 'flock', flock)
    with pytest.raises(UserError, match='out: cannot be locked'), locks.writing(tmp_path / 'out'):
        pass


def test_many_writers_are_one_at_a_time(tmp_path):
    """flock is between open files: threads stand for processes."""
    inside, most, times = [], [], []

    def write():
        for _ in range(20):
            with locks.writing(tmp_path / 'out'):
                inside.append(1)
                most.append(len(inside))
                times.append(1)
                inside.pop()

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(times) == 120 and max(most) == 1
    assert not os.listdir(tmp_path)
