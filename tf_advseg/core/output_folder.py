"""A tool's output folder: made whole, and made anew only where it holds nothing of the user's.

The tool's record, a JSON file in the folder, lists every file the tool wrote. A folder whose
files are all on its own record's list may be replaced; any other is refused.
"""
import contextlib
import os
import pathlib
import shutil
import uuid

from tf_advseg.core import files
from tf_advseg.core.errors import UserError

LIST = 'written'


def require_replaceable(path, record, kind, sources=()):
    """An output folder that may be written, checked before the work.

    Args:
      path: folder: new, empty, or one that the same tool made and nobody added to.
      record: name of the tool's JSON file in it.
      kind: what the tool writes, for messages, as 'an export'.
      sources: paths that the tool reads; none may lie in the folder.

    Returns:
      pathlib.Path, absolute and without links: a link stays a link to where the files go.

    Raises:
      UserError: no path, a file, a folder that cannot be read or written, one with anything else
        in it, or with a source in it.
    """
    if not path:
        raise UserError(f'no folder for {kind} was given: add --output=DIR')
    given = pathlib.Path(path).expanduser()
    path = given.resolve()
    with files.disk_errors(given):
        if not path.exists():
            _require_room(given, path)
            return path
        if not path.is_dir():
            raise UserError(f'{given}: is a file; --output must name a folder')
        there = _files(path)
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f'{given}: the folder cannot be written (permissions); choose another '
                        '--output')
    for source in sources:
        if path in [(found := pathlib.Path(source).expanduser().resolve()), *found.parents]:
            raise UserError(f'{given}: {source} lies there and would be lost; choose another '
                            '--output')
    foreign = sorted(there - _listed(path / record)) if there else []
    if foreign:
        raise UserError(f'{given}: holds {foreign[0]}, which was not written as {kind} by this '
                        'tool; choose another --output or remove the folder')
    return path


def require_makeable(path):
    """A folder that files can be written into, tried out before the work; nothing stays behind.

    Args:
      path: folder that is there or is made later, with its parents.

    Returns:
      pathlib.Path, as it was given.

    Raises:
      UserError: a file, no permission, or a place where no folder can be made, as below /proc.
    """
    given = pathlib.Path(path).expanduser()
    # resolve() fails on links in a ring, which are reported below.
    path = pathlib.Path(os.path.realpath(given))
    with files.disk_errors(given):
        if not path.exists():
            _require_room(given, path)
        elif not path.is_dir():
            raise UserError(f'{given}: is a file; --output must name a folder')
        elif not os.access(path, os.W_OK | os.X_OK):
            raise UserError(f'{given}: the folder cannot be written (permissions); choose another '
                            '--output')
        _probe(next(p for p in (path, *path.parents) if p.exists()), given)
    return given


def _probe(folder, given):
    """UserError, which names `given`, unless a folder can be made in a folder that is there."""
    probe = folder / f'{files.TEMPORARY}{uuid.uuid4().hex[:8]}'
    try:
        probe.mkdir()
        probe.rmdir()
    except FileNotFoundError:  # as below /proc
        raise UserError(f'{given}: no folder can be made there; choose another '
                        '--output') from None


def _require_room(given, path):
    """UserError unless the nearest folder that exists can take a new one."""
    parent = next(p for p in path.parents if p.exists())
    if not parent.is_dir():
        raise UserError(f'{given}: cannot be made, {parent} is a file; choose another --output')
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f'{given}: cannot be made, the folder {parent} cannot be written '
                        '(permissions); choose another --output')


def _files(folder):
    """The names of everything in a folder that is no folder, and of empty folders."""
    names = set()
    for here, below, there in os.walk(folder):
        links = [name for name in below if os.path.islink(os.path.join(here, name))]
        empty = [''] if not below and not there and pathlib.Path(here) != folder else []
        names.update(os.path.relpath(os.path.join(here, name), folder)
                     for name in [*there, *links, *empty])
    return names


def _listed(record):
    """The names on a record's list, with the record's own; none where it is no record."""
    try:
        content = files.read_json(record)
    except UserError:
        return set()
    names = content.get(LIST) if isinstance(content, dict) else None
    return {record.name, *map(str, names)} if isinstance(names, list) else set()


@contextlib.contextmanager
def written(path, record):
    """Yields a folder to fill, which becomes `path` when the block ends well.

    Args:
      path: what `require_replaceable` returned.
      record: name of the JSON file, a dict, that the block writes; the list is added to it.

    Raises:
      UserError: the disk is full, forbids it, or the folder cannot be made.
    """
    with files.disk_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError:  # as below /proc
            raise UserError(f'{path}: no folder can be made there; choose another '
                            '--output') from None
        _probe(path.parent, path)
        # A mount point cannot be renamed: there the new files lie inside until they are whole.
        inside = os.path.ismount(path)
        fresh, old = ((path if inside else path.parent) / files.temporary_name(path.name)
                      for _ in ('new', 'old'))
        try:
            with files.atomic_folder(fresh) as folder:
                yield folder
                content = files.read_json(folder / record)
                files.write_json(folder / record,
                                 {**content, LIST: sorted(_files(folder) - {record})})
            if inside:
                _moved_in(path, fresh)
            else:
                if path.exists():
                    os.rename(path, old)
                os.rename(fresh, path)
                files.sync_folder(path.parent)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


def _moved_in(path, fresh):
    """Replaces what a folder holds by what a folder inside it holds."""
    for entry in path.iterdir():
        if entry.is_dir() and entry != fresh:
            shutil.rmtree(entry)
        elif entry != fresh:
            entry.unlink()
    for entry in fresh.iterdir():
        os.rename(entry, path / entry.name)
    files.sync_folder(path)
