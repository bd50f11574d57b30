"""EL-GAN (Ghafoorian et al. 2018, "Embedding Loss Driven Generative Adversarial Networks").

    segmentor:      L_ce(s(x), y) + lambda || D_e(x, y) - D_e(x, s(x)) ||^2
    discriminator:  L_bce(D(x, y), 1) + L_bce(D(x, s(x)), 0)

The segmentor is not asked to fool the discriminator's decision. It matches the discriminator's
embedding D_e of the ground truth, which makes a prediction answerable to its own image's truth.

We worked from the published description; what it leaves open to us is chosen here (`el_gan`):
  * D is adversaries/encoder_decoder, with one decision an image in gin/methods/el_gan.gin, and D_e
    the features behind its encoder; the paper's D is a network of two heads for image and labels.
  * what D sees is adversaries/label_maps: 'product' (image times map, gin/methods/el_gan.gin) makes
    it conditional on the image, 'basic' shows it the map alone.
  * `embedding_weight`, lambda: 1, with the squared difference as a mean over images, positions and
    channels, and L_ce as a mean over labelled pixels.
  * both networks take turns (training/alternation); weight decay is `l2_weight`, 0."""
import dataclasses

import gin
import tensorflow as tf

from tf_advseg.adversaries import encoder_decoder
from tf_advseg.adversaries import label_maps
from tf_advseg.core import arguments
from tf_advseg.losses import adversarial
from tf_advseg.methods import objective
from tf_advseg.methods import recipe
from tf_advseg.methods import two_networks
from tf_advseg.run import stage_optimizers


@dataclasses.dataclass(frozen=True)
class Settings:
    """EL-GAN's settings, `el_gan.…` in gin: see the module's docstring. Raises UserError."""
    embedding_weight: float = 1.0
    l2_weight: float = 0.0

    def __post_init__(self):
        for name in ('embedding_weight', 'l2_weight'):
            arguments.require_number('el_gan', name, getattr(self, name), least=0)

    @property
    def pixel_loss(self):
        """`objective.PixelLoss` of these settings."""
        return objective.PixelLoss(l2_weight=self.l2_weight)


el_gan_settings = gin.external_configurable(Settings, name='el_gan', module='tf_advseg.methods')


class ElGan(two_networks.TwoNetworks):
    """Segmentor and discriminator with one step for each.

    Args:
      segmentor, discriminator (with an `encoder`), optimizer, discriminator_optimizer: see
        `two_networks.TwoNetworks`.
      encoding, settings: `label_maps.LabelMaps`, `Settings`.
    """

    def __init__(self, segmentor, discriminator, optimizer, discriminator_optimizer, encoding,
                 settings):
        super().__init__(segmentor, discriminator, optimizer, discriminator_optimizer,
                         settings.pixel_loss, 'el_gan')
        self.encoding, self.settings = encoding, settings

    def fake_maps(self, batch, logits):
        """The prediction in the run's encoding."""
        return self.encoding.fake(batch['image'], batch['label'], logits)

    def shown_maps(self, batch, logits):  # for the cue audit
        return self.encoding.pair(batch['label'], logits)

    def terms(self, batch, logits, seed):
        """The embedding loss, a mean over images, positions and channels."""
        del seed
        truth = self.encoding.real(batch['image'], batch['label'], tf.stop_gradient(logits))
        (wanted, _), (found, _) = map(self.discriminator.encoder,
                                      (truth, self.fake_maps(batch, logits)))
        wanted, found = tf.cast(wanted, tf.float32), tf.cast(found, tf.float32)
        distance = _mean(tf.square(tf.stop_gradient(wanted) - found))
        return {'embedding': (self.settings.embedding_weight, distance)}, {}

    def discriminator_loss(self, batch, logits):
        """Binary CE of both kinds of maps; and the accuracies 'disc/acc_real', 'disc/acc_fake'."""
        real = self.discriminator(self.encoding.real(batch['image'], batch['label'], logits))
        fake = self.discriminator(self.fake_maps(batch, logits))
        loss = (_mean(adversarial.binary_cross_entropy(real, tf.ones_like(real)))
                + _mean(adversarial.binary_cross_entropy(fake, tf.zeros_like(fake))))
        return loss, {'disc/acc_real': _mean(real > 0), 'disc/acc_fake': _mean(fake <= 0)}


def _mean(values):
    """A replica's share of the mean over all values of the global batch."""
    values = tf.cast(values, tf.float32)
    return two_networks.counted_mean(values, tf.ones_like(values))


def _build(context, segmentor, plan):
    """See `recipe.Recipe.build`."""
    encoding = label_maps.label_maps(segmentor.num_classes, segmentor)
    discriminator = encoder_decoder.build_pixel_discriminator(
        encoding.channels, seed=context.streams.seed_value)
    return ElGan(segmentor, discriminator,
                 stage_optimizers.segmentor_optimizer(plan.segmentor_steps),
                 stage_optimizers.discriminator_optimizer(max(1, plan.discriminator_steps)),
                 encoding, el_gan_settings())


recipe.register(recipe.Recipe(
    'el_gan', 'EL-GAN', lambda context: el_gan_settings().pixel_loss, _build,
    method_only=('el_gan.embedding_weight', 'build_pixel_discriminator', 'label_maps',
                 'alternation', 'discriminator_optimizer'),
    encodings=(recipe.ShownAs("product", ("label_maps.kind = 'product'",)),
               recipe.ShownAs('scaling', ("label_maps.kind = 'scaling'",), True)),
    small=('build_pixel_discriminator.widths = (8, 16)',),
    silent=('el_gan.embedding_weight = 0.0',)))
