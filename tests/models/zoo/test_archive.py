"""Archives as downloaded, and archives that mean harm."""
import contextlib
import gzip
import tarfile

import numpy as np
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.models import zoo
from tf_advseg.models.zoo import archive


@pytest.fixture
def members(small):
    """The members of a zoo archive: a folder, the checkpoint's files, a graph."""
    return [(f'deeplabv3_mnv2/{path.name}', path) for path in sorted(small.folder.iterdir())] + [
        ('deeplabv3_mnv2/frozen_inference_graph.pb', b'\x0a\x00'), ('deeplabv3_mnv2/README', b'x')]


def below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*'))


def test_the_checkpoint_is_preferred_and_the_rest_is_at_hand(official_files, small, members,
                                                             tmp_path):
    path = official_files.archive(tmp_path / 'zoo.tar.gz', members)
    model = official_files.mobilenet(seed=3)
    report = zoo.read(path, model)
    assert report.kind == 'TF1 checkpoint' and report.source == str(path)
    np.testing.assert_array_equal(model.logits.kernel, small.model.logits.kernel)
    with archive.unpacked(path) as contents:
        assert contents.frozen_graph.name == 'frozen_inference_graph.pb' and not contents.tflite
        assert 'README' not in below(contents.folder)
    assert not contents.folder.exists()


def test_plain_tars_and_unpacked_folders_are_read_too(official_files, small, members, tmp_path):
    path = official_files.archive(tmp_path / 'zoo.tar.gz', members)
    (tmp_path / 'zoo.tar').write_bytes(gzip.decompress(path.read_bytes()))
    for source in (tmp_path / 'zoo.tar', small.folder):
        model = official_files.mobilenet(seed=3)
        assert len(zoo.read(source, model).assigned) == len(small.values)


@pytest.mark.parametrize('name', ['../evil.pb', 'a/../../evil.pb', '/evil/evil.pb', '..\\evil.pb',
                                  'C:\\evil.pb'])
def test_members_that_would_leave_the_folder_refuse_the_archive(official_files, members, tmp_path,
                                                                name, unchanged):
    inside = tmp_path / 'inside'
    inside.mkdir()
    path = official_files.archive(inside / 'zoo.tar.gz', [*members, (name, b'evil')])
    model = official_files.mobilenet(seed=3)
    with unchanged(model), pytest.raises(UserError, match='unsafe') as caught:
        zoo.read(path, model)
    assert str(path) in str(caught.value) and '\n' not in str(caught.value)
    assert below(tmp_path) == ['inside', 'inside/zoo.tar.gz']


