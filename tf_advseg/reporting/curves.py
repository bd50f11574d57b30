"""Curves of a LoAd run: the convergence graph of Figs 1a and 3, the buffer of Fig. 1b.

They read the events of journal.jsonl and metrics.jsonl as plain dicts (core.journal.Journal.read),
of a finished run or of one still under way. Figures are matplotlib's object-oriented ones: no
pyplot, no global state.
"""
import dataclasses
import io
import math
import re
from typing import List, Optional

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

PEAK, END, CONTROL, QUIET = '#1b7f4b', '#b5402f', '#8a8f98', '#5b6470'
_BAND = 20         # columns of the buffer's image in one line
_CYCLES = ('#2f6db5', '#5d9bd8')        # neighbouring cycles alternate


@dataclasses.dataclass
class Cycle:
    """One cycle of LoAd: from a start through its propagations to its end.

    Positions are budget steps (propagations spent so far, never rewound); `level` is the start's
    position on the axis of iterations, which goes back at a rewind.
    """
    number: int
    start: int
    level: int
    start_miou: float
    start_label: str = 'g0'
    steps: List[int] = dataclasses.field(default_factory=list)
    mious: List[float] = dataclasses.field(default_factory=list)
    peak: Optional[dict] = None
    end: Optional[dict] = None

    @property
    def peak_step(self):
        """The budget step of the peak: where the curve has its mIoU, else the event's own.

        (A peak may be logged when its cycle is over, and then bears the step of the end.)
        """
        for step, miou in zip(self.steps, self.mious):
            if miou == self.peak.get('miou'):
                return step
        return self.peak.get('budget_step', self.start)

    def iteration(self, budget_step):
        """Where a budget step of this cycle lies on the axis of iterations."""
        return self.level + budget_step - self.start


