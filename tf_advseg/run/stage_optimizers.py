"""The optimizers of the stages with two networks, by gin."""
import dataclasses
from typing import Optional

import gin

from tf_advseg.core import arguments
from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.training import optimizers
from tf_advseg.training import schedules

# Which optimizers read a setting.
_READ_BY = {'momentum': ('sgd', 'momentum'), 'nesterov': ('sgd', 'momentum'),
            'beta_1': ('adam', 'adamw'), 'beta_2': ('adam', 'adamw'), 'weight_decay': ('adamw',),
            'clip_norm': optimizers.OPTIMIZERS}


@dataclasses.dataclass(frozen=True)
class _Settings:
    """The settings of one network's optimizer.

    Attributes:
      name, learning_rate: see `optimizers.make_optimizer`.
      momentum: of 'sgd' and 'momentum'; None: 0.9 there (0 for the reconstruction).
      nesterov: of 'sgd' and 'momentum'.
      schedule: 'constant', 'poly', 'step' or 'cosine', over the network's own steps; its settings
        are those of gin scope `<network>_optimizer` (see `schedules.make_schedule`).
      beta_1, beta_2: of 'adam' and 'adamw'; None: 0.9 (0.5 for the reconstruction) and 0.999
        there.
      clip_norm, weight_decay: see `optimizers.make_optimizer`.

    Raises:
      UserError: a value out of range, or one that the chosen optimizer or schedule does not read.
    """
    name: str = 'sgd'
    learning_rate: float = 1e-3
    momentum: Optional[float] = None
    nesterov: Optional[bool] = None
    schedule: str = 'constant'
    beta_1: Optional[float] = None
    beta_2: Optional[float] = None
    clip_norm: Optional[float] = None
    weight_decay: Optional[float] = None

    where = 'optimizer'  # what gin calls these settings
    defaults = {'momentum': 0.9}

    def __post_init__(self):
        where = self.where
        errors.require_one_of(f'{where}.name', self.name, optimizers.OPTIMIZERS)
        if self.nesterov is not None:
            arguments.require_flag(where, 'nesterov', self.nesterov)
        for setting, readers in _READ_BY.items():
            value = getattr(self, setting)
            if self.name not in readers and value not in (None, False):
                raise errors.UserError(
                    f'{where}.{setting} = {value!r} has no effect on the optimizer {self.name}: '
                    f'only {" and ".join(readers)} read it; set it to None')
        for schedule, function in schedules.SCHEDULES.items():
            idle = configuration.scoped_bindings(where, function.__name__)
            if idle and schedule != self.schedule:
                raise errors.UserError(
                    f'{idle[0]} has no effect with {where}.schedule = {self.schedule!r}; leave it '
                    f'out, or take {schedule!r}')

    def build(self, steps):
        """The optimizer.

        Args:
          steps: of the network, which a schedule is over; None where nobody knows how many there
            will be.

        Raises:
          UserError: a value out of range, or a schedule over unknown steps.
        """
        rate = schedules.make_schedule(self.schedule, self.learning_rate, steps, self.where)
        given = {setting: getattr(self, setting) for setting, readers in _READ_BY.items()
                 if self.name in readers and getattr(self, setting) is not None}
        return optimizers.make_optimizer(self.name, rate, where=self.where,
                                         **{**self.defaults, **given})


class SegmentorOptimizer(_Settings):
    """The settings of the segmentor's optimizer; see `_Settings`."""
    where = 'segmentor_optimizer'


class DiscriminatorOptimizer(_Settings):
    """The settings of the discriminator's optimizer; see `_Settings`."""
    where = 'discriminator_optimizer'


@dataclasses.dataclass(frozen=True)
class ReconstructionOptimizer(_Settings):
    """The optimizer of the generator that reconstructs images (Zhu et al., phase 1).

    Adam is the paper's (section 4.2); its rate and betas are pix2pix's, none are printed. The
    discriminator's settings are `DiscriminatorOptimizer`.
    """
    name: str = 'adam'
    learning_rate: float = 2e-4

    where = 'reconstruction_optimizer'
    defaults = {'momentum': 0.0, 'beta_1': 0.5}


def _registered(settings):
    return gin.external_configurable(settings, name=settings.where,
                                     module='tf_advseg.run.stage_optimizers')


_SEGMENTOR, _DISCRIMINATOR, _RECONSTRUCTION = map(
    _registered, (SegmentorOptimizer, DiscriminatorOptimizer, ReconstructionOptimizer))


def check():
    """Raises UserError for settings of either network that are out of range or have no effect."""
    _SEGMENTOR()
    _DISCRIMINATOR()


def segmentor_optimizer(steps, **settings):
    """The segmentor's optimizer over its `steps`; see `_Settings`, of which `settings` go first."""
    return _SEGMENTOR(**settings).build(steps)


def discriminator_optimizer(steps, **settings):
    """The discriminator's optimizer over its own `steps`; see `_Settings`."""
    return _DISCRIMINATOR(**settings).build(steps)


def reconstruction_optimizer(steps, **settings):
    """The optimizer of Zhu's generator over its `steps`; see `ReconstructionOptimizer`."""
    return _RECONSTRUCTION(**settings).build(steps)


configuration.renamed(adversary_optimizer='discriminator_optimizer',
                      generator_optimizer='segmentor_optimizer')
