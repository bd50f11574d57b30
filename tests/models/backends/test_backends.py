"""Backends: they give the segmentor's logits, for every size and pass, and say what they cannot."""
import builtins
import sys

import decided_maps
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core import command_line
from tf_advseg.core.errors import UserError
from tf_advseg.evaluation import map_predictor
from tf_advseg.experiments.benchmarks import device_steps
from tf_advseg.models import backends
from tf_advseg.models import segmentor as segmentors
from tf_advseg.models.backends import choosing, tflite_backend
from tf_advseg.models.zoo import onnx_export, tflite_export, tflite_runtime

CROP = (65, 65)
IMAGES = [np.random.default_rng(i).integers(0, 256, (*size, 3), np.uint8)
          for i, size in enumerate([(65, 65), (40, 50), (81, 100)])]


def _onnx():
    if sys.version_info < (3, 10):
        pytest.skip('ONNX needs Python 3.10 or later')
    onnx_export.require()


@pytest.fixture(scope='module')
def segmentor():
    return decided_maps.segmentor(CROP)


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
    {}, pytest.param({'scales': (0.75, 1.0), 'flip': True}, marks=pytest.mark.slow),
    {'window': (49, 49), 'confidence': True}])
def test_class_maps_are_equal_in_every_kind_of_pass(chosen, segmentor, passes):
    ours = map_predictor.MapPredictor(chosen.network, CROP, **passes)(IMAGES)
    expected = map_predictor.MapPredictor(segmentor, CROP, **passes)(IMAGES)
    for (ids, chances), (their_ids, their_chances) in zip(ours, expected):
        assert np.mean(ids == their_ids) > 0.9998  # of 65x65 pixels: not one may differ
        if 'confidence' in passes:
            np.testing.assert_allclose(chances, their_chances, atol=1e-3)
    assert len(np.unique(expected[0][0])) > 1


@pytest.mark.parametrize('name', ['tflite', 'onnx'])
def test_the_weights_are_those_of_the_moment_at_every_size(segmentor, name):
    if name == 'onnx':
        _onnx()
    made = backends.make(segmentor, name).network
    images = [tf.constant(np.repeat(image[None], 5, 0), tf.float32) for image in IMAGES]
    # One at the crop's size, one that is converted later, one that TensorFlow computes.
    before = [segmentor(image, training=False).numpy() for image in images]
    kept = segmentor.logits.bias.numpy()
    segmentor.logits.bias.assign_add(5.0 * tf.ones_like(segmentor.logits.bias))
    try:
        found = [made(image).numpy() for image in (images[0], images[2], images[1][:1])]
        moved = backends.make(segmentor, name).network(images[0]).numpy()
    finally:
        segmentor.logits.bias.assign(kept)
    for ours, theirs in zip(found, (before[0], before[2], before[1][:1])):
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
    np.testing.assert_allclose(moved, before[0] + 5.0, atol=1e-3)


def test_tflite_converts_what_comes_often_and_gives_up_what_cannot_be(segmentor, monkeypatch):
    chosen = backends.make(segmentor, 'tflite')
    made, sizes = chosen.network, []
    real = tflite_export.logits

    def converts(network, size):
        sizes.append(tuple(size))
        if size[0] == 97:
            raise UserError('cannot')
        return real(network, size)

    monkeypatch.setattr(tflite_export, 'logits', converts)

    def look(side, count=1):
        image = tf.constant(np.random.default_rng(side).uniform(0, 255, (count, side, side, 3)),
                            tf.float32)
        np.testing.assert_allclose(made(image), segmentor(image, training=False), atol=1e-2)

    look(65, 6)  # the crop's: there already
    assert not chosen.rest_text()
    for _ in range(3):
        look(81)
    assert not sizes and made.by_tensorflow == 3
    assert chosen.rest_text().startswith('backend: TensorFlow computed 3 images')
    look(81)
    assert sizes == [(81, 81)]
    for _ in range(6):
        look(97)
    assert sizes == [(81, 81), (97, 97)]  # tried once
    monkeypatch.setattr(tflite_backend, 'KEPT_PIXELS', 81 * 81 + 10)
    look(113, 4)  # pushes the others out, which are not converted again
    look(65, 4)
    look(81, 4)
    assert sizes == [(81, 81), (97, 97), (113, 113)]


