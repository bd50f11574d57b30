"""What the doctor wants to know of one image and its label: small numbers, never the pixels.

Without TensorFlow, so that processes of their own can do it (record_workers.py).
"""
import dataclasses
import hashlib
from typing import Optional, Tuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from tf_advseg.core.errors import UserError
from tf_advseg.data.doctor import edge_fit
from tf_advseg.data.readers import base
from tf_advseg.data.spec import IGNORE_LABEL

THUMBNAIL = 16
_ROTATED = 0x0112  # EXIF's tag Orientation
_UPRIGHT = 1


@dataclasses.dataclass
class ImageFacts:
    """One image.

    Attributes:
      image_id: string.
      files: the files it comes from, as strings; () where the reader names none.
      troubles: ((kind, message), ...) of what makes it unusable; the rest is then partly None.
      size: (height, width), None where the image cannot be read.
      counts: int64 [256]: label pixels of each train id, None where the label cannot be read.
      pixels: digest of the decoded image, whatever file format holds it.
      label: digest of the label.
      thumbnail: uint8 [16, 16, 3].
      bits: bool [8, 8]: whether brightness falls from one cell of an 8x9 grid to the next on its
        right: the difference hash, which survives scaling and compression.
      contrast: standard deviation of the brightness, 0..127.5.
      rotated: whether the file's EXIF data say that viewers turn the image, which labels are
        not drawn for and readers do not.
      edges: how well the label's borders lie on the image's; None where it has too few.
    """
    image_id: str
    files: Tuple[str, ...] = ()
    troubles: Tuple[Tuple[str, str], ...] = ()
    size: Optional[Tuple[int, int]] = None
    counts: Optional[np.ndarray] = None
    pixels: str = ''
    label: str = ''
    thumbnail: Optional[np.ndarray] = None
    bits: Optional[np.ndarray] = None
    contrast: float = 0.0
    rotated: bool = False
    edges: Optional[edge_fit.Fit] = None

    @property
    def counted(self):
        """Whether its label counts: nothing is wrong with the image."""
        return self.counts is not None and not self.troubles

    def names(self):
        """The files, or the id where there are none."""
        return self.files or (self.image_id,)


def read_facts(reader, image_id, published=True):
    """Looks at one image; what is wrong with it is among the facts and not raised.

    Args:
      reader: a `readers.base.Reader`.
      image_id: which image.
      published: not used; record_workers.py hands it on.

    Returns:
      ImageFacts.
    """
    del published
    facts, troubles = ImageFacts(image_id), []
    image = label = None
    if isinstance(reader, base.FileReader):
        try:
            facts.files = tuple(str(path) for path in reader.files(image_id))
            image = base.read_image(reader.image_path(image_id))
            facts.rotated = _is_rotated(reader.image_path(image_id))
        except UserError as error:
            troubles.append(('unreadable_image', str(error)))
        try:
            label = reader.read_label(image_id)
        except UserError as error:
            troubles.append((_label_trouble(reader, image_id, error), str(error)))
    else:
        try:
            facts.files = tuple(str(path) for path in reader.files(image_id))
            image, label = _as_promised(image_id, *reader.load(image_id))
        except UserError as error:
            troubles.append(('unreadable', str(error)))
    if image is not None and label is not None and image.shape[:2] != label.shape:
        troubles.append(('sizes_differ', _sizes(reader, image_id, image, label, facts.rotated)))
        label = None
    if image is not None:
        _look_at_image(facts, image)
    if label is not None:
        _look_at_label(facts, label, reader.spec.num_classes, troubles)
        if image is not None and not troubles:
            facts.edges = edge_fit.edge_fit(image, label)
    facts.troubles = tuple(troubles)
    return facts


def _as_promised(image_id, image, label):
    """What a reader of anybody's gave; UserError unless it is what `Reader.load` promises."""
    if (image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3
            or label.dtype != np.uint8 or label.ndim != 2):
        raise UserError(f'image "{image_id}": the reader gives {image.dtype} '
                        f'{list(image.shape)} and {label.dtype} {list(label.shape)}, expected '
                        'uint8 [H, W, 3] and uint8 [H, W]')
    return image, label


def _look_at_image(facts, image):
    """Fills in what is known of the image, uint8 [H, W, 3]."""
    facts.size = image.shape[:2]
    facts.pixels = hashlib.sha256(
        repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()
    photo = Image.fromarray(image)
    facts.thumbnail = np.asarray(photo.resize((THUMBNAIL, THUMBNAIL), Image.BOX))
    grid = np.asarray(photo.convert('L').resize((9, 8), Image.BOX), np.int16)
    facts.bits = grid[:, :-1] > grid[:, 1:]
    facts.contrast = float(image.mean(axis=-1).std())


def _look_at_label(facts, label, classes, troubles):
    """Fills in what is known of the label, uint8 [H, W]."""
    facts.label = hashlib.sha256(repr(label.shape).encode() + label.tobytes()).hexdigest()
    facts.counts = np.bincount(label.ravel(), minlength=256).astype(np.int64)
    outside = np.flatnonzero(facts.counts[classes:IGNORE_LABEL])
    if outside.size:
        troubles.append(('label_ids', f'image "{facts.image_id}": label id '
                         f'{classes + int(outside[0])} is out of range; expected 0 to '
                         f'{classes - 1}, or {IGNORE_LABEL} for pixels to ignore'))


def _is_rotated(path):
    """Whether the image file's EXIF data ask viewers to turn it."""
    try:
        with Image.open(path) as image:
            return image.getexif().get(_ROTATED, _UPRIGHT) not in (0, _UPRIGHT)
    except Exception:  # EXIF data may be anything; an image that was read needs none
        return False


def _label_trouble(reader, image_id, error):
    """The kind of what is wrong with a label that could not be read."""
    path = reader.label_path(image_id)
    if not path.exists():
        return 'missing_label'
    if 'out of range' in str(error):  # as readers.base and DatasetSpec word it
        return 'label_ids'
    try:
        with Image.open(path) as image:
            if image.mode in ('RGB', 'RGBA', 'CMYK', 'YCbCr') and image.format != 'JPEG':
                return 'colour_label'
            return ('label_format' if ' file, expected' in str(error) or 'mode ' in str(error)
                    else 'unreadable_label')
    except (OSError, ValueError, UnidentifiedImageError):
        return 'unreadable_label'


def _sizes(reader, image_id, image, label, rotated):
    """The message for a label whose size is not its image's."""
    where = (reader.label_path(image_id) if isinstance(reader, base.FileReader)
             else f'image "{image_id}"')
    text = (f'{where}: label is {label.shape[1]}x{label.shape[0]}, its image '
            f'{image.shape[1]}x{image.shape[0]}')
    if rotated and label.shape == image.shape[1::-1]:
        text += ' before viewers turn it by its EXIF data, which no reader does'
    return text
