"""Processes that read images beside this one, so that every core has work.

Pillow keeps Python's global lock while it decodes and encodes: threads alone do not help. The
processes are plain children that talk over pipes. multiprocessing would either import the user's
main script again (spawn) or copy a process in which TensorFlow has threads (fork).
"""
import collections
import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback

from tf_advseg.core import runtime
from tf_advseg.core.errors import UserError
from tf_advseg.data.records import record_parts

_CHILD = ('import json, sys; sys.path[:] = json.loads(sys.argv[1]); '
          'from tf_advseg.data.records import record_workers; record_workers.serve()')
_OUR_READERS = 'tf_advseg.data.readers.'
# A child needs a third of a second before it reads its first image.
WORTH_WHILE = 100
_MOST = 16


def default_workers():
    """How many processes read at a time: one for each core this process may use, up to 16."""
    return min(runtime.cores(), _MOST)


def part_source(reader, workers, images, read=record_parts.read_parts, resumes=True):
    """A context manager that gives a function (image_id, published) -> RecordParts.

    The function may be called from `workers` threads at a time.

    Args:
      reader: a `readers.base.Reader`.
      workers: how many images are read at a time.
      images: how many there are to read; for a few, no process is started. Neither is one for
        readers from outside this package, which a child could not import for certain.
      read: what is done with an image: a function of a module, (reader, image_id, published) ->
        anything that can be pickled.
      resumes: whether the command goes on where it stopped if started again, which is
        said when a child has died.
    """
    if (workers > 1 and images >= WORTH_WHILE and sys.executable
            and type(reader).__module__.startswith(_OUR_READERS)):
        return _Workers(reader, workers, read, resumes)
    return contextlib.nullcontext(
        lambda image_id, published=True: read(reader, image_id, published))


class _Workers:
    """Hands every call to a child that is free."""

    def __init__(self, reader, count, read, resumes):
        self._reader, self._resumes = reader, resumes
        self._first = pickle.dumps((read, reader))
        self._count = count
        self._children, self._new, self._free = [], set(), collections.deque()
        self._some_free = threading.Semaphore(0)

    def __enter__(self):
        try:
            for _ in range(self._count):
                # A session of its own: Ctrl-C ends the parent alone, and its end that of a child.
                child = subprocess.Popen(
                    [sys.executable, '-c', _CHILD, json.dumps(sys.path)], stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE, start_new_session=True)
                self._children.append(child)
                self._new.add(child)
                self._give_back(child)
        except BaseException:
            self.__exit__()
            raise
        return self._read

    def __exit__(self, *_):
        for child in self._children:
            try:
                child.stdin.close()  # the end of its input ends it
            except BrokenPipeError:
                pass
        for child in self._children:
            child.stdout.close()
            child.wait()

    def _give_back(self, child):
        self._free.append(child)
        self._some_free.release()

    def _read(self, image_id, published=True):
        """RecordParts from a child; UserError as there, or if the child has died."""
        self._some_free.acquire()
        child = self._free.popleft()
        try:
            if child in self._new:
                self._new.discard(child)
                child.stdin.write(self._first)
            pickle.dump((image_id, published), child.stdin)
            child.stdin.flush()
            kind, answer = pickle.load(child.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            how = _how_it_ended(child)
            # SciPy's reader of .mat files crashes over some damaged ones.
            cause = (f'a file of this image may be damaged{self._files_of(image_id)}'
                     if how == f'signal {int(signal.SIGSEGV)}' else 'is there memory left?')
            advice = ('The same command goes on where it stopped' if self._resumes else
                      'Nothing was kept: start it again')
            raise UserError(f'the process that read image "{image_id}" has ended ({how}); '
                            f'{cause} {advice}') from error
        finally:
            self._give_back(child)
        if kind == 'parts':
            return answer
        if kind == 'user error':
            raise UserError(answer)
        raise RuntimeError(f'reading image "{image_id}" failed:\n{answer}')

    def _files_of(self, image_id):
        """': a.jpg, a.mat.' of an image, '.' where it has no files."""
        paths = ', '.join(str(path) for path in self._reader.files(image_id))
        return f': {paths}.' if paths else '.'


def _how_it_ended(child):
    """'signal 9' or 'exit code 1' of a child whose pipe is closed."""
    try:
        code = child.wait(timeout=10)
    except subprocess.TimeoutExpired:
        return 'it hangs'
    return f'signal {-code}' if code < 0 else f'exit code {code}'


def serve():
    """What a child does: reads images by request until its input ends, or nobody listens."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), 'wb')
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nothing else may write between answers
    reader = read = None
    while True:
        try:
            if reader is None:
                read, reader = pickle.load(requests)
            image_id, published = pickle.load(requests)
        except (EOFError, pickle.UnpicklingError):  # the latter: ended in the middle of a request
            return
        try:
            answer = 'parts', read(reader, image_id, published)
        except UserError as error:
            answer = 'user error', str(error)
        except Exception:  # a mistake of ours: raised where it can be seen
            answer = 'error', traceback.format_exc()
        try:
            pickle.dump(answer, answers)
            answers.flush()
        except BrokenPipeError:  # the parent has ended: there is nobody to answer
            # What is still in the buffer would be written, and complained of, once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), answers.fileno())
            return
