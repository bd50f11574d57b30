"""What a data set says of itself, and what it may not say."""
import json
import subprocess
import sys

import numpy as np
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.data.official_specs import SPECS
from tf_advseg.data.spec import DatasetSpec, default_palette

OLD_FIELDS = {'name', 'class_names', 'palette', 'ignore_label', 'official_ids', 'version',
              'citation'}


def make_spec(**changes):
    fields = {'name': 'toy', 'class_names': ['a', 'b'], 'palette': [[0, 0, 0], [255, 0, 0]],
              'official_ids': [7, 9], 'version': '2', 'citation': 'nobody'}
    return DatasetSpec(**{**fields, **changes})


def test_json_round_trip_keeps_everything():
    spec = make_spec()
    assert DatasetSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert spec.num_classes == 2 and hash(spec) == hash(make_spec())
    for spec in SPECS.values():
        assert DatasetSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_older_manifests_open_and_say_what_they_said():
    content = make_spec().to_json()
    assert set(content) == OLD_FIELDS == set(SPECS['pascal_voc_2012'].to_json())
    assert set(SPECS['cityscapes'].to_json()) == OLD_FIELDS | {
        'categories', 'instance_classes', 'official_ignore', 'official_void'}
    spec = DatasetSpec.from_json(content)
    assert spec.absent == 'left_out' and spec.categories is None and spec.category_names == ()


@pytest.mark.parametrize('changes, words', [
    ({'class_names': ['a', 'a']}, 'given twice'),
    ({'palette': [[0, 0, 0]]}, '1 colours for 2 classes'),
    ({'palette': [[0, 0, 0], [0, 0, 256]]}, 'not (r, g, b)'),
    ({'official_ids': [1]}, '1 official ids'),
    ({'class_names': [], 'palette': []}, '0 classes'),
    ({'categories': ['all']}, '1 categories for 2 classes'),
    ({'instance_classes': [2]}, '2 in instance_classes is no train id'),
    ({'absent': 'zeros'}, 'Did you mean "zero"'),
    ({'official_ids': [7, 7]}, 'official id 7 is given to two classes'),
    ({'official_ids': [7, 256]}, 'official id 256 is out of range'),
    ({'official_ignore': -1}, 'official id -1 is out of range; expected 0 to 255'),
    ({'official_void': [-2]}, 'official id -2 is out of range; expected -1 to 255'),
    ({'official_void': [9]}, 'official id 9 is a class and in official_void'),
])
def test_contradictions_are_refused(changes, words):
    with pytest.raises(UserError, match='data set toy') as error:
        make_spec(**changes)
    assert words in str(error.value)


def test_unknown_field_in_json_is_refused():
    with pytest.raises(UserError, match='colour'):
        DatasetSpec.from_json({**make_spec().to_json(), 'colour': 1})


@pytest.mark.parametrize('count', [1, 2, 21, 150])
def test_default_palette_has_distinct_colours(count):
    palette = default_palette(count)
    assert len(set(palette)) == count
    assert DatasetSpec('x', [str(i) for i in range(count)], palette).palette == palette


def test_readers_need_no_tensorflow_and_scipy_only_for_sbd(repository):
    code = ('import importlib, sys; import tf_advseg.data.splits, tf_advseg.data.readers as r; '
            '[importlib.import_module(module) for module, _ in r._READERS.values()]; '
            'print("tensorflow" in sys.modules, "scipy" in sys.modules, r.READERS)')
    run = subprocess.run([sys.executable, '-c', code], cwd=repository, capture_output=True,
                         text=True, check=True)
    assert run.stdout.startswith('False False') and 'stanford_background' in run.stdout


@pytest.mark.parametrize('name', SPECS)
def test_official_ids_and_back(name):
    spec = SPECS[name]
    ids = np.append(np.arange(spec.num_classes), 255).reshape(1, -1)
    official = spec.to_official(ids)
    assert official.dtype == np.uint8 and official.shape == ids.shape
    assert len(set(official[0, :-1])) == spec.num_classes  # no two classes become one
    assert official[0, -1] == spec.official_ignore
    back = spec.from_official(official)
    # The zoo's class 0 is the id its labels ignore; everything else comes back.
    expected = np.where(official == spec.official_ignore, 255, ids)
    np.testing.assert_array_equal(back, expected)
    assert (expected != ids).sum() == (name == 'ade20k_151')
    assert (spec.from_official(np.array(spec.official_void, int)) == 255).all()
    for dtype in (np.uint8, np.int16, np.int64):
        np.testing.assert_array_equal(spec.from_official(official.astype(dtype)), back)


@pytest.mark.parametrize('ids, words', [
    ([0, 2], 'data set toy: train id 2 is out of range; expected 0 to 1, or 255'),
    ([-1], 'train id -1 is out of range'),
    ([300], 'train id 300 is out of range'),
    ([0.0], 'train ids are float64, expected whole numbers')])
def test_unknown_train_ids_are_refused(ids, words):
    with pytest.raises(UserError) as error:
        make_spec().to_official(ids)
    assert words in str(error.value)


@pytest.mark.parametrize('ids, words', [
    ([7, 8], 'official id 8 is out of range; expected 7 to 9, or 255'),
    ([-1], 'official id -1 is out of range'),
    ([-2], 'official id -2 is out of range'),
    ([256], 'official id 256 is out of range'),
    ([7.0], 'official ids are float64')])
def test_unknown_official_ids_are_refused(ids, words):
    with pytest.raises(UserError) as error:
        make_spec().from_official(ids)
    assert words in str(error.value)
    np.testing.assert_array_equal(
        make_spec(official_void=[-1, 3]).from_official([[9, -1], [3, 255]]),
        [[1, 255], [255, 255]])


def test_translation_between_two_numberings():
    short, zoo = SPECS['ade20k'], SPECS['ade20k_151']
    there, back = short.translation(zoo), zoo.translation(short)
    assert there.tolist() == list(range(1, 151)) and back.tolist() == [-1, *range(150)]
    for ours, its in enumerate(there):
        assert short.class_names[ours] == zoo.class_names[its] and back[its] == ours
        assert short.palette[ours] == zoo.palette[its]
    # As networks were described before the two numberings had a name each.
    older = DatasetSpec('ade20k', zoo.class_names, zoo.palette)
    assert older.translation(short).tolist() == back.tolist()
    for spec in SPECS.values():
        assert spec.translation(spec).tolist() == list(range(spec.num_classes))


def test_translation_to_another_data_set_is_refused():
    with pytest.raises(UserError, match='ade20k cannot be expressed as those of cityscapes'):
        SPECS['ade20k'].translation(SPECS['cityscapes'])
    other = make_spec(class_names=['b', 'a'])
    with pytest.raises(UserError, match='"a" has the official id of "b"'):
        make_spec().translation(other)
