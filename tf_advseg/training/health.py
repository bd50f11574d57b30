"""Losses that are no numbers: one rule for every training.

A non-finite loss is forgiven where there is something to go back to, as often as a limit allows;
beyond it the run ends with one line. LoAd rewinds, so its limit is a setting
(`lookahead.non_finite_limit`); a stage of the ordinary loop would take the same steps again to the
same end, so its limit is 0.
"""
import math

from tf_advseg.core import errors


def is_finite(scalars):
    """True if every value of a dict of numbers is finite."""
    return all(math.isfinite(value) for value in scalars.values())


def first_bad(steps):
    """The first of several steps' scalars that holds a number which is not finite, or None."""
    return next((scalars for scalars in steps if not is_finite(scalars)), None)


class NonFiniteGuard:
    """Counts non-finite steps of a run and gives up beyond a limit.

    Args:
      limit: how many are forgiven.
      count: how many there were before (a resumed run).
    """

    def __init__(self, limit, count=0):
        self.limit = limit
        self.count = count

    def record(self, where, scalars, place=''):
        """Counts one more.

        Args:
          where: what is trained, for the message.
          scalars: of the step.
          place: which step it was, such as ' at step 7 (segmentor)'.

        Raises:
          UserError: that was one too many; names the scalars and what to try.
        """
        self.count += 1
        if self.count <= self.limit:
            return
        bad = ', '.join(f'{k}={v}' for k, v in scalars.items() if not math.isfinite(v))
        often = (f', {self.count} times now, given up after {self.limit} rewinds' if self.limit
                 else '')
        raise errors.UserError(
            f'{where}: the loss is not finite{place} ({bad}){often}; lower the learning rate or '
            'the adversarial weight, or look at the data with tools/doctor.py')


class UnreadScalars:
    """Scalars of steps that were taken but not yet looked at, so that no step waits for the device.

    Args:
      description: of the stage, for the message.
      most: steps after which they are looked at in any case.
    """

    def __init__(self, description, most=50):
        self._description = description
        self._most = most
        self._guard = NonFiniteGuard(limit=0)
        self._waiting = []

    def add(self, step, phase, scalars):
        """Puts one step's scalars aside; returns whether there are enough to be looked at."""
        self._waiting.append((step, phase, scalars))
        return len(self._waiting) >= self._most

    def look(self):
        """Reads them all.

        Raises:
          UserError: one is not finite; names the first step with such a loss.
        """
        waiting, self._waiting = self._waiting, []
        for step, phase, scalars in waiting:
            if not is_finite(scalars):
                self._guard.record(self._description, scalars, f' at step {step} ({phase})')
