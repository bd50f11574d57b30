"""tf_advseg: adversarial training of semantic segmentation in TensorFlow 2 / Keras."""
from tf_advseg.core import lanes as _lanes

__version__ = '0.1.0'

# Every subpackage imports this file first, so TensorFlow finds what is set here whoever imports it.
_lanes.prepare_environment()
