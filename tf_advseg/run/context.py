"""What every part of an experiment needs: run directory, data, strategy, random streams."""
import dataclasses
import tempfile

import numpy as np
import tensorflow as tf

from tf_advseg.core import journal
from tf_advseg.data import pipeline
from tf_advseg.evaluation import evaluator
from tf_advseg.evaluation import metrics as figures
from tf_advseg.models import segmentor as segmentors
from tf_advseg.training import strategy as strategies


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
    """
    run: object
    data: object
    strategy: object
    streams: object
    crop_size: tuple
    description: object
    _arrays: dict = dataclasses.field(default_factory=dict)
    _evaluators: dict = dataclasses.field(default_factory=dict)

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
        """A `Board` below the run's tensorboard folder; on other workers one in a scratch folder."""
        folder = self.run.tensorboard / name if self.chief else tempfile.mkdtemp()
        return Board(folder, panel)

    def holdout_evaluator(self, segmentor, batch_size=8):
        """The Evaluator on the hold-out, which is decoded, padded and cached once.

        Stage 1, LoAd and the control are handed the same one: what it compiles takes longer than
        many an evaluation.
        """
        # LoAd evaluates after every propagation: decode and pad once.
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
        """int64 [C, C] of pictures at their own resolution, each padded as it would be alone.

        `holdout_evaluator` pads all to the size of the largest, which a network that is not used
        to padding answers for: 2 points of mIoU with `farabet` and upright pictures among others.
        """
        sizes = pipeline.padded_sizes(self.data.records.image_sizes(ids), self.crop_size,
                                      _stride(segmentor))
        # Counts do not hang on the order, and pictures of one size share batches.
        ordered = [ids[i] for i in np.lexsort(sizes.T)]

        def batches():
            return pipeline.whole_pictures(
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
        """Scores on pictures at their own resolution.

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

    def cut_back(self, position):
        """Does nothing; there is nothing."""
        del position


class BoardedJournal:
    """A metrics journal whose stage lines go to TensorBoard as well."""

    def __init__(self, journal_, board):
        self._journal = journal_
        self._board = board

    def append(self, event, step=0, **fields):
        """Writes a line, and its numbers to TensorBoard, by split where it names one.

        There a network's own steps count, so that a run and its control lie over each other.
        """
        own = ('generator_step', 'adversary_step')
        part = f'{fields["split"]}/' if 'split' in fields else ''
        numbers = {part + k: v for k, v in fields.items()
                   if isinstance(v, (int, float)) and k not in own}
        self._board.scalars(next((fields[k] for k in own if k in fields), step), numbers)
        return self._journal.append(event, step=step, **fields)

    def position(self):
        """The journal's."""
        return self._journal.position()

    def cut_back(self, position):
        """Of the journal; TensorBoard shows steps done twice twice."""
        self._journal.cut_back(position)


class Board:
    """TensorBoard scalars and panels of a run.

    Args:
      folder: the run's tensorboard/ folder and a name below it.
    """

    def __init__(self, folder, panel=None):
        self._writer = tf.summary.create_file_writer(str(folder))
        self._panel = panel

    def scalars(self, step, values):
        """Writes a dict of numbers at a step."""
        with self._writer.as_default():
            for name, value in values.items():
                tf.summary.scalar(name, value, step=step)

    def picture(self, name, step, array):
        """Writes a picture, uint8 [H, W, 3], at a step."""
        with self._writer.as_default():
            tf.summary.image(name, array[None], step=step)

    def cycle(self, step, lookahead):
        """Called at the end of each cycle: a panel of the same pictures at g0, g^e and g*."""
        if self._panel is not None:
            picture = self._panel(lookahead)
            with self._writer.as_default():
                tf.summary.image('panels', picture[None], step=step)
        self._writer.flush()
