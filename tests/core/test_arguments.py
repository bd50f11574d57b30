"""Settings of another kind: one line that names where and what."""
import pathlib

import pytest

from tf_advseg.core import arguments
from tf_advseg.core.errors import UserError


@pytest.mark.parametrize('value', [10 ** 400, float('inf'), float('nan'), '3', None, True, [3]])
def test_what_is_no_number_is_named(value):
    with pytest.raises(UserError, match=r'^experiment.seed = .*: expected a number above 2'):
        arguments.require_number('experiment', 'seed', value, above=2)
    arguments.require_number('experiment', 'seed', 3, above=2)


@pytest.mark.parametrize('value', [3, [], b'x', {'a': 1}, True])
def test_what_is_no_path_is_named(value):
    with pytest.raises(UserError, match=r'^dataset.data_dir = .*: expected a path in quotes'):
        arguments.require_path('dataset', 'data_dir', value)
    for path in (None, 'runs/a', pathlib.Path('runs')):
        arguments.require_path('dataset', 'data_dir', path)
