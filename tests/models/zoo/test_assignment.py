"""Weights fit or nothing is assigned: who is missing, who is too many, and by how much."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.models import deeplab_v2, dilated8, layers, segmentor, zoo
from tf_advseg.models.zoo import assignment

PROJECTION = 'MobilenetV2/expanded_conv_3/project'


def found(values, **options):
    return assignment.Found('test', values, **options)


def test_a_misfit_names_both_sides_and_changes_nothing(official_files, small, unchanged):
    name = f'{PROJECTION}/weights'
    shape = small.values[name].shape
    gone = {n: v for n, v in small.values.items() if n != name}
    cases = {
        rf'no weights for {name} \[1, 1, {shape[2]}, {shape[3]}\].*Did you mean "\S*projection':
            {**gone, name.replace('project', 'projection'): small.values[name]},
        r'aspp1/weights \[1, 1, 80, 256\] has no place.*Did you mean "aspp0/weights"':
            {**small.values, 'aspp1/weights': small.values['aspp0/weights']},
        rf'{name} is \[1, 1, {shape[2]}, 3\] in the file and \[1, 1, {shape[2]}, {shape[3]}\]':
            {**small.values, name: small.values[name][..., :3]},
        f'{name} holds values that are not finite':
            {**small.values, name: small.values[name] * np.float32('nan')},
        'variances below zero':
            {**small.values, 'aspp0/BatchNorm/moving_variance': -np.ones(256, np.float32)},
        'expected floats': {**small.values, name: small.values[name].astype(np.int32)},
    }
    model = official_files.mobilenet(seed=1)
    for message, values in cases.items():
        with unchanged(model), pytest.raises(UserError, match=message) as caught:
            assignment.assign('file', model, found(values))
        assert str(caught.value).startswith('file: ') and '\n' not in str(caught.value)


def test_another_epsilon_is_another_network(official_files, small, unchanged):
    model = official_files.mobilenet(seed=1)
    with unchanged(model), pytest.raises(UserError, match='aspp0 has epsilon 0.001 .* 1e-05'):
        assignment.assign('file', model, found(small.values, epsilons={'aspp0': 1e-3}))
    assignment.assign('file', model, found(small.values, epsilons={'aspp0': 1e-5}))


def test_what_training_leaves_is_unused_with_a_reason(official_files, small):
    leftovers = {'global_step': 'counter', 'beta1_power': 'counter',
                 f'{PROJECTION}/weights/RMSProp_1': 'slot', 'logits/semantic/biases/Adam': 'slot',
                 'aspp0/weights/ExponentialMovingAverage': 'slot',
                 'aspp0/weights_quant/aspp0/weights_quant/min/biased': 'quantisation',
                 'MobilenetV2/Conv/act_quant/max': 'quantisation'}
    values = {**small.values, **{name: np.zeros(1, np.float32) for name in leftovers}}
    report = assignment.assign('file', official_files.mobilenet(), found(values))
    assert {name for name, _ in report.unused} == set(leftovers)
    for name, reason in report.unused:
        assert leftovers[name] in reason
    assert len(report.assigned) == len(small.values)


def test_another_number_of_classes_starts_the_logits_anew(official_files, small):
    model = official_files.mobilenet(9, seed=4)
    fresh = official_files.contents(model)
    model.logits.kernel.assign_add(tf.ones_like(model.logits.kernel))
    report = assignment.assign('file', model, found(small.values))
    assert [name for name, _ in report.reinitialised] == ['logits/semantic/weights',
                                                          'logits/semantic/biases']
    assert '5 classes in the file, 9 in the network' in report.text()
    for name, value in official_files.contents(model).items():
        expected = fresh if name.startswith('logits') else small.values
        np.testing.assert_array_equal(value, expected[name])


@pytest.mark.parametrize('build, anew', [
    (lambda classes: deeplab_v2.deeplab_v2_resnet(classes, 'resnet_18'), 'logits/'),
    (lambda classes: dilated8.dilated8(classes, fc_channels=8), ('fc-final', 'ct_'))])
def test_the_logits_may_be_several_layers(official_files, build, anew):
    source, model = build(4), build(6)
    report = assignment.assign('file', model, found(official_files.contents(source)))
    names = list(layers.official_variables(model))
    assert [n for n, _ in report.reinitialised] == [n for n in names if n.startswith(anew)]
    assert list(report.assigned) == [n for n in names if not n.startswith(anew)]


@pytest.mark.parametrize('build, logits', [
    (None, ('logits/',)),
    (lambda: deeplab_v2.deeplab_v2_resnet(4, 'resnet_18'), None),
    (lambda: dilated8.dilated8(4, fc_channels=8), ('fc-final', 'ct_'))])
def test_a_file_of_all_but_the_logits_starts_them_anew(official_files, small, build, logits):
    model = build() if build else official_files.mobilenet(seed=4)
    values = official_files.contents(build()) if build else small.values
    names = list(layers.official_variables(model))
    logits = logits or ('logits/',)
    kept = {n: v for n, v in values.items() if not n.startswith(logits)}
    report = assignment.assign('file', model, found(kept))
    assert [n for n, _ in report.reinitialised] == [n for n in names if n.startswith(logits)]
    assert 'file holds' in report.text() and sorted(report.assigned) == sorted(kept)


def test_logits_under_another_name_are_not_given_up(official_files, small, unchanged):
    values = {n.replace('logits/semantic', 'classifier2/here'): v for n, v in small.values.items()}
    model = official_files.mobilenet(seed=4)
    with unchanged(model), pytest.raises(UserError, match='no weights for logits/semantic/weights'):
        assignment.assign('file', model, found(values))


def imagenet(values):
    """What slim's classifier has in the place of the head."""
    kept = {n: v for n, v in values.items() if n.startswith('MobilenetV2/')}
    more = {'MobilenetV2/Conv_1/weights': 4, 'MobilenetV2/Conv_1/BatchNorm/gamma': 1,
            'MobilenetV2/Logits/Conv2d_1c_1x1/weights': 4,
            'MobilenetV2/Logits/Conv2d_1c_1x1/biases': 1}
    return {**kept, **{name: np.ones([2] * rank, np.float32) for name, rank in more.items()}}


