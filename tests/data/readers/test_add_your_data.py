"""The page "add your own data set": its reader runs, and readers from elsewhere are found."""
import re

import numpy as np
import pytest
from PIL import Image

from tf_advseg.core import files
from tf_advseg.core.errors import UserError
from tf_advseg.data import readers
from tf_advseg.data.records import record_set


@pytest.fixture(scope='module')
def aerial(repository, tmp_path_factory):
    """(aerial.py as the page has it, a folder in its layout)."""
    page = (repository / 'tf_advseg/data/ADD_YOUR_DATA.md').read_text()
    folder = tmp_path_factory.mktemp('aerial')
    (folder / 'aerial.py').write_text(re.search(r'```python\n(.*?)```', page, re.S)[1])
    (folder / 'tiles').mkdir()
    random = np.random.default_rng(0)
    for number in range(6):
        image = random.integers(0, 256, (9, 12, 3), np.uint8)
        Image.fromarray(image).save(folder / 'tiles' / f'{number}_rgb.png')
        label = random.integers(0, 4, (9, 12), np.uint8)
        Image.fromarray(label).save(folder / 'tiles' / f'{number}_seg.png')
    return folder / 'aerial.py', folder


def test_the_reader_of_the_page_makes_records(aerial, tmp_path):
    script, folder = aerial
    assert len(script.read_text().split('\n\n\n', 1)[1].splitlines()) <= 40
    reader = readers.make_reader(f'{script}:AerialReader', folder, seed=1)
    output = record_set.write_records(reader, None, tmp_path / 'records', progress=False)
    made = record_set.RecordSet(output)
    assert {name: len(ids) for name, ids in made.splits.items()} == {
        'train': 4, 'val': 1, 'test': 1}
    label = np.array(Image.open(folder / 'tiles' / '3_seg.png'))
    expected = np.where(label == 0, 255, label - 1)
    np.testing.assert_array_equal(made.load('3')[1], expected)
    np.testing.assert_array_equal(made.spec.to_official(made.load('3')[1]), label)


def test_an_id_that_the_page_s_classes_have_not_is_named(aerial, tmp_path):
    script, folder = aerial
    (tmp_path / 'tiles').mkdir()
    for name in ('0_rgb.png', '0_seg.png'):
        (tmp_path / 'tiles' / name).write_bytes((folder / 'tiles' / name).read_bytes())
    Image.fromarray(np.full((9, 12), 7, np.uint8)).save(tmp_path / 'tiles' / '0_seg.png')
    reader = readers.make_reader(f'{script}:AerialReader', tmp_path)
    with pytest.raises(UserError, match='0_seg.png: .*7'):
        reader.load('0')


def test_a_module_s_reader_is_found(aerial, monkeypatch):
    script, folder = aerial
    monkeypatch.syspath_prepend(str(folder))
    assert readers.make_reader('aerial:AerialReader', folder).spec.name == 'aerial'


def test_records_are_of_a_reader_s_text_wherever_it_lies(aerial, tmp_path, monkeypatch):
    script, folder = aerial
    name = f'{script}:AerialReader'
    description = readers.make_reader(name, folder, seed=1).description
    assert description == {'reader': 'AerialReader', 'options': {'seed': 1},
                           'sha256': files.sha256(script)}
    monkeypatch.chdir(folder)
    (tmp_path / 'elsewhere.py').write_bytes(script.read_bytes())
    monkeypatch.syspath_prepend(str(folder))
    for other in ('aerial.py:AerialReader', './aerial.py:AerialReader', 'aerial:AerialReader',
                  f'../{folder.name}/aerial.py:AerialReader',
                  f'{tmp_path}/elsewhere.py:AerialReader'):
        assert readers.make_reader(other, folder, seed=1).description == description


def test_an_edited_reader_makes_other_records(aerial, tmp_path):
    script, folder = aerial
    mine, output = tmp_path / 'mine.py', tmp_path / 'records'
    mine.write_text(script.read_text())
    name = f'{mine}:AerialReader'
    record_set.write_records(readers.make_reader(name, folder), None, output, progress=False)
    before = record_set.RecordSet(output).load('3')[1]
    text = script.read_text()
    # Of the same length, so that neither size nor a time in whole seconds gives it away.
    mine.write_text(text.replace(
        '(1, 2, 3), official_ignore=0', '(3, 2, 1), official_ignore=0'))
    changed = readers.make_reader(name, folder)
    assert (changed.load('3')[1] != before).any()
    with pytest.raises(UserError, match='records'):
        record_set.write_records(changed, None, output, progress=False)


@pytest.mark.parametrize('text, words', [
    ('raise KeyError("colours")', 'KeyError'), ('1 / 0', 'ZeroDivisionError: division by zero'),
    ('def f(:', 'SyntaxError'), ('import no_such_thing', 'ModuleNotFoundError'),
    ('import sys; sys.exit(3)', 'SystemExit: 3'), ('x = (1,\n\x00)', 'cannot be loaded')])
def test_a_reader_that_fails_to_load_is_one_line(tmp_path, monkeypatch, text, words):
    path = tmp_path / 'failing_reader.py'
    path.write_text(text + '\n')
    with pytest.raises(UserError) as error:
        readers.reader_class(f'{path}:Mine')
    assert str(error.value).startswith(f'{path}: cannot be loaded: ') and words in str(error.value)
    assert '\n' not in str(error.value)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match='failing_reader|no_such_thing'):
        readers.reader_class('failing_reader:Mine')


@pytest.mark.parametrize('name, message', [
    ('{}:AerialReadr', 'no reader "AerialReadr"; readers there: AerialReader.*Did you mean'),
    ('{}:FileReader', 'no reader "FileReader"'),
    ('{}', 'aerial.py: expected PATH.py:CLASS; readers there: AerialReader$'),
    ('nowhere.py', 'nowhere.py: no such file; expected PATH.py:CLASS'),
    ('nowhere.py:Reader', 'nowhere.py: no such file'),
    ('no_such_module_here:Reader', 'no_such_module_here cannot be imported'),
    (':Reader', 'expected one of ade20k, .* or PATH.py:CLASS'),
    ('.x:Reader', 'expected one of ade20k, .* or PATH.py:CLASS'),
    ('..:Reader', 'expected one of ade20k'),
    ('cityscape', 'Did you mean "cityscapes"')])
def test_a_mistake_is_one_line(aerial, name, message):
    with pytest.raises(UserError, match=message) as caught:
        readers.reader_class(name.format(aerial[0]))
    assert '\n' not in str(caught.value)
