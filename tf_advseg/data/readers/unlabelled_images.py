"""Images without labels: a folder of any depth, for what learns from them all the same."""
import numpy as np

from tf_advseg.core import walking
from tf_advseg.core.errors import UserError
from tf_advseg.data.readers import base
from tf_advseg.data.readers import folder as folder_reader
from tf_advseg.data.spec import DatasetSpec, IGNORE_LABEL, default_palette

SPLIT = 'unlabelled'


class ImagesReader(base.Reader):
    """Reads every image (`base.IMAGES`) below a folder; every pixel's label is 255.

    Ids are the paths below the folder, suffix included, with slashes. Hidden files and folders are
    left out; links to folders are followed. All images are in the split `unlabelled`. There
    are no classes: one named so stands for them, since a data set has to have some.

    Args:
      source: the folder.
      dataset_name: the data set's name, the folder's by default.

    Raises:
      UserError: no folder, no image in it, or a labelled data set, whose label maps would count as
        images.
    """

    def __init__(self, source, dataset_name=None):
        self._source = base.require_folder(source, 'a folder of images without labels')
        if all((self._source / part).is_dir() for part in folder_reader.PARTS):
            raise UserError(f'{self._source}: a data set with labels (it holds images/ and '
                            'labels/); expected images alone, or the labels would be learnt from '
                            f'as images; give {self._source / "images"}')
        self._ids = sorted(_images_below(self._source))
        if not self._ids:
            raise UserError(f'{self._source}: no image ({", ".join(base.IMAGES)}) in this folder '
                            'or below; expected images without labels')
        self.spec = DatasetSpec(dataset_name or base.folder_name(self._source), (SPLIT,),
                                default_palette(1))

    def splits(self):
        """See `Reader.splits`."""
        return {SPLIT: list(self._ids)}

    def load(self, image_id):
        """See `Reader.load`: the label says nothing, pixel by pixel."""
        image = base.read_image(self._path(image_id))
        return image, np.full(image.shape[:2], IGNORE_LABEL, np.uint8)

    def encoded_image(self, image_id):
        """See `Reader.encoded_image`."""
        return base.usable_bytes(self._path(image_id))

    def files(self, image_id):
        """See `Reader.files`."""
        return (self._path(image_id),)

    def _path(self, image_id):
        return self._source / image_id


def _images_below(folder):
    """The paths of images below a folder, relative to it, with slashes."""
    paths = walking.files_below(folder)
    base.warn_of_unread(folder, paths)
    for path in paths:
        if path.name.lower().endswith(base.IMAGES):
            name = path.relative_to(folder).as_posix()
            base.require_utf8(name, path)
            yield name