@pytest.mark.slow
@pytest.mark.parametrize('name', ['tflite', 'onnx'])
@pytest.mark.parametrize('network', sorted(device_steps.NETWORKS))
def test_every_network_computes_alike(network, name):
    if name == 'onnx':
        _onnx()
    model = device_steps.NETWORKS[network]()
    random = np.random.default_rng(3)
    image = tf.constant(random.uniform(0, 255, (4, 65, 81, 3)), tf.float32)
    device_steps.awake(model, image)
    made = backends.make(model, name).network
    expected = made.plain_logits(image.numpy(), None)
    assert 0 < expected.std()
    np.testing.assert_allclose(made.compute(image.numpy(), None), expected, rtol=0,
                               atol=3e-3 * expected.std())
    # Folded batch norms alone move these by this much: their last layers see few points.
    np.testing.assert_allclose(expected, model(image, training=False), rtol=0,
                               atol=1e-2 * expected.std())


def test_what_computes_something_else_is_refused(segmentor, monkeypatch):
    real = tflite_backend.TFLite.compute
    monkeypatch.setattr(tflite_backend.TFLite, 'compute', lambda *given: 1.1 * real(*given))
    with pytest.raises(UserError, match='something else than TensorFlow') as caught:
        backends.make(segmentor, 'tflite')
    assert '\n' not in str(caught.value)


def test_another_keras_model_is_refused_in_one_line():
    wrapped = segmentors.as_segmentor(tf.keras.Sequential([
        tf.keras.layers.Conv2D(3, 3, padding='same', input_shape=(None, None, 3))]))
    with pytest.raises(UserError, match='another Keras model'):
        backends.make(wrapped, 'tflite')


def test_a_backend_cannot_be_trained(chosen):
    with pytest.raises(ValueError, match='cannot be trained'):
        chosen.network(tf.zeros([1, 65, 65, 3]), training=True)


def test_auto_takes_the_fastest_and_says_so(segmentor, monkeypatch):
    monkeypatch.setattr(choosing, '_BACKENDS', {'tflite': choosing._BACKENDS['tflite']})
    monkeypatch.setattr(choosing, 'timed', lambda calls: dict(zip(calls, (0.030, 0.020))))
    found = backends.make(segmentor, 'auto')
    assert found.name == 'tflite'
    assert found.text() == 'backend: tflite (tflite 20 ms, tensorflow 30 ms an image)'
    few = backends.make(segmentor, 'auto', images=3)
    assert few.network is segmentor and 'too few' in few.text()


def test_times_are_of_each_in_turns():
    order = []
    seconds = choosing.timed({name: lambda name=name: order.append(name) for name in 'ab'})
    assert list(seconds) == ['a', 'b'] and order == ['a', 'b'] * choosing.REPEATS


def test_the_flag_has_the_names():
    assert sorted(command_line.BACKENDS) == sorted(backends.NAMES)


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


@pytest.mark.parametrize('litert', [True, False])
def test_either_interpreter_computes(segmentor, monkeypatch, litert):
    if not litert:
        monkeypatch.setattr(tflite_runtime, '_litert', lambda: None)
    assert tflite_runtime.name() == (tflite_runtime.LITERT if litert else tflite_runtime.OWN)
    made = backends.make(segmentor, 'tflite').network
    image = tf.constant(IMAGES[0][None], tf.float32)
    np.testing.assert_allclose(made(image), segmentor(image, training=False), atol=1e-2)
