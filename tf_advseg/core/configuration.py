"""Gin configuration: files found from any directory, typos answered in one line, comparison."""
import contextlib
import importlib.util  # noqa: F401  gin.resource_reader uses it without importing it
import inspect
import pathlib
import re
import tokenize

import gin
from gin import config as gin_config
from gin import config_parser

from tf_advseg.core.errors import UserError, nearest, suggest

_PACKAGE = pathlib.Path(__file__).resolve().parents[1]
_LOCATION = re.compile(r'\s*In (?:file "(?P<file>[^"]+)",|bindings string) line (?P<line>\d+)\s')
_MACRO = 'gin.macro'
# What gin's parser, Python's tokenizer and its literals raise for text that is not gin.
_UNPARSED = (SyntaxError, ValueError, TypeError, LookupError, AttributeError, RuntimeError,
             MemoryError, tokenize.TokenError)
_RENAMED = {}  # {old name: new name}, see `renamed`


def renamed(**names):
    """Makes an old gin name an error that gives the new one.

    Args:
      **names: new names by old ones; a parameter's as configurable__parameter.
    """
    _RENAMED.update({old.replace('__', '.'): new for old, new in names.items()})


def gin_root():
    """Returns the folder of the package's gin files: the checkout's, else the installed one."""
    checkout = _PACKAGE.parent
    if (checkout / 'setup.py').is_file() and (checkout / 'gin').is_dir():
        return checkout / 'gin'
    return _PACKAGE / '_gin'


def _candidates(name, root):
    """Yields where the package may hold the gin file `name`, relative to `root`."""
    path = pathlib.PurePosixPath(pathlib.PurePath(name).as_posix())
    if path.parts[:1] == ('gin',):
        yield root.joinpath(*path.parts[1:])
    yield root / path


def find_gin_file(name):
    """Returns the Path of a gin file, wherever the command is started.

    Args:
      name: an absolute path, or one relative to the current directory, to the checkout
        ('gin/papers/…') or to the gin folder ('papers/…', 'models/…').

    Raises:
      UserError: there is no such file; names the nearest one.
    """
    given = pathlib.Path(name).expanduser()
    if given.is_file():
        return given.resolve()
    root = gin_root()
    if not given.is_absolute():
        for path in _candidates(given, root):
            if path.is_file():
                return path
    kind = 'is a folder, not a gin file' if given.is_dir() else 'no such gin file'
    kinds = '*.cells' if given.suffix == '.cells' else '*.gin'  # of sweep --cells
    known = [f'gin/{path.relative_to(root).as_posix()}' for path in root.rglob(kinds)]
    raise UserError(f'{name}: {kind}.{suggest(_comparable(name, known), known)}')


def _comparable(name, known):
    """Returns the known name nearest to `name` as a whole path or by its last part."""
    found = nearest(name, known)
    if found is None:
        found = nearest(pathlib.PurePath(name).stem,
                        {pathlib.PurePath(path).stem for path in known})
        found = next((path for path in known if pathlib.PurePath(path).stem == found), None)
    return found if found is not None else name


class _NotIncluded(ValueError):
    """A missing file as gin's own kind of error, to which gin adds where the include stands."""


def _open_included(name):
    """Opens the file an `include` names."""
    try:
        return open(_find_included(name), encoding='utf-8')
    except UserError as error:
        raise _NotIncluded(error.message) from error


def _find_included(name):
    """As find_gin_file, but the package's own files first.

    What an `include` means must not depend on the directory the command is started in.
    """
    if not pathlib.Path(name).is_absolute():
        for path in _candidates(name, gin_root()):
            if path.is_file():
                return path
    return find_gin_file(name)


@contextlib.contextmanager
def _own_file_search():
    """Lets gin open files by our search while it parses.

    gin's public search path would try the current directory first and then log an error for
    every place where a file is not.
    """
    readers, prefixes = gin_config._FILE_READERS[:], gin_config._LOCATION_PREFIXES[:]
    gin_config._FILE_READERS[:] = [
        (_open_included, lambda name: True)]
    gin_config._LOCATION_PREFIXES[:] = ['']
    try:
        yield
    finally:
        gin_config._FILE_READERS[:] = readers
        gin_config._LOCATION_PREFIXES[:] = prefixes


