"""How a training image is cut and changed: one recipe a paper, by name.

| name | what | of |
|---|---|---|
| `flip` | mirrored; padded or cropped to the crop's size | LoAd, section 4 |
| `deeplab` | random scale 0.5 to 2 by 0.25, then as `flip` | the official DeepLab code |
| `hung` | random scale 0.5 to 1.6 by 0.1 on OpenCV's grid, then as `flip` | AdvSemiSeg's code |
| `zhu` | resized to one size, whatever its shape; a crop of it, mirrored | Zhu et al., 4.2 |

`+photometric` after a name adds changes of light and colour (`photometric.Photometric`), `+blur` a
Gaussian blur (`blur.Blur`). Neither moves a pixel: what a name is without them is the same image in
the same place (`plain`). `+rotation` adds a small rotation (`rotation.Rotation`), and `+balanced`
cuts crops that show each class of an image as often as any other (`balanced_crop`). `+cutmix` puts
a box, `+classmix` half of the classes, of another labelled image of the batch into a labelled image
(`cutmix.CutMix`, `classmix.ClassMix`). That needs the batch, so it is done in `pipeline`, by
`pasting`.

Hung et al. print "random scaling and cropping operations with size 321 x 321" (section 4; Durall
et al. the same without the size); the range and the mirroring are their code's, whose factors are
0.5 + 0..11 tenths. It pads with 0 after the mean is subtracted, that is with the network's mean
colour, and labels with 255. For Cityscapes they resize to 512x1024 and cut nothing: that is `zhu`
with `zhu_recipe.enlargement = 1.0` and that crop; or the reader's option `size`, which resizes what
is evaluated, too, and once.

Zhu et al. (section 4.2) name "the random crop, the horizontal flip or resize" for a "fix-size input
image" and no number. Chosen: resized to 286/256 of the crop on either side, which is what networks
on images of a fixed size did at the time (pix2pix), so nothing is padded and little is cut away.
"""
import dataclasses
from typing import Optional

import gin
import tensorflow as tf

from tf_advseg.core import errors
from tf_advseg.data.augmentation import augment
from tf_advseg.data.augmentation import balanced_crop
from tf_advseg.data.augmentation import blur as blur_lib
from tf_advseg.data.augmentation import classmix as classmix_lib
from tf_advseg.data.augmentation import cutmix as cutmix_lib
from tf_advseg.data.augmentation import official_preprocessing
from tf_advseg.data.augmentation import photometric as photometric_lib
from tf_advseg.data.augmentation import rotation as rotation_lib
from tf_advseg.data.augmentation import unpadded as unpadded_lib

PHOTOMETRIC, BLUR, ROTATION, BALANCED, CUTMIX, CLASSMIX = OPTIONS = (
    'photometric', 'blur', 'rotation', 'balanced', 'cutmix', 'classmix')
