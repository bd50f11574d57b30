"""What lies below a folder, links to folders followed; and what a shell's pattern means."""
import fnmatch
import glob
import os
import pathlib

from absl import logging

from tf_advseg.core.errors import UserError


def files_below(folder):
    """Everything below a folder that is no folder, hidden files and folders left out.

    Links to folders are followed, as people put disks together with them. One that leads back to a
    folder it lies in is passed over with a warning. A link to nothing counts as a file, so that
    whoever opens it can name it.

    Args:
      folder: path of a folder.

    Returns:
      Paths that begin with `folder`, sorted.

    Raises:
      UserError: a folder that cannot be listed.
    """
    return sorted(_walk(pathlib.Path(folder), ()))


def _walk(folder, above):
    """The files in and below a folder; `above` are the real paths of those that led here."""
    above = (*above, os.path.realpath(folder))
    for entry in _entries(folder):
        path = folder / entry.name
        if entry.name.startswith('.'):
            continue
        if not is_folder(entry):
            yield path
        elif _no_loop(path, entry, above):
            yield from _walk(path, above)


def _entries(folder):
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise UserError(f'{folder}: the folder cannot be read ({error.strerror}); change its '
                        'permissions or take it out') from error


def is_folder(entry):
    """Whether an entry of `os.scandir` is a folder, or a link to one; a ring of links is none."""
    try:
        return entry.is_dir()
    except OSError:  # links in a ring, or a name that is too long
        return False


def _no_loop(path, entry, above):
    """False, with a warning, for a link to a folder that it lies in."""
    target = os.path.realpath(path)
    here = pathlib.Path(os.path.realpath(path.parent))
    if entry.is_symlink() and (target in above or target in map(str, [here, *here.parents])):
        logging.warning('%s: a link to a folder that it lies in; it was passed over',
                        os.fsencode(path).decode('utf-8', 'replace'))
        return False
    return True


def split_pattern(text):
    """(folder, rest) of a path that may be a shell's pattern; the rest is '' where it is none.

    A part of the path that is there under just that name is a name, even if it has brackets:
    'images [2020]/*.png' means the images of that folder.
    """
    path = pathlib.Path(text).expanduser()
    plain = pathlib.Path(path.anchor)
    for number, part in enumerate(path.parts[1 if path.anchor else 0:], 1 if path.anchor else 0):
        if glob.has_magic(part) and not os.path.lexists(plain / part):
            return plain, os.path.join(*path.parts[number:])
        plain = plain / part
    return plain, ''


def matching(text):
    """What a shell's pattern means: `*`, `?`, `[…]` in a name, `**` for folders of any depth.

    Links to folders are followed as in `files_below`; hidden names match only a pattern that
    begins with a dot.

    Args:
      text: the pattern, see `split_pattern`; a plain path means itself.

    Returns:
      Paths, sorted; [] where there is nothing.
    """
    plain, rest = split_pattern(text)
    if not rest:
        return [plain] if os.path.lexists(plain) else []
    return sorted(set(_matching(plain, pathlib.PurePath(rest).parts, ())))


def _matching(folder, parts, above):
    first, others = parts[0], parts[1:]
    above = (*above, os.path.realpath(folder))
    if first == '**' and others:  # no folder at all, or as many as there are
        yield from _matching(folder, others, above[:-1])
    if not glob.has_magic(first):
        if os.path.lexists(folder / first):
            yield from ([folder / first] if not others else _matching(folder / first, others, above)
                        if os.path.isdir(folder / first) else ())
        return
    if not os.path.isdir(folder):
        return
    for entry in _entries(folder):
        path = folder / entry.name
        if entry.name.startswith('.') and not first.startswith('.'):
            continue
        below = is_folder(entry)
        if first == '**':
            if not others:
                yield path
            if below and _no_loop(path, entry, above):
                yield from _matching(path, parts, above)
        elif fnmatch.fnmatchcase(entry.name, first):
            if not others:
                yield path
            elif below:
                yield from _matching(path, others, above)
