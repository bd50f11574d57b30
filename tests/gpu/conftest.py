"""Devices for this folder's tests: GPUs where there are any, else a skip that says so."""
import pathlib
import sys

import pytest

# The tests run in importlib mode, which puts no test folder on the path: `whole_run` is there.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'helpers'))


def _names(number):
    import tensorflow as tf
    found = tf.config.list_physical_devices('GPU')
    if len(found) < number:
        pytest.skip(f'needs {number} GPU{"s" if number > 1 else ""}, and TensorFlow '
                    f'{tf.__version__} finds {len(found)}; tools/gpu_check.py says what to install')
    return [f'/gpu:{index}' for index in range(number)]


@pytest.fixture(scope='session')
def gpu():
    """Name of the first GPU."""
    return _names(1)[0]


@pytest.fixture(scope='session')
def two_gpus():
    """A MirroredStrategy over two GPUs."""
    from tf_advseg.training import strategy
    return strategy.mirrored(*_names(2))
