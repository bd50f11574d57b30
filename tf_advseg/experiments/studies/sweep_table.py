"""What the runs of a sweep found, as tables: spread over seeds, gains with intervals over runs."""
import collections
import statistics
from typing import NamedTuple

from tf_advseg.core import errors
from tf_advseg.experiments.studies import tabled_measures
from tf_advseg.experiments.studies.tabled_measures import MEASURES
from tf_advseg.reporting import like_with_like
from tf_advseg.reporting import paired
from tf_advseg.reporting import tables

SPLITS = ('holdout', 'test')
WANTED = 0.5  # half a point: what a comparison should be able to tell
CORRECTED = 'corrected'
CORRECTED_IS = ('; corrected: the half-width that takes the training images which folds share into '
                'account (Nadeau and Bengio 2003)')
AGAINST_CONTROL = 'control'  # the reference that is every cell's own control


def _spread(values, scale=100.0):
    """'mean ± standard deviation', scaled; the mean alone for one run, '–' for none."""
    if not values:
        return tables.MISSING
    mean = f'{scale * statistics.fmean(values):.2f}'
    return f'{mean} ± {scale * statistics.stdev(values):.2f}' if len(values) > 1 else mean


def _compared(models, subjects):
    """[(model, another)]: averaged weights with averaged ones, plain with plain; then averaging."""
    there = dict.fromkeys((*models, *subjects), True)
    found = [(subject, other) for subject in subjects for other in reversed(models)
             if like_with_like.is_averaged(subject) == like_with_like.is_averaged(other)]
    for model in (*models, *subjects):
        found += [pair for pair in like_with_like.averaging(there, model, None)
                  if pair[0] != model and pair not in found]
    return found


def _models(collected):
    """(the models beside them, the methods' own), as results name them, in their order."""
    runs_of_all = [run for runs in collected.values() for run in runs.values()]
    subjects = list(dict.fromkeys(like_with_like.plain(run['subject']) for run in runs_of_all))
    found = list(dict.fromkeys(model for run in runs_of_all for model in run['models']))
    own = [model for subject in subjects for model in found
           if like_with_like.plain(model) == subject]
    return [model for model in found if model not in own], own


def _values(runs, split, model, measure):
    """{seed: what a model scores}, of the runs that have it."""
    return {seed: run['models'][model][split][measure] for seed, run in runs.items()
            if measure in run['models'].get(model, {}).get(split, {})}


def _paired(values, others, measure, runs, other_runs):
    """paired.Difference over the seeds that both have on one fold, in the measure's unit."""
    scale = MEASURES[measure].scale
    pairs = {seed: (scale * values[seed], scale * others[seed])
             for seed in values if seed in others
             and runs[seed].get('fold') == other_runs[seed].get('fold')}
    if not all(runs[seed].get('fold') for seed in pairs):
        return paired.difference(pairs.values())
    folds = collections.defaultdict(list)
    for seed, pair in pairs.items():
        folds[runs[seed]['fold']['number']].append(pair)
    return paired.difference([tuple(map(statistics.fmean, zip(*fold))) for fold in folds.values()])


def counted(collected):
    """What differences are counted by: 'folds' where runs are on folds (`compared`), or 'runs'."""
    return 'folds' if folds_of(collected) else 'runs'


def folds_of(collected):
    """Into how many folds the data of runs are cut (`compared`); None where they are not."""
    return next((run['fold']['count'] for runs in collected.values() for run in runs.values()
                 if run.get('fold')), None)


def _absent(collected):
    """'; not there yet: CELL seeds 1, 2' for cells that lack seeds of others; '' for none."""
    seeds = list(dict.fromkeys(seed for runs in collected.values() for seed in runs))
    absent = {name: [str(seed) for seed in sorted(seeds) if seed not in runs]
              for name, runs in collected.items()}
    left_out = [f'{name} seed{"s" if len(left) > 1 else ""} {", ".join(left)}'
                for name, left in absent.items() if left]
    return f'; not there yet: {"; ".join(left_out)}' if left_out else ''


