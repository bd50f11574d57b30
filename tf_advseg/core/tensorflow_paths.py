"""Paths for TensorFlow, which takes some characters of a name for a pattern or cannot spell it.

Its readers of checkpoints look the given name up as a pattern, in which [, ] and \\ are no letters,
and then open the name itself, so that no way of writing these characters serves both. Names that
are not UTF-8 it does not take at all. What it is given instead leads through a link.
"""
import atexit
import os
import pathlib
import shutil
import tempfile

from tf_advseg.core.errors import UserError

_SPECIAL = frozenset('*?[]\\{}')
_PLACES = ('/tmp', '/var/tmp', '/dev/shm')  # where the links lie if TMPDIR is such a name itself
_links = {}  # absolute path of a folder -> the link to it, as long as this process lives


def is_plain(text):
    """Whether TensorFlow takes a path, or a part of one, for what it is."""
    try:
        text.encode('utf-8')
    except UnicodeEncodeError:
        return False
    return _SPECIAL.isdisjoint(text)


def plain_folder(folder):
    """A path of a folder that TensorFlow takes as it is.

    Args:
      folder: path of a folder; it may be made later, its parents too.

    Returns:
      str: the path itself, or one through a link, which is good until this process ends, to the
      deepest folder above whose name TensorFlow would misread.

    Raises:
      UserError: there is no place for the link.
    """
    if is_plain(str(folder)):
        return str(folder)
    path = pathlib.Path(os.path.abspath(folder))
    last = max((i for i, part in enumerate(path.parts) if not is_plain(part)), default=None)
    if last is None:  # only a name that the path takes back by '..' was odd
        return str(path)
    link = _link_to(pathlib.Path(*path.parts[:last + 1]))
    return os.path.join(link, *path.parts[last + 1:])


def _link_to(target):
    """The link of this process to a folder."""
    if target not in _links:
        link = os.path.join(_folder_of_links(), str(len(_links)))
        os.symlink(target, link)
        _links[target] = link
    return _links[target]


def _folder_of_links():
    """A new folder on the first call, else the one of the links so far; deleted at the end."""
    if _links:
        return os.path.dirname(next(iter(_links.values())))
    for place in (tempfile.gettempdir(), *_PLACES):
        if is_plain(place) and os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK):
            made = tempfile.mkdtemp(prefix='tf_advseg-', dir=place)
            # Links are deleted, not what they lead to.
            atexit.register(shutil.rmtree, made, ignore_errors=True)
            return made
    raise UserError(f'{tempfile.gettempdir()}: TensorFlow cannot use a folder for temporary files '
                    'of this name; set TMPDIR to one without brackets and backslashes')
