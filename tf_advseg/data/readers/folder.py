"""Anybody's images: a folder `images/` and a folder `labels/` with PNGs of class ids."""
import collections
import glob
import json
import os
import unicodedata

import numpy as np
from absl import logging

from tf_advseg.core import files
from tf_advseg.core import walking
from tf_advseg.core.errors import UserError
from tf_advseg.data import splits as splits_lib
from tf_advseg.data.readers import lists
from tf_advseg.data.readers import base
from tf_advseg.data.readers.label_values import LabelValues, OnePastTheLastError
from tf_advseg.data.spec import DatasetSpec, IGNORE_LABEL, default_palette

PARTS = ('images', 'labels')
_FAR = 1 << 16  # beyond any value of a label
_COUNTED = 1000  # labels that are read to say in how many an id is
_DEPTH = 3  # levels below a folder in which the one that holds PARTS is looked for
FRACTIONS = {'train': 0.6, 'val': 0.2, 'test': 0.2}
_SPLIT_WORDS = tuple(FRACTIONS)  # how the name of a sub-folder begins that is a split
_MANY = 10  # labels from which on an id in all of them says something


class FolderReader(base.FileReader):
    """Reads a folder of images and labels that pair up by name.

    `images/<id>.jpg` (or another of `base.IMAGES`) belongs to `labels/<id>.png` (or another of
    `base.LABELS`), whose values (grey values or palette indices) are class ids; where labels lie
    in one folder, to the one of its name. Which image is in which split follows from, in this
    order: `splits/<split>.txt` with one id a line; sub-folders `images/<split>/` and
    `labels/<split>/` (ids are then `<split>/<name>`) where at least one is named train…, val…
    or test…; else the images, in whatever sub-folders, are split at random.

    Args:
      source: the folder, or one in which there is one such folder, at most three levels below.
      class_names: names of the classes 0, 1, ...; else they are read from `classes.txt` (a
        name a line) or `classes.json` (a list of names, or {"names": [...],
        "palette": [[r, g, b], ...]}) in the folder.
      num_classes: how many classes there are, where they have no names; without either, the
        highest id in all labels decides, and the log says so.
      ignore_label: the id in the PNGs of pixels that count nowhere; 255 in records.
      label_values: the values in the PNGs of the classes 0, 1, ...; [0, 255] for masks.
      palette: (r, g, b) per class.
      fractions: dict split -> share, for the random split.
      seed: of the random split.
      dataset_name: the data set's name, the folder's by default.

    Raises:
      UserError: folders are missing, images and labels do not pair up, classes contradict.
    """

    def __init__(self, source, class_names=None, num_classes=None, ignore_label=IGNORE_LABEL,
                 palette=None, fractions=None, seed=0,
                 dataset_name=None, label_values=None):
        self._source = find_root(source)
        _require_parts(self._source)
        self._values = values_of(ignore_label, label_values)
        self._images = _by_id(base.require_folder(self._source / 'images', 'the images'),
                              base.IMAGES, tell=True)
        self._labels, self._lone = paired(self._images, _by_id(base.require_folder(
            self._source / 'labels', 'the labels (PNGs of class ids)'), base.LABELS))
        if not self._images:
            raise UserError(f'{self._source / "images"}: no image ({", ".join(base.IMAGES)}) in '
                            'this folder')
        self._splits = self._find_splits(
            FRACTIONS if fractions is None else fractions, seed)
        if class_names is not None and not isinstance(class_names, (list, tuple)):
            raise UserError(f'folder: class_names is {class_names!r}, expected a list such as '
                            "['sky', 'ground']")
        require_count(num_classes)
        if class_names is None:
            class_names, file_palette = self._class_files()
            palette = palette or file_palette
        if class_names is None:
            count = num_classes if num_classes is not None else self._count_classes()
            class_names = [f'class_{i}' for i in range(count)]
        elif num_classes is not None and int(num_classes) != len(class_names):
            raise UserError(f'{self._source}: num_classes is {num_classes}, but there are '
                            f'{len(class_names)} class names; give one of the two')
        if label_values is not None and len(label_values) != len(class_names):
            raise UserError(f'{self._source}: label_values has {len(label_values)} values, but '
                            f'there are {len(class_names)} classes; give one a class')
        self.spec = DatasetSpec(
            name=dataset_name or base.folder_name(self._source), class_names=tuple(class_names),
            palette=palette or default_palette(len(class_names)))

    def splits(self):
        """See `Reader.splits`."""
        return {name: list(ids) for name, ids in self._splits.items()}

    def image_path(self, image_id):
        """See `FileReader.image_path`."""
        if image_id not in self._images:
            raise UserError(f'{self._source / "images"}: no image "{image_id}"')
        return self._images[image_id]

    def label_path(self, image_id):
        """See `FileReader.label_path`."""
        if image_id not in self._labels:
            expected = self._source / 'labels' / f'{image_id}.png'
            raise UserError(f'{self.image_path(image_id)}: image without label; expected '
                            f'{expected}{other_label(expected) or label_of_other_name(expected)}')
        return self._labels[image_id]

    def read_label(self, image_id):
        """See `FileReader.read_label`."""
        path = self.label_path(image_id)
        return self._values.train_ids(base.read_id_png(path, base.LOSSLESS), path,
                                      self.spec.num_classes)

    def load(self, image_id):
        """See `Reader.load`; an id one past the last is told with how many labels have it."""
        try:
            return super().load(image_id)
        except OnePastTheLastError as error:
            raise UserError(f'{error.message} ({self._labels_with(error.value)})') from error

    def _labels_with(self, value):
        """In how many labels a value is, for people; reads `_COUNTED` labels at most."""
        every = list(dict.fromkeys(i for ids in self._splits.values() for i in ids))
        found = 0
        for image_id in every[:_COUNTED]:
            try:
                found += value in base.read_id_png(self.label_path(image_id), base.LOSSLESS)
            except UserError:  # one that cannot be read is another finding
                continue
        total = (f'the {len(every)} labels' if len(every) <= _COUNTED
                 else f'the first {_COUNTED:,} of {len(every):,} labels')
        return f'{value} is in {found:,} of {total}'

    def _find_splits(self, fractions, seed):
        """dict split -> ids, by lists, sub-folders or chance; checks that every id is a pair."""
        lists = sorted((self._source / 'splits').glob('*.txt'))
        if lists:
            # Only what is listed has to pair up: VOC has many more images than labels.
            return {path.stem: self._read_list(path) for path in lists}
        for image_id in self._images:
            self.label_path(image_id)
        for image_id, path in self._lone.items():
            raise UserError(f'{path}: label without image; expected '
                            f'{self._source / "images" / image_id}.jpg or .png')
        ids = sorted(self._images)
        flat = [i for i in ids if '/' not in i]
        folders = self._split_folders()
        if folders and not flat:
            names = list(dict.fromkeys(i.split('/')[0] for i in ids))
            return {n: [i for i in ids if i.split('/')[0] == n] for n in names}
        if folders and len(flat) != len(ids) and any(
                self._labels[i].parent.parent != self._source for i in ids if '/' in i):
            raise UserError(f'{self._images[flat[0]]}: lies beside the split folders of '
                            'images/; put every image into one of them, or none')
        return splits_lib.make_split(
            ids, splits_lib.sizes_from_fractions(len(ids), fractions), seed)

    def _split_folders(self):
        """Sub-folders of images/ that are splits, or []; UserError if one of them is empty."""
        folders = sorted(path for path in (self._source / 'images').iterdir()
                         if path.is_dir() and not path.name.startswith('.'))
        if not any(path.name.lower().startswith(_SPLIT_WORDS) for path in folders):
            if folders:
                logging.warning(
                    '%s: no sub-folder is named train, val or test, so all images are split at '
                    'random, those of one sub-folder too; splits/train.txt, val.txt and test.txt '
                    'split them otherwise', self._source / 'images')
            return []
        for folder in folders:
            if not _by_id(folder, base.IMAGES):
                raise UserError(f'{folder}: empty split; put images there or remove the folder')
        return folders

    def _read_list(self, path):
        """The ids in a split list; UserError for an empty list or an id without files."""
        ids = [unicodedata.normalize('NFC', i) for i in lists.read_ids(path, paths=False)]
        for image_id in ids:
            if image_id not in self._images:
                raise UserError(f'{path}: lists "{image_id}", but there is no such image in '
                                f'{self._source / "images"} (names without suffix)')
            self.label_path(image_id)
        return ids

    def _class_files(self):
        """(names, palette) from classes.json or classes.txt, None where they say nothing."""
        path = self._source / 'classes.json'
        if path.exists():
            content = files.read_json(path)
            names = content.get('names') if isinstance(content, dict) else content
            palette = content.get('palette') if isinstance(content, dict) else None
            if not isinstance(names, list) or not names or not all(
                    isinstance(name, str) for name in names):
                raise UserError(f'{path}: expected a list of class names, or '
                                + json.dumps({'names': ['...'], 'palette': [[0, 0, 0]]}))
            return _fit(path, names, palette)
        path = self._source / 'classes.txt'
        if path.exists():
            names = lists.read_lines(path)
            if not names:
                raise UserError(f'{path}: no class name in it; expected one a line')
            return _fit(path, names, None)
        return None, None

    def _count_classes(self):
        """How many classes the labels of all splits show; reads every label."""
        present = collections.Counter()
        every = sorted({i for ids in self._splits.values() for i in ids})
        for image_id in every:
            present.update(np.unique(base.read_id_png(
                self.label_path(image_id), base.LOSSLESS)).tolist())
        number, remark = self._values.num_classes(set(present), self._source / 'labels')
        if len(every) >= _MANY:
            remark += self._values.void_question(present, len(every))
        logging.info('%s: %d classes, as the highest label id is %d%s (give class_names or '
                     'num_classes to set it)', self._source, number, number - 1, remark)
        if remark:
            logging.warning('%s: %d classes%s', self._source, number, remark)
        return number


