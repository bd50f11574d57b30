"""Pixel-wise cross-entropy: Stage 1 of LoAd, the baseline and the control of every method.

LoAd (Jamali-Rad and Szabo), section 4, "Stanford Background dataset": batch 7, weighted CE for 4
epochs, then CE with all weights 1 for 8 more. "Weighted CE loss is calculated by multiplying the
loss by the average number of pixels per class computed over the entire training dataset and
dividing it by the number of pixel per class in the image." The sentence has two readings, both
here (`class_weighting`): 'per_class' takes the average of each class by itself, 'global' one
average over all classes. The paper does not say which, nor whether the weight is bounded
(`maximum_weight`). Pictures larger than the crop are counted on the crop, the average on whole
pictures.
"""
import gin
import tensorflow as tf

from tf_advseg.losses import pixel
from tf_advseg.methods import base
from tf_advseg.models import segmentor as segmentors

CLASS_WEIGHTINGS = ('per_class', 'global')


class CrossEntropy(base.Method):
    """One network, one loss.

    Args:
      segmentor: see DESIGN.md ("Segmentor").
      optimizer: a tf.keras optimizer, built on the segmentor's trainable variables here.
      reduction: 'mean' or 'sum', see `base.pixel_loss`.
      class_weighting: the reading of the weights in the phase 'weighted'.
      average_counts: float [C], pixels of each class per training picture; without them there is
        no phase 'weighted'.
      maximum_weight: an upper bound for a pixel's weight, or None.
      l2_weight: weight decay on convolution kernels that are not depthwise (slim convention).
    """

    def __init__(self, segmentor, optimizer, reduction='mean', class_weighting='per_class',
                 average_counts=None, maximum_weight=None, l2_weight=0.0):
        super().__init__(segmentor, name='cross_entropy')
        if class_weighting not in CLASS_WEIGHTINGS:
            raise ValueError(f'class_weighting {class_weighting!r}: one of {CLASS_WEIGHTINGS}')
        self.reduction = reduction
        self.class_weighting = class_weighting
        self.average_counts = None if average_counts is None else tf.constant(
            average_counts, tf.float32)
        self.maximum_weight = maximum_weight
        self.l2_weight = l2_weight
        self.optimizer = optimizer
        optimizer.build(segmentor.trainable_variables)

    @property
    def phases(self):
        """dict: 'segmentor' (all weights 1) and, where counts were given, 'weighted'."""
        steps = {'segmentor': self.segmentor_step}
        if self.average_counts is not None:
            steps['weighted'] = self.weighted_step
        return steps

    def phase_optimizer(self, phase):
        """The segmentor's optimizer."""
        return self.optimizer

    def segmentor_step(self, batch, seed):
        """One descent step on CE; returns {'loss/ce', 'loss/total', 'weights/norm'}."""
        return self._step(batch, seed, None)

    def weighted_step(self, batch, seed):
        """One descent step on weighted CE; returns the same."""
        return self._step(batch, seed, pixel.image_class_weights(
            batch['label'], self.segmentor.num_classes, self.average_counts,
            reading=self.class_weighting, maximum=self.maximum_weight))

    def _step(self, batch, seed, weights):
        variables = self.segmentor.trainable_variables
        with tf.GradientTape() as tape:
            logits = segmentors.apply(self.segmentor, batch['image'], training=True,
                                      dropout_seed=seed)
            ce = base.pixel_loss(logits, batch['label'], self.reduction, weights)
            loss = ce
            if self.l2_weight:
                # Every replica holds all the kernels: each adds its share of the penalty.
                replicas = tf.distribute.get_replica_context().num_replicas_in_sync
                loss += base.l2_loss(segmentors.decayed_kernels(self.segmentor),
                                     self.l2_weight) / replicas
        base.apply_gradients(self.optimizer, tape.gradient(loss, variables), variables)
        return base.globally({'loss/ce': ce, 'loss/total': loss,
                              'weights/norm': base.weights_norm(variables)})


@gin.configurable(denylist=['segmentor', 'optimizer', 'average_counts'])
def cross_entropy(segmentor, optimizer, average_counts=None, reduction='mean',
                  class_weighting='per_class', maximum_weight=None, l2_weight=4e-5):
    """Builds `CrossEntropy` with gin's settings."""
    return CrossEntropy(segmentor, optimizer, reduction, class_weighting, average_counts,
                        maximum_weight, l2_weight)
