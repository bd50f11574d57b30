"""ONNX Runtime's CPU kernels; one model for all sizes of image."""
from tf_advseg.models import segmentor as segmentors
from tf_advseg.models.backends import backend
from tf_advseg.models.zoo import onnx_export


class ONNX(backend.Backend):
    """See the module. Prediction at another scale needs a model of its own (a pooling window)."""

    def prepare(self):
        """Converts the network."""
        self._sessions = {}
        self._session(None if self.crop_size is None else tuple(self.crop_size))

    def compute(self, image, crop_size):
        """See `Backend.compute`."""
        return self._session(crop_size)(image)

    def _session(self, crop_size):
        if crop_size not in self._sessions:
            with segmentors.with_crop_size(self.segmentor, crop_size):
                self._sessions[crop_size] = onnx_export.Session(
                    onnx_export.logits(self.network))
        return self._sessions[crop_size]
