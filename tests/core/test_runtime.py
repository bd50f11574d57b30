"""TensorFlow's set-up, and the silence in which it and keras-cv are imported."""
import os
import subprocess
import sys

import pytest

from tf_advseg.core import runtime
from tf_advseg.core.errors import UserError


def python(repository, code, **environment):
    """Runs code in a fresh interpreter; returns (stdout, stderr)."""
    clean = {name: value for name, value in os.environ.items()
             if not name.startswith(('TF_', 'KERAS_'))}
    done = subprocess.run([sys.executable, '-c', code], cwd=repository, text=True, check=True,
                          capture_output=True, env={**clean, **environment})
    return done.stdout, done.stderr


def test_everything_is_imported_without_a_word(repository):
    out, err = python(repository, (
        'from tf_advseg.core import runtime\n'
        'tf = runtime.configure(logical_cpus=2, threads=1, deterministic=True, seed=5)\n'
        'keras_cv = runtime.import_keras_cv()\n'
        'print(keras_cv.__version__)\n'
        'print(len(tf.config.list_logical_devices("CPU")))\n'
        'print(tf.config.threading.get_intra_op_parallelism_threads())\n'
        'from tensorflow.python.framework import config\n'
        'print(config.is_op_determinism_enabled())\n'
        'runtime.configure(logical_cpus=1, threads=1)\n'
        'for wish in ({"logical_cpus": 3}, {"threads": 2}):\n'
        '    try: runtime.configure(**wish)\n'
        '    except runtime.UserError as error: print(error)\n'))
    assert err == ''
    lines = out.splitlines()
    assert lines[:4] == ['0.9.0', '2', '1', 'True']
    assert len(lines) == 6 and all('initialised already' in line for line in lines[4:])


def test_core_imports_no_tensorflow_and_the_user_s_log_level_stays(repository):
    out, _ = python(repository, (
        'import os, sys\n'
        'from tf_advseg.core import (command_line, configuration, errors, files, indexed_records,\n'
        '                            journal, progress, random_streams, run_directory, runtime)\n'
        'runtime.silence_tensorflow()\n'
        'print("tensorflow" in sys.modules, os.environ["TF_CPP_MIN_LOG_LEVEL"])\n'),
        TF_CPP_MIN_LOG_LEVEL='1')
    assert out.split() == ['False', '1']


def test_this_session_has_two_logical_cpus_and_may_ask_again():
    tf = runtime.configure(logical_cpus=2)
    assert len(tf.config.list_logical_devices('CPU')) >= 2
    with pytest.raises(UserError, match='initialised already'):
        runtime.configure(logical_cpus=64)


def test_what_an_import_that_fails_has_to_say_is_shown(repository, tmp_path):
    """Stderr is held back while TensorFlow is imported, below Python too; a failure shows it."""
    (tmp_path / 'tensorflow.py').write_text(
        'import os\nos.write(2, b"a library complains\\n")\nraise OSError("libfoo is not there")\n')
    done = subprocess.run(
        [sys.executable, '-c', 'from tf_advseg.core import runtime; runtime.import_tensorflow()'],
        cwd=repository, text=True, capture_output=True, check=False,
        env={**os.environ, 'PYTHONPATH': str(tmp_path), 'TF_CPP_MIN_LOG_LEVEL': '3'})
    assert done.returncode == 1
    assert 'a library complains' in done.stderr and 'libfoo is not there' in done.stderr


# TensorFlow's own sentences, as they stand in the libraries of 2.15.1 and 2.21.0.
SENTENCES = {
    'Determinism is not yet supported in GPU implementation of DenseBincount.': 'DenseBincount',
    'Determinism is not yet supported for MaxPoolGradWithArgmax.': 'MaxPoolGradWithArgmax',
    'Determinism is not yet supported in GPU implementation of Scatter ops with ref inputs. '
    'Consider using resource variables instead if you want to run Scatter when op determinism is '
    'enabled.': 'Scatter ops with ref inputs',
    'A deterministic GPU implementation of fused batch-norm backprop, when training is disabled, '
    'is not currently available.': 'fused batch-norm backprop, when training is disabled',
    'A deterministic GPU implementation of DepthwiseConvBackpropFilter is not available with this '
    'version of cuDNN. Please build with cuDNN version 7.6.3 or later.':
        'DepthwiseConvBackpropFilter',
    'Deterministic GPU implementation of unsorted segment reduction op not available.':
        'unsorted segment reduction op',
    'The GPU implementation of SoftmaxCrossEntropyWithLogits that would have been executed is not '
    'deterministic. Note that the Python API uses an alternative, deterministic, GPU-accelerated '
    'path when determinism is enabled.': 'SoftmaxCrossEntropyWithLogits'}


@pytest.mark.parametrize('sentence', SENTENCES)
def test_operations_without_a_deterministic_kernel_are_named(sentence):
    import tensorflow as tf
    text = ('Graph execution error:\n\nDetected at node gradient_tape/bn defined at (most recent '
            f'call last):\n  File "a.py", line 3, in <module>\n{sentence}\n\t [[{{{{node bn}}}}]] '
            '[Op:__inference_run_12]')
    name = runtime.operation_without_deterministic_kernel
    assert name(tf.errors.UnimplementedError(None, None, text)) == SENTENCES[sentence]
    assert name(tf.errors.InternalError(None, None, text)) is None  # not what it is raised as
    assert name(RuntimeError(text)) is None


def test_what_is_not_built_for_another_reason_is_no_question_of_determinism():
    import tensorflow as tf
    error = tf.errors.UnimplementedError(None, None, 'Fused conv is not implemented for grouped')
    assert runtime.operation_without_deterministic_kernel(error) is None


def test_tensorflows_library_still_says_it_in_these_words():
    """The first sentences of the list, in the library that this session has loaded."""
    import mmap
    import pathlib

    import tensorflow as tf
    library = pathlib.Path(tf.__file__).parent / 'libtensorflow_cc.so.2'
    with open(library, 'rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        missing = [sentence for sentence in SENTENCES if text.find(sentence.encode()) < 0]
    assert not missing


@pytest.mark.skipif(sys.version_info[:2] not in ((3, 11), (3, 13)),
                    reason='what a tensor loses was looked at on Python 3.11 and 3.13 alone')
def test_tensors_lose_next_to_nothing(repository):
    """Of each 16 bytes at most, after variables and layers have given tensors attributes."""
    out, _ = python(repository, (
        'import tracemalloc\n'
        'from tf_advseg.training import strategy\n'
        'strategy.make_strategy()\n'
        'import tensorflow as tf\n'
        'network = tf.keras.Sequential([tf.keras.layers.Dense(2), tf.keras.layers.Dense(2)])\n'
        'network(tf.zeros([1, 2]))\n'
        'tf.constant([1.0])\n'
        'tracemalloc.start()\n'
        'before = tracemalloc.get_traced_memory()[0]\n'
        'for _ in range(2000): tf.constant([1.0])\n'
        'print((tracemalloc.get_traced_memory()[0] - before) / 2000)\n'), TF_CPP_MIN_LOG_LEVEL='3')
    assert float(out) < 17
