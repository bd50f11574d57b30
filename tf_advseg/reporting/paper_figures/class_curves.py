"""Accuracy over training, with and without a discriminator (Luc et al., Fig. 4; Durall, Fig. 6).

They read the evaluation lines of metrics.jsonl as plain dicts and return matplotlib figures, as
curves.py does. The gap between train and hold-out shows whether adversarial training regularises,
as the paper says of this figure.
"""
import math

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tf_advseg.data import spec as specs
from tf_advseg.reporting import curves, like_with_like

SPLITS = {'train': 'train', 'holdout': 'hold-out'}      # as journalled -> as shown
MEASURES = {'miou': 'mIoU', 'mean_class_accuracy': 'mean class accuracy',
            'pixel_accuracy': 'pixel accuracy'}
HOLDOUT, AVERAGED = 'holdout', 'holdout_averaged'   # of the last and of averaged weights
_SPLIT_COLOURS = {'train': '#c07a1c', 'holdout': '#2f6db5'}
_MIOU_COLOURS = (('#5b9bd8', '#1b4f8f'), ('#9a9fa8', '#4a525d'))    # stage, control: last, averaged
_STYLES = ({'linestyle': '-', 'linewidth': 1.6}, {'linestyle': (0, (4, 2)), 'linewidth': 1.3})
_TOGETHER = 10              # classes that one pair of axes can hold
_ACROSS = (4, 5, 6, 7)      # small multiples in a row: what leaves the fewest places empty


def evaluations(metrics, stage, split):
    """The evaluations of a stage on a split, in the order of the segmentor's steps.

    Args:
      metrics: lines of metrics.jsonl; those with `event` evaluation and a segmentor_step are read.
      stage: the stage's name, such as 'luc' or 'control'.
      split: 'train', 'holdout' or 'holdout_averaged'.

    Returns:
      list of lines by segmentor_step; of two lines of one step the last counts.
    """
    found = {line['segmentor_step']: line for line in metrics
             if line.get('event') == 'evaluation' and line.get('stage') == stage
             and line.get('split') == split and curves.is_finite(line.get('segmentor_step'))}
    return [found[step] for step in sorted(found)]


def gaps(metrics, stage, at=None):
    """Train minus hold-out: how far a stage overfits.

    Args:
      metrics, stage: see `evaluations`.
      at: the segmentor_step to look at; None is the last one at which both were evaluated.

    Returns:
      {measure: train minus hold-out, a fraction}, of the MEASURES that both have; {} where the two
      were not evaluated at that step.
    """
    train, holdout = ({line['segmentor_step']: line for line in evaluations(metrics, stage, split)}
                      for split in SPLITS)
    both = sorted(set(train) & set(holdout))
    at = both[-1] if at is None and both else at
    if at not in both:
        return {}
    return {measure: train[at][measure] - holdout[at][measure] for measure in MEASURES
            if curves.is_finite(train[at].get(measure))
            and curves.is_finite(holdout[at].get(measure))}


def class_accuracy_curves(metrics, stage, class_names, control='control', palette=None,
                          steps_per_epoch=None, names=None):
    """Accuracy of each class over training on train and on hold-out (Luc et al., Fig. 4).

    Solid lines are adversarial training, dashed ones the control. Up to ten classes share two axes,
    train on the left and hold-out on the right; more get small axes of their own with both splits.

    Args:
      metrics: lines of metrics.jsonl, see `evaluations`; `class_accuracy` holds C fractions, None
        for a class without pixels.
      stage: the method's stage.
      class_names: C names.
      control: the stage that trains without; None, or one without lines, draws nothing.
      palette: C colours (r, g, b), made dark enough for white paper; None takes the package's own.
        Small axes are coloured by split.
      steps_per_epoch: puts epochs on the axis instead of the segmentor's steps.
      names: what the two are called in the legend; None for the names of the stages.

    Returns:
      matplotlib Figure; one with a note where nothing was evaluated.

    Raises:
      ValueError: a line with another number of classes.
    """
    runs = _runs(metrics, stage, control, 'class_accuracy', len(class_names))
    names = _names(names, stage, control)
    if not any(lines for run in runs for lines in run.values()):
        figure, axes = curves.new_figure(9.0, 3.4)
        curves.write_note(axes, 'accuracy by class has not been evaluated yet')
        return figure
    draw = _together if len(class_names) <= _TOGETHER else _small_multiples
    return draw(runs, class_names, palette, steps_per_epoch, names)


