"""Lists of images as data sets publish them: text, one image a line."""
import pathlib

from tf_advseg.core.errors import UserError


def read_lines(path):
    """The lines of a text file (UTF-8, with or without a mark at its start) that are not blank.

    Returns:
      list of strings without blanks at their ends. UserError if the file is missing or no text.
    """
    try:
        # Editors of Windows begin a text with U+FEFF, which would become a part of the first line.
        lines = pathlib.Path(path).read_text('utf-8-sig').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, 'strerror', None) or 'not a text file'
        raise UserError(f'{path}: cannot be read ({reason}); expected a text in UTF-8') from None
    return [line.strip() for line in lines if line.strip()]


def read_ids(path, paths=True):
    """The image ids of a list, in its order, each once.

    Args:
      path: the text file.
      paths: a line is an id, or paths of image and label (`/JPEGImages/2007_000032.jpg /...`),
        as in the lists that go round with SegmentationClassAug: the first one's name without
        suffix is the id. False: the whole line is the id, which may have slashes and blanks.

    Returns:
      list of strings. UserError if the file is missing, no text, empty, or names an id twice.
    """
    ids = read_lines(path)
    if paths:
        ids = [pathlib.PurePosixPath(line.split()[0]).stem for line in ids]
    if not ids:
        raise UserError(f'{path}: empty list; expected one image a line')
    if len(set(ids)) != len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise UserError(f'{path}: lists "{twice}" twice')
    return ids
