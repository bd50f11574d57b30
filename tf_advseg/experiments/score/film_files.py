"""Films as streams of frames: read and written by ffmpeg, one frame at a time.

ffmpeg is that of the `imageio-ffmpeg` package (extra `video`), or the machine's own. It is run as a
program: frames come and go through pipes, so that a film of any length takes the memory of a few
frames.
"""
import contextlib
import dataclasses
import fractions
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
from typing import Optional

import numpy as np

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import locks
from tf_advseg.core import output_folder

# suffix -> ffmpeg's name of the container
CONTAINERS = {'.mp4': 'mp4', '.m4v': 'mp4', '.mov': 'mov', '.mkv': 'matroska', '.avi': 'avi',
              '.webm': 'webm', '.gif': 'gif'}
GIF = '.gif'  # an image and a film
# No camera takes more frames a second. Films of browsers and screens, whose frames come when
# something moves, claim 1000 or 90000, and each frame would be predicted as often as that.
HIGHEST_RATE, USUAL_RATE = 240, 30
_H264 = ('-c:v', 'libx264', '-preset', 'veryfast', '-crf', '18')
_VP9 = ('-c:v', 'libvpx-vp9', '-crf', '24', '-b:v', '0', '-deadline', 'realtime', '-cpu-used', '5')
_HEADER = re.compile(rb'YUV4MPEG2 W(\d+) H(\d+) F(\d+):(\d+) I\S+ A(\d+):(\d+)')
_DURATION = re.compile(r'Duration: (\d+):(\d+):(\d+\.\d+)')
# ffmpeg ends well where a Matroska file or a GIF ends too early; of the latter it says nothing.
_CUT = 'ended prematurely'
_GIF_END, _GIF_TAIL = b';', 1024


@dataclasses.dataclass(frozen=True)
class Film:
    """A film that can be read.

    Attributes:
      path: its file.
      height, width: of a frame as it is shown, in pixels.
      rate: frames a second, a Fraction.
      claimed: the rate that the file claims, where that is above `HIGHEST_RATE`.
      aspect: width ÷ height of a pixel as ffmpeg writes it, '1/1' where it is not known.
      seconds: how long it is said to be, or None.
    """
    path: pathlib.Path
    height: int
    width: int
    rate: fractions.Fraction
    claimed: Optional[fractions.Fraction] = None
    aspect: str = '1/1'
    seconds: Optional[float] = None

    @property
    def frames(self):
        """About how many frames it has, or None."""
        return None if self.seconds is None else round(self.seconds * self.rate)


def program():
    """The path of ffmpeg.

    Raises:
      UserError: there is none.
    """
    found = None
    try:
        import imageio_ffmpeg
        found = imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        found = shutil.which('ffmpeg')
    if found is None:
        raise errors.UserError("films need ffmpeg, which is not installed: python -m pip install "
                               "-c constraints.txt '.[video]', or install ffmpeg itself")
    return found


def requested(sources, output):
    """The film that a command line asks for, or None where it asks for images.

    Args:
      sources: words of --input.
      output: word of --output.

    Returns:
      (Film, Path to be written) or None. A GIF is a film where the output is called like one.

    Raises:
      UserError: a film among others, that cannot be read, or whose output is not called like one
        or is the film itself; images, and an output that is called like a film.
    """
    to_film = is_called_like_a_film(output)
    films = [source for source in sources if is_called_like_a_film(source)
             and (to_film or pathlib.Path(source).suffix.lower() != GIF)]
    if not films and not to_film:
        return None
    if not films:
        raise errors.UserError(f'{output}: a film is made of a film, and --input={sources[0]} is '
                               'none; give --output=FOLDER for images')
    if len(sources) > 1:
        raise errors.UserError(f'{films[0]}: a film is predicted alone; give one --input')
    if not to_film:
        raise errors.UserError(f'{output}: {films[0]} is a film, and what is made of it is one: '
                               f'--output must end in {", ".join(CONTAINERS)}')
    path, output = (pathlib.Path(word).expanduser() for word in (films[0], output))
    if not path.is_file():
        raise errors.UserError(f'{path}: no such file; expected a film (--input)')
    if output.exists() and os.path.samefile(path, output):
        raise errors.UserError(f'{output}: is the film itself; choose another --output')
    output_folder.require_makeable(output.parent)
    return opened(path), output