def table(collected, measure='miou'):
    """tables.Table: mean and standard deviation over the runs of every cell, model by model.

    The title says which seeds a cell lacks that others have.

    Args:
      collected: see `finished_runs.measured`.
      measure: one of MEASURES.
    """
    models, subjects = _models(collected)
    rows = []
    for name, runs in collected.items():
        for split in SPLITS:
            rows.append((name, split, len(runs),
                         *(_spread(list(_values(runs, split, model, measure).values()),
                                   MEASURES[measure].scale) for model in (*models, *subjects))))
    asked = MEASURES[measure]
    return tables.plain_table(['cell', 'split', 'runs', *models, *subjects], rows,
                              f'{asked.title} in {asked.unit}: mean ± standard deviation over '
                              f'runs{_absent(collected)}')


def steps(measure):
    """What differences of a measure are in."""
    return 'points' if MEASURES[measure].unit == 'percent' else MEASURES[measure].unit


class Pair(NamedTuple):
    """What is compared with what.

    Attributes:
      cell, model: whose.
      reference, other: the cell and the model of it that is subtracted.
      less: what is subtracted, for a reader.
    """
    cell: str
    model: str
    reference: str
    other: str
    less: str


def asked(collected, references=()):
    """What is compared with what: a method's models with others of their run and of other cells'.

    A method's own models stand against the others of their run, averaged weights against averaged
    ones, and against the same models of other cells; a cell of another method is compared by that
    method's own plain model. A cell of the control alone, of more steps or all labels for one, is
    compared with the control of the other cell's runs, where they have one. Where 'control' is a
    reference and no cell, of their own run's models the control alone is subtracted, and from a
    cell of the control alone that of the first cell which has a method beside it.

    Args:
      collected, references: see `compared`.

    Returns:
      [Pair].

    Raises:
      UserError: a reference is no cell.
    """
    require_references('against', references, collected)
    own = [Pair(name, model, name, other, other) for name in collected
           for model, other in _compared(*_models({name: collected[name]}))]
    cells = [name for name in references if name in collected]
    if len(cells) < len(references):
        own = _less_control(collected, own)
    elif not cells:
        cells = list(collected)[:1]
    return own + [Pair(name, model, reference, other, f'{reference}: {other}')
                  for reference in cells
                  for name in collected if name not in references and name != reference
                  for model, other in _counterparts(collected, name, reference)]


def require_references(flag, references, cells):
    """Raises UserError where one of them is neither a cell nor AGAINST_CONTROL."""
    for name in references:
        errors.require_one_of(flag, name, list(dict.fromkeys((*cells, AGAINST_CONTROL))))


def _less_control(collected, own):
    """[Pair] of every cell less the control of its runs; a control alone less another cell's."""
    found = [pair for pair in own if like_with_like.plain(pair.other) == tabled_measures.CONTROL]
    control = tabled_measures.CONTROL
    shared = next((name for name in collected if control in _models({name: collected[name]})[0]),
                  None)
    alone = {name: [Pair(name, control, shared, control, control)] for name in collected
             if shared and control in _models({name: collected[name]})[1]}
    return [pair for name in collected for pair in
            [each for each in found if each.cell == name] or alone.get(name, [])]


def compared(collected, references=(), measure='miou'):
    """Differences of a method's models from others of the same run, and of other cells' runs.

    Pairs are of one run, or of two runs of one seed (`asked`) on one fold, if on any. Runs of one
    fold (`run.folds`) count as one, by their mean: they share their test images. The interval takes
    folds as independent; they share training images, so it tends to be too narrow (Bengio and
    Grandvalet, JMLR 2004).

    Args:
      collected: see `finished_runs.measured`.
      references: names of the cells that are subtracted, each from every other cell, and
        AGAINST_CONTROL (`asked`); () for the first cell.
      measure: one of MEASURES.

    Returns:
      [(cell, model, what is subtracted, split, paired.Difference)], those without a pair left out.

    Raises:
      UserError: a reference is no cell.
    """
    found = [(pair.cell, pair.model, pair.less, split,
              _paired(_values(collected[pair.cell], split, pair.model, measure),
                      _values(collected[pair.reference], split, pair.other, measure), measure,
                      collected[pair.cell], collected[pair.reference]))
             for pair in asked(collected, references) for split in SPLITS]
    return [row for row in found if row[-1].count]


