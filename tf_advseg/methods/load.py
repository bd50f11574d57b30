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
  * soft or hard maps (`map_kind`): eq. 3 needs a gradient through Yhat, so soft is the default of
    the setting; gin/methods/load.gin takes hard ones, with a straight-through gradient.
    'quantised' (uint8 probabilities) is for decoders at stride 4.
  * unlabelled and padded pixels are zeroed in real and fake alike, and so is their gradient.
  * D runs in inference mode in the generator's step (`discriminator_training_mode`).
"""
import dataclasses

import gin
import numpy as np
import tensorflow as tf

from tf_advseg.adversaries import encodings
from tf_advseg.adversaries import stored_maps
from tf_advseg.core import arguments
from tf_advseg.core import errors
from tf_advseg.losses import adversarial
from tf_advseg.methods import accumulation
from tf_advseg.methods import objective
from tf_advseg.methods import step_parts
from tf_advseg.models import segmentor as segmentors
from tf_advseg.training import loss_scale

MAP_KINDS = ('soft', 'hard', 'quantised')


@dataclasses.dataclass(frozen=True)
class Settings:
    """LoAd's losses, `load.…` in gin; its cycles are `lookahead.…` and `controller.…`.

    Attributes:
      reduction: of CE and of the adversarial term alike, see `step_parts.pixel_loss`.
      map_kind: 'soft', 'hard' or 'quantised'.
      discriminator_training_mode: whether D runs in training mode inside the generator's step.
      real_target: what D is asked for of true maps: 1, or less for one-sided label smoothing
        (Salimans et al. 2016, section 3.4), which keeps D from being sure.
      r1_weight: gamma of R1 (Mescheder et al. 2018, eq. 9), gamma / 2 times the squared gradient of
        D with respect to true maps (the image's channels left out); 0 for none.
      backbone_features: whether D also sees what Stage 1's backbone, frozen, makes of the image.

    Raises:
      UserError: a value out of range.
    """
    reduction: str = 'mean'
    map_kind: str = 'soft'
    discriminator_training_mode: bool = False
    real_target: float = 1.0
    r1_weight: float = 0.0
    backbone_features: bool = False

    def __post_init__(self):
        arguments.require_number('load', 'real_target', self.real_target, above=0.5, most=1,
                                 hint='1, or 0.9 for one-sided smoothing')
        arguments.require_number('load', 'r1_weight', self.r1_weight, least=0)
        arguments.require_flag('load', 'backbone_features', self.backbone_features)
        errors.require_one_of('load.reduction', self.reduction, step_parts.REDUCTIONS)
        errors.require_one_of('load.map_kind', self.map_kind, MAP_KINDS)
        arguments.require_flag('load', 'discriminator_training_mode',
                               self.discriminator_training_mode)

    @property
    def pixel_loss(self):
        """`objective.PixelLoss` of these settings: eq. 3's first term."""
        return objective.PixelLoss(self.reduction)


load_settings = gin.external_configurable(Settings, name='load', module='tf_advseg.methods')


# What a run of `lookahead.null` is, for its log and report.
ABOUT_NULLS = {
    'shuffled': 'a null of LoAd, to compare it with: its discriminator is trained on shuffled '
                'targets and knows nothing of structure',
    'random': 'a null of LoAd, to compare it with: its adversarial gradient has the length of '
              'LoAd\'s and a random direction'}


class LoAd(objective.Objective):
    """Segmentor and conditional discriminator with one step for each.

    Args:
      segmentor: see `step_parts.Method`.
      discriminator: encoded input [B, h, w, channels] -> logits [B] or, of a map of decisions,
        [B, h', w'] (adversaries/discriminators). The loss of an image is the mean over its
        decisions; what D says of it is the mean decision's sign.
      segmentor_optimizer, discriminator_optimizer: tf.keras optimizers, one per network.
      encoding: `adversaries.encodings.Encoding`, how an image and a map become D's input.
      settings: `Settings`.
      features: function(image) -> float32 [B, h, w, F] that D's input has as further channels; the
        image's alone, and fixed (`frozen_features.FrozenBackbone`). None for none.
      null: None; 'shuffled' (whoever trains D shuffles its targets); or 'random': the adversarial
        gradient is replaced by a random direction of its length, new at each step.

    Raises:
      UserError: settings that do not fit together.
    """

    def __init__(self, segmentor, discriminator, segmentor_optimizer, discriminator_optimizer,
                 encoding, settings=Settings(), features=None, null=None):
        super().__init__(segmentor, segmentor_optimizer, settings.pixel_loss, 'load')
        if encoding.needs_prediction and settings.map_kind == 'hard':
            raise errors.UserError(f'input_encoding.truth = {encoding.truth!r} with '
                                   "load.map_kind = 'hard': hard maps are as sure as the ground "
                                   "truth; set truth to 'bottleneck'")
        self.features, self.null = features, null
        self.discriminator = discriminator
        self.discriminator_optimizer = discriminator_optimizer
        self.settings, self.map_kind = settings, settings.map_kind
        self.encoding = encoding
        self.discriminator_training_mode = settings.discriminator_training_mode
        loss_scale.prepare(self.precision, discriminator_optimizer)
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

    def maps(self, image, backbone=None):
        """Generated maps as the buffer keeps them, at the segmentor's resolution.

        Args:
          image: float32 [B, h, w, 3].
          backbone: what the segmentor's backbone makes of it, where that is known.

        Returns:
          soft: logits float32 [B, h', w', C]; hard: class ids uint8 [B, h, w] at the image's
          resolution; quantised: probabilities uint8 [B, h', w', C].
        """
        logits = (segmentors.apply(self.segmentor, image, training=False) if backbone is None
                  else self.segmentor.head(backbone))
        if self.map_kind == 'hard':
            full = step_parts.upsampled(logits, image[..., 0])
            return tf.cast(tf.argmax(full, axis=-1, output_type=tf.int32), tf.uint8)
        if self.map_kind == 'quantised':
            return stored_maps.quantise(tf.nn.softmax(logits))
        return logits

    def fake_input(self, image, labels, stored):
        """D's input from a map as the buffer keeps it (see `maps`)."""
        if self.map_kind == 'hard':
            return self.encoding.hard(image, labels, stored)
        if self.map_kind == 'quantised':
            return self.encoding.quantised(image, labels, stored)
        return self.encoding.soft(image, labels, tf.cast(stored, tf.float32))

    def real_input(self, image, labels, stored):
        """D's input of the ground truth; `stored`, a map of the same image as the buffer keeps it,
        matters only where the encoding needs the prediction."""
        if self.map_kind == 'quantised' and self.encoding.needs_prediction:
            stored = stored_maps.stored_logits(stored)
        return self.encoding.real(image, labels, stored, self.map_kind == 'hard')

    def live_input(self, image, labels, logits, backbone=None):
        """D's input from the segmentor's logits, differentiable with respect to them.

        `backbone` are the features of the segmentor's frozen backbone, which D's further channels
        are made of where they are known; else they are computed.
        """
        if self.map_kind == 'hard':
            encoded = self.encoding.straight_through(image, labels, logits)
        else:
            encoded = self.encoding.soft(image, labels, logits)
        known = None
        if self.features is not None and backbone is not None:
            known = self.features.of_maps(backbone)
        return self._with_features(image, labels, encoded, known)

    def _with_features(self, image, labels, encoded, known=None):
        """`encoded` with the image's fixed features behind it, zero where nothing is labelled;
        `known` are these features where somebody has them."""
        if self.features is None:
            return encoded
        valid = encodings.valid_mask(labels, self.encoding.points)
        found = self.features(image) if known is None else known
        return tf.concat([encoded, found * tf.cast(valid, tf.float32)[..., None]], -1)

    def shown_maps(self, batch, logits):
        """See `step_parts.Method.shown_maps`."""
        hard = self.map_kind == 'hard'
        points, labels = self.encoding.points, batch['label']
        fake = (encodings.straight_through_map(logits, labels, points) if hard else
                encodings.soft_map(logits, points, self.encoding.temperature))
        return (self.encoding.truth_map(labels, logits, hard), fake,
                encodings.valid_mask(labels, points))

    # --- the generator --------------------------------------------------------------------

    def _adversarial_loss(self, batch, logits, dropout_seed=None):
        """A replica's share of -log D(Yhat|X), and D's logits."""
        training = self.discriminator_training_mode
        shown = self.live_input(batch['image'], batch['label'], logits,
                                batch.get('backbone_features'))
        z = self.discriminator(shown, training=training,
                               dropout_seed=dropout_seed if training else None)
        total = tf.reduce_sum(adversarial.per_image(adversarial.non_saturating(z)))
        if self.settings.reduction == 'sum':
            return total, z
        examples = step_parts.global_sum(tf.cast(tf.shape(z)[0], tf.float32))
        return tf.math.divide_no_nan(total, examples), z

    def terms(self, batch, logits, seed, adversarial_weight=1.0):
        """Eq. 3's third term, non-saturating, by `adversarial_weight` (lambda); and 'disc/fooled',
        the share of the batch that D takes for real."""
        adv, z = self._adversarial_loss(batch, logits, seed)
        examples = step_parts.global_sum(tf.cast(tf.shape(z)[0], tf.float32))
        fooled = tf.reduce_sum(tf.cast(adversarial.per_image(z) > 0, tf.float32)) / examples
        return {'adv': (adversarial_weight, adv)}, {'disc/fooled': fooled}

    def segmentor_step(self, batch, seed, **scalars):
        """See `objective.Objective.segmentor_step`; with null 'random' see `__init__`."""
        if self.null == 'random':
            return self._random_step(batch, seed, **scalars)
        return super().segmentor_step(batch, seed, **scalars)

    @property
    def about(self):
        """See `objective.Objective.about`: says of a null that it is one."""
        return ABOUT_NULLS.get(self.null, '')

    def _random_step(self, batch, seed, adversarial_weight=1.0):
        """The step with the adversarial gradient replaced by a random one of its length."""
        variables = self.segmentor.trainable_variables
        with accumulation.Tape(self, persistent=True) as tape:
            logits = tape.logits(batch, seed)
            ce = self.cross_entropy(logits, batch, seed)
            further = self.further_terms(logits, batch)
            plain = self.weighted(ce) + self.decay()
            for weight, share in further.values():
                plain += weight * share
            adv, _ = self._adversarial_loss(batch, logits, seed)
        gradients = tape.gradient(plain, variables)
        length = tf.norm(step_parts.global_sum(step_parts.flat_gradient(tape, adv, variables)))
        # The same on every replica, and a share of it: the optimizer sums.
        drawn = [tf.random.stateless_normal(variable.shape, tf.random.experimental.
                                            stateless_fold_in(seed, 1000 + place))
                 for place, variable in enumerate(variables)]
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        factor = adversarial_weight * length / tf.linalg.global_norm(drawn) / replicas
        gradients = [gradient + factor * direction
                     for gradient, direction in zip(gradients, drawn)]
        step_parts.apply_gradients(self.optimizer, gradients, variables, self.multipliers)
        return step_parts.globally({
            'loss/ce': ce, **{f'loss/{name}': share for name, (_, share) in further.items()},
            'loss/adv': adv, 'loss/total': plain + adversarial_weight * adv,
            'weights/norm': step_parts.weights_norm(variables)})

    # --- the discriminator ----------------------------------------------------------------

    def mixed_input(self, batch):
        """D's input for a batch in which each example is real or fake.

        Args:
          batch: 'image' [B,h,w,3], 'label' [B,h,w], 'map' as `maps` gives it (of a real example
            its content matters only where the encoding needs the prediction), 'is_real' float32
            [B].

        Returns:
          float32 [B, h, w, channels].
        """
        real = self.real_input(batch['image'], batch['label'], batch['map'])
        fake = self.fake_input(batch['image'], batch['label'], batch['map'])
        mixed = tf.where(batch['is_real'][:, None, None, None] > 0, real, fake)
        return self._with_features(batch['image'], batch['label'], mixed, batch.get('features'))

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
        target = batch.get('target', is_real)
        examples = step_parts.global_sum(tf.cast(tf.shape(is_real)[0], tf.float32))
        x = self.mixed_input(batch)
        with loss_scale.Tape(self.precision, self.discriminator_optimizer) as tape:
            with tf.GradientTape(watch_accessed_variables=False) as slope:
                if self.settings.r1_weight:
                    slope.watch(x)
                z = self.discriminator(x, training=True, dropout_seed=seed)
                decided = tf.reduce_sum(adversarial.per_image(z))
            weights = tf.where(target > 0, weight_real, weight_fake)
            losses = self._judged(z, target * self.settings.real_target)
            loss = tf.reduce_sum(losses * weights) / examples
            if self.settings.r1_weight:
                loss += self._r1(slope.gradient(decided, x), is_real)
        step_parts.apply_gradients(self.discriminator_optimizer, tape.gradient(loss, variables),
                                   variables)
        counts = step_parts.globally(self._counts(z, is_real))
        return {**step_parts.globally({'loss/disc': loss}), **_accuracies(counts)}

    def discriminator_counts(self, batch):
        """Global counts {'right_real', 'real', 'right_fake', 'fake'} of D in inference mode, and
        the sums of its binary CE over both kinds: 'loss_real', 'loss_fake'. Examples whose
        'target' is below 0 are left out."""
        z, is_real = self.discriminator(self.mixed_input(batch), training=False), batch['is_real']
        counted = tf.cast(batch.get('target', is_real) >= 0, tf.float32)
        losses = self._judged(z, is_real) * counted
        return step_parts.globally({
            **self._counts(z, is_real, counted), 'loss_real': tf.reduce_sum(losses * is_real),
            'loss_fake': tf.reduce_sum(losses * (1 - is_real))})

    @staticmethod
    def _judged(z, target):
        """Binary CE of each image, a mean over its decisions: float32 [B]."""
        aligned = tf.reshape(target, [-1] + [1] * (z.shape.rank - 1))
        return adversarial.per_image(
            adversarial.binary_cross_entropy(z, tf.broadcast_to(aligned, tf.shape(z))))

    def _r1(self, gradient, is_real):
        """A replica's share of R1 over the true maps of the global batch."""
        real = tf.cast(is_real > 0, tf.float32)
        squares = tf.reduce_sum(tf.square(self.encoding.map_channels(gradient)), [1, 2, 3])
        count = step_parts.global_sum(tf.reduce_sum(real))
        mean = tf.math.divide_no_nan(tf.reduce_sum(squares * real), count)
        return self.settings.r1_weight / 2.0 * mean

    @staticmethod
    def _counts(z, is_real, counted=1.0):
        real, fake = is_real * counted, (1 - is_real) * counted
        says_real = tf.cast(adversarial.per_image(z) > 0, tf.float32)
        return {'right_real': tf.reduce_sum(real * says_real), 'real': tf.reduce_sum(real),
                'right_fake': tf.reduce_sum(fake * (1 - says_real)),
                'fake': tf.reduce_sum(fake)}


def _accuracies(counts):
    return {'disc/acc_real': tf.math.divide_no_nan(counts['right_real'], counts['real']),
            'disc/acc_fake': tf.math.divide_no_nan(counts['right_fake'], counts['fake'])}
