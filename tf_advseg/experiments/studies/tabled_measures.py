"""What a sweep can table of a model: one number of its scores in results.json."""
import numbers
from typing import Callable, NamedTuple

from tf_advseg.core import errors

MOST = 1e30  # no figure of a model is larger
CONTROL = 'control (CE)'  # what results.json calls it
DISCRIMINATOR = 'discriminator_accuracy'
TRIMAP_BAND = 5  # pixels; of the bands that a run measures the nearest


class Measure(NamedTuple):
    """A figure of a model.

    Attributes:
      title: for a reader.
      of: function(scores of a split, from results.json) -> a number, or None.
      unit: what it is in.
      scale: what a number is multiplied by to be in it.
      higher_is_better: whether more of it is.
    """
    title: str
    of: Callable
    unit: str = 'percent'
    scale: float = 100.0
    higher_is_better: bool = True


def _components(*kinds):
    """Regions an image, of some kinds together."""
    def of(scores):
        found = scores.get('components')
        return found and sum(_per_image(found[kind]) or 0.0 for kind in kinds)
    return of


def _per_image(counted):
    """Of one kind; runs of before the key was renamed have it as 'per_picture'."""
    return counted['per_image'] if 'per_image' in counted else counted['per_picture']


def _trimap(scores):
    widths = scores.get('trimap', {}).get('widths')
    nearest = widths and min(widths, key=lambda width: (abs(int(width) - TRIMAP_BAND), int(width)))
    return widths and widths[nearest]['mean_iou']


# What a run's results.json holds of a model, by the name of it on the command line.
MEASURES = {
    'miou': Measure('mIoU', lambda scores: scores.get('miou')),
    'pixel_accuracy': Measure('pixel accuracy', lambda scores: scores.get('pixel_accuracy')),
    'mean_class_accuracy': Measure('mean class accuracy',
                                   lambda scores: scores.get('mean_class_accuracy')),
    'fwiou': Measure('frequency weighted IoU', lambda scores: scores.get('frequency_weighted_iou')),
    'miou_without_rare': Measure('mIoU without rare classes',
                                 lambda scores: scores.get('miou_without_rare')),
    'boundary': Measure('mean BF', lambda scores: scores.get('boundary', {}).get('mean')),
    'boundary_std': Measure('sigma of BF over images',
                            lambda scores: scores.get('boundary', {}).get('std'),
                            higher_is_better=False),
    'components': Measure('spurious and missed components', _components('spurious', 'missed'),
                          'regions an image', 1.0, False),
    'spurious': Measure('spurious components', _components('spurious'), 'regions an image', 1.0,
                        False),
    'missed': Measure('missed components', _components('missed'), 'regions an image', 1.0,
                      False),
    'trimap': Measure(f'mIoU within {TRIMAP_BAND} px of true boundaries', _trimap),
    'improved': Measure('images better than the control\'s',
                        lambda scores: scores.get('improved', {}).get(CONTROL)),
    # Of a run, not of a split: the same beside all scores of the method's model.
    DISCRIMINATOR: Measure('discriminator\'s accuracy at the end of training',
                           lambda scores: scores.get(DISCRIMINATOR), higher_is_better=False)}


def measured(scores):
    """{name: number} of `MEASURES` that a split's scores in results.json have."""
    found = {name: measure.of(scores) for name, measure in MEASURES.items()}
    return require_numbers({name: value for name, value in found.items() if value is not None})


def require_numbers(scores):
    """Scores {name: number}, unchanged; TypeError where one is no number, or no score's."""
    for name, value in scores.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or abs(value) > MOST:
            raise TypeError(f'{name} is {value!r}')
    return scores


def parse_measures(texts):
    """Names of MEASURES, as given.

    Raises:
      UserError: another name, or none.
    """
    for name in texts:
        errors.require_one_of('measure', name, MEASURES)
    if not texts:
        raise errors.UserError('--measures= names nothing; give some of ' + ', '.join(MEASURES))
    return list(texts)
