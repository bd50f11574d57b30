"""Fixtures that the tests of every package share.

TensorFlow is given two logical CPUs before anything initialises it, so that the same
session can test one device and a two-replica MirroredStrategy.
"""
import importlib.util
import json
import os
import pathlib
import signal
import sys
import warnings

import pytest

from tf_advseg.core import lanes
from tf_advseg.core import runtime

# Where there is a GPU: tests start programs of their own, which need a share of its memory.
os.environ.setdefault('TF_FORCE_GPU_ALLOW_GROWTH', 'true')
os.environ['TF_ADVSEG_OFFLINE'] = '1'  # no test needs the network
runtime.configure(deterministic=False, logical_cpus=2)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background jobs are deaf to it, and so would be the programs that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
# The tests run in importlib mode, which puts no test folder on the path.
sys.path.insert(0, str(REPOSITORY / 'tests' / 'helpers'))


def pytest_addoption(parser):
    parser.addoption('--slow', action='store_true', help='also run tests marked slow')


def pytest_configure(config):
    config.addinivalue_line('markers', 'slow: takes minutes; runs with --slow')


def pytest_collection_modifyitems(config, items):
    if config.getoption('--slow'):
        return
    skip = pytest.mark.skip(reason='slow: run with --slow')
    for item in items:
        if 'slow' in item.keywords:
            item.add_marker(skip)


def pytest_terminal_summary(terminalreporter):
    """How many inputs the fuzzing tests tried (`fuzzing.PROPERTY`), in whichever process."""
    tried = [value for reports in terminalreporter.stats.values() for report in reports
             for name, value in getattr(report, 'user_properties', ())
             if name == 'inputs tried' and report.when == 'call']
    if tried:
        terminalreporter.write_line(f'fuzzing: {sum(tried)} inputs tried by {len(tried)} tests')


@pytest.fixture(autouse=True)
def _no_gin_left_over():
    """Tests begin without gin bindings, whichever ran before them (a run locks its own)."""
    import gin
    gin.clear_config()
    yield
    gin.clear_config()


@pytest.fixture(autouse=True)
def _no_op_determinism_left_over():
    """Tests end without op determinism: with it, a graph without a seed fails in a later test."""
    yield
    if 'tensorflow' in sys.modules:
        # TensorFlow has no public way to switch it off again.
        from tensorflow.python.framework import config
        config.disable_op_determinism()


@pytest.fixture
def lines_run():
    """Function: the lines of our package that a call runs; work, whatever else the machine does."""
    def count(function):
        lines = [0]

        def trace(frame, event, argument):
            if 'tf_advseg' not in frame.f_code.co_filename:
                return None
            lines[0] += event == 'line'
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            function()
        finally:
            sys.settrace(before)
        return lines[0]
    return count


@pytest.fixture(scope='session')
def tfa():
    """tensorflow_addons, an oracle of ours in the reference lane; it ended with that lane."""
    if lanes.of_python() is not lanes.REFERENCE:
        pytest.skip('tensorflow-addons is of the reference lane (Python 3.9 to 3.11) alone')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the notice that its development has ended
        import tensorflow_addons
    return tensorflow_addons


@pytest.fixture(scope='session')
def repository():
    """The folder of this checkout."""
    return REPOSITORY


@pytest.fixture(scope='session')
def shared():
    """The folder of third-party data and reference numbers; tests skip where it is absent."""
    folder = _shared_folder()
    if not folder.is_dir():
        pytest.skip(f'third-party data is not here: {folder} (set TF_ADVSEG_SHARED)')
    return folder


@pytest.fixture(scope='session')
def official():
    """Reference numbers of the official code, see official_numbers.py; some are committed."""
    spec = importlib.util.spec_from_file_location(
        'official_numbers', REPOSITORY / 'tests' / 'official_numbers.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = _shared_folder()
    return module.OfficialNumbers(folder if folder.is_dir() else None)


def _shared_folder():
    return pathlib.Path(os.environ.get('TF_ADVSEG_SHARED', REPOSITORY.parent / 'shared'))


@pytest.fixture(scope='session')
def stanford(shared, tmp_path_factory):
    """The real Stanford Background folder (iccv09Data), unpacked once a session."""
    import tarfile
    archive = shared / 'data' / 'stanford_background.tar.xz'
    if not archive.is_file():
        pytest.skip(f'the Stanford Background archive is not here: {archive}')
    ready = os.environ.get('TF_ADVSEG_STANFORD')
    if ready:
        return pathlib.Path(ready)
    folder = tmp_path_factory.mktemp('stanford')
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter='data')
    return folder / 'iccv09Data'


@pytest.fixture(scope='session')
def two_replicas():
    """A MirroredStrategy over two logical CPUs."""
    from tf_advseg.training import strategy
    return strategy.mirrored('/cpu:0', '/cpu:1')


@pytest.fixture(scope='session')
def weights():
    """Function (run, name) -> the arrays of a model folder below its checkpoints/."""
    from tf_advseg.run import networks

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
