"""Where the wall time of a run went."""
import contextlib
import time

REST = 'the rest'


class Stopwatch:
    """Adds up seconds by name; names may not nest.

    Args:
      seconds: dict of what an earlier part of the run spent, or None.
    """

    def __init__(self, seconds=None):
        self.seconds = dict(seconds or {})
        self._last = time.perf_counter()

    @contextlib.contextmanager
    def time(self, name):
        """Counts the time inside the block under `name`, and the time before it as the rest."""
        self.lap()
        try:
            yield
        finally:
            now = time.perf_counter()
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
            self._last = now

    def lap(self):
        """Books everything since the last block as the rest."""
        now = time.perf_counter()
        self.seconds[REST] = self.seconds.get(REST, 0.0) + now - self._last
        self._last = now

    def total(self):
        """Seconds in all."""
        return sum(self.seconds.values())
