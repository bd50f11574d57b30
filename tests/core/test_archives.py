"""Archives: unpacked as they are, or refused; nothing outside, nothing beyond the disk."""
import collections
import errno
import io
import shutil
import struct
import tarfile
import zipfile

import fuzzing
import mutations
import pytest

from tf_advseg.core import archives
from tf_advseg.core.errors import UserError

DATA = {'images/a.png': b'picture', 'labels/a.png': b'label' * 999, 'README': b''}


def zipped(data):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as made:
        for name, content in data:
            entry = zipfile.ZipInfo('x')
            entry.filename = name  # as it is: the constructor would mend it
            made.writestr(entry, content)
    return file.getvalue()


def tarred(kind, data):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f'w:{kind}') as made:
        for name, content in data:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            made.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def unpack(tmp_path, content, ending):
    """{name: bytes} of what an archive leaves in its folder, and nothing beside that."""
    archive, folder = tmp_path / f'it{ending}', tmp_path / 'deep' / 'folder'
    archive.write_bytes(content)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    before = fuzzing.inventory(tmp_path, folder)
    try:
        archives.unpack(archive, folder)
    finally:
        assert fuzzing.inventory(tmp_path, folder) == before
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob('*') if path.is_file()}


@pytest.mark.parametrize('ending', archives.ENDINGS)
def test_what_is_sound_comes_out_as_it_was(tmp_path, ending):
    content = zipped(DATA.items()) if ending == '.zip' else tarred(
        {'.tgz': 'gz', '.tar': ''}.get(ending, ending[-2:]), DATA.items())
    assert unpack(tmp_path, content, ending) == DATA


@pytest.mark.parametrize('name', ['../x', 'a/../../x', '/tmp/tf_advseg_fuzzing_outside.png',
                                  '..\\x', 'C:\\x'])
def test_names_that_lead_outside_are_refused(tmp_path, name):
    """Python's zipfile would write them elsewhere in the folder, without a word."""
    for content, ending in ((zipped([(name, b'')]), '.zip'), (tarred('', [(name, b'')]), '.tar')):
        with pytest.raises(UserError, match=f'it{ending}: cannot be unpacked.*outside'):
            unpack(tmp_path, content, ending)


def test_two_files_of_one_name_in_a_zip_are_refused(tmp_path):
    with pytest.warns(UserWarning, match='Duplicate name'):
        content = zipped([('a.png', b'one'), ('a.png', b'other')])
    with pytest.raises(UserError, match='two files in it are called a.png'):
        unpack(tmp_path, content, '.zip')


def test_more_than_the_disk_has_room_for_is_not_begun(tmp_path, monkeypatch):
    usage = collections.namedtuple('usage', 'free')
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: usage(4000))
    for content, ending in ((zipped(DATA.items()), '.zip'), (tarred('', DATA.items()), '.tar')):
        with pytest.raises(UserError, match=f'it{ending}: .*0.0 GB or more'):
            unpack(tmp_path, content, ending)


def test_a_full_disk_is_told_from_a_damaged_archive(tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(zipfile.ZipFile, 'extractall', full)
    with pytest.raises(UserError, match='it.zip: cannot be unpacked in .*: the disk is full'):
        unpack(tmp_path, zipped(DATA.items()), '.zip')


def spoilt_zip(place, value):
    """A zip whose central directory says otherwise at a byte."""
    content = bytearray(zipped(DATA.items()))
    start = content.index(b'PK\x01\x02')
    content[start + place:start + place + 2] = struct.pack('<H', value)
    return bytes(content)


@pytest.mark.parametrize('content', [spoilt_zip(8, 1), spoilt_zip(10, 99), spoilt_zip(6, 99)],
                         ids=['a password', 'a compression of who knows whom', 'a version'])
def test_what_zipfile_cannot_do_is_one_line(tmp_path, content):
    with pytest.raises(UserError, match='it.zip: cannot be unpacked'):
        unpack(tmp_path, content, '.zip')


@pytest.mark.parametrize('number', [60, pytest.param(600, marks=pytest.mark.slow)])
def test_any_archive_is_unpacked_or_refused(tmp_path, number, record_property):
    def trial(example):
        content, kind = example
        try:
            unpack(tmp_path, content, f'.{kind}')
        except UserError as error:
            assert f'it.{kind}: ' in str(error)

    with pytest.warns(UserWarning):  # of the writer: names that are there twice
        assert number == fuzzing.campaign(
            mutations.archives(DATA), number, trial, record_property)
