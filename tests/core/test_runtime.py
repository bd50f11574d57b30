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
