"""Luc et al. (2016), "Semantic Segmentation using Adversarial Networks": its two training steps.

    segmentor:  sum_n l_mce(s(x_n), y_n) + lambda l_bce(a(x_n, s(x_n)), 1)    eq. 3, non-saturating
    adversary:  sum_n l_bce(a(x_n, y_n), 1) + l_bce(a(x_n, s(x_n)), 0)        eq. 2

The text below eq. 3 replaces -lambda l_bce(a, 0) by +lambda l_bce(a, 1); `saturating` has the
printed form. What the adversary sees is adversaries/label_maps.py, which network it is
adversaries/field_of_view.py, and whose turn it is training/alternation.py.

Where the paper is silent or leaves a choice, this is what we chose (parameters of `luc`):
  * a(x, y) is printed as one number for a picture, but the networks give a map of them, 16 times
    fewer than the predictions: l_bce is summed over this map, as l_mce is over pixels.
  * `reduction`: 'sum' is eq. 1 as printed. Default 'per_pixel': the same divided by the number of
    predictions that have a label in the global batch, so that the learning rate does not hang on
    the size of pictures and batches while lambda keeps its meaning: the adversarial term is divided
    by the labelled points of the map whatever pixels cross-entropy is taken of. 'mean' divides it
    by the adversary's outputs instead, which makes lambda weigh some 16 times as much.
    The adversary's own loss is the mean over its outputs under each of them.
  * outputs of the adversary that see nothing labelled count like others.
  * `upsample_logits`: False, cross-entropy at the segmentor's resolution, to which the labels are
    brought as they are for the adversary; True brings the logits to the labels.
  * "train it patch-wise from scratch" (Stanford): `pixels_per_picture` draws so many pixels of
    each picture for the cross-entropy, from all alike or ('balanced') rarer classes the likelier,
    as we remember of Farabet et al.; None takes all. The adversary sees whole maps in any case.
    Replicas draw pixels of their own, so with drawn pixels two replicas are not one device.
  * the adversary learns from the maps as the segmentor's step makes them, dropout and live batch
    norm included, made anew by the segmentor as it stands; batch norm's moving statistics are left
    to the segmentor's own steps.
  * weight decay on the segmentor: `l2_weight`, 0.
"""
import gin
import tensorflow as tf

from tf_advseg.adversaries import label_maps
from tf_advseg.core import arguments
from tf_advseg.core import errors
from tf_advseg.losses import adversarial
from tf_advseg.losses import pixel
from tf_advseg.methods import step_parts
from tf_advseg.methods import two_networks

PIXEL_SAMPLINGS = ('uniform', 'balanced')
REDUCTIONS = ('per_pixel', 'mean', 'sum')


