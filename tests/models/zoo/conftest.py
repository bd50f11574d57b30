"""Files as the official tools write them, made by TensorFlow's own TF1 routes, not by our code."""
import hashlib
import tarfile
import types

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.models import deeplab, layers
from tf_advseg.models.resize import resize_bilinear

SIDE = 65


def _values(model, salt=0):
    """dict: official name -> plausible trained values, a function of (name, shape, salt)."""
    values = {}
    for name, variable in layers.official_variables(model).items():
        digest = hashlib.sha256(f'{salt}:{name}'.encode()).digest()
        random = np.random.default_rng(int.from_bytes(digest[:8], 'little'))
        noise = random.standard_normal(variable.shape, dtype=np.float32)
        leaf = name.rsplit('/', 1)[-1]
        if leaf in ('weights', 'depthwise_weights'):
            fan_in = np.prod(variable.shape[:2]) * (1 if leaf[0] == 'd' else variable.shape[2])
            values[name] = noise * np.float32(np.sqrt(2.0 / fan_in))
        elif leaf == 'gamma':
            values[name] = 1 + np.float32(0.1) * noise
        elif leaf == 'moving_variance':
            values[name] = 1 + np.float32(0.1) * np.abs(noise)
        else:
            values[name] = np.float32(0.1) * noise
    return values


def _fill(model, values):
    for name, variable in layers.official_variables(model).items():
        variable.assign(values[name])
    return model


def _save(prefix, values, trainable=(), step=30000, extra=None):
    """Saves variables as a TF1 training does, by Saver in a session: slots and global_step too."""
    everything = {**values, **(extra or {})}
    everything.update({f'{name}/Momentum': np.float32(0.01) * values[name] for name in trainable})
    if step is not None:
        everything['global_step'] = np.asarray(step, np.int64)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        feeds, variables = {}, []
        for name, value in everything.items():
            holder = tf.compat.v1.placeholder(value.dtype, value.shape)
            variables.append(tf.compat.v1.get_variable(
                name, initializer=holder, use_resource=False, trainable=False))
            feeds[holder] = value
        session.run([v.initializer for v in variables], feeds)
        saver = tf.compat.v1.train.Saver(variables)
        saver.save(session, str(prefix), write_meta_graph=False)
    return str(prefix)


def _training_checkpoint(prefix, model, values, **options):
    """A checkpoint of `_save` with the slots that official training has."""
    trainable = [name for name in values if 'moving_' not in name]
    assert len(trainable) == len(model.trainable_variables)
    return _save(prefix, values, trainable, **options)


def _archive(path, members, links=()):
    """A .tar.gz of (member's name, file or bytes); links as (name, target, kind)."""
    import io
    with tarfile.open(path, 'w:gz', compresslevel=0) as tar:
        for name, content in members:
            if isinstance(content, bytes):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                tar.add(content, name)
        for name, target, kind in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)
    return path


def _frozen(make, values, side=SIDE):
    """GraphDef of an inference graph as official export_model.py names it, variables frozen.

    The batch norms are in it (FusedBatchNorm), and so is the sandwich of SpaceToBatchND that TF1
    makes of an atrous convolution.
    """
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
        model = make()
        image = tf.compat.v1.placeholder(tf.uint8, [1, None, None, 3], name='ImageTensor')
        # training=True with frozen statistics and no dropout: inference by the fused op.
        logits = model(tf.ensure_shape(image, [1, side, side, 3]), training=True)
        logits = tf.identity(logits, 'logits/semantic/BiasAdd')
        tf.argmax(resize_bilinear(logits, (side, side)), -1, name='SemanticPredictions')
        variables = {v.name.split(':')[0]: v for v in tf.compat.v1.global_variables()}
        assert set(variables) == set(values)
        initializers = {name: v.initializer for name, v in variables.items()}
        session.run(list(initializers.values()),
                    {initializers[name].inputs[1]: value for name, value in values.items()})
        return tf.compat.v1.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), ['SemanticPredictions'])


def _faked(definition, kernel_bits=8):
    """The graph with FakeQuant nodes behind every kernel and every activation."""
    result = tf.compat.v1.GraphDef()
    result.CopyFrom(definition)
    nodes = {node.name: node for node in result.node}
    behind = {}

    def rounded(name, low, high, bits):
        for side, value in (('min', low), ('max', high)):
            node = result.node.add(name=f'{name}_quant/{side}', op='Const')
            node.attr['dtype'].type = tf.float32.as_datatype_enum
            node.attr['value'].tensor.CopyFrom(tf.make_tensor_proto(np.float32(value)))
        node = result.node.add(name=f'{name}_quant/FakeQuantWithMinMaxVars',
                               op='FakeQuantWithMinMaxVars',
                               input=[name, f'{name}_quant/min', f'{name}_quant/max'])
        node.attr['num_bits'].i = bits
        return node.name

    for node in list(result.node):
        if node.op in ('Conv2D', 'DepthwiseConv2dNative'):
            source = node.input[1]
            constant = source
            while nodes.get(constant) is not None and nodes[constant].op == 'Identity':
                constant = nodes[constant].input[0]
            value = nodes[constant]
            value = tf.make_ndarray(value.attr['value'].tensor) if value.op == 'Const' else [-9, 9]
            node.input[1] = rounded(source, np.min(value), np.max(value), kernel_bits)
        elif node.op == 'Relu6':
            behind[node.name] = rounded(node.name, 0.0, 6.0, 8)
    for node in result.node:
        if not node.name.endswith('/FakeQuantWithMinMaxVars'):
            for place, name in enumerate(node.input):
                node.input[place] = behind.get(name, name)
    return result


def _mobilenet(num_classes=5, **options):
    options = {'depth_multiplier': 0.25, 'crop_size': SIDE, 'dropout_rate': 0.0, **options}
    return deeplab.deeplab_mobilenet_v2(num_classes, **options)


def _contents(model):
    return {name: variable.numpy() for name, variable in layers.official_variables(model).items()}


@pytest.fixture(scope='session')
def official_files():
    """Namespace of the functions above."""
    return types.SimpleNamespace(
        values=_values, fill=_fill, save=_save, training_checkpoint=_training_checkpoint,
        archive=_archive, frozen=_frozen, faked=_faked,
        mobilenet=_mobilenet, contents=_contents, side=SIDE)


@pytest.fixture(scope='session')
def small(official_files, tmp_path_factory):
    """A small trained MobileNetV2: model, values, prefix of its training checkpoint."""
    model = official_files.mobilenet()
    values = official_files.values(model)
    folder = tmp_path_factory.mktemp('small')
    prefix = official_files.training_checkpoint(folder / 'model.ckpt-30000', model, values)
    return types.SimpleNamespace(model=official_files.fill(model, values), values=values,
                                 prefix=prefix, folder=folder)


@pytest.fixture
def unchanged():
    """Context: whatever happens inside, the model's variables must stay as they were."""
    import contextlib

    @contextlib.contextmanager
    def watch(model):
        before = [variable.numpy() for variable in model.variables]
        yield
        for variable, value in zip(model.variables, before):
            np.testing.assert_array_equal(variable, value)

    return watch
