"""Our networks against numbers that the official DeepLab code made (see ../shared/reference).

The weights come from a rule on the official variable names, so these tests also prove that names,
shapes and order are right.
"""
import importlib.util
import json

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.losses import pixel
from tf_advseg.models import deeplab, layers, resize, segmentor

CONFIGURATIONS = {
    'mnv2_pascal_os16': {},
    'mnv2_cityscapes_os16': {},
    'mnv2_pascal_os8': {},
    'mnv2_dm05_pascal_os16': {'depth_multiplier': 0.5},
    'mnv2_noimagepool_os16': {'image_pooling': False},
    'mnv2_aspp_decoder_os16': {'atrous_rates': (6, 12, 18), 'decoder': True},
}


@pytest.fixture(scope='module')
def reference(shared):
    folder = shared / 'reference'
    if not (folder / 'param_rule.py').is_file():
        pytest.skip(f'reference numbers are not here: {folder}')
    return folder


@pytest.fixture(scope='module')
def rule(reference):
    spec = importlib.util.spec_from_file_location('param_rule', reference / 'param_rule.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def built(reference, rule, configuration, crop_size, **options):
    """The network of a configuration with the rule's values, and its list of variables."""
    listed = json.loads((reference / f'variables__{configuration}.json').read_text())
    model = deeplab.deeplab_mobilenet_v2(
        listed['options']['classes'], listed['options']['os'], crop_size=crop_size,
        **CONFIGURATIONS[configuration], **options)
    for name, variable in layers.official_variables(model).items():
        variable.assign(rule.param_value(name, variable.shape))
    return model, listed


@pytest.mark.parametrize('configuration', CONFIGURATIONS)
def test_logits_and_variables_are_the_official_ones(reference, rule, configuration):
    model, listed = built(reference, rule, configuration, 129)
    ours = layers.official_variables(model)
    assert [(n, v.shape.as_list(), v.trainable) for n, v in ours.items()] == [
        (v['name'], v['shape'], v['trainable']) for v in listed['variables']]
    assert segmentor.parameter_count(model) == (listed['num_params'], listed['num_trainable'])
    epsilons = {c.norm.scope: c.norm.epsilon for c in layers.convolutions(model) if c.norm}
    assert epsilons == listed['bn_epsilon']

    expected = np.load(reference / f'{configuration}__129x129.npz')
    logits = model(rule.image(129, 129)[None])
    step = int(expected['logits_step'])
    assert logits.shape.as_list() == expected['logits_shape'].tolist()
    bound = 1e-3 * np.abs(expected['logits']).max()
    assert np.abs(logits[0, ::step, ::step] - expected['logits']).max() < bound

    upsampled = resize.resize_bilinear(logits, [129, 129]).numpy()[0]
    step = int(expected['upsampled_step'])
    assert np.abs(upsampled[::step, ::step] - expected['upsampled']).max() < bound
    best = np.sort(upsampled, -1)
    clear = best[..., -1] - best[..., -2] > 1e-2
    assert (upsampled.argmax(-1) == expected['argmax'])[clear].mean() >= 0.999


@pytest.mark.parametrize('size, crop', [('97x161', (97, 161)), ('97x161__nocrop', None),
                                        ('128x192', (128, 192))])
def test_other_sizes_and_no_crop_size(reference, rule, size, crop):
    model, _ = built(reference, rule, 'mnv2_pascal_os16', crop)
    expected = np.load(reference / f'mnv2_pascal_os16__{size}.npz')
    logits = model(rule.image(*expected['image_hw'].tolist())[None]).numpy()
    assert list(logits.shape) == expected['logits_shape'].tolist()
    assert np.abs(logits[0] - expected['logits']).max() < 1e-3 * np.abs(logits).max()


def training_batch(rule):
    size = (65, 65)
    images = np.stack([rule.image(*size, i) for i in range(2)]).astype(np.float32)
    labels = np.stack([rule.label(*size, 21, i) for i in range(2)])
    return images, labels


def loss_and_gradients(model, images, labels):
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        sums, counts = pixel.cross_entropy(resize.resize_bilinear(logits, labels.shape[1:]), labels)
        loss = tf.reduce_sum(sums) / tf.reduce_sum(counts)
    return float(loss), tape.gradient(loss, model.trainable_variables)


@pytest.mark.parametrize('live', [False, True])
def test_a_training_step_is_the_official_one(reference, rule, live):
    model, _ = built(reference, rule, 'mnv2_pascal_os16', 65, dropout_rate=0.0,
                     fine_tune_batch_norm=live)
    expected = np.load(reference / 'train__mnv2_pascal_os16__65x65.npz')
    loss, gradients = loss_and_gradients(model, *training_batch(rule))
    ours = layers.official_variables(model)
    names = {id(v): name for name, v in ours.items()}
    norms = {names[id(v)]: float(tf.norm(g)) for g, v in zip(gradients, model.trainable_variables)}
    if live:
        assert loss == pytest.approx(float(expected['loss_batchstats']), rel=1e-4)
        wanted = expected['batchstats_grad_norm']
        for name, first in zip(expected['moving_names'], expected['moving_after_first4']):
            np.testing.assert_allclose(ours[str(name)].numpy()[:4], first, rtol=1e-4, atol=1e-5)
    else:
        assert loss == pytest.approx(float(expected['loss_plain']), rel=1e-4)
        wanted = expected['plain_grad_norm']
    assert sorted(norms) == sorted(expected['grad_names'])
    ours_in_order = np.array([norms[str(name)] for name in expected['grad_names']])
    # Image pooling normalises over two values here, which magnifies rounding: with oneDNN off (the
    # reference's setting) live gradients agree to 1e-3 too, with oneDNN on to 5e-3.
    np.testing.assert_allclose(ours_in_order, wanted, rtol=1e-2 if live else 1e-3,
                               atol=1e-4 * wanted.max())
