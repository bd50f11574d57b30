"""What a sweep takes out of the scores of results.json, measure by measure."""
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.experiments.studies import tabled_measures

SCORES = {
    'miou': 0.5, 'pixel_accuracy': 0.8, 'mean_class_accuracy': 0.6, 'frequency_weighted_iou': 0.7,
    'miou_without_rare': 0.55, 'boundary': {'mean': 0.4, 'std': 0.2},
    'components': {'spurious': {'per_image': 2.5}, 'missed': {'per_image': 1.25}},
    'trimap': {'widths': {'1': {'mean_iou': 0.1}, '5': {'mean_iou': 0.3}, '20': {'mean_iou': 0.4}}},
    'improved': {'control (CE)': 0.65}}


def test_each_measure_is_its_own_number():
    assert tabled_measures.measured(SCORES) == {
        'miou': 0.5, 'pixel_accuracy': 0.8, 'mean_class_accuracy': 0.6, 'fwiou': 0.7,
        'miou_without_rare': 0.55, 'boundary': 0.4, 'boundary_std': 0.2, 'components': 3.75,
        'spurious': 2.5, 'missed': 1.25, 'trimap': 0.3, 'improved': 0.65}
    assert tabled_measures.measured({}) == {}


@pytest.mark.parametrize('widths, taken', [((1, 4, 20), 4), ((3, 7), 3), ((20, 10), 10), ((5,), 5)])
def test_the_trimap_is_of_the_band_nearest_to_five_pixels(widths, taken):
    """Of two that are as near, the narrower; as text '10' stands before '5'."""
    scores = {'trimap': {'widths': {str(width): {'mean_iou': width / 100} for width in widths}}}
    assert tabled_measures.measured(scores) == {'trimap': taken / 100}


def test_which_way_is_better():
    lower = {name for name, measure in tabled_measures.MEASURES.items()
             if not measure.higher_is_better}
    assert lower == {'boundary_std', 'components', 'spurious', 'missed', 'discriminator_accuracy'}
    with pytest.raises(UserError, match='Did you mean "trimap"'):
        tabled_measures.parse_measures(['miou', 'trimpa'])
