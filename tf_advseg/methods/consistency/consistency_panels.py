"""What is learnt from unlabelled images, shown: the teacher's targets, and their course."""
import numpy as np
import tensorflow as tf

from tf_advseg.data.augmentation import augment
from tf_advseg.data.spec import IGNORE_LABEL
from tf_advseg.models import segmentor as segmentors
from tf_advseg.reporting import curves
from tf_advseg.run import shown_images

_SELECTED, _AGREED, _TEACHER = '#2f6db5', '#c07a1c', '#1b7f4b'


def panel(context, method):
    """Images of the hold-out, as if they had no labels.

    Args:
      context: run.context.Context.
      method: `consistency.Consistency`.

    Returns:
      uint8 [H, W, 3]: image, truth, what the student and the teacher say, and what of the teacher's
      map would be learnt from; the rest of it is black.
    """
    ids = shown_images.spread(context.data.holdout)
    images = shown_images.load(context, ids)
    teacher = shown_images.masks(context, method.teacher.network, images)
    believed = [np.where(_believed(context, method, image), mask, IGNORE_LABEL).astype(np.uint8)
                for (image, _), mask in zip(images, teacher)]
    return shown_images.mask_grid(context, images, {
        'student': shown_images.masks(context, method.segmentor, images), 'teacher': teacher,
        'learnt from': believed}, ids)


def _believed(context, method, image):
    """bool [h, w]: the pixels whose nearest point is selected."""
    height, width = image.shape[:2]
    size = [max(given, side) for given, side in zip(context.crop_size, (height, width))]
    padded, own = augment.pad_to(tf.constant(image), tf.zeros([height, width], tf.int32), *size,
                                 segmentors.padding_colour(method.segmentor))
    _, chosen = method.taught(padded[None], tf.not_equal(own, IGNORE_LABEL)[None])
    stride = method.map_stride
    rows, columns = (np.minimum((np.arange(side) + stride // 2) // stride, count - 1)
                     for side, count in zip((height, width), chosen.shape[1:]))
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
             (scores, 'miou', 'teacher', 'holdout', _TEACHER, 'teacher'))
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
