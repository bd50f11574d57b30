"""Changes of light and colour, as an option of every recipe: keras-cv's layers, our draws.

None of the five papers uses them. keras-cv's random layers hold a generator whose state is in no
checkpoint, so that a resumed run would see other images. Their `augment_images` takes the
transformation as an argument, though: it is drawn here from the stateless seed of the example.
"""
import dataclasses
import functools

import gin
import tensorflow as tf

from tf_advseg.core import errors
from tf_advseg.core import runtime

_PHOTOMETRIC = 4  # the kind of draw, folded into the seed beside augment's
_WHITE = 255.0


@dataclasses.dataclass(frozen=True)
class Photometric:
    """How far light and colour may go; each of the four changes by a draw of its own.

    The order is that of keras_cv.layers.RandomColorJitter: brightness, contrast, saturation, hue.
    The defaults are those that are usual for segmentation, SSD's distortion (Liu et al., ECCV
    2016) as MMSegmentation has it.

    Attributes:
      brightness: added to every value, up to this share of 255 either way.
      contrast: distances from the mean colour are multiplied by 1 - contrast .. 1 + contrast.
      saturation: the same for the saturation.
      hue: turned either way by up to this part of the colour circle.
      probability: of each change to be made at all.

    Raises:
      UserError: a strength outside 0..1 (hue: 0..0.5), or no probability.
    """
    brightness: float = 0.125
    contrast: float = 0.5
    saturation: float = 0.5
    hue: float = 0.05
    probability: float = 0.5

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value, most = getattr(self, field.name), 0.5 if field.name == 'hue' else 1.0
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not (
                    0.0 <= value <= most):
                raise errors.UserError(f'photometric.{field.name} = {value!r}: expected a number '
                                       f'from 0 to {most:g}')

    def __call__(self, image, seed):
        """Changes one image.

        Args:
          image: [H, W, 3] of any numeric type, RGB in 0..255, without padding: that has to keep
            its colour, and contrast looks at the mean.
          seed: int32 [2], of the example.

        Returns:
          float32 [H, W, 3] in 0..255.
        """
        draws = tf.random.stateless_uniform(
            [2, 4], tf.random.experimental.stateless_fold_in(seed, _PHOTOMETRIC))
        signed, made = 2.0 * draws[0] - 1.0, draws[1] < self.probability
        # keras-cv's saturation s multiplies by s / (1 - s).
        saturation = 1.0 + self.saturation * signed[2]
        changes = (tf.reshape(_WHITE * self.brightness * signed[0], [1, 1, 1, 1]),
                   tf.reshape(1.0 + self.contrast * signed[1], [1, 1, 1, 1]),
                   tf.reshape(saturation / (1.0 + saturation), [1]),
                   tf.reshape(self.hue * signed[3], [1]))
        images = tf.cast(image, tf.float32)[None]
        for number, (layer, change) in enumerate(zip(_layers(), changes)):
            images = tf.cond(
                made[number],
                functools.partial(layer.augment_images, images, transformations=change),
                functools.partial(tf.identity, images))
        return images[0]


@functools.lru_cache(maxsize=1)
def _layers():
    """keras-cv's four layers; what they would draw themselves is never asked for."""
    layers = runtime.import_keras_cv().layers
    # A seed, since the global generator they would take else refuses to be made under op
    # determinism; float32, since a policy of mixed precision is meant for networks.
    options = {'seed': 1, 'dtype': 'float32'}
    with tf.init_scope(), tf.device('/cpu:0'):
        return (layers.RandomBrightness(1.0, value_range=(0, _WHITE), **options),
                layers.RandomContrast(value_range=(0, _WHITE), factor=1.0, **options),
                layers.RandomSaturation(1.0, **options),
                layers.RandomHue(1.0, value_range=(0, _WHITE), **options))


make_photometric = gin.external_configurable(Photometric, name='photometric',
                                             module='tf_advseg.data')