def is_finite(value):
    """Whether a value of a journal line is a number that can be drawn."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def history(events, metrics=()):
    """The cycles of a run, in order, from its journal and its metrics.

    Args:
      events: dicts with `event` in start, peak, end, rewind (others are passed over): fields
        budget_step, cycle, label, miou, and for rewind `to`. The last peak of a cycle counts.
      metrics: dicts; those with `event` propagation give the curve (budget_step, cycle, miou).

    Returns:
      list of Cycle; empty where the run has not started. Where no metrics were kept, a cycle's
      curve goes through its start, peak and end.
    """
    start = next((e for e in events if e.get('event') == 'start'), None)
    if start is None:
        return []
    curve = {}
    for line in metrics:
        if line.get('event') == 'propagation' and 'cycle' in line and 'budget_step' in line:
            curve.setdefault(line['cycle'], []).append((line['budget_step'], line.get('miou')))
    found = {}
    places = {start.get('label', 'g0'): 0}      # label -> place on the axis of iterations
    origin = (start.get('label', 'g0'), start.get('budget_step', 0), start.get('miou'))

    def cycle_of(number):
        if number not in found:
            label, step, miou = origin
            points = sorted(curve.get(number, ()), key=lambda point: point[0])
            found[number] = Cycle(number, step, places.get(label, 0), miou, label,
                                  [step for step, _ in points], [miou for _, miou in points])
        return found[number]
    for event in events:
        kind = event.get('event')
        if kind in ('peak', 'end') and 'cycle' in event:
            setattr(cycle_of(event['cycle']), kind, event)
        elif kind == 'rewind':
            cycle = found.get(event.get('cycle'))
            if cycle and cycle.peak and cycle.peak.get('label') == event.get('to'):
                places[event['to']] = cycle.iteration(cycle.peak_step)
            origin = (event.get('to', '?'), event.get('budget_step', 0), event.get('miou'))
    for number in sorted(curve):
        cycle_of(number)            # the one under way has no event yet
    for cycle in found.values():
        if not cycle.steps:
            marks = sorted({(cycle.peak_step, e.get('miou')) if e is cycle.peak else
                            (e.get('budget_step', cycle.start), e.get('miou'))
                            for e in (cycle.peak, cycle.end) if e}, key=lambda point: point[0])
            cycle.steps = [step for step, _ in marks]
            cycle.mious = [miou for _, miou in marks]
    return [found[number] for number in sorted(found)]


def pretty(label, peaks=None):
    """'g1' -> '$g_{1}$', 'e01' -> '$g^e_{0,1}$' (an ending of the paper), others unchanged.

    Two-digit numbers make 'e010' ambiguous; `peaks`, the index i of the cycle's start, settles it.
    """
    peak = re.fullmatch(r'g\^?(\d+|\*)', str(label))
    if peak:
        return f'$g_{{{peak[1]}}}$' if peak[1] != '*' else '$g^*$'
    end = re.fullmatch(r'e(\d+)[_,](\d+)', str(label))
    if end:
        return f'$g^e_{{{end[1]},{end[2]}}}$'
    digits = re.fullmatch(r'e(\d{2,})', str(label))
    if not digits:
        return str(label).replace('$', r'\$')
    digits, i = digits[1], '' if peaks is None else str(peaks)
    if not (i and digits.startswith(i) and len(digits) > len(i)):
        i = digits[:1]
    return f'$g^e_{{{i},{digits[len(i):]}}}$'


def _index(label):
    digits = re.fullmatch(r'g(\d+)', str(label))
    return int(digits[1]) if digits else None


def new_figure(width=9.0, height=4.4):
    """(figure, axes) of this size in inches, on the Agg canvas, in the reports' look."""
    figure = Figure(figsize=(width, height), dpi=110, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(True, color='#000000', alpha=0.08, linewidth=0.6)
    return figure, axes


def write_note(axes, text):
    """Says in place of a curve why there is none."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha='center', va='center', color=QUIET)


def percentages(values):
    """Fractions as percent, nan for what is no number."""
    return [100.0 * v if is_finite(v) else float('nan') for v in values]


def _draw_cycle(axes, cycle, position, colour, width):
    """The line of one cycle from its starting point; returns nothing."""
    xs = [position(cycle, cycle.start)] + [position(cycle, step) for step in cycle.steps]
    axes.plot(xs, percentages([cycle.start_miou, *cycle.mious]), color=colour, linewidth=width,
              solid_joinstyle='round', zorder=3)


def _label(axes, text, x, y, above, colour, size):
    axes.annotate(text, (x, y), xytext=(0, 7 if above else -7), textcoords='offset points',
                  ha='center', va='bottom' if above else 'top', color=colour, fontsize=size,
                  zorder=6)


def _mark(axes, cycles, position, labels, size):
    """Peaks above, ends below, a dashed arrow from each end to where the next cycle starts."""
    named = _named_peaks(cycles, position)
    for number, cycle in enumerate(cycles):
        if cycle.peak and is_finite(cycle.peak.get('miou')):
            x, y = position(cycle, cycle.peak_step), 100 * cycle.peak['miou']
            axes.plot([x], [y], '^', color=PEAK, markersize=7, zorder=5)
            if cycle.number in named:
                _label(axes, pretty(cycle.peak.get('label', 'g')), x, y, True, PEAK, size + 1)
        if not cycle.end or not is_finite(cycle.end.get('miou')):
            continue
        x, y = position(cycle, cycle.end.get('budget_step', cycle.start)), 100 * cycle.end['miou']
        axes.plot([x], [y], 'v', color=END, markersize=5, zorder=5)
        if labels:
            _label(axes, pretty(cycle.end.get('label', ''), _index(cycle.start_label)), x, y,
                   False, END, size)
        if number + 1 < len(cycles) and is_finite(cycles[number + 1].start_miou):
            after = cycles[number + 1]
            target = position(after, after.start), 100 * after.start_miou
            axes.annotate('', target, (x, y), zorder=4, arrowprops={
                'arrowstyle': '->', 'linestyle': (0, (4, 3)), 'color': QUIET, 'linewidth': 1.0,
                'shrinkA': 4, 'shrinkB': 3})


def _named_peaks(cycles, position):
    """Numbers of the cycles whose peak is named: the last, and those not too near a later one."""
    span = max([position(c, step) for c in cycles for step in c.steps], default=0)
    kept = {}
    for cycle in reversed([c for c in cycles if c.peak]):
        x = position(cycle, cycle.peak_step)
        if all(abs(x - other) >= 0.028 * span for other in kept.values()):
            kept[cycle.number] = x
    return set(kept)


def _thresholds(axes, cycles, position, beta_u, beta_l):
    """Light lines over each cycle: what a peak has to pass, where the cycle is cut off."""
    for cycle in cycles:
        if not cycle.steps or not is_finite(cycle.start_miou):
            continue
        xs = [position(cycle, cycle.start), position(cycle, cycle.steps[-1])]
        for beta, colour in ((beta_u, PEAK), (None if beta_l is None else -beta_l, END)):
            if beta is not None:
                y = 100 * (cycle.start_miou + beta)
                axes.plot(xs, [y, y], color=colour, linewidth=0.9, alpha=0.35, zorder=1)


def _draw_control(axes, cycles, position):
    for cycle in cycles:
        _draw_cycle(axes, cycle, position, CONTROL, 1.1)
        if cycle.peak and is_finite(cycle.peak.get('miou')):
            axes.plot([position(cycle, cycle.peak_step)], [100 * cycle.peak['miou']],
                      '^', markerfacecolor='white', color=CONTROL, markersize=6, zorder=4)


def convergence_graph(events, metrics=(), control_events=None, control_metrics=None,
                      beta_u=None, beta_l=None, axis='spent'):
    """Hold-out mIoU against propagations, after LoAd Figs 1a and 3.

    Every cycle starts where the one before was rewound to; dashed arrows are the rewinds, upward
    triangles the peaks g_i, downward ones the ends g^e_{i,j}. The control is grey.

    Args:
      events, metrics: the run's journal and metrics (see history).
      control_events, control_metrics: the CE-only control's, or None.
      beta_u, beta_l: the controller's thresholds as fractions; drawn lightly where given.
      axis: 'spent' puts propagations spent on the axis, so that cycles follow each other;
        'iterations' goes back at every rewind, so that cycles from one start lie over each other.

    Returns:
      matplotlib Figure.
    """
    if axis not in ('spent', 'iterations'):
        raise ValueError(f'axis is {axis!r}, expected "spent" or "iterations"')
    figure, axes = new_figure()
    cycles = history(events, metrics)
    start = next((e for e in events if e.get('event') == 'start'), None)
    if start is None or not is_finite(start.get('miou')):
        write_note(axes, 'not started yet')
        return figure
    if axis == 'spent':
        def position(cycle, step):
            return step
    else:
        def position(cycle, step):
            return cycle.iteration(step)
    _draw_control(axes, history(control_events or (), control_metrics or ()), position)
    _thresholds(axes, cycles, position, beta_u, beta_l)
    for number, cycle in enumerate(cycles):
        _draw_cycle(axes, cycle, position, _CYCLES[number % 2], 1.7)
    ends = sum(1 for cycle in cycles if cycle.end)
    _mark(axes, cycles, position, labels=ends <= 24, size=10 if ends <= 12 else 8)
    first = 100 * start['miou']
    axes.axhline(first, color=QUIET, linewidth=0.8, linestyle=':', zorder=1)
    axes.plot([0], [first], 'o', color='#222222', markersize=6, zorder=6)
    _label(axes, pretty(start.get('label', 'g0')), 0, first, True, '#222222', 11)
    axes.margins(x=0.03, y=0.12)
    axes.set_ylabel('hold-out mIoU (%)')
    axes.set_xlabel('propagations spent' if axis == 'spent'
                    else 'propagations behind the weights (rewinds go back)')
    _convergence_legend(axes, bool(control_events), beta_u is not None, beta_l is not None)
    return figure


def _convergence_legend(axes, control, upper, lower):
    entries = [({'color': _CYCLES[0], 'linewidth': 1.7}, 'LoAd'),
               ({'color': PEAK, 'marker': '^', 'linestyle': ''}, 'peak'),
               ({'color': END, 'marker': 'v', 'linestyle': ''}, 'end'),
               ({'color': QUIET, 'linestyle': '--', 'linewidth': 1.0}, 'rewind')]
    if control:
        entries.append(({'color': CONTROL, 'linewidth': 1.1}, 'control (CE only)'))
    if upper:
        entries.append(({'color': PEAK, 'alpha': 0.35}, r'start + $\beta_u$'))
    if lower:
        entries.append(({'color': END, 'alpha': 0.35}, r'start − $\beta_l$'))
    handles = [axes.plot([], [], label=name, **look)[0] for look, name in entries]
    axes.legend(handles=handles, loc='upper center', bbox_to_anchor=(0.5, 1.1), frameon=False,
                ncols=len(handles), fontsize=8, handlelength=1.6, columnspacing=1.2)


def buffer_timeline(events):
    """What the buffer held after each cycle, after LoAd Fig. 1b: rows are slots, columns cycles.

    Peaks' maps (g0, g1, …) are green, endings' (e00, e01, …) red; strong where they are new, pale
    where they were kept. The first column is the buffer before the first cycle.

    Args:
      events: the journal; `start` (label) and `aggregate` (slots) are read.

    Returns:
      matplotlib Figure.
    """
    start = next((e for e in events if e.get('event') == 'start'), None)
    aggregates = [e for e in events if e.get('event') == 'aggregate']
    columns = [('start', [start.get('label', 'g0')])] if start else []
    held = [list(e.get('slots', ())) for e in aggregates]
    if start and held and held[0] == columns[0][1]:
        del held[0]         # the initial filling, logged as an aggregation of its own
    columns += [(str(number), slots) for number, slots in enumerate(held, start=1)]
    slots = max((len(held) for _, held in columns), default=0)
    if not slots:
        figure, axes = new_figure(4.0, 1.5)
        write_note(axes, 'no maps aggregated yet')
        return figure
    bands = math.ceil(len(columns) / _BAND)
    width = max(4.0, 1.2 + 0.55 * min(_BAND, len(columns)))
    figure = Figure(figsize=(width, bands * (0.8 + 0.42 * slots)), dpi=110, layout='constrained')
    FigureCanvasAgg(figure)
    for band, axes in enumerate(figure.subplots(bands, squeeze=False)[:, 0]):
        shown = range(band * _BAND, min(len(columns), (band + 1) * _BAND))
        _draw_buffer(axes, columns, shown)
        axes.set_xlim(shown[0] - 0.6, shown[0] + min(_BAND, len(columns)) - 0.4)
        axes.set_ylim(slots - 0.4, -0.6)
        axes.set_xticks(shown, [columns[x][0] for x in shown], fontsize=8)
        axes.set_yticks(range(slots), [f'slot {n}' for n in range(slots)], fontsize=8)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    axes.set_xlabel('cycles finished', fontsize=9)
    return figure


def _draw_buffer(axes, columns, shown):
    """The cells of some columns; a peak's number is known from the columns before, too."""
    peaks = []
    for x, (_, held) in enumerate(columns[:shown[-1] + 1]):
        peaks += [str(_index(label)) for label in held if _index(label) is not None]
        if x not in shown:
            continue
        for y, label in enumerate(held):
            new = x == 0 or label not in columns[x - 1][1]
            colour = PEAK if str(label).startswith('g') else END
            axes.add_patch(_box(x, y, colour, 0.85 if new else 0.4))
            start_of = [i for i in peaks if str(label).startswith(f'e{i}')]
            axes.text(x, y, pretty(label, max(start_of, key=len, default=None)), ha='center',
                      va='center', fontsize=10, color='white' if new else '#222222')


def _box(x, y, colour, alpha):
    return FancyBboxPatch((x - 0.42, y - 0.36), 0.84, 0.72, facecolor=colour, alpha=alpha,
                          edgecolor='none', boxstyle='round,pad=0,rounding_size=0.12')


def encode(figure, kind='png', about=None):
    """The bytes of a figure's file ('png' or 'svg'); `about` is text that is written into it."""
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, facecolor='white',
                   metadata=None if about is None else {'Description': about})
    return stream.getvalue()
