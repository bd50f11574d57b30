"""What a segmentor minimises, once: its step, the control's step and the diagnostics come from it.

    L = L_ce + sum_i w_i L_i + weight decay

A method says what L_ce is and gives its further terms; the control is the same without them.
"""
import tensorflow as tf

from tf_advseg.methods import step_parts
from tf_advseg.models import segmentor as segmentors


class Objective(step_parts.Method):
    """A method whose segmentor minimises cross-entropy and further terms.

    Args:
      segmentor: see `step_parts.Method`.
      optimizer: of the segmentor, a tf.keras optimizer; built here.
      l2_weight: weight decay on the segmentor's convolution kernels that are not depthwise, in
        slim's sense (w / 2 times the sum of squares).
      name: the method's.

    Attributes:
      multipliers: on the segmentor's gradients, from `step_parts.gradient_multipliers`, or None.
    """

    def __init__(self, segmentor, optimizer, l2_weight, name):
        super().__init__(segmentor, name=name)
        self.optimizer = optimizer
        self.l2_weight = float(l2_weight)
        self.multipliers = None
        optimizer.build(segmentor.trainable_variables)

    # --- what a method defines ------------------------------------------------------------

    def cross_entropy(self, logits, batch, seed):
        """L_ce: a replica's share of the pixel-wise loss, float32 scalar."""
        raise NotImplementedError('a method has a pixel-wise loss')

    def terms(self, batch, logits, seed, **scalars):
        """The further terms.

        Args:
          batch: a replica's share of the global batch.
          logits: the segmentor's, float32 [b, h', w', C].
          seed: int32 [2].
          **scalars: what the step is handed, float32 scalars; none where gradients are compared.

        Returns:
          ({name: (weight, a replica's share of the term)}; {name: a replica's share of another
          scalar that the step logs}).
        """
        raise NotImplementedError('a method has further terms')

    # --- what comes of it -----------------------------------------------------------------

    def logits(self, batch, seed):
        """The segmentor's logits in training mode, float32 [b, h', w', C]."""
        return segmentors.apply(self.segmentor, batch['image'], training=True, dropout_seed=seed)

    def decay(self):
        """A replica's share of the weight decay."""
        if not self.l2_weight:
            return 0.0
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        return step_parts.l2_loss(segmentors.decayed_kernels(self.segmentor), self.l2_weight) / replicas

    def segmentor_step(self, batch, seed, **scalars):
        """One step of the segmentor on the whole objective.

        Args:
          batch: a replica's share of the global batch.
          seed: int32 [2], for dropout and whatever else the method draws.
          **scalars: see `terms`.

        Returns:
          {'loss/ce', 'loss/<term>' (unweighted), 'loss/total', what `terms` adds, 'weights/norm'}.
        """
        return self._descend(batch, seed, lambda logits: self.terms(batch, logits, seed, **scalars))

    def cross_entropy_step(self, batch, seed, **scalars):
        """The control's step: the same without the further terms; `scalars` are not looked at."""
        del scalars
        return self._descend(batch, seed, lambda logits: ({}, {}))

    def _descend(self, batch, seed, terms):
        variables = self.segmentor.trainable_variables
        with tf.GradientTape() as tape:
            logits = self.logits(batch, seed)
            ce = self.cross_entropy(logits, batch, seed)
            found, logged = terms(logits)
            loss = ce
            for weight, share in found.values():
                loss += weight * share
            loss += self.decay()
        step_parts.apply_gradients(self.optimizer, tape.gradient(loss, variables), variables,
                             self.multipliers)
        return step_parts.globally({
            'loss/ce': ce, **{f'loss/{name}': share for name, (_, share) in found.items()},
            'loss/total': loss, **logged, 'weights/norm': step_parts.weights_norm(variables)})

    def gradient_balance(self, batch, seed):
        """Norms and cosines of each further term's gradient and CE's, weights left out.

        See `step_parts.gradient_balance`, whose names have 'adv' in the place of the term.
        """
        with tf.GradientTape(persistent=True) as tape:
            with step_parts.statistics_kept(self.segmentor):
                logits = self.logits(batch, seed)
            ce = self.cross_entropy(logits, batch, seed)
            terms, _ = self.terms(batch, logits, seed)
        found = {}
        for term, (_, loss) in terms.items():
            balance = step_parts.gradient_balance(tape, ce, loss, self.segmentor.trainable_variables)
            found.update({name.replace('adv', term): value for name, value in balance.items()})
        return found
