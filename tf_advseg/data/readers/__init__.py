"""One reader per official layout; each turns files into (image, label) pairs.

Nothing outside this folder knows how a data set lies on disk.
"""
import hashlib
import importlib
import importlib.util
import inspect
import numbers
import pathlib
import sys

import gin

from tf_advseg.core import files
from tf_advseg.core.errors import UserError, require_one_of, suggest
from tf_advseg.data.readers import base

# name -> (module, class); imported when asked for, so that one reader's needs burden no other.
_READERS = {
    'ade20k': ('tf_advseg.data.readers.ade20k', 'Ade20kReader'),
    'cityscapes': ('tf_advseg.data.readers.cityscapes', 'CityscapesReader'),
    'cmp_facades': ('tf_advseg.data.readers.cmp_facades', 'CmpFacadesReader'),
    'folder': ('tf_advseg.data.readers.folder', 'FolderReader'),
    'pascal_voc_2012': ('tf_advseg.data.readers.pascal_voc', 'PascalVocReader'),
    'pictures': ('tf_advseg.data.readers.unlabelled_images', 'ImagesReader'),
    'segtrack_v2': ('tf_advseg.data.readers.segtrack_v2', 'SegTrackV2Reader'),
    'shapes': ('tf_advseg.data.readers.shapes', 'ShapesReader'),
    'stanford_background': ('tf_advseg.data.readers.stanford_background',
                            'StanfordBackgroundReader'),
}
READERS = tuple(_READERS)
# SHA-256 of the file of each module that is not of this package, as it was when it was loaded.
_DIGESTS = {}


def reader_class(name):
    """The class of a reader.

    Args:
      name: one of READERS; or 'PATH.py:CLASS' or 'MODULE:CLASS' for a subclass of `base.Reader`
        that is not of this package (data/ADD_YOUR_DATA.md has one).

    Raises:
      UserError: no such reader, file, module or class, or the class is no reader.
    """
    place, colon, class_name = str(name).rpartition(':')
    if not colon and class_name.endswith('.py'):
        raise UserError(f'{name}: expected PATH.py:CLASS; readers there: '
                        f'{_named(_own_classes(_module(class_name)))}')
    if not colon:
        require_one_of('data set reader', name, READERS)
        module, class_name = _READERS[name]
        return getattr(importlib.import_module(module), class_name)
    if not place or place.startswith('.') and not place.endswith('.py'):
        raise UserError(f'reader "{name}": expected one of {", ".join(READERS)}, or PATH.py:CLASS '
                        'or MODULE:CLASS for one of your own')
    classes = _own_classes(_module(place))
    if class_name not in classes:
        raise UserError(f'{place}: no reader "{class_name}"; readers there: {_named(classes)}.'
                        f'{suggest(class_name, list(classes))}')
    return classes[class_name]


def _own_classes(module):
    """dict name -> class of the readers that a module defines."""
    return {key: value for key, value in vars(module).items()
            if inspect.isclass(value) and issubclass(value, base.Reader)
            and value.__module__ == module.__name__}


def _named(classes):
    return ', '.join(classes) or 'none (subclasses of base.Reader)'


def _module(place):
    """A module by name, or a file by path; loaded once."""
    if not place.endswith('.py'):
        try:
            module = importlib.import_module(place)
        except ModuleNotFoundError as error:
            raise UserError(f'reader module {place}: {error.name} cannot be imported; put its '
                            'folder on PYTHONPATH, or give PATH.py:CLASS') from None
        except (Exception, SystemExit) as error:  # somebody's code: anything may go wrong in it
            raise UserError(_load_failure(place, error)) from error
        if module.__name__ not in _DIGESTS and getattr(module, '__file__', None):
            _DIGESTS[module.__name__] = _digest(pathlib.Path(module.__file__).read_bytes())
        return module
    path = pathlib.Path(place).expanduser().resolve()
    if not path.is_file():
        raise UserError(f'{place}: no such file; expected PATH.py:CLASS with a reader in it')
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UserError(f'{place}: cannot be read ({error.strerror})') from None
    digest = _digest(source)
    known = f'_reader_{path.stem}_{_digest(str(path).encode())[:8]}_{digest[:16]}'
    if known not in sys.modules:
        module = importlib.util.module_from_spec(
            importlib.util.spec_from_file_location(known, path))
        sys.modules[known] = module  # where dataclasses look for the module they are in
        try:
            # Not by the loader: it may take the bytes of another version out of __pycache__.
            exec(compile(source, path, 'exec'), module.__dict__)
        except (Exception, SystemExit) as error:  # somebody's code: anything may go wrong in it
            del sys.modules[known]
            raise UserError(_load_failure(place, error)) from error
        _DIGESTS[known] = digest
    return sys.modules[known]


