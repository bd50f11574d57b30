"""Images and labels as they lie, paired up without complaint: for the doctor alone.

The readers refuse a folder at the first thing that is wrong with it, as they should: nobody is to
train on half a data set. Whoever has to mend the folder wants to know of everything.
"""
import dataclasses
import os
import unicodedata
from typing import Callable, Optional, Tuple

from tf_advseg.core import walking
from tf_advseg.core.errors import UserError
from tf_advseg.data.official_specs import SPECS
from tf_advseg.data.readers import ade20k, base, cityscapes, cmp_facades, folder
from tf_advseg.data.readers import pascal_voc, stanford_background
from tf_advseg.data.spec import DatasetSpec, IGNORE_LABEL, default_palette

EVERYTHING = 'all'


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Where a data set's images and labels lie.

    Attributes:
      parts: folders that identify the root; without any it is the folder given.
      images, labels: (folder, endings of the files); the folder's name, below which the path
        without ending is the id.
      split: image id -> split name, None for images that do not count.
      reader: the class whose `read_label` knows the labels.
      spec: the DatasetSpec, None where the folder says which classes there are.
      lists: the folder of lists `<split>.txt`, '' where there are none.
    """
    parts: Tuple[str, ...]
    images: Tuple[str, Tuple[str, ...]]
    labels: Tuple[str, Tuple[str, ...]]
    split: Callable[[str], Optional[str]]
    reader: type
    spec: Optional[DatasetSpec] = None
    lists: str = ''


def _first(image_id):
    """The sub-folder an id lies in."""
    return image_id.split('/')[0] if '/' in image_id else EVERYTHING


def _all(image_id):
    del image_id
    return EVERYTHING


def _not_test(image_id):
    """As `_first`, but Cityscapes' test set, whose labels are dummies, is in no split."""
    return _first(image_id) if _first(image_id) != 'test' else None


_LAYOUTS = {
    'folder': _Layout(('images',), ('images', base.IMAGES), ('labels', base.LABELS), _first,
                      folder.FolderReader, lists='splits'),
    'stanford_background': _Layout(
        ('images', 'labels'), ('images', ('.jpg',)), ('labels', ('.regions.txt',)), _all,
        stanford_background.StanfordBackgroundReader, stanford_background.SPEC),
    'pascal_voc_2012': _Layout(
        ('JPEGImages', 'SegmentationClass', 'ImageSets'), ('JPEGImages', ('.jpg',)),
        ('SegmentationClass', ('.png',)), _all, pascal_voc.PascalVocReader, pascal_voc.SPEC,
        'ImageSets/Segmentation'),
    'cmp_facades': _Layout((), ('.', ('.jpg',)), ('.', ('.png',)), _first,
                           cmp_facades.CmpFacadesReader, cmp_facades.SPEC),
    'ade20k': _Layout(('images', 'annotations'), ('images', ('.jpg',)), ('annotations', ('.png',)),
                      _first, ade20k.Ade20kReader, SPECS['ade20k']),
    'cityscapes': _Layout(
        ('leftImg8bit', 'gtFine'), ('leftImg8bit', ('_leftImg8bit.png',)),
        ('gtFine', ('_gtFine_labelIds.png',)), _not_test, cityscapes.CityscapesReader,
        cityscapes.SPEC),
}
LAYOUTS = tuple(_LAYOUTS)


