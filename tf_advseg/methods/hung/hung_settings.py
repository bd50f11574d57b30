"""The settings of Hung et al.'s method: the paper's, and how the published code differs.

What the code does was found by reading it (github.com/hfslyc/AdvSemiSeg, train.py and
dataset/voc_dataset.py, of 2018); nothing of it is copied.
"""
import dataclasses
from typing import Optional, Union

import gin

from tf_advseg.core import arguments
from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.methods import objective
from tf_advseg.methods import step_parts

TERMS = ('adv', 'semi', 'adv+semi', 'self_training')
NORMALISERS = ('all', 'selected')
FAKES = ('labelled', 'all')
DECAYS = ('constant', 'poly')
SELECTIONS = ('threshold', 'share', 'random')
DISCRIMINATOR = 'discriminator'
SELECTED_BY = (DISCRIMINATOR, 'as_many_by_softmax', 'as_many_at_random')

# Deviation: (settings, what the code does). Those of other subpackages stand in
# gin/methods/hung_published_code.gin: an ASPP of two rates, no Nesterov momentum, trained batch
# norm, and crops alone.
PUBLISHED_CODE = {
    'weights': ({'adversarial_weight': 0.1},
                'lambda_adv 0.1 where nothing is given (its README gives the paper\'s 0.01)'),
    'weight_decay': ({'l2_weight': 5e-4}, 'weight decay 5e-4 where the paper has 1e-4'),
    'starts': ({'adversarial_start': 0},
               'L_adv of unlabelled images from the first step, L_semi alone after 5000'),
    'fakes': ({'discriminator_fakes': 'all'},
              'the discriminator learns from predictions of unlabelled images as well'),
    'independent_ground_truth': (
        {'independent_ground_truth': True},
        'its truths are of other images, cropped otherwise: an independent loader'),
    'normaliser': ({'semi_normaliser': 'selected'},
                   'L_semi is the mean over the selected pixels: few weigh as much as many'),
    'early_out': ({'early_out': True},
                  'where L_semi selects nothing, L_adv of unlabelled images is dropped, too'),
    'masks': ({'mask_predictions': False},
              'predictions reach the discriminator unmasked, and of unlabelled images the '
              'padding counts'),
    'separate_passes': (
        {'separate_passes': True},
        'unlabelled images pass the segmentor first, labelled ones then: live batch norm has '
        'statistics of each kind'),
    'unpadded_truths': (
        {'independent_ground_truth': True, 'unpadded_truths': True},
        'its truths are never padded: what is smaller than the crop is scaled up to it'),
}

# Settings that came later than runs that go on: no part of `Settings.identity` where they are off.
_LATER = ('separate_passes', 'unpadded_truths')

# The control is trained by these, too. `published_code` may set some of them.
_OF_THE_CONTROL = ('reduction', 'l2_weight', 'classifier_multiplier')