def _load_failure(place, error):
    """What is said of a file or module that fails while it is loaded."""
    return f'{place}: cannot be loaded: {type(error).__name__}: {error}; mend the reader'


def _digest(data):
    return hashlib.sha256(data).hexdigest()


def _description(name, cls, options):
    """What made the records: of a reader of one's own its class and its file's SHA-256.

    Its path is left out: the same file elsewhere, or by another spelling, is the same reader, and
    an edited one is another. What that file imports is not looked at.
    """
    if name in _READERS:
        return {'reader': name, 'options': options}
    return {'reader': cls.__name__, 'sha256': _DIGESTS[cls.__module__], 'options': options}


def copies(name):
    """((id, id), ...): the images that a reader's data set holds twice; () for other readers."""
    return reader_class(name).copies if name in _READERS else ()


def other_options(made, name, options):
    """Options that records were not made with, though they are asked for.

    Args:
      made: from `description`, of records.
      name: of the reader that is asked for.
      options: dict of the options that are asked for; others do not matter.

    Returns:
      {option: (as asked for, as it was)}; {} for records of another reader, whose options these
      are not.
    """
    if name not in _READERS or made.get('reader') != name:
        return {}
    known = inspect.signature(reader_class(name).__init__).parameters
    found = {}
    for option, value in options.items():
        default = known[option].default if option in known else None
        was = made.get('options', {}).get(option, default)
        if files.to_json(was) != files.to_json(value):
            found[option] = value, was
    return found


def require_options(name, options):
    """The class of a reader, see `reader_class`.

    Raises:
      UserError: see `reader_class`; an option it does not have; one that has True or False by
        default and is given something else; a seed that is no whole number of at least 0.
    """
    cls = reader_class(name)
    known = {key: p.default for key, p in inspect.signature(cls.__init__).parameters.items()
             if key not in ('self', 'source')}
    for option, value in options.items():
        if option not in known:
            raise UserError(f'reader "{name}" has no option "{option}"; it has '
                            f'{", ".join(known) or "none"}.{suggest(option, list(known))}')
        try:  # records say what they were made with
            files.to_json(value)
        except (TypeError, ValueError):
            raise UserError(f'reader "{name}": {option} is {value!r}, expected numbers, texts, or '
                            'lists or dicts of them') from None
        if isinstance(known[option], bool) and not isinstance(value, bool):
            raise UserError(f'reader "{name}": {option} is {value!r}, expected true or false')
        if option == 'seed' and (isinstance(value, bool) or not (
                value is None and known[option] is None
                or isinstance(value, numbers.Integral) and value >= 0)):
            raise UserError(f'reader "{name}": seed is {value!r}, expected a whole number of at '
                            'least 0')
    return cls


@gin.configurable('make_reader')
def _bound(name, source=None, **options):
    """The arguments of `make_reader`, completed by gin's bindings."""
    return name, source, options


def description(name, options=None):
    """`Reader.description` of what `make_reader` would make, known before the source is there.

    Raises:
      UserError: see `require_options`.
    """
    name, _, options = _bound(name, None, **(options or {}))
    return _description(name, require_options(name, options), options)


def make_reader(*args, **kwargs):
    """A reader by name: make_reader(name, source=None, **options), configurable by gin.

    Args:
      name: one of READERS, or a reader of your own, see `reader_class`.
      source: the folder of the data set as published; None where data are generated.
      **options: the reader's own options, e.g. seed.

    Returns:
      A `base.Reader`, with `description` filled in: name and options, for a reader of your own
      its class and its file's SHA-256 in place of the name. UserError as `require_options`.
    """
    # Gin appends lines of its own to every exception that passes through a configurable, and
    # a UserError is one line: so gin completes the arguments and the work is done out here.
    name, source, options = _bound(*args, **kwargs)
    cls = require_options(name, options)
    if 'source' in inspect.signature(cls.__init__).parameters:
        reader = cls(source, **options)
    else:
        reader = cls(**options)
    reader.description = _description(name, cls, options)
    return reader
