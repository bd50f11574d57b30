"""A process's writes below a folder, counted; at the n-th it is killed, or its disk is full.

Writes are what Python itself tells of (opening to write, renames, folders, deletions: audit
events), every fsync and every line of a journal. What TensorFlow writes lies between them.
"""
import errno
import mmap
import os
import signal
import stat
import struct
import sys

KILL, FULL = 'kill', 'full'
_ALWAYS_ROOM = ('os.rename', 'os.remove', 'os.rmdir', 'os.truncate')  # as on any full disk
_EVENTS = ('open', 'os.mkdir', *_ALWAYS_ROOM)


class Count:
    """A number that a parent reads of its children, however they end."""

    def __init__(self):
        self._memory = mmap.mmap(-1, 8)

    @property
    def value(self):
        """The number."""
        return struct.unpack('q', self._memory[:8])[0]

    @value.setter
    def value(self, number):
        self._memory[:8] = struct.pack('q', number)


def install(root, count, kind=None, at=0):
    """Counts this process's writes from now on, and those of children that it forks.

    Args:
      root: the folder.
      count: Count.
      kind: KILL: SIGKILL to the process group at write number `at`, what is being written torn
        in half; FULL: no room from that write on; None only counts.
      at: from 1.
    """
    root = os.path.realpath(root)

    def write(path, room, tear=lambda: None):
        count.value += 1
        if kind == KILL and count.value == at:
            tear()
            os.killpg(0, signal.SIGKILL)
        if kind == FULL and count.value >= at and not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def below(path):
        path = os.fsdecode(path)
        # Relative to a folder's descriptor: deletions of shutil.rmtree.
        return not os.path.isabs(path) or os.path.realpath(os.path.dirname(path)).startswith(root)

    def hook(event, arguments):
        if event not in _EVENTS or not isinstance(arguments[0], (str, bytes, os.PathLike)):
            return
        if event == 'open' and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        if below(arguments[0]):
            write(os.fsdecode(arguments[0]), event in _ALWAYS_ROOM)

    sys.addaudithook(hook)
    _count_syncs(write)
    _count_lines(write)


def _count_syncs(write):
    fsync = os.fsync

    def counted(descriptor):
        def tear():
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode):
                try:
                    os.ftruncate(descriptor, status.st_size // 2)
                except OSError:
                    pass  # open to read: it is whole already

        write(None, False, tear)
        fsync(descriptor)

    os.fsync = counted


def _count_lines(write):
    from tf_advseg.core import journal
    append = journal.Journal.append

    def counted(self, event, **fields):
        def tear():
            self._file.write(b'{"event": "torn')
            self._file.flush()

        from tf_advseg.core import files
        with files.disk_errors(self.path):
            write(str(self.path), False, tear)
        return append(self, event, **fields)

    journal.Journal.append = counted
