"""What a discriminator sees: (image, label map) -> its input tensor.

LoAd (section 4, "Network architecture") conditions MobileNet-224 on "the input image split into
different classes (using ground truth and generated label maps) and stacked into the input
channels". Every phase (training on real maps, on live fake maps, on maps read back from the
buffer, and the generator's step) ends in the same function, `discriminator_input`; the helpers
above it only differ in where the map comes from.

Two cues that would give the game away without any look at structure are removed here:
unlabelled and padded pixels are zero in real and fake inputs alike, and a real map is sampled
at the same align-corners points as a fake one, so that both have soft class borders.
"""
import dataclasses

import gin
import tensorflow as tf

from tf_advseg.core.errors import UserError, require_one_of
from tf_advseg.models.resize import resize_bilinear

KINDS = ('product', 'map')
IMAGE_RANGES = ('unit', 'symmetric')

# A stored probability of 0 means "below 1/510"; for the logarithm it is read as this many 255ths.
# Of 0.003 to 0.3 this came nearest to the live map (8 and 21 classes): more takes mass from the
# certain classes, less makes the borders between them too sharp.
_QUANTISED_FLOOR = 0.1


def _sampling_points(length, size):
    """Align-corners sampling of `length` pixels at `size` points, as TF's ResizeBilinear does it.

    Returns (lower int32 [size], upper int32 [size], fraction float32 [size]); the value at point
    i is (1 - fraction) * x[lower] + fraction * x[upper]. `length` may be a scalar tensor.
    """
    last = tf.cast(length, tf.float32) - 1.0
    scale = last / float(max(size - 1, 1))
    position = tf.range(size, dtype=tf.float32) * scale if size > 1 else tf.zeros([1])
    lower = tf.minimum(tf.floor(position), last)
    upper = tf.minimum(lower + 1.0, last)
    return tf.cast(lower, tf.int32), tf.cast(upper, tf.int32), position - lower


def _gather(ids, rows, columns):
    return tf.gather(tf.gather(ids, rows, axis=1), columns, axis=2)


def valid_mask(labels, size, ignore_label=255):
    """Which points of a size x size map are judged: the nearest label there is a class.

    Args:
      labels: int [B,h,w], padding and unknown pixels hold `ignore_label`.
      size: side of the discriminator's input.

    Returns:
      bool [B,size,size], nearest neighbour under align-corners.
    """
    shape = tf.shape(labels)
    top, bottom, down = _sampling_points(shape[1], size)
    left, right, along = _sampling_points(shape[2], size)
    nearest = _gather(labels, tf.where(down < 0.5, top, bottom), tf.where(along < 0.5, left, right))
    return tf.not_equal(tf.cast(nearest, tf.int32), ignore_label)


def real_map(labels, num_classes, size, ignore_label=255, label_smoothing=0.0):
    """One-hot truth sampled at size x size points (align-corners bilinear).

    Neighbours to be ignored take no part, and the rest is renormalised to sum to 1: a sum below 1
    beside unlabelled pixels would be a mark that only real maps bear. Points with no labelled
    neighbour are all zero. The four neighbours are gathered as ids, so that no one-hot of the
    full resolution is ever made (353 MB for sixteen 513 x 513 images of 21 classes).

    Args:
      labels: int [B,h,w]; `ignore_label` where unlabelled or padded.
      label_smoothing: epsilon of one-sided smoothing, (1-epsilon) p + epsilon/C, at the points
        that have a label. Soft fake maps are never certain; an epsilon above 0 takes that cue
        from the discriminator.

    Returns:
      float32 [B,size,size,C].
    """
    labels = tf.cast(labels, tf.int32)
    labels = tf.where(labels == ignore_label, -1, labels)
    shape = tf.shape(labels)
    top, bottom, down = _sampling_points(shape[1], size)
    left, right, along = _sampling_points(shape[2], size)
    total = 0.0
    for rows, row_weight in ((top, 1.0 - down), (bottom, down)):
        for columns, column_weight in ((left, 1.0 - along), (right, along)):
            weight = (row_weight[:, None] * column_weight[None, :])[None, :, :, None]
            total += weight * tf.one_hot(_gather(labels, rows, columns), num_classes)
    mass = tf.reduce_sum(total, axis=-1, keepdims=True)
    probabilities = tf.math.divide_no_nan(total, mass)
    if label_smoothing:
        smoothed = (1.0 - label_smoothing) * probabilities + label_smoothing / num_classes
        probabilities = tf.where(mass > 0.0, smoothed, 0.0)
    return probabilities


