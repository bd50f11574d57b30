"""LoAd's two training steps: the generator against a fixed discriminator, and the discriminator.

Jamali-Rad and Szabo, "Lookahead Adversarial Learning for Near Real-Time Semantic Segmentation".
When to take which step, from which model and on which maps is Algorithms 1-3: lookahead/.

Section 2, eq. 3, with the non-saturating form of the text below it:

    generator:      L_g = CE(Y, Yhat) - lambda * log D(Yhat | X)
    discriminator:  L_d = - log D(Y | X) - log(1 - D(Yhat | X))      (weighted, section 4)

D's input (section 4, Fig. 2) is the picture split by class: picture times the map of class c, for
every c, stacked in the channels.

Where the paper is silent, this is what we chose (all are parameters of `load`):
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
import gin
import tensorflow as tf

from tf_advseg.adversaries import encodings
from tf_advseg.losses import adversarial
from tf_advseg.methods import objective
from tf_advseg.methods import step_parts
from tf_advseg.models import segmentor as segmentors

MAP_KINDS = ('soft', 'hard', 'quantised')


class LoAd(objective.Objective):
    """Segmentor and conditional discriminator with one step for each.

    Args:
      segmentor: see DESIGN.md ("Segmentor").
      discriminator: encoded input [B, s, s, 3C or C] -> logits [B] (adversaries/discriminators).
        None makes the control: CE only, everything else alike.
      segmentor_optimizer, discriminator_optimizer: tf.keras optimizers, one per network.
      reduction: of CE and of the adversarial term alike, see `step_parts.pixel_loss`.
      encoding: `adversaries.encodings.Encoding`, how a picture and a map become D's input.
      map_kind: 'soft', 'hard' or 'quantised'.
      discriminator_training_mode: whether D runs in training mode inside the generator's step.
    """

    def __init__(self, segmentor, discriminator, segmentor_optimizer, discriminator_optimizer,
                 encoding, reduction='mean', map_kind='soft', discriminator_training_mode=False):
        super().__init__(segmentor, segmentor_optimizer, 0.0, 'load')
        if map_kind not in MAP_KINDS:
            raise ValueError(f'map_kind {map_kind!r}: expected one of {MAP_KINDS}')
        self.discriminator = discriminator
        self.discriminator_optimizer = discriminator_optimizer
        self.reduction = reduction
        self.map_kind = map_kind
        self.encoding = encoding
        self.discriminator_training_mode = discriminator_training_mode
        if discriminator is not None:
            discriminator_optimizer.build(discriminator.trainable_variables)

    @property
    def phases(self):
        """dict: 'segmentor' (with the adversarial term), 'cross_entropy' (control), 'adversary'."""
        steps = {'cross_entropy': self.cross_entropy_step}
        if self.discriminator is not None:
            steps.update(segmentor=self.segmentor_step, adversary=self.adversary_step)
        return steps

    def phase_optimizer(self, phase):
        """The optimizer of a phase."""
        return self.discriminator_optimizer if phase == 'adversary' else self.optimizer

    # --- what the discriminator sees ------------------------------------------------------

    def maps(self, image):
        """Generated maps as the buffer keeps them, at the segmentor's resolution.

        Args:
          image: float32 [B, h, w, 3].

        Returns:
          soft: logits float32 [B, h', w', C]; hard: class ids uint8 [B, h, w] at the picture's
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
        if self.reduction == 'sum':
            return total, z
        examples = step_parts.global_sum(tf.cast(tf.shape(z)[0], tf.float32))
        return tf.math.divide_no_nan(total, examples), z

    def cross_entropy(self, logits, batch, seed):
        """A replica's share of eq. 3's first term, see `step_parts.pixel_loss`."""
        del seed
        return step_parts.pixel_loss(logits, batch['label'], self.reduction)

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

    def adversary_step(self, batch, seed, weight_real, weight_fake):
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

    def adversary_counts(self, batch):
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


@gin.configurable(denylist=['segmentor', 'discriminator', 'segmentor_optimizer',
                            'discriminator_optimizer', 'encoding'])
def load(segmentor, discriminator, segmentor_optimizer, discriminator_optimizer, encoding,
         reduction='mean', map_kind='soft', discriminator_training_mode=False):
    """Builds `LoAd` with gin's settings."""
    return LoAd(segmentor, discriminator, segmentor_optimizer, discriminator_optimizer, encoding,
                reduction, map_kind, discriminator_training_mode)
