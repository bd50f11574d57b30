"""Class maps of images by an exported file, which takes images of one size and has no logits."""
import numpy as np
import tensorflow as tf

from tf_advseg.core import errors
from tf_advseg.data.augmentation import official_preprocessing
from tf_advseg.evaluation import map_predictor
from tf_advseg.evaluation import multi_scale
from tf_advseg.models import resize


class FilePredictor:
    """As `map_predictor.MapPredictor`, of a file; what needs probabilities is refused.

    A file of one size: smaller images are padded at the bottom and the right, as a network's are,
    with whole grey levels: half a level beside what the network is padded with. Larger ones are
    refused; or, where the file is `resized`, every image is first resized as the exported
    SavedModel resizes it (`saved_model.Sizes`), and its class map back. A file of any size pads
    and resizes itself.

    Args:
      file: `backends.map_file.MapFile`.
      translation, only_named: see `MapPredictor`; a class that has no name cannot be passed over.
      confidence, scales, flip, padding, window, overlap: see `MapPredictor`: as they are there by
        default.

    Raises:
      UserError: an option that a file cannot have.
    """
    batch_size = map_predictor.BATCH_SIZE
    window = None

    def __init__(self, file, translation=None, only_named=False, confidence=False,
                 scales=multi_scale.SINGLE, flip=False, padding='crop', window=None, overlap=None):
        del overlap
        self.file = self.segmentor = file
        # Of 127.5 the lower one, as `export` pads what it calibrates with and compares on.
        self._colour = np.ceil(np.asarray(file.padding_colour) - 0.5).astype(np.uint8)
        self._range = None
        if file.resized and file.size is not None:
            self._range = official_preprocessing.SizeRange(min(file.size), max(file.size))
        averaged = tuple(multi_scale.require_scales(scales)) != multi_scale.SINGLE or flip
        for asked, what in ((confidence, 'a confidence'), (window is not None, 'windows'),
                            (averaged, 'an average over scales or mirrored images')):
            if asked:
                self._refuse(what)
        if padding != 'crop':
            raise errors.UserError(f'{file.path}: pads images as it was exported; leave --padding '
                                   'out')
        unnamed = translation is not None and (np.asarray(translation) < 0).any()
        if only_named and unnamed:
            self._refuse('a choice among some of its classes')
        self._names = map_predictor.renamed(translation, False)[1]

    def _refuse(self, what):
        raise errors.UserError(f'{self.file.path}: gives class maps alone, and {what} needs '
                               'probabilities: leave it out, or give the checkpoint that the file '
                               'was exported from')

    def require_size(self, size, name):
        """Raises UserError, which names the image, where one of (height, width) is too large."""
        shown, limit = tuple(map(int, self._shown(size))), self.file.size
        if limit is not None and any(np.greater(shown, limit)):
            after = '' if self._range is None else f' after resizing (from {size[0]}x{size[1]})'
            raise errors.UserError(
                f'{name}: has {shown[0]}x{shown[1]} pixels{after}, and {self.file.path} takes '
                f'{limit[0]}x{limit[1]} at most; export with a larger --input_size, or '
                '--format=onnx, which takes any')

    def __call__(self, images):
        """Class maps of uint8 [H, W, 3] images: list of (ids uint8 [H, W], None).

        Raises:
          UserError: not an RGB uint8 image, a larger one than the file takes, or a class that the
            file should not have.
        """
        return [(self._predicted(map_predictor.checked(image)), None) for image in images]

    def over(self, records, ids):
        """See `MapPredictor.over`."""
        yield from map_predictor.over(self, records, ids)

    def _shown(self, size):
        """The size that an image is resized to, if it is, before it is padded."""
        return size if self._range is None else self._range.size(*size).numpy()

    def _predicted(self, image):
        size = image.shape[:2]
        self.require_size(size, 'an image')
        if self.file.size is None:
            ids = self.file(image)
        else:
            height, width = self._shown(size)
            padded = np.empty((*self.file.size, 3), np.uint8)
            padded[:] = self._colour
            padded[:height, :width] = image if (height, width) == size else np.rint(
                resize.resize_bilinear(tf.constant(image[None], tf.float32), (height, width))[0])
            ids = resize.resize_nearest(self.file(padded)[None, :height, :width, None],
                                        size)[0, ..., 0].numpy()
        if ids.max() >= self.file.num_classes:
            raise errors.UserError(f'{self.file.path}: gave class {ids.max()}, and has '
                                   f'{self.file.num_classes}; export it anew')
        return ids if self._names is None else self._names[ids]