def parse(gin_files=(), gin_params=()):
    """Replaces gin's configuration by the given files, then the given bindings, and locks it.

    The modules that hold the configurables must have been imported.

    Args:
      gin_files: names for `find_gin_file`, later ones override.
      gin_params: bindings such as 'controller.patience = 20' or 'macro = 3'.

    Raises:
      UserError: a file is missing, a line cannot be parsed, or it names a configurable, a
        parameter or a macro that does not exist; says where, and the nearest name.
    """
    paths = [find_gin_file(name) for name in gin_files or ()]
    gin.clear_config()
    with _own_file_search():
        for path in paths:
            with _reworded(str(path)):
                gin.parse_config_file(str(path))
        for binding in gin_params or ():
            with _reworded(f'--gin_param="{binding}"'):
                gin.parse_config(binding)
        with _reworded('gin'):
            _check_macros(gin_params or ())
            gin.finalize()


def _macro_names():
    """Returns (names of macros that have a value, names of macros that are used)."""
    config = gin_config._CONFIG
    defined = {scope for scope, selector in config if selector == _MACRO}
    macro = gin_config.get_configurable(gin_config.macro)
    used = {'/'.join(reference.scopes)
            for reference in gin_config.iterate_references(config, to=macro)}
    return defined, used


def _check_macros(gin_params):
    """Raises UserError for a macro without a value, and for one set on the command line only.

    gin itself takes any word with a value for a macro, so a mistyped one would be swallowed.
    """
    defined, used = _macro_names()
    for name in sorted(used - defined):
        raise UserError(f'the configuration uses %{name}, which no file sets; add '
                        f'--gin_param="{name} = …".{suggest(name, defined)}')
    for binding in gin_params:
        key = binding.split('=', 1)[0].strip()
        if key in defined and key not in used:
            raise UserError(f'--gin_param="{binding}": nothing in the configuration uses '
                            f'"{key}".{suggest(key, used | _parameter_names())}')


def _parameter_names():
    """Returns 'configurable.parameter' for every parameter that can be bound."""
    names = set()
    for selector, entry in gin_config._REGISTRY.items():
        if not selector.startswith('gin.'):
            minimal = gin_config._REGISTRY.minimal_selector(selector)
            names |= {f'{minimal}.{name}' for name in _parameters(entry)}
    return names


def _parameters(entry):
    """Returns the names of a registered configurable's parameters that may be bound."""
    try:
        signature = inspect.signature(entry.wrapped)
    except (TypeError, ValueError):
        return set()
    names = {name for name, parameter in signature.parameters.items()
             if name != 'self' and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD,
                                                      parameter.KEYWORD_ONLY)}
    if entry.allowlist:
        names &= set(entry.allowlist)
    return names - set(entry.denylist or ())


@contextlib.contextmanager
def _reworded(place):
    """Turns whatever gin raises into a UserError of one line.

    Args:
      place: the file or binding being parsed, named where gin names none.
    """
    try:
        yield
    except UserError:
        raise
    except UnicodeDecodeError as error:
        raise UserError(f'{place}: not a text file') from error
    except SyntaxError as error:
        where = place if error.lineno is None or place.startswith('--') \
            else f'{error.filename or place}:{error.lineno}'
        text = error.msg
        if 'Failed to parse' in text or 'Unable to parse value' in text:  # a word; a path
            text = text.split('\n    ')[-1].rstrip('.') + ' (text is written in quotes)'
        raise UserError(f'{where}: cannot be parsed as gin: {text}') from error
    except tokenize.TokenError as error:
        raise UserError(f'{place}: cannot be parsed as gin: {error.args[0]}; a bracket or a '
                        'quote is not closed') from error
    except (ImportError, OSError, *_UNPARSED) as error:
        text, where = _split_location(str(error), place)
        raise UserError(f'{where}: {_with_nearest(text)}') from error


def _split_location(message, place):
    """Returns (what gin says, where): gin appends one or more 'In file "…", line n'."""
    parts = _LOCATION.split(message)
    if len(parts) < 4:
        return message.strip(), place
    # The first location is the innermost file, the one that holds the line.
    file, line = parts[1], parts[2]
    return parts[0].strip(), f'{file}:{line}' if file else place


def _with_nearest(text):
    """Returns gin's message with the nearest existing name behind it."""
    registry = gin_config._REGISTRY
    known = {registry.minimal_selector(selector) for selector, _ in registry.items()
             if not selector.startswith('gin.')}
    match = re.search(r"No configurable matching (?:reference )?'@?([^'()]+)", text)
    if match:
        name = match.group(1).rsplit('/', 1)[-1]
        if name in _RENAMED:
            return f'"{name}" is called "{_RENAMED[name]}" now'
        return f'no configurable is called "{name}".{suggest(name, known)}'
    match = re.search(r"Configurable '([^']+)' doesn't have a parameter named '([^']+)'", text)
    if match:
        selector, name = match.groups()
        old = f'{selector.rsplit(".", 1)[-1]}.{name}'
        if old in _RENAMED:
            return f'"{old}" is called "{_RENAMED[old]}" now'
        parameters = _parameters(registry.get_match(selector))
        return f'"{selector}" has no parameter "{name}".{suggest(name, parameters)}'
    return text


