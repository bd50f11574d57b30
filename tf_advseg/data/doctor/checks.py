"""The doctor's checks: facts of images in, findings out."""
import collections
import re

import numpy as np

from tf_advseg.data.doctor import leaks
from tf_advseg.data.doctor.edge_fit import ARRANGEMENTS
from tf_advseg.data.doctor.findings import SEVERITIES, TITLES, Finding
from tf_advseg.data.spec import IGNORE_LABEL

SMALL = 32  # pixels: a side below is hardly a scene
FLAT = 4.0  # standard deviation of the brightness below which an image shows nothing
MOSTLY = 0.75
_FEW = 10  # images, below which a split says little
_NAMED = 12  # classes that one finding names
# Between two splits, of a class's mean share of an image: standard errors, and the share itself.
_DEVIATIONS, _SHARE = 4.0, 0.03
# Images that make a set; of edge_fit.Fit.surplus: what labels that fit have, by how much the set
# must fit better another way round, and what a single label must have so.
_ENOUGH, _USUAL, _BETTER, _TURNED = 20, 1.5, 1.0, 2.5

# A label id that may stand for what is ignored, as readers.label_values words it.
_BEYOND = re.compile(r'--option=ignore_label=(\d+)')
_COMMON = 0.5  # share of the labels with such an id that makes it one finding

_ADVICE = {
    'missing_label': 'add the label or remove the image',
    'unreadable': 'fetch the file again', 'unreadable_image': 'fetch the file again',
    'unreadable_label': 'fetch the file again',
    'colour_label': 'save the label', 'label_format': 'save the label',  # the message says how
    'label_ids': 'name every class, or label the pixels 255 to ignore them',
    'sizes_differ': 'draw the label on the stored pixels of its image, without resizing',
}


def check(facts, splits, spec, documented, load=None):
    """Everything that is found from facts of images.

    Args:
      facts: dict image id -> doctor_facts.ImageFacts, of every image of the splits.
      splits: dict split name -> image ids.
      spec: the DatasetSpec.
      documented: whether the reader makes the splits as its data set's documentation has them,
        so that an image may be in several.
      load: function id -> (image, label), to find how far labels of copies agree; or None.

    Returns:
      [Finding].
    """
    whole = {i: one for i, one in facts.items() if not one.troubles}
    findings = list(_troubles(facts))
    findings += leaks.overlaps(splits, documented)
    findings += leaks.copies(whole, splits, documented, load)
    findings += [finding for one in whole.values() for finding in _suspect(one, spec)]
    findings += _edges(whole)
    findings += _classes(whole, splits, spec)
    findings += _balance(whole, splits, spec)
    order = list(TITLES)
    return sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), order.index(f.kind)))


def _troubles(facts):
    """What makes images unusable; an id that most labels have beside the classes is one finding."""
    beyond = {one.image_id: match[1] for one in facts.values() for _, message in one.troubles
              if (match := _BEYOND.search(message))}
    common, labels = collections.Counter(beyond.values()).most_common(1)[0] if beyond else ('', 0)
    if labels < max(_COMMON * len(facts), 2):
        labels = 0
    else:
        where = f'all {labels}' if labels == len(facts) else f'{labels} of the {len(facts)}'
        shown = [facts[i].names()[-1] for i, number in beyond.items() if number == common]
        yield Finding('error', 'label_ids', f'{where} labels have the id {common}, one past the '
                      f'last class, as {shown[0]}', tuple(shown),
                      f'are these pixels to be ignored? add --option=ignore_label={common}; a '
                      'class? then name it, too')
    for one in facts.values():
        for kind, message in one.troubles:
            if not (labels and kind == 'label_ids' and beyond.get(one.image_id) == common):
                yield Finding('error', kind, *_with_advice(kind, message, one.names()))


def _with_advice(kind, message, names):
    """(message, files, advice): what a reader's last words advise is said once."""
    text, _, last = message.rpartition('; ')
    advice = _ADVICE.get(kind, '')
    if not text or not advice or not last.replace(
            'expected a JPEG or PNG file, ', '').startswith(tuple(advice.split()[:1])):
        return message, names, '' if kind in ('colour_label', 'label_format') else advice
    return text, names, last if kind in ('colour_label', 'label_format') else advice


def _suspect(one, spec):
    """What looks wrong with a single image."""
    image, label = one.names()[0], one.names()[-1]

    def finding(severity, kind, where, text, advice=''):
        return Finding(severity, kind, f'{where}: {text}', one.names(), advice, (one.image_id,))

    height, width = one.size
    total = one.counts.sum()
    ignored = one.counts[IGNORE_LABEL] / max(total, 1)
    present = np.flatnonzero(one.counts[:spec.num_classes])
    if min(height, width) < SMALL:
        yield finding('warning', 'small_image', image, f'only {width}x{height} pixels')
    if one.contrast < FLAT:
        yield finding('warning', 'constant_image', image,
                      f'nearly of one colour (brightness varies by {one.contrast:.1f} of 255)')
    if one.rotated:
        yield finding('warning', 'rotated', image, 'EXIF data say that viewers should turn it',
                      'store the pixels upright, and see that the label fits them')
    if not present.size:
        yield finding('warning', 'all_ignored', label, 'every pixel is ignored',
                      'leave the image out, or label it')
    else:
        if ignored > MOSTLY:
            yield finding('note', 'mostly_ignored', label, f'{100 * ignored:.0f} % is ignored')
        if present.size == 1:
            yield finding('note', 'one_class', label,
                          f'shows only "{spec.class_names[present[0]]}"')