# What came later: left out of `Recipe.identity` where it is off.
_LATER = {'blur': None, 'rotation': None, 'balanced': False, 'cutmix': None, 'classmix': None,
          'unpadded': False}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What happens to an image and its label between the record and the batch.

    In this order, which is the official DeepLab's: resized (`enlargement` or `size_range`), then by
    `random_scale`, rotated, a random crop where it is larger than the crop, light and colour, blur,
    padding where it is smaller (at the bottom and the right), mirrored. Image and label go through
    one call of each and so move by one draw. Everything is drawn from the example's stateless seed,
    each kind by a number of its own: switching one on or off leaves the others as they were.

    Attributes:
      flip: mirrored left and right with probability 1/2.
      random_scale: official_preprocessing.RandomScale; never resized by default.
      size_range: official_preprocessing.SizeRange, or None.
      enlargement: both sides become this many times the crop's, whatever the image's shape; None
        for not.
      grid: what is resized on, see official_preprocessing.GRIDS.
      photometric: photometric.Photometric, or None.
      blur: blur.Blur, or None.
      rotation: rotation.Rotation, or None.
      balanced: whether crops are `balanced_crop`'s.
      cutmix: cutmix.CutMix of labelled images, or None; not in `apply`, but where batches are made.
      classmix: classmix.ClassMix of labelled images, or None; likewise.
      unpadded: what is smaller than the crop is scaled up in place of padded (`unpadded`).

    Raises:
      UserError: an enlargement below 1 or together with a size range, an unknown grid, or both
        CutMix and ClassMix.
    """
    flip: bool = True
    random_scale: official_preprocessing.RandomScale = official_preprocessing.RandomScale()
    size_range: Optional[official_preprocessing.SizeRange] = None
    enlargement: Optional[float] = None
    grid: str = official_preprocessing.CORNERS
    photometric: Optional[photometric_lib.Photometric] = None
    blur: Optional[blur_lib.Blur] = None
    rotation: Optional[rotation_lib.Rotation] = None
    balanced: bool = False
    cutmix: Optional[cutmix_lib.CutMix] = None
    classmix: Optional[classmix_lib.ClassMix] = None
    unpadded: bool = False

    def __post_init__(self):
        errors.require_one_of('grid', self.grid, official_preprocessing.GRIDS)
        if self.cutmix is not None and self.classmix is not None:
            raise errors.UserError('augmentation: +cutmix and +classmix both put parts of another '
                                   'image into an image; leave one of them out')
        size = self.enlargement
        if size is None:
            return
        if isinstance(size, bool) or not isinstance(size, (int, float)) or size < 1.0:
            raise errors.UserError(f'augmentation: an enlargement of {size!r}: expected a number '
                                   'of at least 1, times the crop')
        if self.size_range is not None:
            raise errors.UserError('augmentation: an enlargement and a size range both say how '
                                   'large images become; leave one of them out')

    @property
    def keeps_shape(self):
        """bool: whether a factor and `augment.random_crop_offsets` give each pixel's place."""
        return (self.enlargement is None and self.size_range is None and self.rotation is None
                and not self.balanced and self.pasting is None and not self.unpadded)

    @property
    def pasting(self):
        """cutmix.CutMix or classmix.ClassMix of labelled images, whichever is on, or None."""
        return self.classmix if self.cutmix is None else self.cutmix

    @property
    def plain(self):
        """The recipe without light, colour and blur: the same pixels in the same places."""
        return dataclasses.replace(self, photometric=None, blur=None)

    @property
    def changes_looks(self):
        """bool: whether light, colour or sharpness are changed."""
        return self.plain != self

    @property
    def identity(self):
        """dict, JSON-able: what a stage is recognised by. What came later is left out where it is
        off, so that a run that was begun before it goes on."""
        return {name: value for name, value in dataclasses.asdict(self).items()
                if name not in _LATER or value != _LATER[name]}

    def looks(self, image, seed):
        """Light and colour, then blur, as far as they are on; no pixel moves.

        Args:
          image: [H, W, 3] of any numeric type, RGB in 0..255, without padding.
          seed: int32 [2], of the example.

        Returns:
          [H, W, 3], float32 where anything is on.
        """
        for change in (self.photometric, self.blur):
            if change is not None:
                image = change(image, seed)
        return image

    def apply(self, image, label, crop_size, seed, pad_value=augment.PAD_VALUE):
        """One example.

        Args:
          image: [H, W, 3] of any numeric type, RGB in 0..255.
          label: [H, W] integer, 255 = ignore.
          crop_size: (h, w) in pixels.
          seed: int32 [2], of the example.
          pad_value: see `augment.pad_to`.

        Returns:
          (float32 [h, w, 3] in 0..255; [h, w] of the label's type).
        """
        image, label = self._resized(tf.convert_to_tensor(image), tf.convert_to_tensor(label),
                                     crop_size, seed)
        if self.rotation is not None:
            image, label = self.rotation(image, label, seed, pad_value)
        # Cutting comes before padding: the same numbers, and less of them to copy.
        top, left = self._cut(label, crop_size, seed)
        image, label = (augment.crop(tensor, top, left, crop_size) for tensor in (image, label))
        image = self.looks(image, seed)
        image, label = augment.pad_to(image, label, *crop_size, pad_value)
        if self.flip:
            image, label = augment.random_flip((image, label), seed)
        return tf.ensure_shape(image, [*crop_size, 3]), tf.ensure_shape(label, crop_size)

    def _cut(self, label, crop_size, seed):
        """(top, left) of the crop."""
        if self.balanced:
            inside = [tf.minimum(side, crop) for side, crop in zip(tf.unstack(tf.shape(label)),
                                                                   crop_size)]
            return balanced_crop.offsets(label, inside, seed)
        height, width = tf.unstack(tf.maximum(tf.shape(label), crop_size))
        return augment.random_crop_offsets(height, width, crop_size, seed)

    def _resized(self, image, label, crop_size, seed):
        """The resizes, each only where it is asked for."""
        size = None
        if self.enlargement is not None:
            size = [round(self.enlargement * side) for side in crop_size]
        elif self.size_range is not None:
            size = self.size_range.size(*tf.unstack(tf.shape(label)))
        if size is not None:
            image, label = official_preprocessing.resized(image, label, size, self.grid)
        if self.random_scale.active:
            size = official_preprocessing.scaled_size(
                *tf.unstack(tf.shape(label)), self.random_scale.draw(seed), self.grid)
            image, label = official_preprocessing.resized(image, label, size, self.grid)
        if self.unpadded:
            image, label = unpadded_lib.filled(image, label, crop_size, self.random_scale,
                                               self.grid, seed)
        return image, label


