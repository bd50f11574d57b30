"""Odd settings: gin files, bindings of networks, options of readers.

What holds of each: `tests/helpers/fuzzing.py`. More of the same with --slow.
"""
import inspect

import fuzzing
import mutations
import pytest
import whole_run
from hypothesis import strategies as some

from tf_advseg.core import configuration
from tf_advseg.data.readers import reader_class
from tf_advseg.run import networks

GIN = """LIMIT = 3
include 'gin/demo_smallest.gin'
controller.patience = %LIMIT
experiment.crop_size = (33, 49)
segmentor_optimizer/polynomial_decay.power = 0.5
dataset.options = {'num_train': 3, 'num_val': 2, 'num_test': 2}
"""
# Values as they are typed: what JSON knows, and what only Python does.
VALUES = some.one_of(
    some.sampled_from(mutations.VALUES).map(repr),
    some.sampled_from(('()', '(1, 2)', "b'x'", 'x', '@x', '%x', '1e400', '-1e300', 'nan', '{[]: 1}', '-0.0', '{1}',
                       "'a' 'b'", '0x', '[', '"', '1_000', '"\\N{DASH}"', '((((((((((', '1' * 400)),
    # No numbers that are right and take for ever.
    some.floats(-2, 2).map(repr), some.integers(-9, 9).map(repr), some.text(max_size=8))
SECOND = ('adversarial_stage', 'segmentor_optimizer')  # what has no effect on Stage 1
SMALL = {'farabet': 'hidden = 4', 'deeplab_mobilenet_v2': 'depth_multiplier = 0.25'}


def numbers(default, slow):
    """How many inputs a test tries: by default, and in the slow suite."""
    return pytest.mark.parametrize('number', [
        default, pytest.param(slow, marks=pytest.mark.slow)])


@pytest.fixture
def folder(tmp_path):
    """A folder with a gin file."""
    path = tmp_path / 'settings'
    path.mkdir()
    (path / 'mine.gin').write_text(GIN)
    return path


@numbers(6, 60)
def test_gin_files(call, folder, number, record_property):
    def trial(damage):
        copy, path = fuzzing.lay(
            folder, lambda content: mutations.damaged(content, damage), 'mine.gin')
        output = copy.parent / 'out'
        # What is sound leads to the weights, which are not there.
        fuzzing.try_tool(call, copy, [str(path), 'nowhere', 'the configuration uses %'], output,
                         'import_checkpoint', f'--gin_file={path}', '--source=nowhere',
                         f'--output={output}')

    tried = fuzzing.campaign(mutations.damages(), number, trial, record_property)
    assert tried == number


@numbers(4, 60)
def test_bindings_of_networks(call, folder, number, record_property):
    def trial(example):
        (network, name), value = example
        copy, _ = fuzzing.lay(folder)
        output = copy.parent / 'out'
        binding = f'{network}.{name} = {value}'
        fuzzing.try_tool(
            call, copy, [name, 'mine.gin', '--num_classes', f'network {network}', '%'], output,
            'import_checkpoint', f'--gin_param=experiment.network = "{network}"',
            f'--gin_param={network}.{SMALL[network]}', f'--gin_param={binding}',
            '--num_classes=3', f'--source={copy / "mine.gin"}', f'--output={output}')

    places = [(network, name) for network in SMALL
              for name in inspect.signature(networks.NETWORKS[network]).parameters]
    tried = fuzzing.campaign(some.tuples(some.sampled_from(places), VALUES), number, trial,
                             record_property)
    assert tried == number


@numbers(6, 60)
def test_options_of_readers(call, own_folder, number, record_property):
    def trial(example):
        (reader, name), value = example
        copy, _ = fuzzing.lay(own_folder)
        output = copy.parent / 'out' / 'records'
        output.parent.mkdir()
        small = () if name.startswith('num_') else ('--option=num_train=2', '--option=num_val=2',
                                                    '--option=num_test=2')
        fuzzing.try_tool(
            call, copy, [name, str(copy), 'split', 'option', '--num_', 'shapes'], output,
            'prepare_data', f'--dataset={reader}', f'--option={name}={value}',
            *(small if reader == 'shapes' else (f'--source={copy}',)), f'--output={output}')

    places = [(reader, name) for reader in ('shapes', 'folder', 'pictures')
              for name in inspect.signature(reader_class(reader).__init__).parameters
              if name not in ('self', 'source')]
    tried = fuzzing.campaign(some.tuples(some.sampled_from(places), VALUES), number, trial,
                             record_property)
    assert tried == number


@numbers(2, 40)
def test_bindings_of_a_training(call, folder, number, record_property):
    import tf_advseg.experiments.train.training  # noqa: F401  its settings
    (folder / 'small.gin').write_text(
        "experiment.method = 'cross_entropy'\nstage_one.epochs = 1\n"
        + '\n'.join(line for line in whole_run.scenes() if not line.startswith(SECOND)) + '\n')

    def trial(example):
        name, value = example
        copy, path = fuzzing.lay(folder, None, 'small.gin')
        words = name.rsplit('.', 1)[-1]
        fuzzing.try_tool(call, copy, [words, words.split('_')[-1]], None, 'train',
                         f'--gin_file={path}', f'--gin_param={name} = {value}', '--dry_run',
                         f'--workdir={copy.parent / "run"}')

    # Of the parts that every method has.
    names = sorted(name for name in configuration._parameter_names() if name.startswith(
        ('experiment.', 'dataset.', 'stage_one.', 'semi_supervised.', 'segmentor_optimizer.',
         'augmentation.', 'farabet.', 'make_reader.')))
    tried = fuzzing.campaign(some.tuples(some.sampled_from(names), VALUES), number, trial,
                             record_property)
    assert tried == number
