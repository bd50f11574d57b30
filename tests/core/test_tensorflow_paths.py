"""Folders of any name can be written and read by TensorFlow; no link outlives its process."""
import os
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core import errors, indexed_records, tensorflow_paths
from tf_advseg.models.zoo import tf1_checkpoint
from tf_advseg.training import checkpoints

ODD = ('w [a]', 'back\\slash', 'end\\', 'a*b?', '{x,y}', os.fsdecode(b'caf\xe9'), 'café')


@pytest.fixture(params=ODD, ids=ascii)
def odd(request, tmp_path):
    """A folder whose name, and that of the folder above, TensorFlow misreads."""
    folder = tmp_path / request.param / 'run' / request.param
    folder.mkdir(parents=True)
    return folder


def layer(value):
    made = tf.keras.layers.Dense(2)
    made.build([None, 3])
    made.kernel.assign(tf.fill([3, 2], float(value)))
    return made


def test_a_state_is_read_as_it_was_written(odd):
    checkpoints.write_state(odd / 'state', network=layer(3))
    fresh = layer(0)
    checkpoints.read_state(odd / 'state', network=fresh)
    assert (fresh.kernel.numpy() == 3).all()
    assert sorted(checkpoints.saved_shapes(odd / 'state', 'network')) == [(2,), (3, 2)]


@pytest.mark.parametrize('name', ['model.ckpt-7', 'm [7].ckpt'])
def test_a_tf1_checkpoint_of_any_name_is_read(odd, tmp_path, name):
    tf.raw_ops.SaveV2(prefix=str(tmp_path / 'plain'), tensor_names=['conv/weights'],
                      shape_and_slices=[''], tensors=[tf.ones([2, 3])])
    for path in list(tmp_path.glob('plain.*')):
        path.rename(odd / (name + path.name[len('plain'):]))
    found = tf1_checkpoint.read(tf1_checkpoint.resolve(odd / name))
    np.testing.assert_array_equal(found.arrays['conv/weights'], np.ones([2, 3]))


def test_records_and_events_are_written(odd):
    with indexed_records.IndexedRecordWriter(odd / 'a.tfrecord') as writer:
        writer.write(b'one')
    with indexed_records.IndexedRecordReader(odd / 'a.tfrecord', writer.index) as reader:
        assert reader.read(0) == b'one'
    board = tf.summary.create_file_writer(tensorflow_paths.plain_folder(odd / 'board'))
    with board.as_default():
        tf.summary.scalar('a', 1.0, 0)
    board.close()
    assert [path.name[:6] for path in (odd / 'board').iterdir()] == ['events']


def test_plain_paths_stay_as_they_are_and_a_link_serves_all_below(tmp_path):
    assert tensorflow_paths.plain_folder(tmp_path / 'a b') == str(tmp_path / 'a b')
    first, second = (tensorflow_paths.plain_folder(tmp_path / 'x[1]' / name) for name in 'ab')
    assert os.path.dirname(first) == os.path.dirname(second) and '[' not in first
    (tmp_path / 'x[1]').mkdir()
    assert os.path.samefile(os.path.dirname(first), tmp_path / 'x[1]')


def test_links_go_with_their_process_and_leave_what_they_lead_to(tmp_path):
    target = tmp_path / 'd [1]'
    target.mkdir()
    (target / 'kept').write_text('x')
    link = subprocess.run([sys.executable, '-c', (
        'import sys; from tf_advseg.core import tensorflow_paths as t; '
        'print(t.plain_folder(sys.argv[1]))'), target], capture_output=True, text=True,
        check=True).stdout.strip()
    assert link != str(target) and not os.path.lexists(os.path.dirname(link))
    assert (target / 'kept').is_file()


def test_no_place_for_links_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / '[t]'))
    monkeypatch.setattr(tensorflow_paths, '_PLACES', ())
    monkeypatch.setattr(tensorflow_paths, '_links', {})
    with pytest.raises(errors.UserError, match='TMPDIR'):
        tensorflow_paths.plain_folder(tmp_path / 'x[1]')
