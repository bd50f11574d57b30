"""Our runs' numbers beside those that a paper prints, as a chart."""
import statistics

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tf_advseg.reporting import curves

_ROW, _AXIS, _WIDTH = 0.32, 1.0, 8.0  # inches


def figure(parts, where=''):
    """Printed numbers as hollow marks, ours as dots of runs and their mean with its deviation.

    Args:
      parts: [(title of the axis, [(label, printed number or None, [number of each run])])], a panel
        each; percent.
      where: what ours were made on, for the legend.

    Returns:
      matplotlib Figure.
    """
    heights = [_AXIS + _ROW * len(rows) for _, rows in parts]
    drawn = Figure(figsize=(_WIDTH, sum(heights)), dpi=110, layout='constrained')
    FigureCanvasAgg(drawn)
    panels = drawn.subplots(len(parts), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (title, rows) in zip(panels, parts):
        _panel(axes, title, rows, f'here {where}'.strip())
    return drawn


def _panel(axes, title, rows, ours):
    printed = [(value, place) for place, (_, value, _) in enumerate(rows) if value is not None]
    runs = [(value, place) for place, (_, _, values) in enumerate(rows) for value in values]
    if printed:
        axes.plot(*zip(*printed), 'D', color='none', markeredgecolor=curves.END, markersize=7,
                  label="the paper's")
    if runs:
        axes.plot(*zip(*runs), '.', color=curves.QUIET, alpha=0.6, label=f'{ours}, a run')
    means = [(statistics.mean(values), place, statistics.stdev(values))
             for place, (_, _, values) in enumerate(rows) if len(values) > 1]
    if means:
        at, places, deviations = zip(*means)
        axes.errorbar(at, places, xerr=deviations, fmt='o', markersize=5, capsize=3,
                      color=curves.PEAK, label='mean of runs, standard deviation')
    axes.set_yticks(range(len(rows)), [label for label, _, _ in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(f'{title}, percent', fontsize=9)
    axes.spines[['top', 'right', 'left']].set_visible(False)
    axes.grid(True, axis='x', color='#000000', alpha=0.08, linewidth=0.6)
    axes.legend(frameon=False, fontsize=8, loc='lower left', bbox_to_anchor=(0, 1), ncols=3)
