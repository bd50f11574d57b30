"""Averages of a segmentor's weights along its training (SWA), and what batch norm needs after it.

Durall et al. (section 3.4, eq. 7, Algorithm 1) keep theta_swa beside theta_gen, move it every n-th
iteration and use it "at testing time" alone: the training never sees it. Algorithm 1 prints
theta_swa^0 = theta_disc^0; the two have nothing in common but the symbol, so theta_gen^0 is meant.

`tfa.optimizers.SWA` is not used: it wants a legacy optimizer, writes zeros when it is asked before
its first snapshot, has the second reading alone and leaves batch norm to its user.
"""
import contextlib
import dataclasses
from typing import Optional

import gin
import numpy as np
import tensorflow as tf

from tf_advseg.core import arguments
from tf_advseg.core import errors
from tf_advseg.models import segmentor as segmentors
from tf_advseg.training import checkpoints
from tf_advseg.training import loop

READINGS = ('constant', 'models')


class WeightAverage(tf.Module):
    """theta_swa over a segmentor's trainable variables (eq. 7).

    Build it in the strategy's scope: the averages then lie beside the variables on every replica,
    and each replica moves its own, outside of any step.

    Args:
      variables: the segmentor's trainable variables, float32.
      every: steps between two updates: "if mod(i, n) = 0". i counts the segmentor's steps from 1:
        Algorithm 1's, from 0, would take in the weights after the first step as well.
      constant: n of eq. 7 in the reading 'constant'; None is `every`, as printed.
      reading: 'constant': theta_swa <- (theta_swa n + theta) / (n + 1) with one n for ever;
        'models': n is how many models are in the average so far, theta at the start being the
        first: their plain mean (Izmailov et al., 2018).
      start: the step at which theta_swa <- theta; 0 for the weights as the stage begins.

    Attributes:
      averages: list of float32 variables of the same shapes. Until `start` they mean nothing.
      steps: int64, steps counted.
      models: int64, how many models went into the averages; 0 before `start`.
    """

    def __init__(self, variables, every, constant=None, reading='constant', start=0, name=None):
        super().__init__(name=name or 'weight_average')
        self.every, self.reading, self.start = int(every), reading, int(start)
        self.constant = float(every if constant is None else constant)
        strategy = tf.distribute.get_strategy()
        self.averages = [tf.Variable(v.read_value(), trainable=False, name=f'average_{place}')
                         for place, v in enumerate(variables)]
        first = dict(trainable=False, dtype=tf.int64,
                     aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)
        self.steps = tf.Variable(0, name='steps', **first)
        self.models = tf.Variable(int(self.start == 0), name='models', **first)
        self._counted = None
        # Past the Module's __setattr__, which would write the network down as a part of this.
        object.__setattr__(self, '_local', strategy.experimental_local_results)
        object.__setattr__(self, '_pairs', list(zip(self._here(self.averages),
                                                    self._here(variables))))

    def _here(self, variables):
        """The plain variables of this process' replicas, one after another."""
        return [one for variable in variables for one in self._local(variable)]

    @property
    def started(self):
        """Whether there is an average yet."""
        return int(self.models.read_value()) > 0

    def begin(self):
        """Counts from here: the weights as they are now are those that the stage begins with."""
        self.steps.assign(0)
        self._counted = 0
        self.models.assign(int(self.start == 0))
        self._take()

    def was_restored(self):
        """Called after a restore has set `steps`: what Python remembers of it is void."""
        self._counted = None

    def after_step(self):
        """Call it after each step of the segmentor, outside of `strategy.run`."""
        self.steps.assign_add(1)
        # Counted in Python too: to read the variable at every step would wait for the device.
        self._counted = (int(self.steps.read_value()) if self._counted is None
                         else self._counted + 1)
        step = self._counted
        if step == self.start:
            self._take()
            self.models.assign(1)
        elif step > self.start and step % self.every == 0:
            n = self.constant if self.reading == 'constant' else int(self.models.read_value())
            self._move(tf.constant(np.asarray(n, np.float32)))
            self.models.assign_add(1)

    @tf.function
    def _take(self):
        for average, variable in self._pairs:
            with tf.device(average.device):
                average.assign(variable)

    @tf.function
    def _move(self, n):
        # Eq. 7 so written that weights which stand still stay as they are, to the bit.
        for average, variable in self._pairs:
            with tf.device(average.device):
                average.assign_add((variable - average) / (n + 1.0))

    @contextlib.contextmanager
    def swapped(self, segmentor):
        """The averages are in the network; on leaving, all of its variables are as they were.

        Before `start` was reached they are the network's own weights: theta_swa is theta then.

        Args:
          segmentor: whose trainable variables were given; what is not trained (statistics of batch
            norm) is put back, too, whatever was done to it.
        """
        kept = [(variable, variable.read_value()) for variable in self._here(segmentor.variables)]
        try:
            if self.started:
                for average, variable in self._pairs:
                    variable.assign(average.read_value())
            yield
        finally:
            for variable, value in kept:
                variable.assign(value)

    def description(self):
        """JSON-able: how the averages came about."""
        return {'models': int(self.models.read_value()), 'every': self.every,
                'constant': self.constant if self.reading == 'constant' else None,
                'reading': self.reading, 'start': self.start}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Stochastic weight averaging (Durall et al., section 3.4) of any method's segmentor.

    With n = 100 constant, as printed, 90 % of the weights that training began with are still in the
    average after 1,000 steps ((100/101)^10 = 0.905), and 14 % after the paper's 20,000
    ((100/101)^200 = 0.137). A shorter training scales n, `every` and with it `constant`: as much as
    in the paper is left for n = sqrt(steps / 2), 22 for 1,000 steps.

    Attributes:
      enabled: off by default.
      every: n of Algorithm 1's "if mod(i, n) = 0": steps between two updates.
      constant: n of eq. 7; None for the same as `every`, as the paper has it.
      reading: of eq. 7, 'constant' or 'models', see `WeightAverage`; the paper prints the first
        and cites the second.
      start: th_swa, the share of the stage's steps before averaging starts; 0 was the best.
      reestimate_batch_norm: whether the averaged network gets statistics of its own, from training
        images; None: exactly where the training used batch statistics. Not in the paper.
      batch_norm_batches: how many batches that takes; None for one pass over the training images.

    Raises:
      UserError: a setting out of range.
    """
    enabled: bool = False
    every: int = 100
    constant: Optional[float] = None
    reading: str = 'constant'
    start: float = 0.0
    reestimate_batch_norm: Optional[bool] = None
    batch_norm_batches: Optional[int] = None

    def __post_init__(self):
        arguments.require_flag('swa', 'enabled', self.enabled)
        errors.require_one_of('swa.reading', self.reading, READINGS)
        arguments.require_number('swa', 'every', self.every, least=1, whole=True,
                                 hint='100 in the paper')
        arguments.require_number('swa', 'start', self.start, least=0, most=1,
                                 hint='the share of the steps before averaging starts')
        if self.constant is not None:
            arguments.require_number('swa', 'constant', self.constant, above=0,
                                     hint='or None for swa.every')
            if self.reading != 'constant':
                raise errors.UserError(
                    f'swa.constant = {self.constant!r} with swa.reading = {self.reading!r}, which '
                    'counts the models instead; set one of the two to its default')
        if self.reestimate_batch_norm is not None:
            arguments.require_flag('swa', 'reestimate_batch_norm', self.reestimate_batch_norm)
        if self.batch_norm_batches is not None:
            arguments.require_number('swa', 'batch_norm_batches', self.batch_norm_batches, least=1,
                                     whole=True, hint='or None for one pass over the images')

    def build(self, segmentor, steps=None, live=None):
        """The `WeightAverage` of a stage; call it in the strategy's scope.

        Args:
          segmentor: the network.
          steps: of the segmentor in this stage; None where nobody knows.
          live: whether this stage trains with batch statistics; None for what the network says.

        Returns:
          WeightAverage; None where averaging is off.

        Raises:
          UserError: nothing would ever be averaged; a start after nobody knows how many steps;
            statistics are to be re-estimated that this stage does not move.
        """
        if not self.enabled:
            return None
        self.reestimates(segmentor, live)
        if steps is None and self.start:
            raise errors.UserError(f'swa.start = {self.start!r}: a fraction of the steps, and how '
                                   'many there will be nobody knows before (LoAd, early stopping); '
                                   'set it to 0')
        start = round(self.start * steps) if steps else 0
        first = (start // self.every + 1) * self.every
        if steps is not None and first > steps:
            raise errors.UserError(f'swa.every = {self.every}: this stage has {steps} steps and '
                                   f'averaging starts after {start}, so nothing would be averaged; '
                                   'set swa.every lower (and with it swa.constant, if set)')
        return WeightAverage(segmentor.trainable_variables, self.every, self.constant,
                             self.reading, start)

    def reestimates(self, segmentor, live=None):
        """Whether the averaged network's batch norms are given statistics of their own.

        Raises:
          UserError: they are asked for, and this stage does not use batch statistics.
        """
        live = segmentor.fine_tune_batch_norm if live is None else live
        has = bool(live) and bool(batch_norms(segmentor))
        if self.reestimate_batch_norm and not has:
            reason = 'frozen (fine_tune_batch_norm = False)' if not live else 'folded or absent'
            raise errors.UserError('swa.reestimate_batch_norm = True: the batch norm of this '
                                   f'network is {reason}, its statistics are not trained; leave it '
                                   'at None')
        return has if self.reestimate_batch_norm is None else bool(self.reestimate_batch_norm)


swa = gin.external_configurable(Settings, name='swa', module='tf_advseg.training.averaging')


def batch_norms(segmentor):
    """The batch-norm layers of a network whose statistics training moves, of any kind."""
    return [layer for layer in segmentor._flatten_layers() if layer.trainable and all(
        hasattr(layer, part) for part in ('moving_mean', 'moving_variance', 'momentum'))]


@contextlib.contextmanager
def _momentum_zero(norms):
    """While this is open, what is traced leaves a batch's own statistics in the moving ones."""
    momenta = [layer.momentum for layer in norms]
    try:
        for layer in norms:
            layer.momentum = 0.0
        yield
    finally:
        for layer, momentum in zip(norms, momenta):
            layer.momentum = momentum


