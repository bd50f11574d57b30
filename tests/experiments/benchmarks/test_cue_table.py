"""The cue audit of every method's encodings: those that we recommend leave no cue."""
from unittest import mock

import pytest

from tf_advseg.adversaries import cues
from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.data import readers
from tf_advseg.data.records import record_set as record_sets
from tf_advseg.experiments import recipe_registry as recipes
from tf_advseg.experiments import small_methods
from tf_advseg.experiments.benchmarks import cue_table
from tf_advseg.experiments.benchmarks import discriminator_benchmark

CROP = (129, 129)
# One of a method that we recommend, and one as its paper has it.
FEW = [case for case in cue_table.cases() if case.shown.text in (
    '64', "the logits' grid, scaling", "basic, the logits' grid", "scaling, the logits' grid",
    'every 4th pixel', 'every 4th pixel, bottleneck', 'product')]


@pytest.fixture(scope='module')
def records(tmp_path_factory):
    """Scenes of 129 pixels and smaller ones, which are padded."""
    reader = readers.make_reader('shapes', None, num_train=12, num_val=2, num_test=1,
                                 size=(129, 129), smallest=(90, 112))
    folder = record_sets.write_records(reader, None, tmp_path_factory.mktemp('records') / 'shapes')
    return record_sets.RecordSet(folder)


def check(records, cases):
    """Every recommended case has no cue, every other one has some.

    'swapped' has none with an oracle, which is always right: an exchange leaves a rough spot in the
    maps of a segmentor that errs (docs/discriminators.md). So it is not recommended either.
    """
    seen = set()
    for case, found in cue_table.measure(records, records.split('train'), CROP, cases):
        seen.add(case.method)
        without = case.shown.recommended or 'swapped' in case.shown.text
        assert bool(cues.harmful(found)) != without, (case, found)
    return seen


@pytest.mark.slow
def test_recommended_encodings_have_no_cue_and_the_printed_ones_do(records):
    assert check(records, FEW) == {
        'load', 'luc', 'durall', 'hung', 'zhu', 'el_gan', 'consistency'}


@pytest.mark.slow
def test_every_case_is_what_the_table_says(records):
    check(records, cue_table.cases())


def test_every_method_with_maps_has_a_recommended_case():
    trained = {name for name, recipe in recipes.load_all().items() if recipe.trains}
    assert {case.method for case in cue_table.cases() if case.shown.recommended} == trained


def test_an_encoding_that_the_crop_is_too_small_for_costs_no_other_one(records):
    cases = [case for case in cue_table.cases() if case.method == 'load' and case.shown.text in (
        '64', "the logits' grid, hard")]
    with mock.patch.object(small_methods, 'make', side_effect=[UserError('too small'), mock.DEFAULT],
                           wraps=small_methods.make):
        (_, none), (_, found) = cue_table.measure(records, records.split('train')[:4], CROP, cases)
    assert none == {} and set(found) == set(cues.STATISTICS)
    rows = cue_table.table([(cases[0], none), (cases[1], found)], 4, CROP).texts()
    assert rows[1][2:] == ['–'] * len(cues.STATISTICS)


def test_the_recipe_of_the_paired_cells_is_looked_at_with_its_frozen_features(tmp_path):
    options = {'num_train': 4, 'num_val': 2, 'num_test': 1, 'size': (65, 65), 'smallest': (60, 60)}
    table = discriminator_benchmark.cues(
        tmp_path, ['papers/load/stanford_background_cells.gin'], [
            "dataset.reader = 'shapes'", f'dataset.options = {options!r}',
            'experiment.data_dir = None', 'experiment.checkpoint = None',
            'experiment.crop_size = 65', 'deeplab_mobilenet_v2.depth_multiplier = 0.25'], 4)
    (name, _, *areas), = [[cell.value for cell in row] for row in table.rows]
    assert name == 'load: as configured' and max(areas) <= cues.HARMLESS
    configuration.parse([], [])


def test_the_configured_method_alone(tmp_path):
    options = {'num_train': 6, 'num_val': 2, 'num_test': 1, 'size': (65, 65), 'smallest': (60, 60)}
    scenes = ("dataset.reader = 'shapes'", 'experiment.crop_size = 65',
              f'dataset.options = {options!r}',
              'deeplab_mobilenet_v2.depth_multiplier = 0.25')
    table = discriminator_benchmark.cues(
        tmp_path, ['methods/luc.gin'], [*scenes, "build_fov_discriminator.name = 'small_fov_light'",
                                        "label_maps.kind = 'scaling'"], 8)
    (name, _, *areas), = [[cell.value for cell in row] for row in table.rows]
    assert name == 'luc: as configured' and len(areas) == len(cues.STATISTICS)
    assert max(areas) <= cues.HARMLESS
    with pytest.raises(UserError, match='shows no label maps'):
        discriminator_benchmark.cues(tmp_path / 'ce', [], [
            *scenes, "experiment.method = 'cross_entropy'"], 8)
    configuration.parse([], [])
