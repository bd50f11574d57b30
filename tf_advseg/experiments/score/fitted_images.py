"""Images brought to the one size that an exported file takes: to calibrate and to compare with."""
import numpy as np
from PIL import Image

from tf_advseg.data.readers import base
from tf_advseg.experiments.score import input_files
from tf_advseg.models.zoo import parity

MOST = 20  # images that agreement is measured on
SYNTHETIC = 4


def read(source, size, most=MOST):
    """Images of a size.

    Args:
      source: image, folder or pattern; None: a few made-up ones.
      size: (height, width); larger images are shrunk until they fit, smaller ones padded with grey
        at the bottom and the right.
      most: how many at most, spread over all.

    Returns:
      (list of uint8 [height, width, 3], text: where they are from).

    Raises:
      UserError: no images there, or broken ones.
    """
    if source is None:
        made = [parity.synthetic_image(*size)]
        made += [made[0][::-1], made[0][:, ::-1], 255 - made[0]][:SYNTHETIC - 1]
        return made, f'{len(made)} made-up images (--input names a folder of real ones)'
    found = input_files.find_images(source)[1]
    if len(found) > most:
        found = [found[i * len(found) // most] for i in range(most)]
    return ([_fitted(base.read_image(path), size) for path in found],
            f'{len(found)} images of {source}')


def _fitted(image, size):
    scale = min(1.0, size[0] / image.shape[0], size[1] / image.shape[1])
    if scale < 1.0:
        height, width = (max(1, int(side * scale)) for side in image.shape[:2])
        image = np.array(Image.fromarray(image).resize((width, height), Image.BILINEAR))
    fitted = np.full((*size, 3), 127, np.uint8)
    fitted[:image.shape[0], :image.shape[1]] = image
    return fitted
