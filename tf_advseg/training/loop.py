"""Taking a method's steps: compiled once per phase, resumable, under any strategy."""
import pathlib
import shutil

import tensorflow as tf

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import progress
from tf_advseg.data import records as record_sets
from tf_advseg.training import checkpoints
from tf_advseg.training import health
from tf_advseg.training import strategy as strategies

STATE = 'state.json'


class Stepper:
    """Compiles each phase of a method once and runs it on all replicas.

    The phase is chosen in Python: applying gradients under tf.cond raises with several replicas.

    Args:
      method: a `methods.base.Method`, built inside the strategy's scope.
      strategy: a tf.distribute.Strategy.
    """

    def __init__(self, method, strategy):
        self._strategy = strategy
        self._method = method
        self._compiled = {}

    def __call__(self, step, batch, seed=None, **scalars):
        """Runs one step.

        Args:
          step: a phase's name, or a bound function of the method that takes (batch[, seed]).
          batch: an element of a dataset from `distribute`.
          seed: int32[2] or None.
          **scalars: floats handed to the step as tensors.

        Returns:
          dict name -> float (global values).
        """
        arguments = (batch,) if seed is None else (batch, tf.constant(seed, tf.int32))
        tensors = {name: tf.constant(value, tf.float32) for name, value in scalars.items()}
        outputs = self._function(step)(arguments, tensors)
        return {name: float(value) for name, value in outputs.items()}

    def local(self, function):
        """A function of tensors compiled once, for this process alone (no replicas)."""
        key = ('local', function.__name__)
        if key not in self._compiled:
            self._compiled[key] = tf.function(function, reduce_retracing=True)
        return self._compiled[key]

    def _function(self, step):
        key = step if isinstance(step, str) else step.__name__
        if key not in self._compiled:
            body = self._method.phases[step] if isinstance(step, str) else step
            strategy = self._strategy

            @tf.function(reduce_retracing=True)
            def run(arguments, tensors):
                outputs = strategy.run(body, args=arguments, kwargs=tensors)
                return tf.nest.map_structure(
                    lambda value: strategy.experimental_local_results(value)[0], outputs)
            self._compiled[key] = run
        return self._compiled[key]


def distribute(dataset, strategy):
    """Splits a dataset of global batches over the replicas; picture ids (strings) stay behind."""
    dataset = dataset.map(lambda batch: {k: v for k, v in batch.items() if v.dtype != tf.string})
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA)
    return strategy.experimental_distribute_dataset(dataset.with_options(options))


def train(stepper, method, batches, num_steps, folder, strategy, streams, metrics, description,
          phase_of=None, checkpoint_every=200, log_every=10, evaluate_every=0, evaluate=None):
    """Takes `num_steps` steps of a method, resuming from `folder`.

    Args:
      stepper: a `Stepper` of the method.
      method: what is trained; its segmentor and optimizer are the state.
      batches: function(first_step) -> dataset of global batches from that step on.
      num_steps: how many steps in all.
      folder: where the state is kept.
      strategy, streams: see training/strategy and core/random_streams.
      metrics: a Journal; cut back to the last durable state on a resume.
      description: the progress bar's and the metrics' name of this stage.
      phase_of: function(step) -> phase name; None is the method's default phase throughout.
      checkpoint_every: steps between durable states.
      log_every: steps between lines in `metrics`.
      evaluate_every: steps between calls of `evaluate()` -> dict, logged too; 0 for never.

    Raises:
      UserError: a loss is not finite.
    """
    folder = pathlib.Path(folder)
    chief = strategies.is_chief(strategy)
    first = _resume(folder, method, metrics, chief)
    if first >= num_steps:
        return
    iterator = iter(distribute(batches(first), strategy))
    with progress.Progress(num_steps - first, description) as bar, record_sets.data_errors():
        for step in range(first, num_steps):
            phase = phase_of(step) if phase_of else method.default_phase
            scalars = stepper(phase, next(iterator), streams.seed('dropout', step))
            if not health.is_finite(scalars):
                raise errors.UserError(
                    f'{description}: the loss is not finite at step {step}; lower the learning '
                    'rate, or look at the data with tools/prepare_data.py')
            bar.update(1, loss=f'{scalars["loss/ce"]:.3f}')
            done = step + 1
            if done % log_every == 0 or done == num_steps:
                metrics.append('stage', stage=description, step=done, **scalars)
            if evaluate_every and evaluate and (done % evaluate_every == 0 or done == num_steps):
                metrics.append('stage', stage=description, step=done, **evaluate())
            if done % checkpoint_every == 0 or done == num_steps:
                _save(folder, done, method, metrics, chief)
                strategies.barrier(strategy)


def _save(folder, step, method, metrics, chief):
    name = f'step-{step:07d}'
    checkpoints.write_state(folder / name, chief, segmentor=method.segmentor,
                            optimizer=method.optimizer)
    if not chief:
        return
    files.write_json(folder / STATE, {'step': step, 'state': name, 'metrics': metrics.position()})
    for other in folder.glob('step-*'):
        if other.name != name:
            shutil.rmtree(other)


def _resume(folder, method, metrics, chief):
    """Restores the last durable state; returns its step (0 if there is none)."""
    if not (folder / STATE).exists():
        return 0
    state = files.read_json(folder / STATE)
    checkpoints.read_state(folder / state['state'], segmentor=method.segmentor,
                           optimizer=method.optimizer)
    if chief:
        metrics.cut_back(state['metrics'])
    return state['step']
