"""ONNX out: the class map and the logits of the network, at sizes that were not traced."""
import sys

import decided_maps
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.data.augmentation.official_preprocessing import SizeRange
from tf_advseg.evaluation import prediction
from tf_advseg.models import inference
from tf_advseg.models.zoo import onnx_export, saved_model

CROP = (65, 81)


@pytest.fixture(scope='module')
def segmentor():
    if sys.version_info < (3, 10):
        pytest.skip('ONNX needs Python 3.10 or later')
    return decided_maps.segmentor(CROP)


def test_class_maps_of_any_size_and_batch(segmentor):
    session = onnx_export.Session(onnx_export.class_map(segmentor))
    random = np.random.default_rng(0)
    # Below the crop, of it, above it, and one side of each.
    for size in ((30, 40), (65, 81), (120, 70), (65, 200)):
        images = random.integers(0, 256, (2, *size, 3), np.uint8)
        found = session(images)
        assert found.dtype == np.uint8 and found.shape == images.shape[:3]
        for image, ids in zip(images, found):
            assert np.mean(ids == prediction.predict(segmentor, image, CROP)) > 0.9998
        assert len(np.unique(found)) > 1


def test_logits(segmentor):
    session = onnx_export.Session(onnx_export.logits(inference.InferenceNetwork(
        segmentor, tuned=False)))
    image = np.random.default_rng(1).uniform(0, 255, (2, 97, 65, 3)).astype(np.float32)
    expected = segmentor(tf.constant(image), training=False).numpy()
    np.testing.assert_allclose(session(image), expected, atol=1e-4 * expected.std())


@pytest.mark.parametrize('odd, message', [
    (lambda image: 1 / 0, 'tf2onnx cannot convert it'),
    (lambda image: {'logits': tf.numpy_function(lambda x: x, [image], tf.float32)},
     'ONNX Runtime cannot run')])
def test_what_cannot_be_converted_or_run_is_one_line(segmentor, odd, message):
    with pytest.raises(UserError, match=message) as caught:
        onnx_export.Session(onnx_export._converted(odd, tf.float32, segmentor.name))
    assert '\n' not in str(caught.value)


def test_resizing_first_is_the_saved_models(segmentor):
    sizes = saved_model.Sizes(SizeRange(65, 81))
    session = onnx_export.Session(onnx_export.class_map(segmentor, sizes))
    images = np.random.default_rng(2).integers(0, 256, (1, 130, 162, 3), np.uint8)
    signature = saved_model.ExportedSegmentor(segmentor, sizes).signatures['class_map']
    expected = signature(image=tf.constant(images))['class_map'].numpy()
    assert np.mean(session(images) == expected) > 0.9998
