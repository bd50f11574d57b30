"""Zhu et al. (2018), SegGAN and SegWGAN: a GAN that reconstructs images serves as a loss.

Phase 1, on the truths Y and their images I:

    generator       100 l_C + l_A                                            eq. 16
    discriminator   maximises log D(Y, I) + log(1 - D(Y, G(Y)))              eq. 7
                    or, Wasserstein, D(Y, I) - D(Y, G(Y))                    eq. 8, its sign mended
    l_C = |I - G(Y)|_1                                                       eq. 4
    l_A = -log D(Y, G(Y)), or -D(Y, G(Y))                                    eqs 5 and 6

Phase 2, G and D frozen, P the segmentor's soft map in the place of Y:

    segmentor       l_S + 0.1 l_C + 0.1 l_A                                  eq. 2

The gradient reaches the segmentor through D and G. G's dropout is its noise z and acts in both
phases; batch norm, where there is any, uses its moving statistics in phase 2.

What the paper leaves open, methods/zhu/zhu_settings.py settles by parameters; what the networks
are, adversaries/reconstruction_networks.py has; gin/methods/zhu.gin the optimizers. In both phases:
  * pixels without a label, padding among them, are 0 in masks and in images (which is the grey
    that crops are padded with), whether reconstructed or not, and count in no l_C;
  * in phase 1 one forward pass of either network serves both losses of a step (eqs 12 and 13: "in
    each iteration, we sample a mini-batch [...] then update each parameter"); the Wasserstein
    form's further steps of the critic take batches of their own;
  * the segmentor is given as it is: Stage 1, where there is one, is "after [...] the segmentation
    model have been fine-tuned" (section 4.2).
"""
import hashlib

import tensorflow as tf

from tf_advseg.adversaries import bottleneck
from tf_advseg.adversaries import label_maps
from tf_advseg.core import errors
from tf_advseg.losses import adversarial
from tf_advseg.losses import wasserstein
from tf_advseg.methods import step_parts
from tf_advseg.methods import two_networks
from tf_advseg.methods.zhu import zhu_settings
from tf_advseg.models import precision as precisions
from tf_advseg.models import resize
from tf_advseg.training import loss_scale

