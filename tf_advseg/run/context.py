"""What every part of an experiment needs: run directory, data, strategy, random streams."""
import collections
import dataclasses
import pathlib
import tempfile

import numpy as np
import tensorflow as tf
from tensorboard.plugins.scalar import summary_v2

from tf_advseg.core import journal
from tf_advseg.core import tensorflow_paths
from tf_advseg.data import pipeline
from tf_advseg.evaluation import evaluator
from tf_advseg.evaluation import metrics as figures
from tf_advseg.models import segmentor as segmentors
from tf_advseg.training import strategy as strategies


# Bytes of a decoded hold-out that is kept in memory from one evaluation to the next.
MOST_CACHED = 2 ** 29


@dataclasses.dataclass
class Context:
    """An open experiment.

    Attributes:
      run: core.run_directory.RunDirectory.
      data: run.dataset.ExperimentData.
      strategy: tf.distribute.Strategy.
      streams: core.random_streams.RandomStreams.
      crop_size: (h, w).
      description: from networks.describe; None where the user brings a network.
      trackers: `tracking.Trackers` that boards write to as well, or None.
    """
    run: object
    data: object
    strategy: object
    streams: object
    crop_size: tuple
    description: object
    trackers: object = None
    _arrays: dict = dataclasses.field(default_factory=dict)
    _evaluators: dict = dataclasses.field(default_factory=dict)
    _made: dict = dataclasses.field(default_factory=dict)

    @property
    def chief(self):
        """Whether this process writes."""
        return strategies.is_chief(self.strategy)

    def barrier(self):
        """Waits for the other workers, if there are any."""
        strategies.barrier(self.strategy)

    def journal(self, path):
        """A Journal at `path`; on other workers than the chief one that keeps nothing."""
        return journal.Journal(path) if self.chief else SilentJournal()

    def board(self, name, panel=None):
        """A `Board` below the run's tensorboard folder; on other workers, in a scratch folder."""
        folder = self.run.tensorboard / name if self.chief else tempfile.mkdtemp()
        return Board(folder, panel, self.trackers)

    def once(self, key, make):
        """What `make()` returned when it was first asked for under this key."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def average_class_counts(self):
        """float [C]: pixels of each class per labelled training image."""
        return self.data.records.average_class_counts(self.data.train)

    def holdout_counts(self, segmentor, batch_size=8):
        """int64 [C, C] of the hold-out: the counts of `counts`, made fast for many evaluations.

        Where all its images are padded to one size, as where none is larger than the crop, and
        take no more than `MOST_CACHED` bytes, they are decoded and padded once; else each
        evaluation reads them again.
        """
        sizes = self._padded(segmentor, self.data.holdout)
        if (len(np.unique(sizes, axis=0)) > 1
                or pipeline.BYTES_OF_A_PIXEL * sizes.prod(axis=1, dtype=np.int64).sum()
                > MOST_CACHED):
            return self.counts(segmentor, self.data.holdout)
        return self._holdout_evaluator(segmentor, batch_size).run()

    def holdout_miou(self, segmentor, batch_size=8):
        """mIoU on the hold-out as `evaluate` has it: the one way in which all stages measure it.

        Returns:
          float in 0..1; None where the hold-out has no image, or no labelled pixel.
        """
        if not self.data.holdout:
            return None
        return figures.plain(figures.mean_iou(self.holdout_counts(segmentor, batch_size),
                                              self.data.spec.absent))

    def _padded(self, segmentor, ids):
        """int32 [N, 2]: what each image is padded to."""
        return pipeline.padded_sizes(self.data.records.image_sizes(ids), self.crop_size,
                                     _stride(segmentor))

    def _holdout_evaluator(self, segmentor, batch_size):
        """The Evaluator on a hold-out of one size, decoded, padded and cached once.

        Stage 1, LoAd and the control are handed the same one: what it compiles takes longer than
        many an evaluation.
        """
        if 'holdout' not in self._arrays:
            self._arrays['holdout'] = pipeline.evaluation_arrays(
                self.data.records, self.data.holdout, self.crop_size, _stride(segmentor))
        key = ('holdout', id(segmentor), batch_size)
        if key not in self._evaluators:
            self._evaluators[key] = evaluator.Evaluator(
                segmentor, self._arrays['holdout'], segmentor.num_classes, batch_size,
                self.several_replicas)
        return self._evaluators[key]

    def counts(self, segmentor, ids):
        """int64 [C, C] of images at their own resolution, each padded as it would be alone.

        Padding all to the size of the largest would be faster, but a network that is not used to
        padding answers for it: 2 points of mIoU with `farabet` and upright images among others.
        """
        # Counts do not depend on the order, and images of one size share batches.
        ordered = [ids[i] for i in np.lexsort(self._padded(segmentor, ids).T)]

        def batches():
            return pipeline.whole_images(
                self.data.records, ordered, self.crop_size, 8,
                pad_value=segmentors.padding_colour(segmentor), multiple=_stride(segmentor))

        key = ('whole', id(segmentor))
        if key not in self._evaluators:  # an evaluator compiles: one for all splits of a run
            self._evaluators[key] = evaluator.Evaluator(
                segmentor, batches, segmentor.num_classes, strategy=self.several_replicas)
        return self._evaluators[key].run(batches)

    @property
    def several_replicas(self):
        """The strategy where it has something to distribute, else None."""
        return self.strategy if self.strategy.num_replicas_in_sync > 1 else None

    def evaluate(self, segmentor, ids):
        """Scores on images at their own resolution.

        Returns:
          evaluation.metrics.summary, its mean IoU under 'miou' as well.
        """
        spec = self.data.spec
        summary = figures.summary(self.counts(segmentor, ids), spec.class_names,
                                  absent=spec.absent)
        return {'miou': summary.pop('mean_iou'), **summary}


def _stride(segmentor):
    """What sizes beyond the crop are padded to: `evaluate` and `predict` do the same."""
    return getattr(segmentor, 'output_stride', None) or 16


class SilentJournal:
    """A journal that keeps nothing: only the chief writes."""

    def append(self, event, **fields):
        """Forgets the event."""
        return {'event': event, **fields}

    def position(self):
        """0."""
        return 0

    def cut_back(self, position, keep=None):
        """Does nothing; there is nothing."""
        del position, keep

    def drop(self, condition):
        """Does nothing; there is nothing."""
        del condition


class BoardedJournal:
    """A metrics journal whose stage lines go to TensorBoard as well."""

    def __init__(self, journal_, board):
        self._journal = journal_
        self._board = board

    def append(self, event, step=0, **fields):
        """Writes a line, and its numbers to TensorBoard, by split where it names one.

        There a network's own steps count, so that a run and its control lie over each other.
        """
        own = ('segmentor_step', 'generator_step', 'discriminator_step')
        part = f'{fields["split"]}/' if 'split' in fields else ''
        numbers = {part + k: v for k, v in fields.items()
                   if isinstance(v, (int, float)) and k not in own}
        self._board.scalars(next((fields[k] for k in own if k in fields), step), numbers)
        return self._journal.append(event, step=step, **fields)

    def position(self):
        """The journal's."""
        return self._journal.position()

    def drop(self, condition):
        """Of the journal; TensorBoard shows steps done twice twice."""
        self._journal.drop(condition)


