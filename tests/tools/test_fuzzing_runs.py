"""Damaged runs, records and results through the tools that read them.

What holds of each: `tests/helpers/fuzzing.py`. More of the same with --slow.
"""
import shutil
from unittest import mock

import fuzzing
import mutations
import numpy as np
import pytest
import whole_run
from hypothesis import strategies as some
from PIL import Image

from tf_advseg.experiments.train import run_report


def numbers(default, slow):
    """How many inputs a test tries: by default, and in the slow suite."""
    return pytest.mark.parametrize('number', [
        default, pytest.param(slow, marks=pytest.mark.slow)])


def changed(content, change):
    """Bytes of a file after a change: of JSON and JSON lines also by what they say."""
    how, what = change
    if how == 'bytes' or not content.startswith(b'{'):
        return mutations.damaged(content, what if how == 'bytes' else [
            mutations.Damage('text', 0.5, what[0][0] % 4096)])
    try:
        return mutations.spoilt(content, what).encode()
    except ValueError:  # a journal: one of its lines
        lines = content.splitlines(keepends=True)
        place = what[0][0] % len(lines)
        lines[place] = mutations.spoilt(lines[place], what).encode() + b'\n'
        return b''.join(lines)


CHANGES = some.one_of(some.tuples(some.just('bytes'), mutations.damages()),
                      some.tuples(some.just('json'), mutations.spoils()),
                      some.tuples(some.just('json'), mutations.spoils()))


@pytest.fixture(scope='module')
def image(tmp_path_factory):
    """A small image for predict."""
    path = tmp_path_factory.mktemp('image') / 'p.png'
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 49, 3)).astype(
        np.uint8)).save(path)
    return path


# What each tool reads of a run: where the files lie that are spoilt for it.
READ = {'inspect_run': '**/*', 'sweep': 'results.json', 'doctor': 'records/*',
        'evaluate': 'records/*', 'predict': 'checkpoints/best/**/*', 'benchmark': '**/*.json*',
        'import_checkpoint': 'checkpoints/best/**/*'}


def places(run):
    """Strategy: (tool, parts of the path of a file that it reads)."""
    return some.sampled_from(sorted(READ)).flatmap(lambda tool: some.tuples(
        some.just(tool), some.sampled_from([
            path.relative_to(run).parts for path in sorted(run.glob(READ[tool]))
            if path.is_file() and path.name != '.lock'])))


def words_of(tool, copy, output, image):
    """What a tool is called with that reads a run, or its records."""
    return {'inspect_run': (f'--workdir={copy}',),
            'benchmark': ('load', f'--workdir={copy}'),
            'sweep': (f'--runs=a={copy}',),
            'doctor': (f'--data_dir={copy / "records"}',),
            'evaluate': (f'--checkpoint={copy}', f'--data_dir={copy / "records"}',
                         f'--output={output}.json'),
            'predict': (f'--checkpoint={copy}', f'--input={image}', f'--output={output}'),
            'import_checkpoint': (f'--source={copy}', f'--output={output}')}[tool]


@numbers(6, 100)
def test_runs(call, made_run, image, number, record_property):
    def trial(example):
        (tool, parts), change = example
        copy, path = fuzzing.lay(made_run.path, lambda content: changed(content, change), *parts)
        output = copy.parent / 'out'
        fuzzing.try_tool(call, copy, [path.name, str(copy)],
                         output.with_suffix('.json') if tool == 'evaluate' else output, tool,
                         *words_of(tool, copy, output, image))

    strategy = some.tuples(places(made_run.path), CHANGES)
    tried = fuzzing.campaign(strategy, number, trial, record_property)
    assert tried == number


@numbers(2, 30)
def test_images_that_are_predicted(call, made_run, image, number, record_property):
    model = made_run.path / 'checkpoints' / 'best'

    def trial(change):
        copy, path = fuzzing.lay(image.parent, lambda content: (
            change if isinstance(change, bytes) else mutations.damaged(content, change)), 'p.png')
        output = copy.parent / 'out'
        fuzzing.try_tool(call, copy, [path.name], output, 'predict', f'--checkpoint={model}',
                         f'--input={path}', f'--output={output}')

    strategy = some.one_of(mutations.damages(), mutations.images())
    tried = fuzzing.campaign(strategy, number, trial, record_property)
    assert tried == number


@pytest.fixture(scope='module')
def begun(tmp_path_factory):
    """A run of Stage 1 alone that is done but for its report, and its gin file."""
    import tensorflow as tf

    from tf_advseg.core import configuration
    from tf_advseg.experiments.train import training
    folder = tmp_path_factory.mktemp('begun')
    gin_file = folder / 'small.gin'
    gin_file.write_text('\n'.join((
        "experiment.method = 'cross_entropy'", 'stage_one.epochs = 1',
        'stage_one.weighted_epochs = 0', *(line for line in whole_run.scenes()
                                           if line.startswith(('dataset.', 'exp', 'farabet.'))))))
    configuration.parse([str(gin_file)])
    with mock.patch.object(run_report, 'write'):
        training.experiment(folder / 'run', tf.distribute.get_strategy())
    configuration.parse([], [])
    return folder / 'run', gin_file


@numbers(3, 40)
def test_runs_that_go_on(call, begun, number, record_property):
    """The run itself is the output: nothing outside it is written, and its line names a file."""
    run, gin_file = begun

    def trial(example):
        parts, change = example
        copy, path = fuzzing.lay(run, lambda content: changed(content, change), *parts)
        scratch = fuzzing.scratch_of(copy)
        try:
            before = fuzzing.inventory(scratch, copy)
            with mock.patch.object(run_report, 'write'):
                code, lines = fuzzing.outcome(
                    call, 'train', f'--gin_file={gin_file}', f'--workdir={copy}')
            assert fuzzing.inventory(scratch, copy) == before
            assert code in (0, 1) and len(lines) == code, lines
            assert not code or path.name in lines[0] or str(copy) in lines[0], lines
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    places = [path.relative_to(run).parts for path in sorted(run.rglob('*'))
              if path.is_file() and path.name != '.lock' and 'tensorboard' not in path.parts]
    tried = fuzzing.campaign(some.tuples(some.sampled_from(places), CHANGES), number, trial,
                             record_property)
    assert tried == number
