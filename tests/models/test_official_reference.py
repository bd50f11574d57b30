"""Our networks against numbers that the official DeepLab code made (see ../shared/reference).

The weights come from a rule on the official variable names, so these tests also prove that names,
shapes and order are right.
"""
import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from tf_advseg.models import layers, resize, segmentor

FORWARD = (
    'mnv2_pascal_os16__129x129', 'mnv2_pascal_os16__257x257', 'mnv2_pascal_os16__513x513',
    'mnv2_pascal_os16__97x161', 'mnv2_pascal_os16__97x161__nocrop', 'mnv2_pascal_os16__128x192',
    'mnv2_pascal_os8__129x129', 'mnv2_cityscapes_os16__129x129', 'mnv2_cityscapes_os16__513x513',
    'mnv2_dm05_pascal_os16__129x129', 'mnv2_dm05_pascal_os16__257x257',
    'mnv2_noimagepool_os16__129x129', 'mnv2_aspp_decoder_os16__129x129',
    'resnet101beta_pascal_os16__129x129', 'xception41_pascal_os16__129x129',
    'xception65_pascal_os16__65x65')  # committed, so that it is tested without ../shared too
SLOW = ('xception65_pascal_os16__129x129', 'xception65_pascal_os16__257x257',
        'xception65_pascal_os8__129x129', 'xception65_cityscapes_os16__129x129')
# Held against our code by other tests: file of the reference -> (test, what is read there).
ELSEWHERE = {
    'colormaps.json': ('data/test_official_specs.py', 'colormaps.json'),
    'preprocess.npz': ('data/augmentation/test_official_preprocessing.py', "'preprocess'"),
    'preprocess_sizes.json': ('data/augmentation/test_official_preprocessing.py',
                              'preprocess_sizes.json'),
    'train_schedules.json': ('training/test_schedules.py', 'train_schedules.json'),
    'train__mnv2_pascal_os16__65x65.npz': (
        'models/test_official_training_reference.py', 'mnv2_pascal_os16__65x65'),
    'train__mnv2_aspp_decoder_os16__129x129.npz': (
        'models/test_official_training_reference.py', 'mnv2_aspp_decoder_os16__129x129')}
# Groups of numbers inside those files that have a test of their own.
GROUPS = {'ms_': ('evaluation/test_multi_scale.py', 'ms_argmax'),
          'export_': ('models/zoo/test_saved_model.py', "'export_"),
          'gradient_multipliers': ('methods/test_step_parts.py', 'gradient_multipliers')}
ROUNDING = 1e-3  # of the largest value: the bound of every comparison here


