"""The settings of `consistency`: one line for a value that cannot be, or has no effect."""
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.methods.consistency import consistency_settings


@pytest.mark.parametrize('given, words', [
    ({'selection': 'best'}, 'consistency.selection'), ({'threshold': 1.5}, 'consistency.threshold'),
    ({'selection': 'all', 'threshold': 0.5}, 'has no effect'),
    ({'share': 0.5}, 'has no effect'), ({'discriminator_threshold': 0.5}, 'has no effect'),
    ({'discriminator_fakes': 'all'}, 'has no effect'), ({'decay': 1.0}, 'consistency.decay'),
    ({'classmix': 2.0}, 'consistency.classmix'), ({'classmix': 0.5}, 'mixed in one way'),
    ({'cutmix': 2.0}, 'consistency.cutmix'), ({'cutmix_most': 0.01}, 'consistency.cutmix_most'),
    ({'ramp_up': -1}, 'consistency.ramp_up'),
    ({'soft_targets': 'yes'}, 'soft_targets'), ({'map_stride': 0}, '^consistency.map_stride'),
    ({'l2_weight': -1}, '^consistency.l2_weight'), ({'reduction': 'max'}, 'consistency.reduction'),
    ({'adversarial_weight': -1}, '^consistency.adversarial_weight'),
    ({'unlabelled_batch_size': 0}, '^consistency.unlabelled_batch_size'),
    ({'cutmix': 0.0, 'cutmix_most': 0.3}, 'has no effect'),
    ({'reduction': 'sum', 'normaliser': 'selected'}, 'normaliser.*has no effect'),
    ({'selection': 'random', 'threshold': 0.5}, 'has no effect'),
    ({'discriminator_share': 0.5}, 'discriminator_share.*has no effect'),
    ({'selection': 'discriminator', 'discriminator_share': 1.5}, 'discriminator_share'),
    ({'selection': 'discriminator', 'discriminator_share': 0.5, 'discriminator_threshold': 0.3},
     'has no effect')])
def test_out_of_range_is_one_line(given, words):
    with pytest.raises(UserError, match=words) as caught:
        consistency_settings.consistency(**given)
    assert '\n' not in str(caught.value)