class Board:
    """TensorBoard scalars and panels of a run.

    Args:
      folder: the run's tensorboard/ folder and a name below it.
      panel: function(lookahead) -> uint8 [H, W, 3], drawn at each end of a cycle, or None.
      trackers: `tracking.Trackers` that get the same, under the folder's name; None for none.
    """

    def __init__(self, folder, panel=None, trackers=None):
        self._writer = tf.summary.create_file_writer(tensorflow_paths.plain_folder(folder))
        self._panel, self._trackers = panel, trackers
        self._part = pathlib.Path(folder).name
        self._images = collections.Counter()

    def scalars(self, step, values):
        """Writes a dict of numbers at a step: one event, with what `tf.summary.scalar` writes.

        That function would hand each number to TensorFlow, which keeps it for the life of the
        process (docs/internals.md, "Numbers that TensorFlow keeps").
        """
        event = b''.join(summary_v2.scalar_pb(name, value).SerializeToString()
                         for name, value in values.items())
        if event:
            with self._writer.as_default():
                tf.summary.experimental.write_raw_pb(event, step=_step(step))
        if self._trackers is not None:
            self._trackers.scalars(self._part, step, values)

    def image(self, name, step, array):
        """Writes an image, uint8 [H, W, 3], at a step; of many of one name ever fewer.

        TensorBoard shows ten of a name. An image is as large as thousands of scalars. Counted are
        those of this process: a run that was stopped and resumed begins anew.
        """
        number, self._images[name] = self._images[name], self._images[name] + 1
        if number % 2 ** max(0, number.bit_length() - 4):  # 16, then 8 in each doubling
            return
        with self._writer.as_default():
            tf.summary.image(name, array[None], step=_step(step))
        if self._trackers is not None:
            self._trackers.image(self._part, name, step, array)

    def cycle(self, step, lookahead):
        """Called at the end of each cycle: a panel of the same images at g0, g^e and g*."""
        if self._panel is not None:
            self.image('panels', step, self._panel(lookahead))
        self._writer.flush()


def _step(step):
    """A step as NumPy's int64: of Python's numbers TensorFlow keeps every one."""
    return np.asarray(step, np.int64)