class Reconstruction:
    """A generator and a discriminator, and the losses that they make of masks and images.

    Args:
      generator, discriminator: from adversaries/reconstruction_networks.
      settings: zhu_settings.GanSettings.
      digest: what `digest` said of these weights when they were written down, or None.
    """

    def __init__(self, generator, discriminator, settings, digest=None):
        self.generator, self.discriminator, self.settings = generator, discriminator, settings
        self._digest = digest

    def grid(self, labels):
        """int32 [2]: sides of masks and reconstructed images for labels int [b, h, w]."""
        return (tf.shape(labels)[1:3] - 1) // self.settings.map_stride + 1

    def labelled(self, labels):
        """Which points of the grid have a label: float32 [b, h', w', 1]."""
        at = label_maps.labels_at(labels, self.grid(labels))
        return tf.cast(tf.not_equal(at, label_maps.IGNORE_LABEL), tf.float32)[..., None]

    def true_masks(self, labels):
        """Y, float32 [b, h', w', C], zero without a label: one-hot, or through the bottleneck."""
        if self.settings.bottleneck is not None:
            return self.labelled(labels) * bottleneck.truth_map(
                labels, self.generator.num_classes, self.settings.bottleneck, self.grid(labels))
        at = label_maps.labels_at(labels, self.grid(labels))
        return tf.one_hot(at, self.generator.num_classes)

    def soft_masks(self, logits, labels):
        """P, probabilities float32 [b, h', w', C], zero without a label."""
        maps = tf.nn.softmax(resize.resize_bilinear(logits, self.grid(labels)))
        return maps * self.labelled(labels)

    def scaled_images(self, image, labels):
        """I on the grid, float32 [b, h', w', 3] in [-1, 1], zero without a label.

        It lies under the masks to the pixel where sides are k * map_stride + 1, as crops are; at
        others up to map_stride - 1 pixels beside them.
        """
        stride = self.settings.map_stride
        scaled = tf.cast(image, tf.float32) / 127.5 - 1.0
        if stride > 1:  # an odd window, in the middle of which the point lies
            side = stride + 1 - stride % 2
            scaled = tf.nn.avg_pool2d(scaled, side, stride, 'SAME')
        return scaled * self.labelled(labels)

    def reconstructed(self, masks, images, labels, seed, training=False):
        """G's reconstructions from masks, float32 [b, h', w', 3], zero without a label.

        Args:
          masks: [b, h', w', C].
          images: from `scaled_images`; looked at where G sees them.
          labels: int [b, h, w].
          seed: int32 [2] of the noise, or None for none.
          training: whether batch norm learns.
        """
        if self.generator.sees_image:
            masks = tf.concat([masks, images], axis=-1)
        return self.generator(masks, training=training,
                              dropout_seed=seed) * self.labelled(labels)

    def content_loss(self, images, reconstructed, labels, reduction='mean'):
        """A replica's share of l_C (eq. 4).

        'mean' is over labelled points of the global batch and colours, 'sum' a sum over both and a
        mean over images.
        """
        total = tf.reduce_sum(tf.abs(images - reconstructed))
        if reduction == 'sum':
            return total / step_parts.examples(labels)
        points = step_parts.global_sum(tf.reduce_sum(self.labelled(labels)))
        return tf.math.divide_no_nan(total, points * images.shape[-1])

    def responses(self, images, condition, training=False):
        """D's decisions: float32 [b], or [b, h'', w''] where each response is one."""
        found = self.discriminator(images, condition=condition, training=training)
        return found if self.settings.decision == 'each' else tf.reduce_mean(found, axis=[1, 2])

    def condition(self, masks, images):
        """What D is given beside an image."""
        return {'mask': masks, 'image': images,
                'nothing': None}[self.settings.discriminator_sees]

    def adversarial_loss(self, responses):
        """A replica's share of l_A (eqs 5 and 6)."""
        conventional = self.settings.form == zhu_settings.GAN
        losses = (adversarial.non_saturating if conventional else wasserstein.generator)(responses)
        return _mean(losses)

    def discriminator_loss(self, real, fake):
        """A replica's share of what D minimises, the penalty left out (eqs 7 and 8).

        Args:
          real, fake: from `responses`.
        """
        if self.settings.form == zhu_settings.WGAN:
            return _mean(wasserstein.critic(real, fake))
        return _mean(adversarial.binary_cross_entropy(real, tf.ones_like(real))
                     + adversarial.binary_cross_entropy(fake, tf.zeros_like(fake)))

    def penalty(self, images, reconstructed, condition, seed):
        """A replica's share of the mean gradient penalty.

        `mix` is drawn by (seed, replica): here two replicas are not one device, as in dropout.
        """
        context = tf.distribute.get_replica_context()
        mix = tf.random.stateless_uniform(
            [tf.shape(images)[0]], tf.random.experimental.stateless_fold_in(
                tf.cast(seed, tf.int32), context.replica_id_in_sync_group))
        return _mean(wasserstein.gradient_penalty(
            lambda between: self.discriminator(between, condition=condition, training=True),
            images, reconstructed, mix))

    def digest(self):
        """Text that identifies both networks' weights, batch norm's statistics too."""
        if self._digest is not None:  # a mean over replicas may be off by a bit
            return self._digest
        found = hashlib.sha256()
        # Layer by layer: a network's own `variables` change their order when it is frozen.
        for layer in (*self.generator.layers, *self.discriminator.layers):
            for variable in layer.variables:
                found.update(variable.numpy().tobytes())
        return found.hexdigest()[:16]


def _mean(values):
    """A replica's share of the mean of decisions."""
    return two_networks.counted_mean(values, tf.ones_like(values))


