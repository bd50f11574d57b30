"""Lists that come with the package, folds, files of one's own, frames of videos."""
import json
import pathlib

import hypothesis
import hypothesis.strategies as st
import pytest

from tf_advseg.core import files
from tf_advseg.core.errors import UserError
from tf_advseg.data import split_files
from tf_advseg.data import splits as splits_lib

LISTS = sorted(path.stem for path in split_files.LISTS.glob('*.json'))
SIZES = {
    'cmp_facades_base_extended': {'train': 302, 'val': 76},
    'cmp_facades_cmp': {'train': 400, 'val': 100, 'test': 106},
    'stanford_background_load': {'train': 400, 'val': 172, 'test': 143},
    'stanford_background_luc': {**{f'subset_{k}': 72 if k < 5 else 71 for k in range(8)},
                                'test': 142}}


def read(name):
    return splits_lib.read_split(split_files.LISTS / f'{name}.json')


@pytest.mark.parametrize('name', LISTS)
def test_a_list_is_what_its_sizes_and_seed_draw(name):
    parts = read(name)
    drawn = {part: ids for part, ids in parts.items() if part in SIZES[name]}
    everything = [i for ids in parts.values() for i in ids]
    assert len(set(everything)) == len(everything) == (606 if 'cmp' in name else 715)
    fields = files.read_json(split_files.LISTS / f'{name}.json')
    ids = [i for part in drawn.values() for i in part]
    together = fields.get('together', ())
    assert splits_lib.make_split(ids, SIZES[name], fields['seed'], together) == drawn
    assert bool(together) == (name == 'stanford_background_luc')
    assert name.startswith(fields['dataset']) and fields['sizes_from']


def test_base_and_extended_do_not_mix():
    parts = read('cmp_facades_base_extended')
    assert len(parts['test']) == 228 and all(i.startswith('cmp_x') for i in parts['test'])
    assert all(i.startswith('cmp_b') for i in parts['train'] + parts['val'])


def luc(fold=None, ids=None):
    everything = [i for part in read('stanford_background_luc').values() for i in part]
    return split_files.chosen_split('luc', ids or everything, 'here', 'stanford_background',
                                    fold=fold)


def test_each_fold_leaves_out_one_of_eight_subsets():
    vals = []
    for fold in range(8):
        parts = luc(fold)
        assert list(parts) == ['train', 'val', 'test'] and len(parts['test']) == 142
        assert len(parts['train']) + len(parts['val']) == 573
        assert not set(parts['train']) & set(parts['val'])
        vals += parts['val']
    assert sorted(vals) == sorted(luc(3)['train'] + luc(3)['val'])
    assert luc() == luc(0)
    for fold in (8, -1, 'x'):
        with pytest.raises(UserError, match='expected 0 to 7'):
            luc(fold)


def test_a_list_without_subsets_has_no_fold():
    ids = [i for part in read('stanford_background_load').values() for i in part]
    with pytest.raises(UserError, match='no subsets, so there is no fold 1'):
        split_files.chosen_split('load', ids, 'here', 'stanford_background', fold=1)


def test_images_must_be_those_of_the_list():
    everything = luc()['train'] + luc()['val'] + luc()['test']
    with pytest.raises(UserError, match='^here: split list "luc" lists 715 images, but 2 of'):
        luc(ids=[i for i in everything if i not in (everything[3], everything[9])])
    with pytest.raises(UserError, match='here: 1 of 716 images are not in .*"new"'):
        luc(ids=[*everything, 'new'])


def test_a_file_of_one_s_own_may_leave_images_out(tmp_path):
    path = tmp_path / 'mine.json'
    splits_lib.write_split(path, {'train': ['a'], 'val': ['b']}, dataset='toy')
    choose = split_files.chosen_split
    assert choose(str(path), 'abc', 'here', 'toy') == {'train': ['a'], 'val': ['b']}
    with pytest.raises(UserError, match='mine.json lists 2 images, but 1 of them'):
        choose(path, 'ac', 'here', 'toy')
    splits_lib.write_split(tmp_path / 'leak.json', {'train': ['a', 'c'], 'val': ['b', 'c']})
    with pytest.raises(UserError, match='leak.json: image "c" is both in "train" and in "val"'):
        choose(tmp_path / 'leak.json', 'abc', 'here', 'toy')
    with pytest.raises(UserError, match='unknown split of toy "2012"'):
        choose(2012, 'abc', 'here', 'toy')
    with pytest.raises(UserError, match='a split of data set toy, expected one of other'):
        choose(path, 'abc', 'here', 'other')
    with pytest.raises(UserError, match='nowhere.json: no such file'):
        choose('nowhere.json', 'abc', 'here', 'toy')
    with pytest.raises(UserError, match='unknown split of stanford_background "lod".*"load"'):
        choose('lod', 'abc', 'here', 'stanford_background')


@hypothesis.given(st.dictionaries(st.text('abc', min_size=1), st.integers(3, 40), min_size=1,
                                  max_size=4), st.integers(0, 9), st.booleans())
@hypothesis.settings(max_examples=60, deadline=None)
def test_every_sequence_is_cut_alike(lengths, seed, contiguous):
    sequences = {name: [f'{name}/{i:02d}' for i in range(n)] for name, n in lengths.items()}
    fractions = {'train': 0.6, 'val': 0.2, 'test': 0.2}
    parts = split_files.frames_split(sequences, fractions, seed, contiguous)
    assert sorted(i for ids in parts.values() for i in ids) == sorted(
        i for ids in sequences.values() for i in ids)
    for name, frames in sequences.items():
        cut = [[i for i in ids if pathlib.PurePath(i).parent.name == name]
               for ids in parts.values()]
        assert min(len(ids) for ids in cut) >= 1
        assert abs(len(cut[0]) - 0.6 * len(frames)) < 2
        if contiguous:
            assert sum(cut, []) == frames


def test_lists_are_in_the_package_s_own_format():
    assert LISTS == sorted(SIZES)
    for name in LISTS:
        content = json.loads((split_files.LISTS / f'{name}.json').read_text())
        assert content['format'] == splits_lib.FORMAT
        assert content['sizes'] == {part: len(ids) for part, ids in read(name).items()}
