"""mIoU of all images of a data set, each predicted by the run that was tested on it.

The runs of a round, as many seeds in a row as there are folds (`run.folds`), test on every image
once. Their pixels are counted together, so that a class that only a few images show has its IoU
from all of them: the mean of five mIoUs of a fifth each would depend on those few.
"""
import collections

import numpy as np

from tf_advseg.evaluation import metrics
from tf_advseg.experiments.studies import sweep_table
from tf_advseg.reporting import paired
from tf_advseg.reporting import tables


def rounds(runs):
    """The runs of one cell by rounds.

    Args:
      runs: {seed: `finished_runs.measured`}; seeds r n … r n + n - 1 of n folds are round r.

    Returns:
      {round: {fold number: run}} of the rounds that are complete; {} for runs without folds, or of
      folds that are not of one draw.
    """
    draws = {_draw(run) for run in runs.values()}
    if len(draws) != 1 or None in draws:
        return {}
    (count, _), found = draws.pop(), collections.defaultdict(dict)
    for seed, run in runs.items():
        found[seed // count][run['fold']['number']] = run
    return {number: dict(sorted(members.items())) for number, members in sorted(found.items())
            if len(members) == count}


def _draw(run):
    """(how many folds, seed of the draw) of a run's fold; None without."""
    fold = run.get('fold')
    return (fold['count'], fold.get('seed', 0)) if fold else None


def miou(members, model, left_out=None):
    """mIoU of a model's pixels of all folds of a round, in percent; without a fold if asked for.

    A class that the fold alone shows has no IoU without it, and the mean is over the others.

    Args:
      members: {fold number: run}.
      model: its name.
      left_out: number of a fold, or None.
    """
    kept = [run['confusion'][model] for number, run in members.items() if number != left_out]
    return 100.0 * metrics.mean_iou(np.sum([each['matrix'] for each in kept], 0), kept[0]['absent'])


def difference(pairs, numbers):
    """`paired.Difference` of pooled mIoU, the mean over rounds; count and interval are of folds.

    The interval is the jackknife's, which leaves one fold out of all rounds at a time (Miller,
    Biometrika 1974): runs of one fold share their test images and draw their training images from
    the same ones. It takes folds as independent, see `sweep_table.compared`.

    Args:
      pairs: [(function(number of a fold or None) -> mIoU without it, the same of another model)],
        a pair a round.
      numbers: of the folds.
    """
    def mean(left_out=None):
        return float(np.mean([one(left_out) - other(left_out) for one, other in pairs]))

    whole, count = mean(), len(numbers)
    # Pseudo-values: each is one fold's part in the estimate, so they spread as single folds do.
    # Their mean would be the estimate less its bias, which is small beside that and is left in.
    pseudo = [count * whole - (count - 1) * mean(number) for number in numbers]
    deviation = float(np.std(pseudo, ddof=1))
    return paired.Difference(count, whole, deviation, paired.half_width(deviation, count))


def compared(collected, references=()):
    """Pooled mIoU of models and what they are compared with, on complete rounds that both have.

    Args:
      collected, references: see `sweep_table.compared`.

    Returns:
      [(cell, model, its mIoU in percent, what is subtracted, its mIoU, how many rounds,
      paired.Difference)].
    """
    by_cell = {cell: rounds(runs) for cell, runs in collected.items()}
    rows = []
    for cell, model, reference, other, less in sweep_table.asked(collected, references):
        ours, theirs = by_cell[cell], by_cell[reference]
        both = [number for number in ours if number in theirs
                and _draw(ours[number][0]) == _draw(theirs[number][0])
                and all(name in run['confusion'] for name, members in
                        ((model, ours[number]), (other, theirs[number]))
                        for run in members.values())]
        if not both:
            continue
        pairs = [(_of(ours[number], model), _of(theirs[number], other)) for number in both]
        rows.append((cell, model, float(np.mean([one() for one, _ in pairs])),
                     less, float(np.mean([one() for _, one in pairs])),
                     len(both), difference(pairs, list(ours[both[0]]))))
    return rows


def table(collected, references=()):
    """tables.Table of `compared`; None without a complete round."""
    rows = [(cell, model, f'{own:.2f}', less, f'{its:.2f}', count, str(found),
             *sweep_table.precision(found),
             *sweep_table.corrected(found, sweep_table.folds_of(collected)))
            for cell, model, own, less, its, count, found in compared(collected, references)]
    if not rows:
        return None
    return tables.plain_table(
        ['cell', 'model', 'mIoU', 'less', 'its mIoU', 'rounds', 'difference', 'SD', 'half-width',
         f'folds for ±{sweep_table.WANTED}', sweep_table.CORRECTED],
        rows, 'mIoU in percent of all images of the data set, pooled over the folds: mean over '
        'rounds, difference in points [95 % interval over folds, by the jackknife], standard '
        'deviation of a fold\'s part in it, the interval\'s half-width, and how many such folds '
        f'make it ±{sweep_table.WANTED}{sweep_table.CORRECTED_IS}')


def _of(members, model):
    return lambda left_out=None: miou(members, model, left_out)
