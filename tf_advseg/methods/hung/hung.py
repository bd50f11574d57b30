"""Hung et al. (2018), "Adversarial Learning for Semi-Supervised Semantic Segmentation": its step.

    segmentor:      L_ce + lambda_adv L_adv + lambda_semi L_semi                          eq. 2
      L_ce          cross-entropy, of labelled images                                   eq. 3
      L_adv         -sum log D(S(X)), of labelled and, with a smaller weight, others      eq. 4
      L_semi        -sum I(D(S(X)) > T) log S(X)_c*, c* = argmax S(X), of the others      eq. 5
    discriminator:  -sum log(1 - D(S(X))) - sum log D(Y), "only with the labeled data"    eq. 1

"We update both the segmentation network and discriminator network jointly": a step makes the
predictions once, and moves both networks by them. Which network D is, adversaries/
fully_convolutional.py has; how labelled and unlabelled images share a batch, data/mixed.py; which
images count as labelled, run/semi_supervised.py; the self-taught loss and what selects its points,
losses/self_taught.py.

Where the paper is silent or leaves a choice, this is what we chose (settings of `hung`):
  * `terms`: '+ L_adv' of Tables 1 and 2 takes L_adv of labelled images alone ('adv'); unlabelled
    ones come in with L_semi ('adv+semi'). (Table 5's rows lambda_semi = 0 and T = 1 have the
    number of '+ L_adv', 67.6: either it takes unlabelled images, too, or these rows do not. It
    would be 'adv+semi' with `semi_weight` 0.) 'semi' is L_semi by a D that nobody fools (Table 6).
    'self_training' is our control of what D's choice is worth: no D, L_semi at the points where
    softmax is surest (`self_training_by`).
  * `reduction`: 'sum' is the equations as printed. Default 'mean': L_ce divided by the labelled
    pixels of the global batch, L_adv by D's decisions on labelled or on unlabelled images, L_semi
    by those on unlabelled images whether selected or not (`semi_normaliser`), so that the
    learning rate does not depend on sizes. D's own loss is the mean of its two halves always.
  * `map_stride`: D sees maps of the image's size (1: "to match the size of the input image"), or
    of every so many pixels; L_semi is taken of the points of D's maps.
  * what is not labelled is zero in D's maps of labelled images, and D's decisions there count
    nowhere. Of unlabelled images only padding is masked so: nobody knows their void.
  * unlabelled images come in after `semi_start` steps, for L_adv and L_semi (section 5: "we start
    the semi-supervised learning after training for 5000 iterations with labeled data").
  * `classifier_multiplier`: gin/methods/hung.gin lets the last layer learn 10 times as fast, as in
    DeepLabv2's own recipe; this paper does not say.
  * weight decay is on convolution kernels that are not depthwise; the code's is on biases as well.
  * `label_maps.kind = 'scaling'` is "the Scale scheme [29]" of section 4.2: truths diffused.
  * batch norm that is live normalises labelled and unlabelled images together; the code has a pass
    of the segmentor for either kind (`separate_passes`, hung/separate_passes.py).

`published_code` names ways in which the authors' code differs, each alone or all; see
`PUBLISHED_CODE`. `adversarial_decay` and `adversarial_limit` are ours, against a discriminator that
wins.
"""
import tensorflow as tf

from tf_advseg.adversaries import label_maps
from tf_advseg.losses import adversarial
from tf_advseg.losses import self_taught
from tf_advseg.methods import step_parts
from tf_advseg.methods import two_networks
from tf_advseg.methods.hung import map_points
from tf_advseg.methods.hung import separate_passes
from tf_advseg.training import loss_scale

SUPERVISED, ADVERSARIAL, SEMI = 'supervised', 'unlabelled_adversarial', 'unlabelled'


