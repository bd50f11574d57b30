"""Published weights by name: downloaded once, resumed, verified, kept in a cache.

`tf.keras.utils.get_file` begins a broken download of 439 MB anew, so the download is our own; what
comes after it, a SHA-256 that has to match, is the same. The publisher gives no digest of these
archives. The first download that can be unpacked to its end pins the digest it has, and says so;
every later one has to match it. `catalogue.Entry.sha256` is for digests that this package knows.

The cache is TF_ADVSEG_CACHE, or else tf_advseg/ in XDG_CACHE_HOME or ~/.cache. TF_ADVSEG_OFFLINE=1
forbids downloads.
"""
import contextlib
import datetime
import gzip
import http
import http.client
import os
import pathlib
import re
import tarfile
import urllib.error
import urllib.request
import zlib

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import locks
from tf_advseg.core import progress
from tf_advseg.models.zoo import catalogue

PREFIX = 'zoo:'
OFFLINE = 'TF_ADVSEG_OFFLINE'  # an environment variable
PART, ABOUT, PIN = '.part', '.part.json', '.pin.json'
CHUNK = 2 ** 20
TIMEOUT = 30  # seconds without a byte


def is_name(path):
    """Whether a --checkpoint is a name of the zoo: 'zoo:NAME'."""
    return str(path).startswith(PREFIX)


def entry_of(name):
    """The `catalogue.Entry` of 'zoo:NAME' or NAME.

    Raises:
      UserError: there is none (the nearest name is in the message), or it is not built here.
    """
    name = str(name)
    entry = catalogue.entry(name[len(PREFIX):] if is_name(name) else name)
    if entry.network is None:
        raise errors.UserError(f'{entry.name}: not built here: {entry.note}')
    return entry


def cache_folder():
    """Path of the cache; it need not exist."""
    given = os.environ.get('TF_ADVSEG_CACHE')
    if given:
        return pathlib.Path(given).expanduser()
    base = os.environ.get('XDG_CACHE_HOME')
    return (pathlib.Path(base) if base else pathlib.Path.home() / '.cache') / 'tf_advseg'


@contextlib.contextmanager
def locked(name):
    """While it is open no other process downloads or imports an entry; it waits and says so.

    Args:
      name: 'zoo:NAME' or NAME.

    Raises:
      UserError: the cache cannot be written, or not locked.
    """
    folder = cache_folder()
    with files.disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / f'.{entry_of(name).name}.lock',
                             os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if not locks.take(descriptor, folder):
            print(f'{name}: another process is fetching it; waiting', flush=True)
            locks.take(descriptor, folder, wait=True)
        yield
    finally:
        os.close(descriptor)


def fetch(name, address=None):
    """The archive of an entry, downloaded where it is not in the cache yet.

    Args:
      name: 'zoo:NAME' or NAME.
      address: where to download from; None for where it was published (`address_of`).

    Returns:
      Path of the archive in the cache, verified.

    Raises:
      UserError: no such entry; no network; an answer that is not the file; another content than the
        digest says; a cache that cannot be written.
    """
    entry = entry_of(name)
    path = cache_folder() / 'archives' / entry.file
    if path.is_file() and known_digest(entry):  # a cache that can only be read will do
        return _verified(path, entry)
    with locked(name), files.disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            _download(address or address_of(entry), path, entry)
        return _verified(path, entry, address or address_of(entry))


def address_of(entry):
    """Where an entry is downloaded from: the published address's bucket, over https, since the
    first digest that comes is trusted."""
    return entry.address.replace('http://', 'https://storage.googleapis.com/', 1)


def known_digest(entry):
    """The SHA-256 that an entry's archive is held to: this package's, or the pinned one; or None.

    Raises:
      UserError: the file of the pin is damaged.
    """
    return entry.sha256 or pin_of(entry).get('sha256')


def pin_of(entry):
    """{'sha256', 'bytes', 'address', 'pinned': date} of an entry's first download; {} before it."""
    path = cache_folder() / 'archives' / (entry.file + PIN)
    if not path.is_file():
        return {}
    found = files.read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get('sha256'), str):
        raise errors.UserError(f'{path}: holds no digest; delete it, and the next download is '
                               'pinned anew')
    return found


# --- the download -------------------------------------------------------------------------------


