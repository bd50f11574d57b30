"""What a record is made of: an image and its label, read, checked and encoded as PNGs.

Without TensorFlow, so that processes that only do this (record_workers.py) start in no time.
"""
import dataclasses
import io
from typing import List, Optional, Tuple

import numpy as np
from PIL import Image

from tf_advseg.core.errors import UserError
from tf_advseg.data.spec import IGNORE_LABEL

_HIGHEST_INSTANCE = 65535  # kept as 16-bit PNG


@dataclasses.dataclass
class RecordParts:
    """One image on its way into a record.

    Attributes:
      image_id: string.
      size: (height, width) in pixels.
      image: JPEG or PNG bytes.
      published: whether these are the data set's own bytes, which TensorFlow may not take.
      label: PNG bytes of train ids.
      instances: 16-bit PNG bytes, or None.
      class_counts: the number of pixels of each class.
    """
    image_id: str
    size: Tuple[int, int]
    image: bytes
    published: bool
    label: bytes
    instances: Optional[bytes]
    class_counts: List[int]


def read_parts(reader, image_id, published=True):
    """Reads one image and its label.

    Args:
      reader: a `readers.base.Reader`.
      image_id: which image.
      published: keep the image's own bytes where the reader has them; False encodes it as PNG.

    Returns:
      RecordParts. UserError for bad files, and for a reader that breaks its contract.
    """
    image, label = reader.load(image_id)
    if (image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3
            or label.dtype != np.uint8 or label.shape != image.shape[:2]):
        raise UserError(f'image "{image_id}": the reader gives {image.dtype} '
                        f'{list(image.shape)} and {label.dtype} {list(label.shape)}, expected '
                        'uint8 [H, W, 3] and uint8 [H, W]')
    original = reader.encoded_image(image_id) if published else None
    return RecordParts(
        image_id=image_id, size=tuple(label.shape), published=original is not None,
        image=original if original is not None else _png(image), label=_png(label),
        instances=_instances(reader, image_id, label.shape),
        class_counts=_class_counts(label, image_id, reader.spec.num_classes))


def _class_counts(label, image_id, classes):
    """Pixels of each class as a list; UserError for a label id that is none."""
    histogram = np.bincount(label.ravel(), minlength=256)
    if histogram[classes:IGNORE_LABEL].any():
        outside = classes + int(np.flatnonzero(histogram[classes:IGNORE_LABEL])[0])
        raise UserError(f'image "{image_id}": label id {outside} is out of range; expected 0 '
                        f'to {classes - 1}, or {IGNORE_LABEL} for pixels to ignore')
    return histogram[:classes].tolist()


def _instances(reader, image_id, shape):
    """PNG of the reader's instance ids, or None; UserError unless they are integers of 16 bits.

    Args:
      shape: (H, W) of the image.
    """
    ids = reader.instances(image_id)
    if ids is None:
        return None
    if not np.issubdtype(ids.dtype, np.integer) or ids.shape != shape:
        raise UserError(f'image "{image_id}": the reader gives instances {ids.dtype} '
                        f'{list(ids.shape)}, expected integers {list(shape)} as the label')
    if ids.size and not 0 <= ids.min() <= ids.max() <= _HIGHEST_INSTANCE:
        raise UserError(f'image "{image_id}": instance ids {ids.min()} to {ids.max()}, expected '
                        f'0 to {_HIGHEST_INSTANCE}')
    return _png(ids.astype(np.uint16))


def _png(array):
    """uint8 [H, W] or [H, W, 3], or uint16 [H, W], as PNG bytes."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(buffer, 'PNG')
    return buffer.getvalue()
