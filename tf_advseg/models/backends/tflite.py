"""TensorFlow Lite's float32 kernels (XNNPACK), one converted file for each size of image."""
import collections

import numpy as np

from tf_advseg.models import segmentor as segmentors
from tf_advseg.models.backends import backend
from tf_advseg.models.zoo import tflite_export
from tf_advseg.models.zoo import tflite_runtime

KEPT = 8  # sizes whose files are kept; each holds the weights


class TFLite(backend.Backend):
    """See the module.

    A size is converted when its first image comes, which takes seconds: this backend is for many
    images of few sizes. (A size is that of the padded image; images below the crop have one.)
    """

    def prepare(self):
        """Converts the crop's size, the most frequent one."""
        self._runners = collections.OrderedDict()
        self._runner(tuple(self.crop_size or segmentors.PROBE_SIZE), self.crop_size)

    def logits(self, image, crop_size):
        """See `Backend.logits`."""
        run = self._runner(image.shape[1:3], crop_size)
        return np.concatenate([run(image=one[None])[tflite_export.LOGITS] for one in image])

    def _runner(self, size, crop_size):
        key = tuple(size), crop_size and tuple(crop_size)
        if key not in self._runners:
            with segmentors.with_crop_size(self.segmentor, crop_size):
                content = tflite_export.logits(self.segmentor, tuple(size))
            interpreter = tflite_runtime.interpreter(content)
            # A runner lives as long as its interpreter.
            self._runners[key] = interpreter.get_signature_runner(tflite_export.LOGITS)
            if len(self._runners) > KEPT:
                self._runners.popitem(last=False)
        self._runners.move_to_end(key)
        return self._runners[key]
