"""A finished run put together by hand, and tools called in this process."""
import importlib
import json
import os
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from tf_advseg.core import command_line, configuration, files, run_directory

SIDE = 49
OPTIONS = {'num_train': 10, 'num_val': 6, 'num_test': 5, 'size': (SIDE, SIDE),
           'smallest': (40, 40)}
CONFIG = (f'experiment.crop_size = {SIDE}', "dataset.reader = 'shapes'",
          f'dataset.options = {OPTIONS!r}', 'dataset.holdout_fraction = 0.5')


def load_tool(name):
    """The module of a tool, loaded anew: its own defaults of common flags are set when it is.

    Tools are programs of their own: two of them may have a flag of one name, so those of others go.
    """
    sys.modules.pop(f'tools.{name}', None)
    tools = [flag for module, found in flags.FLAGS.flags_by_module_dict().items()
             if module.startswith('tools.') for flag in found]
    for flag in {*command_line.COMMON_FLAGS, *(flag.name for flag in tools)}:
        if flag in flags.FLAGS:
            delattr(flags.FLAGS, flag)
    return importlib.import_module(f'tools.{name}')


@pytest.fixture
def call():
    """Function (tool's name, words...) -> runs its main() here, flags parsed as by the tool."""
    def run(name, *words):
        module = load_tool(name)
        with flagsaver.flagsaver():
            rest = flags.FLAGS([name, *map(str, words)])
            return module.main(rest)

    yield run
    flags.FLAGS.unparse_flags()


