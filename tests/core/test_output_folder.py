"""An output folder is replaced only where everything in it was written by the tool itself."""
import json
import os

import pytest

from tf_advseg.core import files, output_folder
from tf_advseg.core.errors import UserError

RECORD = 'report.json'


def checked(path, sources=()):
    return output_folder.require_replaceable(path, RECORD, 'an export', sources)


def write(path, names=('model.bin', 'deep/weights.bin')):
    path = checked(path)
    with output_folder.written(path, RECORD) as folder:
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(name)
        files.write_json(folder / RECORD, {'what': 'export'})
    return path


def contents(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob('*') if p.is_file())


def test_what_was_written_is_listed_and_may_be_replaced(tmp_path):
    folder = write(tmp_path / 'out')
    assert json.loads((folder / RECORD).read_text()) == {
        'what': 'export', 'written': ['deep/weights.bin', 'model.bin']}
    write(tmp_path / 'out', ['other.bin'])
    assert contents(folder) == ['other.bin', RECORD]
    assert os.listdir(tmp_path) == ['out']


@pytest.mark.parametrize('foreign', ['notes.txt', 'deep/notes.txt', 'empty/', 'link'])
def test_anything_foreign_is_kept(tmp_path, foreign):
    folder = write(tmp_path / 'out')
    if foreign == 'link':
        (folder / 'link').symlink_to(tmp_path)
    elif foreign.endswith('/'):
        (folder / foreign).mkdir()
    else:
        (folder / foreign).write_text('mine')
    before = sorted(folder.rglob('*'))
    with pytest.raises(UserError, match=f'out: holds {foreign.rstrip("/")}/?, which was not'):
        checked(tmp_path / 'out')
    assert sorted(folder.rglob('*')) == before


@pytest.mark.parametrize('record', ['[]', '{}', '{"written": 3}', 'no JSON', None])
def test_a_record_that_lists_nothing_frees_nothing(tmp_path, record):
    (tmp_path / 'model.bin').write_text('mine')
    if record is not None:
        (tmp_path / RECORD).write_text(record)
    with pytest.raises(UserError, match='holds model.bin'):
        checked(tmp_path)


def test_a_source_is_not_written_over(tmp_path):
    folder = write(tmp_path / 'out')
    for source in (folder, folder / 'model.bin'):
        with pytest.raises(UserError, match='lies there and would be lost'):
            checked(tmp_path / 'out', [source])
    assert checked(tmp_path / 'out', [tmp_path]) == folder


def test_links_and_the_working_folder_stay(tmp_path, monkeypatch):
    (tmp_path / 'disk').mkdir()
    (tmp_path / 'link').symlink_to(tmp_path / 'disk')
    (tmp_path / 'dangling').symlink_to(tmp_path / 'later')
    assert write(tmp_path / 'link') == tmp_path / 'disk'
    assert write(tmp_path / 'dangling') == tmp_path / 'later'
    assert (tmp_path / 'link').is_symlink() and contents(tmp_path / 'disk') == \
        contents(tmp_path / 'later')
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    assert contents(write('.')) == contents(tmp_path / 'disk')
    assert sorted(os.listdir(tmp_path)) == ['dangling', 'disk', 'here', 'later', 'link']


def test_a_mount_point_is_filled_in_place(tmp_path, monkeypatch):
    mount = tmp_path / 'mount'
    mount.mkdir()
    monkeypatch.setattr(os.path, 'ismount', lambda path: str(path) == str(mount))
    number = mount.stat().st_ino
    for names in (('a', 'deep/b'), ('c',)):
        write(mount, names)
        assert contents(mount) == sorted([*names, RECORD])
    assert mount.stat().st_ino == number and os.listdir(tmp_path) == ['mount']


def test_nothing_stays_of_a_failure(tmp_path):
    folder = write(tmp_path / 'out')
    with pytest.raises(ZeroDivisionError), output_folder.written(folder, RECORD) as fresh:
        (fresh / 'half').write_text('x')
        raise ZeroDivisionError
    assert 'model.bin' in contents(folder) and os.listdir(tmp_path) == ['out']


def test_places_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='file: is a file; --output must name a folder'):
        checked(tmp_path / 'file')
    with pytest.raises(UserError, match='file/x: cannot be made, .*file is a file'):
        checked(tmp_path / 'file' / 'x')
    with pytest.raises(UserError, match='add --output=DIR'):
        checked('')
    monkeypatch.setattr(os, 'access', lambda *args: False)
    for path in (tmp_path, tmp_path / 'new' / 'x'):
        with pytest.raises(UserError, match='cannot be (written|made).*permissions'):
            checked(path)


def test_a_folder_to_be_made_is_tried_out(tmp_path):
    (tmp_path / 'file').write_text('x')
    (tmp_path / 'ring').symlink_to(tmp_path / 'ring')
    for name in ('new', 'deep/new', '.'):
        assert output_folder.require_makeable(tmp_path / name) == tmp_path / name
    assert sorted(os.listdir(tmp_path)) == ['file', 'ring']
    for path in (tmp_path / 'file', tmp_path / 'file' / 'new', '/proc/x', '/proc/x/y'):
        with pytest.raises(UserError, match=f'^{path}: ') as caught:
            output_folder.require_makeable(path)
        assert '\n' not in str(caught.value)