def soft_map(logits, size, temperature=1.0):
    """softmax(align-corners upsampled logits / temperature): a fake map with a gradient.

    Args:
      logits: float [B,h',w',C] at the segmentor's logits stride (float16 from the buffer too).
      temperature: below 1 sharpens the map. Soft maps can be told from one-hot truth by their
        confidence alone, and this is one way to take that cue away.

    Returns:
      float32 [B,size,size,C].
    """
    upsampled = resize_bilinear(tf.cast(logits, tf.float32), (size, size))
    return tf.nn.softmax(upsampled / temperature, axis=-1)


def hard_map(ids, num_classes, size, labels=None, ignore_label=255):
    """Class ids of a prediction as a map, sampled exactly as `real_map` samples the truth.

    Args:
      ids: uint8 or int32 [B,h,w] of 0..C-1, at the labels' resolution.
      labels: int [B,h,w] or None; given, predictions on unlabelled pixels take no part in their
        neighbours' interpolation, as unlabelled truth takes none in `real_map`.

    Returns:
      float32 [B,size,size,C], with no gradient (see `straight_through_map`).
    """
    ids = tf.cast(ids, tf.int32)
    if labels is not None:
        ids = tf.where(tf.cast(labels, tf.int32) == ignore_label, -1, ids)
    return real_map(ids, num_classes, size, ignore_label=-1)


@tf.custom_gradient
def _straight_through(soft, hard):
    def gradient(upstream):
        return upstream, None
    return tf.identity(hard), gradient


def straight_through_map(logits, labels, size, temperature=1.0, ignore_label=255):
    """Forward the hard map of the logits' prediction, backward the soft map's gradient.

    The prediction is taken at the labels' resolution, so the forward value is exactly what
    `hard_map` makes of the stored class ids (Bengio et al. 2013, straight-through estimator).

    Args:
      logits: float [B,h',w',C]; labels: int [B,h,w].

    Returns:
      float32 [B,size,size,C].
    """
    shape = tf.shape(labels)
    upsampled = resize_bilinear(tf.cast(logits, tf.float32), (shape[1], shape[2]))
    ids = tf.argmax(upsampled, axis=-1, output_type=tf.int32)
    hard = hard_map(ids, logits.shape[-1], size, labels, ignore_label)
    return _straight_through(soft_map(logits, size, temperature), tf.stop_gradient(hard))


def quantise(probabilities):
    """Probabilities float [...,C] -> uint8 (255ths, rounded), the buffer's form at stride 4."""
    return tf.cast(tf.round(tf.cast(probabilities, tf.float32) * 255.0), tf.uint8)


def quantised_map(quantised, size, temperature=1.0):
    """A map stored as uint8 probabilities -> the map that `soft_map` gives of the live logits.

    Interpolates logarithms: log p is the logits less a constant for each pixel, which the softmax
    removes after a linear interpolation, so but for the rounding to 255ths this is the live map;
    interpolating the probabilities themselves would blur every class border (an error ten times
    as large on smooth logits).

    Args:
      quantised: uint8 [B,h',w',C] as written by `quantise`.

    Returns:
      float32 [B,size,size,C].
    """
    steps = tf.maximum(tf.cast(quantised, tf.float32), _QUANTISED_FLOOR)
    return soft_map(tf.math.log(steps / 255.0), size, temperature)


def input_channels(num_classes, kind='product'):
    """Channels of `discriminator_input`: 3C for kind 'product', C for kind 'map'."""
    require_one_of('discriminator input', kind, KINDS)
    return 3 * num_classes if kind == 'product' else num_classes


