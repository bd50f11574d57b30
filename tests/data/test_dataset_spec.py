"""What a data set says of itself, and what it may not say."""
import json
import subprocess
import sys

import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.data.spec import DatasetSpec, default_palette


def make_spec(**changes):
    fields = {'name': 'toy', 'class_names': ['a', 'b'], 'palette': [[0, 0, 0], [255, 0, 0]],
              'official_ids': [7, 9], 'version': '2', 'citation': 'nobody'}
    return DatasetSpec(**{**fields, **changes})


def test_json_round_trip_keeps_everything():
    spec = make_spec()
    assert DatasetSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert spec.num_classes == 2 and hash(spec) == hash(make_spec())


@pytest.mark.parametrize('changes, words', [
    ({'class_names': ['a', 'a']}, 'given twice'),
    ({'palette': [[0, 0, 0]]}, '1 colours for 2 classes'),
    ({'palette': [[0, 0, 0], [0, 0, 256]]}, 'not (r, g, b)'),
    ({'official_ids': [1]}, '1 official ids'),
    ({'class_names': [], 'palette': []}, '0 classes'),
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


def test_readers_need_no_tensorflow(repository):
    code = ('import sys; import tf_advseg.data.splits, tf_advseg.data.readers as r; '
            'import tf_advseg.data.readers.folder, tf_advseg.data.readers.stanford_background; '
            'print("tensorflow" in sys.modules, r.READERS)')
    run = subprocess.run([sys.executable, '-c', code], cwd=repository, capture_output=True,
                         text=True, check=True)
    assert run.stdout.startswith('False') and 'stanford_background' in run.stdout
