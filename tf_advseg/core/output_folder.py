"""A tool's output folder: made whole, and made anew only where it holds nothing of the user's.

The tool's record, a JSON file in the folder, lists every file the tool wrote. A folder whose
files are all on its own record's list may be replaced; any other is refused.
"""
import contextlib
import os
import pathlib
import shutil

from tf_advseg.core import files
from tf_advseg.core import locks
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
            locks.require_free(path)
            return path
        if not path.is_dir():
            raise UserError(f'{given}: is a file; --output must name a folder')
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f'{given}: the folder cannot be written (permissions); choose another '
                        '--output')
    for source in sources:
        if path in [(found := pathlib.Path(source).expanduser().resolve()), *found.parents]:
            raise UserError(f'{given}: {source} lies there and would be lost; choose another '
                            '--output')
    _require_ours(path, record, given, kind)
    locks.require_free(path, path if os.path.ismount(path) else None)
    return path


def _require_ours(path, record, given, kind):
    """UserError where a folder holds anything that its record does not list."""
    with files.disk_errors(given):
        there = {name for name in _files(path) if not _is_left(name, path)}
    foreign = sorted(there - _listed(path / record)) if there else []
    if foreign:
        raise UserError(f'{given}: holds {foreign[0]}, which was not written as {kind} by this '
                        'tool; choose another --output or remove the folder')


def _is_left(name, path):
    """Whether a name in a mount point is of what a killed process left of it: see `written`."""
    first = pathlib.Path(name).parts[0]
    return (first == locks.file_of(path).name
            or files.is_left(first, [path.name]))


@contextlib.contextmanager
def shared(path, state):
    """Makes a folder to write files into, and keeps other processes from it meanwhile.

    Args:
      path: as from `require_makeable`. Where it was made here and is empty at the end, it goes.
      state: name of the file that remembers what was written.

    Raises:
      UserError: another process writes into it, or it cannot be made.
    """
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    with files.disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    try:
        with locks.writing(path / state, busy='another process is writing into this folder; wait '
                           'for it, or choose another --output'):
            yield
    finally:
        for folder in made:
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()


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
    # By the output's name: where a kill leaves it, the next start removes it (`written`).
    probe = folder / files.temporary_name(pathlib.Path(given).name)
    try:
        probe.mkdir()
        with contextlib.suppress(FileNotFoundError):  # another start has removed it
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
def written(path, record, kind='an output'):
    """Yields a folder to fill, which becomes `path` when the block ends well.

    Another process that writes the same folder is waited for. What killed ones left of it goes.

    Args:
      path: what `require_replaceable` returned.
      record: name of the JSON file, a dict, that the block writes; the list is added to it.
      kind: what is written, for messages.

    Raises:
      UserError: the disk is full, forbids it, the folder cannot be made, or somebody has put
        something into it since it was checked.
    """
    with files.disk_errors(path):
        # A mount point cannot be renamed: there the new files lie inside until they are whole.
        inside = os.path.ismount(path)
        base = path if inside else path.parent
        try:
            base.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError:  # as below /proc
            raise UserError(f'{path}: no folder can be made there; choose another '
                            '--output') from None
        _probe(base, path)
        fresh, old = (base / files.temporary_name(path.name) for _ in ('new', 'old'))
        with locks.writing(path, base):
            files.remove_left(base, [path.name])
            try:
                fresh.mkdir()
                yield fresh
                content = files.read_json(fresh / record)
                files.write_json(fresh / record,
                                 {**content, LIST: sorted(_files(fresh) - {record})})
                files.sync_tree(fresh)
                if path.exists():
                    _require_ours(path, record, path, kind)
                if inside:
                    _moved_in(path, fresh, record)
                else:
                    _exchanged(path, fresh, old)
                    files.sync_folder(base)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
                shutil.rmtree(old, ignore_errors=True)


def _exchanged(path, fresh, old):
    """Gives `fresh` the name `path`; what was called so is called `old` then."""
    if not path.exists():
        os.rename(fresh, path)
        return
    os.rename(path, old)
    try:
        os.rename(fresh, path)
    except OSError:
        os.rename(old, path)
        raise


def _moved_in(path, fresh, record):
    """Replaces what a folder holds by what a folder inside it holds."""
    # Until all is in its place the record is but a list: a kill leaves nothing that looks whole,
    # and nothing that the next call would take for the user's.
    names = [name for name in _files(path) if not _is_left(name, path)]
    files.write_json(path / record, {LIST: sorted({*names, *_files(fresh)} - {record})})
    keep = {fresh.name, record, locks.file_of(path).name}
    for entry in path.iterdir():
        if entry.name in keep:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    for entry in sorted(fresh.iterdir(), key=lambda entry: (entry.name == record, entry.name)):
        os.replace(entry, path / entry.name)
    files.sync_folder(path)
