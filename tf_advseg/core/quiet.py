"""Keeps the notices of libraries off the terminal."""
import contextlib
import io
import os
import sys
import threading
import warnings

# The process' stderr is one thing: two threads that put it away would lose it. So conversions,
# which run inside, take turns, too.
_TURN = threading.RLock()


@contextlib.contextmanager
def quiet():
    """Keeps the libraries' notices, written from C++ too, off the terminal; errors still raise.

    One thread at a time is inside.
    """
    with _TURN:
        with _put_away():
            yield


@contextlib.contextmanager
def _put_away():
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr to keep clean
        yield
        return
    with open(os.devnull, 'wb') as nothing, warnings.catch_warnings(), \
            contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter('ignore')
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
