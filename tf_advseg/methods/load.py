"""LoAd's two training steps: the generator against a fixed discriminator, and the discriminator.

Jamali-Rad and Szabo, "Lookahead Adversarial Learning for Near Real-Time Semantic Segmentation".
When to take which step, from which model and on which maps is Algorithms 1-3: lookahead/.

Section 2, eq. 3, with the non-saturating form of the text below it:

    generator:      L_g = CE(Y, Yhat) - lambda * log D(Yhat | X)
    discriminator:  L_d = - log D(Y | X) - log(1 - D(Yhat | X))      (weighted, section 4)

D's input (section 4, Fig. 2) is the image split by class: image times the map of class c, for
every c, stacked in the channels.

Where the paper is silent, this is what we chose (all are settings of `load`):
  * the reduction of CE. Printed: a sum over pixels (eq. 3). The code the paper builds on averages
    over valid pixels. lambda means nothing without it: at 'mean' and lambda 1 the adversarial
    gradient was 60-130 times the CE's in a trial. Default 'mean', and `adversarial_weight` may be
    'balanced': lambda = balance * |g_ce| / |g_adv|, measured at the start of a cycle and kept.
  * lambda itself is not printed. The default is 'balanced'; the paper's setting in
    gin/papers/load/stanford_background_mobilenet_v2.gin uses 1.
  * soft or hard maps (`map_kind`): soft, since eq. 3 needs a gradient through Yhat. Hard maps take
    a straight-through gradient. 'quantised' (uint8 probabilities) is for decoders at stride 4.
  * unlabelled and padded pixels are zeroed in real and fake alike, and so is their gradient.
  * D runs in inference mode in the generator's step (`discriminator_training_mode`).
"""
import dataclasses

import gin
import numpy as np
import tensorflow as tf

from tf_advseg.adversaries import encodings
from tf_advseg.core import arguments
from tf_advseg.core import errors
from tf_advseg.losses import adversarial
from tf_advseg.methods import objective
from tf_advseg.methods import step_parts
from tf_advseg.models import segmentor as segmentors

MAP_KINDS = ('soft', 'hard', 'quantised')


@dataclasses.dataclass(frozen=True)
class Settings:
    """LoAd's losses, `load.…` in gin; its cycles are `lookahead.…` and `controller.…`.

    Attributes:
      reduction: of CE and of the adversarial term alike, see `step_parts.pixel_loss`.
      map_kind: 'soft', 'hard' or 'quantised'.
      discriminator_training_mode: whether D runs in training mode inside the generator's step.

    Raises:
      UserError: a value out of range.
    """
    reduction: str = 'mean'
    map_kind: str = 'soft'
    discriminator_training_mode: bool = False

    def __post_init__(self):
        errors.require_one_of('load.reduction', self.reduction, step_parts.REDUCTIONS)
        errors.require_one_of('load.map_kind', self.map_kind, MAP_KINDS)
        arguments.require_flag('load', 'discriminator_training_mode',
                               self.discriminator_training_mode)

    @property
    def pixel_loss(self):
        """`objective.PixelLoss` of these settings: eq. 3's first term."""
        return objective.PixelLoss(self.reduction)


load_settings = gin.external_configurable(Settings, name='load', module='tf_advseg.methods')