def differences(rows, measure='miou', folds=None):
    """tables.Table of `compared`, with t-based 95 % intervals; None without a row.

    Args:
      rows, measure: see `compared`.
      folds: from `folds_of`; of these the half-width is given `paired.corrected`, too.
    """
    if not rows:
        return None
    over = 'folds' if folds else 'runs'
    return tables.plain_table(
        ['cell', 'model', 'less', 'split', over, 'difference', 'SD', 'half-width',
         f'{over} for ±{WANTED}', *([CORRECTED] if folds else [])],
        [(*names, found.count, str(found), *precision(found), *corrected(found, folds))
         for *names, found in rows],
        f'{MEASURES[measure].title}, differences in {steps(measure)}: mean over {over} [95 % '
        f'interval], their standard deviation, the interval\'s half-width, and how many such '
        f'{over} make it ±{WANTED}{CORRECTED_IS if folds else ""}')


def corrected(found, folds):
    """[the `paired.corrected` half-width of a paired.Difference, as text]; [] without folds."""
    if not folds:
        return []
    return [tables.MISSING if found.half_width is None or folds < 3 else
            f'{paired.corrected(found.half_width, found.count, folds):.2f}']


def of_a_document(less):
    """Whether documents and charts have what is less this: the control, or another cell's."""
    return less == tabled_measures.CONTROL or ': ' in less


def parse_references(text, cells):
    """The cells of --against, which are compared with.

    Args:
      text: names with commas between them; a name may have commas itself. None is no name.
      cells: names of the cells that there are.

    Returns:
      (name, ...): an unknown one as it is given, up to its comma.
    """
    parts = [part.strip() for part in (text or '').split(',')]
    known = {tuple(part.strip() for part in name.split(',')): name
             for name in (AGAINST_CONTROL, *cells)}
    found = []
    while parts:
        size = next((size for size in range(len(parts), 0, -1) if tuple(parts[:size]) in known), 1)
        found.append(known.get(tuple(parts[:size]), parts[0]))
        parts = parts[size:]
    return tuple(filter(None, found))


def of_measures(collected, references=(), measures=('miou',)):
    """What is tabled of several measures.

    Args:
      collected, references: see `compared`.
      measures: of MEASURES.

    Returns:
      [(name, tables.Table)]: scores and differences of each measure, those of the first called ''
      and '_differences'.
    """
    found = []
    for measure in measures:
        rows = compared(collected, references, measure)
        name = '' if measure == measures[0] else f'_{measure}'
        found += [(name, table(collected, measure)),
                  (f'{name}_differences', differences(rows, measure, folds_of(collected)))]
    return [(name, each) for name, each in found if each is not None]


def precision(found):
    """(standard deviation, half-width, how many runs make it ±WANTED) of a paired.Difference.

    Texts, and the number as int where there is one; all missing for None or below two runs.
    """
    if found is None or found.half_width is None:
        return (tables.MISSING,) * 3
    needed = paired.runs_for(found.deviation, WANTED)
    return (f'{found.deviation:.2f}', f'{found.half_width:.2f}',
            f'> {paired.MOST_RUNS}' if needed is None else needed)


def _counterparts(collected, name, reference):
    """[(model of a cell, model of the cell that it is compared with)]."""
    (_, own), (beside, theirs) = (_models({one: collected[one]}) for one in (name, reference))
    if own and like_with_like.plain(own[0]) == tabled_measures.CONTROL:
        theirs = [model for model in beside if model in own] or theirs
    both = [(model, model) for model in theirs if model in own]
    return both or ([(own[0], theirs[0])] if own and theirs else [])
