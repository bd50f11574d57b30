"""Anybody's images: a folder `images/` and a folder `labels/` with PNGs of class ids."""
import json

from absl import logging

from tf_advseg.core import files
from tf_advseg.core.errors import UserError
from tf_advseg.data import splits as splits_lib
from tf_advseg.data.readers import lists
from tf_advseg.data.readers import base
from tf_advseg.data.spec import DatasetSpec, IGNORE_LABEL, default_palette

IMAGES = ('.jpg', '.jpeg', '.png')
LABELS = ('.png',)
FRACTIONS = {'train': 0.6, 'val': 0.2, 'test': 0.2}


class FolderReader(base.FileReader):
    """Reads a folder of images and labels that pair up by name.

    `images/<id>.jpg|jpeg|png` belongs to `labels/<id>.png`, whose values (grey values or
    palette indices) are class ids. Which image is in which split follows from, in this order:
    `splits/<split>.txt` with one id a line; sub-folders `images/<split>/` and
    `labels/<split>/` (ids are then `<split>/<name>`); else the images are split at random.

    Args:
      source: the folder.
      class_names: names of the classes 0, 1, ...; else they are read from `classes.txt` (a
        name a line) or `classes.json` (a list of names, or {"names": [...],
        "palette": [[r, g, b], ...]}) in the folder.
      num_classes: how many classes there are, where they have no names; without either, the
        highest id in all labels decides, and the log says so.
      ignore_label: the id in the PNGs of pixels that count nowhere; 255 in records.
      palette: (r, g, b) per class.
      fractions: dict split -> share, for the random split.
      seed: of the random split.
      dataset_name: the data set's name, the folder's by default.

    Raises:
      UserError: folders are missing, images and labels do not pair up, classes contradict.
    """

    def __init__(self, source, class_names=None, num_classes=None, ignore_label=IGNORE_LABEL,
                 palette=None, fractions=None, seed=0,
                 dataset_name=None):
        self._source = base.require_folder(source, 'a folder with images/ and labels/')
        self._ignore_label = int(ignore_label)
        self._images = _by_id(base.require_folder(self._source / 'images', 'the images'),
                              IMAGES)
        self._labels = _by_id(base.require_folder(
            self._source / 'labels', 'the labels (PNGs of class ids)'), LABELS)
        if not self._images:
            raise UserError(f'{self._source / "images"}: no image (.jpg, .jpeg, .png) in this '
                            'folder')
        self._splits = self._find_splits(
            FRACTIONS if fractions is None else fractions, seed)
        if class_names is not None and not isinstance(class_names, (list, tuple)):
            raise UserError(f'folder: class_names is {class_names!r}, expected a list such as '
                            "['sky', 'ground']")
        if num_classes is not None and not isinstance(num_classes, int):
            raise UserError(f'folder: num_classes is {num_classes!r}, expected a whole number')
        if class_names is None:
            class_names, file_palette = self._class_files()
            palette = palette or file_palette
        if class_names is None:
            count = int(num_classes) if num_classes is not None else self._count_classes()
            class_names = [f'class_{i}' for i in range(count)]
        elif num_classes is not None and int(num_classes) != len(class_names):
            raise UserError(f'{self._source}: num_classes is {num_classes}, but there are '
                            f'{len(class_names)} class names; give one of the two')
        self.spec = DatasetSpec(
            name=dataset_name or base.folder_name(self._source), class_names=tuple(class_names),
            palette=tuple(palette or default_palette(len(class_names))))

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
            raise UserError(f'{self.image_path(image_id)}: image without label; expected '
                            f'{self._source / "labels" / image_id}.png')
        return self._labels[image_id]

    def read_label(self, image_id):
        """See `FileReader.read_label`."""
        path = self.label_path(image_id)
        return base.check_ids(base.read_id_png(path), path, self.spec.num_classes,
                              self._ignore_label)

    def _find_splits(self, fractions, seed):
        """dict split -> ids, by lists, sub-folders or chance; checks that every id is a pair."""
        lists = sorted((self._source / 'splits').glob('*.txt'))
        if lists:
            # Only what is listed has to pair up: VOC has many more images than labels.
            return {path.stem: self._read_list(path) for path in lists}
        for image_id in self._images:
            self.label_path(image_id)
        for image_id, path in self._labels.items():
            if image_id not in self._images:
                raise UserError(f'{path}: label without image; expected '
                                f'{self._source / "images" / image_id}.jpg or .png')
        self._require_filled_folders()
        ids = sorted(self._images)
        flat = [i for i in ids if '/' not in i]
        if not flat:
            names = list(dict.fromkeys(i.split('/')[0] for i in ids))
            return {n: [i for i in ids if i.split('/')[0] == n] for n in names}
        if len(flat) != len(ids):
            raise UserError(f'{self._images[flat[0]]}: lies beside the split folders of '
                            'images/; put every image into one of them, or none')
        return splits_lib.make_split(
            ids, splits_lib.sizes_from_fractions(len(ids), fractions), seed)

    def _require_filled_folders(self):
        """UserError if a sub-folder of images/, which would be a split, has no image."""
        for folder in sorted(p for p in (self._source / 'images').iterdir() if p.is_dir()):
            if not folder.name.startswith('.') and not _by_id(folder, IMAGES):
                raise UserError(f'{folder}: empty split; put images there or remove the folder')

    def _read_list(self, path):
        """The ids in a split list; UserError for an empty list or an id without files."""
        ids = lists.read_ids(path, paths=False)
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
            if not isinstance(names, list) or not names:
                raise UserError(f'{path}: expected a list of class names, or '
                                + json.dumps({'names': ['...'], 'palette': [[0, 0, 0]]}))
            return names, palette
        path = self._source / 'classes.txt'
        if path.exists():
            names = lists.read_lines(path)
            if not names:
                raise UserError(f'{path}: no class name in it; expected one a line')
            return names, None
        return None, None

    def _count_classes(self):
        """Highest id in the labels of all splits, plus one; reads every label."""
        highest = -1
        for image_id in sorted({i for ids in self._splits.values() for i in ids}):
            ids = base.read_id_png(self.label_path(image_id))
            counted = ids[ids != self._ignore_label]
            highest = max(highest, int(counted.max()) if counted.size else -1)
        if highest < 0:
            raise UserError(f'{self._source / "labels"}: every pixel is ignored, so the number of '
                            'classes is not known; give class_names or num_classes')
        logging.info('%s: %d classes, as the highest label id is %d (give class_names or '
                     'num_classes to set it)', self._source, highest + 1, highest)
        return highest + 1


def _by_id(folder, suffixes):
    """dict id (path below the folder without suffix) -> file; see `base.files_by_stem`."""
    return base.files_by_stem(folder, suffixes, recursive=True)
