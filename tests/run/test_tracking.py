"""Weights & Biases and MLflow: stand-ins that note what they are asked for, and the real ones."""
import os
import sys
import types

import numpy as np
import pytest

from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.experiments.train import training  # noqa: F401  registers the settings
from tf_advseg.run import context as contexts
from tf_advseg.run import tracking


@pytest.fixture(autouse=True)
def _configuration(monkeypatch):
    for name in list(os.environ):
        if name.startswith(('WANDB_', 'MLFLOW_')):
            monkeypatch.delenv(name)
    configuration.parse([], ["experiment.method = 'luc'"])
    yield
    configuration.parse([], [])


class _Wandb(types.ModuleType):
    """Keeps what a run is asked for in `calls`; `fails` names a method that raises."""

    def __init__(self, fails=None):
        super().__init__('wandb')
        self.calls, self.fails = [], fails
        self.Settings = dict
        self.Image = lambda array: ('image', array.shape)

    def init(self, **given):
        self._noted('init', given)
        run = types.SimpleNamespace(id=given['id'] or 'new', summary=types.SimpleNamespace(
            update=lambda values: self._noted('summary', values)))
        for name in ('log', 'define_metric', 'finish'):
            setattr(run, name, lambda *given, name=name, **named: self._noted(
                name, (*given, *named.values())))
        return run

    def _noted(self, name, given):
        if name == self.fails:
            raise ConnectionError('no route\nto the host')
        self.calls.append((name, given))

    def of(self, name):
        return [given for called, given in self.calls if called == name]


@pytest.fixture
def wandb(monkeypatch):
    stand_in = _Wandb()
    monkeypatch.setitem(sys.modules, 'wandb', stand_in)
    return stand_in


def test_a_board_writes_to_the_service_under_its_part_and_step(tmp_path, wandb):
    with tracking.Trackers(('wandb',), tmp_path) as trackers:
        board = contexts.Board(tmp_path / 'tensorboard' / 'luc', trackers=trackers)
        board.scalars(7, {'loss/ce': 0.5, 'gone': float('nan')})
        board.image('panels', 8, np.zeros([2, 3, 3], np.uint8))
        trackers.results({'models': {'Luc': {'test': {'miou': 0.25}, 'holdout': None}}})
    assert wandb.of('init')[0]['config']['experiment.method'] == 'luc'
    assert wandb.of('define_metric') == [('luc/*', 'luc/step')]
    assert wandb.of('log') == [({'luc/step': 7, 'luc/loss/ce': 0.5},),
                               ({'luc/step': 8, 'luc/panels': ('image', (2, 3, 3))},)]
    assert wandb.of('summary') == [{'miou/test/Luc': 0.25}]
    assert wandb.of('finish') == [(0,)]


def test_a_run_taken_up_again_is_the_same_run_there(tmp_path, wandb):
    for _ in range(2):
        with tracking.Trackers(('wandb',), tmp_path):
            pass
    assert [given['id'] for given in wandb.of('init')] == [None, 'new']


def test_a_run_that_fails_is_marked(tmp_path, wandb):
    with pytest.raises(KeyError), tracking.Trackers(('wandb',), tmp_path):
        raise KeyError('x')
    assert wandb.of('finish') == [(1,)]


def test_a_service_that_fails_is_given_up_and_training_goes_on(tmp_path, wandb, caplog):
    wandb.fails = 'log'
    with tracking.Trackers(('wandb',), tmp_path) as trackers:
        for step in (1, 2):
            trackers.scalars('luc', step, {'loss': 1.0})
    assert caplog.text.count('wandb: no route; the run goes on without it') == 1
    assert not wandb.of('finish')


def test_a_service_that_cannot_start_is_one_line(tmp_path, wandb):
    wandb.fails = 'init'
    with pytest.raises(errors.UserError, match=r'--track=wandb: it cannot be started \(no route\); '
                                               'run `wandb login`'):
        tracking.Trackers(('wandb',), tmp_path).__enter__()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', ['wandb', 'mlflow'])
def test_a_package_that_is_missing_is_one_line(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(errors.UserError, match=f"no package {name} here.*'tf_advseg.{name}.'"):
        tracking.Trackers((name,), tmp_path).__enter__()


def test_another_service_is_refused():
    configuration.parse([], ["tracking.to = ('neptune',)"])
    with pytest.raises(errors.UserError, match='unknown tracking.to "neptune"'):
        tracking.tracking()


def test_without_a_service_nothing_is_written(tmp_path):
    with tracking.Trackers((), tmp_path) as trackers:
        trackers.scalars('luc', 1, {'loss': 1.0})
        trackers.results({'models': {}})
    assert not list(tmp_path.iterdir())


def test_where_a_run_is_written_to_is_no_part_of_what_it_is():
    assert configuration.differences("tracking.to = ('wandb',)\n", '', training.MAY_CHANGE) == []


def test_mlflow_keeps_settings_numbers_and_the_end(tmp_path, monkeypatch):
    mlflow = pytest.importorskip('mlflow', reason='the extra mlflow is not installed')
    monkeypatch.setenv('MLFLOW_ALLOW_FILE_STORE', 'true')
    monkeypatch.setenv('MLFLOW_TRACKING_URI', f'file:{tmp_path / "store"}')
    folder = tmp_path / 'mine'
    folder.mkdir()
    for step in (3, 4):  # taken up again: one run
        with tracking.Trackers(('mlflow',), folder) as trackers:
            trackers.scalars('control', step, {'loss/ce': 0.5 / step})
            trackers.image('control', 'panels', step, np.zeros([4, 4, 3], np.uint8))
            trackers.results({'models': {'Stage 1': {'test': {'miou': 0.25}}}})
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name('tf_advseg')
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == 'FINISHED' and run.info.run_name == 'mine'
    assert run.data.params['experiment.method'] == 'luc'
    history = client.get_metric_history(run.info.run_id, 'control/loss/ce')
    assert [(one.step, one.value) for one in history] == [(3, 0.5 / 3), (4, 0.125)]
    assert run.data.metrics['results/miou/test/Stage 1'] == 0.25


def test_weights_and_biases_takes_a_run_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip('wandb', reason='the extra wandb is not installed')
    monkeypatch.setenv('WANDB_MODE', 'offline')
    with tracking.Trackers((wandb.__name__,), tmp_path) as trackers:
        trackers.scalars('control', 3, {'loss/ce': 0.5})
        trackers.image('control', 'panels', 3, np.zeros([4, 4, 3], np.uint8))
    assert list((tmp_path / 'wandb').glob('offline-run-*/*.wandb'))
