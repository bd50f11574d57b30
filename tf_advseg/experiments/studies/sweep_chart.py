"""What the runs of a sweep found, as a forest plot, and beside it what papers claim."""
import collections
import math

from tf_advseg.core import errors
from tf_advseg.experiments.studies import pooled_folds
from tf_advseg.experiments.studies import sweep_table
from tf_advseg.experiments.studies import tabled_measures
from tf_advseg.reporting import forest_plot


def parse_claims(texts, cells):
    """What papers say that their methods gain.

    Args:
      texts: of --claim, as 'Luc=2.1'.
      cells: names of the cells that there are.

    Returns:
      {cell: points of mIoU}.

    Raises:
      UserError: not understood, or no such cell.
    """
    found = {}
    for text in texts:
        name, equals, value = text.rpartition('=')
        try:
            points = float(value)
        except ValueError:
            points = math.nan
        if not equals or not math.isfinite(points):
            raise errors.UserError(f'--claim={text}: expected CELL=POINTS, what its paper gains '
                                   'over its baseline in points of mIoU, as Luc=2.1')
        errors.require_one_of('--claim', name, list(cells))
        found[name] = points
    return found


def panels(collected, references=(), measures=('miou',), claims=None):
    """The differences on test images that have an interval, a panel a measure.

    Those from a method's control, and from other cells; where there are none of these, those from
    the other models of its run. Of runs on folds, mIoU pooled over these has a panel before the
    others.

    Args:
      collected, references: see `sweep_table.compared`.
      measures: of `tabled_measures.MEASURES`.
      claims: from `parse_claims`. They are gains in mIoU over a baseline, so they stand beside a
        cell's mIoU less that of its control.

    Returns:
      [forest_plot.Panel], those without a row left out.
    """
    found, folds = [], sweep_table.folds_of(collected)
    if 'miou' in measures:
        pooled = [(cell, model, less, each) for cell, model, _, less, *_, each
                  in pooled_folds.compared(collected, references)]
        found.append(_panel('mIoU of all images, pooled over the folds, difference in points',
                            pooled, claims, True, folds))
    for measure in measures:
        rows = [(cell, model, less, each) for cell, model, less, split, each
                in sweep_table.compared(collected, references, measure) if split == 'test']
        about = tabled_measures.MEASURES[measure]
        found.append(_panel(f'{about.title} of test images, difference in '
                            f'{sweep_table.steps(measure)}', rows,
                            claims if measure == 'miou' else None, about.higher_is_better, folds))
    return [panel for panel in found if panel.rows]


def _panel(title, rows, claims, higher_is_better, folds):
    """Panel of [(cell, model, what is subtracted, paired.Difference)]."""
    rows = [row for row in rows if row[-1].half_width is not None]
    rows = [row for row in rows if sweep_table.of_a_document(row[2])] or rows
    subtracted = list(dict.fromkeys(less for _, _, less, _ in rows))
    names = _names(rows)
    if len(subtracted) == 1:
        title += f' from {subtracted[0]}'
    else:
        names = [f'{name} - {less}' for name, (_, _, less, _) in zip(names, rows)]
    drawn = [(name, each,
              (claims or {}).get(cell) if less == tabled_measures.CONTROL else None)
             for name, (cell, _, less, each) in zip(names, rows)]
    return forest_plot.Panel(title, drawn, higher_is_better, folds)


def _names(rows):
    """What a chart calls its rows: by the cell alone where that says which is meant."""
    once = collections.Counter((cell, less) for cell, _, less, _ in rows)
    return [cell if once[cell, less] == 1 or cell == model else f'{cell}: {model}'
            for cell, model, less, _ in rows]
