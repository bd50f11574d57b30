"""Who is trained on, who chooses, who is tested on: seeded splits and hold-outs."""
import collections
import math
import numbers
import pathlib

from tf_advseg.core import files
from tf_advseg.core.errors import UserError
from tf_advseg.core.random_streams import RandomStreams

FORMAT = 'tf_advseg split'
FORMAT_VERSION = 1


def make_split(ids, sizes, seed, together=()):
    """Cuts `ids` at random into parts of the given sizes.

    Args:
      ids: image ids; their order does not matter.
      sizes: dict name -> number of images; they have to add up to len(ids).
      seed: the same seed gives the same split on every machine.
      together: pairs of ids that end in one part, e.g. because they show the same image. Where
        the draw parts a pair, its second takes the place of the last one drawn into the part of
        its first that is in no pair; that one takes the second's place.

    Returns:
      dict name -> sorted list of ids. UserError for an empty part or sizes that do not add up.
    """
    ids = sorted(ids)
    _require_unique(ids)
    _require_numbers('sizes', sizes, numbers.Integral)
    for name, size in sizes.items():
        if int(size) <= 0:
            raise UserError(f'split "{name}" would be empty (size {size}); give every split at '
                            'least one image')
    total = sum(sizes.values())
    if total != len(ids):
        asked = ' + '.join(f'{name} {size}' for name, size in sizes.items())
        raise UserError(f'the split {asked} needs {total} images, but there are {len(ids)}; '
                        'complete the data or give other sizes')
    order = RandomStreams(seed).generator('split', 0).permutation(len(ids))
    splits, start = {}, 0
    for name, size in sizes.items():
        splits[name] = [ids[i] for i in order[start:start + size]]
        start += size
    _put_together(splits, together)
    return {name: sorted(part) for name, part in splits.items()}


def _put_together(splits, pairs):
    """Exchanges images between the parts, in place, as `make_split` says."""
    paired = {i for pair in pairs for i in pair}
    for first, second in pairs:
        home, other = (next(part for part in splits.values() if i in part)
                       for i in (first, second))
        if home is not other:
            place = next((k for k in reversed(range(len(home))) if home[k] not in paired), None)
            if place is None:
                raise UserError(f'no part has room for both "{first}" and "{second}", which are to '
                                'stay together; give larger sizes')
            elsewhere = other.index(second)
            home[place], other[elsewhere] = second, home[place]


def _require_numbers(what, values, kind):
    """UserError unless `values` maps the name of each part to a number."""
    if not isinstance(values, dict) or not values or not all(
            isinstance(value, kind) and not isinstance(value, bool)
            and -math.inf < value < math.inf for value in values.values()):
        expected = "{'train': 60, 'val': 40}" if kind is numbers.Integral else \
            "{'train': 0.6, 'val': 0.4}"
        raise UserError(f'split {what} are {values!r}, expected a number for each part, such as '
                        f'{expected}')


def sizes_from_fractions(count, fractions):
    """Whole numbers that add up to `count` in the proportions `fractions` (largest remainders).

    Every part gets at least one image; UserError where there are too few for that.
    """
    _require_numbers('fractions', fractions, numbers.Real)
    total = float(sum(fractions.values()))
    if min(fractions.values()) <= 0:
        raise UserError(f'split fractions {dict(fractions)} must all be above 0')
    if count < len(fractions):
        raise UserError(f'{count} images are too few for the splits '
                        f'{", ".join(fractions)}: each needs at least one')
    exact = {name: count * value / total for name, value in fractions.items()}
    sizes = {name: max(1, int(value)) for name, value in exact.items()}
    while sum(sizes.values()) != count:
        step = 1 if sum(sizes.values()) < count else -1
        able = [name for name in sizes if sizes[name] + step >= 1]
        name = max(able, key=lambda n: (step * (exact[n] - sizes[n]), -list(sizes).index(n)))
        sizes[name] += step
    return sizes


def hold_out(ids, fraction=0.3, seed=0, presence=None):
    """Sets a fraction of `ids` apart, e.g. LoAd's 30 % of the validation set (section 4).

    Args:
      ids: image ids; the result does not depend on their order.
      fraction: of the images, between 0 and 1; round(fraction * len(ids)) are held out.
      seed: of the random choice.
      presence: None for a plain random choice, or dict id -> set of the classes an image
        shows; then the share of every class's images in the hold-out is kept near
        `fraction` by iterative stratification, rarest class first (Sechidis, Tsoumakas,
        Vlahavas, "On the stratification of multi-label data", ECML PKDD 2011, algorithm 1).

    Returns:
      (hold_out_ids, rest_ids), both in the order of `ids`. UserError if either were empty.
    """
    ids = list(ids)
    _require_unique(ids)
    size = int(round(fraction * len(ids)))
    if not 0 < size < len(ids):
        raise UserError(f'a hold-out of {fraction:g} (dataset.holdout_fraction) of {len(ids)} '
                        f'image{"" if len(ids) == 1 else "s"} is {size}; both the hold-out and '
                        'the rest need at least one')
    ordered = sorted(ids)
    random = RandomStreams(seed).generator('split', 1)
    shuffled = [ordered[i] for i in random.permutation(len(ordered))]
    if presence is None:
        chosen = set(shuffled[:size])
    else:
        chosen = _stratified(shuffled, size, fraction, presence)
    return [i for i in ids if i in chosen], [i for i in ids if i not in chosen]


