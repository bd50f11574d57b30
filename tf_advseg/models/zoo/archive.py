"""The zoo's .tar.gz as downloaded, and folders like what is in it: safely, and what is in them.

Members are taken by their bare names into a folder of their own. A path that would leave it
refuses the whole archive; links and devices are passed over; sizes are bounded.
"""
import contextlib
import dataclasses
import gzip
import pathlib
import re
import shutil
import tarfile
import tempfile
import zlib
from typing import Optional

from tf_advseg.core import files
from tf_advseg.core.errors import UserError
from tf_advseg.models.zoo import SAVED_MODEL, tf1_checkpoint

# The largest archive of the zoo is below half a gigabyte, compressed by a few per cent.
LIMIT_BYTES = 4 << 30
LIMIT_MEMBERS = 10000
FROZEN_GRAPH = 'frozen_inference_graph.pb'
GRAPHS = ('.pb', '.tflite')
GZIP_MAGIC = b'\x1f\x8b'
_WANTED = re.compile(r'(\.index|\.data-\d{5}-of-\d{5}|\.ckpt|\.pb|\.tflite)$|^checkpoint$')
_DAMAGE = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile)


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a folder or archive of the zoo holds, each a path or None.

    Attributes:
      folder: Path.
      checkpoint: str, prefix.
      frozen_graph, tflite: Path.
    """
    folder: pathlib.Path
    checkpoint: Optional[str]
    frozen_graph: Optional[pathlib.Path]
    tflite: Optional[pathlib.Path]

    def __bool__(self):
        return any((self.checkpoint, self.frozen_graph, self.tflite))


def is_archive(path):
    """Whether a file begins as a gzip or lies as a tar."""
    try:
        with open(path, 'rb') as file:
            head = file.read(512)
    except OSError:
        return False
    return head[:2] == GZIP_MAGIC or head[257:262] == b'ustar'


def inspect(folder):
    """`Contents` of a folder; what lies in folders inside is not looked at.

    Raises:
      UserError: it is not clear which of several is meant.
    """
    folder = pathlib.Path(folder)
    checkpoint = tf1_checkpoint.resolve(folder) or _only(folder, '*.ckpt')
    # What is not going to be read need not be chosen from.
    graph = _only(folder, '*.pb', FROZEN_GRAPH, strict=not checkpoint)
    return Contents(folder, checkpoint, graph,
                    _only(folder, '*.tflite', strict=not (checkpoint or graph)))


def graphs(stack, source):
    """The frozen graph and the TFLite file of the same weights.

    What came in one archive belongs together. In a folder only a graph that the weights were read
    from, and one of the official name, are taken for the same weights.

    Args:
      stack: contextlib.ExitStack; an archive stays unpacked as long as it is open.
      source: archive, folder, file or checkpoint prefix.

    Returns:
      (list of Paths, list of Paths that lie there and may be of other weights).
    """
    source = pathlib.Path(source)
    if source.suffix in GRAPHS and source.is_file():
        return [source], []
    if source.is_file() and is_archive(source):
        contents = stack.enter_context(unpacked(source))
        return [path for path in (contents.frozen_graph, contents.tflite) if path], []
    folder = source if source.is_dir() else source.parent
    there = sorted(path for path in folder.glob('*')
                   if path.suffix in GRAPHS and path.is_file() and path.name != SAVED_MODEL)
    ours = []
    if tf1_checkpoint.resolve(source):
        ours = [path for path in there if path.name == FROZEN_GRAPH]
    elif there and source.is_dir() and not (folder / SAVED_MODEL).is_file():
        contents = inspect(folder)
        ours = [contents.frozen_graph or contents.tflite]
    return ours, [path for path in there if path not in ours]


def _only(folder, pattern, preferred=None, strict=True):
    """The file of a kind, or None.

    Raises:
      UserError: there are several, none is preferred, and `strict`; otherwise it is None.
    """
    there = sorted(path for path in folder.glob(pattern)
                   if path.is_file() and path.name != SAVED_MODEL)
    for path in there:
        if path.name == preferred:
            return path
    if len(there) > 1 and strict:
        raise UserError(f'{folder}: holds several {pattern} '
                        f'({", ".join(path.name for path in there[:4])}); name one of them')
    return there[0] if len(there) == 1 else None


@contextlib.contextmanager
def unpacked(path):
    """Unpacks what weights need out of an archive, for as long as the context lasts.

    Args:
      path: a .tar.gz, .tgz or .tar.

    Yields:
      Contents.

    Raises:
      UserError: truncated, foreign, unsafe, too large, or nothing of use in it.
    """
    path = pathlib.Path(path)
    with tempfile.TemporaryDirectory(prefix='tf_advseg-zoo-') as scratch:
        scratch = pathlib.Path(scratch)
        with files.disk_errors(scratch):
            _extract(path, scratch)
        try:
            contents = inspect(scratch)
        except UserError as error:
            # The folder is ours and will be gone: the user knows the archive.
            raise UserError(error.message.replace(str(scratch), str(path))) from error
        if not contents:
            raise UserError(f'{path}: no checkpoint, frozen graph (.pb) or .tflite in this '
                            'archive')
        yield contents


def _extract(path, folder):
    try:
        with open(path, 'rb') as raw:
            compressed = raw.read(2) == GZIP_MAGIC
            raw.seek(0)
            stream = _Bounded(path, gzip.GzipFile(fileobj=raw) if compressed else raw)
            with tarfile.open(fileobj=stream, mode='r|') as tar:
                size = 0
                for count, member in enumerate(tar):
                    if count >= LIMIT_MEMBERS:
                        raise UserError(f'{path}: more than {LIMIT_MEMBERS} members: not an '
                                        'archive of the model zoo')
                    size += member.size  # as it says: what is behind it need not be in the stream
                    if size > LIMIT_BYTES:
                        raise _too_large(path)
                    _take(path, tar, member, folder)
            while stream.read(1 << 20):  # the checksum stands at the end of a gzip
                pass
    except _DAMAGE as error:
        raise UserError(f'{path}: a truncated or damaged archive ({error}); fetch it '
                        'again') from error
    except ValueError as error:  # numbers in a header that are none
        raise UserError(f'{path}: a damaged archive ({error}); fetch it again') from error


def _take(path, tar, member, folder):
    """Writes one member under its bare name, if it is of use."""
    parts = re.split(r'[/\\]', member.name)
    if '..' in parts or member.name.startswith(('/', '\\')) or re.match(r'[A-Za-z]:', parts[0]):
        raise UserError(f'{path}: unsafe: member {member.name!r} would be written outside the '
                        "archive's folder; nothing was unpacked")
    if member.issparse():  # a few bytes that stand for any number of zeros
        raise UserError(f'{path}: member {member.name!r} is a sparse file: not an archive of the '
                        'model zoo; unpack it and give the files')
    # '._x' is what macOS adds beside x.
    if not member.isreg() or not _WANTED.search(parts[-1]) or parts[-1].startswith('.'):
        return
    target = folder / parts[-1]
    if target.exists():
        raise UserError(f'{path}: two members are called {parts[-1]}; unpack it and name one')
    with tar.extractfile(member) as source, open(target, 'xb') as file:
        shutil.copyfileobj(source, file, 1 << 20)
    if target.stat().st_size != member.size:
        raise UserError(f'{path}: a truncated archive: {member.name} has {target.stat().st_size} '
                        f'of {member.size} bytes; fetch it again')


class _Bounded:
    """A stream that refuses to become longer than LIMIT_BYTES: a few kB can unpack to any size."""

    def __init__(self, path, stream):
        self.path, self.stream, self.left = path, stream, LIMIT_BYTES

    def read(self, size):
        """At most `size` bytes."""
        data = self.stream.read(min(size, 1 << 24))
        self.left -= len(data)
        if self.left < 0:
            raise _too_large(self.path)
        return data


def _too_large(path):
    return UserError(f'{path}: unpacks to more than {LIMIT_BYTES >> 30} GiB: not an archive of the '
                     'model zoo')
