"""ADE20K SceneParsing: 22,210 scenes in 150 classes (Zhou et al., CVPR 2017)."""
from tf_advseg.core.errors import UserError
from tf_advseg.data.official_specs import SPECS
from tf_advseg.data.readers import base

# split name -> folder; the test images were published without labels.
_FOLDERS = {'train': 'training', 'val': 'validation'}
_NUMBERINGS = {150: 'ade20k', 151: 'ade20k_151'}


class Ade20kReader(base.FileReader):
    """Reads the official folder ADEChallengeData2016: `images` and `annotations`.

    Both hold `training` (20,210 pairs) and `validation` (2,000). A label's 0 is "other objects",
    which the official evaluator ignores; 1 to 150 are the classes. Splits are train and val: the
    labels of the test set are not public.

    Args:
      source: ADEChallengeData2016, or a folder above it.
      numbering: 150: train ids 0..149 are the official 1..150. 151: train ids are the official
        ids, as the outputs of the official zoo's networks; no label has 0. Unlabelled is 255 in
        both. A network of either is evaluated on records of the other by
        `DatasetSpec.translation`.
      test_is_val: also call val `test`, for experiments that need a split of this name. What is
        chosen on val and then reported on this test is not an unseen score.

    Raises UserError for a missing folder, images and labels that do not pair up, another
    numbering.
    """

    def __init__(self, source, numbering=150, test_is_val=False):
        if numbering not in _NUMBERINGS:
            raise UserError(f'ade20k: numbering is {numbering!r}, expected 150 (the classes) or '
                            '151 (the outputs of the official zoo\'s networks)')
        self.spec = SPECS[_NUMBERINGS[numbering]]
        what = 'the official folder ADEChallengeData2016'
        root = base.find_root(source, ('images', 'annotations'), what)
        self._images, self._labels = root / 'images', root / 'annotations'
        self._splits, self._folder, self._paths, self._truths = {}, {}, {}, {}
        for split, name in _FOLDERS.items():
            images = base.files_by_stem(
                base.require_folder(self._images / name, what), ('.jpg',))
            labels = base.files_by_stem(base.require_folder(self._labels / name, what), ('.png',))
            if not images:
                raise UserError(f'{self._images / name}: no image *.jpg in this folder')
            for image_id in (*images, *labels):
                if self._folder.setdefault(image_id, name) != name:
                    raise UserError(f'{self._images}: "{image_id}" is both in '
                                    f'{self._folder[image_id]} and in {name}')
            self._paths.update(images)
            self._truths.update(labels)
            base.pair_up(images, labels, self.image_path, self.label_path)
            self._splits[split] = list(images)
        if test_is_val:
            self._splits['test'] = self._splits['val']

    def splits(self):
        """See `Reader.splits`: the official train and val."""
        return {name: list(ids) for name, ids in self._splits.items()}

    def image_path(self, image_id):
        """See `FileReader.image_path`."""
        place = self._images / self._of(image_id)
        return self._paths.get(image_id, place / f'{image_id}.jpg')

    def label_path(self, image_id):
        """See `FileReader.label_path`."""
        place = self._labels / self._of(image_id)
        return self._truths.get(image_id, place / f'{image_id}.png')

    def read_label(self, image_id):
        """See `FileReader.read_label`."""
        path = self.label_path(image_id)
        return base.as_train_ids(base.read_id_png(path), path, self.spec)

    def _of(self, image_id):
        """The folder an image lies in."""
        if image_id not in self._folder:
            raise UserError(f'{self._images}: no image "{image_id}"')
        return self._folder[image_id]
