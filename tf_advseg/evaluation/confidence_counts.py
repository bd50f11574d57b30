"""How well a confidence separates right points from wrong ones (Hung et al. 2018, Table 7).

Two things are counted, of points that have a label: what a threshold T selects (the share of all
and its accuracy, as the table prints), and how the confidence ranks right before wrong points, as
the area under the ROC curve of "this point is right". Everything is whole numbers until it is
divided, so that neither batches nor their order matter, and counts of parts can be added.

The ranking is kept as a histogram, even in the log-odds of the confidence: the largest softmax
probability of a trained network lies within a hair of 1 nearly everywhere, where bins of even
width would separate nothing. Points of one bin count as equal.
"""
import numpy as np

from tf_advseg.core.errors import UserError

THRESHOLDS = (0.0, 0.1, 0.2, 0.3)  # of Table 7
BINS = 8192
_LIMIT = 40.0  # of the log-odds: beyond the last value of a float64 below 1


def require_thresholds(thresholds, name='thresholds'):
    """Thresholds on a confidence as ascending floats, each once.

    Raises:
      UserError: none, or one that is no number from 0 to 1.
    """
    try:
        found = tuple(sorted({float(value) for value in thresholds}))
    except (TypeError, ValueError):
        found = ()
    if not found or not all(0.0 <= value <= 1.0 for value in found):
        given = ','.join(map(str, thresholds)) if isinstance(
            thresholds, (list, tuple, set)) else thresholds
        raise UserError(f'{name}={given}: expected numbers from 0 to 1, such as '
                        f'{", ".join(f"{value:g}" for value in THRESHOLDS)}')
    return found


def _places(confidence):
    """Bins of confidences: 0 for 0, BINS + 1 for 1, by the log-odds between."""
    inner = np.asarray(confidence, np.float64)
    with np.errstate(divide='ignore'):
        odds = np.log(inner) - np.log1p(-inner)
    place = np.floor((np.clip(odds, -_LIMIT, _LIMIT) + _LIMIT) * (BINS / (2 * _LIMIT)))
    place = 1 + np.clip(place, 0, BINS - 1).astype(np.int64)
    return np.where(inner <= 0.0, 0, np.where(inner >= 1.0, BINS + 1, place))


def _lower_edge(place):
    """The smallest confidence of a bin."""
    if place == 0 or place == BINS + 1:
        return float(place > 0)
    return float(1.0 / (1.0 + np.exp(_LIMIT - (place - 1) * (2 * _LIMIT / BINS))))


