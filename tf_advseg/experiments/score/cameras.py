"""A camera as a stream of frames: the newest is taken, older ones are left out.

The camera is read by ffmpeg, as films are (`film_files`). A thread keeps the last frame: what
predicts more slowly than the camera films sees fewer frames, and none late.
"""
import contextlib
import dataclasses
import os
import pathlib
import re
import signal
import sys
import threading
import time

from tf_advseg.core import errors
from tf_advseg.core import output_folder
from tf_advseg.experiments.score import film_files

PREFIX = 'camera:'
WAIT = 20.0  # seconds that a camera may take for its first frame
POLL = 0.1   # seconds between two questions whether to stop
_BUSY = 'does another program use it?'
_DEVICES = pathlib.Path('/dev')


@dataclasses.dataclass(frozen=True)
class Camera:
    """A camera that gives frames.

    Attributes:
      name: as it was asked for.
      words: ffmpeg's, that read it.
      film: `film_files.Film` with its size and rate.
    """
    name: str
    words: tuple
    film: film_files.Film


def requested(sources, output, count=None):
    """The camera that a command line asks for, or None where it asks for something else.

    Args:
      sources: words of --input.
      output: word of --output.
      count: number of --frames, or None.

    Returns:
      (Camera, Path to be written) or None. A file called like a camera is no camera.

    Raises:
      UserError: a camera among others, that is not there, gives no frames, or whose output is not
        called like a film; --frames without a camera.
    """
    names = [str(source) for source in sources
             if str(source).startswith(PREFIX) and not os.path.exists(source)]
    if not names:
        if count is not None:
            raise errors.UserError('--frames: is for a camera (--input=camera:0); of a film all '
                                   'frames are predicted')
        return None
    if len(sources) > 1:
        raise errors.UserError(f'{names[0]}: a camera is predicted alone; give one --input')
    if count is not None and count < 1:
        raise errors.UserError(f'--frames={count}: expected a number of at least 1')
    if not film_files.is_called_like_a_film(output):
        raise errors.UserError(f'{output}: {names[0]} makes a film: --output must end in '
                               f'{", ".join(film_files.CONTAINERS)}')
    output = pathlib.Path(output).expanduser()
    output_folder.require_makeable(output.parent)
    return opened(names[0]), output


def opened(name):
    """Looks at a camera: a frame is taken.

    Args:
      name: 'camera:0', the number of the device.

    Returns:
      Camera.

    Raises:
      UserError: it is not there, cannot be read, or there is no ffmpeg.
    """
    words = _words(name)
    return Camera(name, words, film_files.looked_at(
        name, words, 'no camera that ffmpeg can read', _BUSY, WAIT))


def _words(name):
    """ffmpeg's words for a camera."""
    number = re.fullmatch(r'camera:(\d+)', name)
    if not number:
        raise errors.UserError(f'--input={name}: expected camera:0, the number of a camera')
    if sys.platform == 'darwin':
        return ('-nostdin', '-f', 'avfoundation', '-framerate', '30', '-i', f'{number[1]}:none')
    if not sys.platform.startswith('linux'):
        raise errors.UserError(f'--input={name}: cameras are read on Linux and macOS; record a '
                               'film here, and give that')
    device = _DEVICES / f'video{number[1]}'
    if not device.exists():
        there = ', '.join(f'{PREFIX}{path.name[5:]}' for path in sorted(_DEVICES.glob('video*')))
        raise errors.UserError(f'--input={name}: there is no camera {device}; '
                               + (f'there are {there}' if there else 'there is none at all'))
    return ('-nostdin', '-f', 'v4l2', '-i', str(device))


class _Newest:
    """The last frame that a camera gave, and when: a thread reads, one other takes."""

    def __init__(self, frames):
        self._changed = threading.Condition()
        self._last, self._ended = None, False
        self._thread = threading.Thread(target=self._read, args=(frames,), daemon=True)
        self._thread.start()

    def _read(self, frames):
        try:
            for frame in frames:
                with self._changed:
                    self._last = time.monotonic(), frame
                    self._changed.notify()
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()

    def take(self, seconds):
        """(when, frame) that was not taken yet; None where none comes in `seconds`.

        Raises:
          EOFError: no more will come.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._last or self._ended, seconds)
            found, self._last = self._last, None
            if found is None and self._ended:
                raise EOFError
        return found

    def join(self):
        """Waits until the thread has ended."""
        self._thread.join()


@contextlib.contextmanager
def newest_frames(camera, stop):
    """A context of a generator of the newest frames, until `stop()` or the camera's end.

    Args:
      camera: Camera.
      stop: function without arguments, asked before each frame and ten times a second.

    Yields:
      Generator of (float: seconds on a steady clock, uint8 [height, width, 3], RGB, read-only).

    Raises:
      UserError: of the generator, where the camera gives no frame at all.
    """
    with film_files.decoding(camera.film, camera.words) as (process, said):
        newest = _Newest(film_files.decoded(camera.film, process))

        def taken():
            count = 0
            while not stop():
                try:
                    found = newest.take(POLL)
                except EOFError:
                    if count:
                        return
                    raise errors.UserError(
                        f'{camera.name}: gave no frame ({film_files.reason(said())}); {_BUSY}'
                    ) from None
                if found:
                    count += 1
                    yield found

        try:
            yield taken()
        finally:
            process.kill()  # then nothing more comes, and the thread ends
            newest.join()


@contextlib.contextmanager
def until_interrupt():
    """A context of a function that tells whether Ctrl-C was pressed; a second one interrupts.

    Where signals cannot be caught, in a thread, Ctrl-C is as ever.
    """
    pressed = threading.Event()

    def press(number, frame):
        if pressed.is_set():
            signal.default_int_handler(number, frame)
        pressed.set()

    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return
    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
