"""TensorBoard's profile of some steps of this process: what `train --profile=10,20` asks for.

Steps of all networks count, from the start of this process; the first one of each kind compiles, so
a profile begins best after it.
"""
import contextlib

import tensorflow as tf

from tf_advseg.core import errors
from tf_advseg.core import tensorflow_paths

_active = []  # the `Profile` that steps of this process count for, if any


class Profile:
    """Profiles the steps `first` to `last`, counted from 1.

    Args:
      first, last: of the steps that are profiled.
      folder: a run's TensorBoard folder.

    Attributes:
      done: how many steps were profiled.
    """

    def __init__(self, first, last, folder):
        self.first, self.last, self.folder = first, last, folder
        self.done, self._count, self._runs = 0, 0, False

    @contextlib.contextmanager
    def step(self):
        """Within, one step is taken; yields whether it is the last that is profiled."""
        self._count += 1
        if not self.first <= self._count <= self.last:
            yield False
            return
        if not self._runs:
            tf.profiler.experimental.start(tensorflow_paths.plain_folder(self.folder))
            self._runs = True
        with tf.profiler.experimental.Trace('train', step_num=self._count, _r=1):
            yield self._count == self.last
        self.done += 1
        if self._count == self.last:
            self.stop()

    def stop(self):
        """Writes what was profiled, if it has not been written."""
        if self._runs:
            self._runs = False
            tf.profiler.experimental.stop()

    def text(self):
        """One line: what was profiled and how to look at it."""
        if not self.done:
            return (f'profile: nothing, this process took {self._count} steps and step '
                    f'{self.first} was asked for first')
        return (f'profile: {self.done} steps; pip install tensorboard-plugin-profile, then '
                f'tensorboard --logdir {self.folder}')


def parse(text):
    """(first, last) of '10,20'.

    Raises:
      UserError: it is not two whole numbers above 0, the smaller first.
    """
    try:
        first, last = (int(part) for part in text.split(','))
    except ValueError:
        first, last = 0, 0
    if not 1 <= first <= last:
        raise errors.UserError(f'--profile={text}: expected the first and the last step, counted '
                               'from 1, as --profile=10,20')
    return first, last


@contextlib.contextmanager
def active(profile):
    """Within, `step` counts for a `Profile`; None for nothing. It is written at the end."""
    if profile is None:
        yield
        return
    _active.append(profile)
    try:
        yield
    finally:
        _active.remove(profile)
        profile.stop()


@contextlib.contextmanager
def step():
    """Around one step; yields whether its results are to be waited for within."""
    if not _active:
        yield False
        return
    with _active[-1].step() as last:
        yield last
