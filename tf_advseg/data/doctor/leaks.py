"""Images that are there more than once, in several splits above all: what is a leak.

How bad it is depends on whose doing it is. An id listed for training and for evaluation in one's
own lists is an error: a slip that is undone by taking it out of one of them. Copies, the same
image under two names, are a warning, also across splits: published data sets have them
(Stanford Background has three such pairs), everybody's scores contain them, and who leaves them
out can no longer compare with others. The data are usable; what to do about it is the user's
choice, who has to know.
"""
import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from tf_advseg.data.doctor.findings import Finding
from tf_advseg.data.spec import IGNORE_LABEL

# A hash of 64 bits: images of one scene, scaled or compressed anew, differ in a few.
_BITS = 6
# Then, of the thumbnails: the mean difference of 0..255, and the correlation.
_DIFFERENCE, _CORRELATION = 8.0, 0.97
_CHUNK = 512
_SHOWN = 12
# Labels that are read again to see how far those of copies agree; frames of videos all look alike.
_READ = 200


def role(split):
    """'train', 'val', 'test', … of a split's name: train_aug is trained on, val_sbd is val."""
    for known in ('train', 'val', 'test', 'holdout'):
        if split.lower().startswith(known):
            return known
    return split


def unions(splits):
    """Splits that are exactly two or more others together, as trainval is train and val."""
    sets = {name: set(ids) for name, ids in splits.items()}
    found = set()
    for name, ids in sets.items():
        parts = [other for key, other in sets.items() if key != name and other < ids]
        if len(parts) > 1 and set().union(*parts) == ids:
            found.add(name)
    return found


def overlaps(splits, documented):
    """One finding a pair of splits that share images."""
    joint = unions(splits)
    for name in sorted(joint):
        yield Finding('note', 'overlap', f'split "{name}" is other splits together')
    rest = [name for name in splits if name not in joint]
    for number, first in enumerate(rest):
        for second in rest[number + 1:]:
            both = sorted(set(splits[first]) & set(splits[second]))
            if not both:
                continue
            kinds = {role(first), role(second)}
            severity = ('note' if documented or len(kinds) == 1 else
                        'error' if 'train' in kinds else 'warning')
            yield Finding(
                severity, 'leak' if severity == 'error' else 'overlap',
                f'splits "{first}" and "{second}" share {len(both)} '
                f'image{"" if len(both) == 1 else "s"}, as "{both[0]}"',
                tuple(both), '' if severity == 'note' else 'take them out of one of the two')


def copies(facts, splits, documented, load=None):
    """Images of one another's pixels, or that look alike, mirrored ones too.

    Args:
      facts: dict image id -> doctor_facts.ImageFacts without troubles.
      splits: dict split name -> image ids.
      documented: see `doctor_checks.check`.
      load: see `doctor_checks.check`.

    Yields:
      One Finding a group of images: 'leak' or 'near_leak' where some are trained on and others
      evaluated on, else 'duplicate' or 'near_duplicate'; 'warning' for copies across splits and
      those whose labels differ, else 'note' (a copy within a split weighs double, no more). See
      the module's docstring for why none is an error.
    """
    joint, places, roles = unions(splits), {}, {}
    for name, ids in splits.items():
        for image_id in ids:
            places.setdefault(image_id, []).append(name)
            if name not in joint:
                roles.setdefault(image_id, set()).add(role(name))
    agreement = _Agreement(facts, load)
    same = {}
    for image_id, one in facts.items():
        same.setdefault(one.pixels, []).append(image_id)
    for ids in same.values():
        if len(ids) > 1:
            known = documented and len({i.rsplit('/', 1)[-1] for i in ids}) == 1
            yield _finding(ids, facts, roles, places, agreement, exact=True, known=known)
    single = [ids[0] for ids in same.values()]
    for ids in _alike([facts[i] for i in single]):
        yield _finding(ids, facts, roles, places, agreement, exact=False)