@pytest.fixture(scope='module', params=[
    *FORWARD, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def case(request, official):
    """(network, image, expected arrays), one at a time: to build a network takes seconds."""
    return official.case(request.param, dropout_rate=0.0)


def test_every_file_of_the_reference_is_a_test(shared, repository):
    there = {path.name for path in (shared / 'reference').iterdir() if path.is_file()}
    tested = {f'{name}.npz' for name in (*FORWARD, *SLOW)}
    tested |= set(ELSEWHERE) | {'README.md', 'param_rule.py'}
    tested |= {f'variables__{name}.json' for name in configurations((*FORWARD, *SLOW))}
    assert there <= tested
    for test, word in [*ELSEWHERE.values(), *GROUPS.values()]:
        assert word in (repository / 'tests' / test).read_text(encoding='utf-8'), (test, word)


def configurations(names):
    return sorted({name.split('__')[0] for name in names})


@pytest.mark.parametrize('configuration', [
    *configurations(FORWARD), *(pytest.param(name, marks=pytest.mark.slow) for name in
                                configurations(SLOW) if name not in configurations(FORWARD))])
def test_variables_are_the_official_ones(official, configuration):
    listed = official.configuration(configuration)
    model = official.network(configuration, 129)
    ours = layers.official_variables(model)
    assert len(ours) == listed['num_variables']
    assert segmentor.parameter_count(model) == (listed['num_params'], listed['num_trainable'])
    digest = hashlib.sha256()
    for name in sorted(ours):
        digest.update(name.encode() + ours[name].numpy().astype('<f4').tobytes())
    assert digest.hexdigest() == listed['rule_sha256']
    if 'variables' in listed:  # the whole list lies in ../shared only
        assert [(n, v.shape.as_list(), v.trainable) for n, v in ours.items()] == [
            (v['name'], v['shape'], v['trainable']) for v in listed['variables']]
        epsilons = {c.norm.scope: c.norm.epsilon for c in layers.convolutions(model) if c.norm}
        assert epsilons == listed['bn_epsilon']


def test_logits_probabilities_and_classes_are_the_official_ones(case):
    model, image, expected = case
    logits = model(image[None])
    step = int(expected['logits_step'])
    assert logits.shape.as_list() == expected['logits_shape'].tolist()
    assert_close(logits[0, ::step, ::step], expected['logits'])

    upsampled = resize.resize_bilinear(logits, image.shape[:2]).numpy()[0]
    step = int(expected['upsampled_step'])
    sampled = upsampled[::step, ::step]
    assert_close(sampled, expected['upsampled'])
    odds = np.exp(sampled - sampled.max(-1, keepdims=True))
    assert np.abs(odds / odds.sum(-1, keepdims=True) - expected['prob']).max() < 1e-3
    best = np.sort(upsampled, -1)
    clear = best[..., -1] - best[..., -2] > 1e-2
    assert (upsampled.argmax(-1) == expected['argmax'])[clear].mean() >= 0.999
    assert 1.0 - clear.mean() == pytest.approx(
        float(expected['margin_below_1e-2_fraction']), abs=2e-3)


def test_every_batch_norm_and_endpoint_is_the_official_one(case):
    """After the logits' test, since it puts recorders into the network."""
    model, image, expected = case
    if 'bn_names' not in expected:
        pytest.skip('the committed numbers hold no endpoints: they lie in ../shared/reference')
    seen = recorded(model, image)
    for scope, stats, centre in zip(expected['bn_names'], expected['bn_stats'],
                                    expected['bn_center8']):
        output = seen[f'{scope}/BatchNorm'][1]
        assert_close(statistics(output), stats)
        assert_close(output[0, output.shape[1] // 2, output.shape[2] // 2, :8], centre,
                     np.abs(output).max())
    for key in expected:
        if key.startswith('ep/'):
            output = endpoint(key[3:], seen)
            assert list(output.shape) == expected['epshape/' + key[3:]].tolist()
            assert_close(statistics(output), expected['epstats/' + key[3:]])
            assert_close(output[0][np.ix_(*places(output.shape[1:]))], expected[key],
                         np.abs(output).max())


@pytest.mark.slow  # test_atrous.py has processes of both settings
@pytest.mark.parametrize('onednn, selection', [
    # On is the default, so this session has it on.
    ('0', 'mnv2_pascal_os16__97x161 or mnv2_pascal_os8'),
    ('0', 'test_logits'), ('1', 'test_logits')])
def test_with_onednn_off_and_on(repository, onednn, selection):
    """The setting is read when TensorFlow starts: a process of its own."""
    result = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-x', '-p', 'no:cacheprovider', __file__, '-k',
         f'test_logits and ({selection})'],
        cwd=repository, env={**os.environ, 'TF_ENABLE_ONEDNN_OPTS': onednn}, timeout=900,
        capture_output=True, text=True, check=False)
    assert result.returncode == 0 and ' passed' in result.stdout, result.stdout[-2000:]


def assert_close(ours, theirs, largest=None):
    """Within ROUNDING of the largest value (of theirs, unless given), at every point."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= ROUNDING * max(np.abs(theirs).max(), largest or 0.0)


def statistics(x):
    return np.array([x.mean(), x.std(), np.abs(x).max(), np.abs(x).mean()], np.float64)


def places(shape):
    """The sampled rows, columns and channels, as the reference's README has them."""
    return [np.unique(np.round(np.linspace(0, size - 1, count)).astype(int))
            for size, count in zip(shape, (5, 5, min(16, shape[2])))]


def recorded(model, image):
    """dict: scope -> (input, output) of every layer with an official scope."""
    seen = {}
    for layer in model._flatten_layers():
        if hasattr(layer, 'scope'):
            object.__setattr__(layer, 'call', recording(layer, seen))
    model(image[None], training=True)
    return seen


def recording(layer, seen):
    original = layer.call

    def call(x, **arguments):
        y = original(x, **arguments)
        first = y[0] if isinstance(y, tuple) else y
        seen[layer.scope] = x.numpy(), first.numpy()
        return y

    return call


def endpoint(name, seen):
    """The value of an endpoint of the reference: its name there -> a scope here."""
    after, before = 1, 0
    head = {'concat': ('concat_projection', before), 'logits_conv': ('logits/semantic', after),
            'decoder_skip': ('decoder/feature_projection0', after),
            'decoder_concat': ('decoder/decoder_conv0_depthwise', before),
            'decoder_out': ('decoder/decoder_conv1_pointwise', after)}
    if name in head:
        scope, side = head[name]
        return seen[scope][side]
    if name.startswith('layer_'):
        parts = name.split('_')
        index = int(parts[1]) - 2
        scope = 'MobilenetV2/' + ('Conv' if index < 0 else
                                  'expanded_conv' + (f'_{index}' if index else ''))
        return seen['/'.join([scope] + parts[2:])][after]
    patterns = [name, f'*/{name}']
    if name.startswith(('entry_', 'exit_')):
        flow, block, *rest = name.split('_')
        leaf = '/separable_conv2_pointwise' if rest else ''
        patterns = [f'*/{flow}_flow/{block}/unit_1/xception_module{leaf}']
    elif name.startswith('middle_'):
        patterns = [f'*/middle_flow/block1/{name[7:]}/xception_module']
    elif name.startswith('block'):
        block, unit = name.split('_unit')
        patterns = [f'*/{block}/unit_{unit}/bottleneck_v1']
    found = {scope for scope in seen for pattern in patterns
             if scope == pattern or (pattern[0] == '*' and scope.endswith(pattern[1:]))}
    assert len(found) == 1, f'{name}: {found}'
    return seen[found.pop()][after]
