"""Damaged and odd images, labels, lists and archives through prepare_data and doctor.

What holds of each: `tests/helpers/fuzzing.py`. More of the same with --slow.
"""
import fuzzing
import mutations
import numpy as np
import pytest
from hypothesis import strategies as some
from PIL import Image

NAMES = tuple(f'p{number}' for number in range(6))


def numbers(default, slow):
    """How many inputs a test tries: by default, and in the slow suite."""
    return pytest.mark.parametrize('number', [
        default, pytest.param(slow, marks=pytest.mark.slow)])


@pytest.fixture(scope='module')
def own(tmp_path_factory):
    """A folder of six small pairs, PNG and JPEG, with its lists and classes."""
    folder = tmp_path_factory.mktemp('own') / 'mine'
    random = np.random.default_rng(0)
    for part in ('images', 'labels', 'splits'):
        (folder / part).mkdir(parents=True)
    for number, name in enumerate(NAMES):
        image = Image.fromarray(random.integers(0, 256, (20, 24, 3)).astype(np.uint8))
        image.save(folder / 'images' / f'{name}{".jpg" if number % 2 else ".png"}')
        label = Image.fromarray(random.integers(0, 3, (20, 24)).astype(np.uint8))
        label.save(folder / 'labels' / f'{name}.png')
    for split, names in (('train', NAMES[:3]), ('val', NAMES[3:5]), ('test', NAMES[5:])):
        (folder / 'splits' / f'{split}.txt').write_text('\n'.join(names) + '\n')
    (folder / 'classes.txt').write_text('sky\nground\nwater\n')
    return folder


def either_tool(call, copy, names, tool):
    """prepare_data, or the doctor, on a folder or archive in the scratch folder of `lay`."""
    output = copy.parent / 'out' / 'made'
    output.parent.mkdir()
    if tool == 'prepare_data':
        words = (f'--source={copy}', f'--output={output}')
    else:
        output = output.with_suffix('.json')
        words = (f'--data_dir={copy}', '--dataset=folder')
    fuzzing.try_tool(call, copy, names, output if tool == 'prepare_data' else None, tool, *words)


TOOLS = some.sampled_from(('prepare_data', 'doctor'))


@numbers(4, 60)
def test_images_and_labels(call, own, number, record_property):
    parts = some.sampled_from((('images', 'p0.png'), ('images', 'p1.jpg'), ('labels', 'p0.png'),
                               ('labels', 'p1.png')))
    change = some.one_of(mutations.damages(), mutations.images())

    def trial(example):
        parts, change, tool = example
        copy, path = fuzzing.lay(own, lambda content: (
            change if isinstance(change, bytes) else mutations.damaged(content, change)), *parts)
        either_tool(call, copy, [f'{path.stem}.'], tool)  # the pair's other half has its name

    tried = fuzzing.campaign(some.tuples(parts, change, TOOLS), number, trial, record_property)
    assert tried == number


@numbers(4, 60)
def test_lists_and_class_files(call, own, number, record_property):
    parts = some.sampled_from((('splits', 'train.txt'), ('classes.txt',), ('classes.json',),
                               ('splits', 'odd.txt')))
    classes = '{"names": ["sky", "ground", "water"], "palette": [[0, 0, 0], [9, 9, 9], [1, 2, 3]]}'
    change = some.one_of(mutations.damages(), mutations.lists_of(NAMES), mutations.spoils().map(
        lambda spoil: mutations.spoilt(classes, spoil).encode()))

    def trial(example):
        parts, change, tool = example
        copy, path = fuzzing.lay(own, lambda content: (
            change if isinstance(change, bytes) else mutations.damaged(
                content or classes.encode(), change)), *parts)
        either_tool(call, copy, [path.name, 'labels/', 'images/', 'split'], tool)

    tried = fuzzing.campaign(some.tuples(parts, change, TOOLS), number, trial, record_property)
    assert tried == number


@numbers(4, 60)
def test_archives(call, own, number, record_property):
    data = {path.relative_to(own).as_posix(): path.read_bytes() for path in sorted(own.rglob('*'))
            if path.is_file()}

    def trial(example):
        content, kind = example[0]
        copy, _ = fuzzing.lay(own)
        archive = copy.with_name(f'mine.{kind}')
        archive.write_bytes(content)
        either_tool(call, archive, [archive.name], example[1])

    tried = fuzzing.campaign(some.tuples(mutations.archives(data), TOOLS), number, trial,
                             record_property)
    assert tried == number
