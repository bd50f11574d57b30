"""Small images with labels, drawn anew, and the folder layout they are written in."""
import numpy as np
from PIL import Image

SIZES = ((40, 56), (33, 48), (48, 33), (37, 41))


def draw_pair(number, classes=4):
    """(image uint8 [h, w, 3], label uint8 [h, w]); the label says which pixels are how bright.

    The red channel is 30 * label (200 where ignored), so that a test can see whether image
    and label have moved together.
    """
    height, width = SIZES[number % len(SIZES)]
    random = np.random.default_rng(number)
    label = np.kron(random.integers(0, classes, [7, 7]), np.ones([8, 8], int))[:height, :width]
    label = label.astype(np.uint8)
    label[0, :3] = 255
    image = random.integers(0, 256, [height, width, 3]).astype(np.uint8)
    image[..., 0] = np.where(label == 255, 200, label * 30)
    return image, label


def write_folder(folder, names, suffix='.png', classes=4):
    """The folder layout with one pair per name; returns the folder."""
    for number, name in enumerate(names):
        image, label = draw_pair(number, classes)
        for kind, pixels, ending in (('images', image, suffix), ('labels', label, '.png')):
            path = folder / kind / (name + ending)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path, **({'quality': 95} if ending == '.jpg' else {}))
    return folder
