"""What tells maps apart without structure: the statistics, the AUC, audits of simple encodings."""
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st

from tf_advseg.adversaries import bottleneck
from tf_advseg.adversaries import cues
from tf_advseg.adversaries import encodings

C, STRIDE, SIDE = 4, 8, 65
GRID = (9, 9)


def by_hand(first, second):
    """P(a > b) + P(a = b) / 2 over all pairs."""
    won = [(a > b) + 0.5 * (a == b) for a in first for b in second]
    return max(np.mean(won), 1 - np.mean(won))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=9),
       st.lists(st.integers(0, 5), min_size=1, max_size=9))
def test_the_auc_is_the_share_of_pairs_won(first, second):
    assert cues.auc(first, second) == pytest.approx(by_hand(first, second))


def test_statistics_of_a_map_that_is_known():
    maps, valid = np.zeros((4, 4, 2)), np.ones((4, 4), bool)
    maps[:, :2, 0] = maps[:, 2:, 1] = 1.0  # a border down the middle
    found = dict(zip(cues.STATISTICS, cues.statistics(maps, valid, (4, 4))))
    # Of 12 steps down and 12 along, 4 cross the border, each by 1 in both classes.
    assert found['gradient energy'] == pytest.approx(4 * 2 / 24)
    assert found['total variation'] == pytest.approx(4 * 2 / 24)
    assert found['entropy'] == pytest.approx(0.0) and found['largest value'] == 1.0
    assert found['exact zeros and ones'] == 1.0 and found['above Nyquist'] == 0.0
    assert dict(zip(cues.STATISTICS, cues.statistics(maps, valid, (2, 2))))['above Nyquist'] == 0
    maps = np.zeros((8, 8, 1))
    maps[:, ::2] = 1.0  # the finest stripes, which a grid of half the points cannot hold
    assert cues.statistics(maps, np.ones((8, 8), bool), (4, 4))[-1] == pytest.approx(1.0)


def test_points_that_do_not_count_change_nothing():
    generator = np.random.default_rng(0)
    maps, valid = generator.dirichlet(np.ones(3), (9, 7)), generator.random((9, 7)) < 0.7
    other = np.where(valid[..., None], maps, 5.0)
    np.testing.assert_array_equal(cues.statistics(maps, valid, (9, 7))[:-1],
                                  cues.statistics(other, valid, (9, 7))[:-1])
    assert np.isnan(cues.statistics(maps, np.zeros((9, 7), bool), (9, 7))).all()


def scenes(count=24):
    """Labels of blocks whose sizes vary from image to image."""
    generator = np.random.default_rng(3)
    for _ in range(count):
        cell = generator.integers(5, 22)
        blocks = generator.integers(0, C, (1, SIDE // cell + 1, SIDE // cell + 1))
        yield tf.constant(np.kron(blocks, np.ones((1, cell, cell), int))[:, :SIDE, :SIDE], tf.int32)


def audited(size, truth, hard=False):
    """The audit of an encoding on `scenes`."""
    encoding = encodings.Encoding(C, size, 'map', truth=truth, stride=STRIDE)

    def triples():
        for labels in scenes():
            logits = bottleneck.oracle_logits(labels, C, STRIDE)
            fake = (encodings.straight_through_map(logits, labels, encoding.points) if hard
                    else encodings.soft_map(logits, encoding.points))
            real = encoding.truth_map(labels, logits, hard)
            yield (real.numpy()[0], fake.numpy()[0],
                   encodings.valid_mask(labels, encoding.points).numpy()[0])
    return cues.audit(triples(), GRID)


@pytest.mark.parametrize('size, truth, hard', [
    (GRID, 'sampled', True), (GRID, 'scaling', False), (GRID, 'swapped', False),
    (48, 'scaling', False),
    (48, 'bottleneck', False), (48, 'bottleneck', True)])
def test_matched_encodings_leave_no_cue(size, truth, hard):
    found = audited(size, truth, hard)
    assert set(found) == set(cues.STATISTICS) and not cues.harmful(found)


def test_the_printed_encoding_is_won_by_blur_alone():
    found = audited(48, 'sampled')
    assert found['gradient energy'] > 0.95 and found['above Nyquist'] > 0.7
    assert list(cues.harmful(found).values()) == sorted(cues.harmful(found).values(), reverse=True)
    at_the_grid = audited(GRID, 'sampled')
    assert at_the_grid['gradient energy'] < 0.6 and at_the_grid['entropy'] == 1.0


def test_no_image_with_a_label_is_an_error():
    with pytest.raises(ValueError, match='labelled points'):
        cues.audit([(np.ones((3, 3, 1)), np.ones((3, 3, 1)), np.zeros((3, 3), bool))], (3, 3))
