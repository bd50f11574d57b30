"""Instance ids in records: optional, kept exactly, and nothing that training decodes."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.data.readers import base
from tf_advseg.data.records import record_format
from tf_advseg.data.records import record_parts
from tf_advseg.data.records.record_set import RecordSet, write_records
from tf_advseg.data.spec import DatasetSpec, default_palette


class ObjectReader(base.Reader):
    """Two images; the first has the instance ids that a test gives it."""
    spec = DatasetSpec('objects', ('a', 'b'), default_palette(2))

    def __init__(self, instances):
        self._instances = instances

    def splits(self):
        return {'train': ['first', 'second']}

    def load(self, image_id):
        return np.full([5, 7, 3], 90, np.uint8), np.ones([5, 7], np.uint8)

    def instances(self, image_id):
        return self._instances if image_id == 'first' else None


def test_instances_come_back_exactly_and_only_where_there_are_some(tmp_path):
    ids = np.arange(35).reshape(5, 7) * 1900  # beyond 8 and 15 bits
    ids[0, 0] = 65535
    for dtype in (np.uint16, np.int32, np.int64):
        records = RecordSet(write_records(ObjectReader(ids.astype(dtype)), None,
                                          tmp_path / np.dtype(dtype).name, progress=False))
        loaded = records.load_instances('first')
        assert loaded.dtype == np.int32
        np.testing.assert_array_equal(loaded, ids)
        assert records.load_instances('second') is None
    with pytest.raises(UserError, match='no image "third"'):
        records.load_instances('third')


def test_training_decodes_records_with_and_without_alike():
    parts = [record_parts.read_parts(ObjectReader(ids), 'first')
             for ids in (np.zeros([5, 7], int), None)]
    with_ids, without = (record_format.decode(record_format.encode(p)) for p in parts)
    assert set(with_ids) == set(without) == {'image', 'label', 'image_id'}
    for name, value in with_ids.items():
        assert tf.reduce_all(value == without[name])


@pytest.mark.parametrize('ids, words', [
    (np.zeros([7, 5], int), 'int64 [7, 5], expected integers [5, 7]'),
    (np.zeros([5, 7]), 'float64 [5, 7], expected integers'),
    (np.full([5, 7], 65536), '65536 to 65536, expected 0 to 65535'),
    (np.full([5, 7], -1), 'instance ids -1 to -1')])
def test_a_reader_s_bad_instances_are_refused(tmp_path, ids, words):
    with pytest.raises(UserError) as error:
        write_records(ObjectReader(ids), None, tmp_path / 'records', progress=False)
    assert 'image "first"' in str(error.value) and words in str(error.value)
    assert not (tmp_path / 'records').exists()
