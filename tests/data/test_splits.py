"""Splits and hold-outs: complete, seeded, stratified where asked."""
import json

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.data import splits

IDS = [f'{i:04d}' for i in range(60)]
SIZES = {'train': 40, 'val': 12, 'test': 8}


def test_split_is_a_partition_of_the_given_sizes():
    parts = splits.make_split(IDS, SIZES, seed=3)
    assert {name: len(ids) for name, ids in parts.items()} == SIZES
    assert sorted(i for ids in parts.values() for i in ids) == IDS


def test_split_depends_on_the_seed_and_not_on_the_listing():
    assert splits.make_split(IDS, SIZES, 3) == splits.make_split(IDS[::-1], SIZES, 3)
    assert splits.make_split(IDS, SIZES, 3) != splits.make_split(IDS, SIZES, 4)


@pytest.mark.parametrize('sizes, words', [
    ({'train': 60, 'val': 0}, '"val" would be empty'),
    ({'train': 50, 'val': 20}, 'needs 70 images, but there are 60'),
    ({'train': 'all'}, 'expected a number for each part'),
    (60, 'split sizes are 60, expected a number for each part'),
])
def test_impossible_sizes_are_refused(sizes, words):
    with pytest.raises(UserError, match=words):
        splits.make_split(IDS, sizes, 0)


@hypothesis.given(st.integers(3, 500), st.lists(st.floats(0.01, 1), min_size=1, max_size=3))
@hypothesis.settings(max_examples=100, deadline=None)
def test_fractions_give_sizes_that_add_up(count, shares):
    fractions = {str(i): share for i, share in enumerate(shares)}
    sizes = splits.sizes_from_fractions(count, fractions)
    assert sum(sizes.values()) == count and min(sizes.values()) >= 1
    for name, share in fractions.items():
        assert abs(sizes[name] - count * share / sum(shares)) < 2


def test_too_few_images_for_the_fractions_are_refused():
    with pytest.raises(UserError, match='2 images are too few'):
        splits.sizes_from_fractions(2, {'a': 0.4, 'b': 0.3, 'c': 0.3})


def test_papers_hold_out_of_172_has_52_images():
    ids = [str(i) for i in range(172)]
    held, rest = splits.hold_out(ids, seed=1)
    assert (len(held), len(rest)) == (52, 120)
    assert sorted(held + rest) == sorted(ids)
    assert held == [i for i in ids if i in set(held)]
    shuffled = list(reversed(ids))
    assert set(splits.hold_out(shuffled, seed=1)[0]) == set(held)
    assert splits.hold_out(ids, seed=2)[0] != held


@hypothesis.given(st.integers(0, 10 ** 6))
@hypothesis.settings(max_examples=20, deadline=None)
def test_stratified_hold_out_keeps_every_class_near_its_share(seed):
    random = np.random.default_rng(seed)
    probabilities = [0.9, 0.6, 0.3, 0.12]
    presence = {i: {c for c, p in enumerate(probabilities) if random.random() < p} for i in IDS}
    held, rest = splits.hold_out(IDS, 0.3, seed, presence)
    assert (len(held), len(rest)) == (18, 42) and sorted(held + rest) == IDS
    for c in range(4):
        total = sum(c in presence[i] for i in IDS)
        assert abs(sum(c in presence[i] for i in held) - 0.3 * total) <= 1.5 + 0.05 * total
    assert splits.hold_out(IDS[::-1], 0.3, seed, presence)[0] == held[::-1]


def test_stratified_hold_out_shows_a_rare_class_in_both_parts():
    presence = {i: {0} for i in IDS} | {i: {0, 1} for i in IDS[:4]}
    for seed in range(20):
        held, _ = splits.hold_out(IDS, 0.3, seed, presence)
        assert 1 <= sum(1 in presence[i] for i in held) <= 3


def test_hold_out_refuses_what_leaves_a_part_empty():
    for fraction in (0.0, 1.0, 0.001):
        with pytest.raises(UserError, match='dataset.holdout_fraction.* need at least one'):
            splits.hold_out(IDS, fraction)
    with pytest.raises(UserError, match='of 1 image is 1; both'):
        splits.hold_out(IDS[:1], 0.6)
    with pytest.raises(UserError, match='"0059" is not known'):
        splits.hold_out(IDS, 0.3, 0, {i: set() for i in IDS[:-1]})


@hypothesis.given(st.integers(8, 300), st.integers(0, 10 ** 6))
@hypothesis.settings(max_examples=50, deadline=None)
def test_smaller_labelled_fractions_lie_in_larger_ones(count, seed):
    ids = [f'{i:04d}' for i in range(count)]
    inside = set()
    for fraction in (1 / 8, 1 / 4, 1 / 2, 1):
        labelled, unlabelled = splits.labelled_fraction(ids, fraction, seed)
        assert len(labelled) == round(fraction * count)
        assert sorted(labelled + unlabelled) == ids and labelled == sorted(labelled)
        assert inside <= set(labelled)
        inside = set(labelled)
    shuffled = ids[::-1]
    assert splits.labelled_fraction(shuffled, 1 / 4, seed)[0] == splits.labelled_fraction(
        ids, 1 / 4, seed)[0][::-1]


