"""Windows that slide over an image larger than the network was trained at.

The usual protocol of Cityscapes and ADE20K papers (PSPNet's evaluation, for one): windows of the
training size with half of a window between them, the last one flush with the border, and at every
pixel the mean of the probabilities of the windows that saw it. A network whose image pooling has a
window from the crop size is then shown nothing but crops of that size.
"""
import numpy as np

from tf_advseg.core.errors import UserError

OVERLAP = 0.5


def require_window(window, overlap=OVERLAP):
    """The window as (height, width) of ints, or None for None.

    Args:
      window: None, a side or (height, width), in pixels.
      overlap: share of a window that the next one covers again.

    Raises:
      UserError: a side below 1, or an overlap that is not in [0, 1).
    """
    if not 0.0 <= overlap < 1.0:
        raise UserError(f'overlap of the windows {overlap}: expected at least 0 and less than 1, '
                        'such as 0.5')
    if window is None:
        return None
    height, width = (int(side) for side in np.broadcast_to(window, [2]))
    if min(height, width) < 1:
        raise UserError(f'window {height}x{width}: expected sides of at least 1 pixel, such as '
                        '513x513')
    return height, width


def places(side, window, overlap=OVERLAP):
    """Where windows begin along a side: every pixel is seen, the last window ends at the border.

    Args:
      side, window: in pixels.
      overlap: see `require_window`; the step is window * (1 - overlap), at least a pixel.

    Returns:
      list of ints, rising; [0] where one window is enough.
    """
    if side <= window:
        return [0]
    step = max(1, round(window * (1.0 - overlap)))
    return [*range(0, side - window, step), side - window]


def average(image, window, colour, predict, overlap=OVERLAP):
    """The mean over the windows that see a pixel.

    Args:
      image: uint8 or float32 [H, W, 3].
      window: (height, width); an image that is smaller is padded to it at the bottom and right.
      colour: three numbers, what it is padded with.
      predict: function of an iterator of images, float32 [height, width, 3], that gives an
        iterator of their maps, float32 [height, width, C], in the same order.
      overlap: see `require_window`.

    Returns:
      float32 [H, W, C].
    """
    height, width = image.shape[:2]
    shown = np.full((max(height, window[0]), max(width, window[1]), 3), colour, np.float32)
    shown[:height, :width] = image
    corners = [(top, left) for top in places(height, window[0], overlap)
               for left in places(width, window[1], overlap)]
    total = None
    seen = np.zeros((height, width, 1), np.float32)
    cut = (shown[top:top + window[0], left:left + window[1]] for top, left in corners)
    for (top, left), found in zip(corners, predict(cut)):
        place = (slice(top, min(top + window[0], height)),
                 slice(left, min(left + window[1], width)))
        if total is None:
            total = np.zeros((height, width, found.shape[-1]), np.float32)
        total[place] += found[:height - top, :width - left]
        seen[place] += 1.0
    total /= seen
    return total
