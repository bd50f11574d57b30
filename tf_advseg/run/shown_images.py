"""The few images that every panel of a run shows, and the class maps drawn of them."""
import numpy as np

from tf_advseg.evaluation import prediction
from tf_advseg.reporting import panels

ROWS = 4
MOST_MOMENTS = 64  # of which class maps are kept; figures show ten at most


def spread(ids, most=ROWS):
    """At most so many of the ids, spread evenly; the same every time."""
    places = np.linspace(0, len(ids) - 1, min(most, len(ids))).astype(int)
    return [ids[place] for place in places]


def test_ids(context):
    """The test images of a run's panels."""
    return spread(context.data.test)


def load(context, ids):
    """[(image uint8 [h, w, 3], label uint8 [h, w])] of some ids."""
    return [context.data.records.load(image_id) for image_id in ids]


def masks(context, segmentor, images):
    """The class maps that a network gives of (image, label) pairs: uint8 [h, w] each."""
    return [prediction.predict(segmentor, image, context.crop_size) for image, _ in images]


def passed_over(moments, latest, most=MOST_MOMENTS):
    """The moments whose class maps are not needed any more, so that a long run keeps few.

    What is kept lies evenly over the run: moments of a stride that doubles whenever there would be
    more than `most`, and the latest. It depends on `latest` alone, so a run that was stopped and
    resumed keeps what one that was not keeps.

    Args:
      moments: numbers, from 0, of those of which there are maps.
      latest: the last one's number.
      most: how many are kept, and the latest beside them.

    Returns:
      list of moments, never 0 or `latest`.
    """
    stride = 1
    while latest // stride >= most:
        stride *= 2
    return [moment for moment in moments if moment % stride and moment != latest]


def mask_grid(context, images, columns, captions):
    """A row an image: itself, its ground truth and the class maps of each column.

    Args:
      context: run.context.Context.
      images: [(image, label)].
      columns: {title: [uint8 [h, w]]}, one class map an image.
      captions: the images' names.

    Returns:
      uint8 [H, W, 3].
    """
    rows = [panels.mask_row(image, truth, [found[i] for found in columns.values()])
            for i, (image, truth) in enumerate(images)]
    spec = context.data.spec
    return panels.panel_grid(rows, ['image', 'truth', *columns], spec.palette,
                             spec.class_names, captions)
