"""Splits as files: lists that come with the package, anybody's own, and how readers use them.

`split_lists/<data set>_<name>.json` are split files (data/splits.py) of complete data sets. None
is official: each says where its sizes come from and by which seed it was drawn, once; and which
images show the same and were kept in one part (`together`), see `splits.make_split`.

| list | parts | sizes from |
|---|---|---|
| stanford_background_load | train 400, val 172, test 143 | LoAd, section 4 |
| stanford_background_luc | subset_0..subset_7 (573), test 142 | Luc et al., section 4 |
| cmp_facades_cmp | train 400, val 100, test 106 | pix2pix' use of the data |
| cmp_facades_base_extended | train 302, val 76 (base), test 228 (extended) | the folders |
"""
import pathlib

from tf_advseg.core import files
from tf_advseg.core.errors import UserError, require_one_of
from tf_advseg.core.random_streams import RandomStreams
from tf_advseg.data import splits as splits_lib

LISTS = pathlib.Path(__file__).resolve().parent / 'split_lists'
_SUBSET = 'subset_'


def list_names(dataset):
    """Names of the lists that come with the package for a data set, sorted."""
    return sorted(path.stem[len(dataset) + 1:] for path in LISTS.glob(f'{dataset}_*.json'))


def chosen_split(split, ids, where, dataset, others=(), fold=None):
    """The splits of a list that comes with the package, or of a file.

    Args:
      split: name of a list of `dataset`, or path of a split file.
      ids: every image id there is.
      where: the folder they lie in, for messages.
      dataset: the data set's name.
      others: further names of splits the reader knows, for the message.
      fold: which of a list's subsets is val, the others being train; 0 where a list has subsets
        and nothing is given.

    Returns:
      dict split name -> image ids.

    Raises:
      UserError: an unknown name, a file of another data set, an image in two parts, images
        that are missing; a list of the package also wants that there are no others.
    """
    names = list_names(dataset)
    own = split not in names
    if own and not (str(split).endswith('.json') or pathlib.Path(str(split)).is_file()):
        require_one_of(f'split of {dataset}', split, (*names, *others, 'PATH.json'))
    path = pathlib.Path(str(split)) if own else LISTS / f'{dataset}_{split}.json'
    parts = splits_lib.read_split(path, disjoint=True)
    with files.as_written(path):
        named = files.read_json(path).get('dataset')
    if named not in (None, dataset):
        raise UserError(f'{path}: a split of data set {named}, expected one of {dataset}')
    _check_ids(parts, set(ids), where, path if own else f'split list "{split}"', own)
    return _with_fold(parts, fold, path)


def _check_ids(parts, ids, where, what, own):
    """UserError where the listed images are not those there are."""
    listed = dict.fromkeys(i for part in parts.values() for i in part)
    missing = [i for i in listed if i not in ids]
    if missing:
        raise UserError(f'{where}: {what} lists {len(listed)} images, but {len(missing)} of '
                        f'them are missing, the first is "{missing[0]}"; complete the data or '
                        'give a split file of your own')
    extra = sorted(ids.difference(listed))
    if extra and not own:
        raise UserError(f'{where}: {len(extra)} of {len(ids)} images are not in {what}, the '
                        f'first is "{extra[0]}"; remove them or give a split file of your own')


def _with_fold(parts, fold, path):
    """`parts` with subsets turned into train and val; as they are where there are none."""
    subsets = [name for name in parts if name.startswith(_SUBSET)]
    if not subsets:
        if fold is not None:
            raise UserError(f'{path.name}: has no subsets, so there is no fold {fold}; leave out '
                            'the option fold')
        return parts
    fold = 0 if fold is None else fold
    chosen = f'{_SUBSET}{fold}'
    if chosen not in subsets:
        raise UserError(f'fold is {fold!r}, expected 0 to {len(subsets) - 1}: one of the '
                        f'{len(subsets)} subsets of {path.name}')
    train = sorted(i for name in subsets if name != chosen for i in parts[name])
    return {'train': train, 'val': parts[chosen],
            **{name: ids for name, ids in parts.items() if name not in subsets}}


def frames_split(sequences, fractions, seed=0, contiguous=True):
    """Cuts every video sequence into the same shares.

    Args:
      sequences: dict name -> image ids of its frames, in the order of time.
      fractions: dict split -> share.
      seed: of the frames drawn where `contiguous` is False.
      contiguous: the splits follow one another in time; else frames are drawn at random.

    Returns:
      dict split -> image ids, sequence by sequence. UserError for a sequence with fewer frames
      than splits.
    """
    parts = {name: [] for name in fractions}
    for number, (sequence, frames) in enumerate(sorted(sequences.items())):
        try:
            sizes = splits_lib.sizes_from_fractions(len(frames), fractions)
        except UserError as error:
            raise UserError(f'sequence {sequence}: {error}') from None
        order = list(range(len(frames)))
        if not contiguous:
            order = RandomStreams(seed).generator('split frames', number).permutation(len(frames))
        start = 0
        for name, size in sizes.items():
            parts[name] += [frames[i] for i in sorted(order[start:start + size])]
            start += size
    return parts
