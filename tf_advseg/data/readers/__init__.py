"""One reader per official layout; each turns files into (picture, label) pairs.

Nothing outside this folder knows how a data set lies on disk.
"""
import importlib
import inspect

import gin

from tf_advseg.core.errors import UserError, require_one_of, suggest

# name -> (module, class); imported when asked for, so that one reader's needs burden no other.
_READERS = {
    'folder': ('tf_advseg.data.readers.folder', 'FolderReader'),
    'shapes': ('tf_advseg.data.readers.shapes', 'ShapesReader'),
    'stanford_background': ('tf_advseg.data.readers.stanford_background',
                            'StanfordBackgroundReader'),
}
READERS = tuple(_READERS)


@gin.configurable('make_reader')
def _bound(name, source=None, **options):
    """The arguments of `make_reader`, completed by gin's bindings."""
    return name, source, options


def make_reader(*args, **kwargs):
    """A reader by name: make_reader(name, source=None, **options), configurable by gin.

    Args:
      name: one of READERS.
      source: the folder of the data set as published; None where data are generated.
      **options: the reader's own options, e.g. seed.

    Returns:
      A `base.Reader`, with `description` (name and options) filled in. UserError for an
      unknown name or option.
    """
    # Gin appends lines of its own to every exception that passes through a configurable, and
    # a UserError is one line: so gin completes the arguments and the work is done out here.
    name, source, options = _bound(*args, **kwargs)
    require_one_of('data set reader', name, READERS)
    module, class_name = _READERS[name]
    reader_class = getattr(importlib.import_module(module), class_name)
    known = [p for p in inspect.signature(reader_class.__init__).parameters
             if p not in ('self', 'source')]
    for option in options:
        if option not in known:
            raise UserError(f'reader "{name}" has no option "{option}"; it has '
                            f'{", ".join(known) or "none"}.{suggest(option, known)}')
    if 'source' in inspect.signature(reader_class.__init__).parameters:
        reader = reader_class(source, **options)
    else:
        reader = reader_class(**options)
    reader.description = {'reader': name, 'options': options}
    return reader
