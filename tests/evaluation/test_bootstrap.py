"""The paired bootstrap: against drawing image by image, and as an interval."""
import json

import numpy as np
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.evaluation import bootstrap, metrics
from tf_advseg.evaluation.bootstrap import paired_bootstrap
from tf_advseg.evaluation.image_counts import ImageCounts


def counts_of(matrices, ids=None):
    """ImageCounts of confusion matrices [N,C,C]."""
    matrices = np.asarray(matrices, np.int64)
    hits = np.diagonal(matrices, axis1=1, axis2=2).copy()
    ids = ids or tuple(f'p{number}' for number in range(len(matrices)))
    return ImageCounts(tuple(ids), hits, matrices.sum(axis=2), matrices.sum(axis=1),
                       matrices.sum(axis=0))


def synthetic(rng, number, accuracy, truth=None, classes=3, pixels=200):
    """Matrices [N,C,C] of images whose share of right pixels scatters round `accuracy`."""
    if truth is None:
        truth = rng.multinomial(pixels, np.full(classes, 1 / classes), size=number)
    share = np.clip(rng.normal(accuracy, 0.1, number), 0, 1)[:, None]
    matrices = np.zeros([number, classes, classes], np.int64)
    right = rng.binomial(truth, share)
    for c in range(classes):
        matrices[:, c, c] = right[:, c]
        matrices[:, c, (c + 1) % classes] = truth[:, c] - right[:, c]
    return matrices, truth


def two(seed, number=30, gain=0.05):
    rng = np.random.default_rng(seed)
    first, truth = synthetic(rng, number, 0.7)
    second, _ = synthetic(rng, number, 0.7 + gain, truth)
    return first, second


def test_it_is_drawing_images_one_by_one():
    first, second = two(0)
    found = paired_bootstrap(counts_of(second), counts_of(first), samples=600, seed=5)
    rng, drawn = np.random.default_rng(5), []
    for size in (250, 250, 100):  # as it draws: so many samples at a time
        for picks in rng.integers(30, size=[size, 30]):
            drawn.append(metrics.mean_iou(second[picks].sum(axis=0))
                         - metrics.mean_iou(first[picks].sum(axis=0)))
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert found['miou']['low'] == pytest.approx(low, abs=1e-14)
    assert found['miou']['high'] == pytest.approx(high, abs=1e-14)
    whole = [metrics.class_iou(matrices.sum(axis=0)) for matrices in (first, second)]
    deltas = [figure['delta'] for figure in found['class_iou'].values()]
    np.testing.assert_array_equal(deltas, whole[1] - whole[0])
    assert found['miou']['delta'] == pytest.approx(
        metrics.mean_iou(second.sum(axis=0)) - metrics.mean_iou(first.sum(axis=0)), abs=1e-15)
    assert found['miou']['low'] < found['miou']['delta'] < found['miou']['high']


def test_equal_evaluations_differ_by_exactly_nothing():
    counts = counts_of(two(1)[0])
    found = paired_bootstrap(counts, counts, class_names=('a', 'b', 'c'))
    assert found['absent'] == 'left_out'
    assert paired_bootstrap(counts, counts, samples=9, absent='zero')['absent'] == 'zero'
    nothing = {'delta': 0.0, 'low': 0.0, 'high': 0.0, 'images': 30}
    assert found['miou'] == nothing
    assert found['class_iou'] == {'a': nothing, 'b': nothing, 'c': nothing}


def test_the_seed_decides_and_order_turns_the_sign():
    first, second = (counts_of(matrices) for matrices in two(2))
    found = paired_bootstrap(first, second)
    assert paired_bootstrap(first, second) == found
    assert paired_bootstrap(first, second, seed=1)['miou'] != found['miou']
    back = paired_bootstrap(second, first)
    assert back['miou']['delta'] == -found['miou']['delta']
    assert back['miou']['low'] == pytest.approx(-found['miou']['high'], abs=1e-15)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_interval_covers_the_true_difference_about_as_often_as_it_says():
    """The true difference is that of very many images; splits of 40 are drawn from as many."""
    rng = np.random.default_rng(3)
    first, truth = synthetic(rng, 20000, 0.70)
    second, _ = synthetic(rng, 20000, 0.73, truth)
    true = (metrics.mean_iou(second.sum(axis=0)) - metrics.mean_iou(first.sum(axis=0)))
    inside = excludes_zero = 0
    for trial in range(200):
        part = slice(40 * trial, 40 * trial + 40)
        found = paired_bootstrap(counts_of(second[part]), counts_of(first[part]), samples=400,
                                 seed=trial, level=0.9)['miou']
        inside += found['low'] <= true <= found['high']
        excludes_zero += found['low'] > 0
    assert 166 <= inside <= 195  # 180 expected; three standard deviations and the small-sample gap
    assert 20 < excludes_zero < 180  # it is a hard case: an interval that says nothing would fail


