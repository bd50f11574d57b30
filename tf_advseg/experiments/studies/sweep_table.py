"""What the runs of a sweep found, as a table: spread over seeds, gains with intervals over runs."""
import math
import statistics

from scipy import stats

from tf_advseg.core import errors
from tf_advseg.reporting import like_with_like
from tf_advseg.reporting import tables

SPLITS = ('holdout', 'test')
CONFIDENCE = 0.95
# What a run's results.json tells of a model, by the name of it on the command line.
MEASURES = {'miou': ('mIoU', lambda scores: scores.get('miou')),
            'pixel_accuracy': ('pixel accuracy', lambda scores: scores.get('pixel_accuracy')),
            'mean_class_accuracy': ('mean class accuracy',
                                    lambda scores: scores.get('mean_class_accuracy')),
            'fwiou': ('frequency weighted IoU',
                      lambda scores: scores.get('frequency_weighted_iou')),
            'miou_without_rare': ('mIoU without rare classes',
                                  lambda scores: scores.get('miou_without_rare')),
            'boundary': ('mean BF', lambda scores: scores.get('boundary', {}).get('mean')),
            'boundary_std': ('sigma of BF over images',
                             lambda scores: scores.get('boundary', {}).get('std'))}


def _spread(values):
    """'mean ± standard deviation' in percent; the mean alone for one run, '–' for none."""
    if not values:
        return tables.MISSING
    mean = f'{100 * statistics.fmean(values):.2f}'
    return f'{mean} ± {100 * statistics.stdev(values):.2f}' if len(values) > 1 else mean


def _gain(pairs):
    """'mean [low, high]' of paired differences in points; '–' instead of the interval for n < 2."""
    differences = [100 * (a - b) for a, b in pairs]
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
    values = {seed: MEASURES[measure][1](found) for seed, found in scores.items()}
    return {seed: value for seed, value in values.items() if value is not None}


def _paired(values, others):
    """`_gain` over the seeds that both have."""
    return _gain([(values[seed], others[seed]) for seed in values if seed in others])


def _absent(collected):
    """'; not there yet: CELL seeds 1, 2' for cells that lack seeds of others; '' for none."""
    seeds = list(dict.fromkeys(seed for runs in collected.values() for seed in runs))
    absent = {name: [str(seed) for seed in sorted(seeds) if seed not in runs]
              for name, runs in collected.items()}
    told = [f'{name} seed{"s" if len(left) > 1 else ""} {", ".join(left)}'
            for name, left in absent.items() if left]
    return f'; not there yet: {"; ".join(told)}' if told else ''


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
                         *(_spread(list(found.values())) for found in values.values()),
                         *(_paired(values[a], values[b]) for a, b in gains)))
    return tables.plain_table(header, rows, f'{MEASURES[measure][0]} in percent: mean ± standard '
                              'deviation over runs; gains in points [95 % interval over runs]'
                              f'{_absent(collected)}')


def against_first(collected, measure='miou'):
    """tables.Table: each later cell's own models against the same ones of the first cell.

    Paired by seed: the mean over the seeds that both cells have of the difference of two runs,
    with a t-based 95 % interval. A method's own models, plain and averaged, and not the controls.

    Args:
      collected: from `collect`.
      measure: one of MEASURES.

    Returns:
      The table; None for a single cell, or where no later one has a model of the first.
    """
    first, *others = collected
    own = {name: _models({name: runs})[1] for name, runs in collected.items()}
    models = [model for model in own[first] if any(model in own[name] for name in others)]
    if not models:
        return None
    rows = []
    for name in others:
        for split in SPLITS:
            rows.append((name, split, sum(seed in collected[first] for seed in collected[name]),
                         *(_paired(_values(collected[name], split, model, measure),
                                   _values(collected[first], split, model, measure))
                           if model in own[name] else tables.MISSING for model in models)))
    return tables.plain_table(
        ['cell', 'split', 'common seeds', *models], rows, f'{MEASURES[measure][0]} against '
        f'{first}, in points: mean [95 % interval] of paired differences over common seeds')