def labelled_fraction(ids, fraction, seed=0, presence=None):
    """The images whose labels are used, e.g. an eighth of them (Hung et al., section 4).

    With one seed, the smaller of two fractions lies in the larger one: 1/8 in 1/4 in 1/2.

    Args:
      ids: image ids; the result does not depend on their order.
      fraction: share of the images, above 0 and at most 1; round(fraction * len(ids)) are
        labelled.
      seed: of the random choice.
      presence: None for a plain random choice, or dict id -> set of the classes an image shows:
        then the first images to be labelled are such that every class is shown by one of them,
        rarest class first, as far as there are so many images.

    Returns:
      (labelled ids, unlabelled ids), both in the order of `ids`. UserError for no labelled one.
    """
    ids = list(ids)
    _require_unique(ids)
    if not 0 < fraction <= 1:
        raise UserError(f'labelled fraction is {fraction:g}, expected above 0 and at most 1')
    size = int(round(float(fraction * len(ids))))
    if not size:
        raise UserError(f'a labelled fraction of {float(fraction):g} of {len(ids)} images is '
                        'none; give a larger one')
    ordered = sorted(ids)
    order = RandomStreams(seed).generator('split', 2).permutation(len(ordered))
    drawn = [ordered[i] for i in order]
    if presence is not None:
        drawn = _every_class_first(drawn, presence)
    chosen = set(drawn[:size])
    return [i for i in ids if i in chosen], [i for i in ids if i not in chosen]


def _every_class_first(ids, presence):
    """The ids so ordered that the first ones together show every class, rarest class first."""
    counts = collections.Counter(c for i in ids for c in presence[i])
    first, shown = {}, set()
    for rare in sorted(counts, key=lambda c: (counts[c], str(c))):
        if rare not in shown:
            found = next(i for i in ids if rare in presence[i])
            first[found] = True
            shown |= set(presence[found])
    return [*first, *(i for i in ids if i not in first)]


def _stratified(shuffled, size, fraction, presence):
    """The ids chosen by iterative stratification; `shuffled` breaks all ties."""
    missing = [i for i in shuffled if i not in presence]
    if missing:
        raise UserError(f'class presence of image "{missing[0]}" is not known; a stratified '
                        'hold-out needs it for every image')
    counts = collections.Counter(c for i in shuffled for c in presence[i])
    wanted = {c: counts[c] * fraction for c in counts}
    other_wanted = {c: counts[c] - wanted[c] for c in counts}
    room, other_room = size, len(shuffled) - size
    chosen, remaining = set(), list(shuffled)
    while remaining:
        left = collections.Counter(c for i in remaining for c in presence[i])
        rarest = min(left, key=lambda c: (left[c], str(c))) if left else None
        batch = [i for i in remaining if rarest is None or rarest in presence[i]]
        for i in batch:
            need = wanted.get(rarest, 0.0) - other_wanted.get(rarest, 0.0)
            take = need > 0 or (need == 0 and room > other_room)
            if rarest is None:
                take = room > 0
            if (take and room > 0) or other_room == 0:
                chosen.add(i)
                room, demand = room - 1, wanted
            else:
                other_room, demand = other_room - 1, other_wanted
            for c in presence[i]:
                demand[c] -= 1
        batch = set(batch)
        remaining = [i for i in remaining if i not in batch]
    return chosen


def write_split(path, splits, **fields):
    """Writes dict name -> ids to a JSON file, atomically, with `fields` beside it."""
    files.write_json(path, {
        'format': FORMAT, 'version': FORMAT_VERSION, **fields,
        'sizes': {name: len(ids) for name, ids in splits.items()},
        'splits': {name: list(ids) for name, ids in splits.items()}})


def read_split(path, disjoint=False, may_be_empty=False):
    """The parts of `write_split`'s file.

    Args:
      path: the file.
      disjoint: whether parts that share an image are refused. Those of records may: VOC's
        trainval is the union of two others.
      may_be_empty: whether a part may have no image, as a run's rest of val where the hold-out is
        all of it.

    Returns:
      dict name -> list of ids. UserError if it is no such file, or a part lists an image twice.
    """
    content = files.read_json(path)
    if not isinstance(content, dict) or content.get('format') != FORMAT:
        raise UserError(f'{path}: not a split file of this package; expected JSON with '
                        f'"format": "{FORMAT}"')
    if content.get('version') != FORMAT_VERSION:
        raise UserError(f'{path}: split format version {content.get("version")}, this package '
                        f'reads version {FORMAT_VERSION}')
    splits = content.get('splits')
    if not isinstance(splits, dict) or not all(isinstance(v, list) for v in splits.values()):
        raise UserError(f'{path}: "splits" should map each split\'s name to a list of ids')
    for name, ids in splits.items():
        if not ids and not may_be_empty:
            raise UserError(f'{pathlib.Path(path)}: split "{name}" is empty')
    part_of = {}
    for name, ids in splits.items():
        strange = next((i for i in ids if not isinstance(i, str)), None)
        if strange is not None:
            raise UserError(f'{path}: split "{name}" lists {strange!r}, expected the ids of '
                            'images as strings')
        for image_id in ids:
            other = part_of.get(image_id)
            if other == name:
                raise UserError(f'{path}: split "{name}" lists image "{image_id}" twice')
            if disjoint and other is not None:
                raise UserError(f'{path}: image "{image_id}" is both in "{other}" and in '
                                f'"{name}"; an image belongs in one part')
            part_of[image_id] = name
    return splits


def _require_unique(ids):
    twice = [i for i, n in collections.Counter(ids).items() if n > 1]
    if twice:
        raise UserError(f'image "{twice[0]}" is listed twice in one set of ids')
