"""The Semantic Boundaries Dataset: more labels for PASCAL VOC (Hariharan et al., ICCV 2011)."""
import os

import numpy as np

from tf_advseg.core.errors import UserError
from tf_advseg.data.readers import lists
from tf_advseg.data.readers import base


class SemanticBoundaries:
    """The official folder benchmark_RELEASE/dataset: `cls/*.mat`, `train.txt`, `val.txt`.

    Its lists are not VOC's: images of VOC's val are in its train, and the other way round.

    Attributes:
      ids: train's and then val's image ids; those of VOC.

    Raises UserError for a missing folder or list and for an id without label.
    """

    def __init__(self, source):
        what = 'the official folder benchmark_RELEASE/dataset of SBD'
        root = base.find_root(source, ('cls',), what)
        self._labels, self._images = root / 'cls', root / 'img'
        self.ids = list(dict.fromkeys(image_id for name in ('train.txt', 'val.txt')
                                      for image_id in lists.read_ids(root / name)))
        there = set(os.listdir(self._labels))
        for image_id in self.ids:
            if image_id + '.mat' not in there:
                raise UserError(f'{self.label_path(image_id)}: no such label file, though the '
                                'lists of SBD name it')

    def label_path(self, image_id):
        """The .mat file of an image's classes."""
        return self._labels / (image_id + '.mat')

    def image_path(self, image_id):
        """The image's file in SBD, which need not be there: VOC has it too."""
        return self._images / (image_id + '.jpg')


def read_classes(path):
    """The classes of a .mat file as official ids, uint8 [H, W]: its GTcls.Segmentation.

    UserError for a file that is missing, damaged, or holds something else.
    """
    import scipy.io  # a quarter of a second, and only this data set needs it
    try:
        content = scipy.io.loadmat(path, variable_names=['GTcls'])
        ids = np.asarray(content['GTcls'][0, 0]['Segmentation'])
        if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.number) or (ids != ids // 1).any():
            raise ValueError(f'GTcls.Segmentation is {ids.dtype} {list(ids.shape)}')
    except FileNotFoundError:
        raise UserError(f'{path}: no such label file') from None
    except Exception as error:  # SciPy's reader checks little: of bytes that are not as they
        # should be it makes UnboundLocalError, MemoryError, UnicodeDecodeError and what not.
        text = ' '.join(str(error).split()) or type(error).__name__
        raise UserError(f'{path}: not a readable label of SBD ({text}); expected whole numbers '
                        '[H, W] in GTcls.Segmentation, fetch the file again') from None
    if ids.size and not 0 <= ids.min() <= ids.max() <= 255:
        raise UserError(f'{path}: label ids {ids.min()} to {ids.max()}, expected 0 to 255')
    return ids.astype(np.uint8)