class LooseReader(base.FileReader):
    """The complete pairs of a folder whose own reader refuses it.

    Args:
      name: one of LAYOUTS.
      source: the folder, or for published layouts one above it.
      options: the reader's own options; those about classes are heeded.

    Attributes:
      lone_images, lone_labels: [(file, the one that is missing)].
      twins: [(file, the file of the same name)] of which only the second counts.
      misnamed: files whose names are not UTF-8.
      listed: whether lists say which images count.
      unlisted: [(list, id)] of ids in these lists that have no pair.

    SBD's labels beside VOC's, and SegTrack-v2, are left to their readers.

    Raises UserError where there is not even a folder of images.
    """

    def __init__(self, name, source, options=None):
        options = dict(options or {})
        layout = _LAYOUTS[name]
        self._layout = layout
        own = name == 'folder'
        if own:
            source = folder.find_root(source)
            self._values = folder.values_of(options.get('ignore_label', IGNORE_LABEL),
                                            options.get('label_values'))
        root = base.find_root(source, layout.parts, f'the layout of "{name}"',
                              depth=0 if own else 3)
        self.twins, self.misnamed = [], []
        self._images = self._by_id(root / layout.images[0], layout.images[1])
        self._labels = self._by_id(root / layout.labels[0], layout.labels[1])
        lone = {i: path for i, path in self._labels.items() if i not in self._images}
        if own:
            self._labels, lone = folder.paired(self._images, self._labels)
        self.lone_images = [
            (path, root / layout.labels[0] / (image_id + layout.labels[1][0]))
            for image_id, path in self._images.items() if image_id not in self._labels]
        self.lone_labels = [
            (path, root / layout.images[0] / (image_id + layout.images[1][0]))
            for image_id, path in lone.items()]
        pairs = [image_id for image_id in self._images if image_id in self._labels]
        self._splits, self.unlisted = _splits(root, pairs, layout)
        self.listed = bool(layout.lists) and any((root / layout.lists).glob('*.txt'))
        self.spec = layout.spec or self._own_classes(root, options)

    def splits(self):
        """See `Reader.splits`, of complete pairs; {} where there is no pair."""
        return {name: list(ids) for name, ids in self._splits.items()}

    def image_path(self, image_id):
        """See `FileReader.image_path`."""
        return self._images[image_id]

    def label_path(self, image_id):
        """See `FileReader.label_path`."""
        return self._labels[image_id]

    def read_label(self, image_id):
        """See `FileReader.read_label`: as the layout's own reader does it."""
        return self._layout.reader.read_label(self, image_id)

    def _by_id(self, where, endings):
        """{id: file}; what is left out for its name is written down. Hidden files do not count."""
        found = {}
        for path in walking.files_below(where) if os.path.isdir(where) else ():
            relative = path.relative_to(where).as_posix()
            ending = next((e for e in endings if relative.lower().endswith(e.lower())), None)
            if ending is None:
                continue
            image_id = unicodedata.normalize('NFC', relative[:-len(ending)])
            if not base.is_utf8(relative):
                self.misnamed.append(path)
            elif image_id in found:
                self.twins.append((path, found[image_id]))
            else:
                found[image_id] = path
        return found

    def _own_classes(self, root, options):
        """The DatasetSpec of anybody's folder: options, class file, or the ids that are there."""
        names, palette = options.get('class_names'), options.get('palette')
        if names is None:
            self._source = root  # where the reader's own method looks
            try:
                names, palette = self._layout.reader._class_files(self)
            except UserError:
                names = None
        folder.require_count(options.get('num_classes'))
        if names is None:
            count = options.get('num_classes') or len(
                options.get('label_values') or ()) or self._count()
            names, palette = [f'class_{i}' for i in range(int(count))], None
        return DatasetSpec(name=options.get('dataset_name') or base.folder_name(root),
                           class_names=tuple(names),
                           palette=palette or default_palette(len(names)))

    def _count(self):
        """Highest id in all labels that can be read, plus one."""
        highest = 0
        for image_id in dict.fromkeys(i for ids in self._splits.values() for i in ids):
            try:
                ids = base.read_id_png(self._labels[image_id], base.LOSSLESS)
            except UserError:
                continue
            counted = ids[(ids != self._values.ignore_label) & (ids != IGNORE_LABEL)]
            highest = max(highest, int(counted.max()) if counted.size else 0)
        return min(highest + 1, IGNORE_LABEL)


def _splits(root, pairs, layout):
    """(dict split -> ids, [(list, id without pair)]): by lists where a folder has them."""
    splits, unlisted, known = {}, [], set(pairs)
    for path in sorted((root / layout.lists).glob('*.txt')) if layout.lists else ():
        ids = list(dict.fromkeys(unicodedata.normalize('NFC', line.strip()) for line in
                                 path.read_text('utf-8-sig', 'replace').splitlines()
                                 if line.strip()))
        unlisted += [(path, image_id) for image_id in ids if image_id not in known]
        ids = [image_id for image_id in ids if image_id in known]
        if ids:
            splits[path.stem] = ids
    if not splits:
        for image_id in pairs:
            splits.setdefault(layout.split(image_id), []).append(image_id)
        splits.pop(None, None)
    return splits, unlisted
