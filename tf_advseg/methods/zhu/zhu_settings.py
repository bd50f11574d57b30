"""The settings of Zhu et al.'s method: of the GAN that redraws pictures, and of its use."""
import dataclasses
from typing import Optional

import gin

from tf_advseg.core import arguments
from tf_advseg.core import errors
from tf_advseg.methods import step_parts

GAN, WGAN = 'gan', 'wgan'
FORMS = (GAN, WGAN)
LIPSCHITZ = ('clip', 'penalty')
GENERATOR_SEES = ('mask', 'mask_and_picture')
DISCRIMINATOR_SEES = ('mask', 'picture', 'nothing')
DECISIONS = ('mean', 'each')
CONDITIONS = ('prediction', 'truth')
NAMES = {GAN: 'SegGAN', WGAN: 'SegWGAN'}


@dataclasses.dataclass(frozen=True)
class GanSettings:
    """See `zhu_gan`."""
    form: str
    lipschitz: str
    clip: float
    penalty_weight: float
    critic_steps: int
    content_weight: float
    generator_sees: str
    discriminator_sees: str
    decision: str
    map_stride: int

    @property
    def of_use(self):
        """dict: what phase 2 has to have alike."""
        return {name: getattr(self, name) for name in
                ('form', 'generator_sees', 'discriminator_sees', 'decision', 'map_stride')}

    @property
    def identity(self):
        """dict: all that phase 1 hangs on, JSON-able."""
        return dataclasses.asdict(self)

    def condition_channels(self, num_classes):
        """Channels of what the discriminator is given beside a picture."""
        return {'mask': num_classes, 'picture': 3, 'nothing': 0}[self.discriminator_sees]

    def about(self):
        """A few words for a reader, without a stop."""
        gives = {'mask': 'the mask', 'mask_and_picture': 'the mask and the picture itself'}
        beside = {'mask': ', beside the mask', 'picture': ', beside the original', 'nothing': ''}
        form = 'conventional GAN' if self.form == GAN else (
            'Wasserstein GAN, ' + (f'weights clipped to {self.clip:g}' if self.lipschitz == 'clip'
                                   else f'gradient penalty {self.penalty_weight:g}'))
        return (f'{form}; redraws from {gives[self.generator_sees]} every {self.map_stride}. pixel; '
                f'its discriminator sees a picture{beside[self.discriminator_sees]}')


@dataclasses.dataclass(frozen=True)
class Settings:
    """See `zhu`."""
    content_weight: float
    adversarial_weight: float
    reduction: str
    condition: str
    l2_weight: float


@gin.configurable
def zhu_gan(form=GAN, lipschitz='clip', clip=0.01, penalty_weight=10.0,
            critic_steps: Optional[int] = None, content_weight=100.0, generator_sees='mask',
            discriminator_sees='mask', decision='mean', map_stride=1):
    """The GAN of phase 1. Where the paper is silent or contradicts itself, the choice is said here.

    Args:
      form: 'gan' (eqs 5 and 7; SegGAN) or 'wgan' (eq. 6 and losses/wasserstein.py; SegWGAN).
      lipschitz: of 'wgan': 'clip' as in the paper that it adopts ([14], Arjovsky et al. 2017), or
        'penalty' on the gradient (Gulrajani et al. 2017), which allows no batch norm in the critic.
      clip: each weight of the critic stays within this of 0 ([14], Algorithm 1: 0.01).
      penalty_weight: 10 in Gulrajani et al.
      critic_steps: steps of the discriminator for one of the generator; None is 1 for 'gan' (eqs
        12 and 13: one batch moves both), and 5 for 'wgan' ([14], Algorithm 1).
      content_weight: 100 (eq. 16; eq. 12 has none). l_C is a mean over pixels and colours of
        pictures in [-1, 1], as in pix2pix, whose 100 it is.
      generator_sees: 'mask' (eqs 4 and 10), or 'mask_and_picture' (section 3.1: "takes
        simultaneously output of predictions layer p_seg and original image I"), which it can copy.
      discriminator_sees: beside a picture: the 'mask' (eqs 7 and 8, and pix2pix), the original
        'picture' (eq. 11), or 'nothing' (eq. 1).
      decision: 'mean': D is the mean of its responses (section 3.1), before the logistic function;
        'each': a loss a response, then their mean, as pix2pix's code has it. In 'wgan' the same.
      map_stride: pixels of the picture from one point of masks and redrawn pictures to the next: 1
        in the paper; 2 takes a quarter of the arithmetic (pictures are averaged first).

    Returns:
      GanSettings.

    Raises:
      UserError: a value out of range.
    """
    for name, value, allowed in (('form', form, FORMS), ('lipschitz', lipschitz, LIPSCHITZ),
                                 ('generator_sees', generator_sees, GENERATOR_SEES),
                                 ('discriminator_sees', discriminator_sees, DISCRIMINATOR_SEES),
                                 ('decision', decision, DECISIONS)):
        errors.require_one_of(f'zhu_gan.{name}', value, allowed)
    arguments.require_number('zhu_gan', 'clip', clip, above=0, hint='0.01 in Arjovsky et al.')
    for name, value in (('penalty_weight', penalty_weight), ('content_weight', content_weight)):
        arguments.require_number('zhu_gan', name, value, least=0)
    if critic_steps is None:
        critic_steps = 1 if form == GAN else 5
    for name, value in (('critic_steps', critic_steps), ('map_stride', map_stride)):
        arguments.require_number('zhu_gan', name, value, least=1, whole=True)
    return GanSettings(form, lipschitz, float(clip), float(penalty_weight), critic_steps,
                       float(content_weight), generator_sees, discriminator_sees, decision,
                       map_stride)


@gin.configurable
def zhu(content_weight=0.1, adversarial_weight=0.1, reduction='mean', condition='prediction',
        l2_weight=0.0):
    """Phase 2: what the frozen GAN's losses count for in the segmentor's.

    Args:
      content_weight, adversarial_weight: lambda_1 and lambda_2 (eq. 2), 0.1 each in section 4.2.
      reduction: 'mean': l_S is a mean over labelled pixels, l_C over these and colours, l_A over
        pictures. 'sum': l_S and l_C are sums over pixels and colours and means over pictures, as
        eqs 3 and 4 are printed; the learning rate has to follow.
      condition: where the discriminator sees a mask: the 'prediction' that the picture was redrawn
        from (eq. 14 puts it in the truth's place), or the 'truth'.
      l2_weight: weight decay in slim's sense; none is printed.

    Returns:
      Settings.

    Raises:
      UserError: a value out of range.
    """
    errors.require_one_of('zhu.reduction', reduction, step_parts.REDUCTIONS)
    errors.require_one_of('zhu.condition', condition, CONDITIONS)
    for name, value in (('content_weight', content_weight),
                        ('adversarial_weight', adversarial_weight), ('l2_weight', l2_weight)):
        arguments.require_number('zhu', name, value, least=0)
    return Settings(float(content_weight), float(adversarial_weight), reduction, condition,
                    float(l2_weight))