class LoAd(objective.Objective):
    """Segmentor and conditional discriminator with one step for each.

    Args:
      segmentor: see `step_parts.Method`.
      discriminator: encoded input [B, s, s, 3C or C] -> logits [B] (adversaries/discriminators).
      segmentor_optimizer, discriminator_optimizer: tf.keras optimizers, one per network.
      encoding: `adversaries.encodings.Encoding`, how an image and a map become D's input.
      settings: `Settings`.
    """

    def __init__(self, segmentor, discriminator, segmentor_optimizer, discriminator_optimizer,
                 encoding, settings=Settings()):
        super().__init__(segmentor, segmentor_optimizer, settings.pixel_loss, 'load')
        self.discriminator = discriminator
        self.discriminator_optimizer = discriminator_optimizer
        self.settings, self.map_kind = settings, settings.map_kind
        self.encoding = encoding
        self.discriminator_training_mode = settings.discriminator_training_mode
        discriminator_optimizer.build(discriminator.trainable_variables)

    @property
    def phases(self):
        """dict: 'segmentor' (with the adversarial term), 'discriminator'."""
        return {'segmentor': self.segmentor_step, 'discriminator': self.discriminator_step}

    def phase_optimizer(self, phase):
        """The optimizer of a phase."""
        return self.discriminator_optimizer if phase == 'discriminator' else self.optimizer

    @property
    def state(self):
        """See `step_parts.Method.state`."""
        return {**super().state, 'discriminator': self.discriminator,
                'discriminator_optimizer': self.discriminator_optimizer}

    def example_fields(self, batch):
        """See `step_parts.Method.example_fields`: maps of this segmentor, every second one real."""
        size = len(batch['image'])
        return {'map': self.maps(batch['image']).numpy(),
                'is_real': (np.arange(size) % 2 == 0).astype(np.float32)}

    # --- what the discriminator sees ------------------------------------------------------

    def maps(self, image):
        """Generated maps as the buffer keeps them, at the segmentor's resolution.

        Args:
          image: float32 [B, h, w, 3].

        Returns:
          soft: logits float32 [B, h', w', C]; hard: class ids uint8 [B, h, w] at the image's
          resolution; quantised: probabilities uint8 [B, h', w', C].
        """
        logits = segmentors.apply(self.segmentor, image, training=False)
        if self.map_kind == 'hard':
            full = step_parts.upsampled(logits, image[..., 0])
            return tf.cast(tf.argmax(full, axis=-1, output_type=tf.int32), tf.uint8)
        if self.map_kind == 'quantised':
            return encodings.quantise(tf.nn.softmax(logits))
        return logits

    def fake_input(self, image, labels, stored):
        """D's input from a map as the buffer keeps it (see `maps`)."""
        if self.map_kind == 'hard':
            return self.encoding.hard(image, labels, stored)
        if self.map_kind == 'quantised':
            return self.encoding.quantised(image, labels, stored)
        return self.encoding.soft(image, labels, tf.cast(stored, tf.float32))

    def live_input(self, image, labels, logits):
        """D's input from the segmentor's logits, differentiable with respect to them."""
        if self.map_kind == 'hard':
            return self.encoding.straight_through(image, labels, logits)
        return self.encoding.soft(image, labels, logits)

    # --- the generator --------------------------------------------------------------------

    def _adversarial_loss(self, batch, logits, dropout_seed=None):
        """A replica's share of -log D(Yhat|X), and D's logits."""
        training = self.discriminator_training_mode
        z = self.discriminator(self.live_input(batch['image'], batch['label'], logits),
                               training=training, dropout_seed=dropout_seed if training else None)
        total = tf.reduce_sum(adversarial.non_saturating(z))
        if self.settings.reduction == 'sum':
            return total, z
        examples = step_parts.global_sum(tf.cast(tf.shape(z)[0], tf.float32))
        return tf.math.divide_no_nan(total, examples), z

    def terms(self, batch, logits, seed, adversarial_weight=1.0):
        """Eq. 3's third term, non-saturating, by `adversarial_weight` (lambda); and 'disc/fooled',
        the share of the batch that D takes for real."""
        adv, z = self._adversarial_loss(batch, logits, seed)
        examples = step_parts.global_sum(tf.cast(tf.shape(z)[0], tf.float32))
        fooled = tf.reduce_sum(tf.cast(z > 0, tf.float32)) / examples
        return {'adv': (adversarial_weight, adv)}, {'disc/fooled': fooled}

    # --- the discriminator ----------------------------------------------------------------

    def mixed_input(self, batch):
        """D's input for a batch in which each example is real or fake.

        Args:
          batch: 'image' [B,h,w,3], 'label' [B,h,w], 'map' as `maps` gives it (of a real example
            its content is not looked at), 'is_real' float32 [B].

        Returns:
          float32 [B, s, s, 3C or C].
        """
        real = self.encoding.real(batch['image'], batch['label'])
        fake = self.fake_input(batch['image'], batch['label'], batch['map'])
        return tf.where(batch['is_real'][:, None, None, None] > 0, real, fake)

    def discriminator_step(self, batch, seed, weight_real=1.0, weight_fake=1.0):
        """One step of D: eq. 3's second and third term as weighted binary CE (section 4).

        The weights account for the number of fake sets in the buffer
        (losses/adversarial.fake_set_weights).

        Returns:
          {'loss/disc', 'disc/acc_real', 'disc/acc_fake'}; an accuracy is 0 where the batch has no
          example of its kind.
        """
        variables = self.discriminator.trainable_variables
        is_real = batch['is_real']
        examples = step_parts.global_sum(tf.cast(tf.shape(is_real)[0], tf.float32))
        with tf.GradientTape() as tape:
            z = self.discriminator(self.mixed_input(batch), training=True, dropout_seed=seed)
            weights = tf.where(is_real > 0, weight_real, weight_fake)
            loss = tf.reduce_sum(adversarial.binary_cross_entropy(z, is_real, weights)) / examples
        step_parts.apply_gradients(self.discriminator_optimizer, tape.gradient(loss, variables),
                                   variables)
        counts = step_parts.globally(self._counts(z, is_real))
        return {**step_parts.globally({'loss/disc': loss}), **_accuracies(counts)}

    def discriminator_counts(self, batch):
        """Global counts {'right_real', 'real', 'right_fake', 'fake'} of D in inference mode."""
        z = self.discriminator(self.mixed_input(batch), training=False)
        return step_parts.globally(self._counts(z, batch['is_real']))

    @staticmethod
    def _counts(z, is_real):
        real = tf.cast(is_real > 0, tf.float32)
        says_real = tf.cast(z > 0, tf.float32)
        return {'right_real': tf.reduce_sum(real * says_real), 'real': tf.reduce_sum(real),
                'right_fake': tf.reduce_sum((1 - real) * (1 - says_real)),
                'fake': tf.reduce_sum(1 - real)}


def _accuracies(counts):
    return {'disc/acc_real': tf.math.divide_no_nan(counts['right_real'], counts['real']),
            'disc/acc_fake': tf.math.divide_no_nan(counts['right_fake'], counts['fake'])}
