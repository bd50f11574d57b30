"""What published data sets look like on disk, recognised at a glance and without reading a file."""
import os
import pathlib

from tf_advseg.core import walking
from tf_advseg.data.readers import base

# name -> what has to be there, folders or patterns of files; the more telling ones come first.
_SIGNS = {
    'stanford_background': ('images/*.jpg', 'labels/*.regions.txt'),
    'pascal_voc_2012': ('JPEGImages', 'SegmentationClass', 'ImageSets'),
    'cityscapes': ('leftImg8bit', 'gtFine'),
    'ade20k': ('images/training', 'annotations/training'),
    'cmp_facades': ('base/cmp_b*.png',),
    'segtrack_v2': ('JPEGImages', 'GroundTruth'),
}
_DEPTH, _MOST = 3, 64  # levels below the folder that are looked at, and folders in each


def guess(folder):
    """The name of the reader whose data set lies in a folder or not far below it, or None."""
    level = [pathlib.Path(folder)]
    for _ in range(_DEPTH + 1):
        for place in level:
            for name, signs in _SIGNS.items():
                if all(any(place.glob(sign)) for sign in signs):
                    return name
        level = [pathlib.Path(entry.path) for place in level for entry in _folders(place)][:_MOST]
    return None


def _folders(place):
    """The folders in a folder, by name; none where they cannot be listed."""
    try:
        entries = sorted(os.scandir(place), key=lambda entry: entry.name)
    except OSError:
        return []
    return [entry for entry in entries if walking.is_folder(entry)
            and not entry.name.startswith('.') and entry.name not in base.JUNK]