def mean_curves(metrics, stage, control='control', steps_per_epoch=None, names=None):
    """mIoU, mean class accuracy and pixel accuracy over training, train against hold-out.

    Args:
      metrics, stage, control, steps_per_epoch, names: as for `class_accuracy_curves`.

    Returns:
      matplotlib Figure of three axes, lines solid for adversarial training and dashed for the
      control; one with a note where nothing was evaluated.
    """
    runs = _runs(metrics, stage, control)
    if not any(lines for run in runs for lines in run.values()):
        figure, axes = curves.new_figure(9.0, 3.4)
        curves.write_note(axes, 'train and hold-out have not been evaluated yet')
        return figure
    figure, grid = _new_grid(1, len(MEASURES), 9.6, 3.3)
    for axes, (measure, title) in zip(grid[0], MEASURES.items()):
        _draw_splits(axes, runs, lambda line, key=measure: line.get(key), steps_per_epoch)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(_unit(steps_per_epoch), fontsize=9)
    grid[0][0].set_ylabel('%')
    _legend_of_splits(figure, runs, _names(names, stage, control), 'outside lower center')
    return figure


def has_averaged(metrics, stages):
    """Whether averaged weights of any of these stages were evaluated during training."""
    return any(evaluations(metrics, stage, AVERAGED) for stage in stages)


def miou_curves(metrics, stage, control='control', steps_per_epoch=None, names=None):
    """mIoU on the hold-out over training, of the last and of averaged weights (Durall, Fig. 6).

    Args:
      metrics, stage, control, steps_per_epoch, names: as for `class_accuracy_curves`; evaluations
        of averaged weights are lines of split 'holdout_averaged'.

    Returns:
      matplotlib Figure of four lines at most, each named at its end: blue the adversarial training,
      grey the control, thick and dark the averaged weights; one with a note where nothing was
      evaluated.
    """
    figure, axes = curves.new_figure(9.0, 3.6)
    ends = []
    for name, label, colours in zip((stage, control), _names(names, stage, control), _MIOU_COLOURS):
        for split, mark, colour, width in ((HOLDOUT, '', colours[0], 1.4),
                                           (AVERAGED, like_with_like.AVERAGED, colours[1], 2.2)):
            lines = [line for line in evaluations(metrics, name, split)
                     if curves.is_finite(line.get('miou'))] if name is not None else []
            if lines:
                _plot(axes, lines, lambda line: line['miou'], steps_per_epoch, color=colour,
                      linewidth=width)
                ends.append((100.0 * lines[-1]['miou'], label + mark, colour))
    if not ends:
        curves.write_note(axes, 'the hold-out has not been evaluated yet')
        return figure
    _name_ends(axes, ends)
    axes.set_xlabel(_unit(steps_per_epoch), fontsize=9)
    axes.set_ylabel('mIoU on the hold-out (%)')
    return figure


def _name_ends(axes, ends):
    """Writes each line's name beside its last value, apart from each other and not above the axes.

    Args:
      ends: [(last value, name, colour)].
    """
    low, high = axes.get_ylim()
    apart, ends = 0.07 * (high - low), sorted(ends)
    places = []
    for y, _, _ in ends:
        places.append(max([y, *(place + apart for place in places[-1:])]))
    ceiling = high
    for number in reversed(range(len(places))):
        places[number] = min(places[number], ceiling)
        ceiling = places[number] - apart
    for place, (_, text, colour) in zip(places, ends):
        axes.text(1.01, place, text, transform=axes.get_yaxis_transform(), color=colour,
                  fontsize=9, va='center')


def _runs(metrics, stage, control, key=None, length=None):
    """[{split: lines} of the stage, {split: lines} of the control]; keeps lines that have `key`."""
    runs = []
    for name in (stage, control):
        run = {split: evaluations(metrics, name, split) if name is not None else []
               for split in SPLITS}
        if key is not None:
            run = {split: [line for line in lines if line.get(key) is not None]
                   for split, lines in run.items()}
        for line in (line for lines in run.values() for line in lines):
            if length is not None and len(line[key]) != length:
                raise ValueError(f'an evaluation of {name} has {key} of {len(line[key])} classes, '
                                 f'expected {length}')
        runs.append(run)
    return runs


def _names(names, stage, control):
    return tuple(names) if names is not None else (str(stage), str(control))


def _unit(steps_per_epoch):
    return 'epochs' if steps_per_epoch else 'segmentor\'s steps'


def _plot(axes, lines, value, steps_per_epoch, **look):
    """One curve; `value` picks the fraction of a line. Fewer than three points are marked."""
    xs = [line['segmentor_step'] / (steps_per_epoch or 1) for line in lines]
    axes.plot(xs, curves.percentages([value(line) for line in lines]),
              marker='.' if len(xs) < 3 else None, solid_joinstyle='round', **look)


