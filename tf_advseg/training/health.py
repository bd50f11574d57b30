"""Watching for losses that are no numbers: counted, and given up on with a clear message."""
import math

from tf_advseg.core import errors


def is_finite(scalars):
    """True if every value of a dict of numbers is finite."""
    return all(math.isfinite(value) for value in scalars.values())


class NonFiniteGuard:
    """Counts non-finite steps of a run and gives up beyond a limit.

    Args:
      limit: how many are forgiven.
      count: how many there were before (a resumed run).
    """

    def __init__(self, limit=5, count=0):
        self.limit = limit
        self.count = count

    def record(self, where, scalars):
        """Counts one more.

        Raises:
          UserError: that was one too many; names the scalars and what to try.
        """
        self.count += 1
        if self.count > self.limit:
            bad = ', '.join(f'{k}={v}' for k, v in scalars.items() if not math.isfinite(v))
            raise errors.UserError(
                f'{where}: the loss is not finite ({bad}), {self.count} times now; given up after '
                f'{self.limit} rewinds; lower the learning rate or the adversarial weight')
