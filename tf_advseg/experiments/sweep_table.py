"""What the runs of a sweep found, as a table: spread over seeds, gains with intervals over runs."""
import math
import statistics

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
            'boundary': ('mean BF', lambda scores: scores.get('boundary', {}).get('mean')),
            'boundary_std': ('sigma of BF over pictures',
                             lambda scores: scores.get('boundary', {}).get('std'))}


def t_quantile(confidence, degrees):
    """t with P(|T| <= t) = confidence for Student's distribution of `degrees` >= 1 of freedom.

    The closed form for whole degrees: Abramowitz and Stegun, 26.7.3 and 26.7.4.
    """
    def probability(t):
        angle = math.atan(t / math.sqrt(degrees))
        sine, cosine = math.sin(angle), math.cos(angle)
        term = cosine if degrees % 2 else 1.0
        total = 0.0
        for k in range(1 if degrees % 2 else 0, degrees - 1, 2):
            total += term
            term *= cosine * cosine * (k + 1) / (k + 2)
        if degrees % 2:
            return 2.0 / math.pi * (angle + sine * total)
        return sine * total

    low, high = 0.0, 1.0
    while probability(high) < confidence:
        high *= 2.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if probability(middle) < confidence else (low, middle)
    return (low + high) / 2


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
    half = (t_quantile(CONFIDENCE, len(differences) - 1) * statistics.stdev(differences)
            / math.sqrt(len(differences)))
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


def table(collected, measure='miou'):
    """tables.Table: mean and spread over seeds of every cell, and the method's paired gains.

    A gain is the mean over runs of the method's model minus another of the same run, with a
    t-based 95 % interval over runs.

    Args:
      collected: from `collect`.
      measure: one of MEASURES.
    """
    title, value_of = MEASURES[measure]
    runs_of_all = [run for runs in collected.values() for run in runs.values()]
    subjects = list(dict.fromkeys(like_with_like.plain(run['subject']) for run in runs_of_all))
    found = list(dict.fromkeys(model for run in runs_of_all for model in run['models']))
    models = [model for model in found if like_with_like.plain(model) not in subjects]
    subjects = [model for subject in subjects for model in found
                if like_with_like.plain(model) == subject]
    gains = _compared(models, subjects)
    header = ['cell', 'split', 'runs', *models, *subjects,
              *(f'{subject} - {other}' for subject, other in gains)]
    rows = []
    for name, runs in collected.items():
        for split in SPLITS:
            values = {model: {seed: value_of(run['models'][model][split])
                              for seed, run in runs.items()
                              if split in run['models'].get(model, {})}
                      for model in (*models, *subjects)}
            values = {model: {seed: value for seed, value in found.items() if value is not None}
                      for model, found in values.items()}
            rows.append((name, split, len(runs),
                         *(_spread(list(values[model].values())) for model in (*models, *subjects)),
                         *(_gain([(values[a][s], values[b][s]) for s in values[a] if s in values[b]])
                           for a, b in gains)))
    return tables.plain_table(header, rows, f'{title} in percent: mean ± standard deviation over '
                              'runs; gains in points [95 % interval over runs]')
