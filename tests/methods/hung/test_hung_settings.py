"""Hung et al.'s settings: the paper's by default, the published code's by name, each alone."""
import dataclasses

import gin
import pytest

from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.methods import objective
from tf_advseg.methods.hung import hung_settings

# What reading the authors' code tells (shared facts and our reading), by the name of the switch.
CODE = {
    'weights': {'adversarial_weight': 0.1}, 'weight_decay': {'l2_weight': 5e-4},
    'starts': {'adversarial_start': 0}, 'fakes': {'discriminator_fakes': 'all'},
    'independent_ground_truth': {'independent_ground_truth': True},
    'normaliser': {'semi_normaliser': 'selected'}, 'early_out': {'early_out': True},
    'masks': {'mask_predictions': False}, 'separate_passes': {'separate_passes': True},
    'unpadded_truths': {'independent_ground_truth': True, 'unpadded_truths': True}}


def differences(one, other):
    """{field: its value in `other`} where two settings differ, but for their names."""
    return {field.name: getattr(other, field.name) for field in dataclasses.fields(one)
            if field.name != 'published_code'
            and getattr(one, field.name) != getattr(other, field.name)}


def test_the_defaults_are_section_5s():
    paper = hung_settings.hung()
    assert (paper.adversarial_weight, paper.unlabelled_adversarial_weight) == (0.01, 0.001)
    assert (paper.semi_weight, paper.threshold, paper.l2_weight) == (0.1, 0.2, 1e-4)
    assert paper.semi_start == paper.adversarial_start == 5000
    assert paper.discriminator_fakes == 'labelled' and not paper.independent_ground_truth
    assert paper.mask_predictions and not paper.early_out and not paper.published_code
    assert paper.adversarial_decay == 'constant' and paper.adversarial_limit is None


@pytest.mark.parametrize('name', list(CODE))
def test_each_deviation_alone_changes_its_setting_alone(name):
    for given in (name, (name,), [name]):
        settings = hung_settings.hung(published_code=given)
        assert differences(hung_settings.hung(), settings) == CODE[name]
        assert settings.published_code == (name,) and name in settings.about()
        idle = hung_settings.hung(published_code=given, terms='self_training')
        acting = ('weight_decay', 'normaliser', 'masks', 'separate_passes')
        assert (name in idle.about()) == (name in acting)
    text = hung_settings.PUBLISHED_CODE[name][1]
    assert text and '\n' not in text


def test_all_is_every_deviation_and_wins_over_what_is_given():
    everything = {field: value for own in CODE.values() for field, value in own.items()}
    for given in ('all', tuple(reversed(list(CODE)))):
        settings = hung_settings.hung(published_code=given, adversarial_weight=0.3, semi_start=9)
        assert differences(hung_settings.hung(semi_start=9), settings) | {
            'adversarial_start': 0} == everything
        assert settings.published_code == tuple(CODE) == tuple(hung_settings.PUBLISHED_CODE)


def test_unlabelled_images_come_in_at_once_or_with_the_adversarial_term_first():
    assert hung_settings.hung(semi_start=7).adversarial_start == 7
    early = hung_settings.hung(semi_start=7, adversarial_start=0)
    assert (early.adversarial_start, early.semi_start) == (0, 7)
    code = hung_settings.hung(semi_start=7, adversarial_start=20, published_code='starts')
    assert code.adversarial_start == 0
    share = hung_settings.hung(semi_start=0.25, adversarial_start=2)
    assert share.starts(20) == (2, 5) and share.starts(8) == (2, 2)


@pytest.mark.parametrize('terms, weights, judge, others', [
    ('adv', (0.01, 0.001), True, False), ('adv+semi', (0.01, 0.001), True, True),
    ('semi', (0, 0), True, True), ('self_training', (0, 0), False, True)])
def test_terms_say_what_is_needed(terms, weights, judge, others):
    settings = hung_settings.hung(terms=terms)
    assert settings.adversarial_weights == weights
    assert settings.needs_discriminator == judge and settings.needs_unlabelled == others
    assert ('no discriminator' in settings.about()) != judge
    assert ('truth with more than 0.2' in settings.about()) == (judge and others)


