"""The class map of one picture of any size, at its own resolution."""
import numpy as np
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.data.augment import PAD_VALUE
from tf_advseg.data.pipeline import padded_sizes
from tf_advseg.evaluation.evaluator import predicted_ids
from tf_advseg.models.resize import resize_bilinear


def _function(segmentor):
    """The compiled prediction of one segmentor, made once and kept with it."""
    function = segmentor.__dict__.get('_predict_whole')
    if function is not None:
        return function

    def predict_whole(image, size, with_probabilities):
        logits = segmentor(image[None], training=False)
        inside = (slice(None), slice(size[0]), slice(size[1]))
        padded = tf.shape(image)[:2]
        ids = tf.cast(predicted_ids(logits, padded)[inside][0], tf.uint8)
        if not with_probabilities:
            return ids
        return ids, tf.nn.softmax(resize_bilinear(logits, padded)[inside][0])

    function = tf.function(predict_whole, reduce_retracing=True)
    # Past Keras' __setattr__, which would make the function a part of the checkpoint.
    object.__setattr__(segmentor, '_predict_whole', function)
    return function


def predict(segmentor, image, crop_size=None, probabilities=False):
    """Predicts a whole picture in one pass; padding (mid-grey, bottom and right) is cropped off.

    Args:
      segmentor: model [B,h,w,3] RGB 0..255 -> logits [B,h',w',C], C <= 256.
      image: uint8 [H,W,3] RGB, any size.
      crop_size: int, (height, width) or None: the size the network was trained at. A side that
        fits it is padded to it, a longer one (or any, for None) to the next k * stride + 1, as
        `data.pipeline.padded_sizes` does for evaluation.
      probabilities: also return the softmax of the upsampled logits.

    Returns:
      class ids uint8 [H,W]; with `probabilities`, (ids, float32 [H,W,C]).

    Raises:
      UserError: not an RGB uint8 picture.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8 or not image.size:
        raise UserError(f'picture of shape {image.shape}, {image.dtype}: expected uint8 '
                        '[height, width, 3] RGB')
    height, width = image.shape[:2]
    stride = getattr(segmentor, 'output_stride', None) or 16
    crop_size = np.broadcast_to(1 if crop_size is None else crop_size, [2])
    size = padded_sizes([[height, width]], crop_size, stride)[0]
    padded = np.full((*size, 3), PAD_VALUE, np.float32)
    padded[:height, :width] = image
    result = _function(segmentor)(tf.constant(padded), tf.constant([height, width]),
                                  bool(probabilities))
    if probabilities:
        return result[0].numpy(), result[1].numpy()
    return result.numpy()