def _download(address, path, entry):
    """Fills <path>.part from where it ends, and gives it its name when it is whole."""
    if os.environ.get(OFFLINE, '0') not in ('', '0'):
        raise errors.UserError(f'{entry.name}: is not in the cache ({path}), and {OFFLINE} forbids '
                               'to download it; unset it, or put the file there')
    part, about = (path.with_name(path.name + end) for end in (PART, ABOUT))
    with files.as_written(about):
        known = dict(files.read_json(about)) if about.is_file() and part.is_file() else {}
    have = part.stat().st_size if known.get('address') == address and known.get('mark') else 0
    headers = {'Range': f'bytes={have}-', 'If-Range': known['mark']} if have else {}
    answer = _asked(address, headers, entry, path)
    if answer is not None:
        with answer:
            have, total = _where(answer, have)
            mark = answer.headers.get('ETag') or answer.headers.get('Last-Modified')
            files.write_json(about, {'address': address, 'mark': mark, 'total': total})
            _copy(answer, part, have, total, address, entry, path)
        size = part.stat().st_size
        if total is not None and size != total:
            raise errors.UserError(f'{address}: the download broke off after {size} of {total} '
                                   'bytes; the same command goes on from there')
    _require_archive(part, address, entry)
    os.replace(part, path)
    about.unlink()
    files.sync_folder(path.parent)


def _asked(address, headers, entry, path):
    """The server's answer; None where it has nothing behind the part that is here."""
    with _network(address, entry, path):
        try:
            return urllib.request.urlopen(urllib.request.Request(address, headers=headers),
                                          timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            # A process that was killed behind the last byte has left a part that is whole.
            if not headers or error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            error.close()
            return None


@contextlib.contextmanager
def _network(address, entry, path):
    """What a network may raise, as one line."""
    by_hand = (f'download it elsewhere and put it at {path}; what has come is kept, and the same '
               'command goes on')
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise errors.UserError(f'{address}: the server answers {error.code} {error.reason}; '
                               f'{by_hand}') from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, 'reason', None) or error or type(error).__name__
        raise errors.UserError(f'{entry.name}: {address} cannot be downloaded ({reason}); '
                               f'{by_hand}') from error


def _where(answer, have):
    """(the place that the answer begins at, the size of the whole file or None)."""
    length = answer.headers.get('Content-Length')
    length = int(length) if length and length.isdigit() else None
    if answer.status != http.client.PARTIAL_CONTENT:
        return 0, length
    said = re.match(r'bytes (\d+)-\d+/(\d+|\*)', answer.headers.get('Content-Range', ''))
    if said is None or int(said[1]) != have:
        raise errors.UserError(f'{answer.url}: the server sends another part than was asked for; '
                               'run the same command again')
    if said[2] != '*':
        return have, int(said[2])
    return have, None if length is None else have + length


def _copy(answer, part, have, total, address, entry, path):
    """What the server sends, behind the bytes that are there."""
    megabytes = None if total is None else max(1, round(total / 1e6))
    with open(part, 'r+b' if have else 'wb') as file, progress.Progress(
            megabytes or 1, f'{entry.name}, MB') as bar:
        file.seek(have)
        file.truncate()
        done = 0
        while True:
            with _network(address, entry, path):
                chunk = answer.read(CHUNK)
            if not chunk:
                break
            file.write(chunk)
            have += len(chunk)
            if megabytes:
                bar.update(round(have / 1e6) - done)
                done = round(have / 1e6)


def _require_archive(part, address, entry):
    """UserError unless a download can be unpacked to its end; it is deleted then.

    A proxy's or a hotel's page comes with a good answer, too, and must not be pinned.
    """
    try:
        with gzip.open(part) as unpacked:  # its end holds a checksum
            whole = unpacked.read(tarfile.BLOCKSIZE)[257:262] == b'ustar'
            while unpacked.read(CHUNK):
                pass
    except (OSError, EOFError, zlib.error):
        whole = False
    if not whole:
        size = part.stat().st_size
        part.unlink()
        raise errors.UserError(f'{address}: what came ({size} bytes) is no whole .tar.gz; expected '
                               f'the weights of {entry.name}'
                               + (f', {entry.megabytes:g} MB' if entry.megabytes else '')
                               + '; is there a proxy or a login page in between?')


def _verified(path, entry, address=None):
    """The archive, held to the known or pinned digest; the first one is pinned."""
    found, known = files.sha256(path), known_digest(entry)
    pin = path.with_name(path.name + PIN)
    if known is None:
        files.write_json(pin, {'sha256': found, 'bytes': path.stat().st_size, 'address': address,
                               'pinned': datetime.date.today().isoformat()})
        print(f'{entry.name}: the publisher gives no digest, so SHA-256 {found} is pinned ({pin})',
              flush=True)
    elif found != known:
        raise errors.UserError(
            f'{path}: SHA-256 is {found}, expected {known}; delete it to download it anew'
            + ('' if entry.sha256 else f', and {pin} too if the publisher has changed the file'))
    return path
