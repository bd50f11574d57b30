"""Every attribute that decides what a foreign graph computes is held against the network's."""
import copy
import re

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from tf_advseg.models import zoo
from tf_advseg.models.zoo import (flatbuffer, frozen_graph, graph_comparison, tflite,
                                  tflite_export, tflite_graph)

CONVOLUTIONS = ('Conv2D', 'DepthwiseConv2dNative')


def build(official_files, **options):
    return official_files.mobilenet(**{'output_stride': 16, 'atrous_rates': (2,), 'decoder': True,
                                       **options})


@pytest.fixture(scope='module')
def network(official_files):
    """(network, GraphDef of its frozen graph)."""
    make = lambda: build(official_files)  # noqa: E731
    definition = official_files.frozen(make, official_files.values(make()))
    return make(), definition


class Edited:
    """A copy of a graph that is changed in place."""

    def __init__(self, definition):
        self.definition = copy.deepcopy(definition)
        self.nodes = {node.name: node for node in self.definition.node}

    def of(self, *ops, part=''):
        """The nodes of these operations whose names have a part in them."""
        return [n for n in self.definition.node if n.op in ops and part in n.name]

    def takers(self, name):
        return [n for n in self.definition.node if name in n.input]

    def convolution(self, scope):
        """The node that a kernel leads to."""
        graph = frozen_graph.Graph(self.definition)
        leaves = [f'{scope}/{leaf}' for leaf in ('weights', 'depthwise_weights')]
        return next(self.nodes[c.name] for c in graph.convolutions() if c.kernel in leaves)

    def behind(self, name, op, *constants):
        """Puts an operation behind a node."""
        users = self.takers(name)
        node = self.definition.node.add(name='foreign', op=op, input=[name])
        for index, value in enumerate(constants):
            constant = self.definition.node.add(name=f'foreign/{index}', op='Const')
            constant.attr['dtype'].type = tf.float32.as_datatype_enum
            constant.attr['value'].tensor.CopyFrom(tf.make_tensor_proto(np.float32(value)))
            node.input.append(constant.name)
        for user in users:
            user.input[list(user.input).index(name)] = node.name

    def attribute(self, node, name, value):
        field = {bool: 'b', bytes: 's', float: 'f'}[type(value)]
        setattr(node.attr[name], field, value)


def decoders_resize(graph):
    return graph.of('ResizeBilinear', part='decoder')[0]


def last_resize(graph):
    return graph.nodes[graph.of('ArgMax')[0].input[0]]


def pool(graph):
    return next(n for n in graph.of('Mean') if graph.nodes[n.input[1]].op == 'Const')


def as_pool(graph, stride=1, padding=b'VALID'):
    """Image pooling by the window of a crop, as official graphs have it."""
    node = pool(graph)
    del node.input[1:]
    node.op = 'AvgPool'
    node.attr['ksize'].list.i.extend([1, 5, 5, 1])
    node.attr['strides'].list.i.extend([1, stride, stride, 1])
    node.attr['padding'].s = padding


def resized(find, **changes):
    def edit(graph):
        for name, value in changes.items():
            graph.attribute(find(graph), name, value)
    return edit


def constant(op, value):
    """Another number in the arithmetic on the image."""
    def edit(graph):
        node = next(n for n in graph.of(op) if 'normalisation' in n.name)
        number = graph.nodes[node.input[1]]
        number.attr['value'].tensor.CopyFrom(tf.make_tensor_proto(np.float32(value)))
    return edit


def integers(scope, name, *values):
    def edit(graph):
        attribute = graph.convolution(scope).attr[name].list.i
        attribute[:] = values
    return edit


def another_rate(graph):
    """Twice the atrous rate of aspp1, however the graph writes it."""
    node = graph.convolution('aspp1_depthwise')
    before = graph.nodes[node.input[0]]
    if before.op == 'SpaceToBatchND':
        block = graph.nodes[before.input[1]]
        block.attr['value'].tensor.CopyFrom(tf.make_tensor_proto(np.int32([4, 4])))
    else:
        node.attr['dilations'].list.i[:] = [1, 4, 4, 1]


