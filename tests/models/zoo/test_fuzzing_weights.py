"""Damaged files of weights: refused in one line that names them, or read; nothing half-assigned.

More of the same with --slow. `zoo.read` is what import_checkpoint and train call.
"""
import shutil

import fuzzing
import h5py
import mutations
import numpy as np
import pytest
from hypothesis import strategies as some

from tf_advseg.core.errors import UserError
from tf_advseg.models import dilated8, zoo
from tf_advseg.models.zoo import tflite_export

KINDS = ('index', 'data', 'state', 'archive', 'graph', 'tflite', 'h5')


@pytest.fixture(scope='module')
def sound(official_files, small, tmp_path_factory):
    """{kind: (network, folder, the file that is damaged, what is read)} of sound weights."""
    folder = tmp_path_factory.mktemp('sound')
    (folder / 'tf1').mkdir()
    for path in small.folder.iterdir():
        shutil.copy(path, folder / 'tf1')
    tf1 = folder / 'tf1' / 'model.ckpt-30000'
    found = {kind: (small.model, tf1.with_name(tf1.name + ending), tf1)
             for kind, ending in (('index', '.index'), ('data', '.data-00000-of-00001'))}
    found['state'] = small.model, tf1.with_name('checkpoint'), tf1.parent
    names = sorted(path.name for path in tf1.parent.iterdir())
    one = folder / 'archive' / 'zoo.tar.gz'
    one.parent.mkdir()
    official_files.archive(one, [(f'mnv2/{name}', tf1.parent / name) for name in names])
    found['archive'] = small.model, one, one
    lite = folder / 'lite' / 'm.tflite'
    lite.parent.mkdir()
    # A model of its own: what is called before a graph of TF1 is built cannot be called after it.
    model = official_files.fill(official_files.mobilenet(), small.values)
    lite.write_bytes(tflite_export.convert(model, (65, 65), 'float32'))
    found['tflite'] = small.model, lite, lite
    keras = folder / 'keras' / 'vgg.h5'
    keras.parent.mkdir()
    with h5py.File(keras, 'w') as file:
        for name, shape in (('block1_conv1', (3, 3, 3, 64)), ('block1_conv2', (3, 3, 64, 64))):
            file[f'{name}/{name}/kernel:0'] = np.zeros(shape, np.float32)
            file[f'{name}/{name}/bias:0'] = np.zeros(shape[-1], np.float32)
    found['h5'] = dilated8.dilated8(4, fc_channels=8), keras, keras
    graph = folder / 'graph' / 'frozen.pb'
    graph.parent.mkdir()
    graph.write_bytes(official_files.frozen(
        official_files.mobilenet, small.values).SerializeToString())
    found['graph'] = small.model, graph, graph
    return found


def trial(sound, example):
    """Reads what is damaged: a report, or one line, and then the network is as it was."""
    kind, damage = example
    network, file, source = sound[kind]
    copy, path = fuzzing.lay(
        file.parent, lambda content: mutations.damaged(content, damage), file.name)
    source = copy if source == file.parent else copy / source.name
    scratch = fuzzing.scratch_of(copy)
    before, values = fuzzing.inventory(scratch), [v.numpy() for v in network.variables]
    try:
        try:
            with fuzzing.limited():
                zoo.read(source, network)
            return
        except UserError as error:
            said = str(error)
        for variable, value in zip(network.variables, values):
            np.testing.assert_array_equal(variable, value)
        assert '\n' not in said and len(said) < 3000
        assert str(source) in said or path.name in said, said
        assert fuzzing.inventory(scratch) == before
    finally:
        shutil.rmtree(scratch)


@pytest.mark.parametrize('number', [10, pytest.param(100, marks=pytest.mark.slow)])
def test_damaged_weights(sound, number, record_property):
    strategy = some.tuples(some.sampled_from(KINDS), mutations.damages())
    fuzzing.campaign(strategy, number, lambda each: trial(sound, each), record_property)
