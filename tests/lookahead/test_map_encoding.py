"""One map: its kinds, their precision, what is refused, and how large it can get."""
import numpy as np
import pytest

from tf_advseg.lookahead import map_encoding


def test_soft_maps_are_half_precision_logits():
    values = np.random.default_rng(0).normal(0, 8, (4, 5, 3)).astype('f4')
    back = map_encoding.decode(map_encoding.encode(values, 'soft'), 'soft')
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, values, rtol=2 ** -11, atol=1e-7)
    extreme = np.array([[[1e9, -1e9, np.inf, -np.inf, 70000.0]]], 'f4')
    stored = map_encoding.encode(extreme, 'soft')
    assert np.isfinite(stored).all() and stored.max() == 65504 and stored.min() == -65504


def test_quantised_probabilities_and_hard_ids():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), (4, 5)).astype('f4')
    stored = map_encoding.encode(probabilities, 'quantised')
    assert stored.dtype == np.uint8
    back = map_encoding.decode(stored, 'quantised')
    assert back.dtype == np.float32 and np.abs(back - probabilities).max() <= 0.5 / 255 + 1e-6
    assert map_encoding.encode(stored, 'quantised') is stored
    ids = np.array([[0, 255], [7, 20]])
    np.testing.assert_array_equal(map_encoding.encode(ids, 'hard'), ids)


@pytest.mark.parametrize('array, kind, word', [
    (np.zeros((3, 3)), 'soft', 'axes'), (np.zeros((3, 3, 2)), 'hard', 'axes'),
    (np.full((2, 2, 2), np.nan), 'soft', 'NaN'), (np.full((2, 2, 2), np.nan), 'quantised', 'NaN'),
    (np.full((2, 2), 256), 'hard', '0..255'), (np.full((2, 2), -1), 'hard', '0..255'),
    (np.zeros((2, 2)), 'hard', 'integer'), (np.full((2, 2, 2), 3.0), 'quantised', 'probabilities')])
def test_what_is_no_map_is_refused(array, kind, word):
    with pytest.raises(ValueError, match=word):
        map_encoding.encode(array, kind)


@pytest.mark.parametrize('kind, shape', [('soft', (33, 33, 21)), ('hard', (129, 129)),
                                         ('quantised', (65, 65, 8)), ('hard', (1, 1))])
def test_the_bound_holds_for_incompressible_maps(kind, shape):
    noise = np.random.default_rng(0).integers(0, 256, np.prod(shape) * 2, np.uint8)
    stored = noise.view(map_encoding.STORED_DTYPE[kind])[:np.prod(shape)].reshape(shape)
    for level in (0, 1, 9):
        assert len(map_encoding.pack(stored, level)) <= map_encoding.packed_bound(shape, kind)
