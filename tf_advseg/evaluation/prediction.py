"""The class map of one image of any size, at its own resolution."""
import numpy as np
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.data.pipeline import padded_sizes
from tf_advseg.evaluation import multi_scale
from tf_advseg.evaluation.evaluator import open_size, predicted_ids
from tf_advseg.models import segmentor as segmentors
from tf_advseg.models.resize import resize_bilinear


def _function(segmentor, scales, flip, with_probabilities):
    """The compiled prediction of one segmentor, made once and kept with it."""
    kept = segmentor.__dict__.get('_predict_whole', {})
    # Past Keras' __setattr__, which would make the functions a part of the checkpoint.
    object.__setattr__(segmentor, '_predict_whole', kept)
    key = scales, flip, with_probabilities
    if key in kept:
        return kept[key]

    def predict_whole(image, size):
        inside = (slice(None), slice(size[0]), slice(size[1]))
        padded = tf.shape(image)[:2]
        if scales == multi_scale.SINGLE and not flip:
            scores = segmentor(image[None], training=False)
            chances = tf.nn.softmax(resize_bilinear(scores, padded)[inside][0])
        else:
            scores = multi_scale.probabilities(segmentor, image[None], scales, flip)
            chances = scores[inside][0]
        ids = tf.cast(predicted_ids(scores, padded)[inside][0], tf.uint8)
        return (ids, chances) if with_probabilities else ids

    kept[key] = tf.function(predict_whole, input_signature=[
        tf.TensorSpec([*open_size(segmentor), 3], tf.float32), tf.TensorSpec([2], tf.int32)])
    return kept[key]


def predict(segmentor, image, crop_size=None, probabilities=False, scales=multi_scale.SINGLE,
            flip=False):
    """Predicts a whole image; padding (at the bottom and the right) is cropped off.

    Args:
      segmentor: model [B,h,w,3] RGB 0..255 -> logits [B,h',w',C], C <= 256.
      image: uint8 [H,W,3] RGB, any size.
      crop_size: int, (height, width) or None: the size the network was trained at. A side that
        fits it is padded to it, a longer one (or any, for None) to the next k * stride + 1, as
        `data.pipeline.padded_sizes` does for evaluation.
      probabilities: also return the softmax of the upsampled logits (its average over the passes).
      scales, flip: of the passes, see `multi_scale`; one pass at scale 1 by default.

    Returns:
      class ids uint8 [H,W]; with `probabilities`, (ids, float32 [H,W,C]).

    Raises:
      UserError: not an RGB uint8 image, or scales that are none.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8 or not image.size:
        raise UserError(f'image of shape {image.shape}, {image.dtype}: expected uint8 '
                        '[height, width, 3] RGB')
    height, width = image.shape[:2]
    stride = getattr(segmentor, 'output_stride', None) or 16
    crop_size = np.broadcast_to(1 if crop_size is None else crop_size, [2])
    size = padded_sizes([[height, width]], crop_size, stride)[0]
    padded = np.full((*size, 3), segmentors.padding_colour(segmentor), np.float32)
    padded[:height, :width] = image
    scales = multi_scale.require_scales(scales, segmentor)
    function = _function(segmentor, scales, bool(flip), bool(probabilities))
    result = function(tf.constant(padded), tf.constant([height, width]))
    if probabilities:
        return result[0].numpy(), result[1].numpy()
    return result.numpy()
