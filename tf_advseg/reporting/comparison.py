"""Two models on the same images: differences with intervals, as a table and as a chart."""
from tf_advseg.reporting import curves
from tf_advseg.reporting.tables import Cell, Table

NOTE = ('The intervals are over images (paired bootstrap): how much the difference depends on '
        'which images the split holds. They say nothing of another training run; what '
        'differs from seed to seed takes several runs of each (tools/sweep.py). With few images '
        'intervals are too narrow; below 10 images of a class none is given. By chance alone '
        'about one class in twenty has a star.')


def _rows(found):
    """(name, {'delta', 'low', 'high', 'images'}) of mIoU, then of the classes."""
    return [('mIoU', found['miou']), *found['class_iou'].items()]


def interval_table(found, first, second, digits=2):
    """Differences of IoU in percentage points with their intervals.

    Args:
      found: what evaluation.bootstrap.paired_bootstrap returned, first minus second.
      first, second: the models' names.
      digits: decimals.

    Returns:
      A Table: classes, then mIoU; each with the number of images that it rests on. The last
      column is a star where the interval leaves out 0.
    """
    level = f'{100 * found["level"]:g} %'
    rows = []
    for name, figure in [*_rows(found)[1:], _rows(found)[0]]:
        values = [None if figure[key] is None else 100 * figure[key]
                  for key in ('delta', 'low', 'high')]
        rows.append((Cell(name), Cell(str(figure['images'])),
                     *(Cell(value, gain=True) for value in values),
                     Cell('*' if leaves_out_zero(figure) else '')))
    title = (f'IoU of {first} minus {second}, percentage points, with {level} intervals over '
             f'{found["images"]} images')
    return Table(('class', 'images', 'difference', 'from', 'to', 'not 0'), tuple(rows), title,
                 digits, (len(rows) - 1,))


def leaves_out_zero(figure):
    """Whether an interval is all above or all below 0."""
    return figure['low'] is not None and (figure['low'] > 0 or figure['high'] < 0)


def interval_figure(found, first, second):
    """The table as a chart: a dot a class, its interval as a line, 0 marked; mIoU on top.

    Args and result as `interval_table`; a matplotlib Figure.
    """
    rows = _rows(found)
    figure, axes = curves.new_figure(8.0, 1.3 + 0.26 * len(rows))
    axes.grid(False, axis='y')
    axes.axvline(0.0, color=curves.QUIET, linewidth=1, zorder=1)
    for place, (name, entry) in enumerate(rows):
        if entry['delta'] is None:
            continue
        delta, low, high = (None if entry[key] is None else 100 * entry[key]
                            for key in ('delta', 'low', 'high'))
        sure = leaves_out_zero(entry)
        colour = curves.QUIET if not sure else curves.PEAK if delta > 0 else curves.END
        if low is not None:
            axes.plot([low, high], [place, place], color=colour, linewidth=2, zorder=2,
                      solid_capstyle='butt')
        axes.plot([delta], [place], 'o' if place else 'D', color=colour, markersize=5, zorder=3)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=9)
    axes.get_yticklabels()[0].set_fontweight('bold')
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel(f'IoU of {first} minus {second}, percentage points')
    return figure