def discriminator_input(image, maps, valid, size=224, kind='product', image_range='unit'):
    """The last step of every phase: image x map, zero wherever there is no label.

    Channel order is class-major: (class 0: R, G, B), (class 1: R, G, B), ...

    image_range 'unit' puts the image in [0,1], so that zero means "nothing of this class here"
    and a channel grows with the class's probability; it is the default because under 'symmetric'
    ([-1,1]) zero is mid-grey too, and an absent class looks like a grey one.

    Args:
      image: float [B,h,w,3] RGB in 0..255, padded or not (resized align-corners bilinear).
      maps: float [B,size,size,C] probabilities, from one of the helpers above.
      valid: bool [B,size,size] from `valid_mask` of the label, for fake maps too.
      kind: 'product', or 'map' (the label map alone; the paper saw it do worse).

    Returns:
      float32 [B,size,size,3C] or [B,size,size,C]. Where `valid` is False it is exactly zero, and
      so is the gradient to `maps`.

    Raises:
      UserError: unknown kind or image_range, or maps that are not at `size`.
    """
    require_one_of('discriminator input', kind, KINDS)
    require_one_of('image range', image_range, IMAGE_RANGES)
    for name, tensor in (('map', maps), ('valid mask', valid)):
        if not tensor.shape[1:3].is_compatible_with([size, size]):
            raise UserError(f'{name} of {tuple(tensor.shape[1:3])} points given to a discriminator '
                            f'of size {size}: make it with the same size')
    maps = tf.cast(maps, tf.float32)
    if kind == 'map':
        product = maps
    else:
        picture = resize_bilinear(tf.cast(image, tf.float32), (size, size))
        picture = picture / 255.0 if image_range == 'unit' else picture / 127.5 - 1.0
        product = maps[..., :, None] * picture[..., None, :]
        product = tf.reshape(product, [-1, size, size, 3 * maps.shape[-1]])
    return product * tf.cast(valid, tf.float32)[..., None]


@dataclasses.dataclass(frozen=True)
class Encoding:
    """One choice of encoding for a whole run, so that no phase can differ from another.

    Every method takes the padded image float [B,h,w,3] in 0..255 and its int [B,h,w] label and
    returns the discriminator's float32 [B,size,size,channels] input.
    """
    num_classes: int
    size: int = 224
    kind: str = 'product'
    image_range: str = 'unit'
    temperature: float = 1.0
    label_smoothing: float = 0.0
    ignore_label: int = 255

    def __post_init__(self):
        require_one_of('discriminator input', self.kind, KINDS)
        require_one_of('image range', self.image_range, IMAGE_RANGES)
        if self.size < 1 or self.num_classes < 1:
            raise UserError(f'discriminator input of size {self.size} for {self.num_classes} '
                            'classes: both must be at least 1')
        if not self.temperature > 0.0:
            raise UserError(f'map temperature {self.temperature}: must be above 0 (1 = as it is)')
        if not 0.0 <= self.label_smoothing < 1.0:
            raise UserError(f'label smoothing {self.label_smoothing}: must be in [0, 1)')

    @property
    def channels(self):
        """Channels of the discriminator's input."""
        return input_channels(self.num_classes, self.kind)

    def finish(self, image, labels, maps):
        """The common end: `discriminator_input` with the label's valid mask."""
        valid = valid_mask(labels, self.size, self.ignore_label)
        return discriminator_input(image, maps, valid, self.size, self.kind, self.image_range)

    def real(self, image, labels):
        """Input of the truth."""
        maps = real_map(labels, self.num_classes, self.size, self.ignore_label,
                        self.label_smoothing)
        return self.finish(image, labels, maps)

    def soft(self, image, labels, logits):
        """Input of soft maps, live or read back; the gradient reaches `logits` [B,h',w',C]."""
        return self.finish(image, labels, soft_map(logits, self.size, self.temperature))

    def hard(self, image, labels, ids):
        """Input of predicted class ids [B,h,w]; no gradient."""
        maps = hard_map(ids, self.num_classes, self.size, labels, self.ignore_label)
        return self.finish(image, labels, maps)

    def straight_through(self, image, labels, logits):
        """`hard` of the logits' prediction forward, `soft` backward."""
        maps = straight_through_map(logits, labels, self.size, self.temperature,
                                    self.ignore_label)
        return self.finish(image, labels, maps)

    def quantised(self, image, labels, quantised):
        """Input of maps read back as uint8 probabilities [B,h',w',C]."""
        return self.finish(image, labels, quantised_map(quantised, self.size, self.temperature))


@gin.configurable
def input_encoding(num_classes, size=224, kind='product', image_range='unit', temperature=1.0,
                   label_smoothing=0.0):
    """Builds the run's `Encoding` (LoAd's: product of image and soft map at 224 x 224)."""
    return Encoding(num_classes, size, kind, image_range, temperature, label_smoothing)
