"""Durall et al. (2019), "Object Segmentation Using Pixel-wise Adversarial Loss": its two steps.

    generator:      L_mce(G(x), y) + lambda L_bce(D(G(x)), 1)      eqs 2, 3 and 4
    discriminator:  L_bce(D(G(x)), 0) + L_bce(D(y), 1)             eq. 5

L_bce is a sum over the pixels of D's map: one decision a pixel (section 3.3). The *standard* loss
of Table 4 is the same with one decision an image. Which network D is, adversaries/
encoder_decoder.py has; the averaging of weights (section 3.4), training/averaging.py; that the
generator goes first and both take the same batch, gin/methods/durall.gin.

Where the paper is silent or leaves a choice, this is what we chose (settings of `durall`):
  * `reduction`: 'sum' is eqs 3 and 4 as printed, over pixels and images. Default 'mean': either
    divided by its number of labelled pixels in the global batch, so that the learning rate does
    not depend on the size of images. At the printed H x W of either map lambda means the same in
    both. For the standard loss it does not: 'sum' weighs one decision against 100,000 pixels,
    'mean' as much as a map of them. The discriminator's own loss is always the mean.
  * `map_stride`: D sees maps of the image's size (1, as printed: H x W x C), or of every so many
    pixels: logits are brought to that grid (align-corners bilinear) before the softmax, labels by
    nearest neighbours. A map at stride 4 costs D a sixteenth.
  * unlabelled pixels are zero in both maps, with their gradient (as in Luc et al.), and D's
    decisions there count nowhere (as in Hung et al.'s code); with one decision an image all count.
  * "y" of D's step are the same images' truths; its predictions are made anew by the generator
    as it stands ("the parameters from the generator have already been updated"), in training mode,
    batch norm's moving statistics kept.
  * `l2_weight`: 5e-5, "weight decay 0.00005", in slim's sense (wd/2 sum w^2, as PyTorch's) on
    convolution kernels that are not depthwise.
"""
import dataclasses

import gin
import tensorflow as tf

from tf_advseg.adversaries import encoder_decoder
from tf_advseg.adversaries import label_maps
from tf_advseg.core import arguments
from tf_advseg.core import errors
from tf_advseg.losses import adversarial
from tf_advseg.methods import objective
from tf_advseg.methods import recipe
from tf_advseg.methods import step_parts
from tf_advseg.methods import two_networks
from tf_advseg.models import resize
from tf_advseg.run import stage_optimizers


@dataclasses.dataclass(frozen=True)
class Settings:
    """Durall et al.'s settings, `durall.…` in gin.

    Attributes:
      adversarial_weight: lambda; 0.01 in the paper.
      reduction: 'mean' or 'sum'.
      map_stride: pixels of the image from one point of D's maps to the next; 1 in the paper.
      truth: what D is shown as true: the ground truth 'sampled' at those points, as in the paper,
        or put through the segmentor's stride first ('bottleneck', adversaries/bottleneck.py): else
        D can win on sharpness alone.
      l2_weight: weight decay on convolution kernels that are not depthwise.

    Raises:
      UserError: a value out of range.
    """
    adversarial_weight: float = 0.01
    reduction: str = 'mean'
    map_stride: int = 1
    l2_weight: float = 5e-5
    truth: str = 'sampled'

    def __post_init__(self):
        errors.require_one_of('durall.reduction', self.reduction, step_parts.REDUCTIONS)
        arguments.require_number('durall', 'adversarial_weight', self.adversarial_weight, least=0,
                                 hint='0.01 in the paper')
        errors.require_one_of('durall.truth', self.truth, label_maps.TRUTHS)
        arguments.require_number('durall', 'l2_weight', self.l2_weight, least=0)
        arguments.require_number('durall', 'map_stride', self.map_stride, least=1, whole=True,
                                 hint='1 for maps of the size of the image, as in the paper')

    @property
    def pixel_loss(self):
        """`objective.PixelLoss` of these settings (eq. 3)."""
        return objective.PixelLoss(self.reduction, l2_weight=self.l2_weight)


durall_settings = gin.external_configurable(Settings, name='durall', module='tf_advseg.methods')


