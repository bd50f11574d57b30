"""What --input means: files, folders, patterns, several of them."""
import os
import pathlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tf_advseg.core.errors import UserError
from tf_advseg.experiments.score import input_files


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
        root, paths = input_files.find_images(source)
        assert root == folder / 'v' and names(root, paths) == expected
    keys = ['a2', 'a10', 'b1', '3', 'a', '10']
    assert sorted(keys, key=input_files.natural_key) == ['3', '10', 'a', 'a2', 'a10', 'b1']


def test_patterns_of_any_depth_keep_the_folders_inside(folder):
    root, paths = input_files.find_images(f'{folder}/*/frame_9.png')
    assert root == folder and names(root, paths) == ['v/frame_9.png']
    root, paths = input_files.find_images(f'{folder}/w/**/*.jpg')
    assert root == folder / 'w' and names(root, paths) == ['[x].jpg', 'a.jpg', 'deep/b.jpg']
    # A file whose name is a pattern is that file.
    assert input_files.find_images(folder / 'w' / '[x].jpg')[1] == [folder / 'w' / '[x].jpg']


def test_several_words_and_an_image_once(folder):
    root, paths = input_files.find_all([folder / 'w/a.jpg', folder / 'v', f'{folder}/w/a*'])
    assert root == folder
    assert names(root, paths) == ['w/a.jpg', 'v/frame_1.PNG', 'v/frame_9.png', 'v/frame_10.png']
    root, paths = input_files.find_all([folder / 'w/a.jpg', folder / 'w/[x].jpg'])
    assert root == folder / 'w' and len(paths) == 2


def test_earlier_results_are_no_input(folder):
    root, paths = input_files.find_images(folder, outside=folder / 'w')
    assert all('w' != path.relative_to(root).parts[0] for path in paths) and len(paths) == 3
    for above in (folder / 'w', folder, '.', '/'):  # holds the images themselves
        assert len(input_files.find_images(folder / 'w', outside=above)[1]) == 3
    assert len(input_files.find_images(f'{folder}/w/*', outside=folder)[1]) == 2


def test_a_link_to_nothing_is_not_passed_over(folder):
    (folder / 'v' / 'gone.png').symlink_to(folder / 'nowhere.png')
    (folder / 'v' / 'ring.png').symlink_to(folder / 'v' / 'ring.png')
    root, paths = input_files.find_images(folder / 'v', outside=folder / 'v' / 'out')
    assert {'gone.png', 'ring.png'} < set(names(root, paths)) and len(paths) == 5


def test_linked_folders_are_searched(folder):
    (folder / 'v' / 'more').symlink_to('../w')
    (folder / 'v' / 'back').symlink_to('..')
    expected = ['frame_1.PNG', 'frame_9.png', 'frame_10.png', 'more/[x].jpg', 'more/a.jpg',
                'more/deep/b.jpg']
    for source in (folder / 'v', f'{folder}/v/**/*.*'):
        root, paths = input_files.find_images(source)
        assert sorted(names(root, paths)) == sorted(expected)


def test_a_folder_whose_name_looks_like_a_pattern(folder):
    (folder / 'v').rename(folder / 'pics [2020]')
    root, paths = input_files.find_images(f'{folder}/pics [2020]/*_1*')
    assert root == folder / 'pics [2020]' and names(root, paths) == ['frame_1.PNG', 'frame_10.png']


def test_nothing_is_an_error_of_one_line(folder):
    for source, text in ((f'{folder}/v/*.gif', 'matches this pattern'),
                         (folder / 'nowhere', 'nowhere: no such folder'),
                         (f'{folder}/nowhere/*.png', 'matches this pattern')):
        with pytest.raises(UserError, match=text):
            input_files.find_images(source)


def made(root, names):
    found = input_files.output_names(root, [root / name for name in names])
    return found, [f'{name}{end}.png' for name in map(str, found)
                   for end in ('', '_overlay', '_confidence')]


@pytest.mark.parametrize('given, expected', [
    (['x.jpg', 'y.png', 'z/x.jpg'], ['x', 'y', 'z/x']),
    (['a.jpg', 'a.png', 'a_png.png'], ['a_jpg', 'a_png_2', 'a_png']),
    (['x.jpg', 'x_overlay.jpg'], ['x_jpg', 'x_overlay_jpg']),
    (['clip.png', 'clip_png.jpg', 'clip_overlay.png'],
     ['clip_png_2', 'clip_png', 'clip_overlay_png']),
    (['a.jpg', 'a.png/b.jpg'], ['a_2', 'a.png/b'])])
def test_names_that_clash(given, expected):
    found, files = made(pathlib.Path('/r'), given)
    assert [name.as_posix() for name in found] == expected and len(set(files)) == len(files)


def test_long_names_leave_room_for_their_endings():
    long = [260 * 'm', 200 * 'é', 130 * 'é' + 'a', 130 * 'é' + 'b', 224 * 'x']
    given = [f'{stem}.png' for stem in long] + [260 * 'm' + '.jpg']
    found, files = made(pathlib.Path('/r'), given)
    assert max(len(os.fsencode(name)) for name in files) <= 255
    assert len(set(files)) == 3 * 6 and str(found[4]) == long[4]
    assert found[0].name.startswith('mmm') and found[0].name.endswith('_png')
    assert found == made(pathlib.Path('/r'), given)[0]


# Few words, so that they clash often.
stems = some.lists(some.sampled_from(['a', 'b', '_png', '_jpg', '_overlay', '_confidence', '_2']),
                   min_size=1, max_size=4).map(''.join)
given_names = some.lists(some.builds('{}{}{}'.format, some.sampled_from(['', 'a/', 'a.png/']),
                                     stems, some.sampled_from(['.png', '.jpg', '.PNG'])),
                         unique=True, min_size=1, max_size=12)


@given(given_names)
@settings(max_examples=300, deadline=None)
def test_no_two_images_share_a_file(given):
    root = pathlib.Path('/r')
    found, files = made(root, given)
    assert len(set(files)) == len(files) and (found, files) == made(root, given)
    folders = {str(folder) for name in given for folder in pathlib.PurePath(name).parents}
    assert folders.isdisjoint(files)
    plain = [str(pathlib.PurePath(name).with_suffix('')) for name in given]
    wanted = [f'{stem}{end}.png' for stem in plain for end in ('', '_overlay', '_confidence')]
    if len(set(wanted)) == len(wanted) and folders.isdisjoint(wanted):
        assert list(map(str, found)) == plain
