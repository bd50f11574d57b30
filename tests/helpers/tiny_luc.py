"""The smallest whole Luc run with its control, as a program: `python tiny_luc.py WORKDIR`.

With TF_CONFIG set it is one of several workers, see tests/experiments/train/test_multi_worker.py.
"""
import os
import pathlib
import sys

if __name__ == '__main__':
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

OPTIONS = {'num_train': 6, 'num_val': 4, 'num_test': 2, 'size': (40, 40), 'smallest': (33, 33)}
GIN = ("dataset.reader = 'shapes'", f'dataset.options = {OPTIONS!r}',
       'dataset.holdout_fraction = 1', 'experiment.crop_size = 33', 'experiment.seed = 3',
       "experiment.network = 'farabet'", 'farabet.hidden = 8',
       'stage_one.weighted_epochs = 0', 'stage_one.epochs = 0',
       "build_fov_discriminator.name = 'small_fov_light'", 'alternation.every = 2',
       'adversarial_stage.steps = 10', 'adversarial_stage.batch_size = 2',
       'adversarial_stage.train_images = 2', 'adversarial_stage.diagnose_every = 4',
       'segmentor_optimizer.learning_rate = 0.05', 'discriminator_optimizer.learning_rate = 0.01')


def main(workdir):
    """Trains, scores and reports."""
    from tf_advseg.core import configuration
    from tf_advseg.core import runtime
    runtime.configure(deterministic=True, threads=1)
    from tf_advseg.experiments.train import training
    from tf_advseg.training import strategy
    several = 'TF_CONFIG' in os.environ
    distribution = strategy.make_strategy('multi_worker' if several else 'one_device')
    configuration.parse(['gin/methods/luc.gin'], GIN)
    training.experiment(workdir, distribution)


if __name__ == '__main__':
    main(*sys.argv[1:])
