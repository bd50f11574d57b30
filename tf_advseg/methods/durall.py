"""Durall et al. (2019), "Object Segmentation Using Pixel-wise Adversarial Loss": its two steps.

    generator:      L_mce(G(x), y) + lambda L_bce(D(G(x)), 1)      eqs 2, 3 and 4
    discriminator:  L_bce(D(G(x)), 0) + L_bce(D(y), 1)             eq. 5

L_bce is a sum over the pixels of D's map: one decision a pixel (section 3.3). The *standard* loss
of Table 4 is the same with one decision a picture. Which network D is, adversaries/
encoder_decoder.py has; the averaging of weights (section 3.4), training/averaging.py; that the
generator goes first and both take the same batch, gin/methods/durall.gin.

Where the paper is silent or leaves a choice, this is what we chose (parameters of `durall`):
  * `reduction`: 'sum' is eqs 3 and 4 as printed, over pixels and pictures. Default 'mean': either
    divided by its number of labelled pixels in the global batch, so that the learning rate does
    not hang on the size of pictures. At the printed H x W of either map lambda means the same in
    both. For the standard loss it does not: 'sum' weighs one decision against 100,000 pixels,
    'mean' as much as a map of them. The discriminator's own loss is always the mean.
  * `map_stride`: D sees maps of the picture's size (1, as printed: H x W x C), or of every so many
    pixels: logits are brought to that grid (align-corners bilinear) before the softmax, labels by
    nearest neighbours. A map at stride 4 costs D a sixteenth.
  * unlabelled pixels are zero in both maps, with their gradient (as in Luc et al.), and D's
    decisions there count nowhere (as in Hung et al.'s code); with one decision a picture all count.
  * "y" of D's step are the same pictures' truths; its predictions are made anew by the generator
    as it stands ("the parameters from the generator have already been updated"), in training mode,
    batch norm's moving statistics kept.
  * `l2_weight`: 5e-5, "weight decay 0.00005", in slim's sense (wd/2 sum w^2, as PyTorch's) on
    convolution kernels that are not depthwise.
"""
import gin
import tensorflow as tf

from tf_advseg.adversaries import label_maps
from tf_advseg.core import arguments
from tf_advseg.core import errors
from tf_advseg.losses import adversarial
from tf_advseg.methods import step_parts
from tf_advseg.methods import two_networks
from tf_advseg.models import resize


