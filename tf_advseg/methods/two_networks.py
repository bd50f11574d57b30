"""What the methods share in which a segmentor and an adversary take turns.

Each method's own file has its two steps and its losses; here are what a run writes down, the
control's step and the two gradients' comparison, which are the same in all of them.
"""
import tensorflow as tf

from tf_advseg.methods import base
from tf_advseg.models import segmentor as segmentors


class TwoNetworks(base.Method):
    """A segmentor, an adversary, one step for each; subclasses define the losses.

    Args:
      segmentor: see DESIGN.md ("Segmentor").
      adversary: a Keras model; None makes the control.
      optimizer, adversary_optimizer: tf.keras optimizers, one a network; built here.
      l2_weight: weight decay on the segmentor's convolution kernels that are not depthwise.
      name: the method's.

    Attributes:
      multipliers: on the segmentor's gradients, from `base.gradient_multipliers`, or None.
    """

    def __init__(self, segmentor, adversary, optimizer, adversary_optimizer, l2_weight, name):
        super().__init__(segmentor, name=name)
        self.adversary = adversary
        self.optimizer = optimizer
        self.adversary_optimizer = adversary_optimizer
        self.l2_weight = float(l2_weight)
        self.multipliers = None
        optimizer.build(segmentor.trainable_variables)
        if adversary is None:
            self.default_phase = 'cross_entropy'
        else:
            adversary_optimizer.build(adversary.trainable_variables)

    @property
    def phases(self):
        """dict: 'cross_entropy' (the control), 'segmentor', 'adversary'."""
        steps = {'cross_entropy': self.cross_entropy_step}
        if self.adversary is not None:
            steps.update(segmentor=self.segmentor_step, adversary=self.adversary_step)
        return steps

    @property
    def state(self):
        """See `base.Method.state`."""
        state = super().state
        if self.adversary is not None:
            state.update(adversary=self.adversary, adversary_optimizer=self.adversary_optimizer)
        return state

    def phase_optimizer(self, phase):
        """The optimizer of a phase."""
        return self.adversary_optimizer if phase == 'adversary' else self.optimizer

    @property
    def identity(self):
        """dict, JSON-able: settings that stages written before they were there do not know of."""
        return {}

    @property
    def second_truths(self):
        """bool: whether batches need 'truth', see data/mixed.py."""
        return False

    @property
    def judges_points(self):
        """bool: whether the adversary's map is a confidence in every point, to be measured."""
        return False

    @property
    def compares_gradients(self):
        """bool: whether there are two gradients for `gradient_balance`."""
        return self.adversary is not None

    @property
    def about(self):
        """A few words for a reader: what tells this run of the method from others."""
        raise NotImplementedError('a method says what it is')

    def cross_entropy(self, logits, batch, seed):
        """A replica's share of the pixel-wise loss: float32 scalar."""
        raise NotImplementedError('a method has a pixel-wise loss')

    def fake_maps(self, batch, logits):
        """What the adversary sees of a prediction: float32 [b, h'', w'', channels]."""
        raise NotImplementedError('a method shows its adversary something')

    def adversarial_loss(self, batch, logits):
        """(a replica's share of the segmentor's adversarial loss, the adversary's logits)."""
        raise NotImplementedError('a method has an adversarial loss')

    def further_terms(self, batch, logits, seed):
        """{name: a replica's share} of what the segmentor minimises beside CE, unweighted."""
        del seed
        return {'adv': self.adversarial_loss(batch, logits)[0]}

    def segmentor_step(self, batch, seed):
        """One step of the segmentor on both losses."""
        raise NotImplementedError('a method has a step of its segmentor')

    def adversary_step(self, batch, seed):
        """One step of the adversary."""
        raise NotImplementedError('a method has a step of its adversary')

    def logits(self, batch, seed):
        """The segmentor's logits in training mode, float32 [b, h', w', C]."""
        return segmentors.apply(self.segmentor, batch['image'], training=True, dropout_seed=seed)

    def fixed_logits(self, batch, seed):
        """`logits` for the adversary's step: no gradient, and no statistics moved."""
        with base.statistics_kept(self.segmentor):
            return tf.stop_gradient(self.logits(batch, seed))

    def decay(self):
        """A replica's share of the weight decay."""
        if not self.l2_weight:
            return 0.0
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        return base.l2_loss(segmentors.decayed_kernels(self.segmentor), self.l2_weight) / replicas

    def cross_entropy_step(self, batch, seed):
        """The control's step: the segmentor's without the adversarial term."""
        variables = self.segmentor.trainable_variables
        with tf.GradientTape() as tape:
            ce = self.cross_entropy(self.logits(batch, seed), batch, seed)
            loss = ce + self.decay()
        base.apply_gradients(self.optimizer, tape.gradient(loss, variables), variables,
                             self.multipliers)
        return base.globally({'loss/ce': ce, 'loss/total': loss,
                              'weights/norm': base.weights_norm(variables)})

    def gradient_balance(self, batch, seed):
        """Norms and cosines of each further term's gradient and CE's, lambda left out.

        See `base.gradient_balance`, whose names have 'adv' in the place of the term.
        """
        with tf.GradientTape(persistent=True) as tape:
            with base.statistics_kept(self.segmentor):
                logits = self.logits(batch, seed)
            ce = self.cross_entropy(logits, batch, seed)
            terms = self.further_terms(batch, logits, seed)
        found = {}
        for term, loss in terms.items():
            balance = base.gradient_balance(tape, ce, loss, self.segmentor.trainable_variables)
            found.update({name.replace('adv', term): value for name, value in balance.items()})
        return found


def counted_mean(values, counted):
    """A replica's share of the mean of an adversary's decisions that count.

    Args:
      values: float32 of any shape.
      counted: float32 of that shape, 1 where a decision counts; none of them gives 0.
    """
    return tf.math.divide_no_nan(tf.reduce_sum(values * counted),
                                 base.global_sum(tf.reduce_sum(counted)))


def pictures(tensor):
    """float32 scalar: pictures of the global batch; at least 1, for an empty shard."""
    return tf.maximum(base.global_sum(tf.cast(tf.shape(tensor)[0], tf.float32)), 1.0)