class ReconstructionGan(step_parts.Method):
    """Phase 1: the generator and the discriminator learn from truths and images.

    Args:
      reconstruction: Reconstruction.
      optimizer, discriminator_optimizer: tf.keras optimizers, one a network; built here.
    """

    default_phase = 'both'
    step_name = 'generator_step'

    def __init__(self, reconstruction, optimizer, discriminator_optimizer):
        super().__init__(reconstruction.generator, name='reconstruction_gan')
        self.reconstruction, self.settings = reconstruction, reconstruction.settings
        self.discriminator = reconstruction.discriminator
        self.optimizer, self.discriminator_optimizer = optimizer, discriminator_optimizer
        self.precision = precisions.precision()
        for one in (optimizer, discriminator_optimizer):
            loss_scale.prepare(self.precision, one)
        optimizer.build(reconstruction.generator.trainable_variables)
        discriminator_optimizer.build(reconstruction.discriminator.trainable_variables)

    def call(self, maps, training=False):
        """Images from maps [B, h, w, channels], see adversaries/reconstruction_networks."""
        return self.reconstruction.generator(maps, training=training)

    @property
    def phases(self):
        """dict: 'both' networks in one step, the 'discriminator' alone."""
        return {'both': self.joint_step, 'discriminator': self.discriminator_step}

    @property
    def state(self):
        """See `step_parts.Method.state`."""
        return {'generator': self.reconstruction.generator, 'discriminator': self.discriminator,
                'optimizer': self.optimizer,
                'discriminator_optimizer': self.discriminator_optimizer}

    def phase_optimizer(self, phase):
        """The optimizer whose iterations count the steps of a phase."""
        return self.discriminator_optimizer if phase == 'discriminator' else self.optimizer

    def _reconstruct(self, batch, seed):
        """(images, reconstructed ones, what D is given beside them)."""
        labels = batch['label']
        masks = self.reconstruction.true_masks(labels)
        images = self.reconstruction.scaled_images(batch['image'], labels)
        reconstructed = self.reconstruction.reconstructed(masks, images, labels, seed,
                                                          training=True)
        return images, reconstructed, self.reconstruction.condition(masks, images)

    def _discriminator_loss(self, images, reconstructed, condition, fake, seed):
        """(a replica's share of D's loss, D's decisions on the originals)."""
        real = self.reconstruction.responses(images, condition, training=True)
        loss = self.reconstruction.discriminator_loss(real, fake)
        if self.settings.form == zhu_settings.WGAN and self.settings.lipschitz == 'penalty':
            loss += self.settings.penalty_weight * self.reconstruction.penalty(
                images, tf.stop_gradient(reconstructed), condition, seed)
        return loss, real

    def _move_discriminator(self, gradients):
        variables = self.discriminator.trainable_variables
        step_parts.apply_gradients(self.discriminator_optimizer, gradients, variables)
        if self.settings.form == zhu_settings.WGAN and self.settings.lipschitz == 'clip':
            clipped = [variable for variable in variables
                       if self.settings.clipped == 'all' or len(variable.shape) > 1]
            step_parts.clip_weights(clipped, self.settings.clip)

    def _logged(self, loss, real, fake):
        """What is logged of D."""
        logged = {'loss/disc': loss, 'disc/real': _mean(real), 'disc/fake': _mean(fake)}
        if self.settings.form == zhu_settings.GAN:
            logged.update({'disc/acc_real': _mean(tf.cast(real > 0, tf.float32)),
                           'disc/acc_fake': _mean(tf.cast(fake <= 0, tf.float32))})
        return logged

    def joint_step(self, batch, seed):
        """One step of G on eq. 16 and of D on eq. 7 or 8, from the same passes (eqs 12 and 13).

        Args:
          batch: global batch's share, see WORKSPACE.md.
          seed: int32 [2], of the noise and of the penalty.

        Returns:
          {'loss/content', 'loss/adv', 'loss/generator' (100 l_C + l_A, the paper's gloss),
          'loss/disc', 'disc/real', 'disc/fake' (mean decisions), 'weights/norm' (of both)}, with
          the conventional form 'disc/acc_real' and 'disc/acc_fake', too.
        """
        own = self.reconstruction.generator.trainable_variables
        theirs = self.discriminator.trainable_variables
        with loss_scale.Tape(self.precision, self.optimizer) as tape, loss_scale.Tape(
                self.precision, self.discriminator_optimizer) as second:
            images, reconstructed, condition = self._reconstruct(batch, seed)
            fake = self.reconstruction.responses(reconstructed, condition, training=True)
            content = self.reconstruction.content_loss(images, reconstructed, batch['label'])
            adv = self.reconstruction.adversarial_loss(fake)
            loss = self.settings.content_weight * content + adv
            judged, real = self._discriminator_loss(images, reconstructed, condition, fake, seed)
        gradients = tape.gradient(loss, own)
        self._move_discriminator(second.gradient(judged, theirs))
        step_parts.apply_gradients(self.optimizer, gradients, own)
        return step_parts.globally({
            'loss/content': content, 'loss/adv': adv, 'loss/generator': loss,
            **self._logged(judged, real, fake),
            'weights/norm': step_parts.weights_norm([*own, *theirs])})

    def discriminator_step(self, batch, seed):
        """One step of D alone: the further steps of a critic.

        Returns:
          {'loss/disc', 'disc/real', 'disc/fake', 'weights/norm'}, see `joint_step`.
        """
        with step_parts.statistics_kept(self.reconstruction.generator):
            images, reconstructed, condition = self._reconstruct(batch, seed)
        reconstructed = tf.stop_gradient(reconstructed)
        variables = self.discriminator.trainable_variables
        with loss_scale.Tape(self.precision, self.discriminator_optimizer) as tape:
            fake = self.reconstruction.responses(reconstructed, condition, training=True)
            loss, real = self._discriminator_loss(images, reconstructed, condition, fake, seed)
        self._move_discriminator(tape.gradient(loss, variables))
        return step_parts.globally({**self._logged(loss, real, fake),
                                    'weights/norm': step_parts.weights_norm(variables)})


