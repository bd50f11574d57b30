"""A segmentor as an ONNX model, by tf2onnx (extra `onnx`), and ONNX Runtime that runs it.

The graph is that of `inference.InferenceNetwork` with batch norm folded and the operations that
converters know: tf2onnx 1.17 gives the tuned one, which the SavedModel holds, wrong values at open
sizes, and says nothing.
"""
import logging
import sys

import numpy as np
import tensorflow as tf

from tf_advseg.core import errors
from tf_advseg.core import runtime
from tf_advseg.core.quiet import quiet
from tf_advseg.models.zoo import saved_model

OPSET = 15  # later ones change nothing that these graphs have
LOGITS = 'logits'


def require():
    """(tf2onnx, onnxruntime), imported.

    Raises:
      UserError: one of them is not installed.
    """
    if sys.version_info < (3, 10):
        raise errors.UserError('ONNX needs Python 3.10 or later (below, tf2onnx and TensorFlow ask '
                               'for different protobufs); take another format or backend')
    try:
        with quiet():
            import onnxruntime
            import tf2onnx
    except (ImportError, AttributeError) as error:  # onnx reaches for what ml_dtypes lacks
        raise errors.UserError(
            f'ONNX needs packages that are not here ({error}); install the extra: '
            "python -m pip install -c constraints.txt '.[onnx]'") from error
    return tf2onnx, onnxruntime


def class_map(segmentor, sizes=saved_model.Sizes()):
    """A segmentor as an ONNX model: `image` uint8 [B, H, W, 3], any size, -> `class_map` uint8.

    Args:
      segmentor: see `models.segmentor`.
      sizes: `saved_model.Sizes`: images are padded or resized as the SavedModel does it.

    Returns:
      The model as bytes.

    Raises:
      UserError: tf2onnx is not installed or cannot convert the network; too many classes.
    """
    exported = saved_model.ExportedSegmentor(segmentor, sizes, tuned=False)
    return _converted(exported.class_map, tf.uint8, segmentor.name)


def logits(network):
    """A network as an ONNX model: `image` float32 [B, H, W, 3] of 0..255 -> `logits` float32.

    Args:
      network: `inference.InferenceNetwork` that is not tuned.

    Returns:
      The model as bytes.

    Raises:
      UserError: as `class_map`.
    """
    return _converted(lambda image: {LOGITS: network.logits(image)}, tf.float32,
                      network.segmentor.name)


def _converted(function, dtype, name):
    tf2onnx, _ = require()
    signature = [tf.TensorSpec([None, None, None, 3], dtype, 'image')]
    logging.getLogger('tf2onnx').setLevel(logging.CRITICAL)
    try:
        with quiet():
            model, _ = tf2onnx.convert.from_function(
                tf.function(function, autograph=False, input_signature=signature),
                input_signature=signature, opset=OPSET)
    except Exception as error:  # whatever it raises, tf2onnx cannot
        raise errors.UserError(f'{name}: tf2onnx cannot convert it: '
                               f'{errors.first_line(error)}') from error
    _spell_out_padding(model)
    return model.SerializeToString()


def _spell_out_padding(model):
    """Gives convolutions of stride 1 numbers for SAME padding.

    Where sizes are open tf2onnx writes SAME as it is, and ONNX Runtime has that without dilation
    alone. At stride 1 it does not depend on the size: rate * (k - 1), the odd one at the end.
    """
    from onnx import helper
    for node in model.graph.node:
        found = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type != 'Conv' or 'auto_pad' not in found or (
                found['auto_pad'].s != b'SAME_UPPER') or set(found['strides'].ints) != {1}:
            continue
        sides = found['kernel_shape'].ints
        rates = found['dilations'].ints if 'dilations' in found else [1] * len(sides)
        total = [rate * (side - 1) for side, rate in zip(sides, rates)]
        node.attribute.remove(found['auto_pad'])
        node.attribute.append(helper.make_attribute(
            'pads', [pad // 2 for pad in total] + [pad - pad // 2 for pad in total]))


class Session:
    """ONNX Runtime on this machine's CPU cores.

    Args:
      content: a model of this module as bytes.

    Raises:
      UserError: ONNX Runtime is not installed, or refuses the model.
    """

    def __init__(self, content):
        _, onnxruntime = require()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = runtime.cores()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=['CPUExecutionProvider'])
        except Exception as error:  # of pybind11, with no class in common
            raise errors.UserError(f'ONNX Runtime cannot run what tf2onnx made of the network: '
                                   f'{errors.first_line(error)}') from error

    def __call__(self, image):
        """The model's output for an array [B, H, W, 3] of its input's type.

        Raises:
          UserError: ONNX Runtime fails.
        """
        try:
            return self._session.run(None, {'image': np.ascontiguousarray(image)})[0]
        except Exception as error:  # of pybind11, with no class in common
            raise errors.UserError('ONNX Runtime fails: '
                                   f'{errors.first_line(error)}') from error
