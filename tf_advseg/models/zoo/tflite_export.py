"""A segmentor as a TFLite file of one image size: uint8 RGB in, class map out.

Signature `class_map`: `image` uint8 [1, H, W, 3] -> `class_map` uint8 [1, H, W]. Like the official
files it ends in the argmax: an application wants the map, and 1.4 MB of logits at 513x513 would
be 22 MB. Batch norm is folded; `zoo.read` takes the files as it takes the published ones.
"""
import dataclasses
import tempfile

import numpy as np
import tensorflow as tf

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import tensorflow_paths
from tf_advseg.core.quiet import quiet
from tf_advseg.models import inference
from tf_advseg.models.resize import resize_bilinear
from tf_advseg.models.zoo import saved_model
from tf_advseg.models.zoo import tflite_runtime

KINDS = ('float32', 'float16', 'int8')
LOGITS = 'logits'
_PLAIN_INT8 = "int8 of TensorFlow's own calibration"
LEAST_SIDE = 16  # of an int8 file's image: on smaller ones TensorFlow's kernels end the process
CALIBRATION_IMAGES = 32  # more change ranges little and take long
TUNING_IMAGES = 256  # that are held in memory


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


@dataclasses.dataclass(frozen=True)
class FineTuning:
    """How an int8 file is fine-tuned, see `tflite_fine_tuning`.

    Attributes:
      steps: of two images each.
      images: uint8 [H, W, 3] images of the file's size, without labels.
      show: whether to show progress.
    """
    steps: int
    images: list
    show: bool = True


def convert(segmentor, size, kind, calibration=(), layer_errors=None):
    """Converts a segmentor.

    float16 keeps the weights in half precision and computes in what the device has. int8 has
    weights and activations of 8 bits throughout, see `tflite_int8`.

    Args:
      segmentor: see `models.segmentor`.
      size: (height, width) of the images, in pixels.
      kind: 'float32', 'float16' or 'int8'.
      calibration: uint8 [H, W, 3] images of that size; needed for 'int8', others ignore it.
      layer_errors: None, or a list that the `tflite_int8.LayerError`s of 'int8' are added to.

    Returns:
      The file as bytes.

    Raises:
      UserError: unknown kind, no calibration images, too many classes, an image too small for
        int8, or TensorFlow's converter does not know an operation of the network.
    """
    errors.require_one_of('kind of TFLite file', kind, KINDS)
    if kind == 'int8' and not len(calibration):
        raise errors.UserError('int8 needs images to calibrate its ranges: give --calibration or '
                               '--input, a folder of images like those it will see')
    if kind == 'int8' and min(size) < LEAST_SIDE:
        raise errors.UserError(
            f'--input_size={size[0]}x{size[1]}: tflite_int8 needs sides of {LEAST_SIDE} pixels at '
            'least: of fewer, maps of single pixels are left, whose ranges say nothing; give a '
            'larger one, or take tflite_float32')
    if segmentor.num_classes > saved_model.MAX_CLASSES:
        raise errors.UserError(f'{segmentor.name}: {segmentor.num_classes} classes do not fit into '
                               'a uint8 class map')
    function = _function(segmentor, size, tf.float32 if kind == 'int8' else tf.uint8)
    content = _converted(function, kind, calibration, segmentor.name)
    if kind != 'int8':
        return content
    # Here: nobody else needs the private parts of TensorFlow that it is made with.
    from tf_advseg.models.zoo import tflite_int8
    try:
        content, found = tflite_int8.quantise(content, calibration)
    except Exception as error:
        raise errors.UserError(f'{segmentor.name}: TensorFlow cannot convert it to TFLite int8: '
                               f'{errors.first_line(error)}') from error
    if layer_errors is not None:
        layer_errors.extend(found)
    return content


def fine_tuned(segmentor, size, content, tuning):
    """An int8 file of `convert`, fine-tuned to say what the segmentor says.

    Args:
      segmentor, size: which it was made of.
      content: the file as bytes.
      tuning: FineTuning.

    Returns:
      The file as bytes.

    Raises:
      UserError: the network has an operation that fine-tuning does not know.
    """
    # Here, as in `convert`.
    from tf_advseg.models.zoo import tflite_fine_tuning
    plain = _converted(_function(segmentor, size, tf.float32), 'float32', (), segmentor.name)
    try:
        return tflite_fine_tuning.fine_tuned(plain, content, tuning)
    except errors.UserError as error:
        raise errors.UserError(f'{segmentor.name}: {error}') from error


def plain_int8(segmentor, size, calibration):
    """int8 as TensorFlow's converter makes it: what `convert` is measured against.

    Args and Raises: see `convert`.

    Returns:
      The file as bytes, of the same signature.
    """
    return _converted(_function(segmentor, size, tf.float32), _PLAIN_INT8, calibration,
                      segmentor.name)


def logits(network, size):
    """A network's logits as a float32 file, for `backends.tflite_backend`.

    Args:
      network: `inference.InferenceNetwork` that is not tuned.
      size: (height, width) of the images.

    Returns:
      The file as bytes; its signature 'logits' takes `image`, float32 [1, H, W, 3] in 0..255.

    Raises:
      UserError: TensorFlow's converter does not know an operation of the network.
    """
    spec = tf.TensorSpec([1, *size, 3], tf.float32, 'image')
    function = tf.function(lambda image: {LOGITS: network.logits(image)}, autograph=False,
                           input_signature=[spec]).get_concrete_function()
    return _converted(function, 'float32', (), network.segmentor.name, LOGITS)


def _converted(function, kind, calibration, name, signature=saved_model.CLASS_MAP):
    """A concrete function as a file; of 'int8' the float file with calibrated ranges.

    UserError names the network: TensorFlow's converter raises classes that have none in common.
    """
    with tempfile.TemporaryDirectory(prefix='tf_advseg-') as folder, quiet():
        folder = tensorflow_paths.plain_folder(folder)
        with files.disk_errors(folder):
            tf.saved_model.save(tf.Module(), folder, {signature: function})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[signature])
        _set_kind(converter, kind, calibration)
        try:
            return converter.convert()
        except Exception as error:
            raise errors.UserError(f'{name}: TensorFlow cannot convert it to TFLite {kind}: '
                                   f'{errors.first_line(error)}') from error


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
    if kind == _PLAIN_INT8:
        converter.representative_dataset = lambda: ({'image': _whole_range(image)}
                                                    for image in calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
        return

    def representative():
        # One image: the ranges are chosen by `tflite_int8`, which looks at all of them.
        yield {'image': np.asarray(calibration[0], np.float32)[None]}

    converter.representative_dataset = representative
    converter._experimental_calibrate_only = True


def _whole_range(image):
    """float32 [1, H, W, 3] of an image, with 0 and 255 in it: then a step of its bytes is 1."""
    image = np.array(image, np.float32)
    image[0, 0], image[0, 1] = 0.0, 255.0
    return image[None]


def run(content, images):
    """Class maps of a TFLite file that `convert` made.

    Args:
      content: the file as bytes.
      images: uint8 [H, W, 3] images of its size.

    Yields:
      uint8 [H, W].
    """
    interpreter = tflite_runtime.interpreter(content)
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
