"""Hung et al. (2018), "Adversarial Learning for Semi-Supervised Semantic Segmentation": its step.

    segmentor:      L_ce + lambda_adv L_adv + lambda_semi L_semi                          eq. 2
      L_ce          cross-entropy, of labelled pictures                                   eq. 3
      L_adv         -sum log D(S(X)), of labelled and, with a smaller weight, others      eq. 4
      L_semi        -sum I(D(S(X)) > T) log S(X)_c*, c* = argmax S(X), of the others      eq. 5
    discriminator:  -sum log(1 - D(S(X))) - sum log D(Y), "only with the labeled data"    eq. 1

"We update both the segmentation network and discriminator network jointly": a step makes the
predictions once, and moves both networks by them. Which network D is, adversaries/
fully_convolutional.py has; how labelled and unlabelled pictures share a batch, data/mixed.py; which
pictures count as labelled, run/semi_supervised.py; the self-taught loss and what selects
its points, losses/self_taught.py.

Where the paper is silent or leaves a choice, this is what we chose (settings of `hung`):
  * `terms`: '+ L_adv' of Tables 1 and 2 takes L_adv of labelled pictures alone ('adv'); unlabelled
    ones come in with L_semi ('adv+semi'). (Table 5's rows lambda_semi = 0 and T = 1 have the
    number of '+ L_adv', 67.6: either it takes unlabelled pictures, too, or these rows do not. It
    would be 'adv+semi' with `semi_weight` 0.) 'semi' is L_semi by a D that nobody fools (Table 6).
    'self_training' is our control of what D's choice is worth: no D, L_semi at the points where
    softmax is surest (`self_training_by`).
  * `reduction`: 'sum' is the equations as printed. Default 'mean': L_ce divided by the labelled
    pixels of the global batch, L_adv by D's decisions on labelled or on unlabelled pictures, L_semi
    by those on unlabelled pictures whether selected or not (`semi_normaliser`), so that the
    learning rate does not hang on sizes. D's own loss is the mean of its two halves always.
  * `map_stride`: D sees maps of the picture's size (1: "to match the size of the input image"), or
    of every so many pixels; L_semi is taken of the points of D's maps.
  * what is not labelled is zero in D's maps of labelled pictures, and D's decisions there count
    nowhere. Of unlabelled pictures only padding is masked so: nobody knows their void.
  * unlabelled pictures come in after `semi_start` steps, for L_adv and L_semi (section 5: "we start
    the semi-supervised learning after training for 5000 iterations with labeled data").
  * `classifier_multiplier`: gin/methods/hung.gin lets the last layer learn 10 times as fast, as in
    DeepLabv2's own recipe; this paper does not say.
  * weight decay is on convolution kernels that are not depthwise; the code's is on biases as well.
  * `label_maps.kind = 'scaling'` is "the Scale scheme [29]" of section 4.2: truths diffused.
  * batch norm that is live is not split by kind of picture: batches are normalised as they come.

`published_code` names ways in which the authors' code differs, each alone or all; see
`PUBLISHED_CODE`. `adversarial_decay` and `adversarial_limit` are ours, against a discriminator that
wins.
"""
import dataclasses

import tensorflow as tf

from tf_advseg.adversaries import label_maps
from tf_advseg.losses import adversarial
from tf_advseg.losses import self_taught
from tf_advseg.methods import step_parts
from tf_advseg.methods import two_networks
from tf_advseg.models import resize

SUPERVISED, ADVERSARIAL, SEMI = 'supervised', 'unlabelled_adversarial', 'unlabelled'


