"""An output folder is replaced only where everything in it was written by the tool itself."""
import json
import os
import threading

import pytest

from tf_advseg.core import files, output_folder
from tf_advseg.core.errors import UserError

RECORD = 'report.json'


def checked(path, sources=()):
    return output_folder.require_replaceable(path, RECORD, 'an export', sources)


def write(path, names=('model.bin', 'deep/weights.bin'), check=True):
    path = checked(path) if check else path
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


def test_a_second_process_is_told_before_its_work_and_waits_at_the_end(tmp_path, capfd):
    path = checked(tmp_path / 'out')
    ready, go = threading.Event(), threading.Event()

    def other():  # flock is between open files, so a thread stands for a process
        with output_folder.written(path, RECORD) as folder:
            files.write_json(folder / RECORD, {'who': 'first'})
            ready.set()
            go.wait()

    thread = threading.Thread(target=other)
    thread.start()
    ready.wait()
    with pytest.raises(UserError, match='out: another process is writing it'):
        checked(tmp_path / 'out')
    threading.Timer(0.3, go.set).start()
    write(path, [], check=False)
    thread.join()
    assert 'waiting' in capfd.readouterr().err
    assert json.loads((path / RECORD).read_text())['what'] == 'export'  # the last one's, whole
    assert os.listdir(tmp_path) == ['out']


def test_what_came_in_meanwhile_is_kept(tmp_path):
    path = write(tmp_path / 'out')
    with pytest.raises(UserError, match='out: holds notes.txt'), \
            output_folder.written(path, RECORD) as folder:
        files.write_json(folder / RECORD, {})
        (path / 'notes.txt').write_text('mine')
    assert (path / 'notes.txt').is_file() and os.listdir(tmp_path) == ['out']


@pytest.mark.parametrize('inside', [False, True])
def test_what_a_killed_process_left_goes(tmp_path, monkeypatch, inside):
    path = tmp_path / 'out'
    path.mkdir()
    monkeypatch.setattr(os.path, 'ismount', lambda name: inside and str(name) == str(path))
    base = path if inside else tmp_path
    left = base / files.temporary_name('out')
    left.mkdir()
    (left / 'half').write_text('torn')
    (base / '.out.lock').write_text('1')
    another = tmp_path / files.temporary_name('another')  # perhaps being written this moment
    another.mkdir()
    write(path, ['model.bin'])
    assert contents(path) == ['model.bin', RECORD]
    assert sorted(os.listdir(tmp_path)) == sorted(['out', another.name])


def test_a_mount_point_whose_filling_was_cut_short_is_filled_anew(tmp_path, monkeypatch):
    mount = tmp_path / 'mount'
    mount.mkdir()
    monkeypatch.setattr(os.path, 'ismount', lambda path: str(path) == str(mount))
    write(mount, ['a.bin', 'b.bin'])
    replace, calls = os.replace, []

    def failing(source, target):
        calls.append(target)
        if str(target).endswith('d.bin'):
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, 'replace', failing)
        write(mount, ['c.bin', 'd.bin'])
    assert contents(mount) == ['c.bin', RECORD]
    assert list(json.loads((mount / RECORD).read_text())) == [output_folder.LIST]
    write(mount, ['e.bin'])
    assert contents(mount) == ['e.bin', RECORD]


def test_the_older_output_comes_back_where_the_new_one_cannot_take_its_name(tmp_path, monkeypatch):
    path = write(tmp_path / 'out', ['old.bin'])
    rename = os.rename

    def failing(source, target):
        if '-old' not in str(source) and str(target) == str(path) and not calls:
            calls.append(target)
            raise OSError(5, 'Input/output error')
        rename(source, target)

    calls = []
    monkeypatch.setattr(os, 'rename', failing)
    with pytest.raises(UserError, match='out: '):
        write(path, ['new.bin'])
    assert contents(path) == ['old.bin', RECORD] and os.listdir(tmp_path) == ['out']


def test_a_shared_folder_lets_one_in_and_leaves_no_empty_one(tmp_path):
    path = tmp_path / 'made' / 'out'
    with output_folder.shared(path, '.state'):
        with pytest.raises(UserError, match='another process is writing into this folder'), \
                output_folder.shared(path, '.state'):
            pass
    assert not os.listdir(tmp_path)
    with output_folder.shared(path, '.state'):
        (path / 'map.png').write_text('map')
    assert contents(tmp_path) == ['made/out/map.png']
