"""The averaged weights of a stage as a model of their own: evaluated and kept beside the others."""
import math

from tf_advseg.data.records import record_set as record_sets
from tf_advseg.run import networks
from tf_advseg.training import averaging


def save(context, segmentor, average, settings, folder, batches, **fields):
    """Writes the averaged model, and says what it scores; the network is left as it was.

    What is returned stands in model.json, too, the settings of the average as 'averaged' there.

    Args:
      context: run.context.Context.
      segmentor: the network, its `fine_tune_batch_norm` as in the stage.
      average: its `averaging.WeightAverage`, at the end of the stage.
      settings: `averaging.Settings`.
      folder: where to, below the run's checkpoints/.
      batches: tf.data.Dataset of the stage's global training batches, see `reestimate`.
      **fields: JSON-able, kept beside.

    Returns:
      {'models': how many are in the average, 'every', 'constant', 'reading', 'start': see
      `WeightAverage.description`; 'holdout_miou': of what was saved,
      'holdout_miou_before_batch_norm': with the statistics of the last weights, None where they
      were not re-estimated}; an mIoU is None where the hold-out has no labelled pixel.
    """
    before = None
    with average.swapped(segmentor):
        if settings.reestimates(segmentor):
            before = context.holdout_miou(segmentor)
            reestimate(context, segmentor, settings, batches)
        after = context.holdout_miou(segmentor)
        about = average.description()
        networks.save(folder, segmentor, context.description, context.data.spec, context.chief,
                      averaged=about, holdout_miou=after, holdout_miou_before_batch_norm=before,
                      **fields)
    context.barrier()
    return {**about, 'holdout_miou': after, 'holdout_miou_before_batch_norm': before}


def reestimate(context, segmentor, settings, batches):
    """Gives the weights in the network statistics of their own, where that is due.

    Args:
      context, segmentor, settings: see `save`.
      batches: tf.data.Dataset of global training batches; of an endless one as many are taken as
        the settings say. It is read only where something is due.

    Returns:
      Whether it was due.
    """
    if not settings.reestimates(segmentor):
        return False
    size = batches.element_spec['image'].shape[0]
    number = settings.batch_norm_batches or math.ceil(len(context.data.train) / size)
    with record_sets.data_errors():
        averaging.reestimate_batch_norm(segmentor, batches.take(number), context.strategy)
    return True