class Hung(two_networks.TwoNetworks):
    """Segmentor and discriminator, moved by one step.

    Args:
      segmentor: see DESIGN.md ("Segmentor").
      adversary: maps [B, h', w', C] -> logits [B, h', w'] (fully convolutional) or [B], above 0 for
        the truth. None makes the control ("our baseline") or self-training.
      optimizer, adversary_optimizer: tf.keras optimizers, one a network; built here.
      encoding: `label_maps.LabelMaps`.
      settings: `hung_settings.Settings`.
      steps: int, of the training, which `adversarial_decay` is over.
    """

    def __init__(self, segmentor, adversary, optimizer, adversary_optimizer, encoding, settings,
                 steps):
        super().__init__(segmentor, adversary, optimizer, adversary_optimizer, settings.l2_weight,
                         'hung')
        self.default_phase = SUPERVISED
        self.encoding = encoding
        self.settings = settings
        self.steps = int(steps)
        self.map_stride = settings.map_stride
        if settings.classifier_multiplier != 1.0:
            self.multipliers = step_parts.gradient_multipliers(
                segmentor, settings.classifier_multiplier, last_layers=step_parts.LOGITS_ONLY)

    @property
    def phases(self):
        """dict: 'cross_entropy' (the control), and the joint step without and with others."""
        return {'cross_entropy': self.cross_entropy_step, SUPERVISED: self.supervised_step,
                ADVERSARIAL: self.adversarial_step, SEMI: self.semi_supervised_step}

    def phase_optimizer(self, phase):
        """The segmentor's: a step moves both, and both optimizers count alike."""
        return self.optimizer

    @property
    def identity(self):
        """See `two_networks.TwoNetworks.identity`; the control's is what it hangs on alone."""
        if self._is_control:
            return {'hung': self.settings.of_control}
        return {'hung': dataclasses.asdict(self.settings)}

    @property
    def second_truths(self):
        """bool: whether batches need 'truth'; the control has no use for it."""
        return self.settings.second_truths and self.adversary is not None

    @property
    def about(self):
        """See `two_networks.TwoNetworks.about`."""
        return 'cross-entropy alone' if self._is_control else self.settings.about()

    @property
    def _is_control(self):
        return self.adversary is None and self.adversary_optimizer is None

    @property
    def judges_points(self):
        """bool: whether there is a discriminator that decides for every point of its maps."""
        return getattr(self.adversary, 'decides', None) == 'pixel'

    # --- what the discriminator sees ------------------------------------------------------

    def cross_entropy(self, logits, batch, seed):
        """A replica's share of L_ce (eq. 3), at the picture's resolution."""
        return step_parts.pixel_loss(logits, batch['label'], self.settings.reduction)

    def points(self, batch, logits):
        """The points of D's maps.

        Returns:
          (the segmentor's logits there, float32 [b, h', w', C]; bool [b, h', w'], which points
          count of labelled pictures, and which of unlabelled ones).
        """
        logits = on_grid(logits, tf.shape(batch['label'])[1:3], self.map_stride)
        valid = _points_of(_valid(batch), logits)
        labelled = _labelled(batch)[:, None, None]
        others = tf.logical_not(labelled)
        if self.settings.mask_predictions:
            others = tf.logical_and(others, valid)
        else:
            others = tf.broadcast_to(others, tf.shape(valid))
        return logits, tf.logical_and(labelled, valid), others

    def fake_maps(self, batch, logits):
        """The prediction's probabilities, zero at points that do not count."""
        grid = on_grid(logits, tf.shape(batch['label'])[1:3], self.map_stride)
        valid = _valid(batch)
        if not self.settings.mask_predictions:
            valid = tf.ones_like(valid)
        return self.encoding.fake(batch['image'], _as_labels(valid), grid)

    def real_maps(self, batch, logits):
        """(the truths' maps; bool [b, h', w'], which of their points count).

        Args:
          batch: a replica's share; its 'truth', where second truths are asked for, are labels of
            other crops.
          logits: the segmentor's on the grid of the maps.
        """
        labels = batch['truth'] if self.settings.second_truths else batch['label']
        counted = _points_of(tf.not_equal(labels, label_maps.IGNORE_LABEL), logits)
        counted = tf.logical_and(counted, _labelled(batch)[:, None, None])
        return self.encoding.real(batch['image'], labels, logits), counted

    # --- the losses -----------------------------------------------------------------------

    def adversarial_loss(self, batch, logits):
        """A replica's share of L_adv (eq. 4) of the labelled pictures, and D's logits."""
        _, labelled, _ = self.points(batch, logits)
        z = self.adversary(self.fake_maps(batch, logits), training=True)
        return self._reduced(adversarial.non_saturating(z), _decisions(z, labelled)), z

    def terms(self, batch, logits, seed):
        """L_adv alone, for the diagnostics: the joint steps have terms of their own (`_step`)."""
        del seed
        return {'adv': (1.0, self.adversarial_loss(batch, logits)[0])}, {}

    def _reduced(self, losses, counted):
        """A replica's share of losses at the decisions that count, by `reduction`."""
        if self.settings.reduction == 'sum':
            return tf.reduce_sum(losses * counted)
        return two_networks.counted_mean(losses, counted)

    def selected(self, logits, z, others):
        """Where L_semi is taken: bool [b, h', w'], constant.

        Args:
          logits: on the grid of D's maps.
          z: D's logits of these predictions, or None in self-training.
          others: bool [b, h', w'], the points of unlabelled pictures.
        """
        settings = self.settings
        if settings.terms != 'self_training':
            return self_taught.selected_by_discriminator(z, others, settings.threshold)
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
        """One step of both networks on labelled pictures: L_ce and L_adv.

        Args:
          batch: global batch's share, see DESIGN.md; unlabelled pictures in it give nothing.
          seed: int32 [2], for dropout.

        Returns:
          {'loss/ce', 'loss/total', 'weights/norm'} and, where there is a discriminator,
          {'loss/adv', 'loss/disc', 'disc/acc_real', 'disc/acc_fake', 'disc/fooled',
          'adv/weight'}: shares of the decisions that count; 'disc/fooled' of those on labelled
          predictions; 'adv/weight' is lambda_adv as it was used.
        """
        return self._step(batch, seed, False, False)

    def adversarial_step(self, batch, seed):
        """`supervised_step`, with L_adv of unlabelled pictures: 'loss/adv_unlabelled', too."""
        return self._step(batch, seed, True, False)

    def semi_supervised_step(self, batch, seed):
        """`adversarial_step`, with L_semi: 'loss/semi' and 'semi/selected' (a share), too."""
        return self._step(batch, seed, True, True)

    def _step(self, batch, seed, unlabelled, self_taught_too):
        """A joint step; the segmentor's gradient is through D as it was before the step."""
        variables, told = self.segmentor.trainable_variables, {}
        judge = [] if self.adversary is None else self.adversary.trainable_variables
        # Each tape watches one network: neither loss has a gradient in the other's variables.
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(variables)
            logits = self.logits(batch, seed)
            ce = self.cross_entropy(logits, batch, seed)
            grid, labelled, others = self.points(batch, logits)
            if not unlabelled:  # they are no fakes either
                others = tf.zeros_like(others)
            loss, z = ce + self.decay(), None
            if judge:
                maps = self.fake_maps(batch, logits)
                with tf.GradientTape(watch_accessed_variables=False) as own:
                    own.watch(judge)
                    z = self.adversary(maps, training=True)
                    disc = self._judged(batch, grid, z, labelled, others, told)
            semi, share = self.semi_loss(grid, self.selected(grid, z, others),
                                         others) if self_taught_too else (None, None)
            if judge:
                loss += self._adversarial_terms(tape, ce, logits, z, labelled,
                                                others if unlabelled else None, share, told)
            if semi is not None:
                loss += self.settings.semi_weight * semi
                told.update({'loss/semi': semi, 'semi/selected': step_parts.share(share)})
        gradients = tape.gradient(loss, variables)
        if judge:
            step_parts.apply_gradients(self.adversary_optimizer, own.gradient(disc, judge), judge)
        step_parts.apply_gradients(self.optimizer, gradients, variables, self.multipliers)
        return step_parts.globally({'loss/ce': ce, 'loss/total': loss, **told,
                              'weights/norm': step_parts.weights_norm([*variables, *judge])})

    def _adversarial_terms(self, tape, ce, logits, z, labelled, others, share, told):
        """A replica's share of the weighted L_adv of both kinds of pictures."""
        settings, scale = self.settings, self.adversarial_scale()
        losses = adversarial.non_saturating(z)
        adv = self._reduced(losses, _decisions(z, labelled))
        told['loss/adv'] = adv
        weight, weight_more = (scale * value for value in settings.adversarial_weights)
        term = weight * adv
        if others is not None:
            more = self._reduced(losses, _decisions(z, others))
            told['loss/adv_unlabelled'] = more
            if settings.early_out and settings.semi_weight and share is not None:
                weight_more *= tf.cast(share > 0, tf.float32)
            term += weight_more * more
        if settings.adversarial_limit is not None:
            with tape.stop_recording():
                factor = step_parts.limiting_factor(tape.gradient(ce, logits),
                                              tape.gradient(term, logits),
                                              settings.adversarial_limit)
            term, weight = factor * term, factor * weight
        told['adv/weight'] = step_parts.share(weight)
        return term

    def _judged(self, batch, grid, fake, labelled, others, told):
        """A replica's share of L_D, with `told` filled."""
        maps, truths = self.real_maps(batch, tf.stop_gradient(grid))
        real = self.adversary(tf.stop_gradient(maps), training=True)
        seen = labelled
        if self.settings.discriminator_fakes == 'all':
            seen = tf.logical_or(labelled, others)
        counted_real, counted_fake = _decisions(real, truths), _decisions(fake, seen)
        loss = self.discriminator_loss(real, fake, counted_real, counted_fake)
        told.update({
            'loss/disc': loss,
            'disc/acc_real': _share(real > 0, counted_real),
            'disc/acc_fake': _share(fake <= 0, counted_fake),
            'disc/fooled': _share(fake > 0, _decisions(fake, labelled))})
        return loss


