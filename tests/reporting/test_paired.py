"""Paired differences: their interval against SciPy's, and how many runs a finer one takes."""
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tf_advseg.reporting import paired

PAIRS = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=2, max_size=12)


@given(PAIRS)
def test_the_interval_is_that_of_scipys_paired_t_test(pairs):
    found = paired.difference(pairs)
    assert found.count == len(pairs)
    if found.deviation < 1e-6:  # SciPy warns of values that are all but equal
        return
    low, high = stats.ttest_rel(*zip(*pairs)).confidence_interval(0.95)
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx(
        (low, high), rel=1e-6, abs=1e-9)


def test_the_correction_for_shared_training_images_is_nadeau_and_bengios():
    """Of ten folds eight are trained on: variance 1/10 + 1/8 in place of 1/10."""
    deviation = 0.8
    plain = paired.half_width(deviation, 10)
    expected = stats.t.ppf(0.975, 9) * deviation * (1 / 10 + 1 / 8) ** 0.5
    assert paired.corrected(plain, 10, 10) == pytest.approx(expected)
    assert paired.corrected(plain, 10, 1000) == pytest.approx(plain, rel=0.01)
    between = paired.Difference(10, (plain + expected) / 2, deviation, plain)
    assert paired.is_clear(between) and not paired.is_clear(between, 10)
    assert paired.is_clear(between._replace(mean=-1.01 * expected), 10)
    assert paired.is_clear(between, 2)  # without a correction
    assert not paired.is_clear(paired.Difference(1, 3.0))


def test_what_is_not_there_is_a_dash():
    assert str(paired.difference([])) == '–'
    assert str(paired.difference([(2.0, 1.0)])) == '+1.00 –'
    assert str(paired.difference([(2.0, 1.0), (1.0, 1.0)])) == '+0.50 [-5.85, +6.85]'


@given(st.floats(0.01, 20.0), st.floats(0.2, 5.0))
def test_as_many_runs_are_enough_and_one_less_is_not(deviation, half):
    count = paired.runs_for(deviation, half)
    assert paired.half_width(deviation, count) <= half
    assert count == 2 or paired.half_width(deviation, count - 1) > half


def test_a_number_of_runs_that_nobody_makes_is_not_counted():
    assert paired.runs_for(1000.0, 0.5) is None
    assert paired.runs_for(0.0, 0.5) == 2
