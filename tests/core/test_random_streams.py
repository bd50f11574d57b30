"""Streams are separate, depend on (seed, name, step, salt) alone, and never change."""
import numpy as np
from hypothesis import given, settings, strategies as st

from tf_advseg.core.random_streams import STREAMS, RandomStreams


def test_values_are_pinned():
    # A change here changes every run and every split ever made.
    streams = RandomStreams(7)
    assert streams.seed('dropout', 3).tolist() == [1864326444, -2075886507]
    assert streams.generator('split').integers(0, 1000, 4).tolist() == [409, 212, 66, 725]


def test_type_and_shape():
    seed = RandomStreams(0).seed('data', np.int64(5))
    assert seed.dtype == np.int32 and seed.shape == (2,)
    np.testing.assert_array_equal(seed, RandomStreams(np.int64(0)).seed('data', 5))


def test_order_of_use_has_no_effect():
    first, second = RandomStreams(1), RandomStreams(1)
    first.seed('diagnostics', 0)
    first.generator('diagnostics').random(100)
    np.testing.assert_array_equal(first.seed('data', 4), second.seed('data', 4))
    assert first.generator('data', 2).random() == second.generator('data', 2).random()


def test_all_streams_steps_salts_and_seeds_differ():
    drawn = [tuple(RandomStreams(seed).seed(name, step, salt))
             for seed in (0, 1, 11) for name in STREAMS for step in (0, 1, 11) for salt in (0, 1)]
    assert len(set(drawn)) == len(drawn)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**40), st.integers(0, 2**40), st.integers(0, 2**40))
def test_any_two_steps_differ(seed, a, b):
    streams = RandomStreams(seed)
    assert (tuple(streams.seed('data', a)) == tuple(streams.seed('data', b))) == (a == b)


def test_seeds_are_spread_evenly():
    seeds = np.stack([RandomStreams(3).seed('augment', step) for step in range(2000)])
    # Mean of uniform int32 is 0 with a standard error of 2^32/sqrt(12·2000).
    assert np.all(np.abs(seeds.astype(np.float64).mean(0)) < 5 * 2**32 / np.sqrt(12 * 2000))
