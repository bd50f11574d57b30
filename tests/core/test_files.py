"""Files are whole or not there; errors of the disk are one line; manifests find damage."""
import errno
import os
import resource

import numpy as np
import pytest

from tf_advseg.core import files
from tf_advseg.core.errors import UserError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_atomic_file_replaces_only_when_the_block_ends_well(tmp_path):
    path = tmp_path / 'a.txt'
    with files.atomic_file(path, 'w') as file:
        file.write('old ü')
        assert not path.exists()
    with pytest.raises(RuntimeError), files.atomic_file(path, 'w') as file:
        file.write('new')
        raise RuntimeError('killed')
    assert path.read_text(encoding='utf-8') == 'old ü'
    assert names(tmp_path) == ['a.txt']


def test_atomic_folder(tmp_path):
    path = tmp_path / 'slot'
    with files.atomic_folder(path) as folder:
        (folder / 'sub').mkdir()
        (folder / 'sub' / 'x').write_bytes(b'1')
        assert folder.name.startswith('.tmp-') and folder.parent == tmp_path
        assert not path.exists()
    assert (path / 'sub' / 'x').read_bytes() == b'1'
    with pytest.raises(UserError, match='exists already'), files.atomic_folder(path):
        pass
    with pytest.raises(KeyError), files.atomic_folder(tmp_path / 'other'):
        raise KeyError
    assert names(tmp_path) == ['slot']


def test_atomic_folder_that_another_process_has_written_meanwhile(tmp_path):
    path = tmp_path / 'slot'
    with pytest.raises(UserError, match='another process'), files.atomic_folder(path) as folder:
        (folder / 'x').write_bytes(b'mine')
        path.mkdir()
        (path / 'x').write_bytes(b'theirs')
    assert (path / 'x').read_bytes() == b'theirs'
    assert names(tmp_path) == ['slot']


@pytest.mark.parametrize('number, words', [
    (errno.ENOSPC, 'disk is full'), (errno.EDQUOT, 'quota'), (errno.EACCES, 'permission'),
    (errno.EROFS, 'read-only')])
@pytest.mark.parametrize('opener', [files.atomic_file, files.atomic_folder])
def test_disk_errors_are_one_line_with_the_file_and_leave_nothing(
        tmp_path, number, words, opener):
    path = tmp_path / 'map.bin'
    with pytest.raises(UserError, match=words) as caught, opener(path) as target:
        if hasattr(target, 'write'):
            target.write(b'half')
        else:
            (target / 'x').write_bytes(b'half')
        raise OSError(number, os.strerror(number))
    assert str(caught.value).startswith(f'{path}: ')
    assert names(tmp_path) == []