def test_the_control_depends_on_what_its_step_takes_alone():
    """Nothing else is in its pixel loss, so that sweeps of the other settings train it once."""
    paper = hung_settings.hung()
    assert paper.pixel_loss == objective.PixelLoss('mean', l2_weight=1e-4)
    for name in CODE:
        changed = hung_settings.hung(published_code=name).pixel_loss != paper.pixel_loss
        assert changed == (name == 'weight_decay')
    fields = {field.name for field in dataclasses.fields(paper)}
    assert set(hung_settings.OF_THE_METHOD_ALONE) == fields - {'reduction', 'l2_weight',
                                                               'classifier_multiplier'}


def test_what_came_later_is_in_the_identity_where_it_is_on_alone():
    """A stage that was begun before these settings goes on."""
    paper = hung_settings.hung()
    later = {'separate_passes', 'unpadded_truths'}
    assert set(paper.identity) == {f.name for f in dataclasses.fields(paper)} - later
    code = hung_settings.hung(published_code='all')
    assert code.identity == dataclasses.asdict(code)


def test_gin_names_them():
    gin.parse_config("hung.terms = 'semi'\nhung.published_code = ('masks', 'early_out')")
    settings = hung_settings.hung()
    assert settings.terms == 'semi' and settings.published_code == ('early_out', 'masks')


@pytest.mark.parametrize('binding, text', [
    ('hung.terms = "adv+sem"', 'Did you mean "adv+semi"'),
    ('hung.published_code = "normalizer"', 'Did you mean "normaliser"'),
    ('hung.published_code = ("masks", "early-out")', 'Did you mean "early_out"'),
    ('hung.reduction = "men"', 'Did you mean "mean"'),
    ('hung.semi_normaliser = "selectd"', 'Did you mean "selected"'),
    ('hung.discriminator_fakes = "labeled"', 'Did you mean "labelled"'),
    ('hung.adversarial_decay = "polly"', 'Did you mean "poly"'),
    ('hung.self_training_by = "shares"', 'Did you mean "share"'),
    ('hung.selected_by = "softmax"', 'unknown hung.selected_by "softmax"'),
    ('hung.selected_by = "as_many_by_softmax"\nhung.terms = "adv"', 'no effect with hung.terms'),
    ('hung.threshold = 1.1', 'hung.threshold = 1.1'), ('hung.threshold = -0.1', 'at least 0'),
    ('hung.self_training_share = 70', 'hung.self_training_share = 70'),
    ('hung.adversarial_weight = -1', 'hung.adversarial_weight = -1'),
    ('hung.semi_weight = None', 'hung.semi_weight = None'),
    ('hung.semi_start = 1.5', 'hung.semi_start = 1.5: expected a number of at least 0 and below 1'),
    ('hung.semi_start = "soon"', 'expected a whole number of at least 0 (whole steps, or a share'),
    ('hung.adversarial_start = -1', 'hung.adversarial_start = -1'),
    ('hung.adversarial_start = 5001', 'is after hung.semi_start = 5000'),
    ('hung.adversarial_start = 0.5', 'hung.adversarial_start = 0.5 is after hung.semi_start'),
    ('hung.unlabelled_batch_size = 0', 'hung.unlabelled_batch_size = 0'),
    ('hung.map_stride = 0', 'hung.map_stride = 0'),
    ('hung.classifier_multiplier = 0', 'hung.classifier_multiplier = 0'),
    ('hung.adversarial_limit = 0', 'hung.adversarial_limit = 0'),
    ('hung.published_code = 3', 'hung.published_code = 3'),
    ('hung.published_code = None', 'hung.published_code = None'),
    ('hung.early_out = 1', 'hung.early_out = 1: expected True or False'),
    ('hung.separate_passes = 1', 'hung.separate_passes = 1: expected True or False'),
    ('hung.unpadded_truths = 1', 'hung.unpadded_truths = 1: expected True or False'),
    ('hung.unpadded_truths = True', 'no effect without hung.independent_ground_truth = True')])
def test_settings_out_of_range_are_told_in_one_line(binding, text):
    configuration.parse([], [binding])
    with pytest.raises(UserError) as caught:
        hung_settings.hung().starts(20000)
    assert text in str(caught.value) and '\n' not in str(caught.value)