def reestimate_batch_norm(segmentor, batches, strategy):
    """Replaces the moving statistics by the mean of the batches' own, taken in float64.

    Averaged weights have seen no image: the moving statistics belong to other weights. Each
    batch's are those that a training step would have used: of the global batch in our layers, of a
    replica's part in a Keras batch norm that is not synchronised (their mean then). The same
    batches give the same bits. A network that is trained with frozen statistics is left alone.

    Args:
      segmentor: the network, built in the strategy's scope; no trainable variable is changed.
      batches: a finite tf.data.Dataset of global training batches; the smaller counts for less.
      strategy: the tf.distribute.Strategy.

    Returns:
      How many batches there were; 0 where the network was left alone.

    Raises:
      ValueError: no batches.
    """
    norms = batch_norms(segmentor)
    if not norms or not segmentor.fine_tune_batch_norm:
        return 0
    statistics = [v for layer in norms for v in (layer.moving_mean, layer.moving_variance)]
    function = _batch_statistics(segmentor, norms, statistics, strategy)
    total, images, count = 0.0, 0.0, 0
    for batch in loop.distribute(batches, strategy):
        found = function(batch['image'], tf.constant([0, count], tf.int32)).numpy()
        found = found.astype(np.float64)
        total, images, count = total + found[:-1] * found[-1], images + found[-1], count + 1
    if not count:
        raise ValueError('reestimate_batch_norm needs at least one batch')
    parts = np.split(total / images, np.cumsum([v.shape.num_elements() for v in statistics])[:-1])
    with strategy.scope():
        checkpoints.assign(statistics, [
            part.reshape(v.shape).astype(v.dtype.as_numpy_dtype)
            for v, part in zip(statistics, parts)])
    return count


def _batch_statistics(segmentor, norms, statistics, strategy):
    """Compiled: (images, seed) -> a batch's statistics, one after another, and its images."""
    def on_replica(image, seed):
        segmentors.apply(segmentor, image, training=True, dropout_seed=seed)
        context = tf.distribute.get_replica_context()
        parts = [tf.reshape(tf.cast(v.read_value(), tf.float32), [-1]) for v in statistics]
        flat = tf.concat(parts, 0) / context.num_replicas_in_sync
        number = tf.cast(tf.shape(image)[:1], tf.float32)
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.concat([flat, number], 0))

    @tf.function(reduce_retracing=True)
    def run(image, seed):
        with _momentum_zero(norms):  # read while this is traced
            outputs = strategy.run(on_replica, args=(image, seed))
        return strategy.experimental_local_results(outputs)[0]

    return run