# Gin adds lines to an error that passes through it: these complete arguments, no more.
@gin.configurable(module='tf_advseg.data')
def flip_recipe(flip=True):
    """Settings of the recipe `flip`: whether images are mirrored."""
    return {'flip': flip}


@gin.configurable(module='tf_advseg.data')
def deeplab_recipe(min_scale=0.5, max_scale=2.0, scale_step=0.25, flip=True):
    """Settings of the recipe `deeplab`, see official_preprocessing.RandomScale."""
    return {'flip': flip, 'random_scale': (min_scale, max_scale, scale_step)}


@gin.configurable(module='tf_advseg.data')
def hung_recipe(min_scale=0.5, max_scale=1.6, scale_step=0.1, flip=True):
    """Settings of the recipe `hung`, see official_preprocessing.RandomScale."""
    return {'flip': flip, 'random_scale': (min_scale, max_scale, scale_step),
            'grid': official_preprocessing.CENTRES}


@gin.configurable(module='tf_advseg.data')
def zhu_recipe(enlargement=286 / 256, flip=True):
    """Settings of the recipe `zhu`: the size images are brought to, in crops."""
    return {'flip': flip, 'enlargement': enlargement, 'grid': official_preprocessing.CENTRES}


RECIPES = {'flip': flip_recipe, 'deeplab': deeplab_recipe, 'hung': hung_recipe, 'zhu': zhu_recipe}


def make_recipe(name):
    """A recipe by name, with what gin binds for `<name>_recipe` and for each option.

    Args:
      name: one of RECIPES, with any of OPTIONS after it, each behind a `+`.

    Returns:
      Recipe.

    Raises:
      UserError: an unknown name, or a setting out of range.
    """
    base, *options = str(name).split('+')
    errors.require_one_of('augmentation', base, RECIPES)
    for option in options:
        errors.require_one_of('option of an augmentation', option, OPTIONS)
    settings = dict(RECIPES[base]())
    if 'random_scale' in settings:
        settings['random_scale'] = official_preprocessing.RandomScale(*settings['random_scale'])
    if BLUR in options:
        settings['blur'] = blur_lib.make_blur()
    if ROTATION in options:
        settings['rotation'] = rotation_lib.make_rotation()
    if BALANCED in options:
        settings['balanced'] = True
    if CUTMIX in options:
        settings['cutmix'] = cutmix_lib.make_cutmix()
    if CLASSMIX in options:
        settings['classmix'] = classmix_lib.make_classmix()
    if PHOTOMETRIC in options:
        settings['photometric'] = photometric_lib.make_photometric()
    return Recipe(**settings)


def of_settings(where, augmentation, flip, min_scale, max_scale, scale_step, size_range=None):
    """The recipe that a stage's settings spell, by name or one by one.

    Args:
      where: the settings' name in gin, for the message.
      augmentation: what `make_recipe` takes; None: the other settings say it all.
      flip, min_scale, max_scale, scale_step: see `Recipe` and `RandomScale`.
      size_range: arguments of `SizeRange`, or None.

    Returns:
      Recipe.

    Raises:
      UserError: a name, and one of the others as well that is not at its default.
    """
    if augmentation is None:
        return Recipe(flip, official_preprocessing.RandomScale(min_scale, max_scale, scale_step),
                      None if size_range is None else _size_range(where, size_range))
    scale = official_preprocessing.RandomScale()
    others = {'flip': (flip, True), 'min_scale': (min_scale, scale.minimum),
              'max_scale': (max_scale, scale.maximum), 'scale_step': (scale_step, scale.step),
              'size_range': (size_range, None)}
    for name, (value, default) in others.items():
        if value != default:
            raise errors.UserError(
                f'{where}.augmentation = {augmentation!r} and {where}.{name} = {value!r} both say '
                f'what happens to images; set {where}.{name} = {default!r}, or no augmentation '
                '(a recipe has settings of its own, as deeplab_recipe.min_scale)')
    return make_recipe(augmentation)


def _size_range(where, given):
    """The `SizeRange` of a setting's one to three numbers."""
    if not isinstance(given, (list, tuple)) or not 1 <= len(given) <= 3:
        raise errors.UserError(f'{where}.size_range = {given!r}: expected (min_size, max_size, '
                               'factor), the last two of which may be left out or None')
    try:
        return official_preprocessing.SizeRange(*given)
    except errors.UserError as error:
        raise errors.UserError(f'{where}.size_range = {given!r}: {error}') from error
