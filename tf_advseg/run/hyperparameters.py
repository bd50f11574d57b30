"""TensorBoard's HParams page: a run's settings beside what came of it.

Where many runs lie in one folder (a sweep's), `tensorboard --logdir` on it tables them.
"""
import shutil

import tensorflow as tf
from tensorboard.plugins.hparams import api

from tf_advseg.core import configuration
from tf_advseg.core import tensorflow_paths

FOLDER = 'hparams'


def write(context, results):
    """Writes the settings that the configuration binds, and mIoU by split and model.

    Args:
      context: run.context.Context; the chief alone writes.
      results: as in results.json.
    """
    if not context.chief:
        return
    folder = context.run.tensorboard / FOLDER
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier end, before a cap was raised
    writer = tf.summary.create_file_writer(tensorflow_paths.plain_folder(folder))
    with writer.as_default():
        api.hparams(settings(configuration.config_text()))
        for name, value in measured(results).items():
            tf.summary.scalar(name, value, step=0)
    writer.close()


def measured(results):
    """{'miou/<split>/<model>': mIoU in 0..1} of what results.json has."""
    return {f'miou/{split}/{model}': figures['miou']
            for model, splits in results['models'].items() for split, figures in splits.items()
            if figures and figures.get('miou') is not None}


def settings(text):
    """{name without its module: number, flag or text} of a gin configuration.

    Args:
      text: as from `configuration.config_text`.
    """
    found = {}
    for name, value in configuration.bindings(text).items():
        scope, _, selector = name.rpartition('/')
        short = '.'.join(selector.split('.')[-2:])
        plain = value if isinstance(value, (bool, int, float, str)) else repr(value)
        found[f'{scope}/{short}' if scope else short] = plain
    return found
