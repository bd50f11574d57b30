"""Published weights by name: downloaded once, resumed, verified, kept in a cache.

`tf.keras.utils.get_file` begins a broken download of 439 MB anew, so the download is our own; what
comes after it, a SHA-256 that has to match, is the same. The publisher gives no digest of these
archives. The first download pins the digest it found, in the cache, and says so; every later one
has to match it. `catalogue.Entry.sha256` is for digests that this package knows.

The cache is TF_ADVSEG_CACHE, or else tf_advseg/ in XDG_CACHE_HOME or ~/.cache.
"""
import contextlib
import datetime
import fcntl
import http.client
import os
import pathlib
import urllib.error
import urllib.parse
import urllib.request

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import progress
from tf_advseg.models.zoo import catalogue

PREFIX = 'zoo:'
PINS = 'pins.json'
PART = '.part'
CHUNK = 2 ** 20
TIMEOUT = 30  # seconds without a byte


def is_name(path):
    """Whether a --checkpoint is a name of the zoo: 'zoo:NAME'."""
    return str(path).startswith(PREFIX)


def entry_of(name):
    """The `catalogue.Entry` of 'zoo:NAME' or NAME.

    Raises:
      UserError: there is none; the nearest name is in the message.
    """
    name = str(name)
    return catalogue.entry(name[len(PREFIX):] if is_name(name) else name)


def cache_folder():
    """Path of the cache; it need not exist."""
    given = os.environ.get('TF_ADVSEG_CACHE')
    if given:
        return pathlib.Path(given).expanduser()
    base = os.environ.get('XDG_CACHE_HOME')
    return (pathlib.Path(base) if base else pathlib.Path.home() / '.cache') / 'tf_advseg'


def fetch(name, address=None):
    """The archive of an entry, downloaded where it is not in the cache yet.

    Args:
      name: 'zoo:NAME' or NAME.
      address: where to download from; None for where it was published.

    Returns:
      Path of the archive in the cache, verified.

    Raises:
      UserError: no such entry; no network; an answer that is not the file; another content than the
        digest says; a cache that cannot be written.
    """
    entry = entry_of(name)
    address = address or entry.address
    folder = cache_folder() / 'archives'
    with files.disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            path = folder / entry.file
            if not path.is_file():
                _download(address, path, entry)
            _verify(path, entry, address)
    return path


@contextlib.contextmanager
def _locked(folder):
    """One process downloads at a time; others wait for it and find what it has left."""
    descriptor = os.open(folder / '.lock', os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _download(address, path, entry):
    """Fills <path>.part from where it ends, and gives it its name when it is whole."""
    part = path.with_name(path.name + PART)
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(address, headers={'Range': f'bytes={have}-'} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            resumed = answer.status == http.client.PARTIAL_CONTENT
            have = have if resumed else 0
            length = answer.headers.get('Content-Length')
            total = None if length is None else have + int(length)
            _copy(answer, part, have, total, entry)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            part.unlink()  # as long as the file already, or of another one
            return _download(address, path, entry)
        raise errors.UserError(f'{address}: the server answers {error.code} {error.reason}; '
                               f'download {entry.name} by hand and give its path') from error
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and not isinstance(error, (
                urllib.error.URLError, TimeoutError, ConnectionError)):
            raise  # of the disk
        reason = getattr(error, 'reason', error)
        raise errors.UserError(
            f'{address}: cannot be downloaded ({reason}); without a network, download it elsewhere '
            'and give its path; what has come is kept, and the same command goes on') from error
    if total is not None and part.stat().st_size != total:
        raise errors.UserError(f'{address}: the download broke off after {part.stat().st_size} of '
                               f'{total} bytes; the same command goes on from there')
    os.replace(part, path)
    files.sync_folder(path.parent)
    return None


def _copy(answer, part, have, total, entry):
    """What the server sends, behind the bytes that are there."""
    megabytes = None if total is None else round(total / 1e6)
    with open(part, 'r+b' if have else 'wb') as file, progress.Progress(
            megabytes or 1, f'{entry.name}, MB') as bar:
        file.seek(have)
        done = 0
        while True:
            chunk = answer.read(CHUNK)
            if not chunk:
                break
            file.write(chunk)
            have += len(chunk)
            if megabytes:
                bar.update(round(have / 1e6) - done)
                done = round(have / 1e6)
        file.truncate()


def _verify(path, entry, address):
    """Holds the archive to the known or the pinned digest; pins the first one."""
    found = files.sha256(path)
    pins = pinned()
    known = entry.sha256 or pins.get(entry.file, {}).get('sha256')
    if known is None:
        pins[entry.file] = {'sha256': found, 'bytes': path.stat().st_size, 'address': address,
                            'pinned': datetime.date.today().isoformat()}
        files.write_json(cache_folder() / PINS, pins)
        print(f'{entry.name}: the publisher gives no digest, so SHA-256 {found} is pinned '
              f'({cache_folder() / PINS})', flush=True)
    elif found != known:
        raise errors.UserError(
            f'{path}: SHA-256 is {found}, expected {known}; delete it to download it anew'
            + ('' if entry.sha256 else f', or delete its line in {cache_folder() / PINS} if the '
               'publisher has changed the file'))


def pinned():
    """{archive's name: {'sha256', 'bytes', 'address', 'pinned'}} of the cache; {} for none.

    Raises:
      UserError: the file is damaged.
    """
    path = cache_folder() / PINS
    return files.read_json(path) if path.is_file() else {}
