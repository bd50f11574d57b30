"""Records of ten images in a folder of one's own."""
import pytest

from tf_advseg.data.readers import make_reader
from tf_advseg.data.records.record_set import write_records


@pytest.fixture
def reader(own_folder):
    return make_reader('folder', own_folder, num_classes=4)


@pytest.fixture
def folder(reader, tmp_path):
    return write_records(reader, None, tmp_path / 'records', shard_size=4, progress=False)
