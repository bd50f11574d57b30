"""Taking a method's steps: compiled once per phase, resumable, under any strategy."""
import collections.abc
import dataclasses
import pathlib
import shutil
import time

import numpy as np
import tensorflow as tf

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import progress
from tf_advseg.data.records import record_set as record_sets
from tf_advseg.training import alternation
from tf_advseg.training import checkpoints
from tf_advseg.training import compilation
from tf_advseg.training import health
from tf_advseg.training import profiling
from tf_advseg.training import strategy as strategies

STATE = 'state.json'
ENDED = 'ended'  # in a stage's memory: the step after which it ended before its time


class Scalars(collections.abc.Mapping):
    """A step's global scalars by name; they stay on the device until one of them is read.

    Reading waits until the device has taken the step, so a loop that reads none hands out steps
    ahead of it. What is read is a float.

    Args:
      tensors: dict name -> scalar tensor.
    """

    def __init__(self, tensors):
        self._tensors, self._floats = tensors, None

    def __getitem__(self, name):
        if self._floats is None:
            self._floats = {key: float(value) for key, value in self._tensors.items()}
            self._tensors = None
        return self._floats[name]

    def __iter__(self):
        return iter(self._tensors if self._floats is None else self._floats)

    def __len__(self):
        return len(self._tensors if self._floats is None else self._floats)


def means(taken, count):
    """Sums of the scalars of some steps, each divided by `count`; they are fetched here.

    Args:
      taken: list of `Scalars`.
      count: int above 0.

    Returns:
      dict name -> float.
    """
    totals = {}
    for scalars in taken:
        for name, value in scalars.items():
            totals[name] = totals.get(name, 0.0) + value / count
    return totals


class Stepper:
    """Compiles each phase of a method once, as `compilation` says, and runs it on all replicas.

    The phase is chosen in Python: applying gradients under tf.cond raises with several replicas.

    Args:
      method: a `methods.step_parts.Method`, built inside the strategy's scope.
      strategy: a tf.distribute.Strategy.
    """

    def __init__(self, method, strategy):
        self._strategy = strategy
        self._method = method
        self._compiled = {}
        self._compilation = compilation.compilation()

    def __call__(self, step, batch, seed=None, **scalars):
        """Runs one step.

        Args:
          step: a phase's name, or a bound function of the method that takes (batch[, seed]).
          batch: an element of a dataset from `distribute`.
          seed: int32[2] or None.
          **scalars: floats handed to the step as tensors.

        Returns:
          `Scalars`: name -> float (global values), fetched when one is read.
        """
        arguments = (batch,) if seed is None else (batch, tf.constant(seed, tf.int32))
        # As arrays: TensorFlow keeps every Python number that it is given.
        tensors = {name: tf.constant(np.asarray(value, np.float32))
                   for name, value in scalars.items()}
        with profiling.step() as waits, self._compilation.told(_name(step)):
            scalars = Scalars(self._function(step)(arguments, tensors))
            if waits:
                dict(scalars)
        return scalars

    def local(self, function):
        """A function of tensors compiled once, its inputs not split over replicas.

        With several workers it runs as a replica does: outside, reading moving statistics is a
        collective that all workers would have to join.
        """
        key = ('local', function.__name__)
        if key not in self._compiled:
            strategy = self._strategy

            def on_this_worker(*arguments):
                outputs = strategy.run(function, args=arguments)
                return strategy.experimental_local_results(outputs)[0]
            self._compiled[key] = tf.function(
                on_this_worker if strategies.has_workers(strategy) else function,
                reduce_retracing=True)
        return self._compiled[key]

    def _function(self, step):
        key = _name(step)
        if key not in self._compiled:
            body = self._method.phases[step] if isinstance(step, str) else step
            strategy = self._strategy

            def run(arguments, tensors):
                outputs = strategy.run(body, args=arguments, kwargs=tensors)
                return tf.nest.map_structure(
                    lambda value: strategy.experimental_local_results(value)[0], outputs)
            self._compiled[key] = self._compilation.function(run, strategy)
        return self._compiled[key]


def _name(step):
    return step if isinstance(step, str) else step.__name__


