"""Loss against learning rate, of a range test: what can be read off it, and its chart."""
import dataclasses

import numpy as np

from tf_advseg.reporting import curves
from tf_advseg.reporting import tables

TOO_HIGH = 4.0  # a loss this many times its lowest has diverged


@dataclasses.dataclass(frozen=True)
class RateCurve:
    """The steps of a range test (Smith 2017, section 3.3, where the rate rises in a line).

    Attributes:
      rates: float64 [n], rising by one factor from step to step.
      losses: float64 [n], of each step's batch before its update; the last may be no number.
      diverged: whether the last step is where the loss diverged.
    """
    rates: np.ndarray
    losses: np.ndarray
    diverged: bool

    @property
    def smoothed(self):
        """float64 [n]: the mean of the losses within a fortieth of the steps to either side, of
        those that are numbers."""
        half, finite = len(self.losses) // 40, np.isfinite(self.losses)
        found = np.full(len(self.losses), np.nan)
        for place in np.flatnonzero(finite):
            near = slice(max(0, place - half), place + half + 1)
            found[place] = self.losses[near][finite[near]].mean()
        return found

    @property
    def _kept(self):
        """How many steps lie before the divergence."""
        return len(self.losses) - self.diverged

    @property
    def lowest(self):
        """The rate where the smoothed loss is lowest."""
        return float(self.rates[np.argmin(self.smoothed[:self._kept])])

    @property
    def steepest(self):
        """The rate where the smoothed loss falls fastest against the rate's logarithm, before its
        lowest; None where it never falls."""
        losses = self.smoothed[:self._kept]
        before = int(np.argmin(losses)) + 1
        if before < 2:
            return None
        slopes = np.gradient(losses[:before], np.log(self.rates[:before]))
        return float(self.rates[np.argmin(slopes)])

    @property
    def divergent(self):
        """The rate where the loss diverged; None where it did not."""
        return float(self.rates[-1]) if self.diverged else None


def has_diverged(losses):
    """Whether the last loss is no number, or the last three lie far above the lowest such mean."""
    if not np.isfinite(losses[-1]):
        return True
    if len(losses) < 4:
        return False
    means = np.convolve(losses, np.ones(3) / 3, 'valid')
    return bool(means[-1] > TOO_HIGH * means.min())


def table(curve, configured):
    """tables.Table of what is read off a curve.

    Args:
      curve: `RateCurve`.
      configured: the rate that the configuration has.
    """
    said = {'steepest descent (suggested)': curve.steepest, 'lowest loss': curve.lowest,
            'divergence': curve.divergent, 'configured': configured}
    none = {'steepest descent (suggested)': 'none: the loss never fell',
            'divergence': f'none up to {curve.rates[-1]:.3g}'}
    smoothed = curve.smoothed

    def loss_at(rate):
        inside = curve.rates[0] <= rate <= curve.rates[-1]
        at = int(np.argmin(np.abs(np.log(curve.rates / rate)))) if inside else None
        return '' if at is None else f'{smoothed[at]:.4g}'
    return tables.plain_table(
        ('what', 'learning rate', 'loss'),
        [(name, none[name] if rate is None else f'{rate:.3g}',
          '' if rate is None else loss_at(rate)) for name, rate in said.items()],
        f'learning-rate range test of Stage 1, {len(curve.rates)} steps from '
        f'{curve.rates[0]:.3g}')


def figure(curve, configured):
    """matplotlib Figure: the loss of each step and smoothed, against the rate; see `table`."""
    drawn, axes = curves.new_figure()
    axes.plot(curve.rates, curve.losses, '.', color=curves.QUIET, alpha=0.5, markersize=4,
              label='of a batch')
    axes.plot(curve.rates, curve.smoothed, color='#2f6db5', linewidth=1.7, label='smoothed')
    for name, rate, colour, style in (
            ('steepest descent', curve.steepest, curves.PEAK, '-'),
            ('lowest', curve.lowest, curves.PEAK, ':'),
            ('divergence', curve.divergent, curves.END, '--'),
            ('configured', configured, '#222222', ':')):
        if rate is not None and curve.rates[0] <= rate <= curve.rates[-1]:
            axes.axvline(rate, color=colour, linestyle=style, linewidth=1.1,
                         label=f'{name}: {rate:.2g}')
    finite = curve.losses[np.isfinite(curve.losses)]
    axes.set_ylim(0, 1.2 * np.quantile(finite, 0.95))
    axes.set_xscale('log')
    axes.set_xlabel('learning rate')
    axes.set_ylabel('cross-entropy of Stage 1')
    axes.legend(frameon=False, fontsize=8)
    return drawn
