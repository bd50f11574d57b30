"""The settings of Zhu et al.'s method: of the GAN that reconstructs images, and of its use."""
import dataclasses
from typing import Optional

import gin

from tf_advseg.core import arguments
from tf_advseg.core import errors
from tf_advseg.methods import objective
from tf_advseg.methods import step_parts

GAN, WGAN = 'gan', 'wgan'
FORMS = (GAN, WGAN)
LIPSCHITZ = ('clip', 'penalty')
CLIPPED = ('all', 'kernels')
GENERATOR_SEES = ('mask', 'mask_and_image')
DISCRIMINATOR_SEES = ('mask', 'image', 'nothing')
DECISIONS = ('mean', 'each')
CONDITIONS = ('prediction', 'truth')
NAMES = {GAN: 'SegGAN', WGAN: 'SegWGAN'}


@dataclasses.dataclass(frozen=True)
class GanSettings:
    """The GAN of phase 1. Where the paper is silent or contradicts itself, the choice is said here.

    Attributes:
      form: 'gan' (eqs 5 and 7; SegGAN) or 'wgan' (eq. 6 and losses/wasserstein.py; SegWGAN).
      lipschitz: of 'wgan': 'clip' as in the paper that it adopts ([14], Arjovsky et al. 2017), or
        'penalty' on the gradient (Gulrajani et al. 2017), which allows no batch norm in the critic.
      clip: each weight of the critic stays within this of 0 ([14], Algorithm 1: 0.01).
      clipped: 'all' weights, as there, or the 'kernels' alone: batch norm's scales start from 1, and
        within 0.01 of 0 they keep every response within about 0.2, so that phase 2 hardly hears
        such a critic.
      penalty_weight: 10 in Gulrajani et al.
      critic_steps: steps of the discriminator for one of the generator; None is 1 for 'gan' (eqs
        12 and 13: one batch moves both), and 5 for 'wgan' ([14], Algorithm 1).
      content_weight: 100 (eq. 16; eq. 12 has none). l_C is a mean over pixels and colours of
        images in [-1, 1], as in pix2pix, whose 100 it is.
      generator_sees: 'mask' (eqs 4 and 10), or 'mask_and_image' (section 3.1: "takes
        simultaneously output of predictions layer p_seg and original image I"), which it can copy.
      discriminator_sees: beside an image: the 'mask' (eqs 7 and 8, and pix2pix), the original
        'image' (eq. 11), or 'nothing' (eq. 1).
      decision: 'mean': D is the mean of its responses (section 3.1), before the logistic function;
        'each': a loss a response, then their mean, as pix2pix's code has it. In 'wgan' the same.
      map_stride: pixels of the image from one point of masks and reconstructed images to the next:
        1 in the paper; 2 takes a quarter of the arithmetic (images are averaged first).
      bottleneck: the stride of the segmentor's logits, to show true masks as soft as it can draw
        them (adversaries/bottleneck.py); None shows them sharp, as in the paper.

    Raises:
      UserError: a value out of range.
    """
    form: str = GAN
    lipschitz: str = 'clip'
    clip: float = 0.01
    clipped: str = 'all'
    penalty_weight: float = 10.0
    critic_steps: Optional[int] = None
    content_weight: float = 100.0
    generator_sees: str = 'mask'
    discriminator_sees: str = 'mask'
    decision: str = 'mean'
    map_stride: int = 1
    bottleneck: Optional[int] = None

    def __post_init__(self):
        if self.bottleneck is not None:
            arguments.require_number('zhu_gan', 'bottleneck', self.bottleneck, least=1, whole=True,
                                     hint="the stride of the segmentor's logits, or None")
        for name, allowed in (('form', FORMS), ('lipschitz', LIPSCHITZ), ('clipped', CLIPPED),
                              ('generator_sees', GENERATOR_SEES),
                              ('discriminator_sees', DISCRIMINATOR_SEES),
                              ('decision', DECISIONS)):
            errors.require_one_of(f'zhu_gan.{name}', getattr(self, name), allowed)
        arguments.require_number('zhu_gan', 'clip', self.clip, above=0,
                                 hint='0.01 in Arjovsky et al.')
        if self.clipped != 'all' and (self.form, self.lipschitz) != (WGAN, 'clip'):
            raise errors.UserError(f'zhu_gan.clipped = {self.clipped!r} has no effect: nothing is '
                                   f'clipped with zhu_gan.form = {self.form!r} and zhu_gan.lipschitz '
                                   f'= {self.lipschitz!r}; leave it out')
        if self.critic_steps is None:
            object.__setattr__(self, 'critic_steps', 1 if self.form == GAN else 5)
        for name in ('penalty_weight', 'content_weight'):
            arguments.require_number('zhu_gan', name, getattr(self, name), least=0)
        for name in ('critic_steps', 'map_stride'):
            arguments.require_number('zhu_gan', name, getattr(self, name), least=1, whole=True)
        for name in ('clip', 'penalty_weight', 'content_weight'):
            object.__setattr__(self, name, float(getattr(self, name)))

    @property
    def of_use(self):
        """dict: what phase 2 has to have alike."""
        return {name: getattr(self, name) for name in
                ('form', 'generator_sees', 'discriminator_sees', 'decision', 'map_stride',
                 'bottleneck')}

    @property
    def identity(self):
        """dict: all that phase 1 depends on, JSON-able."""
        return {name: value for name, value in dataclasses.asdict(self).items()
                if (name, value) != ('clipped', 'all')}  # came later than runs that go on

    def condition_channels(self, num_classes):
        """Channels of what the discriminator is given beside an image."""
        return {'mask': num_classes, 'image': 3, 'nothing': 0}[self.discriminator_sees]

    def about(self):
        """A few words for a reader, without a stop."""
        gives = {'mask': 'the mask', 'mask_and_image': 'the mask and the image itself'}
        beside = {'mask': ', beside the mask', 'image': ', beside the original', 'nothing': ''}
        form = 'conventional GAN' if self.form == GAN else (
            'Wasserstein GAN, ' + (f'{"weights" if self.clipped == "all" else "kernels"} clipped to '
                                   f'{self.clip:g}' if self.lipschitz == 'clip'
                                   else f'gradient penalty {self.penalty_weight:g}'))
        return (f'{form}; reconstructs from {gives[self.generator_sees]} every {self.map_stride}. '
                f'pixel; its discriminator sees an image{beside[self.discriminator_sees]}')