class Luc(two_networks.TwoNetworks):
    """Segmentor and adversary with one step for each.

    Args:
      segmentor: see DESIGN.md ("Segmentor").
      adversary: maps [B, h', w', channels] (and the picture, where it `needs_image`) -> logits
        [B, h'', w''], above 0 for the truth. None makes the control ("Standard" in Table 1).
      optimizer, adversary_optimizer: tf.keras optimizers, one a network; built here.
      encoding: `label_maps.LabelMaps`.
      adversarial_weight: lambda.
      reduction: one of REDUCTIONS.
      saturating: eq. 3 as printed.
      upsample_logits: where cross-entropy is taken.
      pixels_per_picture: int or None.
      class_counts: float [C], pixels of each class per training picture: pixels of rarer
        classes are the likelier drawn; None draws all pixels alike.
      l2_weight: weight decay on convolution kernels that are not depthwise.
    """

    def __init__(self, segmentor, adversary, optimizer, adversary_optimizer, encoding,
                 adversarial_weight=2.0, reduction='per_pixel', saturating=False,
                 upsample_logits=False, pixels_per_picture=None, class_counts=None,
                 l2_weight=0.0):
        super().__init__(segmentor, adversary, optimizer, adversary_optimizer, l2_weight, 'luc')
        self.encoding = encoding
        self.adversarial_weight = float(adversarial_weight)
        self.reduction = reduction
        self.saturating = saturating
        self.upsample_logits = upsample_logits
        self.pixels_per_picture = pixels_per_picture
        self.class_weights = None if class_counts is None else [
            1.0 / max(float(count), 1.0) for count in class_counts]

    @property
    def about(self):
        """See `two_networks.TwoNetworks.about`."""
        judge = 'no adversary' if self.adversary is None else self.adversary.name
        return f'{judge} on {self.encoding.kind} maps, λ {self.adversarial_weight:g}'

    # --- the segmentor --------------------------------------------------------------------

    def cross_entropy(self, logits, batch, seed):
        """A replica's share of l_mce: sum, or mean over the pixels it is taken of."""
        labels = batch['label']
        if not self.upsample_logits:
            labels = label_maps.labels_at(labels, tf.shape(logits)[1:3])
        if self.pixels_per_picture is not None:
            # Not the seed as it is: dropout draws with that. Replicas draw pixels of their own.
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            seed = tf.random.experimental.stateless_fold_in(
                tf.random.experimental.stateless_fold_in(seed, 1), replica)
            labels = pixel.sampled_labels(labels, self.pixels_per_picture, seed,
                                          self.class_weights)
        total = step_parts.pixel_loss(logits, labels, 'sum')
        valid = tf.reduce_sum(tf.cast(tf.not_equal(labels, label_maps.IGNORE_LABEL), tf.float32))
        if self.reduction == 'sum':
            return total
        return tf.math.divide_no_nan(total, step_parts.global_sum(valid))

    def _judged(self, maps, batch):
        """The adversary's logits [B, h'', w'']."""
        if self.adversary.needs_image:
            return self.adversary(maps, image=batch['image'], training=True)
        return self.adversary(maps, training=True)

    def _mean(self, losses):
        """A replica's share of the mean over pictures and outputs of [B, h'', w'']."""
        return tf.reduce_sum(tf.reduce_mean(losses, [1, 2])) / two_networks.pictures(losses)

    def fake_maps(self, batch, logits):
        """The prediction in the run's encoding, at the segmentor's resolution."""
        return self.encoding.fake(batch['image'], batch['label'], logits)

    def adversarial_loss(self, batch, logits):
        """A replica's share of l_bce(a(x, s(x)), 1), and the adversary's logits."""
        z = self._judged(self.fake_maps(batch, logits), batch)
        losses = adversarial.saturating(z) if self.saturating else adversarial.non_saturating(z)
        if self.reduction == 'mean':
            return self._mean(losses), z
        total = tf.reduce_sum(losses)
        if self.reduction == 'sum':
            return total, z
        labels = label_maps.labels_at(batch['label'], tf.shape(logits)[1:3])
        points = step_parts.global_sum(tf.reduce_sum(
            tf.cast(tf.not_equal(labels, label_maps.IGNORE_LABEL), tf.float32)))
        return tf.math.divide_no_nan(total, points), z

    def terms(self, batch, logits, seed):
        """Eq. 3's second term; and 'disc/fooled', how many of the adversary's outputs take the
        prediction for the truth (a share)."""
        del seed
        adv, z = self.adversarial_loss(batch, logits)
        return {'adv': (self.adversarial_weight, adv)}, {'disc/fooled': self._share(z > 0)}

    # --- the adversary --------------------------------------------------------------------

    def adversary_step(self, batch, seed):
        """One step of the adversary (eq. 2) on the batch's truths and predictions.

        Returns:
          {'loss/disc', 'disc/acc_real', 'disc/acc_fake', 'weights/norm'}: accuracies over all
          outputs of all pictures; 'loss/disc' is the sum of eq. 2's two terms.
        """
        logits = self.fixed_logits(batch, seed)
        real_map = self.encoding.real(batch['image'], batch['label'], logits)
        fake_map = self.fake_maps(batch, logits)
        variables = self.adversary.trainable_variables
        with tf.GradientTape() as tape:
            real, fake = self._judged(real_map, batch), self._judged(fake_map, batch)
            loss = (self._mean(adversarial.binary_cross_entropy(real, tf.ones_like(real)))
                    + self._mean(adversarial.binary_cross_entropy(fake, tf.zeros_like(fake))))
        step_parts.apply_gradients(self.adversary_optimizer, tape.gradient(loss, variables), variables)
        return step_parts.globally({
            'loss/disc': loss, 'disc/acc_real': self._share(real > 0),
            'disc/acc_fake': self._share(fake <= 0),
            'weights/norm': step_parts.weights_norm(variables)})

    def _share(self, said):
        """A replica's part of how large a share of bool [B, h'', w''] is true."""
        return self._mean(tf.cast(said, tf.float32))


@gin.configurable(denylist=['segmentor', 'adversary', 'optimizer', 'adversary_optimizer',
                            'encoding', 'average_counts'])
def luc(segmentor, adversary, optimizer, adversary_optimizer, encoding, average_counts=None,
        adversarial_weight=2.0, reduction='per_pixel', saturating=False, upsample_logits=False,
        pixels_per_picture=None, pixel_sampling='uniform', l2_weight=0.0):
    """Builds `Luc` with gin's settings.

    Raises:
      UserError: a setting out of range.
    """
    errors.require_one_of('luc.reduction', reduction, REDUCTIONS)
    errors.require_one_of('luc.pixel_sampling', pixel_sampling, PIXEL_SAMPLINGS)
    arguments.require_number('luc', 'adversarial_weight', adversarial_weight, least=0,
                             hint='2 on Stanford Background in the paper')
    arguments.require_number('luc', 'l2_weight', l2_weight, least=0)
    if pixels_per_picture is not None:
        arguments.require_number('luc', 'pixels_per_picture', pixels_per_picture, least=1,
                                 hint='or None for all pixels')
    for name, value in (('saturating', saturating), ('upsample_logits', upsample_logits)):
        arguments.require_flag('luc', name, value)
    counts = average_counts if pixel_sampling == 'balanced' else None
    return Luc(segmentor, adversary, optimizer, adversary_optimizer, encoding, adversarial_weight,
               reduction, saturating, upsample_logits, pixels_per_picture, counts, l2_weight)
