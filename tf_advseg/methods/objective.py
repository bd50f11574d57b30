"""What a segmentor minimises, once: its step, the control's step and the diagnostics come from it.

    L = L_ce + sum_i w_i L_i + weight decay

A method says which L_ce it takes (`PixelLoss`) and gives its further terms. The control (`Control`)
minimises the same without the further terms and knows no method: methods that take the same
`PixelLoss` have the same control.
"""
import dataclasses
from typing import Optional

import gin
import tensorflow as tf

from tf_advseg.adversaries import label_maps
from tf_advseg.core import arguments
from tf_advseg.core import errors
from tf_advseg.losses import pixel
from tf_advseg.losses import region
from tf_advseg.methods import accumulation
from tf_advseg.methods import step_parts
from tf_advseg.models import precision as precisions
from tf_advseg.models import segmentor as segmentors
from tf_advseg.training import loss_scale


REDUCTIONS = (*step_parts.REDUCTIONS, 'mean_of_sums')


@dataclasses.dataclass(frozen=True)
class PixelLoss:
    """L_ce and the weight decay: all that the control is trained by.

    Attributes:
      reduction: 'mean' over the labelled pixels of the global batch, 'sum' over pixels and images,
        or 'mean_of_sums': a sum over pixels, a mean over images.
      upsample_logits: True brings the logits to the labels' size; False brings the labels to the
        logits' by nearest neighbours.
      pixels_per_image: so many pixels of each image are drawn at each step; None takes all.
        Replicas draw pixels of their own, so with drawn pixels two replicas are not one device.
      pixel_weights: a pixel of class c is drawn in proportion to the c-th number; None draws all
        alike.
      l2_weight: weight decay on the segmentor's convolution kernels that are not depthwise, in
        slim's sense (w / 2 times the sum of squares).
      classifier_multiplier: on the gradient of the last layer, weight decay included.

    Raises:
      UserError: a value out of range.
    """
    reduction: str = 'mean'
    upsample_logits: bool = True
    pixels_per_image: Optional[int] = None
    pixel_weights: Optional[tuple] = None
    l2_weight: float = 0.0
    classifier_multiplier: float = 1.0

    def __post_init__(self):
        where = 'PixelLoss'
        errors.require_one_of(f'{where}.reduction', self.reduction, REDUCTIONS)
        arguments.require_number(where, 'l2_weight', self.l2_weight, least=0)
        arguments.require_number(where, 'classifier_multiplier', self.classifier_multiplier,
                                 above=0)

    def cross_entropy(self, logits, labels, seed):
        """A replica's share of L_ce.

        Args:
          logits: float32 [b, h', w', C].
          labels: int32 [b, h, w], 255 = ignore.
          seed: int32 [2], of the drawn pixels.

        Returns:
          float32 scalar; summed over the replicas it is the loss of the global batch.
        """
        if not self.upsample_logits:
            labels = label_maps.labels_at(labels, tf.shape(logits)[1:3])
        if self.pixels_per_image is not None:
            # Not the seed as it is: dropout draws with that. Replicas draw pixels of their own.
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            seed = tf.random.experimental.stateless_fold_in(
                tf.random.experimental.stateless_fold_in(seed, 1), replica)
            labels = pixel.sampled_labels(
                labels, self.pixels_per_image, seed,
                None if self.pixel_weights is None else list(self.pixel_weights))
        if self.reduction == 'mean_of_sums':
            return step_parts.pixel_loss(logits, labels, 'sum') / step_parts.examples(logits)
        return step_parts.pixel_loss(logits, labels, self.reduction)

    def multipliers(self, segmentor):
        """Of the segmentor's gradients, from `step_parts.gradient_multipliers`, or None."""
        if self.classifier_multiplier == 1.0:
            return None
        return step_parts.gradient_multipliers(segmentor, self.classifier_multiplier,
                                               last_layers=step_parts.LOGITS_ONLY)


