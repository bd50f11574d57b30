"""Luc et al. (2016), "Semantic Segmentation using Adversarial Networks": its two training steps.

    segmentor:  sum_n l_mce(s(x_n), y_n) + lambda l_bce(a(x_n, s(x_n)), 1)    eq. 3, non-saturating
    discriminator:  sum_n l_bce(a(x_n, y_n), 1) + l_bce(a(x_n, s(x_n)), 0)        eq. 2

The text below eq. 3 replaces -lambda l_bce(a, 0) by +lambda l_bce(a, 1); `saturating` has the
printed form. What the discriminator sees is adversaries/label_maps.py, which network it is
adversaries/field_of_view.py, and whose turn it is training/alternation.py.

Where the paper is silent or leaves a choice, this is what we chose (settings of `luc`):
  * a(x, y) is printed as one number for an image, but the networks give a map of them, 16 times
    fewer than the predictions: l_bce is summed over this map, as l_mce is over pixels.
  * `reduction`: 'sum' is eq. 1 as printed. Default 'per_pixel': the same divided by the number of
    predictions that have a label in the global batch, so that the learning rate does not depend on
    the size of images and batches while lambda keeps its meaning: the adversarial term is divided
    by the labelled points of the map whatever pixels cross-entropy is taken of. 'mean' divides it
    by the discriminator's outputs instead, which makes lambda weigh some 16 times as much.
    The discriminator's own loss is the mean over its outputs under each of them.
  * outputs of the discriminator that see nothing labelled count like others.
  * `upsample_logits`: False, cross-entropy at the segmentor's resolution, to which the labels are
    brought as they are for the discriminator; True brings the logits to the labels.
  * "train it patch-wise from scratch" (Stanford): `pixels_per_image` draws so many pixels of
    each image for the cross-entropy, from all alike or ('balanced') rarer classes the likelier,
    as we remember of Farabet et al.; None takes all. The discriminator sees whole maps in any case.
    Replicas draw pixels of their own, so with drawn pixels two replicas are not one device.
  * the discriminator learns from the maps as the segmentor's step makes them, dropout and live
    batch norm included, made anew by the segmentor as it stands; batch norm's moving statistics are
    left to the segmentor's own steps.
  * weight decay on the segmentor: `l2_weight`, 0.
"""
import dataclasses
from typing import Optional

import gin
import tensorflow as tf

from tf_advseg.adversaries import field_of_view
from tf_advseg.adversaries import label_maps
from tf_advseg.core import arguments
from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.losses import adversarial
from tf_advseg.methods import objective
from tf_advseg.methods import recipe
from tf_advseg.methods import step_parts
from tf_advseg.methods import two_networks
from tf_advseg.run import stage_optimizers

PIXEL_SAMPLINGS = ('uniform', 'balanced')
REDUCTIONS = ('per_pixel', 'mean', 'sum')


@dataclasses.dataclass(frozen=True)
class Settings:
    """Luc et al.'s settings, `luc.…` in gin; the module's docstring has what the paper leaves open.

    Attributes:
      adversarial_weight: lambda; 2 on Stanford Background in the paper.
      reduction: 'per_pixel', 'mean' or 'sum'.
      saturating: eq. 3 as printed.
      upsample_logits: whether cross-entropy is taken at the labels' size.
      pixels_per_image: pixels drawn of each image for the cross-entropy, or None for all.
      pixel_sampling: 'uniform', or 'balanced': pixels of rarer classes are the likelier drawn.
      l2_weight: weight decay on convolution kernels that are not depthwise.

    Raises:
      UserError: a value out of range.
    """
    adversarial_weight: float = 2.0
    reduction: str = 'per_pixel'
    saturating: bool = False
    upsample_logits: bool = False
    pixels_per_image: Optional[int] = None
    pixel_sampling: str = 'uniform'
    l2_weight: float = 0.0

    def __post_init__(self):
        errors.require_one_of('luc.reduction', self.reduction, REDUCTIONS)
        errors.require_one_of('luc.pixel_sampling', self.pixel_sampling, PIXEL_SAMPLINGS)
        arguments.require_number('luc', 'adversarial_weight', self.adversarial_weight, least=0,
                                 hint='2 on Stanford Background in the paper')
        arguments.require_number('luc', 'l2_weight', self.l2_weight, least=0)
        if self.pixels_per_image is not None:
            arguments.require_number('luc', 'pixels_per_image', self.pixels_per_image,
                                     least=1, hint='or None for all pixels')
        for name in ('saturating', 'upsample_logits'):
            arguments.require_flag('luc', name, getattr(self, name))

    def pixel_loss(self, average_counts):
        """`objective.PixelLoss` of these settings.

        Args:
          average_counts: float [C], pixels of each class per training image.
        """
        weights = None
        if self.pixel_sampling == 'balanced' and self.pixels_per_image is not None:
            weights = tuple(1.0 / max(float(count), 1.0) for count in average_counts)
        return objective.PixelLoss('sum' if self.reduction == 'sum' else 'mean',
                                   self.upsample_logits, self.pixels_per_image, weights,
                                   self.l2_weight)


luc_settings = gin.external_configurable(Settings, name='luc', module='tf_advseg.methods')
configuration.renamed(luc__pixels_per_picture='luc.pixels_per_image',
                      build_adversary='build_fov_discriminator')