def _edges(facts):
    """Labels whose borders lie nowhere near the image's; see edge_fit.Fit.

    A whole set is reported once. A single label stands out only against the others: where even
    good labels miss (roads drawn as lines, images of noise), none is suspect.
    """
    scored = [one for one in facts.values() if one.edges is not None]
    if not scored:
        return
    surplus = np.median([one.edges.surplus for one in scored])
    if len(scored) >= _ENOUGH:
        arranged = np.median([list(map(one.edges.surplus_of, one.edges.arranged))
                              for one in scored], axis=0)
        best = int(np.argmax(arranged))
        if arranged[best] > max(surplus + _BETTER, _USUAL):
            yield Finding('warning', 'mirrored', "the labels' borders are where the images' are "
                          f'only when {ARRANGEMENTS[best]} ({arranged[best]:.1f} standard '
                          f'deviations above chance, as they are {surplus:.1f})',
                          advice='were images or labels flipped or turned on the way?')
            return
        if np.mean([one.edges.misses for one in scored]) > 0.5:
            yield Finding('warning', 'edges_all', "most labels' borders are not where their "
                          "images' are; look at them",
                          advice='does each label stand beside its image?')
            return
    if surplus < _USUAL:
        return
    for one in scored:
        if one.edges.misses:
            best = int(np.argmax(one.edges.arranged))
            turned = one.edges.surplus_of(one.edges.arranged[best]) > _TURNED
            worse = one.edges.surplus < 0
            yield Finding(
                'warning' if worse else 'note', 'edges' if worse else 'edges_weak',
                f"{one.names()[-1]}: the label's borders are not where the image's are; look at "
                f'it ({one.edges.surplus:.1f} standard deviations above chance, {surplus:.1f} is '
                'usual here' + (f'; better {ARRANGEMENTS[best]})' if turned else ')'),
                one.names(), 'is it the label of this image, and upright?' if worse else
                'most are sound, of scenes with little contrast; some are coarse, or of another '
                'image', (one.image_id,))


def pixel_counts(facts, ids):
    """int64 [256]: label pixels of each train id over images that could be counted."""
    counts = np.zeros(256, np.int64)
    for image_id in ids:
        if image_id in facts and facts[image_id].counted:
            counts += facts[image_id].counts
    return counts


def _classes(facts, splits, spec):
    """Classes nobody shows, and those one split lacks."""
    shown = {name: collections.Counter(
        int(c) for i in ids if i in facts
        for c in np.flatnonzero(facts[i].counts[:spec.num_classes]))
        for name, ids in splits.items()}
    everywhere = collections.Counter()
    for counter in shown.values():
        everywhere.update(counter)
    if facts and len(everywhere) == 1 and spec.num_classes >= 1:
        only = spec.class_names[next(iter(everywhere))]
        yield Finding('error', 'single_class', f'every label has only the class "{only}"', (),
                      'are these masks of 0 and 255? 255 is ignored: add '
                      '--option=label_values=[0,255], or save the ids 0 and 1')
        return
    if not facts:
        return
    unused = [name for c, name in enumerate(spec.class_names) if c not in everywhere]
    if unused:
        yield Finding('warning', 'class_unused', f'no image shows {_classes_named(unused)}')
    for split, counter in shown.items():
        lacking = [name for c, name in enumerate(spec.class_names)
                   if c in everywhere and c not in counter]
        if lacking and any(i in facts for i in splits[split]):
            yield Finding('warning', 'class_missing',
                          f'split "{split}" does not show {_classes_named(lacking)}', (),
                          'scores there say nothing of it; choose another split')


def _classes_named(names):
    """'class "a"', '3 classes: "a", "b", "c"'; of many, the first."""
    named = ', '.join(f'"{name}"' for name in names[:_NAMED])
    named += f' and {len(names) - _NAMED} more' if len(names) > _NAMED else ''
    return f'class {named}' if len(names) == 1 else f'{len(names)} classes: {named}'


def _balance(facts, splits, spec):
    """Splits with few images, and whose classes have other shares than the rest's.

    Welch's statistic on the mean share that a class has of an image; both the standard errors
    and the share itself must be large, as small differences show in large splits.
    """
    joint = leaks.unions(splits)
    shares = {}
    for name, ids in splits.items():
        counts = np.array([facts[i].counts[:spec.num_classes] for i in ids if i in facts], float)
        if name in joint or not len(counts):
            continue
        if len(counts) < _FEW:
            lost = len(ids) - len(counts)
            yield Finding('note', 'small_split', f'split "{name}" has {len(ids)} image'
                          + ('' if len(ids) == 1 else 's')
                          + (f', of which {lost} could not be counted' if lost else '')
                          + ': scores on it say little')
        shares[name] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names_ = list(shares)
    for first, second in ((a, b) for i, a in enumerate(names_) for b in names_[i + 1:]):
        a, b = shares[first], shares[second]
        if min(len(a), len(b)) < _FEW:
            continue
        difference = a.mean(axis=0) - b.mean(axis=0)
        error = np.sqrt(a.var(axis=0, ddof=1) / len(a) + b.var(axis=0, ddof=1) / len(b))
        far = (np.abs(difference) > _SHARE) & (np.abs(difference) > _DEVIATIONS * error)
        if far.any():
            worst = int(np.argmax(np.where(far, np.abs(difference), 0)))
            yield Finding('note', 'unbalanced',
                          f'"{spec.class_names[worst]}" covers {100 * a[:, worst].mean():.1f} % of '
                          f'an image of "{first}" and {100 * b[:, worst].mean():.1f} % of one of '
                          f'"{second}"' + (f'; {far.sum() - 1} more classes differ as clearly'
                                           if far.sum() > 1 else ''))