class Hung(two_networks.TwoNetworks):
    """Segmentor and discriminator, moved by one step.

    Args:
      segmentor: see `step_parts.Method`.
      discriminator: maps [B, h', w', C] -> logits [B, h', w'] (fully convolutional) or [B], above 0
        for the truth; None in self-training.
      optimizer, discriminator_optimizer: tf.keras optimizers, one a network; built here.
      encoding: `label_maps.LabelMaps`.
      settings: `hung_settings.Settings`.
      steps: int, of the training, which `adversarial_decay` is over.
      name: of a method that is built on this one.
    """

    default_phase = SUPERVISED

    def __init__(self, segmentor, discriminator, optimizer, discriminator_optimizer, encoding,
                 settings, steps, name='hung'):
        super().__init__(segmentor, discriminator, optimizer, discriminator_optimizer,
                         settings.pixel_loss, name)
        self.encoding = encoding
        self.settings = settings
        self.steps = int(steps)
        self.map_stride = settings.map_stride

    @property
    def phases(self):
        """dict: the joint step without and with unlabelled images."""
        return {SUPERVISED: self.supervised_step, ADVERSARIAL: self.adversarial_step,
                SEMI: self.semi_supervised_step}

    def phase_optimizer(self, phase):
        """The segmentor's: a step moves both, and both optimizers count alike."""
        return self.optimizer

    @property
    def batch_needs(self):
        """See `step_parts.BatchNeeds`."""
        settings, judged = self.settings, self.discriminator is not None
        return step_parts.BatchNeeds(settings.independent_ground_truth and judged,
                                     settings.unlabelled_batch_size,
                                     unpadded_truths=settings.unpadded_truths and judged,
                                     evenly=settings.separate_passes)

    @property
    def identity(self):
        """See `objective.Objective.identity`."""
        return {**super().identity, self.name: self.settings.identity}

    @property
    def about(self):
        """See `objective.Objective.about`."""
        return self.settings.about()

    @property
    def judges_points(self):
        """bool: whether there is a discriminator that decides for every point of its maps."""
        return getattr(self.discriminator, 'decides', None) == 'pixel'

    def logits(self, batch, seed):
        """See `objective.Objective.logits`; where `separate_passes` asks for it, of two passes."""
        if not self.settings.separate_passes or 'labeled' not in batch:
            return super().logits(batch, seed)
        return separate_passes.logits(super().logits, batch, seed)

    # --- what the discriminator sees ------------------------------------------------------

    def points(self, batch, logits):
        """The points of D's maps.

        Returns:
          (the segmentor's logits there, float32 [b, h', w', C]; bool [b, h', w'], which points
          count of labelled images, and which of unlabelled ones).
        """
        logits = map_points.on_grid(logits, tf.shape(batch['label'])[1:3], self.map_stride)
        valid = map_points.points_of(map_points.valid_of(batch), logits)
        labelled = map_points.labelled_of(batch)[:, None, None]
        others = tf.logical_not(labelled)
        if self.settings.mask_predictions:
            others = tf.logical_and(others, valid)
        else:
            others = tf.broadcast_to(others, tf.shape(valid))
        return logits, tf.logical_and(labelled, valid), others

    def fake_maps(self, batch, logits):
        """The prediction's probabilities, zero at points that do not count."""
        grid = map_points.on_grid(logits, tf.shape(batch['label'])[1:3], self.map_stride)
        valid = map_points.valid_of(batch)
        if not self.settings.mask_predictions:
            valid = tf.ones_like(valid)
        return self.encoding.fake(batch['image'], map_points.as_labels(valid), grid)

    def shown_maps(self, batch, logits):
        """See `step_parts.Method.shown_maps`."""
        return self.encoding.pair(batch['label'], map_points.on_grid(
            logits, tf.shape(batch['label'])[1:3], self.map_stride))

    def real_maps(self, batch, logits):
        """(the truths' maps; bool [b, h', w'], which of their points count).

        Args:
          batch: a replica's share; its 'truth', where independent ground truth is asked for, are
            labels of other crops.
          logits: the segmentor's on the grid of the maps.
        """
        labels = batch['truth'] if self.settings.independent_ground_truth else batch['label']
        counted = map_points.points_of(tf.not_equal(labels, label_maps.IGNORE_LABEL), logits)
        counted = tf.logical_and(counted, map_points.labelled_of(batch)[:, None, None])
        return self.encoding.real(batch['image'], labels, logits), counted

    # --- the losses -----------------------------------------------------------------------

    def adversarial_loss(self, batch, logits):
        """A replica's share of L_adv (eq. 4) of the labelled images, and D's logits."""
        _, labelled, _ = self.points(batch, logits)
        z = self.discriminator(self.fake_maps(batch, logits), training=True)
        return self._reduced(adversarial.non_saturating(z), map_points.decisions(z, labelled)), z

    def terms(self, batch, logits, seed):
        """L_adv alone, for the diagnostics: the joint steps have terms of their own (`_step`)."""
        del seed
        return {'adv': (1.0, self.adversarial_loss(batch, logits)[0])}, {}

    def _reduced(self, losses, counted):
        """A replica's share of losses at the decisions that count, by `reduction`."""
        if self.settings.reduction == 'sum':
            return tf.reduce_sum(losses * counted)
        return two_networks.counted_mean(losses, counted)

    def selected(self, logits, z, others, seed):
        """Where L_semi is taken: bool [b, h', w'], constant.

        Args:
          logits: on the grid of D's maps.
          z: D's logits of these predictions, or None in self-training.
          others: bool [b, h', w'], the points of unlabelled images.
          seed: int32 [2], of points that are drawn.
        """
        settings = self.settings
        if settings.terms != 'self_training':
            found = self_taught.selected_by_discriminator(z, others, settings.threshold)
            if settings.selected_by == 'as_many_by_softmax':
                return self_taught.selected_surest(logits, others, self_taught.counts(found))
            if settings.selected_by == 'as_many_at_random':
                return self_taught.selected_at_random(
                    others, self_taught.share_of(found, others), step_parts.replicas_own(seed, 2))
            return found
        if settings.self_training_by == 'random':
            return self_taught.selected_at_random(others, settings.self_training_share,
                                                  step_parts.replicas_own(seed, 2))
        if settings.self_training_by == 'share':
            return self_taught.selected_share(logits, others, settings.self_training_share)
        return self_taught.selected_by_softmax(logits, others, settings.self_training_threshold)

    def semi_loss(self, logits, selected, others):
        """A replica's share of L_semi (eq. 5).

        Args:
          logits: on the grid of D's maps, float32 [b, h', w', C].
          selected, others: bool [b, h', w'].

        Returns:
          (the share; float32 scalar, the share of the unlabelled points that is selected, of the
          global batch).
        """
        sums, counts = self_taught.self_taught_cross_entropy(logits, selected)
        chosen = step_parts.global_sum(tf.reduce_sum(counts))
        total = step_parts.global_sum(tf.reduce_sum(tf.cast(others, tf.float32)))
        share = tf.math.divide_no_nan(chosen, total)
        if self.settings.reduction == 'sum':
            return tf.reduce_sum(sums), share
        normaliser = chosen if self.settings.semi_normaliser == 'selected' else total
        return tf.math.divide_no_nan(tf.reduce_sum(sums), normaliser), share

    def discriminator_loss(self, real, fake, counted_real, counted_fake):
        """A replica's share of L_D (eq. 1): the mean over truths and that over predictions, halved.

        Args:
          real, fake: D's logits, [b, h', w'] or [b].
          counted_real, counted_fake: float32 of these shapes.
        """
        return 0.5 * (
            two_networks.counted_mean(
                adversarial.binary_cross_entropy(real, tf.ones_like(real)), counted_real)
            + two_networks.counted_mean(
                adversarial.binary_cross_entropy(fake, tf.zeros_like(fake)), counted_fake))

    def adversarial_scale(self):
        """What is left of lambda_adv at this step: 1, or (1 - t / T)^0.9 where it decays."""
        if self.settings.adversarial_decay == 'constant':
            return tf.constant(1.0)
        done = tf.cast(self.optimizer.iterations, tf.float32) / float(self.steps)
        return tf.maximum(1.0 - done, 0.0) ** 0.9

    def supervised_step(self, batch, seed):
        """One step of both networks on labelled images: L_ce and L_adv.

        Args:
          batch: global batch's share, see WORKSPACE.md; unlabelled images in it give nothing.
          seed: int32 [2], for dropout.

        Returns:
          {'loss/ce', 'loss/total', 'weights/norm'} and, where there is a discriminator,
          {'loss/adv', 'loss/disc', 'disc/acc_real', 'disc/acc_fake', 'disc/fooled',
          'adv/weight'}: shares of the decisions that count; 'disc/fooled' of those on labelled
          predictions; 'adv/weight' is lambda_adv as it was used.
        """
        return self._step(batch, seed, False, False)

    def adversarial_step(self, batch, seed):
        """`supervised_step`, with L_adv of unlabelled images: 'loss/adv_unlabelled', too."""
        return self._step(batch, seed, True, False)

    def semi_supervised_step(self, batch, seed):
        """`adversarial_step`, with L_semi: 'loss/semi' and 'semi/selected' (a share), too."""
        return self._step(batch, seed, True, True)

    def _step(self, batch, seed, unlabelled, self_taught_too):
        """A joint step; the segmentor's gradient is through D as it was before the step."""
        moves = []

        def terms(logits):
            found, logged, move = self._joint_terms(batch, logits, seed, unlabelled,
                                                    self_taught_too)
            moves.append(move)
            return found, logged

        return self._descend(batch, seed, terms, also=lambda: moves[0]())

    def _joint_terms(self, batch, logits, seed, unlabelled, self_taught_too):
        """(the weighted terms, what else is logged, function() that moves D)."""
        grid, labelled, others = self.points(batch, logits)
        if not unlabelled:  # they are no fakes either
            others = tf.zeros_like(others)
        found, logged, z, share = {}, {}, None, None

        def move():
            return ()

        if self.discriminator is not None:
            judge = self.discriminator.trainable_variables
            with loss_scale.Tape(self.precision, self.discriminator_optimizer,
                                 watch_accessed_variables=False) as own:
                own.watch(judge)
                z = self.discriminator(self.fake_maps(batch, logits), training=True)
                disc = self._judged(batch, grid, z, labelled, others, logged)
            gradients = own.gradient(disc, judge)

            def move():
                step_parts.apply_gradients(self.discriminator_optimizer, gradients, judge)
                return judge
        semi = None
        if self_taught_too:
            semi, share = self.semi_loss(grid, self.selected(grid, z, others, seed), others)
        if self.discriminator is not None:
            found.update(self._adversarial_terms(batch, logits, seed, z, labelled,
                                                 others if unlabelled else None, share))
            if 'adv' in found:
                logged['adv/weight'] = step_parts.share(found['adv'][0])
        if semi is not None:
            found['semi'] = self.settings.semi_weight, semi
            logged['semi/selected'] = step_parts.share(share)
        return found, logged, move

    def _adversarial_terms(self, batch, logits, seed, z, labelled, others, share):
        """L_adv of both kinds of images, as `objective.Objective.terms` has them."""
        settings, scale = self.settings, self.adversarial_scale()
        losses = adversarial.non_saturating(z)
        weight, weight_more = (scale * value for value in settings.adversarial_weights)
        found = {'adv': (weight, self._reduced(losses, map_points.decisions(z, labelled)))}
        if others is not None:
            if settings.early_out and settings.semi_weight and share is not None:
                weight_more *= tf.cast(share > 0, tf.float32)
            found['adv_unlabelled'] = weight_more, self._reduced(
                losses, map_points.decisions(z, others))
        if settings.adversarial_limit is None:
            return found
        factor = self._limiting_factor(batch, logits, seed, labelled, others, found)
        return {name: (factor * weight, term) for name, (weight, term) in found.items()}

    def _limiting_factor(self, batch, logits, seed, labelled, others, found):
        """What `adversarial_limit` leaves of the weights: both gradients are in the logits."""
        with loss_scale.Tape(self.precision, self.optimizer, persistent=True) as tape:
            tape.watch(logits)
            ce = self.supervised(logits, batch, seed)
            losses = adversarial.non_saturating(
                self.discriminator(self.fake_maps(batch, logits), training=True))
            term = found['adv'][0] * self._reduced(losses, map_points.decisions(losses, labelled))
            if others is not None:
                term += found['adv_unlabelled'][0] * self._reduced(
                    losses, map_points.decisions(losses, others))
        return tf.stop_gradient(step_parts.limiting_factor(
            tape.gradient(ce, logits), tape.gradient(term, logits),
            self.settings.adversarial_limit))

    def _judged(self, batch, grid, fake, labelled, others, logged):
        """A replica's share of L_D, with `logged` filled."""
        maps, truths = self.real_maps(batch, tf.stop_gradient(grid))
        real = self.discriminator(tf.stop_gradient(maps), training=True)
        seen = labelled
        if self.settings.discriminator_fakes == 'all':
            seen = tf.logical_or(labelled, others)
        counted_real = map_points.decisions(real, truths)
        counted_fake = map_points.decisions(fake, seen)
        loss = self.discriminator_loss(real, fake, counted_real, counted_fake)
        logged.update({
            'loss/disc': loss,
            'disc/acc_real': map_points.share(real > 0, counted_real),
            'disc/acc_fake': map_points.share(fake <= 0, counted_fake),
            'disc/fooled': map_points.share(fake > 0, map_points.decisions(fake, labelled))})
        return loss
