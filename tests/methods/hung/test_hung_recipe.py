"""Hung et al.'s method put together: which discriminator there is, what does not go together."""
import types

import gin
import pytest

from tf_advseg.core import random_streams
from tf_advseg.core.errors import UserError
from tf_advseg.experiments import recipe_registry as recipes
from tf_advseg.models import farabet

CONTEXT = types.SimpleNamespace(streams=random_streams.RandomStreams(3), crop_size=(101, 70))


@pytest.fixture(scope='module')
def segmentor():
    return farabet.farabet(4, hidden=0)


def hung(segmentor, *bindings):
    """The method, as a stage of 10 steps builds it."""
    gin.parse_config('\n'.join(('hung.semi_start = 5', *bindings)))
    recipe = recipes.find('hung')
    return recipe.build(CONTEXT, segmentor, recipe.plan(10))


@pytest.mark.parametrize('terms, decides', [('adv', 'pixel'), ('semi', 'pixel'),
                                            ('adv+semi', 'pixel'), ('self_training', None)])
def test_there_is_a_discriminator_where_a_term_needs_one(segmentor, terms, decides):
    method = hung(segmentor, f"hung.terms = '{terms}'")
    assert getattr(method.discriminator, 'decides', None) == decides
    assert method.judges_points == (decides is not None) and method.steps == 10


def test_a_fully_connected_layer_is_of_the_maps_of_the_crop(segmentor):
    """(h - 1) // s + 1 points a side, Table 6's variant with L_adv alone."""
    method = hung(segmentor, "hung.terms = 'adv'", 'hung.map_stride = 2',
                  "build_fc_discriminator.kind = 'image'",
                  'build_fc_discriminator.widths = (2, 3)')
    assert method.discriminator.map_size == (51, 35) and not method.judges_points
    assert method.map_stride == 2


@pytest.mark.parametrize('bindings, text', [
    (["label_maps.kind = 'product'"], "label_maps.kind = 'product'"),
    (["label_maps.kind = 'scaling'", 'hung.independent_ground_truth = True'],
     'leave one of the two'),
    (["build_fc_discriminator.kind = 'image'"], "take kind 'pixel', or terms 'adv'")])
def test_what_does_not_go_together_is_told_in_one_line(segmentor, bindings, text):
    with pytest.raises(UserError) as caught:
        hung(segmentor, *bindings)
    assert text in str(caught.value) and '\n' not in str(caught.value)