def distribute(dataset, strategy):
    """Splits a dataset of global batches over the replicas; image ids (strings) stay behind.

    Raises:
      UserError: a batch leaves a replica without an image, on which convolutions would fail.
    """
    sizes = {spec.shape[0] for spec in dataset.element_spec.values() if spec.shape.rank} - {None}
    replicas = strategy.num_replicas_in_sync
    for size in sizes:
        if -(-size // replicas) * (replicas - 1) >= size:
            raise errors.UserError(
                f'a batch of {size} over {replicas} replicas leaves one of them without an image; '
                f'give batches of a multiple of {replicas}')
    dataset = dataset.map(lambda batch: {k: v for k, v in batch.items() if v.dtype != tf.string})
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA)
    dataset = dataset.with_options(options)
    if strategies.is_one_cpu(strategy):
        # Nothing to split and no device to fetch to, and TensorFlow's iterator for that autotunes
        # whatever `records.dataset_options` says.
        return dataset
    return strategy.experimental_distribute_dataset(dataset)


def train(stepper, method, batches, plan, folder, strategy, streams, metrics, description,
          checkpoint_every=200, log_every=10, evaluate_every=0, evaluate=None, diagnose_every=0,
          diagnose=None, memory=None, average=None):
    """Takes a method's steps as planned, resuming from `folder`.

    Args:
      stepper: a `Stepper` of the method.
      method: what is trained; `method.state` is what is written down.
      batches: function(stream, first) -> dataset of global batches of a stream from its `first` on.
      plan: with `total` and `turn(step)`, see training/alternation.
      folder: where the state is kept.
      strategy, streams: see training/strategy and core/random_streams.
      metrics: a Journal; on a resume this stage's lines of steps after the last durable state are
        dropped from it.
      description: the progress bar's and the metrics' name of this stage.
      checkpoint_every: steps between durable states.
      log_every: steps of a stream between its lines in `metrics`. A step's scalars are fetched from
        the device when they are logged; those of the others then too, or where something is
        evaluated, diagnosed or saved, at the latest after 50 steps.
      evaluate_every, evaluate: steps of the segmentor between calls of `evaluate(done)`, `done`
        being how many it has taken; 0 for never. It returns a list of dicts, which are logged, and
        is called after the last step as well.
      diagnose_every, diagnose: steps of the segmentor between calls of `diagnose(batch, seed)`
        before the step that takes this batch; 0 for never. It returns a dict, which is logged.
      memory: a dict, JSON-able, that `evaluate` may change: part of the durable state, and filled
        from it on a resume, so that no run goes back behind what it remembers. An `evaluate` that
        puts `ENDED` into it ends the training there.
      average: an `averaging.WeightAverage` of the segmentor, or None: it follows each step of the
        segmentor and is part of the durable state.

    Returns:
      Seconds spent, those of earlier starts included.

    Raises:
      UserError: a loss is not finite; no line and no state of such a step is written.
    """
    folder = pathlib.Path(folder)
    chief = strategies.is_chief(strategy)
    memory = {} if memory is None else memory
    state = method.state if average is None else {**method.state, 'average': average}
    first, seconds = _resume(folder, state, metrics, chief, memory, average, description)
    strategies.barrier(strategy)
    began = time.perf_counter() - seconds
    if first >= plan.total or ENDED in memory:
        return seconds
    source = _Batches(batches, strategy)
    unread = health.UnreadScalars(description)
    hooks = _Hooks(metrics, log_every, evaluate_every, evaluate, diagnose_every, diagnose, average,
                   unread)
    with progress.Progress(plan.total - first, description) as bar, record_sets.data_errors():
        for step in range(first, plan.total):
            turn, done = plan.turn(step), step + 1
            place = _place(description, turn, done, method.step_name)
            last = done == plan.total
            batch = source.next(turn)
            seed = streams.seed('dropout', turn.index, _salt(turn.stream))
            hooks.before(turn, place, batch, seed)
            scalars = stepper(turn.phase, batch, seed)
            saves = done % checkpoint_every == 0 or last
            if unread.add(step, turn.phase, scalars) or saves or hooks.reads(turn, last):
                unread.look()
                bar.update(1, loss=f'{scalars.get("loss/ce", scalars.get("loss/disc")):.3f}')
            else:
                bar.update(1)
            evaluated = hooks.after(turn, place, scalars, last)
            if saves or evaluated:
                _save(folder, done, state, metrics, chief, time.perf_counter() - began, memory)
                strategies.barrier(strategy)
            if ENDED in memory:
                break
    return time.perf_counter() - began


