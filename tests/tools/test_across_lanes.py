"""What one lane makes the other reads: records, a run directory, a model folder, a SavedModel.

Needs an interpreter of the other lane with its packages: TF_ADVSEG_OTHER_PYTHON, or an environment
beside this one (`make setup VENV=.venv-current PYTHON=python3.13`). `.ci/run` makes both.
"""
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_advseg.core import lanes, run_directory
from tf_advseg.data.records import record_set as record_sets
from tf_advseg.run import networks

SIDE = 49
OPTIONS = {'num_train': 8, 'num_val': 4, 'num_test': 3, 'size': (SIDE, SIDE), 'smallest': (40, 40)}
# Logits of up to 30 differ by 8e-5 between two CPU libraries (tests/models say where from).
CLOSE = {'rtol': 0, 'atol': 1e-3}
TRAINING = ['tools/train.py', '--gin_file=gin/demo_smallest.gin', '--seed=3',
            f'--gin_param=dataset.options={OPTIONS!r}', f'--gin_param=experiment.crop_size={SIDE}',
            '--gin_param=deeplab_mobilenet_v2.depth_multiplier=0.25',
            '--gin_param=stage_one.epochs=2', '--gin_param=stage_one.evaluate_every_epochs=0']
# What LoAd alone reads: a run of another method refuses it.
LOAD = ['--gin_param=input_encoding.size=32', '--gin_param=controller.patience=2',
        '--gin_param=controller.max_total_cycles=1']
LOGITS = """
import sys
import numpy as np
from tf_advseg.core import runtime
tf = runtime.configure()
from tf_advseg.run import networks
segmentor = networks.load(sys.argv[1])[0]
image = np.random.default_rng(0).uniform(0, 255, (1, 49, 49, 3)).astype(np.float32)
np.save(sys.argv[2], segmentor(image, training=False))
print(tf.__version__)
"""