def test_an_imagenet_backbone_leaves_the_head_anew(official_files, small, tmp_path):
    values = imagenet(small.values)
    model = official_files.mobilenet(atrous_rates=(6,), decoder=True)
    slots = [n for n in values if n.endswith('weights')]
    prefix = official_files.save(tmp_path / 'mobilenet_v2.ckpt', values, slots)
    report = zoo.read(prefix, model)
    backbone = {n for n in small.values if n.startswith('MobilenetV2/')}
    assert set(report.assigned) == backbone
    assert set(report.assigned) | {n for n, _ in report.reinitialised} == set(
        layers.official_variables(model))
    reasons = dict(report.unused)
    for name in ('MobilenetV2/Conv_1/weights', 'MobilenetV2/Logits/Conv2d_1c_1x1/biases'):
        assert reasons[name] == "the classifier's, behind the backbone"
    assert {reason for _, reason in report.reinitialised} == {
        'the file holds a backbone and no head for segmentation'}
    np.testing.assert_array_equal(model.backbone.stem.kernel, values['MobilenetV2/Conv/weights'])


def test_another_architecture_is_said_and_no_backbone_advised(official_files, small, unchanged):
    stranger = {name.replace('MobilenetV2/', 'xception_65/'): value
                for name, value in small.values.items()}
    model = official_files.mobilenet()
    for alone in (False, True):
        with unchanged(model), pytest.raises(UserError, match='of another architecture') as caught:
            assignment.assign('file', model, found(stranger), backbone_only=alone)
        message = str(caught.value)
        assert 'xception_65/Conv/weights' in message and 'MobilenetV2/Conv/weights' in message
        assert 'backbone_only' not in message and '\n' not in message
    # A backbone that is there under a head of other names altogether is worth taking alone.
    heads = {name if name.startswith('MobilenetV2/') else f'other/{name}': value
             for name, value in small.values.items()}
    with pytest.raises(UserError, match='no weights for image_pooling/weights.*backbone_only'):
        assignment.assign('file', model, found(heads))


def test_half_a_head_is_no_backbone(official_files, small):
    values = {**imagenet(small.values), 'aspp0/weights': small.values['aspp0/weights']}
    model = official_files.mobilenet()
    with pytest.raises(UserError, match=r'no weights for image_pooling/weights.*backbone_only'):
        assignment.assign('file', model, found(values))
    report = assignment.assign('file', model, found(values), backbone_only=True)
    assert ('aspp0/weights', 'backbone_only: the head starts anew') in report.unused


def test_a_part_of_a_backbone_is_refused_even_alone(official_files, small):
    model = official_files.mobilenet()
    values = {n: v for n, v in small.values.items() if PROJECTION not in n}
    with pytest.raises(UserError, match=f'no weights for {PROJECTION}/weights'):
        assignment.assign('file', model, found(values), backbone_only=True)
    stranger = {**small.values, 'MobilenetV2/expanded_conv_17/expand/weights': np.ones(3, 'f4')}
    with pytest.raises(UserError, match='expanded_conv_17/expand/weights .3. has no place'):
        assignment.assign('file', model, found(stranger), backbone_only=True)


def test_foreign_networks_are_refused():
    inner = tf.keras.Sequential([tf.keras.layers.Conv2D(3, 1)])
    with pytest.raises(UserError, match='no layers with official names'):
        assignment.assign('file', segmentor.as_segmentor(inner), found({}))


def test_the_report_counts_what_is_many_and_names_what_is_few():
    report = assignment.ImportReport(
        'file', ('a', 'b'), (('c', 'anew'),),
        tuple((f'v{i}/Momentum', 'a slot') for i in range(7)) + (('step', 'a counter'),), 'kind')
    kept = report.to_json()
    assert [each['name'] for each in kept['unused']] == [
        *(f'v{i}/Momentum' for i in range(7)), 'step']
    assert kept['reinitialised'] == [{'name': 'c', 'reason': 'anew'}]
    assert kept['assigned'] == ['a', 'b'] and (kept['source'], kept['kind']) == ('file', 'kind')
    assert report.text().splitlines() == [
        'file (kind): 2 variables assigned, 1 re-initialised, 8 constants of the file not used',
        '  re-initialised: c: anew', '  not used: 7 (v0/Momentum, ...): a slot',
        '  not used: step: a counter']


def test_the_first_part_of_a_joined_name_is_the_scope():
    scopes = ['decoder/conv0_depthwise', 'decoder/conv0_depthwise/pointwise', 'logits/semantic']
    for name, scope in (
            ('decoder/conv0_depthwise/depthwise;decoder/conv0_depthwise/pointwise/weights',
             'decoder/conv0_depthwise'),
            ('decoder/conv0_depthwise/depthwise;logits/semantic/Conv2D', 'decoder/conv0_depthwise'),
            ('Relu;logits/semantic/Conv2D', 'logits/semantic'), ('other/x;y', None)):
        assert assignment.scope_of(name, scopes) == scope
