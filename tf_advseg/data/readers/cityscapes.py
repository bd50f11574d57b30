"""Cityscapes fine: 5,000 street scenes in 19 classes (Cordts et al., CVPR 2016)."""
from tf_advseg.core.errors import UserError
from tf_advseg.data.official_specs import SPECS
from tf_advseg.data.readers import base
from tf_advseg.data.readers import resizing

SPEC = SPECS['cityscapes']
_IMAGE = '_leftImg8bit.png'
_IDS, _TRAIN_IDS = '_gtFine_labelIds.png', '_gtFine_labelTrainIds.png'
_INSTANCES = '_gtFine_instanceIds.png'
_WHAT = 'the official folder leftImg8bit, with gtFine beside it'


class CityscapesReader(base.FileReader):
    """Reads the official folders `leftImg8bit` and `gtFine`, each `<split>/<city>/<id>_*.png`.

    A label is `<id>_gtFine_labelIds.png`, turned into the 19 train ids by the official table (all
    else is 255), or `<id>_gtFine_labelTrainIds.png` where only that is there. Objects come from
    `<id>_gtFine_instanceIds.png` where it is there: only iIoU needs them. Ids are the images'
    names without `_leftImg8bit.png`, as the evaluation server has them. Splits are train (2,975)
    and val (500).

    Args:
      source: the folder that leftImg8bit and gtFine lie in, or one above.
      dummy_test: also read test (1,525 images), whose published labels are dummies: every pixel
        is ignored. It can be predicted, not scored.
      test_is_val: also call val `test`, for experiments that need a split of this name. What is
        chosen on val and then reported on this test is not an unseen score.
      size: (height, width) that images, labels and objects are resized to when they are read,
        see `resizing`: Hung et al. (section 4) "resize the input image to 512 x 1024", (512, 1024)
        here. Scores are then of labels at this size, unlike the server's. None: as published.

    Raises:
      UserError: a folder is missing, images and labels do not pair up, both options of test are
        given, or a bad size.
    """

    def __init__(self, source, dummy_test=False, test_is_val=False, size=None):
        self.spec = SPEC
        self._size = resizing.require_size('cityscapes', size)
        if dummy_test and test_is_val:
            raise UserError('cityscapes: dummy_test and test_is_val both make a split "test"; '
                            'leave one out')
        self._images = base.find_root(source, ('leftImg8bit',), _WHAT) / 'leftImg8bit'
        self._labels = base.find_root(source, ('gtFine',), _WHAT) / 'gtFine'
        self._place = {}  # id -> <split>/<city>
        self._splits = {}
        for split in ('train', 'val') + (('test',) if dummy_test else ()):
            if (self._images / split).is_dir() or (self._labels / split).is_dir() \
                    or split == 'test':
                self._splits[split] = self._read_split(split)
        if not self._splits:
            raise UserError(f'{self._images}: no folder train or val in it; expected {_WHAT}')
        if test_is_val:
            if 'val' not in self._splits:
                raise UserError(f'{self._images / "val"}: no such folder, so it cannot be test')
            self._splits['test'] = list(self._splits['val'])

    def splits(self):
        """See `Reader.splits`."""
        return {name: list(ids) for name, ids in self._splits.items()}

    def image_path(self, image_id):
        """See `FileReader.image_path`."""
        return self._images / self._of(image_id) / (image_id + _IMAGE)

    def label_path(self, image_id):
        """See `FileReader.label_path`."""
        path = self._labels / self._of(image_id) / (image_id + _IDS)
        other = path.with_name(image_id + _TRAIN_IDS)
        return other if not path.exists() and other.exists() else path

    def load(self, image_id):
        """See `FileReader.load`; at the size asked for."""
        image, label = super().load(image_id)
        if self._size is None:
            return image, label
        return resizing.bilinear(image, self._size), resizing.nearest(label, self._size)

    def encoded_image(self, image_id):
        """See `FileReader.encoded_image`; the file's bytes are not of an image that is resized."""
        return super().encoded_image(image_id) if self._size is None else None

    def read_label(self, image_id):
        """See `FileReader.read_label`: of the size in the file."""
        path = self.label_path(image_id)
        ids = base.read_id_png(path)
        if path.name.endswith(_TRAIN_IDS):
            return base.check_ids(ids, path, SPEC.num_classes, SPEC.ignore_label)
        return base.as_train_ids(ids, path, SPEC)

    def instances(self, image_id):
        """See `Reader.instances`: int32 [H, W] of labelId * 1000 + k, or labelId alone.

        UserError where its size is not the label's.
        """
        path = self._instance_path(image_id)
        if not path.exists():
            return None
        ids = base.read_instance_png(path)
        shape = base.read_id_png(self.label_path(image_id)).shape
        if ids.shape != shape:
            raise UserError(f'{path}: {ids.shape[1]}x{ids.shape[0]}, but the label of this image '
                            f'is {shape[1]}x{shape[0]}; both need the same width and height')
        return ids if self._size is None else resizing.nearest(ids, self._size)

    def files(self, image_id):
        """See `Reader.files`."""
        path = self._instance_path(image_id)
        return super().files(image_id) + ((path,) if path.exists() else ())

    def _instance_path(self, image_id):
        """Where the image's objects are, if anywhere."""
        return self._labels / self._of(image_id) / (image_id + _INSTANCES)

    def _read_split(self, split):
        """The ids of a split, by city and name; UserError unless images and labels pair up."""
        images = self._files(self._images / split, 'the images', (_IMAGE,))
        labels = self._files(self._labels / split, 'the labels', (_IDS, _TRAIN_IDS))
        if not images:
            raise UserError(f'{self._images / split}: no image *{_IMAGE} in the folders of the '
                            'cities')
        for image_id, place in (*images.items(), *labels.items()):
            if self._place.setdefault(image_id, place) != place:
                raise UserError(f'{self._images}: "{image_id}" lies in {self._place[image_id]} '
                                f'and in {place}; an image belongs in one split and city')
        base.pair_up(images, labels, self.image_path, self.label_path)
        return list(images)

    def _files(self, folder, what, suffixes):
        """dict id -> `<split>/<city>` of the files with one of these endings."""
        base.require_folder(folder, f'{what} of split "{folder.name}", a folder a city')
        found = {}
        for path in sorted(folder.glob('*/*.png')):
            for suffix in suffixes:
                if path.name.endswith(suffix) and not path.name.startswith('.'):
                    found[path.name[:-len(suffix)]] = f'{folder.name}/{path.parent.name}'
        return found

    def _of(self, image_id):
        """`<split>/<city>` of an image."""
        if image_id not in self._place:
            raise UserError(f'{self._images}: no image "{image_id}"')
        return self._place[image_id]
