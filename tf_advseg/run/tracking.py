"""What a run writes to Weights & Biases or MLflow: the same as to TensorBoard, step by step.

Where to, and as whom, is said by their own environment variables (WANDB_PROJECT, WANDB_MODE,
MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME, …). A run directory is one run there however often it
is taken up again: tracking.json keeps its name. Steps that are done twice, since the process was
killed behind a checkpoint, are there twice.
"""
import importlib
import math
import os
import time

import gin
from absl import logging

from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.run import hyperparameters

WANDB, MLFLOW = 'wandb', 'mlflow'
IDS = 'tracking.json'
_PROJECT = 'tf_advseg'  # where the environment names none


@gin.configurable
def tracking(to=()):
    """The services that a run is written to beside TensorBoard.

    Args:
      to: 'wandb', 'mlflow', both, or none.

    Returns:
      tuple of them.

    Raises:
      UserError: another name.
    """
    names = (to,) if isinstance(to, str) else tuple(to)
    for name in names:
        errors.require_one_of('tracking.to', name, (WANDB, MLFLOW))
    return names


class Trackers:
    """The services of one run, each started on entry and ended on exit.

    What fails once it has started is given up with a warning: training goes on without it.

    Args:
      names: as from `tracking`.
      folder: path, the run directory's.
    """

    def __init__(self, names, folder):
        self._folder, self._names, self._services = folder, names, {}

    def __enter__(self):
        """Starts the services.

        Raises:
          UserError: one is not installed, or cannot be started.
        """
        ids_path = self._folder / IDS
        with files.as_written(ids_path):
            ids = dict(files.read_json(ids_path)) if ids_path.is_file() else {}
        settings = hyperparameters.settings(configuration.config_text()) if self._names else {}
        for name in self._names:
            service = _SERVICES[name]
            try:
                self._services[name] = service(
                    _imported(name), self._folder, settings, ids.get(name))
            except errors.UserError:
                raise
            except Exception as error:  # the libraries raise classes of their own
                raise errors.UserError(f'--track={name}: it cannot be started ({_line(error)}); '
                                       f'{service.hint}') from error
            ids[name] = self._services[name].id
        if self._names:
            files.write_json(ids_path, ids)
        return self

    def __exit__(self, kind, *_):
        self._each('close', kind is not None)

    def scalars(self, part, step, values):
        """Writes numbers of a part of the run ('luc', 'control', …) at a step of it."""
        finite = {name: float(value) for name, value in values.items()
                  if math.isfinite(float(value))}
        self._each('scalars', part, step, finite)

    def image(self, part, name, step, array):
        """Writes an image, uint8 [H, W, 3], at a step."""
        self._each('image', part, name, step, array)

    def results(self, results):
        """Writes mIoU by split and model, as the run's summary.

        Args:
          results: as in results.json.
        """
        self._each('summary', hyperparameters.measured(results))

    def _each(self, method, *arguments_):
        for name, service in list(self._services.items()):
            try:
                getattr(service, method)(*arguments_)
            except Exception as error:  # of a network, a disk, a service: not of this run
                del self._services[name]
                logging.warning('%s: %s; the run goes on without it', name, _line(error))


def _line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _imported(name):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise errors.UserError(f'--track={name}: there is no package {name} here; python -m pip '
                               f"install '{name}' (or 'tf_advseg[{name}]')") from error


class WeightsAndBiases:
    """A run of Weights & Biases; see `Trackers`. Each part of a run has a step of its own."""

    hint = 'run `wandb login`, or set WANDB_MODE=offline'

    def __init__(self, wandb, folder, settings, id_):
        self._wandb, self._parts = wandb, set()
        self._run = wandb.init(
            project=os.environ.get('WANDB_PROJECT', _PROJECT), id=id_, resume='allow',
            name=os.environ.get('WANDB_NAME', folder.resolve().name), dir=str(folder),
            config=settings, settings=wandb.Settings(silent=True))
        self.id = self._run.id

    def _log(self, part, step, values):
        if part not in self._parts:
            self._parts.add(part)
            self._run.define_metric(f'{part}/*', step_metric=f'{part}/step')
        self._run.log({f'{part}/step': step,
                       **{f'{part}/{name}': value for name, value in values.items()}})

    def scalars(self, part, step, values):
        """See `Trackers`."""
        self._log(part, step, values)

    def image(self, part, name, step, array):
        """See `Trackers`."""
        self._log(part, step, {name: self._wandb.Image(array)})

    def summary(self, values):
        """See `Trackers.results`."""
        self._run.summary.update(values)

    def close(self, failed):
        """Ends the run."""
        self._run.finish(exit_code=int(failed))


class MLflow:
    """A run of MLflow; see `Trackers`."""

    hint = ("set MLFLOW_TRACKING_URI to a server's address; without one MLflow keeps a data base "
            'in the current folder')

    def __init__(self, mlflow, folder, settings, id_):
        self._mlflow = mlflow
        self._client = mlflow.MlflowClient()
        self.id = id_ or self._created(folder)
        if id_:
            self._client.update_run(id_, status='RUNNING')
        else:
            for name, value in settings.items():
                self._client.log_param(self.id, _plain(name), value)

    def _created(self, folder):
        name = os.environ.get('MLFLOW_EXPERIMENT_NAME', _PROJECT)
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        return self._client.create_run(experiment, run_name=folder.resolve().name).info.run_id

    def scalars(self, part, step, values):
        """See `Trackers`."""
        entity, now = self._mlflow.entities.Metric, _milliseconds()
        self._client.log_batch(self.id, metrics=[
            entity(_plain(f'{part}/{name}'), value, now, int(step))
            for name, value in values.items()])

    def image(self, part, name, step, array):
        """See `Trackers`."""
        self._client.log_image(self.id, array, key=_plain(f'{part}/{name}'), step=int(step))

    def summary(self, values):
        """See `Trackers.results`."""
        self.scalars('results', 0, values)

    def close(self, failed):
        """Ends the run."""
        self._client.set_terminated(self.id, 'FAILED' if failed else 'FINISHED')


def _milliseconds():
    return int(1000 * time.time())


def _plain(name):
    """A name of letters that MLflow takes."""
    return ''.join(c if c.isalnum() and c.isascii() or c in '_-. /' else '_' for c in name)


_SERVICES = {WANDB: WeightsAndBiases, MLFLOW: MLflow}