def operation(op, becomes, part=''):
    def edit(graph):
        graph.of(op, part=part)[0].op = becomes
    return edit


def swapped(graph):
    node = graph.of('ConcatV2', part='decoder')[0]
    node.input[0], node.input[1] = node.input[1], node.input[0]


def trained(graph):
    for node in graph.of('FusedBatchNormV3', part='aspp0'):
        graph.attribute(node, 'is_training', True)


SAME = {
    'the official window': as_pool,
    'how one pixel is spread out': resized(
        lambda g: g.takers(next(n for n in g.of('Relu') if '/image_pooling/' in n.name).name)[0],
        align_corners=False),
    'rounding': lambda g: g.behind(g.of('Relu6')[3].name, 'FakeQuantWithMinMaxVars', 0.0, 6.0),
    'a sum the other way round': lambda g: g.of('AddV2')[0].input.__setitem__(
        slice(None), list(g.of('AddV2')[0].input)[::-1])}

OTHER = {
    'align_corners in the decoder': (resized(decoders_resize, align_corners=False),
                                     'align_corners=False', True),
    'half pixels in the decoder': (resized(decoders_resize, half_pixel_centers=True),
                                   'half_pixel_centers=True', True),
    'align_corners at the end': (resized(last_resize, align_corners=False),
                                 'enlarges maps with align_corners=False', True),
    'half pixels at the end': (resized(last_resize, half_pixel_centers=True),
                               'half_pixel_centers=True', True),
    'Relu for Relu6': (operation('Relu6', 'Relu'), 'is Relu, where the network has Relu6', False),
    'Elu for Relu': (operation('Relu', 'Elu', 'aspp0'), 'is Elu, where .* has Relu', True),
    'another factor': (constant('Mul', 1 / 255), r'to -1 .. 0, the network\'s to -1 .. 1', False),
    'another offset': (constant('Sub', 0.0), r'to 0 .. 2, the network\'s to -1 .. 1', False),
    'three offsets': (constant('Sub', [1.0, 0.9, 1.0]), 'is scaled.*-0.9', False),
    'a curve on the image': (lambda g: g.behind(next(
        n for n in g.of('Sub') if 'normalisation' in n.name).name, 'Tanh'),
        r'foreign \(Tanh\) makes something else of the image', False),
    'a stride': (integers('MobilenetV2/expanded_conv_1/depthwise', 'strides', 1, 1, 1, 1),
                 'has stride 1, MobilenetV2/expanded_conv_1/depthwise of the network 2', False),
    'a stride along one side': (integers('MobilenetV2/Conv', 'strides', 1, 2, 1, 1),
                                'has stride 2x1, MobilenetV2/Conv of the network 2', False),
    'a rate': (another_rate, 'has atrous rate 4, aspp1_depthwise of the network 2', True),
    'padding': (lambda g: g.attribute(g.convolution('MobilenetV2/expanded_conv_4/depthwise'),
                                      'padding', b'VALID'), 'has padding top 0', False),
    'channels first': (lambda g: g.attribute(g.convolution('aspp0'), 'data_format', b'NCHW'),
                       'data_format NCHW', True),
    'statistics of the batch': (trained, "batch norm by the batch's statistics", True),
    'a factor between': (lambda g: g.behind(g.of('Relu', part='aspp0')[0].name, 'Mul', 0.5),
                         'foreign is Mul of a constant, where the network has Relu', True),
    'a factor behind a batch norm': (lambda g: g.behind(
        g.of('FusedBatchNormV3', part='aspp0')[0].name, 'Mul', 0.5),
        'foreign is Mul of a constant', True),
    'a factor on the logits': (lambda g: g.behind(last_resize(g).name, 'Mul', -1.0),
                               r'foreign \(Mul\) makes something else of the logits', True),
    'a product for a sum': (operation('AddV2', 'Maximum', 'expanded_conv'),
                            'is Maximum, where the network has Add', False),
    'parts in another order': (swapped, 'before decoder/decoder_conv0_depthwise', True),
    'a pool with a stride': (lambda g: as_pool(g, 2), "average pool.*stride=", True),
    'a pool with padding': (lambda g: as_pool(g, 1, b'SAME'), 'average pool.*SAME', True)}


