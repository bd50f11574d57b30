"""Labels whose values are not numbers of classes: what they mean is told, with the option."""
import numpy as np
import pytest
from PIL import Image

from data_layouts import draw_pair, write_folder
from examinations import examined, kinds
from tf_advseg.core.errors import UserError
from tf_advseg.data.readers import folder as folder_reader
from tf_advseg.data.readers import make_reader
from tf_advseg.data.readers.label_values import LabelValues

NAMES = [f'p{i}' for i in range(10)]


@pytest.fixture
def folder(tmp_path):
    """A function of {value drawn: value saved} -> a folder of labels with these values."""
    def made(values):
        table = np.arange(256, dtype=np.uint8)
        for value, saved in values.items():
            table[value] = saved
        folder = write_folder(tmp_path / 'own', NAMES)
        for path in (folder / 'labels').iterdir():
            Image.fromarray(table[np.array(Image.open(path))]).save(path)
        return folder
    return made


@pytest.mark.parametrize('values, advice', [
    ({1: 255, 2: 0, 3: 0}, r'0 and 255 alone.*--option=label_values=\[0,255\]'),
    ({1: 128, 2: 0, 3: 0, 255: 0}, r'0, 128, which would be 129.*label_values=\[0,128\]'),
    ({1: 85, 2: 170, 3: 255}, r'label_values=\[0,85,170,255\]'),
    ({0: 255, 1: 255, 2: 255, 3: 255}, 'every pixel is ignored')])
def test_values_that_are_no_numbers_of_classes(folder, values, advice):
    path = folder(values)
    with pytest.raises(UserError, match=advice):
        make_reader('folder', path)
    found = [f for f in examined(path, {}).findings if f.kind in ('refused', 'single_class')]
    assert any('label_values' in f.message + f.advice for f in found) or 'every' in advice


def test_the_option_reads_them(folder):
    path = folder({1: 255, 2: 0, 3: 77})
    reader = make_reader('folder', path, label_values=[0, 255], ignore_label=77)
    assert reader.spec.num_classes == 2
    drawn = draw_pair(2)[1]
    expected = np.where((drawn == 1) | (drawn == 255), 1, np.where(drawn == 3, 255, 0))
    np.testing.assert_array_equal(reader.load('p2')[1], expected)
    with pytest.raises(UserError, match=r'label id 77 is out of range; expected one of \[0, 255\]'):
        make_reader('folder', path, label_values=[0, 255]).load('p2')
    with pytest.raises(UserError, match='label_values has 2 values, but there are 3 classes'):
        make_reader('folder', path, label_values=[0, 255], num_classes=3)


@pytest.mark.parametrize('options, words', [
    ({'label_values': 3}, 'expected the value of each class'),
    ({'label_values': [0, 0]}, 'different whole numbers'), ({'label_values': [0, 256]}, '0 to 255'),
    ({'label_values': []}, 'one a class'), ({'ignore_label': 'x'}, 'expected a whole number')])
def test_options_that_mean_nothing(folder, options, words):
    with pytest.raises(UserError, match=words):
        make_reader('folder', folder({}), **options)


def test_plain_ids_with_gaps_are_classes_and_few_of_many_are_told(folder, caplog):
    assert make_reader('folder', folder({3: 5})).spec.num_classes == 6
    assert 'only' not in caplog.text
    assert LabelValues().num_classes({0, 7, 21, 255}, 'labels') == (
        22, '; only 3 of these ids are in the labels (--option=label_values=[0,7,21] counts them '
        'alone)')


def test_an_id_one_past_the_last_is_asked_about(folder):
    path = folder({255: 4})
    (path / 'classes.txt').write_text('a\nb\nc\nd\n')
    words = ('label id 4 is out of range; expected 0 to 3, or 255 for pixels to ignore; if 4 means '
             'pixels to ignore, add --option=ignore_label=4')
    with pytest.raises(UserError, match=words):
        make_reader('folder', path).load('p2')
    finding, = [f for f in examined(path, {}).findings if f.severity == 'error']
    assert finding.kind == 'label_ids' and len(finding.files) == 10
    assert finding.message.startswith('all 10 labels have the id 4, one past the last class')
    assert '--option=ignore_label=4' in finding.advice
    assert not examined(path, {'ignore_label': 4}).count('error')
    # 255 is ignored beside it.
    label = draw_pair(2)[1]
    Image.fromarray(label).save(path / 'labels' / 'p2.png')
    found = make_reader('folder', path, ignore_label=4).load('p2')[1]
    np.testing.assert_array_equal(found, label)


def test_an_id_that_few_labels_have_is_told_label_by_label(folder):
    path = folder({})
    label = draw_pair(2)[1]
    label[5, 5] = 4
    Image.fromarray(label).save(path / 'labels' / 'p2.png')
    diagnosis = examined(path)
    assert kinds(diagnosis, 'error') == {'label_ids': 1}
    finding, = [f for f in diagnosis.findings if f.kind == 'label_ids']
    assert 'p2.png: label id 4 is out of range' in finding.message


def test_in_how_many_labels_such_an_id_is(folder, monkeypatch):
    path = folder({255: 4})
    (path / 'classes.txt').write_text('a\nb\nc\nd\n')
    first = sorted((path / 'labels').iterdir())[0]
    Image.fromarray(np.zeros_like(np.array(Image.open(first)))).save(first)
    reader = make_reader('folder', path)
    with pytest.raises(UserError, match=r'name it \(4 is in 9 of the 10 labels\)'):
        reader.load('p2')
    monkeypatch.setattr(folder_reader, '_COUNTED', 3)
    with pytest.raises(UserError, match=r'4 is in \d of the first 3 of 10 labels'):
        reader.load('p2')


def test_other_ids_out_of_range_are_not_counted(folder, monkeypatch):
    path = folder({255: 9})
    (path / 'classes.txt').write_text('a\nb\nc\nd\n')
    monkeypatch.setattr(folder_reader.FolderReader, '_labels_with', None)  # would not be callable
    with pytest.raises(UserError, match='label id 9 is out of range.*to ignore$'):
        make_reader('folder', path).load('p2')


@pytest.mark.parametrize('present, options, asked', [
    ({0: 10, 1: 7, 2: 10}, {}, True),
    ({0: 10, 1: 7, 2: 9}, {}, False),            # not in every label
    ({0: 10, 1: 10, 2: 10}, {}, False),          # all classes are in every label
    ({0: 10, 1: 7, 2: 10, 255: 3}, {}, False),   # 255 is what is ignored
    ({0: 7, 1: 10}, {}, False),                  # thing and background
    ({0: 10, 1: 7, 2: 10}, {'ignore_label': 2}, False),
    ({0: 10, 1: 7, 2: 10}, {'values': (0, 1, 2)}, False)])
def test_a_highest_id_in_every_label_is_asked_about(present, options, asked):
    question = LabelValues(**options).void_question(present, 10)
    assert ('2, is in all 10 labels' in question and '--option=ignore_label=2' in question) == asked
    assert asked or not question


def test_the_question_reaches_the_user_where_classes_have_no_names(folder, caplog):
    path = folder({255: 3})
    for number, label in enumerate(sorted((path / 'labels').iterdir())):
        ids = np.array(Image.open(label))
        ids[0] = 4
        if number == 0:
            ids[ids == 3] = 0
        Image.fromarray(ids).save(label)
    assert make_reader('folder', path).spec.num_classes == 5
    assert 'the last of them, 4, is in all 10 labels: are these pixels' in caplog.text
    caplog.clear()
    assert make_reader('folder', path, ignore_label=4).spec.num_classes == 4
    assert not caplog.text
