"""A forest plot: differences with their intervals, one below the other."""
from typing import NamedTuple, Optional

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tf_advseg.reporting import curves
from tf_advseg.reporting import paired

_ROW, _AXIS, _WIDTH = 0.34, 0.9, 9.5  # inches


class Panel(NamedTuple):
    """The differences in one measure.

    Attributes:
      title: of the axis.
      rows: [(name, paired.Difference with an interval, the paper's gain or None)].
      higher_is_better: whether a difference above 0 is a gain.
      folds: into how many folds the data are cut, if differences are counted by these and not by
        runs.
    """
    title: str
    rows: list
    higher_is_better: bool = True
    folds: Optional[int] = None


def forest(parts):
    """Each difference as a mark with its 95 % interval as a line; 0 is drawn through.

    An interval that holds 0 is grey, one on the better side green, one on the worse side red; over
    folds the interval that decides is `paired.corrected`, wider than the one that is drawn. What a
    paper claims is a hollow mark.

    Args:
      parts: [Panel].

    Returns:
      matplotlib Figure.
    """
    heights = [_AXIS + _ROW * len(part.rows) for part in parts]
    figure = Figure(figsize=(_WIDTH, sum(heights)), dpi=110, layout='constrained')
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(parts), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, part in zip(panels, parts):
        _draw(axes, *part)
    return figure


def _draw(axes, title, rows, higher_is_better, folds):
    axes.axvline(0.0, color='#000000', linewidth=0.8, alpha=0.5)
    for place, (_, found, _) in enumerate(rows):
        clear = paired.is_clear(found, folds)
        better = (found.mean > 0) == higher_is_better
        colour = (curves.PEAK if better else curves.END) if clear else curves.CONTROL
        axes.errorbar(found.mean, place, xerr=found.half_width, fmt='o', markersize=5,
                      linewidth=1.6, capsize=3, color=colour)
        axes.annotate(f' {_said(found, folds)}', (1.0, place), fontsize=8, va='center',
                      xycoords=('axes fraction', 'data'), annotation_clip=False)
    claims = [(claim, place) for place, (_, _, claim) in enumerate(rows) if claim is not None]
    if claims:
        axes.plot(*zip(*claims), 'D', color='none', markeredgecolor='#000000', markersize=6,
                  label="the paper's, on its own data")
        axes.legend(frameon=False, fontsize=8, loc='lower left', bbox_to_anchor=(0, 1))
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(title, fontsize=9)
    axes.spines[['top', 'right', 'left']].set_visible(False)
    axes.grid(True, axis='x', color='#000000', alpha=0.08, linewidth=0.6)


def _said(found, folds):
    return f'{found}, {found.count} {"folds" if folds else "runs"}'


def described(parts):
    """The same as text, a line a mark: what a chart's file says of itself.

    Args:
      parts: see `forest`.
    """
    lines = []
    for part in parts:
        lines.append(part.title)
        lines += [f'{name}: {_said(found, part.folds)}'
                  + ('' if claim is None else f"; the paper's {claim:+.2f}")
                  for name, found, claim in part.rows]
    return '\n'.join(lines)
