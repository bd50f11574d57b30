"""What the discriminator of Luc et al. (2016) sees: label maps at the segmentor's own resolution.

Section 3.2, "Pascal VOC 2012 dataset", names three encodings of a map and, for two of them, the
image:

    Basic     softmax s(x), or the truth as one-hot, [B, h', w', C]
    Product   the same, times the mean-centred image, [B, h', w', 3C]
    Scaling   s(x), or the truth softened to ybar (see `scaled_truth`), [B, h', w', C]

Beyond the paper: 'concat' has the scaled image behind the map, [B, h', w', C + 3]; 'swapped' shows
as true the prediction's own probabilities with the true class in the first place (see
`swapped_truth`), [B, h', w', C].

h' = (h-1)//s+1 is the size of the segmentor's logits: "the ground truth label maps are down-sampled
to match the output resolution of the segmentation net", and "the image is down-sampled by the
stride of the segmentation network" (Fig. 2). Unlabelled pixels are zero in both maps, and so is
their gradient.

Where the paper is silent, this is what we chose:
  * labels are brought down by nearest neighbours and images bilinearly, align-corners both: the
    points at which the logits stand. At a whole stride, 8 say, either is taking every 8th pixel as
    it is: no image is averaged.
  * `colour_scale`: Product's image is "mean-centered per pixel, in the same way as before being
    input to the segmenting model" (supplement, section 1), so it is divided by what the segmentor
    divides by: 1 for Dilated-8 (grey levels, as in Caffe), 127.5 for MobileNetV2. 'concat' divides
    by 127.5.
"""
import dataclasses

import gin
import tensorflow as tf

from tf_advseg.adversaries import bottleneck
from tf_advseg.core import arguments
from tf_advseg.core import errors
from tf_advseg.data.spec import IGNORE_LABEL
from tf_advseg.models import resize
from tf_advseg.models import segmentor as segmentors

KINDS = ('basic', 'product', 'concat', 'scaling', 'swapped')
BY_PREDICTION = ('scaling', 'swapped')  # here a prediction decides what is shown as true
TRUTHS = ('sampled', 'bottleneck')


def labels_at(labels, size):
    """Labels at the points where the logits stand.

    Args:
      labels: int [B, h, w].
      size: (h', w'), ints or an int32 tensor [2].

    Returns:
      int [B, h', w'], nearest neighbours under align-corners.
    """
    return resize.resize_nearest(labels[..., None], size)[..., 0]


def scaled_truth(one_hot, probabilities, tau=0.9):
    """The truth as the distribution ybar that is nearest to the prediction (Scaling).

    ybar_l = max(tau, s_l) for the true class l, ybar_c = s_c (1 - ybar_l) / (1 - s_l) for the
    others. 1 - s_l is the sum of the others, so nothing is lost to cancellation; where s_l is 1,
    and the printed ratio is 0/0, ybar is one-hot. ybar sums to 1 to the last digit.

    Args:
      one_hot: float32 [..., C].
      probabilities: float32 [..., C], s; it gets no gradient.
      tau: float in (0, 1]; 0.9 in the paper, 1 gives one-hot.

    Returns:
      float32 [..., C], constant for the gradient.
    """
    others = tf.stop_gradient(probabilities) * (1.0 - one_hot)
    rest = tf.reduce_sum(others, -1, keepdims=True)
    others = tf.math.divide_no_nan(others * tf.minimum(rest, 1.0 - tau), rest)
    return others + one_hot * (1.0 - tf.reduce_sum(others, -1, keepdims=True))


def swapped_truth(one_hot, probabilities):
    """The prediction, with the probabilities of its first class and of the true class exchanged.

    Where the prediction is right this is the prediction itself; elsewhere it holds the same
    numbers. So no statistic of single points, certainty above all, separates the two: what
    remains is which class stands where.

    Args:
      one_hot: float32 [..., C]; all zero where there is no label, and nothing is exchanged there.
      probabilities: float32 [..., C]; it gets no gradient.

    Returns:
      float32 [..., C], constant for the gradient.
    """
    probabilities = tf.stop_gradient(probabilities)
    labelled = tf.reduce_sum(one_hot, -1, keepdims=True)
    first = labelled * tf.one_hot(tf.argmax(probabilities, -1), probabilities.shape[-1])
    of_first = tf.reduce_max(probabilities, -1, keepdims=True)
    of_true = tf.reduce_sum(probabilities * one_hot, -1, keepdims=True)
    return tf.where(one_hot > 0, of_first, tf.where(first > 0, of_true, probabilities))


def by_prediction(kind, one_hot, probabilities, tau=0.9):
    """`scaled_truth` or `swapped_truth`: the truth of a kind in `BY_PREDICTION`."""
    if kind == 'swapped':
        return swapped_truth(one_hot, probabilities)
    return scaled_truth(one_hot, probabilities, tau)