@dataclasses.dataclass(frozen=True)
class FurtherLosses:
    """Losses on the labels beside cross-entropy, of Stage 1, every method and its control alike.

    Attributes:
      cross_entropy: what L_ce is multiplied by.
      dice, lovasz: weights of `losses.region`'s losses, means over the images that have labels.
      focal: weight of `losses.pixel.focal`, a mean over the labelled pixels. Class weights and
        mining, of Stage 1, are of cross-entropy alone.
      focal_gamma: its exponent.

    Raises:
      UserError: a weight below 0, or all of them 0; a gamma without a focal loss.
    """
    cross_entropy: float = 1.0
    dice: float = 0.0
    lovasz: float = 0.0
    focal: float = 0.0
    focal_gamma: float = 2.0

    def __post_init__(self):
        where = 'further_losses'
        for field in dataclasses.fields(self):
            arguments.require_number(where, field.name, getattr(self, field.name), least=0)
        if not (self.cross_entropy or self.dice or self.lovasz or self.focal):
            raise errors.UserError(f'{where}: all weights are 0, so nothing would be learnt from '
                                   'labels; give one above 0')
        if self.focal_gamma != 2.0 and not self.focal:
            raise errors.UserError(f'{where}.focal_gamma = {self.focal_gamma!r} has no effect with '
                                   f'{where}.focal = 0; leave it out')

    @property
    def identity(self):
        """dict of what a stage is recognised by; {} where there is cross-entropy alone."""
        return {} if self == FurtherLosses() else {'further_losses': dataclasses.asdict(self)}

    def require_like(self, pixel_loss):
        """Raises UserError beside a `PixelLoss` that is a sum, or of drawn pixels.

        These losses are means: beside a sum over pixels they would weigh nothing.
        """
        if self == FurtherLosses():
            return
        if pixel_loss.reduction != 'mean' or pixel_loss.pixels_per_image is not None:
            raise errors.UserError('further_losses are means over images or pixels, and this '
                                   "method's cross-entropy is a sum, or of drawn pixels; set its "
                                   "reduction to 'mean', or leave them out")

    def terms(self, logits, labels, upsample):
        """{name: (weight, a replica's share)} of those that weigh anything.

        Args:
          logits: float32 [b, h', w', C].
          labels: int32 [b, h, w], 255 = ignore.
          upsample: see `PixelLoss.upsample_logits`.
        """
        if not (self.dice or self.lovasz or self.focal):
            return {}
        if upsample:
            logits = step_parts.upsampled(logits, labels)
        else:
            labels = label_maps.labels_at(labels, tf.shape(logits)[1:3])
        labelled = tf.reduce_any(labels != label_maps.IGNORE_LABEL, [1, 2])
        images = step_parts.global_sum(tf.reduce_sum(tf.cast(labelled, tf.float32)))
        found = {}
        for name, loss in (('dice', region.dice), ('lovasz', region.lovasz_softmax)):
            if getattr(self, name):
                found[name] = getattr(self, name), tf.math.divide_no_nan(
                    tf.reduce_sum(loss(logits, labels)), images)
        if self.focal:
            sums, counts = pixel.focal(logits, labels, self.focal_gamma)
            found['focal'] = self.focal, tf.math.divide_no_nan(
                tf.reduce_sum(sums), step_parts.global_sum(tf.reduce_sum(counts)))
        return found


further_losses = gin.external_configurable(FurtherLosses, name='further_losses',
                                           module='tf_advseg.methods')


