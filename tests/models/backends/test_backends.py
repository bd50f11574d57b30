"""Backends: they give the segmentor's logits, for every size and pass, and say what they cannot."""
import builtins

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.evaluation import map_predictor
from tf_advseg.experiments.benchmarks import inference_benchmark
from tf_advseg.models import backends, deeplab
from tf_advseg.models.backends import choosing
from tf_advseg.models.zoo import onnx_export, tflite_runtime

CROP = (65, 65)
IMAGES = [np.random.default_rng(i).integers(0, 256, (*size, 3), np.uint8)
          for i, size in enumerate([(65, 65), (40, 50), (81, 100)])]


def _onnx():
    try:
        onnx_export.require()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope='module')
def segmentor():
    model = inference_benchmark.randomise(deeplab.deeplab_mobilenet_v2(
        5, crop_size=CROP, depth_multiplier=0.25))
    # So far apart that rounding does not decide a pixel.
    model.logits.kernel.assign(model.logits.kernel * 30.0)
    # Classes as frequent as each other.
    seen = tf.constant(np.random.default_rng(9).uniform(0, 255, (1, *CROP, 3)), tf.float32)
    model.logits.bias.assign(-tf.reduce_mean(model(seen), [0, 1, 2]))
    return model


@pytest.fixture(scope='module', params=['tflite', 'onnx'])
def chosen(request, segmentor):
    if request.param == 'onnx':
        _onnx()
    return backends.make(segmentor, request.param)


def test_logits_are_the_segmentors_for_batches_and_sizes(chosen, segmentor):
    assert chosen.text() == f'backend: {chosen.name}'
    random = np.random.default_rng(0)
    for shape in ((1, 65, 65, 3), (3, 65, 65, 3), (2, 81, 97, 3)):
        image = tf.constant(random.uniform(0, 255, shape), tf.float32)
        expected = segmentor(image, training=False).numpy()
        np.testing.assert_allclose(chosen.network(image), expected, rtol=0,
                                   atol=1e-4 * expected.std())


@pytest.mark.parametrize('passes', [
    {}, {'scales': (0.75, 1.0), 'flip': True}, {'window': (49, 49), 'confidence': True}])
def test_class_maps_are_equal_in_every_kind_of_pass(chosen, segmentor, passes):
    ours = map_predictor.MapPredictor(chosen.network, CROP, **passes)(IMAGES)
    expected = map_predictor.MapPredictor(segmentor, CROP, **passes)(IMAGES)
    for (ids, chances), (their_ids, their_chances) in zip(ours, expected):
        assert np.mean(ids == their_ids) > 0.999
        if 'confidence' in passes:
            np.testing.assert_allclose(chances, their_chances, atol=1e-3)
    assert len(np.unique(expected[0][0])) > 1


def test_the_weights_are_those_of_the_moment(segmentor):
    made = backends.make(segmentor, 'tflite').network
    image = tf.constant(IMAGES[0][None], tf.float32)
    before = made(image).numpy()
    kept = segmentor.logits.bias.numpy()
    segmentor.logits.bias.assign_add(tf.ones_like(segmentor.logits.bias))
    try:
        np.testing.assert_array_equal(made(image), before)
        moved = backends.make(segmentor, 'tflite').network(image).numpy()
    finally:
        segmentor.logits.bias.assign(kept)
    np.testing.assert_allclose(moved, before + 1.0, atol=1e-3)


def test_a_backend_cannot_be_trained(chosen):
    with pytest.raises(ValueError, match='cannot be trained'):
        chosen.network(tf.zeros([1, 65, 65, 3]), training=True)


def test_auto_takes_the_fastest_and_says_so(segmentor, monkeypatch):
    monkeypatch.setattr(choosing, '_BACKENDS', {'tflite': choosing._BACKENDS['tflite']})
    monkeypatch.setattr(choosing, 'timed', lambda networks, size: dict(
        zip(networks, (0.030, 0.020))))
    found = backends.make(segmentor, 'auto')
    assert found.name == 'tflite'
    assert found.text() == 'backend: tflite (tflite 20 ms, tensorflow 30 ms an image)'
    few = backends.make(segmentor, 'auto', images=3)
    assert few.network is segmentor and 'too few' in few.text()


def test_times_are_of_each(segmentor):
    seconds = choosing.timed({'a': segmentor, 'b': segmentor}, CROP)
    assert list(seconds) == ['a', 'b'] and all(value > 0 for value in seconds.values())


def test_what_is_missing_is_one_line_and_auto_leaves_it_out(segmentor, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name in ('tf2onnx', 'onnxruntime'):
            raise ImportError(f'No module named {name!r}')
        return real(name, *rest)

    monkeypatch.setattr(builtins, '__import__', without)
    with pytest.raises(UserError, match=r"'\.\[onnx\]'") as caught:
        backends.make(segmentor, 'onnx')
    assert '\n' not in str(caught.value)
    found = backends.make(segmentor, 'auto')
    assert 'onnx' in found.left_out and 'onnx' not in found.seconds


def test_no_such_backend():
    with pytest.raises(UserError, match='Did you mean "tflite"'):
        backends.require('tflight')


def test_the_interpreter_uses_what_is_installed(monkeypatch):
    monkeypatch.setattr(tflite_runtime, '_litert', lambda: None)
    assert tflite_runtime.name() == tflite_runtime.OWN
