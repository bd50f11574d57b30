"""A step of every method on a GPU equals the CPU's, and on two GPUs equals one.

Tolerances and where they come from: tf_advseg/experiments/benchmarks/device_steps.py. TF32 is off.
"""
import pytest
import tensorflow as tf

from tf_advseg.experiments.benchmarks import device_steps
from tf_advseg.experiments.benchmarks import gpu_comparison

CASES = device_steps.cases(tuple(device_steps.NETWORKS))
# Whose bodies run without a GPU too, two logical CPUs in its place; the quickest.
SMOKE = device_steps.Case('LoAd: discriminator', 'farabet')


def compared(case, reference, other):
    """How far a step on two strategies, from one start, lies apart: device_steps.Difference."""
    with gpu_comparison.full_float32():
        first = device_steps.Trial(case, reference)
        one = first.outcome()
        two = device_steps.Trial(case, other, start=first.start).outcome()
    assert one.moved() > 1e-4  # the comparison is not one of standing still
    return device_steps.difference(one, two, case.allowed)


@pytest.mark.parametrize('case', CASES, ids=str)
def test_a_gpu_takes_the_cpus_step(gpu, case):
    found = compared(case, device_steps.on('/cpu:0'), device_steps.on(gpu))
    assert found.within, found


@pytest.mark.parametrize('case', CASES, ids=str)
def test_two_gpus_take_the_step_of_one(two_gpus, case):
    found = compared(case, device_steps.on('/gpu:0'), two_gpus)
    assert found.within, found


@pytest.mark.parametrize('case', [
    pytest.param(SMOKE, id=str(SMOKE)),
    *(pytest.param(case, id=str(case), marks=pytest.mark.slow) for case in CASES
      if case != SMOKE and case.network in device_steps.LIGHT)])
def test_the_same_bodies_on_two_logical_cpus(two_replicas, case):
    for other in (device_steps.on('/cpu:1'), two_replicas):
        found = compared(case, device_steps.on('/cpu:0'), other)
        assert found.within, found


def test_tf32_is_off_in_the_block_and_as_before_behind_it():
    state = tf.config.experimental.tensor_float_32_execution_enabled
    before = state()
    with pytest.raises(RuntimeError), gpu_comparison.full_float32():
        assert not state()
        raise RuntimeError
    assert state() == before
