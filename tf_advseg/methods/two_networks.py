"""What the methods share in which a segmentor and a discriminator learn.

The segmentor's step is `objective.Objective`'s; here are the second network's step, its batch of
fixed predictions, and what a run writes down of the two.
"""
import tensorflow as tf

from tf_advseg.methods import objective
from tf_advseg.methods import step_parts
from tf_advseg.training import loss_scale


class TwoNetworks(objective.Objective):
    """A segmentor, a discriminator, one step for each; subclasses define the losses.

    Args:
      segmentor: see `step_parts.Method`.
      discriminator: a Keras model, or None where a method trains none.
      optimizer, discriminator_optimizer: tf.keras optimizers, one a network; built here.
      pixel_loss: `objective.PixelLoss`.
      name: the method's.
    """

    batch_needs = step_parts.BatchNeeds()

    def __init__(self, segmentor, discriminator, optimizer, discriminator_optimizer, pixel_loss,
                 name):
        super().__init__(segmentor, optimizer, pixel_loss, name)
        self.discriminator = discriminator
        self.discriminator_optimizer = discriminator_optimizer
        if discriminator is not None:
            loss_scale.prepare(self.precision, discriminator_optimizer)
            discriminator_optimizer.build(discriminator.trainable_variables)

    @property
    def phases(self):
        """dict: 'segmentor', 'discriminator'."""
        return {'segmentor': self.segmentor_step, 'discriminator': self.discriminator_step}

    @property
    def state(self):
        """See `step_parts.Method.state`."""
        state = super().state
        if self.discriminator is not None:
            state.update(discriminator=self.discriminator,
                         discriminator_optimizer=self.discriminator_optimizer)
        return state

    def phase_optimizer(self, phase):
        """The optimizer of a phase."""
        return self.discriminator_optimizer if phase == 'discriminator' else self.optimizer

    @property
    def compares_gradients(self):
        """bool: whether there are two gradients for `gradient_balance`."""
        return self.discriminator is not None

    def fake_maps(self, batch, logits):
        """What the discriminator sees of a prediction: float32 [b, h'', w'', channels]."""
        raise NotImplementedError('a method shows its discriminator something')

    def discriminator_loss(self, batch, logits):
        """What the discriminator minimises.

        Args:
          batch: a replica's share of the global batch.
          logits: the segmentor's, float32 [b, h', w', C], constant here.

        Returns:
          (a replica's share of the loss; {name: a replica's share of another scalar}, to be
          logged).
        """
        raise NotImplementedError('a method has a loss of its discriminator')

    def discriminator_step(self, batch, seed):
        """One step of the discriminator on the batch's truths and the segmentor's predictions.

        Args:
          batch: a replica's share of the global batch.
          seed: int32 [2], of the segmentor's dropout.

        Returns:
          {'loss/disc', what `discriminator_loss` adds, 'weights/norm'}.
        """
        logits = self.fixed_logits(batch, seed)
        variables = self.discriminator.trainable_variables
        with loss_scale.Tape(self.precision, self.discriminator_optimizer) as tape:
            loss, logged = self.discriminator_loss(batch, logits)
        step_parts.apply_gradients(self.discriminator_optimizer, tape.gradient(loss, variables),
                                   variables)
        return step_parts.globally({'loss/disc': loss, **logged,
                                    'weights/norm': step_parts.weights_norm(variables)})

    def fixed_logits(self, batch, seed):
        """`logits` for the discriminator's step: no gradient, and no statistics moved."""
        with step_parts.statistics_kept(self.segmentor):
            return tf.stop_gradient(self.logits(batch, seed))


def counted_mean(values, counted):
    """A replica's share of the mean of a discriminator's decisions that count.

    Args:
      values: float32 of any shape.
      counted: float32 of that shape, 1 where a decision counts; none of them gives 0.
    """
    return tf.math.divide_no_nan(tf.reduce_sum(values * counted),
                                 step_parts.global_sum(tf.reduce_sum(counted)))