class Objective(step_parts.Method):
    """A method whose segmentor minimises cross-entropy and further terms.

    Args:
      segmentor: see `step_parts.Method`.
      optimizer: of the segmentor, a tf.keras optimizer; built here.
      pixel_loss: `PixelLoss`.
      name: the method's.

    Attributes:
      multipliers: on the segmentor's gradients, from `step_parts.gradient_multipliers`, or None.
    """

    def __init__(self, segmentor, optimizer, pixel_loss, name):
        super().__init__(segmentor, name=name)
        self.optimizer = optimizer
        self.pixel_loss = pixel_loss
        self.further = further_losses()
        self.further.require_like(pixel_loss)
        self.accumulate = accumulation.accumulate()
        self.precision = precisions.precision()
        self.precision.require_mixed(segmentor)
        self.multipliers = pixel_loss.multipliers(segmentor)
        loss_scale.prepare(self.precision, optimizer)
        optimizer.build(segmentor.trainable_variables)

    def phase_optimizer(self, phase):
        """The segmentor's optimizer, unless a method says otherwise."""
        del phase
        return self.optimizer

    @property
    def identity(self):
        """dict, JSON-able: what the result depends on: the method's settings and the pixel loss."""
        found = {'pixel_loss': dataclasses.asdict(self.pixel_loss), **self.further.identity,
                 **self.accumulate.identity, **self.precision.identity}
        settings = getattr(self, 'settings', None)
        return found if settings is None else {self.name: dataclasses.asdict(settings), **found}

    @property
    def about(self):
        """A few words for a reader on the variant of the method that runs; '' for none."""
        return ''

    # --- what a method defines ------------------------------------------------------------

    def cross_entropy(self, logits, batch, seed):
        """L_ce: a replica's share of the pixel-wise loss, float32 scalar."""
        return self.pixel_loss.cross_entropy(logits, batch['label'], seed)

    def terms(self, batch, logits, seed, **scalars):
        """The further terms.

        Args:
          batch: a replica's share of the global batch.
          logits: the segmentor's, float32 [b, h', w', C].
          seed: int32 [2].
          **scalars: what the step is handed, float32 scalars; none where gradients are compared.

        Returns:
          ({name: (weight, a replica's share of the term)}; {name: a replica's share of another
          scalar that the step logs}).
        """
        raise NotImplementedError('a method has further terms')

    # --- what comes of it -----------------------------------------------------------------

    def logits(self, batch, seed):
        """The segmentor's logits in training mode, float32 [b, h', w', C].

        A batch with 'backbone_features' has what a frozen backbone makes of its images.
        """
        known = {name: batch[f'backbone_{name}'] for name in ('features', 'skip')
                 if f'backbone_{name}' in batch}
        with self.precision.computing():
            if known:
                logits = self.segmentor.head(known, training=True, dropout_seed=seed)
            else:
                logits = segmentors.apply(self.segmentor, batch['image'], training=True,
                                          dropout_seed=seed)
        return tf.cast(logits, tf.float32)

    def decay(self):
        """A replica's share of the weight decay."""
        weight = self.pixel_loss.l2_weight
        if not weight:
            return 0.0
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        return step_parts.l2_loss(segmentors.decayed_kernels(self.segmentor), weight) / replicas

    def segmentor_step(self, batch, seed, **scalars):
        """One step of the segmentor on the whole objective.

        Args:
          batch: a replica's share of the global batch.
          seed: int32 [2], for dropout and whatever else the method draws.
          **scalars: see `terms`.

        Returns:
          {'loss/ce', 'loss/<term>' (unweighted), 'loss/total', what `terms` adds, 'weights/norm'},
          and in float16 'loss/scale', what the losses of the next step are multiplied by.
        """
        return self._descend(batch, seed, lambda logits: self.terms(batch, logits, seed, **scalars))

    def cross_entropy_step(self, batch, seed, **scalars):
        """One step without the further terms, the control's; `scalars` are not looked at."""
        del scalars
        return self._descend(batch, seed, lambda logits: ({}, {}))

    def _descend(self, batch, seed, terms, also=lambda: (), cross_entropy=None):
        """One step of the segmentor.

        Args:
          batch, seed: see `segmentor_step`.
          terms: function(logits) -> as `terms`.
          also: function(), called between gradient and update; it moves other networks by gradients
            that `terms` has taken, and returns their variables.
          cross_entropy: in the place of `cross_entropy`, or None.
        """
        variables = self.segmentor.trainable_variables
        with accumulation.Tape(self) as tape:
            logits = tape.logits(batch, seed)
            ce = (cross_entropy or self.cross_entropy)(logits, batch, seed)
            found, logged = terms(logits)
            found = {**self.further_terms(logits, batch), **found}
            loss = self.weighted(ce)
            for weight, share in found.values():
                loss += weight * share
            loss += self.decay()
        gradients = tape.gradient(loss, variables)
        others = also()
        step_parts.apply_gradients(self.optimizer, gradients, variables, self.multipliers)
        return step_parts.globally({
            'loss/ce': ce, **{f'loss/{name}': share for name, (_, share) in found.items()},
            'loss/total': loss, **logged, **self.scale_of_losses(),
            'weights/norm': step_parts.weights_norm([*variables, *others])})

    def scale_of_losses(self):
        """{'loss/scale': a replica's share}; {} but in float16."""
        scale = loss_scale.of(self.optimizer)
        return {} if scale is None else {'loss/scale': step_parts.share(scale.value)}

    def weighted(self, cross_entropy):
        """L_ce as it counts."""
        weight = self.further.cross_entropy
        return cross_entropy if weight == 1.0 else weight * cross_entropy

    def supervised(self, logits, batch, seed):
        """All that is learnt from labels: a replica's share of L_ce and the losses beside it."""
        total = self.weighted(self.cross_entropy(logits, batch, seed))
        for weight, share in self.further_terms(logits, batch).values():
            total += weight * share
        return total

    def further_terms(self, logits, batch):
        """{name: (weight, a replica's share)} of the losses on labels beside L_ce."""
        return self.further.terms(logits, batch['label'], self.pixel_loss.upsample_logits)

    def gradient_balance(self, batch, seed):
        """Norms and cosines of each further term's gradient and CE's, weights left out.

        See `step_parts.gradient_balance`, whose names have 'adv' in the place of the term.
        """
        with accumulation.Tape(self, keeps_statistics=True, persistent=True) as tape:
            logits = tape.logits(batch, seed)
            ce = self.supervised(logits, batch, seed)
            terms, _ = self.terms(batch, logits, seed)
        found = {}
        for term, (_, loss) in terms.items():
            balance = step_parts.gradient_balance(tape, ce, loss,
                                                  self.segmentor.trainable_variables)
            found.update({name.replace('adv', term): value for name, value in balance.items()})
        return found


class Control(Objective):
    """The control of every method: the segmentor on L_ce and weight decay alone."""

    default_phase = 'cross_entropy'
    compares_gradients = False
    batch_needs = step_parts.BatchNeeds()

    def __init__(self, segmentor, optimizer, pixel_loss):
        super().__init__(segmentor, optimizer, pixel_loss, 'control')

    @property
    def phases(self):
        """dict: 'cross_entropy'."""
        return {'cross_entropy': self.cross_entropy_step}

    def terms(self, batch, logits, seed, **scalars):
        """None."""
        return {}, {}