def on_grid(logits, size, map_stride):
    """Logits at the points of D's maps: float32 [b, (h-1)//s+1, (w-1)//s+1, C].

    Args:
      logits: the segmentor's, [b, h', w', C].
      size: (h, w) of the picture, int32 [2].
      map_stride: s.
    """
    return resize.resize_bilinear(logits, (size - 1) // map_stride + 1)


def judged(adversary, logits, valid, map_stride=1, mask_predictions=True):
    """D's confidence map D(S(X)), in which brighter is nearer to the truths (Fig. 3).

    Args:
      adversary: a discriminator that decides for every point.
      logits: the segmentor's, float32 [b, h', w', C].
      valid: bool [b, h, w], the picture's own pixels; the others are zero in what D sees.
      map_stride: pixels from one point of D's maps to the next.
      mask_predictions: as D was trained; False shows it the prediction on padding, too.

    Returns:
      float32 [b, (h-1)//s+1, (w-1)//s+1], D's probability of "truth" at every point.
    """
    grid = on_grid(logits, tf.shape(valid)[1:3], map_stride)
    maps = tf.nn.softmax(tf.cast(grid, tf.float32))
    if mask_predictions:
        maps *= tf.cast(_points_of(valid, grid), tf.float32)[..., None]
    return tf.math.sigmoid(adversary(maps, training=False))


def _points_of(mask, logits):
    """A mask [b, h, w] at the points where logits [b, h', w', C] stand."""
    return label_maps.labels_at(tf.cast(mask, tf.int32), tf.shape(logits)[1:3]) > 0


def _valid(batch):
    """bool [b, h, w]: labelled pixels, and of unlabelled pictures their own."""
    if 'valid' in batch:
        return batch['valid']
    return tf.not_equal(batch['label'], label_maps.IGNORE_LABEL)


def _labelled(batch):
    """bool [b]: which pictures have labels; all in a batch that does not say."""
    if 'labeled' in batch:
        return batch['labeled']
    return tf.ones([tf.shape(batch['label'])[0]], tf.bool)


def _as_labels(valid):
    """int32 labels that `LabelMaps` takes for labelled just where `valid` is true."""
    return tf.where(valid, 0, label_maps.IGNORE_LABEL)


def _decisions(z, points):
    """Which of D's decisions count: float32 of z's shape, [b, h', w'] or [b].

    One decision a picture counts where any of its points does.
    """
    if z.shape.rank == 1:
        return tf.cast(tf.reduce_any(points, [1, 2]), tf.float32)
    return tf.cast(points, tf.float32)


def _share(said, counted):
    """A replica's part of how large a share of the decisions that count is true."""
    return two_networks.counted_mean(tf.cast(said, tf.float32), counted)
