"""Backends by name, and which is the fastest here."""
import dataclasses
import statistics
import time
from typing import Any, Dict

import numpy as np
import tensorflow as tf

from tf_advseg.core import errors
from tf_advseg.models.backends import onnx_backend
from tf_advseg.models.backends import tflite_backend

TENSORFLOW, AUTO = 'tensorflow', 'auto'
_BACKENDS = {'tflite': tflite_backend.TFLite, 'onnx': onnx_backend.ONNX}
NAMES = (TENSORFLOW, *_BACKENDS, AUTO)
REPEATS = 3       # of each backend, in turns
WARM_UP = 5       # calls of each before that: TFLite converts a size at its fourth image
FEW_IMAGES = 40   # for fewer 'auto' does not convert and measure


@dataclasses.dataclass(frozen=True)
class Chosen:
    """What computes: `network`, a segmentor or a `Backend`; its name; seconds an image of each."""
    network: Any
    name: str
    seconds: Dict[str, float] = dataclasses.field(default_factory=dict)
    left_out: Dict[str, str] = dataclasses.field(default_factory=dict)

    def text(self):
        """One line: what was taken and why."""
        measured = ', '.join(f'{name} {1e3 * seconds:.0f} ms' for name, seconds in
                             sorted(self.seconds.items(), key=lambda item: item[1]))
        left = ''.join(f'; {name}: {why}' for name, why in self.left_out.items())
        return f'backend: {self.name}' + (f' ({measured} an image{left})' if measured else left)

    def rest_text(self):
        """One line on what TensorFlow has computed in the backend's place; '' where nothing."""
        count = getattr(self.network, 'by_tensorflow', 0)
        return (f'backend: TensorFlow computed {count} images after all (scales and mirrored ones '
                f'count), of sizes that came rarely or that {self.name} cannot take'
                ) if count else ''


def require(name):
    """The name of a backend; UserError for an unknown one."""
    return errors.require_one_of('backend', name, NAMES)


def make(segmentor, name=TENSORFLOW, images=None):
    """A segmentor behind a backend.

    Args:
      segmentor: see `models.segmentor`.
      name: of `NAMES`. 'tensorflow' is the segmentor itself. 'auto' times all that are installed,
        on one image of the crop's size, and takes the fastest.
      images: how many there will be, or None for many: 'auto' does not measure for `FEW_IMAGES`.

    Returns:
      Chosen.

    Raises:
      UserError: unknown; its packages are not installed; it cannot hold the network.
    """
    require(name)
    if name == AUTO and images is not None and images < FEW_IMAGES:
        return Chosen(segmentor, TENSORFLOW, left_out={
            AUTO: f'{images} images are too few to convert and measure for'})
    if name == AUTO:
        return _fastest(segmentor)
    return Chosen(segmentor if name == TENSORFLOW else _BACKENDS[name](segmentor), name)


def _fastest(segmentor):
    made, left_out = {TENSORFLOW: segmentor}, {}
    size = segmentor.crop_size or (257, 257)
    calls = {TENSORFLOW: _call(segmentor, size)}
    for name, backend in _BACKENDS.items():
        try:
            made[name] = backend(segmentor)
            calls[name] = _call(made[name], size)
        except errors.UserError as error:
            left_out[name] = str(error)
        except tf.errors.OpError as error:  # of a runtime that refuses the image
            left_out[name] = errors.first_line(error)
    seconds = timed(calls)
    for name in made.keys() - {TENSORFLOW}:
        made[name].by_tensorflow = 0  # these were no images of the user's
    best = min(seconds, key=seconds.get)
    return Chosen(made[best], best, seconds, left_out)


def _call(network, size):
    """A function of nothing that computes one image's logits; it has been called already."""
    image = tf.constant(np.random.default_rng(0).uniform(0, 255, (1, *size, 3)), tf.float32)
    function = tf.function(lambda x: network(x, training=False), autograph=False)
    for _ in range(WARM_UP):  # the first one traces
        function(image).numpy()
    return lambda: function(image).numpy()


def timed(calls):
    """Seconds of a call, medians of turns.

    Args:
      calls: {name: function of nothing}.

    Returns:
      {name: float}.
    """
    taken = {name: [] for name in calls}
    for _ in range(REPEATS):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in taken.items()}