class Durall(two_networks.TwoNetworks):
    """Generator and discriminator with one step for each.

    Args:
      segmentor: see `step_parts.Method`; the paper's generator.
      discriminator: maps [B, h', w', C] -> logits [B, h', w'] (pixel-wise) or [B] (standard), above
        0 for the truth.
      optimizer, discriminator_optimizer: tf.keras optimizers, one a network; built here.
      settings: `Settings`.
    """

    def __init__(self, segmentor, discriminator, optimizer, discriminator_optimizer,
                 settings=Settings()):
        super().__init__(segmentor, discriminator, optimizer, discriminator_optimizer,
                         settings.pixel_loss, 'durall')
        self.settings = settings
        self.encoding = label_maps.LabelMaps(segmentor.num_classes, truth=settings.truth,
                                             stride=segmentor.logits_stride)

    @property
    def about(self):
        """See `objective.Objective.about`."""
        decides = {'pixel': 'one decision a pixel', 'image': 'one decision an image (standard)'}
        return (f'{decides[self.discriminator.decides]}, maps of every {self.settings.map_stride}. '
                f'pixel, λ {self.settings.adversarial_weight:g}')

    # --- the generator --------------------------------------------------------------------

    def _on_grid(self, batch, logits):
        """Logits on the grid of D's maps, float32 [b, h', w', C]."""
        size = (tf.shape(batch['label'])[1:3] - 1) // self.settings.map_stride + 1
        return resize.resize_bilinear(logits, size)

    def _counted(self, z, labels):
        """Which of D's decisions count: float32 of z's shape."""
        if z.shape.rank == 1:
            return tf.ones_like(z)
        at = label_maps.labels_at(labels, tf.shape(z)[1:3])
        return tf.cast(tf.not_equal(at, label_maps.IGNORE_LABEL), tf.float32)

    def fake_maps(self, batch, logits):
        """The prediction's probabilities on that grid, zero where nothing is labelled."""
        return self.encoding.fake(batch['image'], batch['label'], self._on_grid(batch, logits))

    def shown_maps(self, batch, logits):
        """See `step_parts.Method.shown_maps`."""
        return self.encoding.pair(batch['label'], self._on_grid(batch, logits))

    def adversarial_loss(self, batch, logits):
        """A replica's share of L_adv (eq. 4), and D's logits with which of them count."""
        z = self.discriminator(self.fake_maps(batch, logits), training=True)
        counted = self._counted(z, batch['label'])
        losses = adversarial.non_saturating(z)
        if self.settings.reduction == 'sum':
            return tf.reduce_sum(losses * counted), (z, counted)
        return two_networks.counted_mean(losses, counted), (z, counted)

    def terms(self, batch, logits, seed):
        """Eq. 2's second term; and 'disc/fooled', how many of D's decisions take the prediction for
        the truth (a share)."""
        del seed
        adv, (z, counted) = self.adversarial_loss(batch, logits)
        fooled = two_networks.counted_mean(tf.cast(z > 0, tf.float32), counted)
        return {'adv': (self.settings.adversarial_weight, adv)}, {'disc/fooled': fooled}

    # --- the discriminator ----------------------------------------------------------------

    def discriminator_loss(self, batch, logits):
        """Eq. 5, the sum of its two terms, each a mean over the decisions that count; and D's
        accuracies over these: 'disc/acc_real', 'disc/acc_fake'."""
        grid = self._on_grid(batch, logits)
        real = self.discriminator(self.encoding.real(batch['image'], batch['label'], grid),
                                  training=True)
        fake = self.discriminator(self.fake_maps(batch, logits), training=True)
        counted = self._counted(real, batch['label'])
        loss = (two_networks.counted_mean(
                    adversarial.binary_cross_entropy(real, tf.ones_like(real)), counted)
                + two_networks.counted_mean(
                    adversarial.binary_cross_entropy(fake, tf.zeros_like(fake)), counted))
        return loss, {
            'disc/acc_real': two_networks.counted_mean(tf.cast(real > 0, tf.float32), counted),
            'disc/acc_fake': two_networks.counted_mean(tf.cast(fake <= 0, tf.float32), counted)}


def _build(context, segmentor, plan):
    """See `recipe.Recipe.build`."""
    discriminator = encoder_decoder.build_pixel_discriminator(
        num_classes=segmentor.num_classes, seed=context.streams.seed_value)
    return Durall(segmentor, discriminator,
                  stage_optimizers.segmentor_optimizer(plan.segmentor_steps),
                  stage_optimizers.discriminator_optimizer(max(1, plan.discriminator_steps)),
                  durall_settings())


recipe.register(recipe.Recipe(
    'durall', 'Durall', lambda context: durall_settings().pixel_loss, _build,
    method_only=('durall.adversarial_weight', 'durall.map_stride', 'durall.truth',
                 'build_pixel_discriminator', 'alternation', 'discriminator_optimizer'),
    small=('build_pixel_discriminator.widths = (8, 16)', 'durall.map_stride = 2',
           'swa.every = 2'),
    encodings=(
        recipe.ShownAs('every pixel', ('durall.map_stride = 1',)),
        recipe.ShownAs('every 4th pixel', ('durall.map_stride = 4',)),
        recipe.ShownAs('every 4th pixel, bottleneck',
                       ('durall.map_stride = 4', "durall.truth = 'bottleneck'"), True),
        recipe.ShownAs("the logits' grid, bottleneck",
                       ('durall.map_stride = 16', "durall.truth = 'bottleneck'"), True)),
    silent=('durall.adversarial_weight = 0.0',)))
