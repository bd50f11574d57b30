"""A segmentor as an ONNX model, by tf2onnx (extra `onnx`), and ONNX Runtime that runs it.

The graph is that of `inference.InferenceNetwork` with batch norm folded and the operations that
converters know: tf2onnx gives the tuned one, which the SavedModel holds, wrong values at open sizes
(1.17, by up to 24 where logits have a deviation of 4), and says nothing.
"""
import logging
import os

import numpy as np
import tensorflow as tf

from tf_advseg.core import errors
from tf_advseg.core.quiet import quiet
from tf_advseg.models import inference
from tf_advseg.models.zoo import saved_model

OPSET = 15  # the latest that TensorFlow 2.15's companions of Python 3.9 know
LOGITS = 'logits'


def require():
    """(tf2onnx, onnxruntime), imported.

    Raises:
      UserError: one of them is not installed.
    """
    try:
        with quiet():
            import onnxruntime
            import tf2onnx
    except (ImportError, AttributeError) as error:  # onnx reaches for what ml_dtypes lacks
        raise errors.UserError(
            f'ONNX needs packages that are not here ({error}); install the extra: '
            "python -m pip install -c constraints.txt '.[onnx]'") from error
    return tf2onnx, onnxruntime


def class_map(segmentor):
    """A segmentor as an ONNX model: `image` uint8 [B, H, W, 3], any size, -> `class_map` uint8.

    Sizes are treated as the SavedModel treats them, see `saved_model.Sizes`.

    Args:
      segmentor: see `models.segmentor`.

    Returns:
      The model as bytes.

    Raises:
      UserError: tf2onnx is not installed or cannot convert the network; too many classes.
    """
    exported = saved_model.ExportedSegmentor(segmentor, tuned=False)
    return _converted(exported.class_map, tf.uint8, segmentor)


def logits(segmentor):
    """A segmentor as an ONNX model: `image` float32 [B, H, W, 3] of 0..255 -> `logits` float32.

    Args:
      segmentor: see `models.segmentor`.

    Returns:
      The model as bytes.

    Raises:
      UserError: as `class_map`.
    """
    network = inference.InferenceNetwork(segmentor, tuned=False)
    return _converted(lambda image: {LOGITS: network.logits(image)}, tf.float32, segmentor)


def _converted(function, dtype, segmentor):
    tf2onnx, _ = require()
    signature = [tf.TensorSpec([None, None, None, 3], dtype, 'image')]
    logging.getLogger('tf2onnx').setLevel(logging.CRITICAL)
    try:
        with quiet():
            model, _ = tf2onnx.convert.from_function(
                tf.function(function, autograph=False, input_signature=signature),
                input_signature=signature, opset=OPSET)
    except Exception as error:  # whatever it raises, tf2onnx cannot
        what = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise errors.UserError(f'{segmentor.name}: tf2onnx cannot convert it: {what}') from error
    return model.SerializeToString()


class Session:
    """ONNX Runtime on this machine's CPU cores.

    Args:
      content: a model of this module as bytes.

    Raises:
      UserError: ONNX Runtime is not installed, or refuses the model.
    """

    def __init__(self, content):
        _, runtime = require()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        options.log_severity_level = 3
        try:
            self._session = runtime.InferenceSession(content, options,
                                                     providers=['CPUExecutionProvider'])
        except Exception as error:  # of pybind11, with no class in common
            raise errors.UserError(f'ONNX Runtime cannot run what tf2onnx made of the network: '
                                   f'{str(error).strip().splitlines()[0]}') from error

    def __call__(self, image):
        """The model's output for an array [B, H, W, 3] of its input's type."""
        return self._session.run(None, {'image': np.ascontiguousarray(image)})[0]