def test_pairing_makes_the_interval_narrower():
    """Images of different difficulty: a constant gain is sure, though each score is not."""
    rng = np.random.default_rng(4)
    share = rng.uniform(0.3, 0.9, 50)
    truth = np.full([50, 2], 500)
    pair = []
    for gain in (0.0, 0.02):
        right = np.rint(truth * (share[:, None] + gain)).astype(np.int64)
        matrices = np.zeros([50, 2, 2], np.int64)
        matrices[:, [0, 1], [0, 1]], matrices[:, [0, 1], [1, 0]] = right, truth - right
        pair.append(matrices)
    paired = paired_bootstrap(*map(counts_of, pair[::-1]))['miou']
    shuffled = paired_bootstrap(counts_of(rng.permutation(pair[1])), counts_of(pair[0]))['miou']
    assert paired['delta'] == pytest.approx(shuffled['delta'])
    assert 0 < paired['low'] and shuffled['low'] < 0
    assert paired['high'] - paired['low'] < (shuffled['high'] - shuffled['low']) / 10


def test_absent_classes():
    first, second = two(6, number=8)
    wide = [np.pad(matrices, ((0, 0), (0, 2), (0, 2))) for matrices in (first, second)]
    wide[1][0, 0, 0] -= 1
    wide[1][0, 0, 3] += 1  # class 3 is predicted once, by the second alone
    found = paired_bootstrap(*map(counts_of, wide))
    missing = {'delta': None, 'low': None, 'high': None}
    assert found['class_iou']['3'] == {**missing, 'images': 1}
    assert found['class_iou']['4'] == {**missing, 'images': 0}
    zero = paired_bootstrap(*map(counts_of, wide), absent='zero')
    sums = [matrices.sum(axis=0) for matrices in wide]
    for result, rule in ((found, 'left_out'), (zero, 'zero')):
        expected = metrics.mean_iou(sums[0], rule) - metrics.mean_iou(sums[1], rule)
        assert result['miou']['delta'] == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize('images', [1, 9, 10, 30])
def test_a_class_in_few_images_has_no_interval(images):
    """Drawn from so few images an interval is too narrow: of one image it has no width."""
    first, second = (np.pad(m, ((0, 0), (0, 1), (0, 1))) for m in two(7))
    first[:images, 3, 3], second[:images, 3, 3], second[:images, 3, 0] = 10, 5, 5
    found = paired_bootstrap(counts_of(first), counts_of(second))
    bound = 0.5 if images >= bootstrap.FEWEST_IMAGES else None
    assert found['class_iou']['3'] == {'delta': 0.5, 'low': bound, 'high': bound,
                                       'images': images}
    assert found['class_iou']['0']['images'] == found['miou']['images'] == 30
    assert found['miou']['low'] is not None


def test_few_images_in_all_have_no_interval():
    for number in (9, 10):
        found = paired_bootstrap(*map(counts_of, two(8, number=number)))
        entries = [found['miou'], *found['class_iou'].values()]
        assert all((entry['low'] is None) == (number == 9) for entry in entries)
        assert all(entry['delta'] is not None for entry in entries)


def test_without_a_difference_about_one_in_twenty_is_starred():
    """As many stars as the note promises, for a class in few images of many, too."""
    rng = np.random.default_rng(12)
    stars = given = 0
    for trial in range(250):
        pair = []
        rare = rng.random(106) < 0.04  # about four images
        truth = np.stack([np.full(106, 300), np.where(rare, 200, 0)], axis=1)
        for _ in range(2):
            matrices, _ = synthetic(rng, 106, 0.7, truth, classes=2)
            matrices[~rare, 0, 1] = 0  # the rare class is nowhere predicted where it is not
            pair.append(counts_of(matrices))
        for name, entry in paired_bootstrap(*pair, samples=300, seed=trial)['class_iou'].items():
            given += entry['low'] is not None
            stars += entry['low'] is not None and not entry['low'] <= 0 <= entry['high']
            assert name == '0' or (entry['low'] is None) == (entry['images'] < 10)
    assert given >= 250 and stars / given < 0.095  # 5 % and three standard deviations


def test_samples_in_parts_are_the_samples(monkeypatch):
    first, second = (counts_of(matrices) for matrices in two(8))
    found = paired_bootstrap(first, second, samples=500)
    monkeypatch.setattr(bootstrap, '_CHUNK', 500)
    assert paired_bootstrap(first, second, samples=500) == found


def test_the_size_of_vocs_split_is_left_to_numpy(lines_run):
    """Samples and images are in arrays: no loop in Python goes over either."""
    rng, lines = np.random.default_rng(9), {}
    for number in (20, 1449):
        matrices = rng.integers(0, 9000, [number, 21, 21])
        counts = counts_of(matrices), counts_of(rng.permuted(matrices, axis=2))
        lines[number] = lines_run(lambda: paired_bootstrap(*counts))
    assert lines[1449] == lines[20] < 2000  # lines, of 2000 samples


@pytest.mark.parametrize('spoil, words', [
    ({'ids': ('x', 'y', 'z')}, 'not the same'), ({'classes': 2}, '3 and of 2 classes'),
    ({'empty': True}, 'no images'), ({'level': 1.0}, 'between 0 and 1'),
    ({'samples': 0}, 'one sample')])
def test_what_cannot_be_compared_is_told(spoil, words):
    first = two(0, number=3)[0]
    second = first[:, :spoil.get('classes', 3), :spoil.get('classes', 3)]
    if 'empty' in spoil:
        first = second = first[:0]
    options = {name: spoil[name] for name in ('level', 'samples') if name in spoil}
    with pytest.raises(UserError, match=words):
        paired_bootstrap(counts_of(first), counts_of(second, spoil.get('ids')), **options)
