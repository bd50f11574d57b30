"""A progress bar with the time left, on stderr; plain lines where stderr is no terminal."""
import sys
import time

_LINE_SECONDS = 30.0


def clock_text(seconds):
    """Seconds as 'm:ss' or 'h:mm:ss'."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{seconds:02d}' if hours else f'{minutes}:{seconds:02d}'


class Progress:
    """Shows how far a loop is: a tqdm bar on a terminal, else a line at most each 30 s.

    A context manager.
    """

    def __init__(self, total, description, enabled=None, stream=None, clock=time.monotonic):
        """Starts the clock.

        Args:
          total: number of steps, or None where it is not known.
          description: a few words before the bar.
          enabled: False shows nothing; None or True shows it.
          stream: where to; None means stderr.
          clock: seconds, for the plain lines.
        """
        self.total = total
        self.done = 0
        self._description = description
        self._stream = stream or sys.stderr
        self._clock = clock
        self._started = self._last_line = clock()
        self._first = None  # (done, time) of the first update, until which a step may be compiled
        self._postfix = {}
        self._printed = None  # how many were done at the last plain line
        self._bar = None
        self._lines = enabled is not False
        if self._lines and self._stream.isatty():
            from tqdm import tqdm
            self._lines = False
            self._bar = tqdm(total=total, desc=description, file=self._stream, leave=False,
                             dynamic_ncols=True)

    def update(self, n=1, **postfix):
        """Counts `n` steps more; `postfix` values (numbers or text) are shown behind."""
        self.done += n
        if self._first is None:
            self._first = (self.done, self._clock())
        if postfix:
            self._postfix = postfix
        if self._bar is not None:
            if postfix:
                self._bar.set_postfix(postfix, refresh=False)
            self._bar.update(n)
        elif self._lines and self._clock() - self._last_line >= _LINE_SECONDS:
            self._print()

    def say(self, text):
        """Prints a line on stdout, past the bar; nothing where nothing is shown."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stdout)
        elif self._lines:
            print(text, flush=True)

    def _print(self):
        """Writes one plain line."""
        self._last_line, self._printed = self._clock(), self.done
        elapsed = self._last_line - self._started
        count = f'{self.done}/{self.total}' if self.total else str(self.done)
        text = f'{self._description}: {count}, {clock_text(elapsed)} gone'
        left = self._left(elapsed)
        if left is not None:
            text += f', {clock_text(left)} left'
        for name, value in self._postfix.items():
            text += f', {name}={value:.4g}' if isinstance(value, float) else f', {name}={value}'
        print(text, file=self._stream, flush=True)

    def _left(self, elapsed):
        """Seconds to the end at the rate since the first update; None where nobody can say.

        Of the first update alone, which may have taken a step's compilation, nothing is concluded
        but where it is a hundredth of the whole or more.
        """
        if not self.total or not 0 < self.done < self.total:
            return None
        done, since = self._first
        if self.done > done:
            each = (self._last_line - since) / (self.done - done)
        elif 100 * self.done >= self.total:
            each = elapsed / self.done
        else:
            return None
        return each * (self.total - self.done)

    def close(self):
        """Ends the bar; a loop of more than 30 s on no terminal gets a closing line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        elif (self._lines and self._printed != self.done
              and self._clock() - self._started >= _LINE_SECONDS):
            self._print()
        self._lines = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
