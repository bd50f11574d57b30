"""Pixel-wise cross-entropy: Stage 1 of LoAd, the baseline and the control of every method.

LoAd (Jamali-Rad and Szabo), section 4, "Stanford Background dataset": batch 7, weighted CE for 4
epochs, then CE with all weights 1 for 8 more. "Weighted CE loss is calculated by multiplying the
loss by the average number of pixels per class computed over the entire training dataset and
dividing it by the number of pixel per class in the image." The sentence has two readings, both
here (`class_weighting`): 'per_class' takes the average of each class by itself, 'global' one
average over all classes. The paper does not say which, nor whether the weight is bounded
(`maximum_weight`). Images larger than the crop are counted on the crop, the average on whole
images.

What the official DeepLab code adds is off unless asked for (gin/methods/official_deeplab.gin):
gradient multipliers, hard-example mining, fixed class weights, labels brought to the logits' size.
"""
import gin
import tensorflow as tf

from tf_advseg.core import errors
from tf_advseg.losses import pixel
from tf_advseg.methods import objective
from tf_advseg.methods import recipe
from tf_advseg.methods import step_parts

CLASS_WEIGHTINGS = ('per_class', 'global')


class CrossEntropy(objective.Objective):
    """One network, one loss.

    Args:
      segmentor: see `step_parts.Method`.
      optimizer: a tf.keras optimizer, built on the segmentor's trainable variables here.
      reduction: 'mean' or 'sum', see `step_parts.pixel_loss`.
      class_weighting: the reading of the weights in the phase 'weighted'.
      average_counts: float [C], pixels of each class per training image; without them there is
        no phase 'weighted'.
      maximum_weight: an upper bound for a pixel's weight, or None.
      l2_weight: weight decay on convolution kernels that are not depthwise (slim convention).
      last_layer_gradient_multiplier, bias_gradient_multiplier: see
        `step_parts.gradient_multipliers`; the gradient of the weight decay is multiplied as well.
      last_layers: official scopes that count as last layers.
      class_weights: float [C] that multiply a pixel's loss in every phase, or None.
      upsample_logits: see `step_parts.pixel_loss`.
      hard_example_fraction: share of a replica's pixels that counts, see `step_parts.pixel_loss`;
        1.0 for all (official `top_k_percent_pixels`).
      hard_example_steps: steps over which that share comes down from 1 (official
        `hard_example_mining_step`).

    Raises:
      UserError: a share outside 0..1, negative steps, weights of another number of classes, or
        multipliers that the network has no layers for.
    """

    def __init__(self, segmentor, optimizer, reduction='mean', class_weighting='per_class',
                 average_counts=None, maximum_weight=None, l2_weight=0.0,
                 last_layer_gradient_multiplier=1.0, bias_gradient_multiplier=1.0,
                 last_layers=step_parts.LAST_LAYERS, class_weights=None, upsample_logits=True,
                 hard_example_fraction=1.0, hard_example_steps=0):
        super().__init__(segmentor, optimizer, objective.PixelLoss(
            reduction, bool(upsample_logits), l2_weight=l2_weight), 'cross_entropy')
        if class_weighting not in CLASS_WEIGHTINGS:
            raise ValueError(f'class_weighting {class_weighting!r}: one of {CLASS_WEIGHTINGS}')
        _check(segmentor, class_weights, hard_example_fraction, hard_example_steps)
        self.class_weighting = class_weighting
        self.average_counts = None if average_counts is None else tf.constant(
            average_counts, tf.float32)
        self.maximum_weight = maximum_weight
        self.multipliers = step_parts.gradient_multipliers(
            segmentor, last_layer_gradient_multiplier, bias_gradient_multiplier, last_layers)
        self.class_weights = None if class_weights is None else tf.constant(
            class_weights, tf.float32)
        self.hard_example_fraction = float(hard_example_fraction)
        self.hard_example_steps = hard_example_steps

    @property
    def phases(self):
        """dict: 'segmentor' (all weights 1) and, where counts were given, 'weighted'."""
        steps = {'segmentor': self.segmentor_step}
        if self.average_counts is not None:
            steps['weighted'] = self.weighted_step
        return steps

    def segmentor_step(self, batch, seed, **scalars):
        """One descent step on CE; returns {'loss/ce', 'loss/total', 'weights/norm'}."""
        return self.cross_entropy_step(batch, seed, **scalars)

    def weighted_step(self, batch, seed):
        """One descent step on weighted CE; returns the same."""
        weights = pixel.image_class_weights(
            batch['label'], self.segmentor.num_classes, self.average_counts,
            reading=self.class_weighting, maximum=self.maximum_weight)
        return self._descend(
            batch, seed, lambda logits: ({}, {}),
            cross_entropy=lambda *given: self.cross_entropy(*given, weights=weights))

    def cross_entropy(self, logits, batch, seed, weights=None):
        """A replica's share of CE, `weights` [b, h, w] or None; see `step_parts.pixel_loss`."""
        del seed
        if self.class_weights is not None:
            fixed = pixel.class_weights(batch['label'], self.class_weights)
            weights = fixed if weights is None else weights * fixed
        fraction = None if self.hard_example_fraction == 1.0 else pixel.annealed_fraction(
            self.hard_example_fraction, self.optimizer.iterations, self.hard_example_steps)
        return step_parts.pixel_loss(logits, batch['label'], self.pixel_loss.reduction, weights,
                                     self.pixel_loss.upsample_logits, fraction)

    def losses(self, batch, seed, weights=None):
        """(CE, CE + weight decay): a replica's shares, float32 scalars."""
        ce = self.cross_entropy(self.logits(batch, seed), batch, seed, weights)
        return ce, ce + self.decay()


def _check(segmentor, class_weights, fraction, steps):
    """Raises UserError for settings out of range."""
    if not 0.0 < fraction <= 1.0:
        raise errors.UserError(f'cross_entropy.hard_example_fraction = {fraction!r}: expected a '
                               'number above 0 and up to 1 (1: no hard-example mining)')
    if steps < 0:
        raise errors.UserError(f'cross_entropy.hard_example_steps = {steps!r}: expected at least 0')
    if class_weights is not None and len(class_weights) != segmentor.num_classes:
        raise errors.UserError(
            f'cross_entropy.class_weights: {len(class_weights)} numbers for a network of '
            f'{segmentor.num_classes} classes; give one for each class')


# Stage 1 is all there is; experiments/train/stage_one.py trains it.
recipe.register(recipe.Recipe('cross_entropy', 'Stage 1', measures=()))


@gin.configurable(denylist=['segmentor', 'optimizer', 'average_counts'])
def cross_entropy(segmentor, optimizer, average_counts=None, reduction='mean',
                  class_weighting='per_class', maximum_weight=None, l2_weight=4e-5,
                  last_layer_gradient_multiplier=1.0, bias_gradient_multiplier=1.0,
                  last_layers=step_parts.LAST_LAYERS, class_weights=None, upsample_logits=True,
                  hard_example_fraction=1.0, hard_example_steps=0):
    """Builds `CrossEntropy` with gin's settings."""
    return CrossEntropy(segmentor, optimizer, reduction, class_weighting, average_counts,
                        maximum_weight, l2_weight, last_layer_gradient_multiplier,
                        bias_gradient_multiplier, last_layers, class_weights, upsample_logits,
                        hard_example_fraction, hard_example_steps)