def _new_grid(rows, columns, width, height):
    """A figure in the reports' look and its axes [rows][columns], all with the same range."""
    figure = Figure(figsize=(width, height), dpi=110, layout='constrained')
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for axes in grid.flat:
        axes.spines[['top', 'right']].set_visible(False)
        axes.grid(True, color='#000000', alpha=0.08, linewidth=0.6)
        axes.tick_params(labelsize=8)
    return figure, grid


def on_white(colour):
    """A colour (r, g, b) in 0..255 as matplotlib's, darkened until it stands out on white."""
    red, green, blue = (float(value) / 255 for value in colour)
    luminance = 0.2126 * red ** 2.2 + 0.7152 * green ** 2.2 + 0.0722 * blue ** 2.2
    factor = min(1.0, (0.4 / luminance) ** (1 / 2.2)) if luminance else 1.0
    return red * factor, green * factor, blue * factor


def _together(runs, class_names, palette, steps_per_epoch, names):
    """Train on the left, hold-out on the right, a colour a class."""
    palette = specs.default_palette(len(class_names)) if palette is None else palette
    figure, grid = _new_grid(1, 2, 9.6, max(3.6, 1.4 + 0.26 * (len(class_names) + 2)))
    for axes, (split, title) in zip(grid[0], SPLITS.items()):
        for run, style in zip(runs, _STYLES):
            for number, colour in enumerate(palette[:len(class_names)]):
                _plot(axes, run[split], lambda line, n=number: line['class_accuracy'][n],
                      steps_per_epoch, color=on_white(colour), **style)
        axes.set_title(title, fontsize=10)
        axes.set_ylim(-2, 102)
        axes.set_xlabel(_unit(steps_per_epoch), fontsize=9)
        if not _has(runs, split):
            curves.write_note(axes, f'{title} has not been evaluated')
    grid[0][0].set_ylabel('accuracy of the class (%)')
    handles = [grid[0][0].plot([], [], color=on_white(colour), label=str(name), linewidth=2.4)[0]
               for name, colour in zip(class_names, palette)]
    handles += _style_handles(grid[0][0], runs, names)
    figure.legend(handles=handles, loc='outside right center', frameon=False, fontsize=8,
                  handlelength=2.4)
    return figure


def _has(runs, split):
    """Whether any of the runs was evaluated on a split."""
    return any(run[split] for run in runs)


def _style_handles(axes, runs, names):
    return [axes.plot([], [], color='#222222', label=name, **style)[0]
            for run, name, style in zip(runs, names, _STYLES) if any(run.values())]


def _draw_splits(axes, runs, value, steps_per_epoch):
    for split, colour in _SPLIT_COLOURS.items():
        for run, style in zip(runs, _STYLES):
            _plot(axes, run[split], value, steps_per_epoch, color=colour, **style)


def _legend_of_splits(figure, runs, names, place):
    axes = figure.axes[0]
    handles = [axes.plot([], [], color=colour, label=SPLITS[split], linewidth=2.4)[0]
               for split, colour in _SPLIT_COLOURS.items() if _has(runs, split)]
    handles += _style_handles(axes, runs, names)
    figure.legend(handles=handles, loc=place, frameon=False, fontsize=8, handlelength=2.4,
                  ncols=len(handles))


def _small_multiples(runs, class_names, palette, steps_per_epoch, names):
    """A small pair of axes a class, colours for the splits."""
    del palette         # a colour a class says nothing where each has axes of its own
    columns = min(_ACROSS, key=lambda count: (-len(class_names) % count, -count))
    rows = math.ceil(len(class_names) / columns)
    figure, grid = _new_grid(rows, columns, 9.6, 0.7 + 1.35 * rows)
    cells = list(grid.flat)
    for number, (axes, name) in enumerate(zip(cells, class_names)):
        def value(line, number=number):
            return line['class_accuracy'][number]
        _draw_splits(axes, runs, value, steps_per_epoch)
        axes.set_title(str(name), fontsize=8, pad=2)
        axes.set_ylim(-4, 104)
        axes.set_yticks((0, 50, 100))
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.tick_params(labelleft=number % columns == 0)
        if not any(curves.is_finite(value(line)) for run in runs for lines in run.values()
                   for line in lines):
            axes.text(0.5, 0.5, 'no pixel', transform=axes.transAxes, ha='center', va='center',
                      color=curves.QUIET, fontsize=8)
    for axes in cells[len(class_names):]:
        axes.set_axis_off()
    for number in range(max(0, len(class_names) - columns), len(class_names)):
        cells[number].tick_params(labelbottom=True)     # a last row may be shorter
    figure.supxlabel(_unit(steps_per_epoch), fontsize=9)
    figure.supylabel('accuracy of the class (%)', fontsize=9)
    _legend_of_splits(figure, runs, names, 'outside upper center')
    return figure
