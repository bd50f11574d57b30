"""Resizing without TensorFlow gives what TensorFlow's does, and Cityscapes can be read so."""
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from official_layouts_voc_cityscapes import write_cityscapes
from tf_advseg.core.errors import UserError
from tf_advseg.data.augmentation import official_preprocessing as official
from tf_advseg.data.readers import make_reader, resizing
from tf_advseg.data.records.record_set import RecordSet, write_records

IMAGE = np.random.default_rng(0).integers(0, 256, [37, 53, 3]).astype(np.uint8)


@pytest.mark.parametrize('size', [(37, 53), (18, 27), (74, 106), (5, 120), (1, 1)])
def test_as_tensorflow_on_the_grid_of_areas(size):
    ids = IMAGE[..., 0]
    image, label = official.resized(tf.constant(IMAGE), tf.constant(ids), size,
                                    official.CENTRES)
    np.testing.assert_array_equal(resizing.nearest(ids, size), label)
    np.testing.assert_allclose(resizing.bilinear(IMAGE, size), image, atol=0.501)
    assert resizing.bilinear(IMAGE, size).dtype == np.uint8


def test_half_the_size_is_the_mean_of_four():
    image = IMAGE[:36, :52]
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


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 2000))
def test_the_longer_side_is_bounded_and_the_shape_kept(height, width, longest):
    size = resizing.within((height, width), longest)
    if max(height, width) <= longest:
        assert size == (height, width)
        return
    assert max(size) == longest and min(size) >= 1
    scale = longest / max(height, width)
    assert np.allclose(size, np.maximum((height * scale, width * scale), 1), atol=0.5 + 1e-9)
    assert resizing.within((width, height), longest) == size[::-1]
    assert resizing.within(size, longest) == size  # once is enough
    assert resizing.within((height, width), None) == (height, width)


@pytest.mark.parametrize('side', [0, -320, 320.0, '320', True, (320, 320)])
def test_longest_sides_that_are_none(side):
    with pytest.raises(UserError, match='^here: longest_side is .* expected a whole number of '
                       'pixels of at least 1, such as 320, or None') as caught:
        resizing.require_longest_side('here', side)
    assert '\n' not in str(caught.value)
    assert [resizing.require_longest_side('here', good) for good in (None, 1)] == [None, 1]