class Durall(two_networks.TwoNetworks):
    """Generator and discriminator with one step for each.

    Args:
      segmentor: see DESIGN.md ("Segmentor"); the paper's generator.
      adversary: maps [B, h', w', C] -> logits [B, h', w'] (pixel-wise) or [B] (standard), above 0
        for the truth. None makes the control ("baseline" in Tables 1 to 4).
      optimizer, adversary_optimizer: tf.keras optimizers, one a network; built here.
      adversarial_weight: lambda.
      reduction: 'mean' or 'sum'.
      map_stride: int, pixels of the picture from one point of D's maps to the next.
      l2_weight: weight decay.
    """

    def __init__(self, segmentor, adversary, optimizer, adversary_optimizer,
                 adversarial_weight=0.01, reduction='mean', map_stride=1, l2_weight=5e-5):
        super().__init__(segmentor, adversary, optimizer, adversary_optimizer, l2_weight, 'durall')
        self.adversarial_weight = float(adversarial_weight)
        self.reduction = reduction
        self.map_stride = map_stride
        self.encoding = label_maps.LabelMaps(segmentor.num_classes)

    @property
    def about(self):
        """See `two_networks.TwoNetworks.about`."""
        decides = {'pixel': 'one decision a pixel', 'picture': 'one decision a picture (standard)'}
        kind = decides.get(getattr(self.adversary, 'decides', None), 'no discriminator')
        return (f'{kind}, maps of every {self.map_stride}. pixel, λ {self.adversarial_weight:g}')

    # --- the generator --------------------------------------------------------------------

    def cross_entropy(self, logits, batch, seed):
        """A replica's share of L_mce (eq. 3), at the picture's resolution."""
        return step_parts.pixel_loss(logits, batch['label'], self.reduction)

    def _on_grid(self, batch, logits):
        """Logits on the grid of D's maps, float32 [b, h', w', C]."""
        size = (tf.shape(batch['label'])[1:3] - 1) // self.map_stride + 1
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

    def adversarial_loss(self, batch, logits):
        """A replica's share of L_adv (eq. 4), and D's logits with which of them count."""
        z = self.adversary(self.fake_maps(batch, logits), training=True)
        counted = self._counted(z, batch['label'])
        losses = adversarial.non_saturating(z)
        if self.reduction == 'sum':
            return tf.reduce_sum(losses * counted), (z, counted)
        return two_networks.counted_mean(losses, counted), (z, counted)

    def terms(self, batch, logits, seed):
        """Eq. 2's second term; and 'disc/fooled', how many of D's decisions take the prediction for
        the truth (a share)."""
        del seed
        adv, (z, counted) = self.adversarial_loss(batch, logits)
        fooled = two_networks.counted_mean(tf.cast(z > 0, tf.float32), counted)
        return {'adv': (self.adversarial_weight, adv)}, {'disc/fooled': fooled}

    # --- the discriminator ----------------------------------------------------------------

    def discriminator_loss(self, batch, logits):
        """A replica's share of L_disc (eq. 5), and what D says.

        Args:
          batch: global batch's share.
          logits: the generator's, float32 [b, h', w', C], constant here.

        Returns:
          The sum of eq. 5's two terms, each a mean over the decisions that count; D's logits of the
          truths, of the predictions, and which of them count.
        """
        grid = self._on_grid(batch, logits)
        real = self.adversary(self.encoding.real(batch['image'], batch['label'], grid),
                              training=True)
        fake = self.adversary(self.fake_maps(batch, logits), training=True)
        counted = self._counted(real, batch['label'])
        loss = (two_networks.counted_mean(
                    adversarial.binary_cross_entropy(real, tf.ones_like(real)), counted)
                + two_networks.counted_mean(
                    adversarial.binary_cross_entropy(fake, tf.zeros_like(fake)), counted))
        return loss, (real, fake, counted)

    def adversary_step(self, batch, seed):
        """One step of the discriminator (eq. 5) on the batch's truths and predictions.

        Returns:
          {'loss/disc', 'disc/acc_real', 'disc/acc_fake', 'weights/norm'}: 'loss/disc' is
          `discriminator_loss`, the others are shares of the decisions that count.
        """
        logits = self.fixed_logits(batch, seed)
        variables = self.adversary.trainable_variables
        with tf.GradientTape() as tape:
            loss, (real, fake, counted) = self.discriminator_loss(batch, logits)
        step_parts.apply_gradients(self.adversary_optimizer, tape.gradient(loss, variables), variables)
        return step_parts.globally({
            'loss/disc': loss,
            'disc/acc_real': two_networks.counted_mean(tf.cast(real > 0, tf.float32), counted),
            'disc/acc_fake': two_networks.counted_mean(tf.cast(fake <= 0, tf.float32), counted),
            'weights/norm': step_parts.weights_norm(variables)})


@gin.configurable(denylist=['segmentor', 'adversary', 'optimizer', 'adversary_optimizer'])
def durall(segmentor, adversary, optimizer, adversary_optimizer, adversarial_weight=0.01,
           reduction='mean', map_stride=1, l2_weight=5e-5):
    """Builds `Durall` with gin's settings.

    Raises:
      UserError: a setting out of range.
    """
    errors.require_one_of('durall.reduction', reduction, step_parts.REDUCTIONS)
    arguments.require_number('durall', 'adversarial_weight', adversarial_weight, least=0,
                             hint='0.01 in the paper')
    arguments.require_number('durall', 'l2_weight', l2_weight, least=0)
    arguments.require_number('durall', 'map_stride', map_stride, least=1, whole=True,
                             hint='1 for maps of the size of the picture, as in the paper')
    return Durall(segmentor, adversary, optimizer, adversary_optimizer, adversarial_weight,
                  reduction, map_stride, l2_weight)
