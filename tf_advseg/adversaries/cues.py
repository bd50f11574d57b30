"""Cues: what tells a prediction's map from a ground truth's without a look at its structure.

A discriminator is meant to judge shapes and arrangements. If a single number of a map, such as its
blur or its largest probability, already separates the two kinds, then it learns that number, and
its gradient says nothing of structure. `audit` measures it with an oracle in the place of the
segmentor: the ground truth through the segmentor's stride (adversaries/bottleneck.py). What
separates the oracle from the ground truth no training of the segmentor can remove.
"""
import numpy as np

HARMLESS = 0.6  # an AUC up to here is what we call no cue; 0.5 is none at all


def _gradient_energy(maps, steps):
    del maps
    return np.mean(np.concatenate([np.square(step).sum(-1) for step in steps]))


def _total_variation(maps, steps):
    del maps
    return np.mean(np.concatenate([np.abs(step).sum(-1) for step in steps]))


def _entropy(maps, steps):
    del steps
    return np.mean(-(maps * np.log(np.maximum(maps, 1e-12))).sum(-1))


def _largest(maps, steps):
    del steps
    return np.mean(maps.max(-1))


def _exact(maps, steps):
    del steps
    return np.mean((maps == 0.0) | (maps == 1.0))


_OF_POINTS = {'gradient energy': _gradient_energy, 'total variation': _total_variation,
              'entropy': _entropy, 'largest value': _largest, 'exact zeros and ones': _exact}
STATISTICS = (*_OF_POINTS, 'above Nyquist')


def statistics(maps, valid, grid):
    """Every statistic of one map.

    Args:
      maps: float [h, w, C], probabilities.
      valid: bool [h, w]; other points are left out.
      grid: (h', w') of the segmentor's logits, for its Nyquist frequency.

    Returns:
      float64 [len(STATISTICS)]; nan where no point is valid.
    """
    maps, valid = np.asarray(maps, np.float64), np.asarray(valid, bool)
    if not valid.any():
        return np.full(len(STATISTICS), np.nan)
    down = (maps[1:] - maps[:-1])[valid[1:] & valid[:-1]]
    along = (maps[:, 1:] - maps[:, :-1])[valid[:, 1:] & valid[:, :-1]]
    steps = (down, along) if len(down) + len(along) else (np.zeros((1, maps.shape[-1])),)
    found = [function(maps[valid], steps) for function in _OF_POINTS.values()]
    return np.array([*found, _above_nyquist(maps * valid[..., None], grid)])


def _above_nyquist(maps, grid):
    """The share of a map's energy (its mean left out) in frequencies that the grid cannot hold."""
    energy = np.square(np.abs(np.fft.fft2(maps - maps.mean((0, 1)), axes=(0, 1)))).sum(-1)
    total = energy.sum()
    frequencies = [np.abs(np.fft.fftfreq(side)) > 0.5 * min(1.0, points / side)
                   for side, points in zip(maps.shape, grid)]
    high = frequencies[0][:, None] | frequencies[1][None, :]
    # Rounding: two maps of the grid's own size have nothing above it, and are equal in that.
    share = energy[high].sum() / total if total else 0.0
    return share if share > 1e-9 else 0.0


def auc(first, second):
    """How well a number separates two samples: the area under its ROC curve, 0.5 to 1.

    Args:
      first, second: float [N], [M].

    Returns:
      float: P(a > b) + P(a = b) / 2 of one from each, or 1 minus that if it is below 0.5.
    """
    from scipy import stats
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    ranks = stats.rankdata(np.concatenate([first, second]))[:len(first)]
    area = (ranks.sum() - len(first) * (len(first) + 1) / 2) / (len(first) * len(second))
    return float(max(area, 1.0 - area))


def audit(triples, grid):
    """The AUC by which each statistic separates what a discriminator is shown as true and as fake.

    Args:
      triples: iterable of (real [h, w, C], fake [h, w, C], valid bool [h, w]), one an image, as the
        method shows them; the fake is of an oracle.
      grid: (h', w') of the segmentor's logits.

    Returns:
      {statistic: AUC}.

    Raises:
      ValueError: no image with a valid point.
    """
    rows = [(statistics(real, valid, grid), statistics(fake, valid, grid))
            for real, fake, valid in triples]
    rows = [row for row in rows if not np.isnan(row).any()]
    if not rows:
        raise ValueError('a cue audit needs images with labelled points')
    real, fake = (np.stack(part) for part in zip(*rows))
    # What two ways to the same map differ by, in float32, is no cue.
    scale = np.maximum(np.abs(real).mean(0), 1e-12)
    real, fake = (np.round(part / scale, 4) for part in (real, fake))
    return {name: auc(real[:, place], fake[:, place]) for place, name in enumerate(STATISTICS)}


def harmful(found):
    """{statistic: AUC} of those above `HARMLESS`, the worst first."""
    return dict(sorted(((name, area) for name, area in found.items() if area > HARMLESS),
                       key=lambda pair: -pair[1]))