def other_interpreter(repository):
    """Path of a Python of the other lane that has TensorFlow, or None; one that is named has to."""
    named = os.environ.get('TF_ADVSEG_OTHER_PYTHON')
    here = lanes.of_python()
    for path in [named] if named else sorted(repository.glob('.venv*/bin/python')):
        done = subprocess.run(
            [str(path), '-c', 'import sys, tensorflow; print(*sys.version_info[:2])'], text=True,
            capture_output=True, check=False, env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3'})
        words = done.stdout.split()[-2:]
        if done.returncode == 0 and not here.has(tuple(map(int, words))):
            return str(path)
        assert not named, f'TF_ADVSEG_OTHER_PYTHON={named}: {words} {done.stderr[-500:]}'
    return None


@pytest.fixture(scope='module')
def run_in(repository):
    """Function (interpreter, words, may_fail=False) -> the finished process, in the clone."""
    def run(interpreter, *words, may_fail=False):
        # Keras 2 is asked for by the child itself; a setting of this lane would mislead the other.
        clean = {name: value for name, value in os.environ.items()
                 if name not in ('TF_USE_LEGACY_KERAS', 'KERAS_BACKEND')}
        done = subprocess.run([interpreter, *map(str, words)], cwd=repository, text=True,
                              capture_output=True, check=False, timeout=3000, env=clean)
        assert may_fail or done.returncode == 0, done.stderr[-3000:]
        return done
    return run


@pytest.fixture(scope='module')
def made(repository, run_in, tmp_path_factory):
    """A folder in which the other lane has made records, a run, a SavedModel and logits."""
    other = other_interpreter(repository)
    if other is None:
        pytest.skip('no Python of the other lane with its packages: set TF_ADVSEG_OTHER_PYTHON, or '
                    'make setup VENV=.venv-current PYTHON=python3.13')
    folder = tmp_path_factory.mktemp('other_lane')
    prepare(run_in, other, folder / 'records')
    run_in(other, *TRAINING, *LOAD, f'--data_dir={folder / "records"}',
           f'--workdir={folder / "run"}')
    run_in(other, 'tools/export.py', f'--checkpoint={folder / "run"}',
           f'--output={folder / "exported"}', '--format=saved_model')
    run_in(other, '-c', LOGITS, folder / 'run', folder / 'logits.npy')
    return folder


def prepare(run_in, interpreter, folder):
    """Draws the same few scenes into a folder of records."""
    run_in(interpreter, 'tools/prepare_data.py', '--dataset=shapes', f'--output={folder}',
           *(f'--option={name}={value}' for name, value in OPTIONS.items()))


@pytest.fixture(scope='module')
def image():
    return np.random.default_rng(0).uniform(0, 255, (1, SIDE, SIDE, 3)).astype(np.float32)


def test_records_are_the_same_bytes_in_both_lanes(made, run_in, tmp_path):
    prepare(run_in, sys.executable, tmp_path / 'records')
    ours, theirs = ({path.name: path.read_bytes() for path in folder.glob('*tfrecord*')}
                    for folder in (tmp_path / 'records', made / 'records'))
    assert ours and ours == theirs


def test_records_are_read(made):
    there = record_sets.RecordSet(made / 'records')
    assert {name: len(there.split(name)) for name in ('train', 'val', 'test')} == {
        'train': 8, 'val': 4, 'test': 3}
    image, label = there.load(there.split('test')[0])
    assert image.shape == label.shape + (3,) and label[label != 255].max() < there.spec.num_classes


def test_the_networks_of_a_run_give_the_same_logits(made, image):
    segmentor, spec, _ = networks.load(made / 'run')
    logits = segmentor(image, training=False).numpy()
    assert spec.num_classes == logits.shape[-1]
    np.testing.assert_allclose(logits, np.load(made / 'logits.npy'), **CLOSE)
    assert np.ptp(logits) > 0.01
    for which in ('stage1', 'control'):
        assert networks.load(made / 'run', which)[0](image, training=False).shape == logits.shape


def test_a_saved_model_is_read_as_a_network_and_run_as_a_graph(made, image):
    expected = np.load(made / 'logits.npy')
    network = networks.load(made / 'exported')[0]
    np.testing.assert_allclose(network(image, training=False), expected, **CLOSE)
    signature = tf.saved_model.load(str(made / 'exported')).signatures['class_map']
    classes = signature(image=tf.constant(image.astype(np.uint8)))['class_map'].numpy()
    assert classes.shape == (1, SIDE, SIDE) and classes.max() < expected.shape[-1]


def test_evaluate_finds_the_scores_that_the_other_lane_found(made, run_in, tmp_path):
    run_in(sys.executable, 'tools/evaluate.py', f'--checkpoint={made / "run"}', '--split=test',
           f'--output={tmp_path / "scores.json"}')
    found = next(iter(json.loads((tmp_path / 'scores.json').read_text())['models'].values()))
    theirs = json.loads((made / 'run' / 'results.json').read_text())['models']
    # Rounding may move a pixel on the border of two classes, of the 7203 at most.
    assert abs(found['miou'] - theirs['LoAd']['test']['miou']) <= 0.01


def test_the_other_tools_read_it(made, run_in, tmp_path):
    run = made / 'run'
    assert 'finished' in run_in(sys.executable, 'tools/inspect_run.py', f'--workdir={run}').stdout
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.uint8)
    Image.fromarray(np.stack([rows, columns, rows], -1)).save(tmp_path / 'a.png')
    maps = []
    for name, checkpoint in (('run', run), ('saved', made / 'exported')):
        run_in(sys.executable, 'tools/predict.py', f'--checkpoint={checkpoint}',
               f'--input={tmp_path / "a.png"}', f'--output={tmp_path / name}')
        maps.append(np.array(Image.open(next((tmp_path / name).rglob('a*.png')))))
    assert maps[0].shape[:2] == (SIDE, SIDE) and np.mean(maps[0] == maps[1]) > 0.99  # but for ties
    run_in(sys.executable, 'tools/export.py', f'--checkpoint={run}',
           f'--output={tmp_path / "exported"}', '--format=saved_model')
    assert (tmp_path / 'exported' / 'saved_model.pb').is_file()


def test_a_new_run_starts_from_it(made, run_in, tmp_path):
    run_in(sys.executable, *TRAINING, f'--data_dir={made / "records"}',
           f'--checkpoint={made / "run"}', f'--workdir={tmp_path / "new"}',
           "--gin_param=experiment.method='cross_entropy'")
    assert json.loads((tmp_path / 'new' / 'results.json').read_text())['models']


def test_it_is_not_gone_on_with_and_nothing_in_it_changes(made, run_in):
    def state():
        return {path: path.stat().st_mtime_ns for path in (made / 'run').rglob('*')
                if path.is_file() and path.name != '.lock'}
    before = state()
    done = run_in(sys.executable, *TRAINING, *LOAD, f'--data_dir={made / "records"}',
                  f'--workdir={made / "run"}', may_fail=True)
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if line] == [
        f'error: {made / "run"}: was started with '
        + next(lane.described for lane in lanes.LANES
               if lane.name == run_directory.lane_of(made / 'run'))
        + f', this is {lanes.of_python().described}; a run is taken up in its own lane alone: go '
        'on with it there, or choose another --workdir (evaluate, predict, export and inspect_run '
        'read it from here)']
    assert state() == before