# The settings are many because the paper and its code differ in so many: gin names each.
@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a run of `methods.hung.hung.Hung`.

    Attributes:
      terms: what is learnt from beside L_ce: 'adv' (L_adv of labelled images), 'adv+semi' (L_adv
        of all and L_semi), 'semi' (L_semi alone: Table 6), 'self_training' (L_semi at points that
        softmax selects, with no discriminator: a control).
      adversarial_weight: lambda_adv of labelled images.
      unlabelled_adversarial_weight: lambda_adv of unlabelled ones.
      semi_weight: lambda_semi.
      threshold: T_semi; 0 selects everything, 1 nothing.
      selected_by: where L_semi is taken, the discriminator beside it being as it is: where the
        'discriminator' says, as the paper has it; or to compare with, in each image at as many
        points, the surest ('as_many_by_softmax') or drawn ones ('as_many_at_random'; replicas draw
        points of their own).
      semi_start: steps before unlabelled images come in; below 1 a share of the stage's steps.
      adversarial_start: the same of their coming in with L_adv; None for semi_start.
      reduction: 'mean' or 'sum', see the method's docstring.
      semi_normaliser: 'all' points of the unlabelled images, or the 'selected' ones.
      discriminator_fakes: predictions of 'labelled' images, or 'all'.
      independent_ground_truth: the discriminator's truths are of other labelled images, shuffled
        and cropped by themselves.
      early_out: see `PUBLISHED_CODE`.
      mask_predictions: unlabelled pixels and padding are zero in the maps of predictions.
      map_stride: int, pixels from one point of the discriminator's maps to the next.
      l2_weight: weight decay in slim's sense, on convolution kernels that are not depthwise.
      classifier_multiplier: on the gradient of the last layer, weight decay included.
      adversarial_decay: 'constant', or 'poly': lambda_adv of both kinds times (1 - t / T)^0.9.
      adversarial_limit: None, or how large the weighted adversarial gradient in the segmentor's
        logits may be, in those of cross-entropy; it is scaled down to that.
      self_training_by: 'share' (the surest points of each image), 'threshold' (a probability), or
        'random' (as many points as 'share', drawn: what any choice is compared with; replicas draw
        points of their own).
      self_training_threshold, self_training_share: see there.
      unlabelled_batch_size: unlabelled images of a step; None for as many as labelled ones.
      separate_passes: labelled and unlabelled images pass the segmentor one kind after the other,
        see hung/separate_passes.py.
      unpadded_truths: the independent ground truths have no padding, see
        data/augmentation/unpadded.py.
      published_code: names of `PUBLISHED_CODE`, or 'all': these settings are the code's, whatever
        was given for them.

    Raises:
      UserError: a setting out of range.
    """
    terms: str = 'adv+semi'
    adversarial_weight: float = 0.01
    unlabelled_adversarial_weight: float = 0.001
    semi_weight: float = 0.1
    threshold: float = 0.2
    selected_by: str = DISCRIMINATOR
    semi_start: float = 5000
    adversarial_start: Optional[float] = None
    reduction: str = 'mean'
    semi_normaliser: str = 'all'
    discriminator_fakes: str = 'labelled'
    independent_ground_truth: bool = False
    early_out: bool = False
    mask_predictions: bool = True
    map_stride: int = 1
    l2_weight: float = 1e-4
    classifier_multiplier: float = 1.0
    adversarial_decay: str = 'constant'
    adversarial_limit: Optional[float] = None
    self_training_by: str = 'share'
    self_training_threshold: float = 0.9
    self_training_share: float = 0.7
    unlabelled_batch_size: Optional[int] = None
    separate_passes: bool = False
    unpadded_truths: bool = False
    published_code: Union[str, tuple] = ()

    def __post_init__(self):
        _check(dataclasses.asdict(self))
        names = _deviations(self.published_code)
        object.__setattr__(self, 'published_code', names)
        for name in names:
            for setting, value in PUBLISHED_CODE[name][0].items():
                object.__setattr__(self, setting, value)
        if self.adversarial_start is None:
            object.__setattr__(self, 'adversarial_start', self.semi_start)
        if self.unpadded_truths and not self.independent_ground_truth:
            raise errors.UserError('hung.unpadded_truths = True has no effect without '
                                   'hung.independent_ground_truth = True: the truths are those of '
                                   'the labelled crops then; set both, or leave it out')

    @property
    def identity(self):
        """dict, JSON-able; without what came later and is not in use: older runs go on."""
        return {name: value for name, value in dataclasses.asdict(self).items()
                if value or name not in _LATER}

    @property
    def pixel_loss(self):
        """`objective.PixelLoss` of these settings: L_ce (eq. 3)."""
        return objective.PixelLoss(self.reduction, l2_weight=self.l2_weight,
                                   classifier_multiplier=self.classifier_multiplier)

    @property
    def needs_discriminator(self):
        """bool: whether a discriminator is trained."""
        return self.terms != 'self_training'

    @property
    def needs_unlabelled(self):
        """bool: whether unlabelled images are learnt from."""
        return self.terms != 'adv'

    def starts(self, steps):
        """(step from which unlabelled images come in with L_adv, step from which with L_semi).

        Args:
          steps: of the stage.

        Raises:
          UserError: L_adv's is after L_semi's.
        """
        found = tuple(round(start * steps) if isinstance(start, float) else start
                      for start in (self.adversarial_start, self.semi_start))
        if found[0] > found[1]:
            raise errors.UserError(f'hung.adversarial_start = {self.adversarial_start} is after '
                                   f'hung.semi_start = {self.semi_start}; unlabelled images come '
                                   'in with L_adv first, or with both at once')
        return found

    @property
    def adversarial_weights(self):
        """(lambda_adv of labelled, of unlabelled images) as they count: 0 without that term."""
        if 'adv' not in self.terms:
            return 0.0, 0.0
        return self.adversarial_weight, self.unlabelled_adversarial_weight

    def about(self):
        """A sentence or two for a reader, without the last stop."""
        at = (f'the discriminator takes them for a truth with more than {self.threshold:g}'
              if self.needs_discriminator else
              'softmax is surest' if self.self_training_by != 'random' else 'a draw takes them')
        if self.selected_by != DISCRIMINATOR:
            at = ('softmax is surest' if self.selected_by == 'as_many_by_softmax' else
                  'a draw takes them') + ', in each image as many as the discriminator would take'
        semi = f'L_semi, on unlabelled ones: cross-entropy with the predicted class where {at}'
        terms = ['L_ce, cross-entropy on labelled images']
        if 'adv' in self.terms:
            terms.append('L_adv, which a discriminator is to take the predictions for truths by')
        if self.needs_unlabelled:
            terms.append(semi)
        named = '; '.join(terms)
        if self.needs_discriminator:
            stride = self.map_stride
            named += ('; maps of full size' if stride == 1 else
                      f'; maps of a point for {stride} x {stride} pixels')
        else:
            named += '; no discriminator'
        if self.acting_deviations:
            named += f'; as the published code in {", ".join(self.acting_deviations)}'
        return named

    @property
    def acting_deviations(self):
        """Those of `published_code` that change anything where these terms are learnt from."""
        idle = {'adv': ('starts', 'fakes', 'normaliser', 'early_out', 'separate_passes'),
                'semi': ('weights', 'starts', 'early_out'), 'adv+semi': (),
                'self_training': ('weights', 'starts', 'fakes', 'independent_ground_truth',
                                  'early_out', 'unpadded_truths')}
        return tuple(name for name in self.published_code if name not in idle[self.terms])


OF_THE_METHOD_ALONE = tuple(field.name for field in dataclasses.fields(Settings)
                            if field.name not in _OF_THE_CONTROL)

hung = gin.external_configurable(Settings, name='hung', module='tf_advseg.methods')
configuration.renamed(hung__second_truths='hung.independent_ground_truth')


def _deviations(published_code):
    """Names of `PUBLISHED_CODE`, in its order."""
    if published_code == 'all':
        return tuple(PUBLISHED_CODE)
    names = (published_code,) if isinstance(published_code, str) else published_code
    if not isinstance(names, (list, tuple)):
        raise errors.UserError(f'hung.published_code = {published_code!r}: expected names such as '
                               "('normaliser', 'early_out'), 'all', or () for the paper")
    for name in names:
        errors.require_one_of('hung.published_code', name, (*PUBLISHED_CODE, 'all'))
    return tuple(name for name in PUBLISHED_CODE if name in names)


def _check(given):
    """UserError for a setting out of range."""
    for name, choices in (('terms', TERMS), ('reduction', step_parts.REDUCTIONS),
                          ('semi_normaliser', NORMALISERS), ('discriminator_fakes', FAKES),
                          ('adversarial_decay', DECAYS), ('self_training_by', SELECTIONS),
                          ('selected_by', SELECTED_BY)):
        errors.require_one_of(f'hung.{name}', given[name], choices)
    if given['selected_by'] != DISCRIMINATOR and 'semi' not in given['terms'].split('+'):
        raise errors.UserError(f'hung.selected_by = {given["selected_by"]!r} has no effect with '
                               f'hung.terms = {given["terms"]!r}: no discriminator selects there; '
                               "leave it out, or take 'adv+semi'")
    for name in ('adversarial_weight', 'unlabelled_adversarial_weight', 'semi_weight', 'l2_weight'):
        arguments.require_number('hung', name, given[name], least=0)
    for name in ('threshold', 'self_training_threshold', 'self_training_share'):
        arguments.require_number('hung', name, given[name], least=0, most=1)
    arguments.require_number('hung', 'classifier_multiplier', given['classifier_multiplier'],
                             above=0)
    arguments.require_number('hung', 'map_stride', given['map_stride'], least=1, whole=True)
    for name in ('semi_start', 'adversarial_start'):
        if given[name] is not None:
            share = {'below': 1} if isinstance(given[name], float) else {'whole': True}
            arguments.require_number('hung', name, given[name], least=0, **share,
                                     hint="whole steps, or a share of the stage's such as 0.25")
    if given['unlabelled_batch_size'] is not None:
        arguments.require_number('hung', 'unlabelled_batch_size', given['unlabelled_batch_size'],
                                 least=1, whole=True)
    if given['adversarial_limit'] is not None:
        arguments.require_number('hung', 'adversarial_limit', given['adversarial_limit'], above=0)
    for name in ('independent_ground_truth', 'early_out', 'mask_predictions', 'separate_passes',
                 'unpadded_truths'):
        arguments.require_flag('hung', name, given[name])
