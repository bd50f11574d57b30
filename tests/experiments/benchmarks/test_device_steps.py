"""Steps on two devices: what is told of their difference, and that a wrong device is found out."""
import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.experiments.benchmarks import device_steps
from tf_advseg.run import networks

CASE = device_steps.Case('Durall: discriminator', 'farabet')


@pytest.fixture(scope='module')
def trial():
    return device_steps.Trial(CASE, device_steps.on('/cpu:0'))


def outcome(moved, loss=1.0, more=None):
    """A step that moved a weight of 1.0 by `moved`."""
    start = np.full([4], 1.0, np.float32)
    return device_steps.Outcome({'loss/ce': loss, 'disc/acc_real': 0.5, **(more or {})},
                                {'w': start}, {'w': start + np.float32(moved)})


def test_steps_and_networks_are_complete():
    """Every network of the package; every method with each of its networks' steps."""
    assert set(device_steps.NETWORKS) == set(networks.NETWORKS)
    found = device_steps.cases(tuple(device_steps.NETWORKS))
    assert [case.step for case in found if case.network == 'farabet'] == list(device_steps.steps())
    assert [case.network for case in found if case.network != 'farabet'] == list(
        device_steps.NETWORKS)[1:]
    text = ' '.join(device_steps.steps())
    assert all(method in text for method in ('Stage 1', 'LoAd', 'Luc', 'Durall', 'Hung', 'Zhu'))


def test_a_difference_is_relative_to_the_update_and_not_to_the_weight():
    found = device_steps.difference(outcome(0.01), outcome(0.011))
    assert found.update == pytest.approx(0.1, rel=1e-3) and found.loss == 0.0
    assert not found.within and found.where == 'w'
    assert device_steps.difference(outcome(0.01), outcome(0.01005)).within
    assert device_steps.difference(outcome(0.01), outcome(0.011), allowed=0.2).within


def test_the_last_place_of_a_weight_is_no_difference():
    """A weight of 1 cannot tell an update of 1e-6 from one of 1e-6 and a little."""
    one = outcome(1e-6)
    other = dataclasses.replace(one, after={'w': np.nextafter(one.after['w'], np.float32(2))})
    assert device_steps.difference(one, other).update == 0.0
    assert device_steps.difference(one, outcome(3e-6)).update > 1.0
    assert device_steps.difference(outcome(0.0), outcome(0.1)).update == np.inf


def test_losses_count_and_decisions_do_not():
    one = outcome(0.01)
    assert device_steps.difference(one, outcome(0.01, loss=1.01)).loss == pytest.approx(0.01 / 1.01)
    assert device_steps.difference(one, outcome(0.01, more={'disc/acc_real': 1.0})).loss == 0.0
    assert not device_steps.difference(one, outcome(0.01, loss=float('nan'))).within
    assert not device_steps.difference(one, outcome(float('nan'))).within
    with pytest.raises(ValueError, match='two different steps'):
        device_steps.difference(one, outcome(0.01, more={'loss/adv': 1.0}))


def test_a_trial_repeats_its_step_to_the_bit_and_moves_what_it_trains(trial):
    one, other = trial.outcome(), trial.outcome()  # threads add in a fixed order on a CPU
    assert one.moved() > 1e-3
    for name, value in one.after.items():
        np.testing.assert_allclose(value, other.after[name], rtol=1e-5, atol=1e-7)
        moved = np.linalg.norm(value - one.before[name]) > 0
        assert moved == name.startswith('encoder_decoder/'), name


@pytest.mark.parametrize('fault', ['wrong kernel', 'other start'])
def test_a_device_that_computes_otherwise_is_found_out(trial, monkeypatch, fault):
    right = trial.outcome()
    if fault == 'other start':
        start = [value * np.float32(1.05) if value.ndim == 4 else value for value in trial.start]
        found = device_steps.Trial(CASE, device_steps.on('/cpu:0'), start=start).outcome()
    else:
        convolution = tf.nn.conv2d

        def mirrored(x, kernel, *arguments, **words):
            """A convolution where a correlation is meant."""
            return convolution(x, kernel[::-1, ::-1], *arguments, **words)
        monkeypatch.setattr(tf.nn, 'conv2d', mirrored)
        found = device_steps.Trial(CASE, device_steps.on('/cpu:0'), start=trial.start).outcome()
    assert not device_steps.difference(right, found, device_steps.DEEP_UPDATE).within
