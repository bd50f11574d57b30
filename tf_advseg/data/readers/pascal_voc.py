"""PASCAL VOC 2012: 21 classes (Everingham et al., IJCV 2015); with SBD's labels train_aug."""
from absl import logging

from tf_advseg.core.errors import UserError
from tf_advseg.data.official_specs import SPECS
from tf_advseg.data.readers import lists, sbd as sbd_lib
from tf_advseg.data.readers import base

SPEC = SPECS['pascal_voc_2012']
# Images of each split, by the data set's documentation, DeepLab's papers (train_aug), and Luc et
# al., section 4 (val_sbd: "the 1,103 images out of 1,449 images of the validation set which were
# annotated on all pixels" by SBD).
PUBLISHED_SIZES = {'train': 1464, 'val': 1449, 'trainval': 2913, 'train_aug': 10582,
                   'val_sbd': 1103}
SBD_PREFIX = 'sbd/'
_AUG_LISTS = ('train_aug.txt', 'trainaug.txt')


class PascalVocReader(base.FileReader):
    """Reads the official folder VOCdevkit/VOC2012, and SBD beside it.

    `JPEGImages/*.jpg`, `SegmentationClass/*.png` (palette indices, 255 on borders) and the lists
    `ImageSets/Segmentation/{train,val,trainval}.txt`. Splits are those three, of which trainval
    is the union of the others, and with `sbd` or `aug` also train_aug: VOC's train and every
    further image with such a label that is not in VOC's val. Where both label an image of
    train, VOC's own label counts, as usual. With `sbd` there is val_sbd too: the images of VOC's
    val that SBD labels, with SBD's labels, which have no ignored borders; their ids are
    `sbd/<id>`, so that one image can have two labels. The test set's labels are not public: its
    server scores predictions.

    Args:
      source: VOCdevkit/VOC2012, or a folder above it.
      sbd: folder benchmark_RELEASE/dataset of SBD (`cls/*.mat`), or one above it.
      aug: folder SegmentationClassAug (PNGs of ids, 255 ignored), the other form in which SBD's
        labels go round. A list train_aug.txt in it, beside it or among VOC's lists is followed;
        else every PNG that is not in val counts. Give one of `sbd` and `aug`.
      test_is_val: also call val `test`, for experiments that need a split of this name. What is
        chosen on val and then reported on this test is not an unseen score.

    Raises:
      UserError: a folder, list, image or label is missing; the list of train_aug names an
        image of val.
    """

    def __init__(self, source, sbd=None, aug=None, test_is_val=False):
        self.spec = SPEC
        if sbd is not None and aug is not None:
            raise UserError('pascal_voc_2012: both sbd and aug are given; they hold the same '
                            'labels, leave one out')
        self._root = _find(source)
        self._images = _files(self._root / 'JPEGImages', '.jpg')
        self._labels = _files(self._root / 'SegmentationClass', '.png')
        self._sbd = None if sbd is None else sbd_lib.SemanticBoundaries(sbd)
        self._aug = None if aug is None else base.require_folder(
            aug, 'SegmentationClassAug (PNGs of class ids)')
        self._aug_labels = {} if aug is None else _files(self._aug, '.png')
        self._splits = self._official_splits()
        # What VOC lists it has to label itself: SBD must not stand in for a lost file.
        self._own = {i for ids in self._splits.values() for i in ids}
        if self._sbd is not None or self._aug is not None:
            self._add_splits()
        if test_is_val:
            self._splits['test'] = list(self._splits['val'])
        for image_id in dict.fromkeys(i for ids in self._splits.values() for i in ids):
            self._require_pair(image_id)
        for name, size in PUBLISHED_SIZES.items():
            found = len(self._splits.get(name, ()))
            if found not in (0, size):
                logging.warning('%s: %d images in split "%s", published with %d: scores do not '
                                'compare with published ones', self._root, found, name, size)

    def splits(self):
        """See `Reader.splits`; trainval, train_aug and val_sbd share images with train or val."""
        return {name: list(ids) for name, ids in self._splits.items()}

    def image_path(self, image_id):
        """See `FileReader.image_path`; SBD's copy where VOC's folder is incomplete."""
        name = image_id[len(SBD_PREFIX):] if image_id.startswith(SBD_PREFIX) else image_id
        if name in self._images:
            return self._images[name]
        if self._sbd is not None:
            path = self._sbd.image_path(name)
            if path.is_file():
                return path
        return self._root / 'JPEGImages' / (name + '.jpg')

    def label_path(self, image_id):
        """See `FileReader.label_path`."""
        if image_id.startswith(SBD_PREFIX) and self._sbd is not None:
            return self._sbd.label_path(image_id[len(SBD_PREFIX):])
        if image_id not in self._own and self._sbd is not None:
            return self._sbd.label_path(image_id)
        if image_id not in self._own and self._aug is not None:
            return self._aug_labels.get(image_id, self._aug / (image_id + '.png'))
        own = self._root / 'SegmentationClass' / (image_id + '.png')
        return self._labels.get(image_id, own)

    def read_label(self, image_id):
        """See `FileReader.read_label`."""
        path = self.label_path(image_id)
        read = sbd_lib.read_classes if path.suffix == '.mat' else base.read_id_png
        return base.as_train_ids(read(path), path, SPEC)

    def _official_splits(self):
        """dict split -> ids, from VOC's lists; UserError for an image in both train and val."""
        folder = self._lists()
        splits = {name: lists.read_ids(folder / f'{name}.txt') for name in ('train', 'val')}
        val = set(splits['val'])
        leak = next((i for i in splits['train'] if i in val), None)
        if leak is not None:
            raise UserError(f'{folder / "train.txt"}: lists "{leak}", which is in val.txt too; '
                            'fetch the published lists again')
        if (folder / 'trainval.txt').is_file():
            splits['trainval'] = lists.read_ids(folder / 'trainval.txt')
        return splits

    def _add_splits(self):
        """Adds to the splits what SBD, in the form given, makes possible."""
        val = set(self._splits['val'])
        more = self._augmenting(val)
        self._splits['train_aug'] = list(dict.fromkeys(self._splits['train'] + more))
        if self._sbd is not None:
            named = set(self._sbd.ids)
            both = [SBD_PREFIX + i for i in self._splits['val'] if i in named]
            if both:
                self._splits['val_sbd'] = both

    def _lists(self):
        """The folder of VOC's lists."""
        return base.require_folder(self._root / 'ImageSets' / 'Segmentation', 'the lists')

    def _augmenting(self, val):
        """The ids outside val that SBD, in the form given, has labels for."""
        if self._sbd is not None:
            return [i for i in self._sbd.ids if i not in val]
        for place in (self._aug, self._aug.parent, self._lists()):
            for path in (place / name for name in _AUG_LISTS):
                if path.is_file():
                    ids = lists.read_ids(path)
                    leak = next((i for i in ids if i in val), None)
                    if leak is not None:
                        raise UserError(f'{path}: lists "{leak}" to train on, which is in val; '
                                        'use another list or remove this one')
                    return ids
        ids = sorted(set(self._aug_labels) - val)
        if not ids:
            raise UserError(f'{self._aug}: no label *.png of an image outside val')
        return ids

    def _require_pair(self, image_id):
        """UserError unless a listed image and its label are there."""
        image, label = self.image_path(image_id), self.label_path(image_id)
        if image_id not in self._images and not image.is_file():
            raise UserError(f'{image}: no such image file, though the lists name it')
        if label == self._labels.get(image_id) or label == self._aug_labels.get(image_id):
            return
        if not label.is_file():
            raise UserError(f'{label}: no such label file, though the lists name it')


def _find(source):
    """The folder VOC2012: `source` itself if it can be, else below it.

    Another year's is taken only if there is no VOC2012.
    """
    what = 'the official folder VOCdevkit/VOC2012'
    parts = ('JPEGImages', 'SegmentationClass', 'ImageSets')
    # 17,125 images lie in JPEGImages, and no folder VOC2012.
    skip = (*parts, 'SegmentationObject', 'Annotations')
    source = base.require_folder(source, what)
    if all((source / part).is_dir() for part in parts):
        return source
    try:
        below = [f'VOC2012/{part}' for part in parts]
        return base.find_root(source, below, what, skip=skip) / 'VOC2012'
    except UserError:
        return base.find_root(source, parts, what, skip=skip)


def _files(folder, suffix):
    """dict id -> file of a folder of VOC."""
    return base.files_by_stem(base.require_folder(folder, 'VOC 2012'), (suffix,))
