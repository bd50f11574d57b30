"""How fast the exported network is, beside the same network as a plain TF1 inference graph.

The plain graph is what the official tools freeze: convolution, batch norm by the fused op and
activation one after the other, rates by space_to_batch, align-corners logits and their argmax,
weights as constants, one fixed image size, run by a session with the default configuration.
Both run in this process and take turns, because the machine's speed drifts; ratios are of
neighbours.
"""
import dataclasses
import pathlib
import statistics
import tempfile
import time

import numpy as np
import tensorflow as tf

from tf_advseg.core import errors
from tf_advseg.core import runtime
from tf_advseg.core import tensorflow_paths
from tf_advseg.models import flops
from tf_advseg.models import inference
from tf_advseg.models import layers
from tf_advseg.models.resize import resize_bilinear
from tf_advseg.models.zoo import saved_model
from tf_advseg.reporting import tables
from tf_advseg.run import networks

LIMIT = 1.0  # of the ratio: issue 3, "Done when" 4
CASES = (('deeplab_mobilenet_v2', 16), ('deeplab_mobilenet_v2', 8), ('deeplab_xception', 16))
CLASSES = 21
WARM_UP = 3
GEMM_SIDE = 2048


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of a run, medians, and what they are worth.

    Attributes:
      name: of the network.
      plain, exported: seconds an image.
      ratio: exported over plain: the median over neighbouring runs.
      flops: of the network.
      peak: floating-point operations a second of a large matrix product, the best of as many
        that took their turns with the networks.
    """
    name: str
    plain: float
    exported: float
    ratio: float
    flops: int
    peak: float

    @property
    def share(self):
        """Share of the peak that the exported network reaches, 0..1."""
        return self.flops / self.exported / self.peak


def plain_graph(segmentor, size):
    """A segmentor as a plain frozen TF1 inference graph, see the module.

    Args:
      segmentor: a network of `layers.Convolution`s.
      size: (height, width).

    Returns:
      (tf.compat.v1.GraphDef, name of the uint8 [1, h, w, 3] input, name of the int64 [1, h, w]
      output).
    """
    def plain(layer, x, mode=None):
        del mode
        kernel, *others = _values(layer)
        y = layer._convolve(x, tf.constant(kernel), trained=False)
        if layer.norm is None:
            y = tf.nn.bias_add(y, tf.constant(others[0]))
        else:
            y = tf.compat.v1.nn.fused_batch_norm(y, *map(tf.constant, others),
                                                 epsilon=layer.norm.epsilon, is_training=False)[0]
        return y if layer.activation is None else layers.ACTIVATIONS[layer.activation](y)

    def ids(image):
        with inference.replaced_calls(segmentor, {layers.Convolution: plain}):
            logits = segmentor(tf.cast(image, tf.float32), training=False)
        return tf.argmax(resize_bilinear(logits, list(size)), -1)

    spec = tf.TensorSpec([1, *size, 3], tf.uint8, 'image')
    graph = tf.function(ids, autograph=False, input_signature=[spec]).get_concrete_function().graph
    return graph.as_graph_def(), graph.inputs[0].name, graph.outputs[0].name


def _values(layer):
    """Arrays of a convolution: kernel and bias, or kernel, gamma, beta, mean, variance."""
    with tf.init_scope():
        return [variable.numpy() for variable in layer.official_variables().values()]


def plain_runner(segmentor, size):
    """Callable: uint8 [1, h, w, 3] array -> int64 [1, h, w], by the plain graph in a session."""
    definition, feed, fetch = plain_graph(segmentor, size)
    with tf.Graph().as_default():
        tf.compat.v1.import_graph_def(definition, name='')
        session = tf.compat.v1.Session()
    return session.make_callable(fetch, feed_list=[feed])


def exported_runner(folder):
    """Callable: uint8 [B, h, w, 3] array -> uint8 [B, h, w], by a SavedModel's `class_map`."""
    loaded = tf.saved_model.load(tensorflow_paths.plain_folder(folder))
    signature = loaded.signatures[saved_model.CLASS_MAP]

    def run(image):
        # A signature lives as long as what it was loaded with.
        return signature(image=tf.constant(image))[saved_model.CLASS_MAP].numpy(), loaded
    return lambda image: run(image)[0]


