"""A control is trained once for runs that differ in their adversaries alone."""
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core import configuration, journal
from tf_advseg.core.errors import UserError
from tf_advseg.experiments import adversarial, adversarial_outcome, networks, outcome, training

OPTIONS = {'num_train': 4, 'num_val': 2, 'num_test': 1, 'size': (33, 33), 'smallest': (33, 33)}
BINDINGS = ("dataset.reader = 'shapes'", f'dataset.options = {OPTIONS!r}',
            'dataset.holdout_fraction = 1', 'experiment.crop_size = 33',
            "experiment.network = 'farabet'", 'farabet.hidden = 8',
            'build_pixel_discriminator.widths = (4, 8)', 'durall.map_stride = 4',
            'adversarial_stage.steps = 2', 'adversarial_stage.batch_size = 2',
            'adversarial_stage.train_pictures = 0', 'adversarial_stage.diagnose_every = 0',
            'swa.every = 1')


def start(workdir, *bindings):
    """(results, which stages were trained) of a run without its report."""
    configuration.parse(['gin/methods/durall.gin'], [*BINDINGS, *bindings])
    trained, run = [], adversarial._Runner.run

    def watched(self, folder):
        trained.append(folder.name)
        return run(self, folder)
    with mock.patch.object(adversarial_outcome, 'report'), mock.patch.object(
            adversarial._Runner, 'run', watched):
        return training.experiment(workdir, tf.distribute.get_strategy()), trained


@pytest.fixture(scope='module')
def first(tmp_path_factory):
    """(folder, results) of a run with its control."""
    path = tmp_path_factory.mktemp('shared') / 'first'
    results, trained = start(path)
    assert trained == ['durall', 'control']
    yield path, results


def values(run, name):
    segmentor, _, _ = networks.load(run / 'checkpoints' / name)
    return [v.numpy() for v in segmentor.variables]


def test_another_adversary_has_the_same_control(first, tmp_path, capsys):
    path, before = first
    bindings = (f"experiment.control_from = '{path}'", "build_pixel_discriminator.kind = 'picture'",
                'durall.adversarial_weight = 3.0')
    results, trained = start(tmp_path / 'run', *bindings)
    assert trained == ['durall'] and f'control: taken over from {path}' in capsys.readouterr().out
    for column in (outcome.CONTROL, outcome.CONTROL + outcome.AVERAGED):
        assert results['models'][column] == before['models'][column]
    for name in ('control', 'control_averaged'):
        for a, b in zip(values(path, name), values(tmp_path / 'run', name)):
            np.testing.assert_array_equal(a, b)
    lines = [[line for line in journal.Journal.read(run / 'metrics.jsonl')
              if line.get('stage') == 'control'] for run in (path, tmp_path / 'run')]
    assert lines[0] and lines[0] == lines[1]  # the report's curves have them
    again, trained = start(tmp_path / 'run', *bindings)  # nothing is copied or trained twice
    assert not trained and again['models'] == results['models']
    assert [line for line in journal.Journal.read(tmp_path / 'run' / 'metrics.jsonl')
            if line.get('stage') == 'control'] == lines[0]


def test_another_training_has_a_control_of_its_own(first, tmp_path, capsys):
    path, _ = first
    _, trained = start(tmp_path / 'run', f"experiment.control_from = '{path}'",
                       'segmentor_optimizer.learning_rate = 0.01')
    assert trained == ['durall', 'control']
    text = capsys.readouterr().out
    assert 'control: trained here' in text and 'another configuration' in text


def test_a_folder_that_is_no_run_is_told(tmp_path):
    with pytest.raises(UserError) as caught:
        start(tmp_path / 'run', f"experiment.control_from = '{tmp_path}'")
    assert 'not a run directory' in str(caught.value) and '\n' not in str(caught.value)
    assert not (tmp_path / 'run' / 'stages').exists()  # told before anything is trained