@pytest.fixture
def typed(repository, tmp_path):
    """Function (script) -> subprocess's result: run by bash in a folder that looks like a clone."""
    for name in ('tools', 'gin', 'tf_advseg'):
        (tmp_path / name).symlink_to(repository / name)
    environment = {**os.environ, 'PATH': f'{os.path.dirname(sys.executable)}:{os.environ["PATH"]}'}

    def run(script):
        done = subprocess.run(['bash', '-eu', '-c', script], cwd=tmp_path, env=environment,
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done

    return run


@pytest.fixture
def parse_words():
    """Function (tool's name, words...) -> (its flags as a dict, words that are no flags)."""
    def parse(name, *words):
        load_tool(name)
        with flagsaver.flagsaver():
            rest = flags.FLAGS([name, *map(str, words)])
            return dict(flags.FLAGS.flag_values_dict()), rest[1:]

    yield parse
    flags.FLAGS.unparse_flags()


def write_lookahead(run):
    """LoAd's state of a run of one cycle: two slots, snapshots, journal, metrics, seconds."""
    import tensorflow as tf

    from tf_advseg.core import journal
    from tf_advseg.lookahead import controller as controllers
    from tf_advseg.lookahead import map_buffer, run_state, snapshots
    controller = controllers.Controller(patience=2, max_total_cycles=1)
    controller.start(0.4)
    controller.begin_cycle()
    controller.propagated(0.45)
    controller.propagated(0.42)
    controller.end_cycle()
    buffer = map_buffer.MapBuffer(run.lookahead / 'buffer')
    store = snapshots.SnapshotStore(run.lookahead / 'snapshots')
    layer = tf.keras.layers.Dense(2)
    layer.build([None, 3])
    for peak, end in (('g0', None), ('g1', 'e00')):
        for label in (peak, end):
            if label:
                buffer.write_slot(label, [(f'p{i}', 'train' if i else 'holdout',
                                           np.full((4, 4, 8), i, np.float32)) for i in range(3)])
        buffer.aggregate(peak, end)
    for role in ('g0', 'best', 'end'):
        store.save(role, layer, tf.keras.optimizers.SGD(0.1))
    store.alias('start', 'best')
    seconds = {'generator step': 4.0, 'hold-out evaluation': 3.0, 'map generation': 1.0,
               'discriminator training': 11.0, 'the rest': 0.6, 'balancing': 0.4}
    with journal.Journal(run.journal_path) as log, journal.Journal(run.metrics_path) as metrics:
        log.append('start', budget_step=0, cycle=0, miou=0.4, label='g0')
        log.append('aggregate', budget_step=0, cycle=0, slots=['g0'], bytes=1)
        log.append('retrain', budget_step=0, cycle=0, epochs=3)
        for step, miou in enumerate((0.45, 0.42), start=1):
            metrics.append('propagation', budget_step=step, cycle=0, miou=miou)
        log.append('end', budget_step=2, cycle=0, label='e00', miou=0.42, reason='patience')
        log.append('aggregate', budget_step=2, cycle=1, slots=['g1', 'e00'], bytes=2)
        log.append('finished', budget_step=2, cycle=1, propagations=2, seconds=seconds)
        state = run_state.RunState(phase='finished', budget_step=2, discriminator_epochs=3,
                                   retrains=1, adversarial_weight=0.25)
        run_state.Durable(run.lookahead, controller, store, buffer, log, metrics, True).write(
            state, seconds)


@pytest.fixture(scope='session')
def made_run(tmp_path_factory):
    """A run directory on `shapes` with untrained models best, stage1 and control.

    Returns:
      namespace of path, gin (the bindings), data (ExperimentData), segmentor (the best).
    """
    from tf_advseg.run import dataset as datasets
    from tf_advseg.experiments.train import run_stages
    from tf_advseg.experiments.train import training
    from tf_advseg.run import networks
    path = tmp_path_factory.mktemp('made') / 'run'
    configuration.parse([], CONFIG)
    with run_directory.RunDirectory(path) as run:
        run.open(configuration.config_text(), training.MAY_CHANGE)
        data = datasets.dataset(run.path)
        scores = {}
        for number, name in enumerate(('stage1', 'control', 'best')):
            # A network that is traced in no time: each tool traces it anew.
            description = networks.describe('farabet', num_classes=8, seed=number, hidden=8,
                                            crop_size=(SIDE, SIDE))
            segmentor = networks.build(description)
            # Untrained logits are all but equal: spread, they give every class.
            kernel = segmentor.logits.scores.kernel
            kernel.assign(kernel * 300.0)
            networks.save(run.checkpoints / name, segmentor, description, data.spec,
                          label=f'g{number}', holdout_miou=0.1 * number)
            scores[('Stage 1', 'control (CE)', 'LoAd')[number]] = {
                split: {'miou': 0.1 * number + 0.2, 'pixel_accuracy': 0.5,
                        'class_iou': {'sky': 0.3}} for split in ('holdout', 'test')}
        write_lookahead(run)
        files.write_json(run.path / run_stages.RESULTS, {
            'models': scores, 'seconds': {'load': 20.0}, 'seed': 0, 'dataset': 'shapes',
            'images': {'holdout': 3, 'val_without_holdout': 3, 'test': 5}})
    configuration.parse([], [])
    return types.SimpleNamespace(path=path, gin=CONFIG, data=data, segmentor=segmentor)


@pytest.fixture(scope='session')
def deeplab_folder(made_run, tmp_path_factory):
    """(a small DeepLab whose logits differ, the model folder it lies in)."""
    from tf_advseg.run import networks
    folder = tmp_path_factory.mktemp('deeplab') / 'model'
    description = networks.describe('deeplab_mobilenet_v2', num_classes=8, seed=2,
                                    crop_size=(SIDE, SIDE), depth_multiplier=0.25)
    segmentor = networks.build(description)
    segmentor.logits.kernel.assign(segmentor.logits.kernel * 300.0)
    networks.save(folder, segmentor, description, made_run.data.spec)
    return segmentor, folder


@pytest.fixture
def run_copy(made_run, tmp_path):
    """A copy of the made run that a test may spoil: its Path."""
    import shutil
    return pathlib.Path(shutil.copytree(made_run.path, tmp_path / 'run'))


@pytest.fixture(scope='session')
def own_folder(made_run, tmp_path_factory):
    """Images of the made run as a folder of one's own: images/, labels/, classes.txt."""
    from tf_advseg.experiments.train import demonstration
    folder = tmp_path_factory.mktemp('own') / 'images'
    demonstration.write_example(made_run.data.records, folder, 6)
    return folder


@pytest.fixture
def entries():
    """Function: reads a JSON-lines file."""
    return lambda path: [json.loads(line) for line in path.read_text().splitlines()]
