"""What a discriminator sees: (image, label map) -> its input tensor.

LoAd (section 4, "Network architecture") conditions MobileNet-224 on "the input image split into
different classes (using ground truth and generated label maps) and stacked into the input
channels". Every phase ends in the same function, `discriminator_input`; the helpers above it only
differ in where the map comes from.

Cues that give the game away without a look at structure (adversaries/cues.py measures them):
unlabelled and padded pixels are zero in real and fake inputs alike, and a real map is sampled
at the same align-corners points as a fake one. What remains by default, the paper's setting, is
blur and certainty: logits of a stride of 16, however good, make a softer map than the truth at 224
points. `Encoding.truth` mends that: the truth through the same stride ('bottleneck'), and also
about as sure as the prediction ('scaling', Luc et al. 2016, section 3.2) or exactly as sure
('swapped', at the logits' points). `size = 'logits'`, where the discriminator sees the logits' own
points, takes away the blur.
"""
import dataclasses

import gin
import tensorflow as tf

from tf_advseg.adversaries import bottleneck
from tf_advseg.adversaries import label_maps
from tf_advseg.adversaries import stored_maps
from tf_advseg.core.errors import UserError, require_one_of
from tf_advseg.models.resize import resize_bilinear

KINDS = ('product', 'concat', 'map')
TRUTHS = ('sampled', 'bottleneck', *label_maps.BY_PREDICTION)
AT_LOGITS = 'logits'
IMAGE_RANGES = ('unit', 'symmetric')


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


def as_points(size):
    """(height, width) of maps whose size is given as a side or a pair."""
    return (size, size) if isinstance(size, int) else tuple(size)


def _gather(ids, rows, columns):
    return tf.gather(tf.gather(ids, rows, axis=1), columns, axis=2)


def valid_mask(labels, size, ignore_label=255):
    """Which points of a size x size map are judged: the nearest label there is a class.

    Args:
      labels: int [B,h,w], padding and unknown pixels hold `ignore_label`.
      size: side of the discriminator's input, or (height, width).

    Returns:
      bool [B,size,size], nearest neighbour under align-corners.
    """
    shape, (height, width) = tf.shape(labels), as_points(size)
    top, bottom, down = _sampling_points(shape[1], height)
    left, right, along = _sampling_points(shape[2], width)
    nearest = _gather(labels, tf.where(down < 0.5, top, bottom), tf.where(along < 0.5, left, right))
    return tf.not_equal(tf.cast(nearest, tf.int32), ignore_label)


def real_map(labels, num_classes, size, ignore_label=255, label_smoothing=0.0):
    """One-hot truth sampled at size x size points (align-corners bilinear).

    Neighbours to be ignored take no part, and the rest is renormalised to sum to 1: a sum below 1
    beside unlabelled pixels would be a mark that only real maps bear. Points with no labelled
    neighbour are all zero. The neighbours are gathered as ids: no one-hot of the full resolution is
    made (353 MB for sixteen 513 x 513 images of 21 classes).

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
    shape, (height, width) = tf.shape(labels), as_points(size)
    top, bottom, down = _sampling_points(shape[1], height)
    left, right, along = _sampling_points(shape[2], width)
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
      temperature: below 1 sharpens the map. A discriminator can recognise soft maps, beside
        one-hot truth, by their confidence alone; this is one way to take that cue away.

    Returns:
      float32 [B,size,size,C].
    """
    upsampled = resize_bilinear(tf.cast(logits, tf.float32), as_points(size))
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


def quantised_map(quantised, size, temperature=1.0):
    """A map stored as uint8 probabilities -> the map that `soft_map` gives of the live logits.

    Interpolates logarithms: log p is the logits less a constant for each pixel, which the softmax
    removes, so but for the rounding to 255ths this is the live map. Interpolating the probabilities
    themselves would blur every class border.

    Args:
      quantised: uint8 [B,h',w',C] as written by `quantise`.

    Returns:
      float32 [B,size,size,C].
    """
    return soft_map(stored_maps.stored_logits(quantised), size, temperature)


def input_channels(num_classes, kind='product'):
    """Channels of `discriminator_input`: 3C for kind 'product', C + 3 for 'concat', C for 'map'."""
    require_one_of('discriminator input', kind, KINDS)
    return {'product': 3 * num_classes, 'concat': num_classes + 3, 'map': num_classes}[kind]


