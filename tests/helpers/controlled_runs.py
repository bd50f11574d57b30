"""Small runs with a control: of Durall and of Luc, without their reports."""
from unittest import mock

import numpy as np
import tensorflow as tf

from tf_advseg.core import configuration
from tf_advseg.experiments.train import run_report
from tf_advseg.experiments.train import run_results
from tf_advseg.experiments.train import stage_training
from tf_advseg.experiments.train import training
from tf_advseg.run import networks

OPTIONS = {'num_train': 4, 'num_val': 2, 'num_test': 1, 'size': (33, 33), 'smallest': (33, 33)}
SCENES = ("dataset.reader = 'shapes'", f'dataset.options = {OPTIONS!r}',
          'dataset.holdout_fraction = 1', 'experiment.crop_size = 33',
          "experiment.network = 'farabet'", 'farabet.hidden = 8', 'adversarial_stage.steps = 2',
          'adversarial_stage.batch_size = 2', 'adversarial_stage.train_images = 0',
          'adversarial_stage.diagnose_every = 0')
DURALL = (*SCENES, 'build_pixel_discriminator.widths = (4, 8)', 'durall.map_stride = 4',
          'swa.every = 1')
LUC = (*SCENES, "build_fov_discriminator.name = 'small_fov_light'", 'alternation.every = 1',
       'stage_one.weighted_epochs = 0', 'stage_one.epochs = 0', 'label_maps.tau = 0.8')
MODELS = ('control', 'control_averaged')


def start(workdir, *bindings, method='durall'):
    """(results, which stages were trained) of a run without its report."""
    common = {'durall': DURALL, 'luc': LUC}[method]
    configuration.parse([f'gin/methods/{method}.gin'], [*common, *bindings])
    trained, run = [], stage_training.StageTraining.run

    def watched(self, folder):
        trained.append(folder.name)
        return run(self, folder)
    with mock.patch.object(run_report, 'write'), mock.patch.object(
            run_results, '_show'), mock.patch.object(
            stage_training.StageTraining, 'run', watched):
        return training.experiment(workdir, tf.distribute.get_strategy()), trained


def values(run, name):
    segmentor, _, _ = networks.load(run / 'checkpoints' / name)
    return [v.numpy() for v in segmentor.variables]


def same_models(one, other, names=MODELS):
    return all(np.array_equal(a, b) for name in names
               for a, b in zip(values(one, name), values(other, name)))
