"""Inference at several scales and mirrored, as the official DeepLab evaluates its networks.

(model.py, predict_labels_multi_scale and multi_scale_logits.) Each scale is a pass of its own; a
network's window of image pooling is scaled with the image, so that at every scale an image of
the crop's size is pooled whole.
"""
import math

import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.models import segmentor as segmentors
from tf_advseg.models.resize import resize_bilinear, scale_dimension

SINGLE = (1.0,)
OFFICIAL_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def require_scales(scales, segmentor=None):
    """The scales as a tuple of floats; of nothing, `SINGLE`.

    Asked before a function is traced: AutoGraph would wrap the error in a page of its own.

    Args:
      scales: floats, or nothing.
      segmentor: the network that is to be shown them, or None.

    Raises:
      UserError: a scale is not a number above 0, or stands there twice; the network takes images
        of one size only.
    """
    scales = tuple(float(scale) for scale in scales or SINGLE)
    if not all(0.0 < scale < math.inf for scale in scales) or len(set(scales)) != len(scales):
        raise UserError(f'evaluation scales {", ".join(map(str, scales))}: expected different '
                        'numbers above 0, such as 0.5, 1 and 1.5')
    # A wrapped model has a crop size where it was declared for one input size.
    if scales != SINGLE and isinstance(segmentor, segmentors.WrappedSegmentor) \
            and segmentor.crop_size is not None:
        height, width = segmentor.crop_size
        raise UserError(f'{segmentor.name}: takes images of {height}x{width} only; evaluate it '
                        'at scale 1')
    return scales


def scaled_logits(segmentor, images, scale=1.0):
    """The network's logits of images that it is shown at another size.

    Args:
      segmentor: see WORKSPACE.md ("Segmentor").
      images: [B, h, w, 3] RGB in 0..255, padded as for one scale.
      scale: float; the network sees int((h - 1) * scale + 1) rows.

    Returns:
      float32 [B, h', w', C] of int((h - 1) * max(1, scale) / logits_stride + 1) rows: below scale 1
      the official code brings logits to the size they have at scale 1 first.
    """
    if scale == 1.0:
        return segmentor(images, training=False)
    height, width = _size(images)
    shown = [scale_dimension(side, scale) for side in (height, width)]
    with _crop_scaled(segmentor, scale):
        logits = segmentor(resize_bilinear(images, shown), training=False)
    reach = max(1.0, scale) / segmentor.logits_stride
    return resize_bilinear(logits, [scale_dimension(side, reach) for side in (height, width)])


def probabilities(segmentor, images, scales=SINGLE, flip=False):
    """Softmax of the upsampled logits, averaged over scales and their mirror images.

    Args:
      segmentor, images: see `scaled_logits`.
      scales: floats above 0.
      flip: whether each scale counts mirrored, too.

    Returns:
      float32 [B, h, w, C]; the official prediction is its argmax.
    """
    size = _size(images)
    views = [(images, False)] + ([(tf.reverse(images, [2]), True)] if flip else [])
    total = None
    for scale in scales:
        for view, mirrored in views:
            logits = scaled_logits(segmentor, view, scale)
            # Mirrored back before it is upsampled: the same, and the smaller map.
            logits = tf.reverse(logits, [2]) if mirrored else logits
            one = tf.nn.softmax(resize_bilinear(logits, size))
            total = one if total is None else total + one
    return total / float(len(scales) * len(views))


def _size(images):
    """[height, width]: Python ints where they are known, else int32 scalars."""
    return [tf.shape(images)[axis] if images.shape[axis] is None else images.shape[axis]
            for axis in (1, 2)]


def _crop_scaled(segmentor, scale):
    """Within, the network's crop size, which its pooling window comes from, is scaled."""
    crop_size = getattr(segmentor, 'crop_size', None)
    return segmentors.with_crop_size(segmentor, None if crop_size is None else tuple(
        scale_dimension(side, scale) for side in crop_size))
