"""evaluation/confidence_counts.py: shares, accuracies and AUC against NumPy and scikit-learn."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from tf_advseg.core.errors import UserError
from tf_advseg.evaluation import confidence_counts


def made(seed, count=2000, dtype=np.float64, spread=4.0):
    """(confidence, correct, valid) where larger confidences are right more often."""
    generator = np.random.default_rng(seed)
    odds = generator.normal(1.0, spread, count)
    correct = generator.random(count) < 1 / (1 + np.exp(-odds / 3))
    return ((1 / (1 + np.exp(-odds))).astype(dtype), correct, generator.random(count) < 0.8)


def counted(*parts, thresholds=confidence_counts.THRESHOLDS):
    counts = confidence_counts.SelectionCounts(thresholds)
    for part in parts:
        counts.update(*part)
    return counts


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10 ** 6), st.sampled_from((np.float32, np.float64)))
def test_table_7_is_what_numpy_says(seed, dtype):
    values, correct, valid = made(seed, 300, dtype)
    counts = counted((values, correct, valid), thresholds=(0, 0.2, 0.7, 1))
    assert counts.points == valid.sum() and counts.right == (correct & valid).sum()
    for threshold in (0.2, 0.7):
        chosen = valid & (values > dtype(threshold))
        assert counts.selected(threshold) == chosen.sum()
        assert counts.share(threshold) == chosen.sum() / valid.sum()
        if chosen.any():
            assert counts.accuracy(threshold) == pytest.approx(correct[chosen].mean())
    assert counts.share(0) == 1.0 and counts.selected(1) == 0 and counts.accuracy(1) is None


def test_0_selects_also_where_the_sigmoid_came_out_as_0_and_the_threshold_itself_is_not_above():
    values = np.float32([0.0, 1e-45, 0.2, 0.3, 1.0])
    counts = counted((values, np.ones(5, bool), np.ones(5, bool)), thresholds=(0, 0.2, 0.3, 1))
    assert [counts.selected(t) for t in counts.thresholds] == [5, 2, 1, 0]


@pytest.mark.parametrize('spread', (0.3, 4.0, 12.0))
def test_auc_is_scikit_learn_s(spread):
    values, correct, valid = made(7, 20000, spread=spread)
    counts = counted((values, correct, valid))
    expected = sklearn_metrics.roc_auc_score(correct[valid], values[valid])
    assert counts.auc() == pytest.approx(expected, abs=2e-4)


def test_exact_ties_count_half_as_in_scikit_learn():
    generator = np.random.default_rng(3)
    values = generator.choice([0.0, 0.1, 0.5, 0.9, 0.99999, 1.0], 5000)
    correct = generator.random(5000) < 0.3 + 0.5 * values
    counts = counted((values, correct, np.ones(5000, bool)))
    assert counts.auc() == pytest.approx(sklearn_metrics.roc_auc_score(correct, values), abs=1e-12)
    same = counted((np.full(5000, 0.7), correct, np.ones(5000, bool)))
    assert same.auc() == 0.5


def test_confidences_within_a_hair_of_1_are_told_apart():
    gaps = np.logspace(-12, -4, 400)
    correct = gaps < 1e-8  # 1 - 1e-9 and 1 - 1e-7 would share a bin of even width
    counts = counted((1.0 - gaps, correct, np.ones(400, bool)))
    assert counts.auc() == 1.0
    accuracy, cutoff = counts.top(int(correct.sum()))
    assert accuracy == 1.0 and 1 - 1e-7 < cutoff < 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10 ** 6), st.integers(1, 299))
def test_counts_of_parts_add_up_to_those_of_the_whole(seed, cut):
    whole = made(seed, 300)
    parts = [tuple(one[:cut] for one in whole), tuple(one[cut:] for one in whole)]
    assert confidence_counts.figures(counted(*parts)) == confidence_counts.figures(counted(whole))


def test_the_top_is_the_most_confident_and_equals_are_taken_in_proportion():
    values, correct, valid = made(11, 3000)
    counts = counted((values, correct, valid))
    order = np.argsort(-values[valid])
    for count in (1, 300, 1500, counts.points):
        expected = correct[valid][order[:count]].mean()
        assert counts.top(count)[0] == pytest.approx(expected, abs=5e-3)
    assert counts.top(counts.points)[0] == counts.accuracy() and counts.top(0) == (None, None)
    ties = counted((np.full(10, 0.5), np.arange(10) < 4, np.ones(10, bool)))
    assert ties.top(5)[0] == pytest.approx(0.4) and ties.top(1)[0] == pytest.approx(0.4)


def test_coverage_ends_at_all_points_and_passes_through_the_top():
    counts = counted(made(5, 1000))
    shares, accuracies = counts.coverage()
    assert np.all(np.diff(shares) > 0) and shares[-1] == 1.0
    assert accuracies[-1] == counts.accuracy()
    middle = len(shares) // 2
    count = round(shares[middle] * counts.points)
    assert counts.top(count)[0] == pytest.approx(accuracies[middle])


def test_the_softmax_is_compared_at_the_share_of_the_discriminator():
    values, correct, valid = made(2, 4000)
    disc = counted((values[::-1].copy(), correct, valid))  # knows nothing
    softmax = counted((values, correct, valid))
    found = confidence_counts.figures(softmax, disc)
    for threshold in ('0.1', '0.2', '0.3'):
        count = disc.selected(float(threshold))
        assert found[f'disc/share@{threshold}'] == count / valid.sum()
        assert found[f'softmax/accuracy@{threshold}'] == softmax.top(count)[0]
        assert found[f'softmax/accuracy@{threshold}'] > found[f'disc/accuracy@{threshold}']
    assert found['disc/share@0'] == 1 and found['disc/accuracy@0'] == found['accuracy']
    assert found['softmax/accuracy@0'] == found['accuracy']
    assert found['disc/auc'] == pytest.approx(0.5, abs=0.05) and found['softmax/auc'] > 0.7
    assert confidence_counts.figures(disc, disc)['disc/auc'] == disc.auc()


def test_a_confidence_against_itself_is_as_accurate():
    own = counted(made(4, 3000))
    found = confidence_counts.figures(own, own)
    for threshold in ('0.1', '0.2', '0.3'):
        assert found[f'softmax/accuracy@{threshold}'] == pytest.approx(
            found[f'disc/accuracy@{threshold}'], abs=1e-3)
        assert found[f'softmax/cutoff@{threshold}'] == pytest.approx(float(threshold), abs=5e-3)


def test_nothing_counted_is_none_and_not_a_number():
    empty = counted((np.zeros(3), np.ones(3, bool), np.zeros(3, bool)))
    found = confidence_counts.figures(empty, empty)
    assert found.pop('points') == 0 and set(found.values()) == {None}
    sure = counted((np.ones(3), np.ones(3, bool), np.ones(3, bool)))
    assert sure.auc() is None and sure.accuracy(0.2) == 1.0


@pytest.mark.parametrize('thresholds', ((), (0.2, 1.5), (-0.1,), ('much',), None, (float('nan'),)))
def test_thresholds_that_are_none_are_told(thresholds):
    with pytest.raises(UserError, match='expected numbers from 0 to 1, such as 0, 0.1') as caught:
        confidence_counts.SelectionCounts(thresholds)
    assert '\n' not in str(caught.value)


def test_what_is_no_confidence_is_told():
    counts = confidence_counts.SelectionCounts()
    for bad in (np.array([1.2]), np.array([-3.0]), np.array([np.nan])):
        with pytest.raises(UserError, match='put logits through the sigmoid'):
            counts.update(bad, [True], [True])
        counts.update(bad, [True], [False])
    with pytest.raises(UserError, match='of one shape'):
        counts.update(np.zeros(3), np.zeros(2, bool), np.zeros(3, bool))
    with pytest.raises(UserError, match='threshold 0.25 was not counted; there is 0, 0.1'):
        counts.share(0.25)