class Zhu(two_networks.TwoNetworks):
    """Phase 2: a segmentor learns from cross-entropy and from what a frozen GAN makes of its maps.

    Args:
      segmentor: see `step_parts.Method`.
      reconstruction: Reconstruction after phase 1; it is frozen here.
      optimizer: of the segmentor; built here.
      settings: zhu_settings.Settings.
    """

    def __init__(self, segmentor, reconstruction, optimizer, settings):
        super().__init__(segmentor, None, optimizer, None, settings.pixel_loss, 'zhu')
        self.settings, self.reconstruction = settings, reconstruction
        soft = reconstruction.settings.bottleneck
        if soft not in (None, segmentor.logits_stride):
            raise errors.UserError(f'zhu_gan.bottleneck = {soft}: the logits of this segmentor '
                                   f'have a stride of {segmentor.logits_stride}; set it so')
        reconstruction.generator.trainable = reconstruction.discriminator.trainable = False

    @property
    def phases(self):
        """dict: 'segmentor'."""
        return {'segmentor': self.segmentor_step}

    @property
    def identity(self):
        """See `objective.Objective.identity`; with which GAN it is that judges."""
        return {'gan': self.reconstruction.digest(), **super().identity}

    @property
    def compares_gradients(self):
        """See `two_networks.TwoNetworks.compares_gradients`."""
        return True

    @property
    def about(self):
        """See `objective.Objective.about`."""
        form = self.reconstruction.settings
        return (f'{zhu_settings.NAMES[form.form]} ({form.about()}), λ1 '
                f'{self.settings.content_weight:g}, λ2 {self.settings.adversarial_weight:g}')

    def reconstruction_losses(self, batch, logits, seed):
        """(l_C, l_A, D's decisions): a replica's shares, for the soft map of `logits`."""
        labels, reconstruction = batch['label'], self.reconstruction
        masks = reconstruction.soft_masks(logits, labels)
        images = reconstruction.scaled_images(batch['image'], labels)
        reconstructed = reconstruction.reconstructed(masks, images, labels, seed)
        given = (masks if self.settings.condition == 'prediction'
                 else reconstruction.true_masks(labels))
        found = reconstruction.responses(reconstructed, reconstruction.condition(given, images))
        content = reconstruction.content_loss(images, reconstructed, labels,
                                              self.settings.reduction)
        return content, reconstruction.adversarial_loss(found), found

    def shown_maps(self, batch, logits):
        """See `step_parts.Method.shown_maps`: masks that the generator reconstructs from."""
        labels, made = batch['label'], self.reconstruction
        return (made.true_masks(labels), made.soft_masks(logits, labels),
                made.labelled(labels)[..., 0] > 0)

    def terms(self, batch, logits, seed):
        """Eq. 15's l_C and l_A by lambda_1 and lambda_2; and 'loss/generator', both weighted (the
        paper's gloss; its segloss is 'loss/ce'), and 'disc/fake', D's mean decision on what is
        reconstructed."""
        content, adv, found = self.reconstruction_losses(batch, logits, seed)
        weights = self.settings.content_weight, self.settings.adversarial_weight
        return ({'content': (weights[0], content), 'adv': (weights[1], adv)},
                {'loss/generator': weights[0] * content + weights[1] * adv,
                 'disc/fake': _mean(found)})