@pytest.mark.parametrize('kind', [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_passed_over(official_files, small, members, tmp_path, kind):
    secret = tmp_path / 'secret.pb'
    secret.write_bytes(b'secret')
    path = official_files.archive(tmp_path / 'zoo.tar.gz', members[:-2],
                                  [('zoo/frozen_inference_graph.pb', str(secret), kind)])
    with archive.unpacked(path) as contents:
        assert contents.checkpoint and contents.frozen_graph is None
    only = official_files.archive(tmp_path / 'only.tar.gz', [], [('zoo/m.pb', str(secret), kind)])
    with pytest.raises(UserError, match='no checkpoint, frozen graph'):
        zoo.read(only, official_files.mobilenet())


def test_damaged_and_foreign_archives_are_one_line(official_files, members, tmp_path, unchanged):
    whole = official_files.archive(tmp_path / 'zoo.tar.gz', members).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xff  # only the checksum at the end can tell
    noise = np.random.default_rng(0).bytes(5000)
    cases = {'half': whole[:len(whole) // 2], 'tail': whole[:-4], 'head': whole[:20],
             'flipped': bytes(flipped), 'noise': b'\x1f\x8b' + noise,
             'text': gzip.compress(b'text'), 'empty': gzip.compress(b''),
             'cut': gzip.compress(gzip.decompress(whole)[:-3000000])}
    model = official_files.mobilenet(seed=3)
    for name, data in cases.items():
        path = tmp_path / f'{name}.tgz'
        path.write_bytes(data)
        with unchanged(model), pytest.raises(UserError) as caught:
            zoo.read(path, model)
        assert str(path) in str(caught.value) and '\n' not in str(caught.value), name


def test_what_unpacks_to_too_much_is_refused(official_files, members, tmp_path, monkeypatch):
    path = official_files.archive(tmp_path / 'zoo.tar.gz', members)
    monkeypatch.setattr(archive, 'LIMIT_BYTES', 100000)
    with pytest.raises(UserError, match='unpacks to more than'):
        zoo.read(path, official_files.mobilenet())
    monkeypatch.undo()
    monkeypatch.setattr(archive, 'LIMIT_MEMBERS', 2)
    with pytest.raises(UserError, match='more than 2 members'):
        zoo.read(path, official_files.mobilenet())


@pytest.mark.parametrize('made', ['gnu', 'pax'])
def test_a_sparse_member_is_refused(tmp_path, made):
    """A kB that stands for any number of zeros: the stream itself never gets long."""
    size = 1 << 26
    info = tarfile.TarInfo('model.tflite')
    if made == 'gnu':
        info.type, info.size = tarfile.GNUTYPE_SPARSE, 512
        block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        block[386:398], block[398:410] = b'%011o\0' % (size - 512), b'%011o\0' % 512
        block[483:495] = b'%011o\0' % size
        block[148:156] = b'        '
        block[148:156] = b'%06o\0 ' % sum(block)
        data = bytes(block) + b'x' * 512
    else:
        info.size = 1024
        info.pax_headers = {'GNU.sparse.major': '1', 'GNU.sparse.minor': '0',
                            'GNU.sparse.name': 'model.tflite', 'GNU.sparse.realsize': str(size)}
        data = info.tobuf(tarfile.PAX_FORMAT) + (
            f'1\n{size - 512}\n512\n'.encode().ljust(512, b'\0') + b'x' * 512)
    path = tmp_path / 'zoo.tar.gz'
    path.write_bytes(gzip.compress(data + bytes(1024)))
    with pytest.raises(UserError, match=f"{path}: member 'model.tflite' is a sparse file"):
        with archive.unpacked(path):
            pass


def test_sizes_are_added_up_before_anything_is_unpacked(tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(archive, '_take', lambda *arguments: taken.append(arguments))
    monkeypatch.setattr(archive, 'LIMIT_BYTES', 1 << 20)
    info = tarfile.TarInfo('model.pb')
    info.size = 1 << 40
    path = tmp_path / 'zoo.tar'
    path.write_bytes(info.tobuf() + bytes(1024))
    with pytest.raises(UserError, match='unpacks to more than'):
        with archive.unpacked(path):
            pass
    assert not taken


def test_what_is_not_read_need_not_be_chosen_from(official_files, small, members, tmp_path):
    folder = tmp_path / 'mine'
    folder.mkdir()
    for path in small.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    for name in ('a.tflite', 'b.tflite', 'x.pb', 'y.pb'):
        (folder / name).write_bytes(b'other')
    model = official_files.mobilenet(seed=3)
    assert len(zoo.read(folder, model).assigned) == len(small.values)


def test_only_graphs_of_the_same_weights_are_run(small, members, official_files, tmp_path):
    for path in small.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    prefix = tmp_path / 'model.ckpt-30000'
    other, official, lite = (tmp_path / name for name in (
        'other.pb', archive.FROZEN_GRAPH, 'other.tflite'))
    for path in (other, lite):
        path.write_bytes(b'1')
    with contextlib.ExitStack() as stack:
        for source in (prefix, tmp_path, f'{prefix}.index'):
            assert archive.graphs(stack, source) == ([], [other, lite])
        official.write_bytes(b'1')
        for source in (prefix, tmp_path):
            assert archive.graphs(stack, source) == ([official], [other, lite])
        assert archive.graphs(stack, other) == ([other], [])
        keras = tmp_path / 'weights.h5'
        keras.write_bytes(b'1')
        assert archive.graphs(stack, keras)[0] == []
        zipped = official_files.archive(tmp_path / 'zoo.tar.gz', members)
        same, others = archive.graphs(stack, zipped)
        assert [path.name for path in same] == [archive.FROZEN_GRAPH] and not others
        alone = tmp_path / 'alone'
        alone.mkdir()
        (alone / 'any.pb').write_bytes(b'1')
        assert archive.graphs(stack, alone) == ([alone / 'any.pb'], [])


def test_two_of_a_kind_are_not_chosen_from(official_files, members, tmp_path):
    path = official_files.archive(tmp_path / 'zoo.tar.gz', [('a/x.pb', b'1'), ('b/x.pb', b'2')])
    with pytest.raises(UserError, match='two members are called x.pb'):
        zoo.read(path, official_files.mobilenet())
    path = official_files.archive(tmp_path / 'zoo.tar.gz', [('x.pb', b'1'), ('y.pb', b'2')])
    with pytest.raises(UserError, match=r'zoo.tar.gz: holds several \*.pb'):
        zoo.read(path, official_files.mobilenet())
