"""Stanford Background: 715 outdoor scenes in 8 classes (Gould, Fulton, Koller, ICCV 2009)."""
import numpy as np

from tf_advseg.core.errors import UserError
from tf_advseg.data import split_files
from tf_advseg.data import splits as splits_lib
from tf_advseg.data.readers import base
from tf_advseg.data.spec import DatasetSpec

# LoAd, section 4: "715 pixel-level annotated images which we have split into 400 for training,
# 172 for validation and 143 for testing". The paper does not publish which, so ours is seeded.
PAPER_SIZES = {'train': 400, 'val': 172, 'test': 143}

SPEC = DatasetSpec(
    name='stanford_background',
    class_names=('sky', 'tree', 'road', 'grass', 'water', 'building', 'mountain', 'foreground'),
    palette=((142, 198, 238), (44, 116, 62), (126, 128, 138), (152, 206, 98), (38, 110, 188),
             (196, 106, 84), (140, 108, 82), (246, 192, 72)),
    citation='S. Gould, R. Fulton, D. Koller. Decomposing a Scene into Geometric and '
             'Semantically Consistent Regions. ICCV 2009.')

# The data set holds six scenes twice: the first three pairs byte by byte, the others compressed
# anew (they differ by 2 of 255 on average). Each was labelled twice: 4 to 13 % of the pixels have
# another label in the second image.
DUPLICATES = (('6000068', '6000318'), ('6000117', '6000324'), ('6000257', '6000348'),
              ('1000288', '9000288'), ('1000875', '9000875'), ('1001184', '9001184'))

_IMAGE, _LABEL = '.jpg', '.regions.txt'


class StanfordBackgroundReader(base.FileReader):
    """Reads the official folder iccv09Data: `images/*.jpg` and `labels/*.regions.txt`.

    Six scenes are there twice (`DUPLICATES`). In 'load', which was drawn before that was known and
    stays as it is, five of these pairs lie in two parts: 6000068 (train) = 6000318 (val), 6000117
    (val) = 6000324 (train), 6000257 (test) = 6000348 (train), 1000875 (train) = 9000875 (test) and
    1001184 (train) = 9001184 (test): 3 of the 143 test images are in train too, and 2 of the 172
    to validate. In 'luc' every pair is in one part.

    Args:
      source: the folder that holds `images` and `labels`.
      seed: of the split 'load' (0 is the list that comes with the package) or of `sizes`.
      sizes: dict split name -> number of images, for a random split of your own sizes.
      split: 'load' (400/172/143), 'luc' (Luc et al., section 4: 573 to train, 142 to test; of the
        573 "eight subsets, and we train on all subsets but one, which we use as our validation
        set"; no list was published, so ours is seeded), or a split file of your own. The lists
        need all 715 images.
      fold: which of the eight subsets of 'luc' is val, 0 to 7.

    Raises UserError for a missing folder, for images and labels that do not pair up, and for
    options that contradict.
    """

    copies = DUPLICATES

    def __init__(self, source, seed=0, sizes=None, split='load', fold=None):
        self.spec = SPEC
        source = base.require_folder(source, 'the official folder iccv09Data')
        self._images = base.require_folder(source / 'images', 'the images *.jpg')
        self._labels = base.require_folder(source / 'labels', 'the labels *.regions.txt')
        self._seed, self._sizes, self._split, self._fold = seed, sizes, split, fold
        if sizes is not None and (split != 'load' or fold is not None):
            raise UserError('stanford_background: sizes makes a random split of its own; leave '
                            'out either sizes or split and fold')
        if seed != 0 and split != 'load':
            raise UserError(f'stanford_background: seed {seed} draws no split "{split}", which is '
                            'a list; leave out the seed')
        self._paths = base.files_by_stem(self._images, (_IMAGE,))
        self._truths = base.files_by_stem(self._labels, (_LABEL,))
        self._ids = sorted(self._paths)
        if not self._ids:
            raise UserError(f'{self._images}: no image *.jpg in this folder')
        base.pair_up(self._paths, self._truths, self.image_path, self.label_path)

    def splits(self):
        """The train/val/test split; UserError if it does not fit the images."""
        if self._sizes is not None:
            return splits_lib.make_split(self._ids, self._sizes, self._seed)
        if self._split == 'load':
            if len(self._ids) != sum(PAPER_SIZES.values()):
                raise UserError(
                    f'{self._images}: {len(self._ids)} images, but the 400/172/143 split needs '
                    'all 715; complete the data set or give the reader its own sizes')
            if self._seed != 0:
                return splits_lib.make_split(self._ids, PAPER_SIZES, self._seed)
        return split_files.chosen_split(self._split, self._ids, self._images, SPEC.name,
                                        fold=self._fold)

    def image_path(self, image_id):
        """See `FileReader.image_path`."""
        return self._paths.get(image_id, self._images / (image_id + _IMAGE))

    def label_path(self, image_id):
        """See `FileReader.label_path`."""
        return self._truths.get(image_id, self._labels / (image_id + _LABEL))

    def read_label(self, image_id):
        """The text matrix of region classes as uint8 [H, W]; negative (unknown) becomes 255."""
        path = self.label_path(image_id)
        try:
            lines = [line for line in path.read_text('ascii').splitlines() if line.strip()]
            ids = np.loadtxt(lines, np.int64, comments=None, ndmin=2) if lines else None
        except FileNotFoundError:
            raise UserError(f'{path}: no such label file') from None
        except OSError as error:
            raise UserError(f'{path}: the label cannot be read ({error.strerror})') from None
        except (ValueError, OverflowError):
            raise UserError(f'{path}: not a matrix of whole numbers with rows of one length; '
                            'fetch the file again') from None
        if ids is None:
            raise UserError(f'{path}: the label is empty; fetch the file again')
        # Before any unsigned type: -1 as uint8 would be 255 by luck, -2 would not.
        ids[ids < 0] = -1
        return base.check_ids(ids, path, SPEC.num_classes, -1).astype(np.uint8)
