"""Classes and colours of the zoo's data sets, against the official code's colour maps."""
import hashlib
import json

import pytest

from tf_advseg.data import official_specs

SIZES = {'pascal_voc_2012': 21, 'cityscapes': 19, 'ade20k': 150, 'ade20k_151': 151}


def test_each_has_its_number_of_classes():
    assert {name: spec.num_classes for name, spec in official_specs.SPECS.items()} == SIZES


def test_colours_are_the_official_ones(shared):
    path = shared / 'reference' / 'colormaps.json'
    if not path.is_file():
        pytest.skip(f'the official colour maps are not here: {path}')
    official = {name: tuple(map(tuple, colours))
                for name, colours in json.loads(path.read_text()).items()}
    assert official_specs.pascal_voc_palette(256) == official['pascal']
    assert official_specs.cityscapes_palette() == official['cityscapes']
    assert official_specs.ade20k_palette() == official['ade20k']


def test_pascal_names_are_those_published_with_the_weights(shared):
    path = shared / 'zoo' / 'pascal_voc_segmentation_labels.txt'
    if not path.is_file():
        pytest.skip(f'the labels are not here: {path}')
    published = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    names = official_specs.SPECS['pascal_voc_2012'].class_names
    assert [name for name in names if name in published] == list(names)


def test_cityscapes_ids_are_ascending_and_the_classes_known():
    spec = official_specs.SPECS['cityscapes']
    assert list(spec.official_ids) == sorted(set(spec.official_ids))
    assert dict(zip(spec.class_names, spec.official_ids))['bicycle'] == 33


def test_ade20k_names_are_scene_parsing_s_list():
    spec = official_specs.SPECS['ade20k']
    named = dict(zip(spec.official_ids, spec.class_names))
    # Lines of objectInfo150.txt; the hash is of all 150 first words of its names, comma-separated.
    assert {1: 'wall', 4: 'floor', 13: 'person', 21: 'car', 150: 'flag'}.items() <= named.items()
    assert hashlib.sha256(','.join(spec.class_names).encode()).hexdigest() == (
        'ba644262c15afe51fbdc3d84fbeb6ae1af70169aae08d7f3f9a29984eda138ee')
    zoo = official_specs.SPECS['ade20k_151']
    assert dict(zip(zoo.official_ids, zoo.class_names)) == {0: 'unlabelled', **named}


def test_absent_classes_are_averaged_as_the_official_evaluators_do():
    assert {name: spec.absent for name, spec in official_specs.SPECS.items()} == {
        'pascal_voc_2012': 'left_out', 'cityscapes': 'left_out', 'ade20k': 'zero',
        'ade20k_151': 'left_out'}
