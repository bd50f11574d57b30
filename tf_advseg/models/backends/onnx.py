"""ONNX Runtime's CPU kernels; one model for all sizes of image."""
from tf_advseg.models import segmentor as segmentors
from tf_advseg.models.backends import backend
from tf_advseg.models.zoo import onnx_export


class ONNX(backend.Backend):
    """See the module. Prediction at another scale needs a model of its own (a pooling window)."""

    def prepare(self):
        """Converts the network."""
        self._sessions = {}
        self._session(self.crop_size)

    def logits(self, image, crop_size):
        """See `Backend.logits`."""
        return self._session(crop_size)(image)

    def _session(self, crop_size):
        key = crop_size and tuple(crop_size)
        if key not in self._sessions:
            with segmentors.with_crop_size(self.segmentor, crop_size):
                self._sessions[key] = onnx_export.Session(onnx_export.logits(self.segmentor))
        return self._sessions[key]