def config_text():
    """Returns the whole configuration as parsed, as text gin can parse again."""
    return gin.config_str(max_line_length=100)


def operative_text():
    """Returns the parameters of every configurable called so far, defaults included."""
    return gin.operative_config_str(max_line_length=100)


class _TextDelegate(config_parser.ParserDelegate):
    """Keeps references and macros as text, so that no configurable need be registered."""

    def configurable_reference(self, scoped_selector, evaluate):
        """'@name' or '@name()'."""
        return _Verbatim(f'@{scoped_selector}{"()" if evaluate else ""}')

    def macro(self, name):
        """'%name'."""
        return _Verbatim(f'%{name}')


class _Verbatim(str):
    """A reference or macro; prints without quotes."""

    def __repr__(self):
        return str(self)


def _full_name(selector):
    """Returns the module and name of a configurable, or `selector` if it is not registered.

    gin writes names as short as they are unambiguous, which depends on what is imported.
    """
    matches = gin_config._REGISTRY.matching_selectors(selector)
    return matches[0] if len(matches) == 1 else selector


def bindings(text):
    """Returns {name: value} of a configuration text; a macro's name has no dot.

    Args:
      text: what `config_text` returns. Comments, order and line breaks have no effect. Names
        of registered configurables come back with their module.

    Raises:
      UserError: the text is not gin.
    """
    found = {}
    try:
        for statement in config_parser.ConfigParser(text, _TextDelegate()):
            if isinstance(statement, config_parser.BindingStatement):
                scope = f'{statement.scope}/' if statement.scope else ''
                if statement.arg_name:
                    name = f'{_full_name(statement.selector)}.{statement.arg_name}'
                else:
                    name = statement.selector
                found[scope + name] = statement.value
    except _UNPARSED as error:
        raise UserError(f'a configuration cannot be parsed as gin: {error}') from error
    return found


def read(path):
    """The text of a configuration that a run has kept; UserError, which names it, for none."""
    try:
        text = pathlib.Path(path).read_text(encoding='utf-8')
        bindings(text)
    except (OSError, UnicodeDecodeError, UserError) as error:
        raise UserError(f'{path}: {getattr(error, "strerror", error)}') from error
    return text


def bound(name):
    """The value that gin binds to 'configurable.parameter'; None where it binds none.

    Raises:
      UserError: there is no such configurable or parameter.
    """
    try:
        return gin.query_parameter(name)
    except ValueError as error:
        if 'has no bound parameters' in str(error) or 'has no value bound' in str(error):
            return None
        raise UserError(f'{name}: {str(error).splitlines()[0]}') from error


def unread():
    """Names of gin bindings that nothing has read since the configuration was parsed.

    By gin's operative configuration: a binding counts as read if its configurable was called, in
    whatever scope. Macros are left out.
    """
    read = {(selector, argument) for (_, selector), arguments
            in gin_config._OPERATIVE_CONFIG.items() for argument in arguments}
    found = []
    for name in bindings(config_text()):
        selector, _, argument = name.rsplit('/', 1)[-1].rpartition('.')
        if selector and (selector, argument) not in read:
            found.append(name)
    return found


def scoped_bindings(scope, configurable):
    """Names that gin binds of a configurable in one scope: ['scope/module.configurable.x', …]."""
    return [name for name in bindings(config_text()) if name.startswith(f'{scope}/')
            and name.rsplit('.', 1)[0].rsplit('.', 1)[-1].rsplit('/', 1)[-1] == configurable]


def _ignored(name, may_change):
    """Tells whether a binding's name, its parameter or its configurable is in `may_change`."""
    plain = name.rsplit('/', 1)[-1]
    parts = plain.split('.')
    return any(option in (name, plain, parts[-1]) or plain.endswith('.' + option)
               for option in may_change)


def differences(old_text, new_text, may_change=()):
    """Compares two configurations by their bindings.

    Args:
      old_text, new_text: from `config_text`.
      may_change: names to ignore: 'parameter', 'configurable.parameter' or a macro's name,
        with or without scope and module.

    Returns:
      List of lines 'name: was X, now Y', sorted by name; empty if they say the same. A binding
      on one side only reads 'was not set' or 'now not set'.
    """
    old, new = bindings(old_text), bindings(new_text)
    lines = []
    for name in sorted(set(old) | set(new)):
        before = repr(old[name]) if name in old else 'not set'
        after = repr(new[name]) if name in new else 'not set'
        same = before == after or (name in old and name in new and old[name] == new[name])
        if not same and not _ignored(name, may_change):
            lines.append(f'{name}: was {before}, now {after}')
    return lines
