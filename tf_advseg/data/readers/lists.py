"""Lists of pictures as data sets publish them: text, one picture a line."""
import pathlib

from tf_advseg.core.errors import UserError


def read_ids(path):
    """The image ids of a list, in its order, each once.

    A line is an id, or paths of picture and label (`/JPEGImages/2007_000032.jpg /...`), as in the
    lists that go round with SegmentationClassAug: the first one's name without suffix is the id.

    Args:
      path: the text file.

    Returns:
      list of strings. UserError if the file is missing, no text, empty, or names an id twice.
    """
    try:
        lines = pathlib.Path(path).read_text('utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, 'strerror', None) or 'not a text file'
        raise UserError(f'{path}: the list of pictures cannot be read ({reason}); expected one '
                        'picture a line') from None
    ids = [pathlib.PurePosixPath(line.split()[0]).stem for line in lines if line.strip()]
    if not ids:
        raise UserError(f'{path}: empty list; expected one picture a line')
    if len(set(ids)) != len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise UserError(f'{path}: lists "{twice}" twice')
    return ids
