"""Whether a discriminator's gradient points anywhere, before a step is taken along it.

With D trained on g_0's maps, the adversarial gradient of every image is taken at g_0. Where the
gradients of images agree, their mean is long beside their own lengths (the signal), and training
follows something that the images have in common. Where they do not, each step is noise, and what is
gained is the luck of the selection. The cosine with the gradient of CE on images that chose nothing
says whether that common direction is also one in which the segmentor becomes better. A
discriminator that has learnt nothing has a common direction, too: an accident of its initial
weights. So its accuracy stands beside the signal.

All figures are of pairs of different images: a gradient's own square, which is mostly noise, counts
nowhere. Whether there is a common direction at all is asked by random signs: unrelated gradients
may as well be their own opposites.
"""
import dataclasses
from typing import Optional

import numpy as np
import tensorflow as tf

from tf_advseg.adversaries import cues
from tf_advseg.data import pipeline
from tf_advseg.methods import cue_audit
from tf_advseg.methods import step_parts
from tf_advseg.models import segmentor as segmentors
from tf_advseg.training import loss_scale

BINS = 2 ** 16  # of the sketch; inner products are then right to about 0.4 % of the lengths
SAMPLES = 1000  # of the bootstrap over images, and of the random signs
FEWEST = 8  # images; with fewer there are no intervals
# A discriminator of an accuracy up to here, or of a binary CE from here on (chance is ln 2), has
# learnt next to nothing.
BLIND = 0.55
BLIND_LOSS = 0.98 * np.log(2.0)
LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Screening:
    """What was found; pairs are the ends of 95 % intervals by a bootstrap over images.

    Attributes:
      images: training images whose adversarial gradients were taken.
      unseen: images that chose nothing, whose CE gradients were taken; 0 for none.
      signal: length of the mean adversarial gradient against the root mean square of the lengths,
        by pairs of different images: about 0 (it may be below) where they have nothing in common,
        at most 1.
      signal_interval: of it; None for fewer than `FEWEST` images.
      chance: the share of random signs of the gradients that give as much signal; None as well.
      plain_signal: the same ratio with each gradient's own square; of N unrelated gradients about
        1 / sqrt(N).
      ce_signal: `signal` of CE on the unseen images, for comparison; None without any.
      cosine: of the mean adversarial gradient and the mean CE gradient of unseen images, the noise
        of both taken out; None without any, or where one of the two has no signal.
      cosine_interval: of it, or None.
      cues: {statistic: AUC} between what D is shown as true and g_0's own maps.
      accuracy: of D on its hold-out, in 0..1; None where nobody measured it.
      log_loss: D's binary CE there, in nats; None as well.
    """
    images: int
    unseen: int
    signal: float
    signal_interval: Optional[tuple]
    chance: Optional[float]
    plain_signal: float
    ce_signal: Optional[float]
    cosine: Optional[float]
    cosine_interval: Optional[tuple]
    cues: dict
    accuracy: Optional[float] = None
    log_loss: Optional[float] = None

    @property
    def points_nowhere(self):
        """Whether no common direction is shown; None where there are too few images to say."""
        return None if self.chance is None else self.chance > (1.0 - LEVEL) / 2

    @property
    def blind(self):
        """Whether the discriminator has learnt next to nothing."""
        return bool((self.accuracy is not None and self.accuracy <= BLIND)
                    or (self.log_loss is not None and self.log_loss >= BLIND_LOSS))

    def text(self):
        """Lines for a terminal or a report."""
        lines = [f'signal of the adversarial gradient {self.signal:.3f}{_ends(self.signal_interval)} '
                 f'over {self.images} images (0: nothing in common)']
        if self.ce_signal is not None:
            cosine = ('unknown: one of the two has no signal' if self.cosine is None else
                      f'{self.cosine:+.3f}{_ends(self.cosine_interval)}')
            lines.append(f'its cosine with the CE gradient of {self.unseen} images that chose '
                         f'nothing: {cosine}; the signal of CE there is {self.ce_signal:.3f}')
        if self.blind:
            loss = '' if self.log_loss is None else f', binary CE {self.log_loss:.3f}'
            lines.append(f'the discriminator is right in {100 * self.accuracy:.1f} % of its '
                         f'hold-out{loss} (chance: 0.693): it has learnt next to nothing, and so '
                         'its direction means nothing; train it longer, or show it more')
        worst = cues.harmful(self.cues)
        if worst:
            lines.append('cues between the maps of g0 and what is shown as true (AUC): '
                         + ', '.join(f'{name} {area:.2f}' for name, area in worst.items()))
        if self.points_nowhere:
            lines.append(
                f'the adversary points nowhere: with {self.images} images no direction is shown '
                f'that their gradients have in common; a signal above '
                f'{max(0.0, self.signal_interval[1]):.3f} is excluded')
        return '\n'.join(lines)

    def to_json(self):
        """dict of plain values, with 'points_nowhere' and 'blind'."""
        return {**dataclasses.asdict(self),
                'signal_interval': self.signal_interval and list(self.signal_interval),
                'cosine_interval': self.cosine_interval and list(self.cosine_interval),
                'points_nowhere': self.points_nowhere, 'blind': self.blind}


