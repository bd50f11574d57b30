"""Zhu et al.'s settings: what is printed by default, what phase 2 must have alike, messages."""
import dataclasses

import gin
import pytest

from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.methods.zhu import zhu_settings

# What is not phase 1's own business: phase 2 asks the GAN's networks in these ways.
OF_USE = {'form', 'generator_sees', 'discriminator_sees', 'decision', 'map_stride',
          'bottleneck'}


def test_the_defaults_are_what_is_printed():
    """Eqs 10, 7 and 16; section 3.1's mean of the responses; section 4.2's lambdas."""
    gan, use = zhu_settings.zhu_gan(), zhu_settings.zhu()
    assert (gan.form, gan.generator_sees, gan.discriminator_sees) == ('gan', 'mask', 'mask')
    assert gan.content_weight == 100 and gan.decision == 'mean' and gan.map_stride == 1
    assert use.content_weight == use.adversarial_weight == 0.1 and use.l2_weight == 0
    assert use.condition == 'prediction'


def test_the_wasserstein_form_is_that_of_the_paper_that_it_adopts():
    """Arjovsky et al. 2017, Algorithm 1: clipped to 0.01, five steps of the critic for one."""
    gan = zhu_settings.zhu_gan(form='wgan')
    assert (gan.lipschitz, gan.clip, gan.critic_steps) == ('clip', 0.01, 5)
    assert zhu_settings.zhu_gan().critic_steps == 1  # eqs 12 and 13: one batch for both
    assert zhu_settings.zhu_gan(form='wgan', critic_steps=2).critic_steps == 2
    assert zhu_settings.zhu_gan(form='wgan', lipschitz='penalty').penalty_weight == 10


def test_what_phase_2_must_have_alike():
    gan = zhu_settings.zhu_gan(form='wgan', map_stride=2)
    assert set(gan.of_use) == OF_USE and gan.of_use.items() <= gan.identity.items()
    assert zhu_settings.GanSettings(**gan.identity) == gan
    assert {field.name for field in dataclasses.fields(gan)} == {*gan.identity, 'clipped'}


@pytest.mark.parametrize('sees, channels', [('mask', 7), ('image', 3), ('nothing', 0)])
def test_channels_of_what_is_beside_the_image(sees, channels):
    assert zhu_settings.zhu_gan(discriminator_sees=sees).condition_channels(7) == channels


def test_a_few_words_tell_runs_apart():
    text = {zhu_settings.zhu_gan(**settings).about() for settings in (
        {}, {'form': 'wgan'}, {'form': 'wgan', 'lipschitz': 'penalty'},
        {'generator_sees': 'mask_and_image'}, {'discriminator_sees': 'image'},
        {'discriminator_sees': 'nothing'}, {'map_stride': 2})}
    assert len(text) == 7 and all('\n' not in words for words in text)
    assert 'clipped to 0.01' in zhu_settings.zhu_gan(form='wgan').about()


def test_gin_names_them():
    gin.parse_config("zhu_gan.form = 'wgan'\nzhu.content_weight = 0.5")
    assert zhu_settings.zhu_gan().form == 'wgan' and zhu_settings.zhu().content_weight == 0.5


@pytest.mark.parametrize('binding, text', [
    ('zhu_gan.form = "wgann"', 'Did you mean "wgan"'),
    ('zhu_gan.lipschitz = "clipp"', 'Did you mean "clip"'),
    ('zhu_gan.generator_sees = "masks"', 'Did you mean "mask"'),
    ('zhu_gan.discriminator_sees = "images"', 'Did you mean "image"'),
    ('zhu_gan.decision = "meen"', 'Did you mean "mean"'),
    ('zhu_gan.clipped = "kernel"', 'Did you mean "kernels"'),
    ('zhu_gan.clipped = "kernels"', 'has no effect: nothing is clipped'),
    ('zhu_gan.clip = 0', 'zhu_gan.clip = 0: expected a number above 0'),
    ('zhu_gan.penalty_weight = -1', 'zhu_gan.penalty_weight = -1'),
    ('zhu_gan.content_weight = None', 'zhu_gan.content_weight = None'),
    ('zhu_gan.critic_steps = 0', 'zhu_gan.critic_steps = 0'),
    ('zhu_gan.critic_steps = 1.5', 'zhu_gan.critic_steps = 1.5: expected a whole number'),
    ('zhu_gan.map_stride = 0', 'zhu_gan.map_stride = 0'),
    ('zhu.reduction = "men"', 'Did you mean "mean"'),
    ('zhu.condition = "predictions"', 'Did you mean "prediction"'),
    ('zhu.content_weight = -0.1', 'zhu.content_weight = -0.1'),
    ('zhu.adversarial_weight = "a"', "zhu.adversarial_weight = 'a'"),
    ('zhu.l2_weight = -1', 'zhu.l2_weight = -1')])
def test_settings_out_of_range_are_told_in_one_line(binding, text):
    configuration.parse([], [binding])
    with pytest.raises(UserError) as caught:
        zhu_settings.zhu_gan()
        zhu_settings.zhu()
    assert text in str(caught.value) and '\n' not in str(caught.value)
