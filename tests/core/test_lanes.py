"""Which Python goes with which TensorFlow, and what is set before TensorFlow is imported."""
import os
import subprocess
import sys

import pytest

from tf_advseg.core import lanes
from tf_advseg.core.errors import UserError

OURS = ('TF_ENABLE_ONEDNN_OPTS', 'TF_USE_LEGACY_KERAS', 'KERAS_BACKEND')


def python(repository, code, check=True, **environment):
    """Runs code in a fresh interpreter without our variables; returns what it printed."""
    clean = {name: value for name, value in os.environ.items() if name not in OURS}
    done = subprocess.run([sys.executable, '-c', code], cwd=repository, text=True, check=check,
                          capture_output=True, env={**clean, **environment})
    return done.stdout.split(), done.stderr


@pytest.mark.parametrize('version, name', [
    ((3, 9), 'reference'), ((3, 10, 1), 'reference'), ((3, 11, 9, 'final', 0), 'reference'),
    ((3, 12), 'current'), ((3, 13, 2), 'current')])
def test_every_python_from_3_9_to_3_13_has_a_lane(version, name):
    assert lanes.of_python(version).name == name


@pytest.mark.parametrize('version', [(3, 8), (3, 14), (2, 7), (4, 0)])
def test_another_python_is_one_line_that_says_what_to_install(version):
    with pytest.raises(UserError) as error:
        lanes.of_python(version)
    text = str(error.value)
    assert f'this is {version[0]}.{version[1]}' in text and 'Python 3.9 to 3.13' in text
    assert 'install one of these' in text and '\n' not in text


@pytest.mark.parametrize('version, name', [('2.15.1', 'reference'), ('2.9.0-rc1', 'reference'),
                                           ('2.16.1', 'current'), ('2.21.0', 'current')])
def test_keras_2_in_tensorflow_itself_marks_the_reference_lane(version, name):
    assert lanes.of_tensorflow(version) == name


def test_this_interpreter_has_its_lane_s_tensorflow():
    import tensorflow as tf
    lane = lanes.of_python()
    assert lanes.of_tensorflow(tf.__version__) == lane.name
    assert issubclass(tf.keras.Model, tf.Module)
    assert tf.keras.Model.__module__.split('.')[0] == (
        'keras' if lane is lanes.REFERENCE else 'tf_keras')


def test_any_room_sets_the_environment_before_tensorflow_and_a_user_s_value_stays(repository):
    code = ('import os\nimport tf_advseg.losses.pixel\nfrom tf_advseg.core import runtime\n'
            'print(os.environ["TF_ENABLE_ONEDNN_OPTS"], runtime.onednn_is_on(),'
            ' os.environ["KERAS_BACKEND"], os.environ.get("TF_USE_LEGACY_KERAS"))\n')
    legacy = 'None' if lanes.of_python() is lanes.REFERENCE else '1'
    assert python(repository, code)[0] == ['1', 'True', 'tensorflow', legacy]
    assert python(repository, code, TF_ENABLE_ONEDNN_OPTS='0')[0][:2] == ['0', 'False']


def test_tensorflow_imported_first_is_no_obstacle_as_long_as_keras_is_not_settled(repository):
    out, _ = python(repository, 'import tensorflow as tf\nimport tf_advseg\n'
                                'print(tf.keras.Model.__module__.split(".")[0])')
    assert out == ['keras' if lanes.of_python() is lanes.REFERENCE else 'tf_keras']


def test_keras_3_that_came_first_is_one_clear_line(repository):
    if lanes.of_python() is lanes.REFERENCE:
        pytest.skip('TensorFlow 2.15 has no Keras 3')
    _, err = python(repository, 'import tensorflow as tf\ntf.keras.Model\nimport tf_advseg\n',
                    check=False)
    last = err.strip().splitlines()[-1]
    assert 'imported before tf_advseg' in last and 'TF_USE_LEGACY_KERAS=1' in last


def test_an_environment_without_tf_keras_is_one_clear_line():
    class WithoutKeras:
        __version__ = '2.21.0'

        @property
        def keras(self):
            raise ImportError('Keras cannot be imported')

    with pytest.raises(UserError, match='tf-keras is not installed.*pip install'):
        lanes.require_keras_2(WithoutKeras())