def _ends(interval):
    """' [low, high]', or '' where there is no interval."""
    return '' if interval is None else f' [{interval[0]:.3f}, {interval[1]:.3f}]'


class Sketcher:
    """Short vectors whose inner products are those of gradients, up to a small error.

    A count sketch (Charikar et al. 2002): each coordinate is added, with a random sign, to a bin.

    Args:
      variables: what gradients are of.
      bins: length of a sketch.
      seed: of bins and signs.
    """

    def __init__(self, variables, bins=BINS, seed=0):
        size = int(sum(np.prod(v.shape) for v in variables))
        generator = np.random.default_rng(seed)
        self.bins = bins
        self._place = tf.constant(generator.integers(0, bins, size), tf.int32)
        self._sign = tf.constant(generator.choice([-1.0, 1.0], size), tf.float32)

    def __call__(self, gradient):
        """float32 [bins] of a gradient float32 [size]."""
        return tf.math.unsorted_segment_sum(gradient * self._sign, self._place, self.bins)


class _Pairs:
    """Inner products of a set of vectors, by pairs of different ones.

    Args:
      vectors: float64 [N, K].
    """

    def __init__(self, vectors):
        self.gram = vectors @ vectors.T
        self.own = np.diag(self.gram).copy()

    def square(self, weights):
        """Squared length of the weighted mean, by pairs; nan for a single vector."""
        squares = np.square(weights)
        pairs = weights @ self.gram @ weights - squares @ self.own
        many = weights.sum() ** 2 - squares.sum()
        return pairs / many if many > 0 else np.nan

    def signal(self, weights):
        """`square` against the mean squared length, as a ratio of lengths with its sign."""
        square, mean = self.square(weights), weights @ self.own / weights.sum()
        return np.sign(square) * np.sqrt(abs(square) / mean) if mean > 0 else 0.0

    def chance(self, generator, samples):
        """The share of random signs under which the square is as large as it is."""
        signs = generator.choice([-1.0, 1.0], size=(samples, len(self.own)))
        squares = np.einsum('si,ij,sj->s', signs, self.gram, signs)
        ones = np.ones(len(self.own))
        return float((1 + (squares >= ones @ self.gram @ ones).sum()) / (1 + samples))


def measure(adversarial, cross_entropy, samples=SAMPLES, seed=0):
    """The figures of `Screening` but for `cues` and `accuracy`.

    Args:
      adversarial: float [N, K], gradients of training images (or sketches of them); N at least 2.
      cross_entropy: float [M, K] of unseen images; of fewer than 2 nothing is made.
      samples: of the bootstrap, and of the random signs.
      seed: of both.

    Returns:
      dict of fields.
    """
    adversarial = np.asarray(adversarial, np.float64)
    cross_entropy = np.asarray(cross_entropy, np.float64)
    generator = np.random.default_rng(seed)
    count, unseen = len(adversarial), len(cross_entropy)
    ours, ones = _Pairs(adversarial), np.ones(count)
    drawn = _draws(generator, count, samples)
    found = {
        'images': count, 'unseen': unseen if unseen > 1 else 0, 'signal': float(ours.signal(ones)),
        'signal_interval': _interval([ours.signal(weights) for weights in drawn], count),
        'chance': ours.chance(generator, samples) if count >= FEWEST else None,
        'plain_signal': float(np.sqrt(ones @ ours.gram @ ones / count / max(ours.own.sum(), 1e-30))),
        'ce_signal': None, 'cosine': None, 'cosine_interval': None}
    if unseen < 2:
        return found
    theirs, across = _Pairs(cross_entropy), adversarial @ cross_entropy.T

    def cosine(left, right):
        squares = ours.square(left), theirs.square(right)
        if not min(squares) > 0:
            return np.nan
        mean = left @ across @ right / left.sum() / right.sum()
        return mean / np.sqrt(squares[0] * squares[1])
    value = cosine(ones, np.ones(unseen))
    found['ce_signal'] = float(theirs.signal(np.ones(unseen)))
    if not np.isnan(value):
        others = _draws(generator, unseen, samples)
        found.update(cosine=float(np.clip(value, -1, 1)), cosine_interval=_interval(
            np.clip([cosine(*pair) for pair in zip(drawn, others)], -1, 1), min(count, unseen)))
    return found