def interleaved(functions, repeats):
    """Times functions in turns: seconds, array [functions, repeats], after a warm-up."""
    for _ in range(WARM_UP):
        for function in functions:
            function()
    seconds = np.zeros((len(functions), repeats))
    for repeat in range(repeats):
        # Who goes first changes: a turn may find the caches as the one before left them.
        for which in np.roll(np.arange(len(functions)), repeat):
            start = time.perf_counter()
            functions[which]()
            seconds[which, repeat] = time.perf_counter() - start
    return seconds


def _gemm():
    """(function that multiplies two large matrices, its floating-point operations)."""
    matrix = tf.random.stateless_normal([GEMM_SIDE, GEMM_SIDE], [0, 0])
    return lambda: tf.matmul(matrix, matrix).numpy(), 2.0 * GEMM_SIDE ** 3


def randomise(segmentor, seed=0):
    """Draws all weights so that activations keep a sane size; times do not depend on them."""
    random = np.random.default_rng(seed)
    for layer in layers.convolutions(segmentor):
        for name, variable in layer.official_variables().items():
            shape, leaf = variable.shape.as_list(), name.rsplit('/', 1)[-1]
            if leaf.endswith('weights'):
                fan_in = np.prod(shape[:2]) * (1 if layer.depthwise else shape[2])
                variable.assign(random.normal(0.0, fan_in ** -0.5, shape))
            elif leaf in ('gamma', 'moving_variance'):
                variable.assign(random.uniform(0.8, 1.2, shape))
            else:
                variable.assign(random.normal(0.0, 0.1, shape))
    return segmentor


def time_network(name, segmentor, size, repeats):
    """`Timing` of a network; its SavedModel is written to a temporary folder and loaded."""
    image = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
    with tempfile.TemporaryDirectory(prefix='tf_advseg-') as folder:
        saved_model.write(pathlib.Path(folder), segmentor)
        exported = exported_runner(folder)
    plain = plain_runner(segmentor, size)
    agree = np.mean(plain(image) == exported(image))
    if agree < 0.999:
        raise errors.UserError(f'{name}: the exported network and the plain graph agree at '
                               f'{100 * agree:.2f} % of the pixels only; nothing is timed')
    gemm, gemm_flops = _gemm()
    slow, fast, products = interleaved(
        [lambda: plain(image), lambda: exported(image), gemm], repeats)
    return Timing(name, statistics.median(slow), statistics.median(fast),
                  float(np.median(fast / slow)), flops.total(segmentor, size),
                  gemm_flops / products.min())


def measure(network=None, output_stride=None, size=(513, 513), repeats=20):
    """Times networks with random weights.

    Args:
      network: a name in `networks.NETWORKS`; None: the three cases of `CASES`.
      output_stride: of that network; None: its default.
      size: (height, width) of the image, and the crop size.
      repeats: runs of each.

    Yields:
      Timing.

    Raises:
      UserError: unknown network.
    """
    cases = CASES
    if network is not None:
        errors.require_one_of('network', network, networks.NETWORKS)
        cases = ((network, output_stride),)
    for name, stride in cases:
        changes = {} if stride is None else {'output_stride': stride}
        segmentor = networks.build(networks.describe(name, num_classes=CLASSES, crop_size=size,
                                                     **changes))
        yield time_network(f'{name}, stride {segmentor.output_stride}', randomise(segmentor),
                           size, repeats)


def table(timings, size, repeats):
    """tables.Table of Timings."""
    rows = []
    for t in timings:
        rows.append((t.name, f'{1e3 * t.plain:.1f}', f'{1e3 * t.exported:.1f}', f'{t.ratio:.2f}',
                     'kept' if t.ratio <= LIMIT else 'OVER', f'{t.flops / 1e9:.2f}',
                     f'{t.flops / t.exported / 1e9:.0f}', f'{t.peak / 1e9:.0f}',
                     f'{100 * t.share:.0f} %'))
    return tables.plain_table(
        ('network', 'plain TF1, ms', 'exported, ms', 'ratio', f'<= {LIMIT:.1f}', 'GFLOP',
         'GFLOP/s', 'GEMM peak', 'share'), rows,
        f'{size[0]}x{size[1]}, medians of {repeats} runs in turns, float32, '
        f'oneDNN {"on" if runtime.onednn_is_on() else "off"}')
