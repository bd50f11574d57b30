"""The optimizers of the stages with two networks, by gin."""
import gin

from tf_advseg.core import configuration
from tf_advseg.training import optimizers
from tf_advseg.training import schedules


@gin.configurable(denylist=['steps'])
def segmentor_optimizer(steps, name='sgd', learning_rate=1e-3, momentum=0.9, nesterov=False,
                        schedule='constant'):
    """The segmentor's optimizer.

    Args:
      steps: of the segmentor, which a schedule is over (see `schedules.make_schedule`); None where
        nobody knows how many there will be.
      name, learning_rate, momentum, nesterov: see `optimizers.make_optimizer`.
      schedule: 'constant', 'poly' or 'step'.

    Raises:
      UserError: a value out of range.
    """
    where = 'segmentor_optimizer'
    rate = schedules.make_schedule(schedule, learning_rate, steps, where)
    return optimizers.make_optimizer(name, rate, momentum, nesterov, where=where)


@gin.configurable(denylist=['steps'])
def discriminator_optimizer(steps, name='sgd', learning_rate=1e-3, momentum=0.9, nesterov=False,
                            schedule='constant', beta_1=0.9, beta_2=0.999):
    """The discriminator's optimizer; schedules as in `stage_one`, over its own `steps`.

    `momentum` and `nesterov` are SGD's, `beta_1` and `beta_2` Adam's.
    """
    where = 'discriminator_optimizer'
    rate = schedules.make_schedule(schedule, learning_rate, steps, where)
    return optimizers.make_optimizer(name, rate, momentum, nesterov, where=where, beta_1=beta_1,
                                     beta_2=beta_2)


@gin.configurable(denylist=['steps'])
def reconstruction_optimizer(steps, name='adam', learning_rate=2e-4, momentum=0.0,
                             schedule='constant', beta_1=0.5, beta_2=0.999):
    """The optimizer of the generator that reconstructs images (Zhu et al., phase 1).

    Adam is the paper's (section 4.2); its rate and betas are pix2pix's, none are printed. The
    discriminator's is `discriminator_optimizer`.
    """
    where = 'reconstruction_optimizer'
    rate = schedules.make_schedule(schedule, learning_rate, steps, where)
    return optimizers.make_optimizer(name, rate, momentum, where=where, beta_1=beta_1,
                                     beta_2=beta_2)


configuration.renamed(adversary_optimizer='discriminator_optimizer',
                      generator_optimizer='segmentor_optimizer')
