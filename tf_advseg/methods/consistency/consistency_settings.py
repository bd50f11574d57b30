"""The settings of the method `consistency`."""
import dataclasses
from typing import Optional

import gin

from tf_advseg.core import arguments
from tf_advseg.core import errors
from tf_advseg.data.augmentation import classmix as classmix_lib
from tf_advseg.data.augmentation import cutmix as cutmix_lib
from tf_advseg.methods import step_parts
from tf_advseg.methods.hung import hung_settings

SELECTIONS = ('all', 'softmax', 'share', 'share_of_classes', 'random', 'discriminator',
              'softmax+discriminator', 'as_many_by_softmax')
FAKES = ('labelled', 'all', 'teacher')
NORMALISERS = ('all', 'selected')
# What a setting needs to have an effect: a selection that names it.
_OF_SELECTION = {'threshold': ('softmax', 'softmax+discriminator'),
                 'share': ('share', 'share_of_classes', 'random'),
                 'discriminator_threshold': ('discriminator', 'softmax+discriminator',
                                             'as_many_by_softmax'),
                 'discriminator_share': ('discriminator', 'softmax+discriminator',
                                         'as_many_by_softmax')}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a run of `methods.consistency.consistency.Consistency`.

    Attributes:
      selection: which points of the teacher's prediction are learnt from: 'all', those whose
        largest probability is above `threshold` ('softmax'), the surest `share` of each image, or
        of each class in it ('share_of_classes'),
        those that a discriminator (Hung et al.'s, trained beside) takes for a truth
        ('discriminator'), or those that both softmax and discriminator select. Two are to compare
        with: 'random' draws a `share` of the points; 'as_many_by_softmax' takes the surest ones, in
        each image as many as the discriminator would.
      threshold: of the largest probability.
      share: of an image's points, or of each class's; of 'random' the probability of each.
      discriminator_threshold: T of Hung et al.'s eq. 5.
      discriminator_share: in the place of a threshold: of an image's points the share that the
        discriminator is most convinced by. None for the threshold.
      soft_targets: the teacher's probabilities are the target; False: its class.
      weight: of the term, once it has risen.
      ramp_up: steps over which the weight rises, see `losses.two_views.ramp_up`; below 1 a share
        of the stage's steps.
      start: steps before unlabelled images come in; below 1 a share of the stage's steps.
      decay: of the teacher, see `training.teacher.MeanTeacher`.
      normaliser: the term is divided by 'all' points of the unlabelled images, or by the 'selected'
        ones.
      cutmix: the probability that an unlabelled image gets a box of another one; 0 for none.
      cutmix_most: the largest share of the image's area that a box takes.
      classmix: in the place of cutmix: the probability that an unlabelled image gets half of the
        classes that the teacher names in another one (Olsson et al. 2021, there 1); 0 for none.
      map_stride: pixels from one point to the next at which the term is taken, and of the maps that
        a discriminator sees.
      adversarial_weight, unlabelled_adversarial_weight: lambda_adv of labelled and of unlabelled
        images, as Hung et al.'s; both 0: no adversarial term. None as the second is a tenth of the
        first, as theirs.
      discriminator_fakes: which maps the discriminator learns to tell from truths: the student's of
        'labelled' images, its of 'all' images (the strong views of unlabelled ones, so cut and
        mixed), or the 'teacher''s of the plain views of labelled ones, which are of the kind that
        it selects from; before `start`, without plain views, the student's.
      reduction, l2_weight, classifier_multiplier: of the pixel-wise loss, see there.
      unlabelled_batch_size: unlabelled images of a step; None for as many as labelled ones.

    Raises:
      UserError: a value out of range, or one that has no effect with this selection.
    """
    selection: str = 'softmax'
    threshold: float = 0.9
    share: float = 0.7
    discriminator_threshold: float = 0.2
    discriminator_share: Optional[float] = None
    soft_targets: bool = False
    weight: float = 1.0
    ramp_up: float = 0.1
    start: float = 0
    decay: float = 0.99
    normaliser: str = 'all'
    cutmix: float = 0.5
    cutmix_most: float = 0.4
    classmix: float = 0.0
    map_stride: int = 4
    adversarial_weight: float = 0.0
    unlabelled_adversarial_weight: Optional[float] = None
    discriminator_fakes: str = 'labelled'
    reduction: str = 'mean'
    l2_weight: float = 1e-4
    classifier_multiplier: float = 1.0
    unlabelled_batch_size: Optional[int] = None

    def __post_init__(self):
        where = 'consistency'
        errors.require_one_of(f'{where}.selection', self.selection, SELECTIONS)
        errors.require_one_of(f'{where}.normaliser', self.normaliser, NORMALISERS)
        errors.require_one_of(f'{where}.discriminator_fakes', self.discriminator_fakes, FAKES)
        errors.require_one_of(f'{where}.reduction', self.reduction, step_parts.REDUCTIONS)
        if self.unlabelled_adversarial_weight is None:
            object.__setattr__(self, 'unlabelled_adversarial_weight', self.adversarial_weight / 10)
        for name in ('adversarial_weight', 'unlabelled_adversarial_weight', 'l2_weight'):
            arguments.require_number(where, name, getattr(self, name), least=0)
        arguments.require_number(where, 'classifier_multiplier', self.classifier_multiplier,
                                 above=0)
        arguments.require_number(where, 'map_stride', self.map_stride, least=1, whole=True)
        if self.unlabelled_batch_size is not None:
            arguments.require_number(where, 'unlabelled_batch_size', self.unlabelled_batch_size,
                                     least=1, whole=True)
        for name in ('threshold', 'share', 'discriminator_threshold'):
            arguments.require_number(where, name, getattr(self, name), least=0, most=1)
        if self.discriminator_share is not None:
            arguments.require_number(where, 'discriminator_share', self.discriminator_share,
                                     least=0, most=1)
        for name in ('cutmix', 'classmix'):
            arguments.require_number(where, name, getattr(self, name), least=0, most=1)
        arguments.require_number(where, 'cutmix_most', self.cutmix_most,
                                 least=cutmix_lib.CutMix.least, most=1)
        arguments.require_number(where, 'weight', self.weight, least=0)
        arguments.require_number(where, 'decay', self.decay, least=0, below=1)
        arguments.require_flag(where, 'soft_targets', self.soft_targets)
        for name in ('ramp_up', 'start'):
            value = getattr(self, name)
            kind = {'below': 1} if isinstance(value, float) else {'whole': True}
            arguments.require_number(where, name, value, least=0, **kind,
                                     hint="whole steps, or a share of the stage's such as 0.1")
        self._require_effect(where)

    def _require_effect(self, where):
        """UserError for a setting that is given and changes nothing."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name, selections in _OF_SELECTION.items():
            if self.selection not in selections and getattr(self, name) != defaults[name]:
                raise errors.UserError(
                    f'{where}.{name} = {getattr(self, name)!r} has no effect with {where}.selection'
                    f' = {self.selection!r}; leave it out, or select by {selections[0]!r}')
        if self.discriminator_share is not None and self.discriminator_threshold != defaults[
                'discriminator_threshold']:
            raise errors.UserError(
                f'{where}.discriminator_threshold = {self.discriminator_threshold!r} has no effect '
                f'with {where}.discriminator_share = {self.discriminator_share!r}; leave one out')
        if not self.cutmix and self.cutmix_most != defaults['cutmix_most']:
            raise errors.UserError(f'{where}.cutmix_most = {self.cutmix_most!r} has no effect with '
                                   f'{where}.cutmix = 0; leave it out')
        if self.reduction == 'sum' and self.normaliser != defaults['normaliser']:
            raise errors.UserError(f'{where}.normaliser = {self.normaliser!r} has no effect with '
                                   f"{where}.reduction = 'sum', which divides by nothing; leave it "
                                   'out')
        if self.cutmix and self.classmix:
            raise errors.UserError(f'{where}.classmix = {self.classmix!r} and {where}.cutmix = '
                                   f'{self.cutmix!r}: an image is mixed in one way; set one to 0')
        if not self.needs_discriminator and self.discriminator_fakes != 'labelled':
            raise errors.UserError(f'{where}.discriminator_fakes = {self.discriminator_fakes!r} '
                                   'has no effect: this selection has no discriminator, and no '
                                   'adversarial weight is above 0; leave it out')

    @property
    def by_discriminator(self):
        """bool: whether a discriminator takes part in the selection."""
        return 'discriminator' in self.selection or self.selection == 'as_many_by_softmax'

    @property
    def adversarial(self):
        """bool: whether there is an adversarial term."""
        return bool(self.adversarial_weight or self.unlabelled_adversarial_weight)

    @property
    def needs_discriminator(self):
        """bool: whether a discriminator is trained."""
        return self.by_discriminator or self.adversarial

    @property
    def two_views(self):
        """`classmix.ClassMix` or `cutmix.CutMix` of these settings."""
        if self.classmix:
            return classmix_lib.ClassMix(self.classmix)
        return cutmix_lib.CutMix(self.cutmix, most=self.cutmix_most)

    @property
    def of_hung(self):
        """`hung_settings.Settings` of the discriminator that is trained beside."""
        return hung_settings.Settings(
            terms='adv+semi' if self.adversarial else 'semi',
            adversarial_weight=self.adversarial_weight,
            unlabelled_adversarial_weight=self.unlabelled_adversarial_weight,
            threshold=self.discriminator_threshold, semi_start=0, reduction=self.reduction,
            discriminator_fakes='all' if self.discriminator_fakes == 'all' else 'labelled',
            map_stride=self.map_stride,
            l2_weight=self.l2_weight, classifier_multiplier=self.classifier_multiplier,
            unlabelled_batch_size=self.unlabelled_batch_size)

    @property
    def pixel_loss(self):
        """`objective.PixelLoss` of these settings."""
        return self.of_hung.pixel_loss

    @property
    def identity(self):
        """dict, JSON-able; without what came later and is not in use: older runs go on."""
        later = {'classmix': 0.0, 'discriminator_share': None}
        return {name: value for name, value in dataclasses.asdict(self).items()
                if name not in later or value != later[name]}

    def in_steps(self, name, steps):
        """`ramp_up` or `start` in steps of a stage that has so many."""
        value = getattr(self, name)
        return round(value * steps) if isinstance(value, float) else value

    def where(self):
        """Which points are learnt from, as 'where it is sure by more than 0.9'."""
        convinced = f'takes it for a truth by more than {self.discriminator_threshold:g}'
        if self.discriminator_share is not None:
            convinced = ('is most convinced by it: at '
                         f'{100 * self.discriminator_share:g} % of an image\'s points')
        return {
            'all': 'at all points',
            'softmax': f'where it is sure by more than {self.threshold:g}',
            'share': f'at the surest {100 * self.share:g} % of an image\'s points',
            'share_of_classes': f'at the surest {100 * self.share:g} % of an image\'s points of '
                                'each class',
            'random': f'at {100 * self.share:g} % of the points, drawn',
            'as_many_by_softmax': 'at its surest points, as many as those where a discriminator '
                                  + convinced,
            'discriminator': f'where a discriminator {convinced}',
            'softmax+discriminator': f'where it is sure by more than {self.threshold:g} and a '
                                     f'discriminator {convinced}'}[self.selection]

    def about(self):
        """A sentence or two for a reader, without the last stop."""
        views = 'in their strong view'
        if self.cutmix:
            views += ', cut and mixed'
        if self.classmix:
            views += ', with half of the classes of another one in them'
        terms = ['L_ce, cross-entropy on labelled images',
                 f'on unlabelled ones, {views}, cross-entropy with what the mean teacher (decay '
                 f'{self.decay:g}) predicts of the plain view, {self.where()}']
        if self.adversarial:
            terms.append('L_adv, which a discriminator is to take the predictions for truths by')
        return '; '.join(terms)


OF_THE_METHOD_ALONE = tuple(field.name for field in dataclasses.fields(Settings)
                            if field.name not in ('reduction', 'l2_weight',
                                                  'classifier_multiplier'))

consistency = gin.external_configurable(Settings, name='consistency',
                                        module='tf_advseg.methods')
