"""A measure as bars, in groups (Durall et al., Fig. 8)."""
import statistics

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tf_advseg.reporting import curves

_COLOURS = ('#b9bec6', '#2f6db5', '#1b7f4b', '#c07a1c')
_WIDTH = 0.8  # of a group; groups are 1 apart


def figure(groups, measured):
    """Each group's bars side by side, from 0: the mean over runs, its number on top.

    Runs of several are dots, and their standard deviation is a line.

    Args:
      groups: {group: {name: [measure of each run]}}, percent; names are those of the legend. One
        at least has a number.
      measured: label of the measure.

    Returns:
      matplotlib Figure, its legend above the axes.
    """
    names = list(dict.fromkeys(name for found in groups.values() for name in found))
    width = _WIDTH / len(names)
    drawn = Figure(figsize=(2.2 + 1.1 * len(names) * len(groups), 4.0), dpi=110,
                   layout='constrained')
    FigureCanvasAgg(drawn)
    axes = drawn.add_subplot()
    for number, name in enumerate(names):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [(place + width * (number - (len(names) - 1) / 2), found.get(name) or [])
                  for place, found in enumerate(groups.values())]
        bars = [(place, runs) for place, runs in places if runs]
        axes.bar([place for place, _ in bars], [statistics.fmean(runs) for _, runs in bars],
                 width=0.92 * width, color=colour, label=name, zorder=2)
        for place, runs in bars:
            _draw_runs(axes, place, runs)
    axes.set_xticks(range(len(groups)), list(groups))
    if any(len(runs or ()) > 1 for found in groups.values() for runs in found.values()):
        axes.set_xlabel('dots: runs; lines: standard deviation', fontsize=8, color=curves.QUIET)
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.margins(y=0.12)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(f'{measured} (%)')
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(True, axis='y', color='#000000', alpha=0.08, linewidth=0.6)
    axes.legend(frameon=False, fontsize=9, ncols=len(names), loc='lower center',
                bbox_to_anchor=(0.5, 1.0))
    return drawn


def _draw_runs(axes, place, runs):
    """The mean's number above a bar; of several runs each, and their standard deviation."""
    mean, top = statistics.fmean(runs), max(runs)
    if len(runs) > 1:
        spread = statistics.stdev(runs)
        top = max(top, mean + spread)
        axes.errorbar(place, mean, yerr=spread, color='#222222', linewidth=1.2, capsize=4, zorder=3)
        axes.plot([place] * len(runs), runs, '.', color=curves.QUIET, markersize=5, zorder=4)
    axes.annotate(f'{mean:.2f}', (place, top), xytext=(0, 4), textcoords='offset points',
                  ha='center', va='bottom', fontsize=9)