def found(network, edit, tmp_path):
    graph = Edited(network[1])
    edit(graph)
    path = tmp_path / 'g.pb'
    path.write_bytes(graph.definition.SerializeToString())
    return frozen_graph.read(path, network[0]).conflicts


@pytest.mark.parametrize('name', ['nothing', *SAME])
def test_a_frozen_graph_that_computes_the_same(network, tmp_path, name):
    assert found(network, SAME.get(name, lambda graph: None), tmp_path) == ()


@pytest.mark.parametrize('name', OTHER)
def test_a_frozen_graph_that_computes_something_else(network, tmp_path, name):
    edit, words, head = OTHER[name]
    conflicts = found(network, edit, tmp_path)
    assert conflicts and conflicts[0][1] == head
    assert re.search(words, conflicts[0][0]), conflicts[0][0]


def test_a_spelt_batch_norm_s_epsilon(network, official_files):
    """What is added to a variance before its root is read where no fused operation says it."""
    graph = Edited(network[1])
    name = 'aspp0/BatchNorm/moving_variance'
    graph.definition.node.add(name='small', op='Const').CopyFrom(graph.nodes[name])
    small = graph.definition.node[-1]
    small.name = 'small'
    small.attr['value'].tensor.CopyFrom(tf.make_tensor_proto(np.float32(0.25)))
    graph.definition.node.add(name='sum', op='AddV2', input=[name, 'small'])
    graph.definition.node.add(name='root', op='Rsqrt', input=['sum'])
    assert frozen_graph._spelt_epsilons(frozen_graph.Graph(graph.definition)) == {'aspp0': 0.25}


def test_another_output_stride_is_no_difference_and_other_rates_are(network, official_files,
                                                                    tmp_path):
    path = tmp_path / 'g.pb'
    path.write_bytes(network[1].SerializeToString())
    for stride, rates, count in ((8, (4,), 0), (32, (1,), 0), (8, (2,), 1)):
        model = build(official_files, output_stride=stride, atrous_rates=rates)
        conflicts = frozen_graph.read(path, model).conflicts
        assert len(conflicts) == count and all(head for _, head in conflicts), (stride, rates)
    assert 'at the file\'s output stride of 16' in conflicts[0][0]


def test_a_window_of_another_crop_is_noted(network, official_files, tmp_path):
    graph, path = Edited(network[1]), tmp_path / 'g.pb'
    as_pool(graph)
    path.write_bytes(graph.definition.SerializeToString())
    assert frozen_graph.read(path, network[0]).remarks == ()
    remark, = frozen_graph.read(path, build(official_files, crop_size=97)).remarks
    assert 'a window of 5x5 cells' in remark and '(97, 97)' in remark
    report = zoo.read(path, build(official_files, crop_size=None))
    assert 'crop_size=None' in report.remarks[0] and report.remarks[0] in report.text()


def test_operations_in_a_circle_are_one_line(network, tmp_path):
    def edit(graph):
        node = graph.of('AddV2', part='expanded_conv')[0]
        node.input[1] = node.name
    with pytest.raises(Exception, match='a damaged frozen graph') as caught:
        found(network, edit, tmp_path)
    assert '\n' not in str(caught.value)


@pytest.fixture(scope='module')
def exported(network):
    """The network as our own float TFLite file."""
    return tflite_export.convert(network[0], (65, 65), 'float32')


def options_of(graph, code, index=0):
    return [o for o in graph.operators if graph.code(o) == code][index].builtinOptions


