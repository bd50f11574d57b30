"""Comparisons of predictions that different kernels made: of two classes that tie, either is right.

Another batch size, or a graph in the place of single calls, may be computed by other kernels, which
add up in another order. Scores then differ by a few float32 epsilons, and a pixel whose two best
classes are that near to each other may change its class.
"""
import numpy as np

# Of scores of about 1 some 30 epsilons of float32 are 4e-6; what is nearer than this counts as one.
NEAR = 1e-4


def assert_same_counts(found, expected, share=1e-3):
    """Two confusion matrices of the same pixels are equal, but for a share of ties."""
    np.testing.assert_array_equal(found.sum(axis=1), expected.sum(axis=1))
    moved = np.abs(found - expected).sum() / 2  # a pixel that moves is lacking here, too many there
    assert moved <= share * expected.sum(), (moved, expected.sum())


def assert_same_classes(ids, expected, probabilities, share=1e-2):
    """Two class maps are equal wherever the best probability leads by NEAR: all but a share."""
    best = np.sort(probabilities, axis=-1)
    clear = best[..., -1] - best[..., -2] > NEAR
    assert clear.mean() >= 1.0 - share
    np.testing.assert_array_equal(np.asarray(ids)[clear], np.asarray(expected)[clear])
