"""FLOPs: by hand, and by TensorFlow's own profiler."""
import pytest
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from tf_advseg.models import deeplab, farabet, flops, layers


def profiled(model, size):
    """What tf.compat.v1.profiler counts in the convolutions of the frozen network."""
    function = tf.function(lambda x: model(x), input_signature=[
        tf.TensorSpec([1, *size, 3], tf.float32)])
    frozen = convert_variables_to_constants_v2(function.get_concrete_function())
    with tf.Graph().as_default() as graph:
        tf.compat.v1.import_graph_def(frozen.graph.as_graph_def(), name='')
        options = tf.compat.v1.profiler.ProfileOptionBuilder(
            tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()).with_accounted_types(
                ['_none_']).with_empty_output().build()
        options['account_type_regexes'] = ['Conv2D', 'DepthwiseConv2dNative']
        counted = tf.compat.v1.profiler.profile(graph, cmd='op', options=options)
    return counted.total_float_ops


class Tiny(tf.keras.Model):
    """A dense 3x3 at stride 2, a depthwise 3x3 of rate 2, a 1x1 with bias."""

    def __init__(self):
        super().__init__()
        norm = layers.Norm(1e-3, 0.9)
        self.parts = [layers.Convolution('a', 3, 8, 3, stride=2, norm=norm),
                      layers.Convolution('b', 8, None, 3, rate=2, norm=norm),
                      layers.Convolution('c', 8, 5)]

    def call(self, x, training=False):
        for part in self.parts:
            x = part(x)
        return x


def test_by_hand():
    costs = flops.per_convolution(Tiny(), (9, 13), batch=2)
    # 5 x 7 positions of 2 images; multiplications and additions.
    assert [cost.scope for cost in costs] == ['a', 'b', 'c']
    assert [cost.output for cost in costs] == [(2, 5, 7, 8), (2, 5, 7, 8), (2, 5, 7, 5)]
    assert [cost.flops for cost in costs] == [
        2 * 70 * 9 * 3 * 8, 2 * 70 * 9 * 8, 2 * 70 * 8 * 5]
    assert flops.total(Tiny(), (9, 13), batch=2) == sum(cost.flops for cost in costs)


@pytest.mark.parametrize('build', [
    lambda: deeplab.deeplab_mobilenet_v2(21, 32, depth_multiplier=0.5, crop_size=97),
    pytest.param(lambda: deeplab.deeplab_xception(5, 'xception_41', 32, atrous_rates=(),
                                                  crop_size=65), marks=pytest.mark.slow)])
def test_the_profiler_counts_the_same(build):
    model = build()
    # Of a network without rates: the profiler counts the padding of space_to_batch, too.
    assert flops.total(model, (65, 97)) == profiled(model, (65, 97)) > 1e6


def test_the_zoo_network_at_stride_8():
    model = deeplab.deeplab_mobilenet_v2(21, 8, crop_size=513)
    # The profiler's 17.69e9 of the frozen graph of this network at 513x513 are with the padding of
    # space_to_batch, bias, batch norm and activations.
    assert flops.total(model, (513, 513)) == pytest.approx(17.69e9, rel=0.005)
    scopes = [cost.scope for cost in flops.per_convolution(model, (65, 65))]
    assert sorted(scopes) == sorted(c.scope for c in layers.convolutions(model))


def test_shared_weights_count_at_every_call():
    costs = flops.per_convolution(farabet.farabet(4), (65, 97))
    first = [cost for cost in costs if cost.scope == 'features/conv1']
    assert [cost.output[1:3] for cost in first] == [(65, 97), (33, 49), (17, 25)]
    assert first[0].flops == 2 * 65 * 97 * 49 * 3 * 16