def test_a_real_limit_on_file_size_is_one_line(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(UserError, match='larger than the system allows'), \
                files.atomic_file(tmp_path / 'big') as file:
            file.write(b'x' * 100000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path) == []


def test_tensorflow_s_word_for_a_full_disk_is_told_from_its_lack_of_memory(tmp_path):
    from tensorflow import errors
    full = errors.ResourceExhaustedError(None, None, f'{tmp_path}/x; No space left on device')
    with pytest.raises(UserError, match='x: the disk is full'), files.disk_errors(tmp_path / 'x'):
        raise full
    memory = errors.ResourceExhaustedError(None, None, 'OOM when allocating tensor')
    with pytest.raises(errors.ResourceExhaustedError), files.disk_errors(tmp_path / 'x'):
        raise memory


def test_long_names_of_many_bytes_have_temporary_ones(tmp_path):
    path = tmp_path / (120 * 'é')
    with files.atomic_file(path) as file:
        file.write(b'x')
    assert path.read_bytes() == b'x' and names(tmp_path) == [path.name]
    with pytest.raises(UserError, match='longer than the file system allows') as caught, \
            files.atomic_file(tmp_path / (140 * 'é')):
        pass
    assert files.is_too_long(caught.value) and names(tmp_path) == [path.name]


def test_names_that_are_not_utf8_are_written_and_read_back(tmp_path):
    name = os.fsdecode(b'caf\xe9')
    files.write_json(tmp_path / 'a.json', {name: [name]})
    assert files.read_json(tmp_path / 'a.json') == {name: [name]}
    with files.atomic_file(tmp_path / 'a.txt', 'w') as file:
        file.write(name)
    assert (tmp_path / 'a.txt').read_text('utf-8') == 'caf\\udce9'


def test_other_errors_pass_unchanged(tmp_path):
    with pytest.raises(FileNotFoundError), files.atomic_file(tmp_path / 'a') as _:
        open(tmp_path / 'nowhere', 'rb')


def test_missing_parent_is_named(tmp_path):
    with pytest.raises(UserError, match='there is no folder'), \
            files.atomic_file(tmp_path / 'no' / 'a'):
        pass


def test_json_round_trip_is_exact_and_takes_numpy(tmp_path):
    path = tmp_path / 'a.json'
    files.write_json(path, {'x': np.float64(0.1) + 0.2, 'y': np.arange(3), 'p': tmp_path,
                            's': {2, 1}, 'ü': 'ß'})
    assert files.read_json(path) == {'x': 0.1 + 0.2, 'y': [0, 1, 2], 'p': str(tmp_path),
                                     's': [1, 2], 'ü': 'ß'}
    with pytest.raises(TypeError):
        files.write_json(path, {'x': object()})
    assert files.read_json(path)['s'] == [1, 2]


def test_a_dict_that_keras_has_wrapped_is_written_as_a_dict(tmp_path):
    """An attribute of a model becomes one; newer versions of wrapt are no dict to json."""
    import tensorflow as tf
    model = tf.keras.Sequential()
    model.settings = {'widths': [3, 4], 'inner': {'a': (1, 2)}}
    files.write_json(tmp_path / 'a.json', {'model': model.settings})
    assert files.read_json(tmp_path / 'a.json') == {
        'model': {'widths': [3, 4], 'inner': {'a': [1, 2]}}}



@pytest.mark.parametrize('content', [None, b'{"a": ', b'\xff\xfe\x00', b'', b'[' * 10 ** 5])
def test_unreadable_json_is_a_user_error(tmp_path, content):
    path = tmp_path / 'a.json'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        files.read_json(path)
    assert str(path) in str(caught.value)


@pytest.fixture
def manifest_folder(tmp_path):
    folder = tmp_path / 'slot'
    (folder / 'sub').mkdir(parents=True)
    (folder / 'a').write_bytes(b'hello')
    (folder / 'sub' / 'b').write_bytes(b'')
    (folder / '.tmp-left').write_bytes(b'no part of it')
    files.write_manifest(folder, kind='maps', number=3)
    return folder


def test_manifest(manifest_folder):
    manifest = files.check_manifest(manifest_folder)
    assert manifest['kind'] == 'maps' and manifest['number'] == 3
    assert sorted(manifest['files']) == ['a', 'sub/b']
    # The published SHA-256 of 'hello'.
    assert manifest['files']['a'] == {'bytes': 5, 'sha256': (
        '2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824')}


def test_manifest_names_what_is_bad(manifest_folder):
    (manifest_folder / 'a').write_bytes(b'hellO')
    assert files.check_manifest(manifest_folder, checksums=False)['kind'] == 'maps'
    with pytest.raises(UserError, match='slot/a: its checksum'):
        files.check_manifest(manifest_folder)
    (manifest_folder / 'a').write_bytes(b'hell')
    with pytest.raises(UserError, match='slot/a: has 4 bytes'):
        files.check_manifest(manifest_folder, checksums=False)
    (manifest_folder / 'a').unlink()
    with pytest.raises(UserError, match='slot/a: missing'):
        files.check_manifest(manifest_folder)
    # The last one: a flipped bit in 'bytes'.
    for text in ('[1]', '{}', '{"files": [1]}', '{"files": {"a": 3}}',
                 '{"files": {"a": {"bytds": 5, "sha256": "0"}}}'):
        (manifest_folder / 'manifest.json').write_text(text)
        with pytest.raises(UserError, match='not a manifest'):
            files.check_manifest(manifest_folder)
    with pytest.raises(UserError, match='no such folder'):
        files.check_manifest(manifest_folder / 'nowhere')


@pytest.mark.parametrize('listed', [None, [], {'bytes': 5}, {'bytes': 'x', 'sha256': ''},
                                    {'bytes': [], 'sha256': 1}, {'sha256': 'x', 'bytes': None}])
def test_a_manifest_of_another_form_is_named(manifest_folder, listed):
    files.write_json(manifest_folder / 'manifest.json', {'files': {'a': listed}})
    with pytest.raises(UserError, match='manifest.json: (not a manifest|does not hold what it)'):
        files.check_manifest(manifest_folder)


def test_a_manifest_of_names_that_no_file_has_is_named(manifest_folder):
    files.write_json(manifest_folder / 'manifest.json', {'files': {
        'x' * 300: {'bytes': 5, 'sha256': ''}}})
    with pytest.raises(UserError, match='xxx: a name or the whole path is longer'):
        files.check_manifest(manifest_folder)


def test_only_the_taking_apart_is_called_the_file_s_fault(tmp_path):
    for error in (KeyError('a'), IndexError(), TypeError('b'), AttributeError(), OverflowError()):
        with pytest.raises(UserError, match='x.json: does not hold what it should .*damaged'), \
                files.as_written(tmp_path / 'x.json'):
            raise error
    for error in (UserError('mine'), AssertionError(), OSError(), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, files.as_written(tmp_path / 'x.json'):
            raise error
        assert caught.value is error


def test_spared_files_only_have_to_be_there(tmp_path):
    for name in ('a.bin', 'a.json'):
        (tmp_path / name).write_bytes(b'hello')
    files.write_manifest(tmp_path)
    (tmp_path / 'a.bin').write_bytes(b'damaged')
    assert set(files.check_manifest(tmp_path, spared=('.bin',))['files']) == {'a.bin', 'a.json'}
    (tmp_path / 'a.bin').unlink()
    with pytest.raises(UserError, match='a.bin: missing'):
        files.check_manifest(tmp_path, spared=('.bin',))
    (tmp_path / 'a.bin').write_bytes(b'')
    (tmp_path / 'a.json').write_bytes(b'hellO')
    with pytest.raises(UserError, match='a.json: its checksum'):
        files.check_manifest(tmp_path, spared=('.bin',))


def test_folder_bytes_and_remove_temporaries(tmp_path):
    (tmp_path / '.tmp-x' / '.tmp-inner').mkdir(parents=True)
    (tmp_path / '.tmp-x' / 'y').write_bytes(b'123')
    (tmp_path / 'keep').mkdir()
    (tmp_path / 'keep' / '.tmp-file').write_bytes(b'12')
    (tmp_path / 'keep' / 'z').write_bytes(b'1234')
    assert files.folder_bytes(tmp_path) == 9
    assert files.folder_bytes(tmp_path / 'nowhere') == 0
    assert files.remove_temporaries(tmp_path) == ['.tmp-x', 'keep/.tmp-file']
    assert files.folder_bytes(tmp_path) == 4
    assert names(tmp_path) == ['keep']