def test_labelled_fractions_depend_on_the_seed_and_take_any_image():
    drawn = [splits.labelled_fraction(IDS, 1 / 4, seed)[0] for seed in range(40)]
    assert len({tuple(ids) for ids in drawn}) == 40
    assert {i for ids in drawn for i in ids} == set(IDS)


@hypothesis.given(st.integers(8, 120), st.integers(0, 10 ** 6))
@hypothesis.settings(max_examples=50, deadline=None)
def test_a_stratified_fraction_shows_every_class_if_it_can(count, seed):
    ids = [f'{i:04d}' for i in range(count)]
    random = np.random.default_rng(seed)
    rarity = random.uniform(0.01, 1.0, 6)
    presence = {i: {c for c in range(6) if random.uniform() < rarity[c]} for i in ids}
    inside, everything = set(), set().union(*presence.values())
    for fraction in (1 / 8, 1 / 4, 1 / 2, 1):
        labelled, unlabelled = splits.labelled_fraction(ids, fraction, seed, presence)
        assert len(labelled) == round(fraction * count)
        assert sorted(labelled + unlabelled) == ids and inside <= set(labelled)
        inside = set(labelled)
        if len(labelled) >= len(everything):
            assert set().union(*(presence[i] for i in labelled)) == everything
        elif labelled and everything:  # the rarest comes first
            counts = {c: sum(c in presence[i] for i in ids) for c in everything}
            rarest = min(counts, key=lambda c: (counts[c], str(c)))
            assert any(rarest in presence[i] for i in labelled)
    shuffled = ids[::-1]
    assert splits.labelled_fraction(shuffled, 1 / 4, seed, presence)[0] == (
        splits.labelled_fraction(ids, 1 / 4, seed, presence)[0][::-1])


def test_labelled_fractions_of_nothing_are_refused():
    for fraction in (0, -0.5, 1.5, float('nan')):
        with pytest.raises(UserError, match='expected above 0 and at most 1'):
            splits.labelled_fraction(IDS, fraction)
    with pytest.raises(UserError, match='of 60 images is none'):
        splits.labelled_fraction(IDS, 0.001)


def test_split_file_round_trip_with_fields(tmp_path):
    path = tmp_path / 'splits.json'
    splits.write_split(path, {'train': ['a', 'b'], 'val': ['c']}, seed=5)
    assert splits.read_split(path) == {'train': ['a', 'b'], 'val': ['c']}
    content = json.loads(path.read_text())
    assert content['seed'] == 5 and content['sizes'] == {'train': 2, 'val': 1}


@pytest.mark.parametrize('text, words', [
    ('{"a": 1}', 'not a split file'), ('[1', 'JSON'),
    ('{"format": "tf_advseg split", "version": 9, "splits": {}}', 'version 9'),
    ('{"format": "tf_advseg split", "version": 1, "splits": {"val": []}}', '"val" is empty'),
    ('{"format": "tf_advseg split", "version": 1, "splits": {"val": [["a"], "b"]}}',
     '''split "val" lists ['a'], expected the ids of images as strings'''),
    ('{"format": "tf_advseg split", "version": 1, "splits": {"val": ["a", "b", "a"]}}',
     'split "val" lists image "a" twice'),
])
def test_other_files_are_refused_by_name(tmp_path, text, words):
    path = tmp_path / 'splits.json'
    path.write_text(text)
    with pytest.raises(UserError, match='splits.json') as error:
        splits.read_split(path)
    assert words in str(error.value)


def test_parts_that_share_an_image_are_refused_only_where_they_must_not(tmp_path):
    path = tmp_path / 'splits.json'
    parts = {'train': ['a', 'b'], 'val': ['c'], 'trainval': ['a', 'c']}
    splits.write_split(path, parts)
    assert splits.read_split(path) == parts
    with pytest.raises(UserError, match='splits.json: image "a" is both in "train" and in '
                                        '"trainval"'):
        splits.read_split(path, disjoint=True)


@hypothesis.given(st.integers(0, 10 ** 6), st.integers(0, 10))
@hypothesis.settings(max_examples=60, deadline=None)
def test_pairs_stay_together_and_sizes_as_asked(seed, count):
    random = np.random.default_rng(seed)
    chosen = [IDS[i] for i in random.permutation(60)[:2 * count]]
    pairs = list(zip(chosen[::2], chosen[1::2]))
    sizes = {'train': 26, 'val': 20, 'test': 14}
    parts = splits.make_split(IDS, sizes, seed, together=pairs)
    assert {name: len(ids) for name, ids in parts.items()} == sizes
    assert sorted(i for ids in parts.values() for i in ids) == IDS
    for pair in pairs:
        assert any(set(pair) <= set(ids) for ids in parts.values())
    plain = splits.make_split(IDS, sizes, seed)
    moved = sum(len(set(parts[name]) - set(plain[name])) for name in sizes)
    assert moved <= 2 * count and splits.make_split(IDS, sizes, seed, pairs) == parts


def test_pairs_without_room_are_refused():
    with pytest.raises(UserError, match='stay together'):
        splits.make_split('ab', {'train': 1, 'val': 1}, 0, together=[('a', 'b')])
