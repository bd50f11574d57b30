"""A method at its smallest, put together by its recipe without a run: to take single steps."""
import contextlib
import pathlib
import types

import gin
import numpy as np
import tensorflow as tf
from gin import config as gin_config

from tf_advseg.core import random_streams

SCOPE = 'small'
# SGD throughout: its update is the gradient. Adam's first step is the gradient's sign, which the
# last digit decides where it is near 0.
_OPTIMIZERS = ("segmentor_optimizer.learning_rate = 1e-2",
               "discriminator_optimizer.learning_rate = 1e-2",
               "reconstruction_optimizer.name = 'sgd'", 'reconstruction_optimizer.beta_1 = None',
               'reconstruction_optimizer.learning_rate = 1e-4')


def images(classes, side, size):
    """A global batch of what every step reads.

    Args:
      classes: C.
      side: of the images, in pixels.
      size: B.

    Returns:
      dict of `image` float32 [B, side, side, 3] in 0..255, `label` int32 [B, side, side] with an
      ignored strip of another height in each, `labeled` and `valid` as in data/mixed.py (every
      third one has no label).
    """
    random = np.random.default_rng(3)
    label = random.integers(0, classes, (size, side, side)).astype(np.int32)
    for number in range(size):
        label[number, :2 * number] = 255
    labelled = np.arange(size) % 3 != 2
    return {'image': random.uniform(0, 255, (size, side, side, 3)).astype(np.float32),
            'label': label, 'labeled': labelled, 'valid': label != 255}


def make(recipe, segmentor, side, steps=8, small=None, description=None):
    """The methods of a recipe, with the networks and weights that its `small` names.

    Call it in a strategy's scope.

    Args:
      recipe: methods.recipe.Recipe.
      segmentor: a network.
      side: of the crop, in pixels, or (h, w).
      steps: of the segmentor, which schedules are over.
      small: gin bindings in the place of the recipe's `small` and of SGD throughout.
      description: of the segmentor (run.networks.describe), for methods that build another.

    Returns:
      {name: methods.step_parts.Method}: those of the stages before Stage 1 by their names, the
      method itself by the recipe's title.
    """
    context = _context(segmentor, (side, side) if isinstance(side, int) else tuple(side),
                       description)
    with bound((*_OPTIMIZERS, *recipe.small) if small is None else small):
        return {**recipe.methods_before(context),
                recipe.title: recipe.build(context, segmentor, recipe.plan(steps))}


@contextlib.contextmanager
def bound(bindings):
    """gin bindings for what is called inside, in a scope of their own; others stay as they are."""
    before = {key: dict(values) for key, values in gin_config._CONFIG.items()}
    try:
        with gin.unlock_config():
            gin.parse_config([f'{SCOPE}/{line}' for line in bindings])
        with gin.config_scope(SCOPE):
            yield
    finally:  # gin has no way to take a binding back
        gin_config._CONFIG.clear()
        gin_config._CONFIG.update(before)


def _context(segmentor, crop_size, description=None):
    """What builders ask of a `run.context.Context`, with no run and no data behind it."""
    classes, nowhere = segmentor.num_classes, pathlib.Path('nowhere')
    return types.SimpleNamespace(
        description=description, crop_size=crop_size, streams=random_streams.RandomStreams(1),
        strategy=tf.distribute.get_strategy(),
        average_class_counts=lambda: [float(crop_size[0] * crop_size[1]) / classes] * classes,
        data=types.SimpleNamespace(spec=types.SimpleNamespace(num_classes=classes),
                                   train=list(range(8)), unlabelled=[1]),
        run=types.SimpleNamespace(checkpoints=nowhere, stages=nowhere))


def completed(method, batch):
    """The batch with what the method's steps read beyond images and labels."""
    return {**batch, **method.example_fields(batch)}


def is_network(value):
    """Whether a part of `Method.state` is a network; else it is an optimizer."""
    return isinstance(value, tf.keras.Model)