def discriminator_input(image, maps, valid, size=224, kind='product', image_range='unit'):
    """The last step of every phase: image and map, zero wherever there is no label.

    The product's channel order is class-major: (class 0: R, G, B), (class 1: R, G, B), ...
    In 'concat' the map's channels come first, then R, G, B.

    image_range 'unit' puts the image in [0,1], so that zero means "nothing of this class here"
    and a channel of the product grows with the class's probability. Under 'symmetric' ([-1,1]) zero
    is mid-grey too, and an absent class looks like a grey one. The gradient that reaches a map
    through the product is multiplied by the image, so bright pixels are corrected more than dark
    ones; 'concat' has no such bias.

    Args:
      image: float [B,h,w,3] RGB in 0..255, padded or not (resized align-corners bilinear).
      maps: float [B,size,size,C] probabilities, from one of the helpers above.
      valid: bool [B,size,size] from `valid_mask` of the label, for fake maps too.
      kind: 'product', 'concat' (map and image side by side), or 'map' (the label map alone; the
        paper saw it do worse).

    Returns:
      float32 [B,size,size,3C], [B,size,size,C+3] or [B,size,size,C]. Where `valid` is False it is
      exactly zero, and so is the gradient to `maps`.

    Raises:
      UserError: unknown kind or image_range, or maps that are not at `size`.
    """
    require_one_of('discriminator input', kind, KINDS)
    require_one_of('image range', image_range, IMAGE_RANGES)
    asked, size = size, as_points(size)
    for name, tensor in (('map', maps), ('valid mask', valid)):
        if not tensor.shape[1:3].is_compatible_with(size):
            raise UserError(f'{name} of {tuple(tensor.shape[1:3])} points given to a discriminator '
                            f'of size {asked}: make it with the same size')
    maps = tf.cast(maps, tf.float32)
    joined = maps
    if kind != 'map':
        colours = resize_bilinear(tf.cast(image, tf.float32), size)
        colours = colours / 255.0 if image_range == 'unit' else colours / 127.5 - 1.0
        if kind == 'concat':
            joined = tf.concat([maps, colours], -1)
        else:
            product = maps[..., :, None] * colours[..., None, :]
            joined = tf.reshape(product, [-1, *size, 3 * maps.shape[-1]])
    return joined * tf.cast(valid, tf.float32)[..., None]