def is_called_like_a_film(word):
    """Whether a path has a film's suffix and is no folder."""
    path = pathlib.Path(word).expanduser()
    return path.suffix.lower() in CONTAINERS and not path.is_dir()


def opened(path):
    """Looks at a film: its first frame is decoded.

    Args:
      path: its file.

    Returns:
      Film.

    Raises:
      UserError: there is no ffmpeg, or this is no film that it can read.
    """
    path = pathlib.Path(path)
    return looked_at(path, _input(path), 'no film that ffmpeg can read',
                     'is it whole? if so, convert it to .mp4')


def looked_at(path, words, otherwise, hint, patience=None):
    """What ffmpeg finds where its words point to: the first frame is decoded.

    Args:
      path: what it is called.
      words: ffmpeg's, that read it.
      otherwise: what it is, if it cannot be read.
      hint: what is to be done then.
      patience: seconds that the frame may take; None waits.

    Returns:
      Film.

    Raises:
      UserError: there is no ffmpeg, or it cannot read this.
    """
    # A header of this format holds the size after rotation, and the rate as a fraction.
    try:
        done = subprocess.run(
            [program(), '-v', 'level+info', *words, '-map', '0:V:0', '-frames:v', '1',
             '-pix_fmt', 'yuv444p', '-f', 'yuv4mpegpipe', 'pipe:1'],
            stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=patience)
    except subprocess.TimeoutExpired:
        raise errors.UserError(f'{path}: gave no frame in {patience:g} seconds; {hint}') from None
    text = done.stderr.decode('utf-8', 'replace')
    header = _HEADER.match(done.stdout)
    if not header:
        raise errors.UserError(f'{path}: is {otherwise} ({reason(text)}); {hint}')
    width, height, above, below, *aspect = (int(number) for number in header.groups())
    rate = fractions.Fraction(above, below) if above and below else fractions.Fraction(USUAL_RATE)
    duration = _DURATION.search(text)
    seconds = duration and sum(
        float(part) * unit for part, unit in zip(duration.groups(), (3600, 60, 1)))
    high = rate > HIGHEST_RATE
    return Film(path, height, width, fractions.Fraction(USUAL_RATE) if high else rate,
                rate if high else None, '/'.join(map(str, aspect)) if all(aspect) else '1/1',
                seconds)


def _input(path):
    """ffmpeg's words for a file, which can name no other file and no address."""
    return ['-nostdin', '-protocol_whitelist', 'file,pipe', '-i', f'file:{path.absolute()}']


def frames(film):
    """Reads a film; frames of an unsteady rate are left out or come twice, as time goes on.

    Args:
      film: Film.

    Yields:
      uint8 arrays [height, width, 3], RGB, read-only.

    Raises:
      UserError: the film is damaged or truncated; at the frame where that shows.
    """
    with decoding(film, ['-xerror', *_input(film.path)]) as (process, said):
        count, rest = yield from decoded(film, process)
        failed, text = process.wait() != 0, said()
    if failed or rest or _CUT in text or not count or _is_cut_gif(film.path):
        raise errors.UserError(f'{film.path}: truncated or damaged, it can be decoded as far as to '
                               f'frame {count} ({reason(text)}); fetch it again')


def decoding(film, words):
    """A context of (process of ffmpeg, for `decoded`; function that gives its messages).

    Args:
      film: Film, of which size and rate are taken.
      words: ffmpeg's, that read it.
    """
    return _running([*words, '-map', '0:V:0', '-vf', f'fps={film.rate}', '-pix_fmt', 'rgb24',
                     '-f', 'rawvideo', 'pipe:1'], stdout=subprocess.PIPE)


