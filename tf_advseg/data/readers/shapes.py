"""The embedded data set `shapes`: drawn landscapes, so that everything runs without a download.

A scene has structure above the pixel, which is what adversarial learning is meant to use:

* parts that belong to wholes: the panes of a house are `window`, the same panes in a car are
  `vehicle`; a brown post under a crown is `tree`, alone it is `pole`; a door is `building`;
* things that stand on things: houses, trees and cars on the ground, boats on the water, poles in
  a row with wires between them, all smaller towards the horizon;
* thin connected structures (poles, wires, fences), rare classes, unlabelled object borders (255).

Colours and textures are shared between classes (sky, water and panes; grass and crowns; walls,
clouds and sails), and light, noise and occlusion blur the rest.

Images are byte-equal for the same version, seed and parameters, on every machine: the only
random numbers are uniform doubles of PCG64, and the arithmetic on them is +, -, *, / and square
root, which IEEE 754 fixes to the last bit (no sin, exp or library drawing).
"""
import hashlib
import json

import numpy as np

from tf_advseg.core.errors import UserError
from tf_advseg.data.readers import shapes_scene
from tf_advseg.data.readers.base import Reader
from tf_advseg.data.spec import DatasetSpec

SHAPES_VERSION = '1'
"""Raised whenever a change alters any image."""


def _uniform(bits):
    """Doubles in [0, 1) from a bit generator, whose stream NumPy promises to keep (NEP 19)."""
    def uniform(shape=None):
        raw = bits.random_raw(None if shape is None else int(np.prod(shape)))
        if shape is None:
            return (int(raw) >> 11) * 2.0 ** -53
        return ((raw >> np.uint64(11)) * 2.0 ** -53).reshape(shape)
    return uniform


_DEFAULTS = ((97, 97), (80, 80), 0,
             {'noise': 0.5, 'overlap': 0.08, 'clutter': 1.0, 'ignore_border': 1})


def _require(name, value, kind, low, high):
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        raise UserError(f'shapes: {name} is {value!r}, expected a number from {low} to {high}')


def _pair(name, value):
    if not isinstance(value, (tuple, list)) or len(value) != 2 or not all(
            isinstance(v, int) for v in value):
        raise UserError(f'shapes: {name} is {value!r}, expected (height, width) in pixels')
    return tuple(value)


class ShapesReader(Reader):
    """Reader of the drawn data set; an image depends on version, seed, parameters and its id.

    Splits 'train', 'val' and 'test' have the asked numbers of images (0 = no such split);
    growing one changes none of the others. Half of the images have the full `size` (height,
    width), the others are smaller, down to `smallest`. `source` is not used: nothing is read.
    The other parameters are those of `shapes_scene.draw_scene`. `spec.version` names the
    drawing's version and, where a parameter differs from the default, a hash of them all.

    Raises UserError for an impossible parameter or an unknown id.
    """

    def __init__(self, source=None, num_train=400, num_val=100, num_test=100, size=(97, 97),
                 smallest=(80, 80), seed=0, noise=0.5, overlap=0.08, clutter=1.0, ignore_border=1):
        self._counts = {'train': num_train, 'val': num_val, 'test': num_test}
        self._size = _pair('size', size)
        self._smallest = _pair('smallest', smallest)
        self._seed = seed
        self._look = {'noise': noise, 'overlap': overlap, 'clutter': clutter,
                      'ignore_border': ignore_border}
        self._check()
        version, own = SHAPES_VERSION, (self._size, self._smallest, seed, self._look)
        if own != _DEFAULTS:
            text = json.dumps(own, sort_keys=True).encode()
            version += '+' + hashlib.sha256(text).hexdigest()[:8]
        self._spec = DatasetSpec(name='shapes', class_names=shapes_scene.CLASS_NAMES,
                                 palette=shapes_scene.PALETTE,
                                 ignore_label=shapes_scene.IGNORE, version=version,
                                 citation='drawn by tf_advseg itself; no licence needed')

    def _check(self):
        for name, count in self._counts.items():
            _require(f'num_{name}', count, int, 0, 99999)
        _require('seed', self._seed, int, 0, 2 ** 63)
        if not all(32 <= low <= high <= 2049 for low, high in zip(self._smallest, self._size)):
            raise UserError(f'shapes: size is {self._size} and smallest is {self._smallest}, '
                            'expected (height, width) of 32 to 2049 with smallest <= size')
        for name, high in (('noise', 4), ('overlap', 1), ('clutter', 8)):
            _require(name, self._look[name], (int, float), 0, high)
        _require('ignore_border', self._look['ignore_border'], int, 0, 2)

    @property
    def spec(self):
        return self._spec

    def splits(self):
        """dict of split name -> list of image ids such as 'train_00017'."""
        return {name: [f'{name}_{number:05d}' for number in range(count)]
                for name, count in self._counts.items() if count}

    def load(self, image_id):
        """(image uint8 [H, W, 3] RGB, label uint8 [H, W] of class ids, 255 = unlabelled)."""
        split, _, number = str(image_id).rpartition('_')
        if split not in self._counts or not number.isdecimal() or len(number) != 5:
            raise UserError(f'shapes: no image "{image_id}", expected an id such as '
                            '"train_00017".')
        key = [int(SHAPES_VERSION), self._seed, list(self._counts).index(split), int(number)]
        uniform = _uniform(np.random.PCG64(np.random.SeedSequence(key)))
        height, width = self._size
        if uniform() < 0.5:
            height, width = (low + int(uniform() * (high - low + 1))
                             for low, high in zip(self._smallest, self._size))
        return shapes_scene.draw_scene(height, width, uniform, **self._look)

    def encoded_image(self, image_id):
        """None: there is no file behind an image."""
        return None
