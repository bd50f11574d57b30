"""Children that read images: the same records, errors told here, nothing left behind."""
import json
import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest

from data_layouts import draw_pair, write_folder
from tf_advseg.core.errors import UserError
from tf_advseg.data.readers import make_reader
from tf_advseg.data.readers import base
from tf_advseg.data.records import record_parts
from tf_advseg.data.records import record_workers
from tf_advseg.data.records.record_set import RecordSet, write_records
from tf_advseg.data.spec import DatasetSpec, default_palette

IDS = [f'p{i}' for i in range(12)]


@pytest.fixture
def reader(tmp_path):
    return make_reader('folder', write_folder(tmp_path / 'own', IDS), num_classes=4)


@pytest.fixture
def children(monkeypatch):
    """Few images are enough for children; gives the list of those that were started."""
    started = []
    real = subprocess.Popen

    def popen(*args, **options):
        started.append(real(*args, **options))
        return started[-1]

    monkeypatch.setattr(record_workers, 'WORTH_WHILE', 1)
    monkeypatch.setattr(record_workers.subprocess, 'Popen', popen)
    return started


def test_children_write_what_one_process_writes(reader, tmp_path, children):
    splits = {'train': IDS}
    alone = write_records(reader, splits, tmp_path / 'alone', 5, False, workers=1)
    assert not children
    together = write_records(reader, splits, tmp_path / 'together', 5, False, workers=2)
    assert [child.poll() for child in children] == [0, 0]
    assert {p.name: p.read_bytes() for p in alone.iterdir()} == {
        p.name: p.read_bytes() for p in together.iterdir()}
    np.testing.assert_array_equal(RecordSet(together).load('p7')[1], draw_pair(7)[1])


def test_bad_files_are_named_as_without_children(reader, tmp_path, children):
    path = tmp_path / 'own' / 'images' / 'p3.png'
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(UserError, match='images/p3.png: truncated'):
        write_records(reader, {'train': IDS}, tmp_path / 'records', progress=False, workers=2)
    assert len(children) == 2 and all(child.poll() is not None for child in children)
    assert not (tmp_path / 'records').exists()


def test_images_tensorflow_refuses_are_asked_for_again(tmp_path, children, monkeypatch):
    folder = write_folder(tmp_path / 'own', ['a', 'b', 'c'], suffix='.jpg')
    reader = make_reader('folder', folder, num_classes=4)
    monkeypatch.setattr('tf_advseg.data.records.record_format.decodes', lambda image, size: False)
    records = RecordSet(write_records(reader, {'train': ['a']}, tmp_path / 'records',
                                      progress=False, workers=2))
    np.testing.assert_array_equal(records.load('a')[0], reader.load('a')[0])
    assert b'\x89PNG' in records.read(0)


def test_a_child_that_is_killed_is_said(reader, children):
    with record_workers.part_source(reader, 2, 12) as read:
        assert read('p0').size == (40, 56)
        for child in children:
            os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(UserError, match='read image "p1" has ended .signal 9.*goes on where'):
            read('p1')
    with record_workers.part_source(reader, 2, 12, resumes=False) as read:
        os.kill(children[-1].pid, signal.SIGKILL)
        os.kill(children[-2].pid, signal.SIGKILL)
        with pytest.raises(UserError, match='signal 9.*: start it again$'):
            read('p1')


def test_mistakes_in_a_child_come_with_their_traceback(reader, children):
    with record_workers.part_source(reader, 2, 12) as read:
        with pytest.raises(RuntimeError, match='(?s)reading image .* failed.*TypeError'):
            read(['p1'])
        assert read('p1').image_id == 'p1'  # the child goes on


def test_readers_from_elsewhere_are_not_sent_to_a_child(children):
    class Own(base.Reader):
        spec = DatasetSpec('own', ('a', 'b'), default_palette(2))

        def splits(self):
            return {'train': ['x']}

        def load(self, image_id):
            return np.zeros([4, 4, 3], np.uint8), np.ones([4, 4], np.uint8)

    with record_workers.part_source(Own(), 2, 1000) as read:
        assert read('x').class_counts == [0, 16]
    assert not children


def test_few_images_start_no_child(reader, monkeypatch):
    monkeypatch.setattr(record_workers.subprocess, 'Popen', None)
    with record_workers.part_source(reader, 2, record_workers.WORTH_WHILE - 1) as read:
        assert read('p1') == record_parts.read_parts(reader, 'p1')


def test_a_child_needs_no_tensorflow(repository):
    code = ('import sys, importlib; import tf_advseg.data.records.record_workers; '
            'from tf_advseg.data import readers; '
            'names = {module for module, _ in readers._READERS.values()}; '
            '[importlib.import_module(name) for name in sorted(names)]; '
            'print([m for m in ("tensorflow", "matplotlib") if m in sys.modules])')
    run = subprocess.run([sys.executable, '-c', code], cwd=repository, capture_output=True,
                         text=True)
    assert (run.returncode, run.stdout) == (0, '[]\n'), run.stderr


def test_a_child_that_crashes_over_a_file_names_it(reader, children):
    with record_workers.part_source(reader, 2, 12) as read:
        for child in children:
            os.kill(child.pid, signal.SIGSEGV)
        with pytest.raises(UserError, match='read image "p1" has ended .signal 11.; a file of '
                                            'this image may be damaged: .*images/p1.png, '
                                            '.*labels/p1.png. The same command'):
            read('p1')


@pytest.mark.parametrize('cut', [0, 3])
def test_a_child_whose_parent_has_gone_ends_silently(reader, cut):
    child = subprocess.Popen(
        [sys.executable, '-c', record_workers._CHILD, json.dumps(sys.path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.close()  # the parent has ended, and nobody reads the answer
    request = pickle.dumps(('p0', True))
    child.stdin.write(pickle.dumps((record_parts.read_parts, reader))
                      + request[:len(request) - cut])
    child.stdin.close()  # with a cut: in the middle of a request
    assert (child.stderr.read(), child.wait()) == (b'', 0)
    child.stderr.close()
