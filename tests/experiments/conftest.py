"""What tests of whole runs read back from a run directory."""
import json
import pathlib
import sys

import pytest

from tf_advseg.experiments import networks

# The tests run in importlib mode, which puts no test folder on the path.
sys.path.insert(0, str(pathlib.Path(__file__).parent))


@pytest.fixture(scope='session')
def weights():
    """Function (run, name) -> the arrays of a model folder below its checkpoints/."""
    def read(run, name):
        segmentor, _, _ = networks.load(run / 'checkpoints' / name)
        return [v.numpy() for v in segmentor.variables]
    return read


@pytest.fixture(scope='session')
def lines_of():
    """Function (run, name=value...) -> such lines of metrics.jsonl, without their clock time."""
    def read(run, **fields):
        lines = map(json.loads, (run / 'metrics.jsonl').read_text().splitlines())
        return [{k: v for k, v in line.items() if k != 'time'} for line in lines
                if fields.items() <= line.items()]
    return read
