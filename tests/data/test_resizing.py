"""Resizing without TensorFlow gives what TensorFlow's does, and Cityscapes can be read so."""
import numpy as np
import pytest
import tensorflow as tf

from official_layouts_voc_cityscapes import write_cityscapes
from tf_advseg.core.errors import UserError
from tf_advseg.data import official_preprocessing as official
from tf_advseg.data.readers import make_reader, resizing
from tf_advseg.data.records import RecordSet, write_records

PICTURE = np.random.default_rng(0).integers(0, 256, [37, 53, 3]).astype(np.uint8)


@pytest.mark.parametrize('size', [(37, 53), (18, 27), (74, 106), (5, 120), (1, 1)])
def test_as_tensorflow_on_the_grid_of_areas(size):
    ids = PICTURE[..., 0]
    image, label = official.resized(tf.constant(PICTURE), tf.constant(ids), size,
                                    official.CENTRES)
    np.testing.assert_array_equal(resizing.nearest(ids, size), label)
    np.testing.assert_allclose(resizing.bilinear(PICTURE, size), image, atol=0.501)
    assert resizing.bilinear(PICTURE, size).dtype == np.uint8


def test_half_the_size_is_the_mean_of_four():
    image = PICTURE[:36, :52]
    four = image.reshape(18, 2, 26, 2, 3).mean(axis=(1, 3))
    np.testing.assert_array_equal(resizing.bilinear(image, (18, 26)), np.round(four))


def test_cityscapes_at_another_size(tmp_path):
    folder = write_cityscapes(tmp_path / 'cityscapes')
    plain, small = (make_reader('cityscapes', folder, **options)
                    for options in ({}, {'size': (20, 30)}))
    records = RecordSet(write_records(small, None, tmp_path / 'records', progress=False))
    for name in records.ids:
        image, label = plain.load(name)
        np.testing.assert_array_equal(records.load(name)[0], resizing.bilinear(image, (20, 30)))
        np.testing.assert_array_equal(records.load(name)[1], resizing.nearest(label, (20, 30)))
        np.testing.assert_array_equal(records.load_instances(name), resizing.nearest(
            plain.instances(name), (20, 30)))
    assert small.description['options'] == {'size': (20, 30)}


@pytest.mark.parametrize('size', [512, (512,), (512, 0), (512.0, 1024), '512x1024', (True, 2)])
def test_sizes_that_are_none(tmp_path, size):
    write_cityscapes(tmp_path / 'cityscapes')
    with pytest.raises(UserError, match='cityscapes: size is .* expected .height, width.'):
        make_reader('cityscapes', tmp_path / 'cityscapes', size=size)
