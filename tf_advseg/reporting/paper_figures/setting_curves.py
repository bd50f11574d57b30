"""A measure over the values of a setting (Durall et al., Fig. 4)."""
import statistics
from typing import Mapping, NamedTuple, Optional

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tf_advseg.reporting import curves

_DASHED = (0, (4, 2))
PLAIN, AVERAGED = '#5b9bd8', '#1b4f8f'  # last weights and averaged ones, as in the report
_LOOKS = ({'color': PLAIN, 'marker': 'o'}, {'color': AVERAGED, 'marker': 's'})
_LEVELS = (curves.CONTROL, '#4a525d')  # the same of what is no method


class Panel(NamedTuple):
    """One setting.

    Attributes:
      label: of the setting.
      lines: {name: {value of the setting: [measure of each run]}}, two at most: last weights, then
        averaged ones; one alone is a control's averaged weights.
      levels: {name: [measure of each run]} of what does not depend on the setting: a control's last
        weights, then averaged ones.
      printed_best: the value that the paper found best or chose; None where it does not say.
      logarithmic: whether values differ by powers.
    """
    label: str
    lines: Mapping
    levels: Mapping
    printed_best: Optional[float] = None
    logarithmic: bool = False


def figure(panels, measured):
    """A panel a setting, all with one range: means as lines, single runs as pale dots.

    Args:
      panels: list of `Panel`; one at least has a number.
      measured: label of the measure, which is in percent.

    Returns:
      matplotlib Figure, its legend below.
    """
    drawn = Figure(figsize=(1.2 + 3.2 * len(panels), 3.9), dpi=110, layout='constrained')
    FigureCanvasAgg(drawn)
    handles = {}
    for axes, panel in zip(drawn.subplots(1, len(panels), squeeze=False, sharey=True)[0], panels):
        handles.update(_draw(axes, panel))
    if any(len(runs) > 1 for panel in panels for found in panel.lines.values()
           for runs in found.values()):
        drawn.axes[-1].set_title('pale dots: single runs', loc='right', fontsize=8,
                                 color=curves.QUIET)
    drawn.axes[0].set_ylabel(f'{measured} (%)', fontsize=9)
    drawn.legend(handles.values(), handles, loc='outside lower center', frameon=False, fontsize=8,
                 ncols=min(3, len(handles)))
    return drawn


def _draw(axes, panel):
    """Draws a panel; returns {name: line for the legend}."""
    handles = {}
    if panel.logarithmic:
        axes.set_xscale('log')
        axes.minorticks_off()
    looks = _LOOKS if len(panel.lines) > 1 else ({'color': _LEVELS[1], 'marker': 's'},)
    for (name, found), look in zip(panel.lines.items(), looks):
        points = [(value, runs) for value, runs in sorted(found.items()) if runs]
        for value, runs in points if any(len(runs) > 1 for _, runs in points) else ():
            axes.plot([value] * len(runs), runs, '.', color=look['color'], alpha=0.35,
                      markersize=4)
        if points:
            handles[name], = axes.plot(
                [value for value, _ in points], [statistics.fmean(runs) for _, runs in points],
                linewidth=1.8, markersize=5, **look)
    for (name, runs), colour in zip(panel.levels.items(), _LEVELS):
        if runs:
            handles[name] = axes.axhline(statistics.fmean(runs), color=colour, linewidth=1.4,
                                         linestyle=_DASHED)
    if panel.printed_best is not None:
        handles['the paper\'s choice'] = axes.axvline(panel.printed_best, linestyle=':',
                                                      linewidth=1.2, color=curves.END)
    values = sorted({value for found in panel.lines.values() for value in found})
    axes.set_xticks(values, [f'{value:g}' for value in values])
    axes.set_xlabel(panel.label, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(True, color='#000000', alpha=0.08, linewidth=0.6)
    return handles
