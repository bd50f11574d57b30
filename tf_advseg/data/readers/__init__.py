"""One reader per official layout; each turns files into (picture, label) pairs.

Nothing outside this folder knows how a data set lies on disk.
"""
import importlib
import importlib.util
import inspect
import pathlib
import sys

import gin

from tf_advseg.core.errors import UserError, require_one_of, suggest
from tf_advseg.data.readers import base

# name -> (module, class); imported when asked for, so that one reader's needs burden no other.
_READERS = {
    'ade20k': ('tf_advseg.data.readers.ade20k', 'Ade20kReader'),
    'cityscapes': ('tf_advseg.data.readers.cityscapes', 'CityscapesReader'),
    'cmp_facades': ('tf_advseg.data.readers.cmp_facades', 'CmpFacadesReader'),
    'folder': ('tf_advseg.data.readers.folder', 'FolderReader'),
    'pascal_voc_2012': ('tf_advseg.data.readers.pascal_voc', 'PascalVocReader'),
    'segtrack_v2': ('tf_advseg.data.readers.segtrack_v2', 'SegTrackV2Reader'),
    'shapes': ('tf_advseg.data.readers.shapes', 'ShapesReader'),
    'stanford_background': ('tf_advseg.data.readers.stanford_background',
                            'StanfordBackgroundReader'),
}
READERS = tuple(_READERS)


def reader_class(name):
    """The class of a reader.

    Args:
      name: one of READERS; or 'PATH.py:CLASS' or 'MODULE:CLASS' for a subclass of `base.Reader`
        that is not of this package (data/ADD_YOUR_DATA.md has one).

    Raises:
      UserError: no such reader, file, module or class, or the class is no reader.
    """
    place, colon, class_name = str(name).rpartition(':')
    if not colon:
        require_one_of('data set reader', name, READERS)
        module, class_name = _READERS[name]
        return getattr(importlib.import_module(module), class_name)
    module = _module(place)
    classes = {key: value for key, value in vars(module).items()
               if inspect.isclass(value) and issubclass(value, base.Reader)
               and value.__module__ == module.__name__}
    if class_name not in classes:
        raise UserError(f'{place}: no reader "{class_name}"; readers there: '
                        f'{", ".join(classes) or "none (subclasses of base.Reader)"}.'
                        f'{suggest(class_name, list(classes))}')
    return classes[class_name]


def _module(place):
    """A module by name, or a file by path; loaded once."""
    if not place.endswith('.py'):
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as error:
            raise UserError(f'reader module {place}: {error.name} cannot be imported; put its '
                            'folder on PYTHONPATH, or give PATH.py:CLASS') from None
    path = pathlib.Path(place).expanduser().resolve()
    if not path.is_file():
        raise UserError(f'{place}: no such file; expected PATH.py:CLASS with a reader in it')
    known = f'_reader_{path.stem}_{abs(hash(str(path)))}'
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, path)
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except (SyntaxError, ImportError) as error:
            raise UserError(f'{place}: cannot be loaded: {error}') from error
        sys.modules[known] = module
    return sys.modules[known]


@gin.configurable('make_reader')
def _bound(name, source=None, **options):
    """The arguments of `make_reader`, completed by gin's bindings."""
    return name, source, options


def make_reader(*args, **kwargs):
    """A reader by name: make_reader(name, source=None, **options), configurable by gin.

    Args:
      name: one of READERS, or a reader of your own, see `reader_class`.
      source: the folder of the data set as published; None where data are generated.
      **options: the reader's own options, e.g. seed.

    Returns:
      A `base.Reader`, with `description` (name and options) filled in. UserError for an
      unknown name or option.
    """
    # Gin appends lines of its own to every exception that passes through a configurable, and
    # a UserError is one line: so gin completes the arguments and the work is done out here.
    name, source, options = _bound(*args, **kwargs)
    cls = reader_class(name)
    known = [p for p in inspect.signature(cls.__init__).parameters
             if p not in ('self', 'source')]
    for option in options:
        if option not in known:
            raise UserError(f'reader "{name}" has no option "{option}"; it has '
                            f'{", ".join(known) or "none"}.{suggest(option, known)}')
    if 'source' in inspect.signature(cls.__init__).parameters:
        reader = cls(source, **options)
    else:
        reader = cls(**options)
    reader.description = {'reader': name, 'options': options}
    return reader
