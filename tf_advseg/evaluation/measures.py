"""Measures by name: what `evaluate --measures=…` can be asked for.

A measure has `update(image_id, label, prediction, instances=None)`, one image at the label's own
resolution (label int [H,W] of train ids, 255 = ignore; prediction int [H,W], 255 = no class;
instances int [H,W] in the data set's official coding, or None), and `result()`, a JSON-able dict.
They are plain NumPy and SciPy: whoever predicts, and under what strategy, they count the same.
"""
from tf_advseg.core import errors
from tf_advseg.evaluation import boundary
from tf_advseg.evaluation import components
from tf_advseg.evaluation import image_counts
from tf_advseg.evaluation import instance_iou

# name -> function of (DatasetSpec, sizes of the split's images as a list of (h, w)).
MEASURES = {
    'iou': lambda spec, sizes: image_counts.ImageIoU(spec),
    'boundary': lambda spec, sizes: boundary.BoundaryF(spec, sizes),
    'trimap': lambda spec, sizes: boundary.Trimap(spec),
    'components': lambda spec, sizes: components.ComponentErrors(spec),
    'instances': lambda spec, sizes: instance_iou.CityscapesScores(spec),
}
ALWAYS = 'iou'


def make_measures(names, spec, sizes):
    """New measures for one evaluation.

    Args:
      names: of `MEASURES`: strings, or one string with commas between them. 'iou' is always there.
      spec: DatasetSpec of the data.
      sizes: (h, w) of every image of the split, for the tolerance of the boundary measure.

    Returns:
      {name: measure}, 'iou' first.

    Raises:
      UserError: an unknown name, or a measure that the data set cannot have.
    """
    if isinstance(names, str):
        names = [name.strip() for name in names.split(',') if name.strip()]
    for name in names:
        errors.require_one_of('measure', name, MEASURES)
    ordered = dict.fromkeys([ALWAYS, *names])
    return {name: MEASURES[name](spec, sizes) for name in ordered}
