"""Label maps for every measure."""
import pathlib
import sys

import numpy as np
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


@pytest.fixture
def official_script_runs(monkeypatch):
    """cityscapesscripts 2.3.0 calls np.in1d, which NumPy 2.4 has taken away; isin is its heir."""
    if not hasattr(np, 'in1d'):
        monkeypatch.setattr(np, 'in1d', np.isin, raising=False)