def set_option(code, name, value, index=0):
    def edit(graph):
        setattr(options_of(graph, code, index), name, value)
    return edit


def scaled_by_half(graph):
    """Half of every constant that the image is multiplied by."""
    for operator in graph.operators:
        if graph.code(operator) == schema.BuiltinOperator.MUL:
            tensor = next(i for i in operator.inputs if graph._is_constant(i))
            graph.set_constant(tensor, graph.constant(tensor) / 2)


OPERATOR, ACTIVATION = schema.BuiltinOperator, schema.ActivationFunctionType
FILE = {
    'nothing': (lambda graph: None, None),
    'align_corners': (set_option(OPERATOR.RESIZE_BILINEAR, 'alignCorners', False, 1),
                      'before decoder/decoder_conv0_depthwise.*align_corners=False'),
    'half pixels': (set_option(OPERATOR.RESIZE_BILINEAR, 'halfPixelCenters', True, 1),
                    'half_pixel_centers=True'),
    'at the end': (set_option(OPERATOR.RESIZE_BILINEAR, 'alignCorners', False, -1),
                   'enlarges maps with align_corners=False'),
    'one pixel': (set_option(OPERATOR.RESIZE_BILINEAR, 'alignCorners', False, 0), None),
    'activation': (set_option(OPERATOR.CONV_2D, 'fusedActivationFunction', ACTIVATION.RELU),
                   'is Relu, where the network has Relu6'),
    'no activation': (set_option(OPERATOR.CONV_2D, 'fusedActivationFunction', ACTIVATION.NONE),
                      'MobilenetV2/Conv, where the network has Relu6'),
    'of a sum': (set_option(OPERATOR.ADD, 'fusedActivationFunction', ACTIVATION.RELU, -1),
                 'is Relu, where the network has Add'),
    'stride': (set_option(OPERATOR.DEPTHWISE_CONV_2D, 'strideW', 2), 'has stride 1x2'),
    'rate': (set_option(OPERATOR.DEPTHWISE_CONV_2D, 'dilationHFactor', 3), 'has atrous rate 3x1'),
    'padding': (set_option(OPERATOR.DEPTHWISE_CONV_2D, 'padding', schema.Padding.VALID),
                'has padding top 0'),
    'concat': (set_option(OPERATOR.CONCATENATION, 'axis', 2), r'Concat\(axis=2\)'),
    'image': (scaled_by_half, r'is scaled by .* to -1 .. 0, the network\'s to -1 .. 1')}


@pytest.mark.parametrize('name', FILE)
def test_a_tflite_file_s_options(network, exported, tmp_path, name):
    edit, words = FILE[name]
    graph = tflite_graph.Graph(exported)
    edit(graph)
    path = tmp_path / 'm.tflite'
    path.write_bytes(graph.content())
    conflicts = tflite.read(path, network[0]).conflicts
    assert bool(conflicts) == bool(words), conflicts
    if words:
        assert re.search(words, conflicts[0][0]), conflicts[0][0]


def test_sides_of_another_grid_are_noted(network, official_files, exported, tmp_path):
    path = tmp_path / 'm.tflite'
    for side, count in ((65, 0), (64, 1)):
        graph = tflite_graph.Graph(exported)
        graph._graph.tensors[graph.inputs[0]].shape = [1, side, side, 3]
        path.write_bytes(graph.content())
        remarks = list(tflite._remarks(flatbuffer.read_convolutions(path).graph, network[0]))
        assert len(remarks) == count and all('set crop_size=(64, 64)' in one for one in remarks)


def test_integers_that_end_where_an_activation_does():
    assert graph_comparison._clamps((0.0, 6.0), 'Relu6')
    assert graph_comparison._clamps((0.0, 9.0), 'Relu')
    for span, kind in (((0.0, 9.0), 'Relu6'), ((-3.0, 6.0), 'Relu6'), ((0.0, 6.0), 'Add'),
                       (None, 'Relu')):
        assert not graph_comparison._clamps(span, kind)