class Luc(two_networks.TwoNetworks):
    """Segmentor and discriminator with one step for each.

    Args:
      segmentor: see `step_parts.Method`.
      discriminator: maps [B, h', w', channels] (and the image, where it `needs_image`) -> logits
        [B, h'', w''], above 0 for the truth.
      optimizer, discriminator_optimizer: tf.keras optimizers, one a network; built here.
      encoding: `label_maps.LabelMaps`.
      settings: `Settings`.
      average_counts: float [C], pixels of each class per training image, for 'balanced'.
    """

    def __init__(self, segmentor, discriminator, optimizer, discriminator_optimizer, encoding,
                 settings=Settings(), average_counts=()):
        super().__init__(segmentor, discriminator, optimizer, discriminator_optimizer,
                         settings.pixel_loss(average_counts), 'luc')
        self.encoding, self.settings = encoding, settings

    @property
    def about(self):
        """See `objective.Objective.about`."""
        return (f'{self.discriminator.name} on {self.encoding.kind} maps, λ '
                f'{self.settings.adversarial_weight:g}')

    # --- the segmentor --------------------------------------------------------------------

    def _judged(self, maps, batch):
        """The discriminator's logits [B, h'', w'']."""
        if self.discriminator.needs_image:
            return self.discriminator(maps, image=batch['image'], training=True)
        return self.discriminator(maps, training=True)

    def _mean(self, losses):
        """A replica's share of the mean over images and outputs of [B, h'', w'']."""
        return tf.reduce_sum(tf.reduce_mean(losses, [1, 2])) / step_parts.examples(losses)

    def fake_maps(self, batch, logits):
        """The prediction in the run's encoding, at the segmentor's resolution."""
        return self.encoding.fake(batch['image'], batch['label'], logits)

    def shown_maps(self, batch, logits):
        """See `step_parts.Method.shown_maps`."""
        return self.encoding.pair(batch['label'], logits)

    def adversarial_loss(self, batch, logits):
        """A replica's share of l_bce(a(x, s(x)), 1), and the discriminator's logits."""
        z = self._judged(self.fake_maps(batch, logits), batch)
        form = adversarial.saturating if self.settings.saturating else adversarial.non_saturating
        losses = form(z)
        if self.settings.reduction == 'mean':
            return self._mean(losses), z
        total = tf.reduce_sum(losses)
        if self.settings.reduction == 'sum':
            return total, z
        labels = label_maps.labels_at(batch['label'], tf.shape(logits)[1:3])
        points = step_parts.global_sum(tf.reduce_sum(
            tf.cast(tf.not_equal(labels, label_maps.IGNORE_LABEL), tf.float32)))
        return tf.math.divide_no_nan(total, points), z

    def terms(self, batch, logits, seed):
        """Eq. 3's second term; and 'disc/fooled', how many of the discriminator's outputs take the
        prediction for the truth (a share)."""
        del seed
        adv, z = self.adversarial_loss(batch, logits)
        return {'adv': (self.settings.adversarial_weight, adv)}, {'disc/fooled': self._share(z > 0)}

    # --- the discriminator --------------------------------------------------------------------

    def discriminator_loss(self, batch, logits):
        """Eq. 2, the sum of its two terms; and the discriminator's accuracies, over all outputs of
        all images: 'disc/acc_real', 'disc/acc_fake'."""
        real = self._judged(self.encoding.real(batch['image'], batch['label'], logits), batch)
        fake = self._judged(self.fake_maps(batch, logits), batch)
        loss = (self._mean(adversarial.binary_cross_entropy(real, tf.ones_like(real)))
                + self._mean(adversarial.binary_cross_entropy(fake, tf.zeros_like(fake))))
        return loss, {'disc/acc_real': self._share(real > 0),
                      'disc/acc_fake': self._share(fake <= 0)}

    def _share(self, said):
        """A replica's part of how large a share of bool [B, h'', w''] is true."""
        return self._mean(tf.cast(said, tf.float32))


def _build(context, segmentor, plan):
    """See `recipe.Recipe.build`."""
    encoding = label_maps.label_maps(segmentor.num_classes, segmentor)
    discriminator = field_of_view.build_fov_discriminator(
        num_classes=segmentor.num_classes, channels=encoding.channels,
        seed=context.streams.seed_value)
    return Luc(segmentor, discriminator, stage_optimizers.segmentor_optimizer(plan.segmentor_steps),
               stage_optimizers.discriminator_optimizer(max(1, plan.discriminator_steps)), encoding,
               luc_settings(), context.average_class_counts())


recipe.register(recipe.Recipe(
    'luc', 'Luc', lambda context: luc_settings().pixel_loss(context.average_class_counts()), _build,
    method_only=('luc.adversarial_weight', 'luc.saturating', 'build_fov_discriminator',
                 'label_maps', 'alternation', 'discriminator_optimizer'),
    small=("build_fov_discriminator.name = 'small_fov_light'",
           'build_fov_discriminator.last_gain = 1.0'),
    encodings=(
        recipe.ShownAs("basic, the logits' grid", ("label_maps.kind = 'basic'",)),
        recipe.ShownAs("product, the logits' grid", ("label_maps.kind = 'product'",)),
        recipe.ShownAs("basic, the logits' grid, stride 8", ("label_maps.kind = 'basic'",), False,
                       8),
        recipe.ShownAs("scaling, the logits' grid", ("label_maps.kind = 'scaling'",), True),
        recipe.ShownAs("swapped, the logits' grid", ("label_maps.kind = 'swapped'",)),
        recipe.ShownAs('bottleneck', ("label_maps.truth = 'bottleneck'",), True)),
    silent=('luc.adversarial_weight = 0.0',)))
