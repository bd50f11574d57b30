"""Locks between processes: one writes at a time, another waits or is told; a kill frees them.

A lock is the system's (flock) on a file that is held open: it goes with the process, however that
ends, and what a kill leaves is an empty file that the next process takes.
"""
import contextlib
import errno
import fcntl
import os
import pathlib
import sys
import time

from tf_advseg.core import files
from tf_advseg.core.errors import UserError

_NONE = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_TRIES, _PAUSE = 4, 0.05  # seconds: who only looks whether a lock is free holds it for a moment


def take(descriptor, named, wait=False):
    """Takes the lock of an open file for this process; closing the descriptor gives it back.

    Args:
      descriptor: of the file, open for writing (network file systems ask for that).
      named: the path that messages name.
      wait: whether to wait for another process.

    Returns:
      Whether it is taken. Where the file system has no locks it counts as taken, and a line on
      stderr says so.

    Raises:
      UserError: the lock fails for another reason.
    """
    for left in reversed(range(1 if wait else _TRIES)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            return True
        except OSError as error:
            if error.errno in _NONE:
                print(f'{named}: its file system has no locks ({error.strerror}); going on '
                      'without: see to it that no other process writes there',
                      file=sys.stderr, flush=True)
                return True
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise UserError(f'{named}: cannot be locked ({error.strerror}); choose a place '
                                'on a local disk') from error
        if left:
            time.sleep(_PAUSE)
    return False


def holder(path):
    """The process that holds a lock file: its id, 0 if it is unknown, None if there is none.

    Asks for a shared lock and gives it back at once.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return _number(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _number(descriptor):
    """The process id that a lock file holds, or 0."""
    text = os.pread(descriptor, 64, 0).decode('ascii', 'replace').strip()
    return int(text) if text.isdigit() else 0


def who(number):
    """' (process 12)' of a `holder`, or '' where it is unknown."""
    return f' (process {number})' if number else ''


def sign(descriptor):
    """Writes this process's id into a lock file that it holds, for others to read."""
    with contextlib.suppress(OSError):  # a full disk: it only says less to others
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode('ascii'))


def file_of(path, folder=None):
    """The lock file of an output: '.NAME.lock' beside it, or in `folder`."""
    path = pathlib.Path(path)
    return pathlib.Path(folder or path.parent) / f'.{files.beginning(path.name, 80)}.lock'


def require_free(path, folder=None):
    """Raises UserError while another process writes the output `path`; see `writing`."""
    number = holder(file_of(path, folder))
    if number is not None:
        raise UserError(f'{path}: another process is writing it{who(number)}; wait for it, or '
                        'choose another --output')


@contextlib.contextmanager
def writing(path, folder=None, busy=None):
    """Keeps other processes from writing an output while the block runs.

    Args:
      path: the output; it need not exist.
      folder: where the lock file lies, which must exist; None for beside `path`. The file is
        deleted at the end.
      busy: what a UserError says where another process holds the lock; None waits for it, and
        says so.

    Raises:
      UserError: see `busy`; or the lock file cannot be made.
    """
    lock = file_of(path, folder)
    while True:
        with files.disk_errors(path):
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if not take(descriptor, path):
                if busy is not None:
                    raise UserError(f'{path}: {busy}')
                print(f'{path}: another process is writing it{who(_number(descriptor))}; waiting',
                      file=sys.stderr, flush=True)
                take(descriptor, path, wait=True)
            if _is(descriptor, lock):
                break
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # who held it has deleted the file: another one counts now
    try:
        sign(descriptor)
        yield
    finally:
        with contextlib.suppress(OSError):
            if _is(descriptor, lock):
                lock.unlink()
        os.close(descriptor)


def _is(descriptor, path):
    """Whether an open file is the one that a path leads to."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