def _draws(generator, count, samples):
    """float64 [samples, count]: how often each is drawn, two different ones at least."""
    drawn = generator.multinomial(count, np.full(count, 1 / count), size=samples)
    return drawn[(drawn > 0).sum(1) > 1].astype(np.float64)


def _interval(values, count):
    """(low, high); None for few images, or where more than one draw in ten has no value."""
    values = np.asarray(values, np.float64)
    there = values[~np.isnan(values)]
    if count < FEWEST or len(there) < 0.9 * len(values):
        return None
    tail = 50.0 * (1.0 - LEVEL)
    return tuple(float(value) for value in np.percentile(there, [tail, 100.0 - tail]))


def screen(context, method, stepper, images=None, judged=None):
    """Screens a method whose discriminator is trained; no weight is moved.

    Args:
      context: run.context.Context.
      method: methods.load.LoAd, with g_0's weights.
      stepper: its training.loop.Stepper.
      images: how many training images; None for all.
      judged: {'accuracy', 'log_loss'} of the discriminator on its hold-out, or None.

    Returns:
      `Screening`.
    """
    data = context.data
    train = data.train if images is None else cue_audit.chosen(data.train, images)
    kept = [(v, v.numpy()) for v in method.discriminator.non_trainable_variables]
    tested = set(data.test)  # of some data sets val is the test split: it chooses no design
    unseen = [image_id for image_id in data.rest if image_id not in tested]
    if images is not None and unseen:
        unseen = cue_audit.chosen(unseen, images)
    sketch = Sketcher(method.segmentor.trainable_variables)

    # The stepper knows what it has compiled by the names of these functions.
    def adversarial_sketch(batch, seed):
        return _gradient(method, sketch, batch, seed, lambda logits: method.terms(
            batch, logits, seed)[0]['adv'][1])

    def cross_entropy_sketch(batch, seed):
        return _gradient(method, sketch, batch, seed,
                         lambda logits: method.cross_entropy(logits, batch, seed))

    def taken(ids, gradient):
        function = stepper.local(gradient)
        seed = tf.constant(context.streams.seed('diagnostics', 0, salt='screening'), tf.int32)
        return np.stack([function(batch, seed).numpy() for batch in _crops(context, method, ids)])

    found = measure(
        taken(train, adversarial_sketch),
        taken(unseen, cross_entropy_sketch) if len(unseen) > 1 else np.zeros((0, sketch.bins)))
    for variable, value in kept:  # moved where D runs in training mode
        variable.assign(value)
    return Screening(**found, cues=_own_cues(context, method, stepper, cue_audit.chosen(train)),
                     **(judged or {}))


def _gradient(method, sketch, batch, seed, loss):
    """The sketched gradient of function `loss` of the logits."""
    variables = method.segmentor.trainable_variables
    with loss_scale.Tape(method.precision, method.optimizer) as tape:
        with step_parts.statistics_kept(method.segmentor):
            logits = method.logits(batch, seed)
        value = loss(logits)
    return sketch(step_parts.flat_gradient(tape, value, variables))


def _crops(context, method, ids):
    """Batches of one whole padded image, cut to the crop."""
    height, width = context.crop_size
    for batch in pipeline.whole_images(context.data.records, ids, context.crop_size, 1,
                                       pad_value=segmentors.padding_colour(method.segmentor)):
        yield {'image': batch['image'][:, :height, :width],
               'label': batch['label'][:, :height, :width]}


def _own_cues(context, method, stepper, ids):
    """{statistic: AUC} between what is shown as true and the network's own maps."""
    def shown_to_discriminator(batch):
        logits = segmentors.apply(method.segmentor, batch['image'], training=False)
        return method.shown_maps(batch, logits), tf.zeros(tf.shape(logits)[1:3])
    function, triples, grid = stepper.local(shown_to_discriminator), [], None
    for batch in _crops(context, method, ids):
        parts, at = function(batch)
        grid = tuple(at.shape)
        triples.append([part.numpy()[0] for part in parts])
    try:
        return cues.audit(triples, grid)
    except ValueError:  # no label in any crop
        return {}
