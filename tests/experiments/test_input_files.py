"""What --input means: files, folders, patterns, several of them."""
import pathlib

import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.experiments import input_files


@pytest.fixture
def folder(tmp_path):
    for name in ('v/frame_10.png', 'v/frame_9.png', 'v/frame_1.PNG', 'v/notes.txt', 'w/a.jpg',
                 'w/deep/b.jpg', 'w/.hidden/c.jpg', 'w/[x].jpg'):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'')
    return tmp_path


def names(root, paths):
    return [path.relative_to(root).as_posix() for path in paths]


def test_frames_come_in_natural_order(folder):
    expected = ['frame_1.PNG', 'frame_9.png', 'frame_10.png']
    for source in (folder / 'v', f'{folder}/v/*', f'{folder}/v/frame_*'):
        root, paths = input_files.find_pictures(source)
        assert root == folder / 'v' and names(root, paths) == expected
    keys = ['a2', 'a10', 'b1', '3', 'a', '10']
    assert sorted(keys, key=input_files.natural_key) == ['3', '10', 'a', 'a2', 'a10', 'b1']


def test_patterns_of_any_depth_keep_the_folders_inside(folder):
    root, paths = input_files.find_pictures(f'{folder}/*/frame_9.png')
    assert root == folder and names(root, paths) == ['v/frame_9.png']
    root, paths = input_files.find_pictures(f'{folder}/w/**/*.jpg')
    assert root == folder / 'w' and names(root, paths) == ['[x].jpg', 'a.jpg', 'deep/b.jpg']
    # A file whose name is a pattern is that file.
    assert input_files.find_pictures(folder / 'w' / '[x].jpg')[1] == [folder / 'w' / '[x].jpg']


def test_several_words_and_a_picture_once(folder):
    root, paths = input_files.find_all([folder / 'w/a.jpg', folder / 'v', f'{folder}/w/a*'])
    assert root == folder
    assert names(root, paths) == ['w/a.jpg', 'v/frame_1.PNG', 'v/frame_9.png', 'v/frame_10.png']
    root, paths = input_files.find_all([folder / 'w/a.jpg', folder / 'w/[x].jpg'])
    assert root == folder / 'w' and len(paths) == 2


def test_earlier_results_are_no_input(folder):
    root, paths = input_files.find_pictures(folder, outside=folder / 'w')
    assert all('w' != path.relative_to(root).parts[0] for path in paths) and len(paths) == 3
    assert len(input_files.find_pictures(folder / 'w', outside=folder / 'w')[1]) == 3


def test_nothing_is_an_error_of_one_line(folder):
    for source, text in ((f'{folder}/v/*.gif', 'matches this pattern'),
                         (folder / 'nowhere', 'nowhere: no such folder'),
                         (f'{folder}/nowhere/*.png', 'matches this pattern')):
        with pytest.raises(UserError, match=text):
            input_files.find_pictures(source)


def test_names_stay_apart():
    root = pathlib.Path('/r')
    given = ('x.jpg', 'x_overlay.jpg', 'y.png', 'z/x.jpg', 'q.png', 'q_confidence.jpg', 'y1.gif')
    found = input_files.output_names(root, [root / name for name in given])
    files = [f'{name}{end}' for name in map(str, found) for end in ('', '_overlay', '_confidence')]
    assert len(set(files)) == len(files)
    assert str(found[2]) == 'y' and str(found[3]) == 'z/x'
