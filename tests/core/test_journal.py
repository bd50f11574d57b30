"""The journal survives a kill and is cut back to a saved state."""
import numpy as np
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.core.journal import Journal


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'journal.jsonl'


def test_append_and_read_exactly(path):
    with Journal(path, clock=lambda: 12.5) as journal:
        entry = journal.append('peak', miou=0.1 + 0.2, ids=np.arange(2), label='g^e_{0,1}')
        # Another process (inspect_run) sees it before anything is closed.
        assert Journal.read(path) == [{'event': 'peak', 'time': 12.5, 'miou': 0.1 + 0.2,
                                       'ids': [0, 1], 'label': 'g^e_{0,1}'}]
    assert entry['miou'] == 0.1 + 0.2


def test_cut_back_to_a_position(path):
    journal = Journal(path, clock=lambda: 0)
    journal.append('a')
    position = journal.position()
    assert position == path.stat().st_size
    journal.append('b')
    journal.cut_back(position)
    journal.append('c')
    journal.close()
    assert [entry['event'] for entry in Journal.read(path)] == ['a', 'c']
    # What stands in the file is what an uninterrupted run would have written.
    assert path.read_bytes() == b'{"event": "a", "time": 0}\n{"event": "c", "time": 0}\n'


def test_cut_back_beyond_the_end_is_an_error(path):
    with Journal(path) as journal:
        journal.append('a')
        with pytest.raises(UserError, match='was cut or replaced'):
            journal.cut_back(journal.position() + 1)


@pytest.mark.parametrize('torn', [b'{"event": "b", "ti', b'{"event": "b", "time": 1}', b'\xff'])
def test_a_torn_last_line_is_left_out_and_cut_off_on_opening(path, torn):
    whole = b'{"event": "a", "time": 1}\n'
    path.write_bytes(whole + torn)
    assert [entry['event'] for entry in Journal.read(path)] == ['a']
    with Journal(path) as journal:
        assert journal.position() == len(whole)
        journal.append('c')
    assert [entry['event'] for entry in Journal.read(path)] == ['a', 'c']


def test_damage_in_the_middle_is_named(path):
    path.write_bytes(b'{"event": "a"}\n{"eve\n{"event": "c"}\n')
    with pytest.raises(UserError, match='line 2 is damaged'):
        Journal.read(path)


@pytest.mark.parametrize('line', [b'[]', b'1', b'null', b'"a"', b'[' * 10 ** 5])
def test_lines_that_are_no_events_are_named(path, line):
    path.write_bytes(b'{"event": "a"}\n' + line + b'\n')
    with pytest.raises(UserError, match='line 2 is damaged'):
        Journal.read(path)


def test_damage_behind_the_place_that_is_cut_back_to_is_named(path):
    path.write_bytes(b'{"event": "a"}\n{"eve\n')
    with Journal(path) as log, pytest.raises(UserError, match='does not hold what it should'):
        log.cut_back(15, keep=lambda entry: 'stage' in entry)
    assert path.read_bytes() == b'{"event": "a"}\n{"eve\n'


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match='no such file'):
        Journal.read(tmp_path / 'no.jsonl')
    with pytest.raises(UserError, match='there is no folder'):
        Journal(tmp_path / 'no' / 'journal.jsonl')
    (tmp_path / 'empty.jsonl').touch()
    assert Journal.read(tmp_path / 'empty.jsonl') == []
