"""Paired differences over runs: their mean, its interval, and how many runs a finer one takes."""
import math
import statistics
from typing import NamedTuple

from scipy import stats

CONFIDENCE = 0.95
MOST_RUNS = 100_000  # more are not counted one by one


class Difference(NamedTuple):
    """Paired differences of some runs.

    Attributes:
      count: how many pairs, or folds that are counted as one.
      mean: of the differences; None without any.
      deviation: their standard deviation; None below two.
      half_width: of the t-based 95 % interval of the mean; None below two.
    """
    count: int
    mean: object = None
    deviation: object = None
    half_width: object = None

    def __str__(self):
        """'mean [low, high]'; '–' for what is not there."""
        if self.mean is None:
            return '–'
        # + 0.0: what rounds to zero has no sign.
        mean, *ends = (round(value, 2) + 0.0 for value in (self.mean, *(
            () if self.half_width is None
            else (self.mean - self.half_width, self.mean + self.half_width))))
        return f'{mean:+.2f} ' + (f'[{ends[0]:+.2f}, {ends[1]:+.2f}]' if ends else '–')


def difference(pairs):
    """`Difference` of (a, b) pairs, a less b.

    The interval is Student's t's: that of a mean of few runs.
    """
    found = [a - b for a, b in pairs]
    if not found:
        return Difference(0)
    mean = statistics.fmean(found)
    if len(found) < 2:
        return Difference(1, mean)
    deviation = statistics.stdev(found)
    return Difference(len(found), mean, deviation, half_width(deviation, len(found)))


def half_width(deviation, count):
    """Half the width of the 95 % interval of a mean of `count` runs, at least two."""
    return stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * deviation / math.sqrt(count)


def corrected(half_width_of_folds, count, folds):
    """Half the width where training images overlap, as those of folds do.

    The variance of a mean of n runs is s² (1 / n + test / train) in place of s² / n: the corrected
    resampled t-test (Nadeau and Bengio, Inference for the generalization error, Machine Learning
    52, 2003). Of k folds a run tests on one and trains on k - 2, as one more is its val.

    Args:
      half_width_of_folds: from `half_width`.
      count: how many folds the mean is of.
      folds: k, above two.
    """
    return half_width_of_folds * math.sqrt(1 + count / (folds - 2))


def is_clear(found, folds=None):
    """Whether a Difference's interval leaves out 0; of `folds` folds, if given, the `corrected`.

    False without an interval. Of two folds there is no correction.
    """
    if found.half_width is None:
        return False
    half = (corrected(found.half_width, found.count, folds) if folds and folds > 2
            else found.half_width)
    return abs(found.mean) > half


def runs_for(deviation, half):
    """How many runs make the interval no wider than ± half, if they scatter by `deviation`.

    Returns:
      int, at least 2; None above MOST_RUNS.
    """
    few, many = 2, MOST_RUNS
    if half_width(deviation, many) > half:
        return None
    while few < many:  # the half-width falls with the number of runs
        middle = (few + many) // 2
        few, many = (few, middle) if half_width(deviation, middle) <= half else (middle + 1, many)
    return few
