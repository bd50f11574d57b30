"""The cue audit of a method: what its discriminator can win on without a look at structure.

adversaries/cues.py has the statistics. Here they are taken of what a method shows its other
network, with an oracle in the segmentor's place (adversaries/bottleneck.py).
"""
import numpy as np
from absl import logging
from scipy import ndimage

from tf_advseg.adversaries import bottleneck
from tf_advseg.adversaries import cues
from tf_advseg.data import pipeline
from tf_advseg.data.spec import IGNORE_LABEL
from tf_advseg.methods import step_parts
from tf_advseg.models import segmentor as segmentors

IMAGES = 48  # that a run looks at: 1 or 2 s
FEWEST = 16  # with fewer images a cue is as likely luck, and a run says nothing


def chosen(ids, count=IMAGES):
    """At most `count` of the ids, spread evenly over them."""
    places = np.unique(np.linspace(0, len(ids) - 1, min(count, len(ids))).astype(int))
    return [ids[place] for place in places]


def measure(method, records, ids, crop_size):
    """The audit of a method's encoding.

    Args:
      method: step_parts.Method, built.
      records: data.records.record_set.RecordSet.
      ids: of labelled images.
      crop_size: (h, w); images are padded to it, larger ones stay whole.

    Returns:
      {statistic of `cues.STATISTICS`: AUC}; None where the method, or these settings of it, shows
      no maps, {} where no image has a labelled point in its crop.
    """
    if type(method).shown_maps is step_parts.Method.shown_maps:
        return None
    segmentor = method.segmentor
    stride = segmentor.logits_stride
    batches = pipeline.whole_images(records, ids, crop_size, 1,
                                    pad_value=segmentors.padding_colour(segmentor))
    triples, grid = [], None
    for batch in batches:
        batch = _cut(batch, crop_size)
        logits = bottleneck.oracle_logits(_everywhere(batch['label']), segmentor.num_classes,
                                          stride)
        grid = tuple(logits.shape[1:3])
        shown = method.shown_maps(batch, logits)
        if shown is None:  # with these settings it has no discriminator
            return None
        triples.append([part.numpy()[0] for part in shown])
    try:
        return cues.audit(triples, grid)
    except ValueError:
        return {}


def _everywhere(labels):
    """Labels int [1, h, w] that say something at every pixel, as a segmentor does.

    Unlabelled pixels get the class of the nearest labelled one, found at full size: a continuation
    of its own, which the encodings under audit know nothing of.
    """
    labels = np.asarray(labels)
    void = labels == IGNORE_LABEL
    if void.all() or not void.any():
        return labels
    places = ndimage.distance_transform_edt(void[0], return_distances=False, return_indices=True)
    return labels[0][tuple(places)][None]


def _cut(batch, crop_size):
    """The batch's upper left crop: methods whose maps have a fixed size are shown crops."""
    height, width = crop_size
    return {**batch, 'image': batch['image'][:, :height, :width],
            'label': batch['label'][:, :height, :width]}


def warn(context, method):
    """Logs, in one line, what the method's discriminator can win on; returns the audit or None.

    Args:
      context: run.context.Context; only its chief looks.
      method: step_parts.Method, built.
    """
    if not context.chief or len(context.data.train) < FEWEST:
        return None
    found = measure(method, context.data.records, chosen(context.data.train), context.crop_size)
    harmful = cues.harmful(found or {})
    if harmful:
        logging.warning(
            'cues: the discriminator can win without structure: with an oracle in the place of the '
            'segmentor, %s separate true maps from predicted ones (AUC; 0.5 is none). A matched '
            'encoding has none: see docs/discriminators.md',
            ', '.join(f'{name} {area:.2f}' for name, area in harmful.items()))
    return found
