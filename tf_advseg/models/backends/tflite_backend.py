"""TensorFlow Lite's float32 kernels (XNNPACK), one converted file for each size of image."""
import collections

import numpy as np

from tf_advseg.core import errors
from tf_advseg.models import segmentor as segmentors
from tf_advseg.models.backends import backend
from tf_advseg.models.zoo import tflite_export
from tf_advseg.models.zoo import tflite_runtime

CONVERTED_FROM = 4           # images of a size: converting takes as long as some images
KEPT_PIXELS = 16 * 513 ** 2  # of the sizes whose files are kept, which hold their maps in memory


class TFLite(backend.Backend):
    """See the module.

    The crop's size, which all smaller images are padded to, is converted at once, another one when
    its fourth image comes; those before are computed in TensorFlow. A size whose file was given up
    for others is not converted again.
    """

    def prepare(self):
        """Nothing is there yet."""
        self._runners, self._seen = collections.OrderedDict(), collections.Counter()

    def takes(self, image, crop_size):
        """See `Backend.takes`."""
        key = image.shape[1:3], crop_size
        self._seen[key] += len(image)
        return key in self._runners or self._seen[key] >= CONVERTED_FROM

    def compute(self, image, crop_size):
        """See `Backend.compute`."""
        key = image.shape[1:3], crop_size
        run = self._runners.get(key) or self._convert(key)
        self._runners.move_to_end(key)
        try:
            return np.concatenate([run(image=one[None])[tflite_export.LOGITS] for one in image])
        except (RuntimeError, ValueError) as error:
            raise errors.UserError(f'{self.name}: TensorFlow Lite cannot run it: '
                                   f'{errors.first_line(error)}') from error

    def _convert(self, key):
        """The runner of a file that is converted for (size, crop size)."""
        size, crop_size = key
        with segmentors.with_crop_size(self.segmentor, crop_size):
            content = tflite_export.logits(self.network, size)
        try:
            interpreter = tflite_runtime.interpreter(content)
        except (RuntimeError, ValueError) as error:
            raise errors.UserError(f'{self.name}: TensorFlow Lite cannot run it: '
                                   f'{errors.first_line(error)}') from error
        # A runner lives as long as its interpreter.
        self._runners[key] = interpreter.get_signature_runner(tflite_export.LOGITS)
        while len(self._runners) > 1 and sum(
                height * width for (height, width), _ in self._runners) > KEPT_PIXELS:
            self._given_up.add(self._runners.popitem(last=False)[0])  # not converted again
        return self._runners[key]
