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
    geometry = frozen_graph.geometry('file', frozen_graph.Graph(definition), [])
    assert geometry['MobilenetV2/Conv'] == (2, 1)
    assert geometry['MobilenetV2/expanded_conv_16/depthwise'] == (1, 4)
    assert geometry['aspp1_depthwise'] == (1, 2)


def test_nodes_without_what_they_need_are_one_line(network):
    """A graph can be valid protobuf and no graph: what reads it off must not trip."""
    bare, poolless = copy.deepcopy(network[1]), copy.deepcopy(network[1])
    for node in bare.node:
        if node.op == 'Conv2D':
            del node.input[1:]
    with pytest.raises(UserError, match='file: a damaged frozen graph'):
        frozen_graph.geometry('file', frozen_graph.Graph(bare), [])
    poolless.node.add(name='pool', op='AvgPool').attr['ksize'].list.i.append(1)
    with pytest.raises(UserError, match='file: a damaged frozen graph'):
        frozen_graph.pooling_window('file', frozen_graph.Graph(poolless))


def test_graphs_trained_for_8_bits_are_looked_through(official_files, network, tmp_path):
    values, definition = network
    faked = official_files.faked(definition)
    graph = frozen_graph.Graph(faked)
    assert graph.quantised and not frozen_graph.Graph(definition).quantised
    model = build(official_files, seed=2)
    report = zoo.read(written(tmp_path / 'g.pb', faked), model)
    assert report.kind == 'quantised frozen graph' and sorted(report.assigned) == sorted(values)
    for name, value in official_files.contents(model).items():
        assert value.tobytes() == values[name].tobytes(), name
    assert frozen_graph.geometry('file', graph, []) == frozen_graph.geometry(
        'file', frozen_graph.Graph(definition), [])


def test_kernels_that_a_batch_norm_scales_are_found_with_it(official_files, network, tmp_path):
    """Training for 8 bits spells batch norm out: kernel * scale, rounded, and an offset."""
    values, definition = network
    spelt = copy.deepcopy(definition)
    convolutions = frozen_graph.Graph(definition).convolutions()
    nodes = frozen_graph.Graph(spelt).nodes
    for convolution in convolutions:
        if convolution.epsilon is not None:
            scale = spelt.node.add(name=f'{convolution.name}/scale', op='Rsqrt',
                                   input=[convolution.values['BatchNorm/moving_variance']])
            product = spelt.node.add(name=f'{convolution.name}/mul_fold', op='Mul',
                                     input=[nodes[convolution.name].input[1], scale.name])
            nodes[convolution.name].input[1] = product.name
    report = zoo.read(written(tmp_path / 'g.pb', official_files.faked(spelt)),
                      build(official_files, seed=2))
    assert sorted(report.assigned) == sorted(values)
    assert frozen_graph.geometry('file', frozen_graph.Graph(spelt), []) == frozen_graph.geometry(
        'file', frozen_graph.Graph(definition), [])


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
