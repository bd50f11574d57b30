"""Damaged files of weights: refused in one line that names them, or read; nothing half-assigned.

More of the same with --slow. `zoo.read` is what import_checkpoint and train call.
"""
import functools
import pathlib
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

QUICK = ('index', 'data', 'state', 'archive', 'h5')
KINDS = (*QUICK, 'graph', 'tflite')  # these take TensorFlow seconds to make


@pytest.fixture(scope='module')
def sound(official_files, small, tmp_path_factory):
    """Function kind -> (network, the file that is damaged, what is read) of sound weights."""
    folder = tmp_path_factory.mktemp('sound')
    tf1 = pathlib.Path(shutil.copytree(small.folder, folder / 'tf1')) / 'model.ckpt-30000'

    def archive(path):
        names = sorted(file.name for file in tf1.parent.iterdir())
        official_files.archive(path, [(f'mnv2/{name}', tf1.parent / name) for name in names])

    def graph(path):
        path.write_bytes(official_files.frozen(
            official_files.mobilenet, small.values).SerializeToString())

    def tflite(path):
        # A model of its own: what is called before a graph of TF1 is built cannot be after it.
        model = official_files.fill(official_files.mobilenet(), small.values)
        path.write_bytes(tflite_export.convert(model, (65, 65), 'float32'))

    def h5(path):
        with h5py.File(path, 'w') as file:
            for name, shape in (('block1_conv1', (3, 3, 3, 64)), ('block1_conv2', (3, 3, 64, 64))):
                file[f'{name}/{name}/kernel:0'] = np.zeros(shape, np.float32)
                file[f'{name}/{name}/bias:0'] = np.zeros(shape[-1], np.float32)

    @functools.lru_cache(None)
    def made(kind):
        if kind in ('index', 'data'):
            end = {'index': '.index', 'data': '.data-00000-of-00001'}[kind]
            return small.model, tf1.with_name(tf1.name + end), tf1
        if kind == 'state':
            return small.model, tf1.with_name('checkpoint'), tf1.parent
        make, name = {'archive': (archive, 'zoo.tar.gz'), 'graph': (graph, 'frozen.pb'),
                      'tflite': (tflite, 'm.tflite'), 'h5': (h5, 'vgg.h5')}[kind]
        path = folder / kind / name
        path.parent.mkdir()
        make(path)
        network = dilated8.dilated8(4, fc_channels=8) if kind == 'h5' else small.model
        return network, path, path
    return made


def read(network, folder, name, change, source):
    """Reads a changed file: a report, or one line, and then the network is as it was."""
    copy, path = fuzzing.lay(folder, change, name)
    source = copy if source == folder else copy / source.name
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
    finally:
        after = fuzzing.inventory(scratch)
        shutil.rmtree(scratch)
        assert after == before


@pytest.mark.parametrize('kinds, number', [
    (QUICK, 10), pytest.param(KINDS, 100, marks=pytest.mark.slow)])
def test_damaged_weights(sound, kinds, number, record_property):
    def trial(example):
        kind, damage = example
        network, file, source = sound(kind)
        read(network, file.parent, file.name,
             lambda content: mutations.damaged(content, damage), source)

    strategy = some.tuples(some.sampled_from(kinds), mutations.damages())
    tried = fuzzing.campaign(strategy, number, trial, record_property)
    assert tried == number


@pytest.mark.parametrize('number', [4, pytest.param(40, marks=pytest.mark.slow)])
def test_odd_archives_of_weights(sound, number, record_property):
    network, index, _ = sound('index')
    data = {f'mnv2/{path.name}': path.read_bytes() for path in sorted(index.parent.iterdir())}
    archive = sound('archive')[1]

    def trial(example):
        read(network, archive.parent, archive.name, lambda _: example[0], archive)

    tried = fuzzing.campaign(mutations.archives(data, ('tar', 'tar.gz')), number, trial,
                             record_property)
    assert tried == number