class SelectionCounts:
    """What a confidence selects and how it ranks, added up over images.

    A point is selected where its confidence is above T, compared in the confidence's own
    precision, as in training; T = 0 selects every point ("we trust all the pixel predictions",
    section 5), also one whose sigmoid came out as 0. T = 1 selects none.

    Args:
      thresholds: numbers T from 0 to 1.

    Attributes:
      thresholds: ascending.
      points, right: how many points were counted, and how many of them are right.

    Raises:
      UserError: see `require_thresholds`.
    """

    def __init__(self, thresholds=THRESHOLDS):
        self.thresholds = require_thresholds(thresholds)
        self._selected = np.zeros((len(self.thresholds), 2), np.int64)  # wrong, right
        self._histogram = np.zeros((BINS + 2, 2), np.int64)             # wrong, right

    @property
    def points(self):
        """int."""
        return int(self._histogram.sum())

    @property
    def right(self):
        """int."""
        return int(self._histogram[:, 1].sum())

    def update(self, confidence, correct, valid):
        """Adds points.

        Args:
          confidence: float [...] in 0..1.
          correct: bool [...], whether the prediction there is right.
          valid: bool [...], which points count.

        Raises:
          UserError: shapes differ; a confidence that counts is not in 0..1.
        """
        confidence, correct = np.asarray(confidence), np.asarray(correct, bool)
        valid = np.asarray(valid, bool)
        if not confidence.shape == correct.shape == valid.shape:
            raise UserError(f'confidence {confidence.shape}, correct {correct.shape} and valid '
                            f'{valid.shape}: expected three arrays of one shape')
        confidence, correct = confidence[valid], correct[valid].astype(np.int64)
        if not np.all((confidence >= 0) & (confidence <= 1)):
            raise UserError('a confidence is not between 0 and 1: expected probabilities; put '
                            'logits through the sigmoid or softmax first')
        for row, threshold in enumerate(self.thresholds):
            chosen = correct if threshold == 0 else correct[
                confidence > confidence.dtype.type(threshold)]
            self._selected[row] += np.bincount(chosen, minlength=2)
        places = 2 * _places(confidence) + correct
        self._histogram += np.bincount(places, minlength=2 * (BINS + 2)).reshape(-1, 2)

    def selected(self, threshold):
        """How many points a threshold selects: int.

        Raises:
          UserError: a threshold that was not counted.
        """
        return int(self._row(threshold).sum())

    def share(self, threshold):
        """The selected share of all points; None where there are none. Raises as `selected`."""
        selected = self.selected(threshold)
        return selected / self.points if self.points else None

    def accuracy(self, threshold=0.0):
        """The share of the selected points that are right; None where none is selected.

        Args:
          threshold: one that was counted, or 0 for all points.

        Raises:
          UserError: another.
        """
        if threshold == 0.0:
            return self.right / self.points if self.points else None
        row = self._row(threshold)
        return float(row[1] / row.sum()) if row.sum() else None

    def auc(self):
        """Probability that a right point has the larger confidence than a wrong one (ties half).

        Returns:
          float: 0.5 for a confidence that knows nothing; None where all points are right, or wrong.
        """
        wrong, right = self._histogram.astype(np.float64).T
        pairs = wrong.sum() * right.sum()
        below = np.cumsum(wrong) - 0.5 * wrong
        return float((right * below).sum() / pairs) if pairs else None

    def top(self, count):
        """The accuracy of the most confident points, and the confidence that they begin at.

        Of the bin in which the selection ends, points are taken in proportion: what drawing among
        equals gives on the mean.

        Args:
          count: how many points, 0 to `points`.

        Returns:
          (accuracy, confidence), (None, None) for no points.
        """
        places, totals, right = self._from_the_top()
        if not 0 < count <= self.points:
            return None, None
        accuracy = float(np.interp(count, [0, *totals], [0, *right]) / count)
        return accuracy, _lower_edge(places[int(np.searchsorted(totals, count))])

    def coverage(self):
        """(shares, accuracies): float [n] each, of the most confident points, one n a filled bin.

        A threshold between any two of them gives a point on the line through these.
        """
        _, totals, right = self._from_the_top()
        return totals / max(1, self.points), right / np.maximum(1, totals)

    def _from_the_top(self):
        """(bins that hold points, from the largest confidence; points and right ones so far)."""
        totals = self._histogram.sum(axis=1)
        places = np.flatnonzero(totals)[::-1]
        return places, np.cumsum(totals[places]), np.cumsum(self._histogram[places, 1])

    def _row(self, threshold):
        if threshold not in self.thresholds:
            raise UserError(f'threshold {threshold:g} was not counted; there is '
                            f'{", ".join(f"{value:g}" for value in self.thresholds)}')
        return self._selected[self.thresholds.index(threshold)]


def figures(softmax, disc=None):
    """Table 7 as named numbers: of a discriminator and, at the same share, of the softmax.

    Two confidences can be compared at an equal share only: the more a threshold selects, the less
    accurate it is.

    Args:
      softmax: SelectionCounts of the largest softmax probability.
      disc: that of the discriminator on the same points, or None.

    Returns:
      dict of 'points', 'accuracy' (of all points) and 'softmax/auc'. With a discriminator
      'disc/auc' and for each threshold T 'disc/share@T', 'disc/accuracy@T', 'softmax/accuracy@T'
      (of as many points, those of the largest probability) and 'softmax/cutoff@T' (the probability
      that these begin at). Without one 'softmax/share@T' and 'softmax/accuracy@T' of the threshold
      itself.
      Values are fractions, None where there is nothing to divide by.
    """
    found = {'points': softmax.points, 'accuracy': softmax.accuracy(),
             'softmax/auc': softmax.auc()}
    if disc is None:
        for threshold in softmax.thresholds:
            found[f'softmax/share@{threshold:g}'] = softmax.share(threshold)
            found[f'softmax/accuracy@{threshold:g}'] = softmax.accuracy(threshold)
        return found
    found['disc/auc'] = disc.auc()
    for threshold in disc.thresholds:
        accuracy, cutoff = softmax.top(disc.selected(threshold))
        found.update({f'disc/share@{threshold:g}': disc.share(threshold),
                      f'disc/accuracy@{threshold:g}': disc.accuracy(threshold)
                      if disc.selected(threshold) else None,
                      f'softmax/accuracy@{threshold:g}': accuracy,
                      f'softmax/cutoff@{threshold:g}': cutoff})
    return found
