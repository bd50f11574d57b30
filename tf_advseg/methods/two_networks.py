"""What the methods share in which a segmentor and an adversary take turns.

The segmentor's step is `objective.Objective`'s; here is what a run writes down of two networks.
"""
import tensorflow as tf

from tf_advseg.methods import objective
from tf_advseg.methods import step_parts


class TwoNetworks(objective.Objective):
    """A segmentor, an adversary, one step for each; subclasses define the losses.

    Args:
      segmentor: see DESIGN.md ("Segmentor").
      adversary: a Keras model; None makes the control.
      optimizer, adversary_optimizer: tf.keras optimizers, one a network; built here.
      l2_weight: weight decay on the segmentor's convolution kernels that are not depthwise.
      name: the method's.
    """

    def __init__(self, segmentor, adversary, optimizer, adversary_optimizer, l2_weight, name):
        super().__init__(segmentor, optimizer, l2_weight, name)
        self.adversary = adversary
        self.adversary_optimizer = adversary_optimizer
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
        """See `step_parts.Method.state`."""
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

    def fake_maps(self, batch, logits):
        """What the adversary sees of a prediction: float32 [b, h'', w'', channels]."""
        raise NotImplementedError('a method shows its adversary something')

    def adversarial_loss(self, batch, logits):
        """(a replica's share of the segmentor's adversarial loss, the adversary's logits)."""
        raise NotImplementedError('a method has an adversarial loss')

    def adversary_step(self, batch, seed):
        """One step of the adversary."""
        raise NotImplementedError('a method has a step of its adversary')

    def fixed_logits(self, batch, seed):
        """`logits` for the adversary's step: no gradient, and no statistics moved."""
        with step_parts.statistics_kept(self.segmentor):
            return tf.stop_gradient(self.logits(batch, seed))


def counted_mean(values, counted):
    """A replica's share of the mean of an adversary's decisions that count.

    Args:
      values: float32 of any shape.
      counted: float32 of that shape, 1 where a decision counts; none of them gives 0.
    """
    return tf.math.divide_no_nan(tf.reduce_sum(values * counted),
                                 step_parts.global_sum(tf.reduce_sum(counted)))


def pictures(tensor):
    """float32 scalar: pictures of the global batch; at least 1, for an empty shard."""
    return tf.maximum(step_parts.global_sum(tf.cast(tf.shape(tensor)[0], tf.float32)), 1.0)
