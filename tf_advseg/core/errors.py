"""The one exception that is meant for the person at the keyboard, and how it is worded."""
import difflib


LONGEST = 2000  # characters of a message: a damaged list may have one "name" of megabytes


class UserError(Exception):
    """Bad input or surroundings, said in one line: the file, what is wrong, what to do.

    The command line prints it as `error: …` without a traceback and exits with 1. The
    message is folded onto one line, so that a foreign message inside it cannot break it.
    """

    def __init__(self, message):
        self.message = _shortened(' '.join(spelled(message).split()))
        super().__init__(self.message)

    def __init_subclass__(cls, **options):
        """Keeps the line a line when it passes through a gin configurable.

        gin raises the error anew as an instance of a subclass it makes on the spot, whose
        __str__ adds lines on the calls in between, addresses in memory included; that
        instance hands attributes it lacks, such as `message`, on to the original.
        """
        super().__init_subclass__(**options)
        if cls.__qualname__.endswith('ExceptionProxy'):
            cls.__str__ = lambda self: self.message


def _shortened(text):
    """A text of at most LONGEST characters, its middle left out where it is longer."""
    if len(text) <= LONGEST:
        return text
    return f'{text[:LONGEST - 603]} … {text[-600:]}'


def spelled(text):
    """A text, or path, that every UTF-8 stream takes: bytes of a name that is none as '\\xe9'."""
    try:
        return str(text).encode('utf-8', 'surrogateescape').decode('utf-8', 'backslashreplace')
    except UnicodeEncodeError:  # halves of a pair, which no name on disk gives
        return str(text).encode('utf-8', 'backslashreplace').decode('utf-8')


def nearest(name, choices):
    """Returns the member of `choices` (strings) most like `name`, or None if none is close.

    Case, and the part before the last dot or slash, count for less than the last part: a
    user types `patiance` where the full name is `load.Controller.patience`.
    """
    choices = sorted({str(choice) for choice in choices})
    name = str(name)
    if name in choices:
        return name
    lowered = name.lower()
    for choice in choices:
        if choice.lower() == lowered:
            return choice
    by_key = {}
    for choice in choices:
        by_key.setdefault(choice.lower(), choice)
        by_key.setdefault(choice.lower().replace('/', '.').rsplit('.', 1)[-1], choice)
    found = difflib.get_close_matches(lowered, list(by_key), n=1, cutoff=0.6)
    if not found and len(lowered) > 2:
        found = [key for key in sorted(by_key) if key.startswith(lowered)]
    return by_key[found[0]] if found else None


def suggest(name, choices):
    """Returns ' Did you mean "x"?' for the choice most like `name`, or '' if none is close."""
    found = nearest(name, choices)
    return f' Did you mean "{found}"?' if found is not None else ''


def require_one_of(kind, name, choices):
    """Returns `name` if it is one of `choices`.

    Args:
      kind: what is being named, for the message ('data set', 'strategy', …).
      name: what was asked for.
      choices: every name that exists.

    Raises:
      UserError: naming the choices and the nearest one.
    """
    choices = list(choices)
    if name in choices:
        return name
    known = ', '.join(str(choice) for choice in choices) or 'none'
    raise UserError(f'unknown {kind} "{name}".{suggest(name, choices)} Known: {known}.')


def first_line(error):
    """The first line of an exception's message, or its class' name where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
