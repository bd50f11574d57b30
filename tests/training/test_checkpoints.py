"""States on disk: what is said when they cannot be written, or are of another network."""
import resource

import pytest
import tensorflow as tf

from tf_advseg.core import errors, files
from tf_advseg.training import checkpoints

INTERNALS = ('{{', '[Op:', files.TEMPORARY, '--workdir')


def layer(width):
    made = tf.keras.layers.Dense(width)
    made.build([None, 300])
    return made


def test_a_file_that_cannot_be_written_is_one_plain_line(tmp_path):
    """TensorFlow's own failure: the system refuses the file at its 2000th byte."""
    target = tmp_path / f'{files.TEMPORARY}voc-new' / 'weights'
    target.parent.mkdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(errors.UserError) as caught:
            checkpoints.write_state(target, network=layer(300))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    message = str(caught.value)
    assert message.startswith(f'{tmp_path}: ') and 'larger than the system allows' in message
    assert not any(word in message for word in INTERNALS)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize('text, said', [
    ('No space left on device', 'the disk is full; free some space'),
    ('Disk quota exceeded', 'the disk quota is used up'),
    ('Something new', 'Something new')])
def test_reasons_are_told_without_tensorflow_s_internals(tmp_path, monkeypatch, text, said):
    def write(self, path):
        raise tf.errors.ResourceExhaustedError(None, None, (
            f'{{{{function_node __wrapped__SaveV2_device_/CPU:0}}}} {path}; {text} [Op:SaveV2]'))

    monkeypatch.setattr(tf.train.Checkpoint, 'write', write)
    with pytest.raises(errors.UserError) as caught:
        checkpoints.write_state(tmp_path / 'state', network=layer(2))
    message = str(caught.value)
    assert message.startswith(f'{tmp_path}/state: weights could not be written: {said}')
    assert not any(word in message for word in INTERNALS)


def test_weights_of_another_shape_are_one_line(tmp_path):
    checkpoints.write_state(tmp_path / 'state', network=layer(2))
    with pytest.raises(errors.UserError, match='does not fit this network'):
        checkpoints.read_state(tmp_path / 'state', network=layer(3))
