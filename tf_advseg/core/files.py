"""Files that are either whole or not there: temporary name, flush, fsync, rename; checksums."""
import collections.abc
import contextlib
import errno
import hashlib
import json
import os
import pathlib
import re
import shutil
import uuid

from tf_advseg.core.disk_advice import ADVICE, WORDS
from tf_advseg.core.errors import UserError

TEMPORARY = '.tmp-'
MANIFEST = 'manifest.json'
_LEFT = re.compile(re.escape(TEMPORARY) + r'(.*)-\d+-[0-9a-f]{8}', re.DOTALL)


def disk_reason(error):
    """What to say of an exception where the disk or its permissions are at fault; None otherwise.

    TensorFlow's errors count, too, and are recognised without importing it.
    """
    if isinstance(error, OSError):
        return ADVICE.get(error.errno)
    if any(kind.__name__ == 'OpError' and kind.__module__.startswith('tensorflow.')
           for kind in type(error).__mro__):
        text = ' '.join(str(error).lower().split())
        return next((ADVICE[number] for words, number in WORDS.items() if words in text), None)
    return None


@contextlib.contextmanager
def disk_errors(path):
    """Turns a full disk, a quota or a missing permission into a one-line UserError.

    Args:
      path: the file named where the error itself names none.

    Raises:
      UserError: for the errors of `ADVICE`, of Python's or of TensorFlow's making; any other
        passes unchanged.
    """
    try:
        yield
    except Exception as error:
        reason = disk_reason(error)
        if reason is None:
            raise
        # A temporary name says nothing to the user: name the file it stands for.
        named = getattr(error, 'filename', None)
        if not isinstance(named, str) or TEMPORARY in named:
            named = without_temporary(path)
        raise UserError(f'{named}: {reason}') from error


def without_temporary(path):
    """A path as a Path, up to its first part with a temporary name."""
    path = pathlib.Path(path)
    parts = [part.startswith(TEMPORARY) for part in path.parts]
    return pathlib.Path(*path.parts[:parts.index(True)]) if any(parts) else path


def _temporary(path):
    """Returns a fresh '.tmp-…' Path beside `path`."""
    return path.parent / temporary_name(path.name)


def temporary_name(name):
    """A fresh '.tmp-…' name that begins like `name` and that file systems have room for."""
    return f'{TEMPORARY}{beginning(name, 80)}-{os.getpid()}-{uuid.uuid4().hex[:8]}'


def remove_left(folder, names):
    """Deletes what killed processes left of files or folders of these names (`temporary_name`).

    Call it only where no other process is writing them (under a lock).

    Args:
      folder: where they would lie; it may be missing.
      names: without a folder.
    """
    beginnings = _beginnings(names)
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in list(entries):
            if not _is_of(entry.name, beginnings):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def is_left(name, names):
    """Whether a name is a `temporary_name` of one of `names`."""
    return _is_of(name, _beginnings(names))


def _beginnings(names):
    return {beginning(name, 80) for name in names}


def _is_of(name, beginnings):
    match = _LEFT.fullmatch(name)
    return bool(match) and match[1] in beginnings


def beginning(name, most):
    """A file's name, cut to `most` bytes."""
    return os.fsencode(name)[:most].decode('utf-8', 'ignore')


def is_too_long(error):
    """Whether a UserError of `disk_errors` is about a name that the file system has no room for."""
    return getattr(error.__cause__, 'errno', None) == errno.ENAMETOOLONG


def _require_parent(path):
    """Raises UserError unless the folder that shall hold `path` exists."""
    if not path.parent.is_dir():
        raise UserError(f'{path}: cannot be written, there is no folder {path.parent}')


def sync_folder(folder):
    """Makes renames inside `folder` durable (fsync of the directory entry)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a directory; the rename itself still holds.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def sync_file(path):
    """Makes the contents of a closed file durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder):
    """Makes everything below a folder durable, and its entries."""
    for here, _, names in os.walk(folder):
        for name in names:
            sync_file(os.path.join(here, name))
        sync_folder(here)


@contextlib.contextmanager
def atomic_file(path, mode='wb'):
    """Opens a temporary file that takes the name `path` only when the block ends well.

    Args:
      path: the file to be written or replaced; its folder must exist.
      mode: 'wb' or 'w' (text is UTF-8).

    Yields:
      The open file object.

    Raises:
      UserError: the folder is missing, the disk is full or writing is forbidden. Nothing
        is left behind then, and an older file at `path` is untouched.
    """
    path = pathlib.Path(path)
    _require_parent(path)
    temporary = _temporary(path)
    # A file's name that is not UTF-8 must not spoil a text: the escape is what JSON reads back.
    text = {} if 'b' in mode else {'encoding': 'utf-8', 'errors': 'backslashreplace'}
    with disk_errors(path):
        try:
            with open(temporary, mode, **text) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