@dataclasses.dataclass(frozen=True)
class Encoding:
    """One choice of encoding for a whole run, so that no phase can differ from another.

    Every method takes the padded image float [B,h,w,3] in 0..255 and its int [B,h,w] label and
    returns the discriminator's float32 [B,size,size,channels] input.

    Attributes:
      num_classes: C.
      size: side of the discriminator's input in points, or (height, width).
      kind: 'product', 'concat' or 'map', see `discriminator_input`.
      image_range: 'unit' or 'symmetric', see there.
      temperature: of predictions' softmax.
      label_smoothing: of truths that are 'sampled'.
      ignore_label: of pixels without a label.
      truth: what is shown as true: the ground truth 'sampled' at the points; put through the
        segmentor's stride ('bottleneck'); or that, and as sure as the segmentor's own map of the
        image where it is right and surer than tau, else as sure as tau ('scaling', see
        `label_maps.scaled_truth`); or the segmentor's own map with the true class in the first
        place ('swapped', see `label_maps.swapped_truth`).
      stride: pixels from one point of the logits to the next; of 'bottleneck'.
      tau: of 'scaling'.
      grid: (h', w') of the logits of a crop, or None: labels of that size stand at the logits'
        points already.

    Raises:
      UserError: a value out of range.
    """
    num_classes: int
    size: object = 224
    kind: str = 'product'
    image_range: str = 'unit'
    temperature: float = 1.0
    label_smoothing: float = 0.0
    ignore_label: int = 255
    truth: str = 'sampled'
    stride: int = 1
    tau: float = 0.9
    grid: object = None

    def __post_init__(self):
        require_one_of('discriminator input', self.kind, KINDS)
        require_one_of('image range', self.image_range, IMAGE_RANGES)
        require_one_of('input_encoding.truth', self.truth, TRUTHS)
        if min(*self.points, self.num_classes) < 1:
            raise UserError(f'discriminator input of size {self.size} for {self.num_classes} '
                            'classes: both must be at least 1')
        if not self.temperature > 0.0:
            raise UserError(f'map temperature {self.temperature}: must be above 0 (1 = as it is)')
        if not 0.0 <= self.label_smoothing < 1.0:
            raise UserError(f'label smoothing {self.label_smoothing}: must be in [0, 1)')
        if self.label_smoothing and self.truth != 'sampled':
            raise UserError(f'input_encoding.label_smoothing = {self.label_smoothing} has no '
                            f"effect with truth = {self.truth!r}; set one of the two to its "
                            'default')
        if self.tau != 0.9 and self.truth != 'scaling':
            raise UserError(f'input_encoding.tau = {self.tau} has no effect with truth = '
                            f"{self.truth!r}, only with 'scaling'; leave it out")
        if self.image_range != 'unit' and self.kind == 'map':
            raise UserError(f'input_encoding.image_range = {self.image_range!r} has no effect with '
                            "kind = 'map', which shows no image; leave it out")
        if not 0.0 < self.tau <= 1.0:
            raise UserError(f'input_encoding.tau = {self.tau}: must be above 0 and at most 1')

    @property
    def points(self):
        """(height, width) of the discriminator's input."""
        return as_points(self.size)

    @property
    def channels(self):
        """Channels of the discriminator's input."""
        return input_channels(self.num_classes, self.kind)

    @property
    def needs_prediction(self):
        """Whether the segmentor's map of an image decides what is shown as its truth."""
        return self.truth in label_maps.BY_PREDICTION

    def map_channels(self, inputs):
        """The channels of a discriminator's input (and more behind it) that a map has a part in."""
        return inputs[..., :self.num_classes if self.kind == 'concat' else self.channels]

    def finish(self, image, labels, maps):
        """The common end: `discriminator_input` with the label's valid mask."""
        valid = valid_mask(labels, self.points, self.ignore_label)
        return discriminator_input(image, maps, valid, self.points, self.kind, self.image_range)

    def truth_map(self, labels, logits=None, hard=False):
        """What is shown as true, as a map [B,size,size,C] of probabilities.

        Args:
          labels: int [B,h,w].
          logits: the segmentor's of the image, float [B,h',w',C]; only those that
            `needs_prediction` look at them.
          hard: whether predictions are shown as hard maps.
        """
        if self.truth == 'sampled':
            return real_map(labels, self.num_classes, self.points, self.ignore_label,
                            self.label_smoothing)
        if self.needs_prediction:
            logits = tf.cast(logits, tf.float32)
            at = label_maps.labels_at(labels, tf.shape(logits)[1:3])
            one_hot = tf.one_hot(at, self.num_classes)
            soft = label_maps.by_prediction(
                self.truth, one_hot, tf.nn.softmax(logits / self.temperature), self.tau)
            return soft_map(tf.math.log(tf.maximum(soft, 1e-20)), self.points)
        stride = 1 if tuple(labels.shape[1:3]) == self.grid else self.stride
        if hard:
            logits = bottleneck.oracle_logits(labels, self.num_classes, stride)
            full = resize_bilinear(logits, tf.shape(labels)[1:3])
            return hard_map(tf.argmax(full, -1, tf.int32), self.num_classes, self.points, labels,
                            self.ignore_label)
        return bottleneck.truth_map(labels, self.num_classes, stride, self.points,
                                    self.temperature)

    def real(self, image, labels, logits=None, hard=False):
        """Input of the truth; `logits` and `hard` as in `truth_map`."""
        return self.finish(image, labels, self.truth_map(labels, logits, hard))

    def soft(self, image, labels, logits):
        """Input of soft maps, live or read back; the gradient reaches `logits` [B,h',w',C]."""
        return self.finish(image, labels, soft_map(logits, self.points, self.temperature))

    def hard(self, image, labels, ids):
        """Input of predicted class ids [B,h,w]; no gradient."""
        maps = hard_map(ids, self.num_classes, self.points, labels, self.ignore_label)
        return self.finish(image, labels, maps)

    def straight_through(self, image, labels, logits):
        """`hard` of the logits' prediction forward, `soft` backward."""
        maps = straight_through_map(logits, labels, self.points, self.temperature,
                                    self.ignore_label)
        return self.finish(image, labels, maps)

    def quantised(self, image, labels, quantised):
        """Input of maps read back as uint8 probabilities [B,h',w',C]."""
        return self.finish(image, labels, quantised_map(quantised, self.points, self.temperature))


@gin.configurable(denylist=['num_classes', 'crop_size', 'stride'])
def input_encoding(num_classes, crop_size=None, stride=1, size=224, kind='product',
                   image_range='unit', temperature=1.0, label_smoothing=0.0, truth='sampled',
                   tau=0.9):
    """Builds the run's `Encoding` (LoAd's: product of image and soft map at 224 x 224).

    Args:
      num_classes: C.
      crop_size: (h, w) of the run's crops; `size` 'logits' needs it.
      stride: the segmentor's, in pixels from one point of its logits to the next.
      size: side in points, (height, width), or 'logits': where the logits stand.
      kind, image_range, temperature, label_smoothing, truth, tau: see `Encoding`.

    Raises:
      UserError: a value out of range.
    """
    if isinstance(size, str):
        require_one_of('input_encoding.size', size, (AT_LOGITS,))
        size = bottleneck.grid_of(crop_size, stride)
    grid = None if crop_size is None else bottleneck.grid_of(crop_size, stride)
    return Encoding(num_classes, size, kind, image_range, temperature, label_smoothing,
                    truth=truth, stride=stride, tau=tau, grid=grid)
