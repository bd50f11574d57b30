"""What lies below a folder, and what patterns mean, with links, loops and brackets."""
import os

import pytest
from absl import logging

from tf_advseg.core import walking
from tf_advseg.core.errors import UserError


def made(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'x')


def below(root):
    return [path.relative_to(root).as_posix() for path in walking.files_below(root)]


def matches(root, pattern):
    return [path.relative_to(root).as_posix() for path in walking.matching(root / pattern)]


@pytest.fixture
def warned(monkeypatch):
    lines = []
    monkeypatch.setattr(logging, 'warning', lambda text, *values: lines.append(text % values))
    return lines


def test_links_to_folders_are_followed_and_hidden_names_left_out(tmp_path):
    made(tmp_path, 'in/a', 'in/.b', 'in/.git/c', 'elsewhere/d', 'elsewhere/deep/e')
    (tmp_path / 'in' / 'more').symlink_to('../elsewhere')
    (tmp_path / 'in' / 'again').symlink_to('../elsewhere')
    (tmp_path / 'in' / 'nothing').symlink_to('gone')
    assert below(tmp_path / 'in') == ['a', 'again/d', 'again/deep/e', 'more/d', 'more/deep/e',
                                      'nothing']


def test_loops_end_and_are_told(tmp_path, warned):
    made(tmp_path, 'in/a', 'other/b')
    (tmp_path / 'in' / 'self').symlink_to('.')
    (tmp_path / 'in' / 'out').symlink_to('../other')
    (tmp_path / 'other' / 'back').symlink_to('../in')
    (tmp_path / 'in' / 'ring').symlink_to('ring')
    assert below(tmp_path / 'in') == ['a', 'out/b', 'ring']
    assert sorted(line.split(': ')[0] for line in warned) == [
        str(tmp_path / 'in' / 'out' / 'back'), str(tmp_path / 'in' / 'self')]
    assert matches(tmp_path / 'in', '**/*') == ['a', 'out', 'out/b', 'out/back', 'ring', 'self']


@pytest.mark.skipif(os.geteuid() == 0, reason='nothing is forbidden to root')
def test_a_folder_that_cannot_be_listed_is_told(tmp_path):
    (tmp_path / 'closed').mkdir(mode=0)
    with pytest.raises(UserError, match='closed: the folder cannot be read'):
        walking.files_below(tmp_path)


def test_folders_that_vanish_are_told(tmp_path):
    with pytest.raises(UserError, match='gone: the folder cannot be read'):
        walking.files_below(tmp_path / 'gone')


def test_patterns_are_those_of_a_shell(tmp_path):
    made(tmp_path, 'a1.png', 'a2.png', 'b.jpg', '.h.png', 'sub/c.png', 'sub/deep/d.png')
    assert matches(tmp_path, '*.png') == ['a1.png', 'a2.png']
    assert matches(tmp_path, 'a[2-9].*') == ['a2.png']
    assert matches(tmp_path, '.*.png') == ['.h.png']
    assert matches(tmp_path, '*/c.png') == ['sub/c.png']
    assert matches(tmp_path, '**/*.png') == ['a1.png', 'a2.png', 'sub/c.png', 'sub/deep/d.png']
    assert matches(tmp_path, 's*/**') == ['sub/c.png', 'sub/deep', 'sub/deep/d.png']
    assert matches(tmp_path, 'no*/x') == [] and matches(tmp_path, 'b.jpg') == ['b.jpg']


def test_names_that_are_there_are_no_patterns(tmp_path):
    made(tmp_path, 'images [2020]/a.png', 'images [2020]/b.jpg', 'images 2/c.png', 'x[1].png',
         'x1.png')
    assert matches(tmp_path, 'images [2020]/*.png') == ['images [2020]/a.png']
    assert matches(tmp_path, 'images [0-9]/*.png') == ['images 2/c.png']
    assert matches(tmp_path, 'x[1].png') == ['x[1].png']
    assert walking.split_pattern(tmp_path / 'images [2020]' / 'b*' / 'y') == (
        tmp_path / 'images [2020]', os.path.join('b*', 'y'))


def test_a_pattern_relative_to_here(tmp_path, monkeypatch):
    made(tmp_path, 'w [1]/a.png')
    monkeypatch.chdir(tmp_path / 'w [1]')
    assert [str(path) for path in walking.matching('*.png')] == ['a.png']
    assert [str(path) for path in walking.matching('../w [1]/*')] == ['../w [1]/a.png']
