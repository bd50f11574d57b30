"""What is learnt from unlabelled images, shown: the teacher's targets, and their course."""
import numpy as np
import tensorflow as tf

from tf_advseg.data import pipeline
from tf_advseg.data.augmentation import augment
from tf_advseg.data.spec import IGNORE_LABEL
from tf_advseg.models import segmentor as segmentors
from tf_advseg.reporting import curves
from tf_advseg.reporting import panels
from tf_advseg.run import shown_images

_SELECTED, _AGREED, _TEACHER = '#2f6db5', '#c07a1c', '#1b7f4b'


def panel(context, method):
    """A few unlabelled images and what would be learnt from their plain views.

    Args:
      context: run.context.Context.
      method: `consistency.Consistency`.

    Returns:
      uint8 [H, W, 3]: image, what the student and the teacher say, and the teacher's map at the
      points that are selected; the rest of it is black.
    """
    records, spec = context.data.unlabelled_records, context.data.spec
    ids = shown_images.spread(context.data.unlabelled)
    images = [records.load(image_id) for image_id in ids]
    student, teacher = (shown_images.masks(context, network, images)
                        for network in (method.segmentor, method.teacher.network))
    believed = [np.where(_believed(context, method, image), mask, IGNORE_LABEL).astype(np.uint8)
                for (image, _), mask in zip(images, teacher)]
    rows = [[image, *maps] for (image, _), *maps in zip(images, student, teacher, believed)]
    return panels.panel_grid(rows, ['image', 'student', 'teacher', 'learnt from'], spec.palette,
                             spec.class_names, ids)


def _believed(context, method, image):
    """bool [h, w]: the pixels whose nearest point is selected; padded as in every prediction."""
    height, width = image.shape[:2]
    stride = getattr(method.segmentor, 'output_stride', None) or 16
    size = pipeline.padded_sizes([[height, width]], context.crop_size, stride)[0]
    padded, own = augment.pad_to(tf.constant(image), tf.zeros([height, width], tf.int32), *size,
                                 segmentors.padding_colour(method.segmentor))
    _, chosen = method.taught(padded[None], tf.not_equal(own, IGNORE_LABEL)[None],
                              np.zeros(2, np.int32))
    rows, columns = (np.rint(np.arange(side) * (count - 1) / (whole - 1)).astype(int)
                     for side, whole, count in zip((height, width), size, chosen.shape[1:]))
    return chosen.numpy()[0][np.ix_(rows, columns)]


def curve(metrics, stage):
    """What was learnt from unlabelled images, over the training.

    Args:
      metrics: lines of metrics.jsonl.
      stage: the method's name in them.

    Returns:
      matplotlib Figure: the selected share and the agreement in percent; below, the hold-out mIoU
      of student and teacher.
    """
    lines = [line for line in metrics if line.get('stage') == stage and 'segmentor_step' in line]
    figure, axes = curves.new_figure(9.0, 5.0)
    axes.remove()
    shares, scores = figure.subplots(2, 1, sharex=True)
    drawn = ((shares, 'consistency/selected', 'stage', None, _SELECTED, 'selected'),
             (shares, 'consistency/agreement', 'stage', None, _AGREED,
              'of these the student agrees on'),
             (scores, 'miou', 'evaluation', 'holdout', _SELECTED, 'student'),
             (scores, 'miou', 'teacher', 'holdout_teacher', _TEACHER, 'teacher'))
    for where, key, event, split, colour, label in drawn:
        found = [(line['segmentor_step'], 100.0 * line[key]) for line in lines
                 if line.get('event') == event and line.get('split') == split
                 and curves.is_finite(line.get(key))]
        if found:
            where.plot(*zip(*found), '.-', color=colour, linewidth=1.4, markersize=4, label=label)
    for each, text in ((shares, 'unlabelled points (%)'), (scores, 'hold-out mIoU (%)')):
        each.set_ylabel(text)
        each.spines[['top', 'right']].set_visible(False)
        each.grid(True, color='#000000', alpha=0.08, linewidth=0.6)
        if each.lines:
            each.legend(frameon=False, fontsize=8)
    scores.set_xlabel('segmentor\'s steps')
    return figure