@dataclasses.dataclass(frozen=True)
class LabelMaps:
    """One choice of encoding for a whole run.

    Both methods take the padded image float [B, h, w, 3] in 0..255, its int [B, h, w] label and
    the segmentor's logits float [B, h', w', C], and return float32 [B, h', w', channels].

    Attributes:
      num_classes: C.
      kind: 'basic', 'product', 'concat', 'scaling' or 'swapped'.
      tau: of 'scaling'.
      mean_colour: RGB in 0..255 that 'product' subtracts.
      colour_scale: what 'product' and 'concat' divide colours by.
      truth: the ground truth as it is at the maps' points ('sampled'), or put through the
        segmentor's stride first ('bottleneck', adversaries/bottleneck.py): where the maps are finer
        than the logits, the former is sharper than any prediction.
      stride: of 'bottleneck': pixels from one point of the segmentor's logits to the next.

    Raises:
      UserError: a value out of range.
    """
    num_classes: int
    kind: str = 'basic'
    tau: float = 0.9
    mean_colour: tuple = (127.5, 127.5, 127.5)
    colour_scale: float = 127.5
    truth: str = 'sampled'
    stride: int = 1

    def __post_init__(self):
        errors.require_one_of('label_maps.kind', self.kind, KINDS)
        errors.require_one_of('label_maps.truth', self.truth, TRUTHS)
        if self.truth == 'bottleneck' and self.kind in BY_PREDICTION:
            raise errors.UserError("label_maps.truth = 'bottleneck' with label_maps.kind = "
                                   f'{self.kind!r}: one of the two; take the latter where the maps '
                                   "are at the logits' own points")
        arguments.require_number('label_maps', 'tau', self.tau, above=0, most=1,
                                 hint='0.9 in the paper')
        if self.kind == 'swapped' and self.tau != 0.9:
            raise errors.UserError(f"label_maps.tau = {self.tau} has no effect with label_maps.kind "
                                   "= 'swapped'; leave it out")
        arguments.require_number('label_maps', 'colour_scale', self.colour_scale, above=0,
                                 hint='127.5, or 1 for grey levels')

    @property
    def channels(self):
        """Channels of what the discriminator sees."""
        return {'product': 3 * self.num_classes, 'concat': self.num_classes + 3}.get(
            self.kind, self.num_classes)

    def real(self, image, labels, logits):
        """The truth's map; no gradient reaches the logits, which only the kinds of
        `BY_PREDICTION` look at."""
        at = labels_at(labels, tf.shape(logits)[1:3])
        return self._finish(image, at, self._truth(labels, at, logits))

    def fake(self, image, labels, logits):
        """The prediction's map, zero at unlabelled pixels; the gradient reaches the logits."""
        labels = labels_at(labels, tf.shape(logits)[1:3])
        return self._finish(image, labels, tf.nn.softmax(tf.cast(logits, tf.float32)))

    def pair(self, labels, logits):
        """(truth, prediction, bool which points count): both maps before an image comes to them."""
        at = labels_at(labels, tf.shape(logits)[1:3])
        return (self._truth(labels, at, logits), tf.nn.softmax(tf.cast(logits, tf.float32)),
                tf.not_equal(at, IGNORE_LABEL))

    def _truth(self, labels, at, logits):
        if self.truth == 'bottleneck':
            return bottleneck.truth_map(labels, self.num_classes, self.stride,
                                        tf.shape(logits)[1:3])
        truth = tf.one_hot(at, self.num_classes)  # zero where the label is none of the classes
        if self.kind in BY_PREDICTION:
            truth = by_prediction(self.kind, truth, tf.nn.softmax(tf.cast(logits, tf.float32)),
                                  self.tau)
        return truth

    def _finish(self, image, labels, maps):
        maps *= tf.cast(tf.not_equal(labels, IGNORE_LABEL), tf.float32)[..., None]
        if self.kind not in ('product', 'concat'):
            return maps
        size = tf.shape(maps)[1:3]
        colours = resize.resize_bilinear(image, size) - tf.constant(self.mean_colour, tf.float32)
        colours /= self.colour_scale
        if self.kind == 'concat':
            valid = tf.cast(tf.not_equal(labels, IGNORE_LABEL), tf.float32)[..., None]
            return tf.concat([maps, colours * valid], -1)
        product = maps[..., :, None] * colours[..., None, :]
        return tf.reshape(product, [-1, size[0], size[1], self.channels])


@gin.configurable(denylist=['num_classes', 'segmentor'])
def label_maps(num_classes, segmentor, kind='basic', tau=0.9, colour_scale=None,
               truth='sampled'):
    """Builds the run's `LabelMaps`.

    Args:
      num_classes: C.
      segmentor: its first layer says what colours are centred by, its `logits_stride` what a
        truth's bottleneck is.
      kind, tau, truth: see `LabelMaps`.
      colour_scale: see `LabelMaps`; None for the segmentor's own, and 127.5 of 'concat'.
    """
    if colour_scale is None:
        colour_scale = segmentors.colour_scale(segmentor) if kind == 'product' else 127.5
    return LabelMaps(num_classes, kind, tau, tuple(segmentors.padding_colour(segmentor)),
                     colour_scale, truth, segmentor.logits_stride)