class _Batches:
    """The global batches of each stream, one after another from where its first step asks."""

    def __init__(self, batches, strategy):
        self._batches, self._strategy, self._iterators = batches, strategy, {}

    def next(self, turn):
        """The batch of a step."""
        if turn.stream not in self._iterators:
            self._iterators[turn.stream] = iter(distribute(
                self._batches(turn.stream, turn.index), self._strategy))
        return next(self._iterators[turn.stream])


@dataclasses.dataclass
class _Hooks:
    """What happens around a step: measured, averaged, logged, evaluated; fields as in `train`."""
    metrics: object
    log_every: int
    evaluate_every: int
    evaluate: object
    diagnose_every: int
    diagnose: object
    average: object
    unread: health.UnreadScalars

    def before(self, turn, place, batch, seed):
        """The gradients on the batch that the step will take."""
        if _is_own(turn) and self.diagnose_every and turn.index % self.diagnose_every == 0:
            self.unread.look()  # a diverged network has no gradients to log
            self.metrics.append('gradients', **place, **self.diagnose(batch, seed))

    def reads(self, turn, last):
        """Whether `after` reads what a step has computed, or the weights that it has left."""
        return self._logs(turn, last) or self._evaluates(turn, last)

    def after(self, turn, place, scalars, last):
        """The average follows, then lines are written; returns whether it evaluated."""
        if _is_own(turn) and self.average is not None:
            self.average.after_step()
        if self._logs(turn, last):
            self.metrics.append('stage', **place, **scalars)
        due = self._evaluates(turn, last)
        for found in self.evaluate(turn.index + 1) if due else ():
            self.metrics.append(found.pop('event', 'stage'), **place, **found)
        return due

    def _logs(self, turn, last):
        return (turn.index + 1) % self.log_every == 0 or last

    def _evaluates(self, turn, last):
        return bool(_is_own(turn) and self.evaluate_every and self.evaluate and (
            (turn.index + 1) % self.evaluate_every == 0 or last))


def _is_own(turn):
    """Whether a step is the segmentor's."""
    return turn.stream != alternation.DISCRIMINATOR


def _place(description, turn, done, own_step='segmentor_step'):
    """The keys that identify a step in its log line."""
    name = own_step if _is_own(turn) else 'discriminator_step'
    return {'stage': description, 'step': done, name: turn.index + 1}


def _salt(stream):
    """Makes the draws of the streams differ; the segmentor's has none, as runs always had it."""
    return 'adversary' if stream == alternation.DISCRIMINATOR else 0


def _save(folder, step, state, metrics, chief, seconds, memory):
    name = f'step-{step:07d}'
    checkpoints.write_state(folder / name, chief, **state)
    if not chief:
        return
    metrics.position()  # the lines up to here are on disk
    files.write_json(folder / STATE, {'step': step, 'state': name, 'seconds': seconds,
                                      'memory': memory})
    for other in folder.glob('step-*'):
        if other.name != name:
            shutil.rmtree(other)


def _resume(folder, state, metrics, chief, memory, average, description):
    """Restores the last durable state, or makes the first; returns its step and seconds.

    Lines of this stage's later steps are dropped, and no line of another stage.
    """
    if average is not None:  # what is restored below takes its place
        average.begin()
    if not (folder / STATE).exists():
        if chief:  # so that lines written before the first save are dropped, too
            files.write_json(folder / STATE, {'step': 0, 'state': None, 'seconds': 0.0})
        return 0, 0.0
    found = files.read_json(folder / STATE)
    with files.as_written(folder / STATE):
        step, seconds = int(found['step']), float(found.get('seconds', 0.0))
        kept, there = found.get('memory', {}), found['state'] and folder / found['state']
        memory.update(kept)
    if there:
        checkpoints.read_state(there, **state)
    if chief:
        metrics.drop(lambda line: (line.get('stage') == description
                                   and line.get('step', 0) > step))
    return step, seconds
