"""Frozen graphs: batch norm present and folded, sandwiches, reuse, damage."""
import copy

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.models import zoo
from tf_advseg.models.zoo import frozen_graph


def build(official_files, **options):
    return official_files.mobilenet(output_stride=8, atrous_rates=(2,), decoder=True, **options)


@pytest.fixture(scope='module')
def network(official_files):
    """(values, GraphDef) of a network with every kind of layer, at output stride 8."""
    values = official_files.values(build(official_files))
    return values, official_files.frozen(lambda: build(official_files), values)


def written(path, definition):
    path.write_bytes(definition.SerializeToString())
    return path


def folded(definition):
    """The graph with every batch norm multiplied into its kernel, as graph transforms do it."""
    definition = copy.deepcopy(definition)
    graph = frozen_graph.Graph(definition)
    for convolution in graph.convolutions():
        if convolution.epsilon is None:
            continue
        value = {leaf: graph.value(name) for leaf, name in convolution.values.items()}
        scale = value['BatchNorm/gamma'] / np.sqrt(
            value['BatchNorm/moving_variance'] + convolution.epsilon)
        leaf = next(leaf for leaf in value if leaf.endswith('weights'))
        along = scale[:, None] if leaf == 'depthwise_weights' else scale
        _constant(graph.nodes[convolution.kernel], value[leaf] * along)
        follower, _ = graph._follower(convolution.name)
        before = follower.input[0]
        bias = definition.node.add(name=f'{convolution.name}_bn_offset')
        _constant(bias, value['BatchNorm/beta'] - value['BatchNorm/moving_mean'] * scale)
        name = follower.name
        follower.Clear()
        follower.CopyFrom(tf.compat.v1.NodeDef(name=name, op='BiasAdd', input=[before, bias.name]))
        follower.attr['T'].type = tf.float32.as_datatype_enum
    norms = [n for n in definition.node if '/BatchNorm/' in n.name and n.op == 'Const']
    for node in norms:
        definition.node.remove(node)
    return definition


def _constant(node, value):
    node.op = 'Const'
    node.attr['dtype'].type = tf.float32.as_datatype_enum
    node.attr['value'].tensor.CopyFrom(tf.make_tensor_proto(value.astype(np.float32)))


def test_every_variable_by_the_structure(official_files, network, tmp_path):
    values, definition = network
    assert any(node.op == 'SpaceToBatchND' for node in definition.node)
    model = build(official_files, seed=2)
    report = zoo.read(written(tmp_path / 'g.pb', definition), model)
    assert sorted(report.assigned) == sorted(values) and not report.reinitialised
    for name, value in official_files.contents(model).items():
        assert value.tobytes() == values[name].tobytes(), name
    assert all('not a weight' in reason for _, reason in report.unused)


def test_folded_batch_norm_gives_the_same_function(official_files, network, tmp_path):
    values, definition = network
    expected = official_files.fill(build(official_files), values)
    model = build(official_files, seed=2)
    report = zoo.read(written(tmp_path / 'g.pb', folded(definition)), model)
    assert sorted(report.assigned) == sorted(values)
    np.testing.assert_array_equal(model.branches[0].norm.gamma, 1.0)
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (1, 65, 65, 3)).astype(np.float32)
    logits = expected(image).numpy()
    np.testing.assert_allclose(model(image), logits, atol=1e-4 * np.abs(logits).max())


def test_strides_and_rates_are_read_off(official_files, network):
    _, definition = network
    geometry = frozen_graph.geometry(definition, [])
    assert geometry['MobilenetV2/Conv'] == (2, 1)
    assert geometry['MobilenetV2/expanded_conv_16/depthwise'] == (1, 4)
    assert geometry['aspp1_depthwise'] == (1, 2)


def test_a_network_at_several_scales_counts_once(official_files, network, tmp_path):
    """Multi-scale graphs run every convolution again, on the same constants."""
    values, definition = network
    twice = copy.deepcopy(definition)
    for node in definition.node:
        if node.op != 'Const':
            other = twice.node.add()
            other.CopyFrom(node)
            other.name = f'{node.name}_again'
    model = build(official_files)
    assert len(zoo.read(written(tmp_path / 'g.pb', twice), model).assigned) == len(values)


def test_another_network_is_told_by_name(official_files, network, tmp_path, unchanged):
    path = written(tmp_path / 'g.pb', network[1])
    model = official_files.mobilenet()
    with unchanged(model), pytest.raises(UserError, match='aspp1_depthwise.* has no place'):
        zoo.read(path, model)
    report = zoo.read(path, model, backbone_only=True)
    assert {name.split('/')[0] for name in report.assigned} == {'MobilenetV2'}


def test_damaged_and_foreign_graphs_are_one_line(official_files, network, tmp_path, unchanged):
    whole = network[1].SerializeToString()
    noise = np.random.default_rng(0).bytes(4000)
    bomb = copy.deepcopy(network[1])
    node = next(n for n in bomb.node if n.name == 'MobilenetV2/Conv/weights')
    node.attr['value'].tensor.CopyFrom(tf.make_tensor_proto(1.0, tf.float32))
    for _ in range(4):
        node.attr['value'].tensor.tensor_shape.dim.add(size=1 << 20)
    cases = {'half': whole[:len(whole) // 2], 'noise': b'\x0a' + noise, 'empty': b'',
             'png': b'\x89PNG' + noise, 'other': tf.compat.v1.GraphDef().SerializeToString(),
             'bomb': bomb.SerializeToString(), 'text': b'\nnode {\n name: "a"\n}'}
    model = build(official_files)
    for name, data in cases.items():
        path = tmp_path / f'{name}.pb'
        path.write_bytes(data)
        with unchanged(model), pytest.raises(UserError) as caught:
            zoo.read(path, model)
        assert str(path) in str(caught.value) and '\n' not in str(caught.value), name