@dataclasses.dataclass(frozen=True)
class Settings:
    """Phase 2: what the frozen GAN's losses count for in the segmentor's.

    Attributes:
      content_weight, adversarial_weight: lambda_1 and lambda_2 (eq. 2), 0.1 each in section 4.2.
      reduction: 'mean': l_S is a mean over labelled pixels, l_C over these and colours, l_A over
        images. 'sum': l_S and l_C are sums over pixels and colours and means over images, as
        eqs 3 and 4 are printed; the learning rate has to follow.
      condition: where the discriminator sees a mask: the 'prediction' that the image was
        reconstructed from (eq. 14 puts it in the truth's place), or the 'truth'.
      l2_weight: weight decay in slim's sense; none is printed.

    Raises:
      UserError: a value out of range.
    """
    content_weight: float = 0.1
    adversarial_weight: float = 0.1
    reduction: str = 'mean'
    condition: str = 'prediction'
    l2_weight: float = 0.0

    def __post_init__(self):
        errors.require_one_of('zhu.reduction', self.reduction, step_parts.REDUCTIONS)
        errors.require_one_of('zhu.condition', self.condition, CONDITIONS)
        for name in ('content_weight', 'adversarial_weight', 'l2_weight'):
            arguments.require_number('zhu', name, getattr(self, name), least=0)
            object.__setattr__(self, name, float(getattr(self, name)))

    @property
    def pixel_loss(self):
        """`objective.PixelLoss` of these settings: l_S (eq. 3)."""
        return objective.PixelLoss('mean_of_sums' if self.reduction == 'sum' else self.reduction,
                                   l2_weight=self.l2_weight)


zhu_gan = gin.external_configurable(GanSettings, name='zhu_gan', module='tf_advseg.methods')
zhu = gin.external_configurable(Settings, name='zhu', module='tf_advseg.methods')
