"""A small whole run of every method with deterministic operations, by tools/train.py.

On a GPU it either works, or ends in the one line that names what has no deterministic kernel; then
it works without deterministic operations.
"""
import json
import subprocess

import pytest
import whole_run

from tf_advseg.experiments.studies import sweeping

BRIEF = ('adversarial_stage.steps = 4', 'adversarial_stage.evaluate_every_epochs = 0',
         'adversarial_stage.diagnose_every = 2', "adversarial_stage.keep = 'last'")
NO_STAGE_ONE = ('stage_one.weighted_epochs = 0', 'stage_one.epochs = 0')
# method -> (gin file, bindings beside the scenes)
RUNS = {
    'cross_entropy': (None, ("experiment.method = 'cross_entropy'", 'stage_one.epochs = 1',
                             'stage_one.weighted_epochs = 1', 'stage_one.batch_size = 2')),
    'load': ('load', (
        'stage_one.epochs = 1', 'stage_one.weighted_epochs = 1', 'stage_one.batch_size = 2',
        "build_discriminator.name = 'small_cnn'", 'build_discriminator.alpha = 0.25',
        'input_encoding.size = 32', 'lookahead.batch_size = 2', 'lookahead.balance_batches = 1',
        'lookahead.discriminator_batch_size = 2', 'lookahead.min_epochs = 1',
        'lookahead.max_epochs = 1', 'lookahead.reestimate_batches = 1', 'controller.patience = 2',
        'controller.max_total_cycles = 1')),
    'luc': ('luc', (*NO_STAGE_ONE, *BRIEF, "build_fov_discriminator.name = 'small_fov_light'",
                    'alternation.every = 1')),
    'durall': ('durall', (*BRIEF, 'build_pixel_discriminator.widths = (8, 16)',
                          'durall.map_stride = 2', 'swa.every = 2')),
    'hung': ('hung', (*BRIEF, 'semi_supervised.fraction = 0.5', 'hung.map_stride = 2',
                      'build_fc_discriminator.widths = (8, 16)', 'hung.semi_start = 2',
                      'hung.classifier_multiplier = 1.0')),
    'zhu': ('zhu', (*NO_STAGE_ONE, *BRIEF, 'reconstruction_stage.batch_size = 2',
                    'reconstruction_stage.steps = 3',
                    'reconstruction_stage.evaluate_every_epochs = 0',
                    'build_reconstruction_generator.widths = (3, 4)',
                    'build_reconstruction_generator.dropout_layers = 1',
                    'build_patch_discriminator.widths = (3, 4)'))}


def train(workdir, method, *flags):
    """The ended process of a run of a method."""
    name, bindings = RUNS[method]
    path = f'gin/methods/{name}.gin' if name else 'gin/datasets/shapes.gin'
    command = [*sweeping.train_command(), f'--gin_file={path}', f'--workdir={workdir}', *flags,
               *(f'--gin_param={text}' for text in (*whole_run.scenes(), *bindings))]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def models_of_run(workdir, method, *flags):
    """A run that works, or names what has no deterministic kernel and works without."""
    ended = train(workdir, method, *flags)
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1]
        assert 'Traceback' not in ended.stderr
        assert last.startswith('error: TensorFlow has no deterministic GPU kernel for '), last
        print(f'{method}: {last}')
        ended = train(workdir, method, *flags, '--nodeterministic')
    assert ended.returncode == 0, ended.stderr[-2000:]
    models = json.loads((workdir / 'results.json').read_text())['models']
    assert all(0.0 <= scores['test']['miou'] <= 1.0 for scores in models.values())
    return models


@pytest.mark.parametrize('method', RUNS)
def test_a_whole_run_on_a_gpu(gpu, tmp_path, method):
    assert models_of_run(tmp_path / 'run', method)


@pytest.mark.parametrize('method', RUNS)
def test_a_whole_run_on_two_gpus(two_gpus, tmp_path, method):
    assert models_of_run(tmp_path / 'run', method, '--strategy=mirrored')


@pytest.mark.slow
@pytest.mark.parametrize('method', RUNS)
def test_the_same_runs_without_a_gpu(tmp_path, monkeypatch, method):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '-1')
    assert models_of_run(tmp_path / 'run', method)
