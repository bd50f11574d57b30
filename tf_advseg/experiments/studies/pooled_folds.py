"""mIoU of all images of a data set, each predicted by the run that was tested on it.

The runs of a round, as many seeds in a row as there are folds (`run.folds`), test on every image
once. Their pixels are counted together, so that a class that only a few images show has its IoU
from all of them: the mean of five mIoUs of a fifth each would hang on those few.
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
      unequal ones.
    """
    counts = {(run.get('fold') or {}).get('count') for run in runs.values()}
    if len(counts) != 1 or None in counts:
        return {}
    count, found = counts.pop(), collections.defaultdict(dict)
    for seed, run in runs.items():
        found[seed // count][run['fold']['number']] = run
    return {number: dict(sorted(members.items())) for number, members in sorted(found.items())
            if len(members) == count}


def miou(members, model, left_out=None):
    """mIoU of a model's pixels of all folds of a round, in percent; without a fold if asked for.

    Args:
      members: {fold number: run}.
      model: its name.
      left_out: number of a fold, or None.
    """
    kept = [run['confusion'][model] for number, run in members.items() if number != left_out]
    return 100.0 * metrics.mean_iou(np.sum([each['matrix'] for each in kept], 0), kept[0]['absent'])


def difference(pairs, numbers):
    """`paired.Difference` of pooled mIoU, the mean over rounds; its interval is over folds.

    The interval is the jackknife's, which leaves one fold out of all rounds at a time: runs of one
    fold share their test images and, rounds apart, nearly their training images.

    Args:
      pairs: [(function(number of a fold or None) -> mIoU without it, the same of another model)],
        a pair a round.
      numbers: of the folds.
    """
    def mean(left_out=None):
        return float(np.mean([one(left_out) - other(left_out) for one, other in pairs]))

    whole, count = mean(), len(numbers)
    # Pseudo-values: their mean is the estimate and their spread that of one fold's part in it.
    pseudo = [count * whole - (count - 1) * mean(number) for number in numbers]
    deviation = float(np.std(pseudo, ddof=1))
    return paired.Difference(len(pairs), whole, deviation, paired.half_width(deviation, count))


def table(collected, references=()):
    """tables.Table of mIoU pooled over the folds, and differences; None without a complete round.

    Args:
      collected, references: see `sweep_table.compared`.
    """
    by_cell = {cell: rounds(runs) for cell, runs in collected.items()}
    rows = []
    for cell, model, reference, other in sweep_table.asked(collected, references):
        ours, theirs = by_cell[cell], by_cell[reference]
        both = [number for number in ours if number in theirs
                and all(name in run['confusion'] for name, members in
                        ((model, ours[number]), (other, theirs[number]))
                        for run in members.values())]
        if not both:
            continue
        pairs = [(_of(ours[number], model), _of(theirs[number], other)) for number in both]
        found = difference(pairs, list(ours[both[0]]))
        rows.append((cell, model, f'{np.mean([one(None) for one, _ in pairs]):.2f}',
                     other if cell == reference else f'{reference}: {other}',
                     f'{np.mean([one(None) for _, one in pairs]):.2f}', len(both), str(found)))
    if not rows:
        return None
    return tables.plain_table(
        ['cell', 'model', 'mIoU', 'less', 'its mIoU', 'rounds', 'difference'], rows,
        'mIoU in percent of all images of the data set, pooled over the folds: mean over rounds, '
        'difference in points [95 % interval over folds, by the jackknife]')


def _of(members, model):
    return lambda left_out=None: miou(members, model, left_out)
