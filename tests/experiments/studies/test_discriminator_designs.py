"""Designs screened from one start: each by its own discriminator, and none a second time."""
from unittest import mock

import pytest
import tensorflow as tf

from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.data import spec as specs
from tf_advseg.experiments.benchmarks import discriminator_benchmark
from tf_advseg.experiments.studies import discriminator_designs
from tf_advseg.lookahead import screening
from tf_advseg.run import networks

OPTIONS = {'num_train': 10, 'num_val': 8, 'num_test': 1, 'size': (33, 33), 'smallest': (33, 33)}
COMMON = ('lookahead.min_epochs = 1', 'lookahead.max_epochs = 1', 'load.map_kind = "soft"',
          "build_discriminator.name = 'patch'", 'build_discriminator.alpha = 0.1',
          "input_encoding.size = 'logits'", "input_encoding.kind = 'concat'")
DESIGNS = {'scaling': (*COMMON, "input_encoding.truth = 'scaling'"),
           'map alone': (*COMMON, "input_encoding.truth = 'bottleneck'",
                         "input_encoding.kind = 'map'")}


@pytest.fixture(scope='module')
def start(tmp_path_factory):
    """A model folder of a small network."""
    folder = tmp_path_factory.mktemp('start') / 'model'
    description = networks.describe('farabet', num_classes=8, seed=3, hidden=8)
    networks.save(folder, networks.build(description), description,
                  specs.DatasetSpec('eight', 'abcdefgh', specs.default_palette(8)))
    return folder


def screened(workdir, start, images=8):
    """The table of both designs."""
    bindings = ["dataset.reader = 'shapes'", f'dataset.options = {OPTIONS!r}',
                'dataset.holdout_fraction = 0.5', 'experiment.crop_size = 33',
                "experiment.network = 'farabet'", 'farabet.hidden = 8',
                f'experiment.checkpoint = {str(start)!r}']
    with mock.patch.object(discriminator_designs, 'DESIGNS', DESIGNS):
        table = discriminator_benchmark.screen(
            workdir, ['methods/load.gin'], bindings, tf.distribute.get_strategy(), images)
    configuration.parse([], [])
    return table.texts()


@pytest.mark.slow
def test_each_design_is_screened_once_and_again_where_anything_is_another(tmp_path, start):
    first = screened(tmp_path / 'run', start)
    assert [row[0].split(' (')[0] for row in first[1:]] == ['scaling', 'map alone']
    assert first[1][1:] != first[2][1:]
    with mock.patch.object(screening, 'screen', side_effect=AssertionError('screened again')):
        assert screened(tmp_path / 'run', start) == first
        with pytest.raises(AssertionError, match='screened again'):
            screened(tmp_path / 'run', start, images=9)


def test_without_a_start_there_is_one_line(tmp_path):
    with pytest.raises(UserError, match='no weights to screen from'):
        discriminator_benchmark.screen(tmp_path, ['methods/load.gin'], [],
                                       tf.distribute.get_strategy(), 8)
    configuration.parse([], [])