def _fit(path, names, palette):
    """The names and colours of a class file; UserError, which names it, for what are none."""
    try:
        made = DatasetSpec('', names, palette or default_palette(len(names)))
    except UserError as error:
        raise UserError(f'{path}: {error.message.partition(": ")[2]}') from None
    return list(made.class_names), palette and [list(colour) for colour in made.palette]


def find_root(source):
    """The folder at `source`, or the only one not far below it, that holds images/ and labels/.

    Archives and downloads have it one level down, beside a README. The folder itself where there
    is none, so that what is missing can be named.

    Raises:
      UserError: no folder, or several.
    """
    source = base.require_folder(source, 'a folder with images/ and labels/')
    if any((source / part).is_dir() for part in PARTS):
        return source
    level = [source]
    for _ in range(_DEPTH):
        level = [path for folder in level for path in sorted(folder.iterdir())
                 if not path.name.startswith('.') and path.name not in base.JUNK
                 and path.is_dir() and os.access(path, os.R_OK | os.X_OK)]
        found = [path for path in level if all((path / part).is_dir() for part in PARTS)]
        if len(found) > 1:
            raise UserError(f'{source}: holds several folders with images/ and labels/, as '
                            f'{found[0]} and {found[1]}; name one of them')
        if found:
            return found[0]
    return source


