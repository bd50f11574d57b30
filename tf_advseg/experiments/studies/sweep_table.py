"""What the runs of a sweep found, as a table: spread over seeds, gains with intervals over runs."""
import math
import statistics
from typing import Callable, NamedTuple

from scipy import stats

from tf_advseg.core import errors
from tf_advseg.reporting import like_with_like
from tf_advseg.reporting import tables

SPLITS = ('holdout', 'test')
CONFIDENCE = 0.95
TRIMAP_BAND = 5  # pixels; of the bands that a run measures the nearest


class Measure(NamedTuple):
    """A figure of a model.

    Attributes:
      title: for a reader.
      of: function(scores of a split, from results.json) -> a number, or None.
      unit: what it is in.
      scale: what a number is multiplied by to be in it.
    """
    title: str
    of: Callable
    unit: str = 'percent'
    scale: float = 100.0


def _components(*kinds):
    """Regions an image, of some kinds together."""
    def of(scores):
        found = scores.get('components')
        return found and sum(found[kind]['per_picture'] or 0.0 for kind in kinds)
    return of


def _trimap(scores):
    widths = scores.get('trimap', {}).get('widths')
    nearest = widths and min(widths, key=lambda width: (abs(int(width) - TRIMAP_BAND), int(width)))
    return widths and widths[nearest]['mean_iou']


# What a run's results.json holds of a model, by the name of it on the command line.
MEASURES = {
    'miou': Measure('mIoU', lambda scores: scores.get('miou')),
    'pixel_accuracy': Measure('pixel accuracy', lambda scores: scores.get('pixel_accuracy')),
    'mean_class_accuracy': Measure('mean class accuracy',
                                   lambda scores: scores.get('mean_class_accuracy')),
    'fwiou': Measure('frequency weighted IoU', lambda scores: scores.get('frequency_weighted_iou')),
    'miou_without_rare': Measure('mIoU without rare classes',
                                 lambda scores: scores.get('miou_without_rare')),
    'boundary': Measure('mean BF', lambda scores: scores.get('boundary', {}).get('mean')),
    'boundary_std': Measure('sigma of BF over images',
                            lambda scores: scores.get('boundary', {}).get('std')),
    'components': Measure('spurious and missed components', _components('spurious', 'missed'),
                          'regions an image', 1.0),
    'spurious': Measure('spurious components', _components('spurious'), 'regions an image', 1.0),
    'missed': Measure('missed components', _components('missed'), 'regions an image', 1.0),
    'trimap': Measure(f'mIoU within {TRIMAP_BAND} px of true boundaries', _trimap),
    'improved': Measure('images better than the control\'s',
                        lambda scores: scores.get('improved', {}).get('control (CE)'))}


def _spread(values, scale=100.0):
    """'mean ± standard deviation', scaled; the mean alone for one run, '–' for none."""
    if not values:
        return tables.MISSING
    mean = f'{scale * statistics.fmean(values):.2f}'
    return f'{mean} ± {scale * statistics.stdev(values):.2f}' if len(values) > 1 else mean


def _gain(pairs, scale=100.0):
    """'mean [low, high]' of paired differences, scaled; '–' for the interval where n < 2."""
    differences = [scale * (a - b) for a, b in pairs]
    if not differences:
        return tables.MISSING
    mean = statistics.fmean(differences)
    if len(differences) < 2:
        return f'{mean:+.2f} {tables.MISSING}'
    # Student's t: the interval of a mean of so few runs.
    half = (stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1)
            * statistics.stdev(differences) / math.sqrt(len(differences)))
    return f'{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]'


def parse_measures(texts):
    """Names of MEASURES, as given.

    Raises:
      UserError: another name, or none.
    """
    for name in texts:
        errors.require_one_of('measure', name, MEASURES)
    if not texts:
        raise errors.UserError('--measures= names nothing; give some of ' + ', '.join(MEASURES))
    return list(texts)


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
    scores = {seed: run['models'][model][split] for seed, run in runs.items()
              if split in run['models'].get(model, {})}
    values = {seed: MEASURES[measure].of(found) for seed, found in scores.items()}
    return {seed: value for seed, value in values.items() if value is not None}


def _paired(values, others, measure):
    """`_gain` over the seeds that both have."""
    return _gain([(values[seed], others[seed]) for seed in values if seed in others],
                 MEASURES[measure].scale)


def _absent(collected):
    """'; not there yet: CELL seeds 1, 2' for cells that lack seeds of others; '' for none."""
    seeds = list(dict.fromkeys(seed for runs in collected.values() for seed in runs))
    absent = {name: [str(seed) for seed in sorted(seeds) if seed not in runs]
              for name, runs in collected.items()}
    left_out = [f'{name} seed{"s" if len(left) > 1 else ""} {", ".join(left)}'
                for name, left in absent.items() if left]
    return f'; not there yet: {"; ".join(left_out)}' if left_out else ''


def table(collected, measure='miou'):
    """tables.Table: mean and spread over seeds of every cell, and the method's paired gains.

    A gain is the mean over runs of the method's model minus another of the same run, with a
    t-based 95 % interval over runs. The title says which seeds a cell lacks that others have.

    Args:
      collected: from `collect`.
      measure: one of MEASURES.
    """
    models, subjects = _models(collected)
    gains = _compared(models, subjects)
    header = ['cell', 'split', 'runs', *models, *subjects,
              *(f'{subject} - {other}' for subject, other in gains)]
    rows = []
    for name, runs in collected.items():
        for split in SPLITS:
            values = {model: _values(runs, split, model, measure)
                      for model in (*models, *subjects)}
            rows.append((name, split, len(runs),
                         *(_spread(list(found.values()), MEASURES[measure].scale)
                           for found in values.values()),
                         *(_paired(values[a], values[b], measure) for a, b in gains)))
    asked = MEASURES[measure]
    return tables.plain_table(header, rows, f'{asked.title} in {asked.unit}: mean ± standard '
                              f'deviation over runs; gains in {_steps(measure)} [95 % interval '
                              f'over runs]{_absent(collected)}')


def _steps(measure):
    """What differences of a measure are in."""
    return 'points' if MEASURES[measure].unit == 'percent' else MEASURES[measure].unit


def against_first(collected, measure='miou'):
    """tables.Table: each later cell's own models against the same ones of the first cell.

    Paired by seed: the mean over the seeds that both cells have of the difference of two runs,
    with a t-based 95 % interval. A method's own models, plain and averaged, and not the controls.
    A cell of another method is compared by that method's own plain model.

    Args:
      collected: from `collect`.
      measure: one of MEASURES.

    Returns:
      The table; None for a single cell.
    """
    first, *others = collected
    if not others:
        return None
    own = {name: _models({name: runs})[1] for name, runs in collected.items()}
    of_first = [model for model in own[first] if any(model in own[name] for name in others)]
    columns = {model: (model, model) for model in of_first}
    columns.update({f'{own[name][0]} - {own[first][0]}': (own[name][0], own[first][0])
                    for name in others if own[name] and own[first]
                    and own[name][0] not in own[first]})
    if not columns:
        return None
    rows = []
    for name in others:
        for split in SPLITS:
            rows.append((name, split, sum(seed in collected[first] for seed in collected[name]),
                         *(_paired(_values(collected[name], split, model, measure),
                                   _values(collected[first], split, other, measure), measure)
                           if model in own[name] else tables.MISSING
                           for model, other in columns.values())))
    return tables.plain_table(
        ['cell', 'split', 'common seeds', *columns], rows, f'{MEASURES[measure].title} against '
        f'{first}, in {_steps(measure)}: mean [95 % interval] of paired differences over common '
        'seeds')