def _finding(ids, facts, roles, places, agreement, exact, known=False):
    """The Finding of a group of images; `known`: one image that a reader gives two names."""
    trained = [i for i in ids if 'train' in roles.get(i, ())]
    crossing = bool(trained) and any(roles.get(i, set()) - {'train'} for i in ids
                                     if i not in trained or len(trained) > 1)
    one_role = len(set().union(*(roles.get(i, {''}) for i in ids))) == 1
    where = ', '.join(f'"{i}" ({"/".join(places[i])})' for i in ids[:_SHOWN])
    where += f' and {len(ids) - _SHOWN} more' if len(ids) > _SHOWN else ''
    text = 'have the same pixels' if exact else 'look alike'
    differ = exact and len({facts[i].label for i in ids}) > 1
    text += ', but different labels' if differ else ', and the same label' if exact else ''
    share = agreement.least(ids) if differ or (crossing and not exact) else None
    if share is not None:
        text += f' ({"" if differ else "their labels "}agree on {100 * share:.1f} % of the pixels)'
    kind = ('' if exact else 'near_') + ('leak' if crossing else 'duplicate')
    unknown_copy = exact and not known and (differ or not one_role)
    advice = ('' if not crossing else 'keep all of them in one split' if exact else
              'if they show one scene, keep them in one split')
    return Finding('warning' if crossing or unknown_copy else 'note', kind, f'{where} {text}',
                   tuple(name for i in ids for name in facts[i].names()[:1]), advice, tuple(ids))


class _Agreement:
    """On what share of their pixels the labels of copies agree, read again for it."""

    def __init__(self, facts, load):
        self._facts, self._load = facts, load
        self._left = _READ if load else 0

    def least(self, ids):
        """The least share of any image's label with the first's; None where it is not known.

        Of the pixels that both label. Not looked at are groups that would take long, those of
        different sizes, and labels with no pixel in common.
        """
        first, shares = self._facts[ids[0]], []
        if len(ids) > self._left or any(self._facts[i].size != first.size for i in ids):
            return None
        self._left -= len(ids)
        label = self._load(ids[0])[1]
        for image_id in ids[1:]:
            other = self._load(image_id)[1]
            if not _look_alike(*(self._facts[i].thumbnail.astype(np.float32)
                                 for i in (ids[0], image_id)), turned=False):
                other = other[:, ::-1]  # alike only as mirrored
            both = (label != IGNORE_LABEL) & (other != IGNORE_LABEL)
            shares.append(float((label == other)[both].mean()) if both.any() else None)
        return None if None in shares else min(shares)


def _alike(facts):
    """Groups (lists of ids, 2 or more) of images that look alike, chained; small numbers first.

    All pairs are compared by their hashes, as products of matrices of +-1: with 64 bits the
    product is 64 less twice the number of bits that differ.
    """
    facts = [one for one in facts if one.contrast >= 4.0]  # flat images all look alike
    if len(facts) < 2:
        return []
    signs = np.stack([np.where(one.bits, 1, -1) for one in facts]).astype(np.float32)
    plain = signs.reshape(len(facts), -1)
    mirrored = -signs[:, :, ::-1].reshape(len(facts), -1)
    thumbnails = np.stack([one.thumbnail for one in facts]).astype(np.float32)
    alike = []  # pairs of numbers
    for start in range(0, len(facts), _CHUNK):
        for other, turned in ((plain, False), (mirrored, True)):
            close = plain[start:start + _CHUNK] @ other.T >= 64 - 2 * _BITS
            for first, second in zip(*np.nonzero(close)):
                first += start
                if first < second and _look_alike(thumbnails[first], thumbnails[second], turned):
                    alike.append((first, second))
    if not alike:
        return []
    graph = sparse.coo_array((np.ones(len(alike)), np.transpose(alike)), (len(facts),) * 2)
    _, labels = csgraph.connected_components(graph, directed=False)
    groups = {}
    for label, one in zip(labels, facts):
        groups.setdefault(label, []).append(one.image_id)
    return [ids for ids in groups.values() if len(ids) > 1]


def _look_alike(first, second, turned):
    """Whether two thumbnails, float32 [16, 16, 3], show the same."""
    second = second[:, ::-1] if turned else second
    if np.abs(first - second).mean() > _DIFFERENCE:
        return False
    return np.corrcoef(first.ravel(), second.ravel())[0, 1] >= _CORRELATION