def _require_parts(source):
    """UserError, which says what is there, for a folder with neither images/ nor labels/."""
    if any((source / part).exists() for part in PARTS):
        return
    there = sorted(path.name for path in source.iterdir() if not path.name.startswith('.'))
    shown = ', '.join(there[:5]) + (', …' if len(there) > 5 else '')
    raise UserError(f'{source}: no folder images/ (it has {shown or "nothing"}); expected the '
                    'images in images/ and their labels in labels/, under the same names. Links '
                    'with these names will do (docs/data.md), or a reader of your own')


def require_count(num_classes):
    """UserError for a number of classes that is none; None is no number, and may be given."""
    if num_classes is not None and not (
            isinstance(num_classes, int) and 1 <= num_classes <= IGNORE_LABEL):
        raise UserError(f'folder: num_classes is {num_classes!r}, expected a whole number from 1 '
                        f'to {IGNORE_LABEL}')


def values_of(ignore_label, label_values):
    """The `LabelValues` of the reader's options; UserError for what is none."""
    if label_values is not None and not isinstance(label_values, (list, tuple)):
        raise UserError(f'folder: label_values is {label_values!r}, expected the value of each '
                        'class, as [0,255]')
    if isinstance(ignore_label, bool) or not isinstance(ignore_label, int) or not (
            -_FAR < ignore_label < _FAR):
        raise UserError(f'folder: ignore_label is {ignore_label!r}, expected a whole number, as '
                        'a label has them')
    return LabelValues(ignore_label, None if label_values is None else tuple(label_values))


def paired(images, labels):
    """The labels of images, by the whole path, or by the name where labels lie in one folder.

    Args:
      images, labels: dict id -> file.

    Returns:
      ({image id: label file}, {id: label file} of those that belong to no image).
    """
    names = collections.Counter(image_id.rsplit('/', 1)[-1] for image_id in images)
    taken = {}
    for image_id in images:
        name = image_id.rsplit('/', 1)[-1]
        if image_id in labels:
            taken[image_id] = image_id
        elif name in labels and names[name] == 1:
            taken[image_id] = name
    used = set(taken.values())
    return ({image_id: labels[label] for image_id, label in taken.items()},
            {label: path for label, path in labels.items() if label not in used})


def other_label(expected):
    """What to say of a file that stands where a label is expected, in a format that is none."""
    there = sorted(path for path in expected.parent.glob(f'{glob.escape(expected.stem)}.*')
                   if path.is_file() and path.stem == expected.stem)
    if not there:
        return ''
    why = ('JPEG changes ids; export the labels anew as PNG' if there[0].suffix.lower() in (
        '.jpg', '.jpeg', '.jpe', '.jfif') else 'labels are PNGs of class ids; convert it')
    return f' ({there[0].name} is there, but {why})'


def label_of_other_name(expected):
    """What to say of a label beside the expected one whose name only begins as the image's."""
    there = sorted(path for path in expected.parent.glob(f'{glob.escape(expected.stem)}[_.-]*')
                   if path.suffix.lower() in base.LABELS and path.is_file())
    return (f' ({there[0].name} is there, but a label has the name of its image; rename the '
            'labels, or make links with these names)') if there else ''


def _by_id(folder, suffixes, tell=False):
    """dict id (path below the folder without suffix) -> file; see `base.files_by_stem`."""
    if tell:
        base.warn_of_unread(folder, walking.files_below(folder))
    return base.files_by_stem(folder, suffixes, recursive=True)