def decoded(film, process):
    """Yields a process's frames as `frames` does; returns (how many, bytes of a broken one)."""
    size, count = 3 * film.height * film.width, 0
    while len(content := process.stdout.read(size)) == size:
        yield np.frombuffer(content, np.uint8).reshape(film.height, film.width, 3)
        count += 1
    return count, content


def _is_cut_gif(path):
    with open(path, 'rb') as file:
        if file.read(4) != b'GIF8':
            return False
        file.seek(max(0, os.path.getsize(path) - _GIF_TAIL))
        return not file.read().rstrip(b'\0\r\n').endswith(_GIF_END)


@contextlib.contextmanager
def written(path, film):
    """Writes a film, which is whole or not there.

    Args:
      path: file; its suffix, one of `CONTAINERS`, says which container. A file that is there is
        replaced.
      film: the Film whose size and rate it has.

    Yields:
      Function of a frame, uint8 [height, width, 3], that appends it.

    Raises:
      UserError: the file cannot be written.
    """
    path = pathlib.Path(path)
    with files.disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    # A folder: where it is gone, no ffmpeg that an interrupt has left to itself makes a file anew.
    with files.disk_errors(path), _scratch(path) as folder:
        temporary = folder.absolute() / path.name
        command = ['-f', 'rawvideo', '-pixel_format', 'rgb24', '-video_size',
                   f'{film.width}x{film.height}', '-framerate', str(film.rate), '-i', 'pipe:0',
                   *_encoder(CONTAINERS[path.suffix.lower()], film), f'file:{temporary}']
        with _running(command, stdin=subprocess.PIPE) as (process, said):
            def failed():
                process.wait()
                return errors.UserError(f'{path}: ffmpeg cannot write it ({reason(said())})')

            def append(frame):
                try:
                    process.stdin.write(np.ascontiguousarray(frame).data)
                except BrokenPipeError:
                    raise failed() from None

            yield append
            try:
                process.stdin.close()
            except BrokenPipeError:
                raise failed() from None
            if process.wait():
                raise failed()
        files.sync_file(temporary)
        os.replace(temporary, path)
        files.sync_folder(path.parent)


@contextlib.contextmanager
def _scratch(path):
    """Yields a new folder beside a file that this process alone writes; killed ones' go."""
    with locks.writing(path):
        files.remove_left(path.parent, [path.name])
        folder = path.with_name(files.temporary_name(path.name))
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _encoder(container, film):
    """ffmpeg's words for how frames of a film are encoded."""
    filters = [] if film.aspect == '1/1' else [f'setsar={film.aspect}']
    if container == 'gif':
        # A palette for each frame: one for all would have to hold all of them in memory.
        filters.append('split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1')
        words = ()
    else:
        # Colours at half the resolution, which every player knows, need even sides.
        odd = film.width % 2 or film.height % 2
        words = ('-pix_fmt', 'yuv444p' if odd else 'yuv420p',
                 *(_VP9 if container == 'webm' else _H264),
                 *(('-movflags', '+faststart') if container in ('mp4', 'mov') else ()))
    return [*(('-vf', ','.join(filters)) if filters else ()), *words, '-f', container]


@contextlib.contextmanager
def _running(command, **pipes):
    """Yields (process of ffmpeg, function that gives its messages); none is left running."""
    # A file: messages in a pipe that nobody reads would stop it. And a session of its own: Ctrl-C
    # is for us to answer.
    with tempfile.TemporaryFile() as messages, subprocess.Popen(
            [program(), '-v', 'error', *command], stderr=messages, start_new_session=True,
            **{'stdin': subprocess.DEVNULL, **pipes}) as process:
        def said():
            messages.seek(0)
            return messages.read().decode('utf-8', 'replace')

        try:
            yield process, said
        finally:
            process.kill()
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()


def reason(text):
    """The first of ffmpeg's messages (text) that is an error, without what it is called inside."""
    lines = [line for line in text.splitlines() if line.strip()]
    marked = [line for line in lines if '[error]' in line or '[fatal]' in line]
    line = re.sub(r'\[[^\]]*\]\s*', '', (marked or lines or ['it says nothing'])[0])
    return 'it has no video' if 'matches no streams' in line else line.strip().rstrip('.')
