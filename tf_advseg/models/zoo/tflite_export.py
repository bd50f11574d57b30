"""A segmentor as a TFLite file of one image size: uint8 RGB in, class map out.

Signature `class_map`: `image` uint8 [1, H, W, 3] -> `class_map` uint8 [1, H, W]. Like the official
files it ends in the argmax: an application wants the map, and 1.4 MB of logits at 513x513 would
be 22 MB. Batch norm is folded; `zoo.read` takes the files as it takes the published ones.
"""
import contextlib
import dataclasses
import io
import os
import sys
import tempfile
import warnings

import numpy as np
import tensorflow as tf

from tf_advseg.core import errors
from tf_advseg.models import inference
from tf_advseg.models.resize import resize_bilinear
from tf_advseg.models.zoo import saved_model

KINDS = ('float32', 'float16', 'int8')
CALIBRATION_IMAGES = 100  # more change ranges little and take long


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How a file's class maps agree with the segmentor's.

    Attributes:
      images: how many were compared.
      pixels: share of equal pixels, 0..1.
      worst: the share in the image that agrees least.
    """
    images: int
    pixels: float
    worst: float

    def to_json(self):
        """Its fields as plain values; the images by the name they had in earlier reports."""
        fields = dataclasses.asdict(self)
        return {'pictures': fields.pop('images'), **fields}


def convert(segmentor, size, kind, calibration=()):
    """Converts a segmentor.

    float16 keeps the weights in half precision and computes in what the device has. int8 has
    weights and activations of 8 bits throughout; their ranges are those that the calibration
    images give. There each image's first two pixels are made black and white, so that the
    input's scale is exactly 1 and the file takes images as they are.

    Args:
      segmentor: see `models.segmentor`.
      size: (height, width) of the images, in pixels.
      kind: 'float32', 'float16' or 'int8'.
      calibration: uint8 [H, W, 3] images of that size; needed for 'int8', others ignore it.

    Returns:
      The file as bytes.

    Raises:
      UserError: unknown kind, no calibration images, too many classes, or TensorFlow's converter
        does not know an operation of the network.
    """
    errors.require_one_of('kind of TFLite file', kind, KINDS)
    if kind == 'int8' and not len(calibration):
        raise errors.UserError('int8 needs images to calibrate its ranges: give --calibration or '
                               '--input, a folder of images like those it will see')
    if segmentor.num_classes > saved_model.MAX_CLASSES:
        raise errors.UserError(f'{segmentor.name}: {segmentor.num_classes} classes do not fit into '
                               'a uint8 class map')
    function = _function(segmentor, size, tf.float32 if kind == 'int8' else tf.uint8)
    with tempfile.TemporaryDirectory(prefix='tf_advseg-') as folder, _quiet():
        tf.saved_model.save(tf.Module(), folder, {saved_model.CLASS_MAP: function})
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=[saved_model.CLASS_MAP])
        _set_kind(converter, kind, calibration)
        try:
            return converter.convert()
        except (ValueError, RuntimeError) as error:
            what = (str(error).strip().splitlines() or ['?'])[0]
            raise errors.UserError(f'{segmentor.name}: TensorFlow cannot convert it to TFLite '
                                   f'{kind}: {what}') from error


def _function(segmentor, size, dtype):
    network = inference.InferenceNetwork(segmentor, tuned=False)

    def class_map(image):
        logits = resize_bilinear(network.logits(tf.cast(image, tf.float32)), list(size))
        ids = tf.argmax(logits, -1, output_type=tf.int32)
        return {saved_model.CLASS_MAP: tf.cast(ids, tf.uint8)}

    spec = tf.TensorSpec([1, *size, 3], dtype, 'image')
    return tf.function(class_map, autograph=False, input_signature=[spec]).get_concrete_function()


def _set_kind(converter, kind, calibration):
    if kind == 'float32':
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == 'float16':
        converter.target_spec.supported_types = [tf.float16]
        return

    def representative():
        for image in calibration:
            image = np.array(image, np.float32)
            image[0, 0], image[0, 1] = 0.0, 255.0
            yield {'image': image[None]}

    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8


def run(content, images):
    """Class maps of a TFLite file that `convert` made.

    Args:
      content: the file as bytes.
      images: uint8 [H, W, 3] images of its size.

    Yields:
      uint8 [H, W].
    """
    with _quiet():
        interpreter = tf.lite.Interpreter(model_content=content)
        runner = interpreter.get_signature_runner(saved_model.CLASS_MAP)
    for image in images:
        yield runner(image=np.asarray(image, np.uint8)[None])[saved_model.CLASS_MAP][0]


def agreement(content, segmentor, images):
    """`Agreement` of a file with the segmentor that it was made of, on images of its size."""
    shares = []
    for image, ids in zip(images, run(content, images)):
        logits = segmentor(tf.constant(image[None], tf.float32), training=False)
        expected = tf.argmax(resize_bilinear(logits, list(image.shape[:2])), -1)[0].numpy()
        shares.append(float(np.mean(ids == expected)))
    return Agreement(len(shares), float(np.mean(shares)), min(shares))


@contextlib.contextmanager
def _quiet():
    """Keeps the converter's notices, written from C++ too, off the terminal; errors still raise."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr to keep clean
        yield
        return
    with open(os.devnull, 'wb') as nothing, warnings.catch_warnings(), \
            contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter('ignore')
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
