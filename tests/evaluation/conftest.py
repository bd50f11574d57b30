"""Label maps for every measure."""
import pathlib
import sys

import pytest

# The tests run in importlib mode, which puts no test folder on the path.
sys.path.insert(0, str(pathlib.Path(__file__).parent))
import label_maps  # noqa: E402

from tf_advseg.data.spec import DatasetSpec, default_palette  # noqa: E402


@pytest.fixture(scope='session')
def real_pairs(shared):
    """[(classes, label, prediction)] from CMP Facades and PASCAL VOC; skips where they are not."""
    return label_maps.real_pairs(shared)


@pytest.fixture(scope='session')
def spec_of():
    """A function: number of classes and further fields → DatasetSpec with classes c0, c1, …"""
    def make(classes, **fields):
        names = [f'c{number}' for number in range(classes)]
        return DatasetSpec('some', names, default_palette(classes), **fields)
    return make
