"""Lists of images as data sets publish them."""
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.data.readers import lists


def test_ids_and_paths(tmp_path):
    path = tmp_path / 'train.txt'
    path.write_text('2007_000032\r\n\n /JPEGImages/2008_000001.jpg /labels/2008_000001.png\n')
    assert lists.read_ids(path) == ['2007_000032', '2008_000001']
    path.write_text('city/a b.c\n\nd\n')
    assert lists.read_ids(path, paths=False) == ['city/a b.c', 'd']


def test_a_mark_at_the_start_is_no_part_of_the_first_id(tmp_path):
    path = tmp_path / 'train.txt'
    path.write_bytes(b'\xef\xbb\xbf2007_000032\r\n2008_000001\r\n')
    assert lists.read_ids(path) == ['2007_000032', '2008_000001']
    assert lists.read_lines(path) == ['2007_000032', '2008_000001']


@pytest.mark.parametrize('content, words', [
    (b'', 'empty list'), (b'\n \n', 'empty list'), (b'a\nb\n/x/a.jpg\n', 'lists "a" twice'),
    (b'\xff\xfe\x00', 'cannot be read (not a text file)'),
    (None, 'cannot be read (No such file or directory)')])
def test_bad_lists_are_named_in_one_line(tmp_path, content, words):
    path = tmp_path / 'train.txt'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        lists.read_ids(path)
    assert words in str(error.value) and str(path) in str(error.value)
    assert '\n' not in str(error.value)
