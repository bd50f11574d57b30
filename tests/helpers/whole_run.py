"""How tests start whole runs of methods with two networks on small scenes."""
from unittest import mock

import tensorflow as tf

from tf_advseg.core import configuration
from tf_advseg.experiments.train import run_report
from tf_advseg.experiments.train import run_results
from tf_advseg.experiments.train import training


def scenes(num_train=6, num_val=4, num_test=2):
    """Bindings of drawn scenes, a small network and a seed."""
    options = {'num_train': num_train, 'num_val': num_val, 'num_test': num_test, 'size': (40, 40),
               'smallest': (33, 33)}
    return ("dataset.reader = 'shapes'", f'dataset.options = {options!r}',
            'dataset.holdout_fraction = 1', 'experiment.crop_size = 33',
            "experiment.network = 'farabet'", 'farabet.hidden = 8', 'experiment.seed = 3',
            'adversarial_stage.batch_size = 2', 'adversarial_stage.train_images = 2',
            'segmentor_optimizer.learning_rate = 0.05')


def starter(method, common):
    """A function that runs a method's gin file with bindings as tools/train.py does.

    Args:
      method: name of the file in gin/methods.
      common: bindings of every run.
    """
    def start(workdir, *bindings, strategy=None, dry_run=False, report=False):
        """The report takes seconds, and so is made on demand."""
        configuration.parse([f'gin/methods/{method}.gin'], [*common, *bindings])
        arguments = workdir, strategy or tf.distribute.get_strategy(), dry_run
        if report:
            return training.experiment(*arguments)
        with mock.patch.object(run_report, 'write'), mock.patch.object(run_results, '_show'):
            return training.experiment(*arguments)
    return start
