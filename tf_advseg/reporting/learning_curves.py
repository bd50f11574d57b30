"""Learning curves of several runs in one chart: means over runs, methods and their controls.

A method's line is solid and coloured, a control's dashed and grey (in its cell's colour where
cells have controls of their own). Below, where runs have controls, stands the gain over them: runs
differ more than arms do, and pairs of one run cancel that.
"""
import statistics
from typing import NamedTuple, Tuple

from matplotlib.ticker import MaxNLocator

from tf_advseg.reporting import curves
from tf_advseg.reporting import paired

COLOURS = ('#2f6db5', '#c07a1c', '#1b7f4b', '#7a4fb0', '#b5402f', '#12868a', '#8c564b', '#c9477f')
_MARKS = (None, 's', '^', 'D', 'v')  # of the first eight cells, the second, ...
_DASHED = (0, (4, 2))
_FEW = 15  # points that are marked one by one
_LINE = 118  # letters of the legend's text that fit on a line
_HEIGHT, _GAINS, _ROW = 4.4, 2.3, 0.2  # inches: the curves, the gains, a line of the legend


class Curve(NamedTuple):
    """A quantity over the steps of some runs of one kind.

    Attributes:
      name: for the legend.
      runs: ((step, value), ...) of each run, in the order of steps; at least one point each.
      is_control: whether these are trained without the method.
      cell: number of its cell, which gives the colour; None for a grey one, of several cells.
    """
    name: str
    runs: Tuple
    is_control: bool = False
    cell: object = 0


def shared_steps(runs):
    """[(step, [value of each run])] at the steps that all runs have, in their order."""
    by_step = [dict(run) for run in runs]
    return [(step, [values[step] for values in by_step]) for step in sorted(by_step[0])
            if all(step in values for values in by_step)] if by_step else []


def figure(found, gains=(), counted='segmentor\'s steps', measured='mIoU on the hold-out (%)'):
    """Each curve's mean over its runs, with a band of one standard deviation to both sides.

    The mean is drawn at the steps that all runs of a curve have; behind the last of them, where
    some runs are still on their way, each run is a thin line.

    Args:
      found: list of `Curve`; at least one.
      gains: list of `Curve`: each run less its own control. They get a panel of their own, with the
        t-based 95 % interval of their mean as a band.
      counted, measured: labels of the axes.

    Returns:
      matplotlib Figure, its legend below the axes.
    """
    several = any(len(curve.runs) > 1 for curve in found)
    labels = [f'{curve.name} ({_count(curve.runs)})' if several else curve.name for curve in found]
    columns = max(1, min(len(found), 4, _LINE // (max(map(len, labels)) + 8)))
    legend = _ROW * -(-len(found) // columns)
    drawn, axes = curves.new_figure(9.0, _HEIGHT + (_GAINS if gains else 0) + legend)
    below = axes
    if gains:
        axes.remove()
        axes, below = drawn.subplots(2, 1, sharex=True, height_ratios=(_HEIGHT, _GAINS))
        _draw_gains(below, gains)
    for each in {axes, below}:
        each.spines[['top', 'right']].set_visible(False)
        each.grid(True, color='#000000', alpha=0.08, linewidth=0.6)
    handles = [_draw(axes, curve, statistics.stdev) for curve in found]
    axes.set_title(_notes(found), loc='right', fontsize=8, color=curves.QUIET)
    below.set_xlabel(counted)
    axes.set_ylabel(measured)
    below.xaxis.set_major_locator(MaxNLocator(integer=True, steps=(1, 2, 5, 10)))
    drawn.legend(handles=handles, labels=labels, loc='outside lower center', frameon=False,
                 fontsize=9, ncols=columns, handlelength=2.8, columnspacing=1.6)
    return drawn


def _draw_gains(axes, gains):
    """The panel of what runs have over their controls."""
    axes.axhline(0.0, color=curves.QUIET, linestyle=_DASHED, linewidth=1.2)
    for curve in gains:
        _draw(axes, curve, lambda values: paired.half_width(statistics.stdev(values), len(values)))
    axes.set_ylabel('less its control\n(points)')
    axes.set_title('mean over pairs, band: 95 % interval', loc='right', fontsize=8,
                   color=curves.QUIET)


def _count(runs):
    return f'{len(runs)} run{"" if len(runs) == 1 else "s"}'


def _notes(found):
    """How the lines are to be read."""
    notes = {'mean over runs, band: ± standard deviation': any(
        len(curve.runs) > 1 and shared_steps(curve.runs) for curve in found),
             'thin: single runs': any(_beyond(curve.runs) for curve in found),
             'dashed: control': any(curve.is_control for curve in found)}
    return '; '.join(note for note, there in notes.items() if there)


def _beyond(runs):
    """What of each run of several lies behind the last step that all have; [] where nothing."""
    if len(runs) == 1:
        return []
    shared = shared_steps(runs)
    if not shared:
        return list(runs)
    parts = [[point for point in run if point[0] >= shared[-1][0]] for run in runs]
    return [part for part in parts if len(part) > 1]


def _look(curve):
    """Colour, dashes and marks."""
    if curve.cell is None:
        return {'color': curves.QUIET, 'linestyle': _DASHED}
    colour = COLOURS[curve.cell % len(COLOURS)]
    if curve.is_control:
        return {'color': colour, 'linestyle': _DASHED}
    return {'color': colour, 'marker': _MARKS[curve.cell // len(COLOURS) % len(_MARKS)]}


def _draw(axes, curve, spread):
    """Draws a curve; returns the line that stands in the legend.

    Args:
      axes: matplotlib's.
      curve: `Curve`.
      spread: function(values of several runs at a step) -> half the width of the band.
    """
    look, shared = _look(curve), shared_steps(curve.runs)
    # Dashes on top let a line below them be seen, should the two be one.
    width, depth = (1.6, 6) if curve.is_control else (2.0, 4)
    for part in _beyond(curve.runs):
        axes.plot(*zip(*part), **{**look, 'marker': '.' if len(part) < 3 else None},
                  linewidth=0.9, alpha=0.55, markersize=4, zorder=3)
    if not shared:
        return axes.plot([], [], **look, linewidth=0.9, alpha=0.55)[0]
    steps, values = zip(*shared)
    means = list(map(statistics.fmean, values))
    if len(curve.runs) > 1:
        half = list(map(spread, values))
        axes.fill_between(steps, [mean - each for mean, each in zip(means, half)],
                          [mean + each for mean, each in zip(means, half)], color=look['color'],
                          alpha=0.08 if curve.is_control else 0.14, linewidth=0, zorder=2)
    mark = look.pop('marker', None) or ('.' if len(steps) <= _FEW else None)
    return axes.plot(steps, means, **look, marker=mark, markersize=5, linewidth=width,
                     markevery=max(1, len(steps) // _FEW), zorder=depth,
                     solid_joinstyle='round')[0]
