"""What the doctor says: findings as data, their titles, and which of them a sheet is to show."""
import dataclasses
from typing import Tuple

from tf_advseg.data.doctor.edge_fit import LEAST_SURPLUS

SEVERITIES = ('error', 'warning', 'note')
TITLES = {
    'assumed': 'a data set of another layout',
    'refused': 'the reader refuses the data set', 'damaged': 'damaged records',
    'lone_image': 'images without label', 'lone_label': 'labels without image',
    'misnamed': 'names that are not UTF-8',
    'twin': 'two files for one image', 'unlisted': 'listed, but not there',
    'missing_label': 'label files that are missing', 'unreadable': 'cannot be read',
    'unreadable_image': 'images that cannot be read',
    'unreadable_label': 'labels that cannot be read',
    'colour_label': 'labels that hold colours instead of class ids',
    'label_format': 'labels in a format that holds no class ids',
    'label_ids': 'labels with ids that are no class',
    'sizes_differ': 'labels of another size than their image',
    'leak': 'images to train on that are also evaluated on',
    'near_leak': 'images to train on that look like evaluated ones',
    'overlap': 'splits that share images', 'duplicate': 'the same image more than once',
    'near_duplicate': 'images that look alike', 'empty': 'nothing to look at',
    'class_missing': 'classes that a split does not show',
    'class_unused': 'classes that no image shows', 'one_class': 'labels of a single class',
    'single_class': 'a data set of a single class',
    'all_ignored': 'labels without a counted pixel', 'mostly_ignored': 'labels mostly ignored',
    'constant_image': 'images that show nothing', 'small_image': 'very small images',
    'rotated': 'images that viewers turn, and readers do not',
    'edges_all': 'a data set whose labels do not fit their images',
    'edges': 'labels that fit their image worse than by chance (below 0 standard deviations)',
    'edges_weak': 'labels that hardly fit their image better than by chance (below '
                  f'{LEAST_SURPLUS:g} standard deviations above it)',
    'mirrored': 'labels that seem to be mirrored or turned', 'unbalanced': 'splits that differ',
    'small_split': 'splits with few images',
}
# What the contact sheet is to show.
SUSPECT = ('leak', 'near_leak', 'duplicate', 'near_duplicate', 'constant_image', 'small_image',
           'rotated', 'all_ignored', 'mostly_ignored', 'one_class', 'mirrored', 'edges',
           'edges_weak')


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes:
      severity: 'error' (the data cannot be used, or scores on them would mislead), 'warning'
        (likely a mistake) or 'note' (worth a look).
      kind: a key of TITLES.
      message: one line: where, what.
      files: the files that are meant; image ids where a data set has no files.
      advice: what to do; '' where that is plain.
      images: image ids, for the contact sheet.
    """
    severity: str
    kind: str
    message: str
    files: Tuple[str, ...] = ()
    advice: str = ''
    images: Tuple[str, ...] = ()

    def to_json(self):
        """Its fields as plain values."""
        return dataclasses.asdict(self)