@contextlib.contextmanager
def atomic_folder(path):
    """Yields a temporary folder that takes the name `path` only when the block ends well.

    Args:
      path: the folder to be made. It must not exist yet; its parent must.

    Yields:
      The Path of a '.tmp-…' sibling, empty.

    Raises:
      UserError: `path` exists, its parent is missing, the disk is full or writing is
        forbidden. Nothing is left behind then.
    """
    path = pathlib.Path(path)
    _require_parent(path)
    if path.exists():
        raise UserError(f'{path}: exists already; remove it or choose another folder')
    temporary = _temporary(path)
    with disk_errors(path):
        try:
            temporary.mkdir()
            yield temporary
            sync_tree(temporary)
            _rename_folder(temporary, path)
            sync_folder(path.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def _rename_folder(temporary, path):
    """Renames a folder onto a free name; somebody else's finished folder is not replaced."""
    try:
        os.rename(temporary, path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise UserError(f'{path}: another process has just written it') from error
        raise


def _plain(value):
    """json's fallback: NumPy scalars and arrays, mappings, paths and sets as plain values."""
    if hasattr(value, 'tolist'):
        return value.tolist()
    if isinstance(value, collections.abc.Mapping):  # Keras wraps a dict that is a model's attribute
        return dict(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f'{type(value).__name__} cannot be written as JSON')


def to_json(value, indent=None):
    """Returns `value` as JSON text; NumPy scalars, arrays and paths become plain values."""
    text = json.dumps(value, indent=indent, default=_plain, ensure_ascii=False)
    # A name on disk that is not UTF-8 is escaped as JSON does it, and read back as it was.
    return text.encode('utf-8', 'backslashreplace').decode('utf-8')


def write_json(path, obj):
    """Writes `obj` as indented JSON, atomically (see `atomic_file`)."""
    text = to_json(obj, indent=1)
    with atomic_file(path, 'w') as file:
        file.write(text + '\n')


def read_json(path):
    """Returns what a JSON file holds.

    Raises:
      UserError: the file is missing, unreadable or not JSON.
    """
    try:
        with open(path, encoding='utf-8') as file:
            return json.load(file)
    except FileNotFoundError as error:
        raise UserError(f'{path}: no such file') from error
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror})') from error
    except (ValueError, RecursionError) as error:  # of brackets in brackets by the thousand
        raise UserError(f'{path}: not valid JSON ({error}); it is damaged, or not a file of '
                        'this package') from error


@contextlib.contextmanager
def as_written(path):
    """A block that takes apart what a file of this package holds; UserError for another form.

    Damage or an editor may have left it. Only the taking apart belongs into the block: a mistake
    of ours there would be called the file's.
    """
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise UserError(f'{path}: does not hold what it should ({type(error).__name__}: {error}); '
                        'it is damaged, or not a file of this package') from error


def sha256(path):
    """Returns the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with disk_errors(path), open(path, 'rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()


def _files_below(folder):
    """Yields (name relative to `folder` with '/', Path) of its files, sorted; no temporaries."""
    folder = pathlib.Path(folder)
    for path in sorted(folder.rglob('*')):
        relative = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(TEMPORARY) for part in relative.parts):
            yield relative.as_posix(), path


def write_manifest(folder, **fields):
    """Writes `folder`/manifest.json: size and SHA-256 of every file below, and `fields`.

    Returns:
      The manifest, a dict with "files": {name: {"bytes", "sha256"}} and the fields.
    """
    folder = pathlib.Path(folder)
    files = {name: {'bytes': path.stat().st_size, 'sha256': sha256(path)}
             for name, path in _files_below(folder) if name != MANIFEST}
    manifest = {'files': files, **fields}
    write_json(folder / MANIFEST, manifest)
    return manifest


def check_manifest(folder, checksums=True, spared=()):
    """Returns a folder's manifest after checking that its files are as they were written.

    Args:
      folder: where manifest.json stands.
      checksums: False compares sizes only, which is quick.
      spared: suffixes of files that only have to be there.

    Raises:
      UserError: the manifest or a file is missing, or a file's size or checksum differs;
        names the first bad file.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise UserError(f'{folder}: no such folder')
    manifest = read_json(folder / MANIFEST)
    listed = manifest.get('files') if isinstance(manifest, dict) else None
    if not isinstance(listed, dict) or not all(
            isinstance(entry, dict) and {'bytes', 'sha256'} <= entry.keys()
            for entry in listed.values()):
        raise UserError(f'{folder / MANIFEST}: not a manifest of this package')
    with as_written(folder / MANIFEST):
        listed = [(folder / name, int(expected['bytes']), str(expected['sha256']))
                  for name, expected in listed.items()]
    with disk_errors(folder / MANIFEST):  # a name longer than names can be
        _check_files(listed, checksums, spared)
    return manifest


def _check_files(listed, checksums, spared):
    """UserError for the first of [(path, bytes, SHA-256)] that is missing or another."""
    for path, expected_bytes, expected_digest in listed:
        if not path.is_file():
            raise UserError(f'{path}: missing, though {MANIFEST} lists it; make the folder anew')
        if path.suffix in spared:
            continue
        size = path.stat().st_size
        if size != expected_bytes:
            raise UserError(f'{path}: has {size} bytes, {MANIFEST} says {expected_bytes}; '
                            'the file is damaged, make the folder anew')
        if checksums and sha256(path) != expected_digest:
            raise UserError(f'{path}: its checksum is not the one in {MANIFEST}; the file is '
                            'damaged, make the folder anew')


def folder_bytes(folder):
    """Returns the size in bytes of all files below `folder`, temporaries included; 0 if none."""
    total = 0
    for path in pathlib.Path(folder).rglob('*'):
        # A file may vanish between the listing and the look at it.
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                total += path.stat().st_size
    return total


def remove_temporaries(folder):
    """Deletes every '.tmp-…' file and folder below `folder`: what a killed process left.

    Call it only where no other process is writing (a run directory under its lock).

    Returns:
      The names deleted, relative to `folder`, sorted.
    """
    folder = pathlib.Path(folder)
    removed = []
    with disk_errors(folder):
        for path in sorted(folder.rglob(TEMPORARY + '*')):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.exists() or path.is_symlink():
                path.unlink()
            else:
                continue  # it stood inside a temporary folder that has just gone
            removed.append(path.relative_to(folder).as_posix())
    return removed
