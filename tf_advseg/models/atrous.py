"""Atrous convolutions that can be trained on every CPU.

TensorFlow has CPU kernels for the gradients of a dilated Conv2D in oneDNN alone; without it they
raise "Current CPU implementations do not yet support dilation rates larger than 1". The forward
kernel is always there. An atrous convolution with rate r is r * r plain ones, each over every r-th
row and column (Chen et al., TPAMI 2018, section 3.1), so its gradients can be taken from these.
Depthwise convolutions need none of this: `tf.nn.depthwise_conv2d` works that way by itself.
"""
import tensorflow as tf

from tf_advseg.core import runtime
from tf_advseg.core.errors import UserError


def has_native_gradients():
    """Whether TensorFlow's own gradients of a dilated Conv2D run here: with oneDNN, or on a GPU."""
    return runtime.onednn_is_on() or bool(tf.config.list_logical_devices('GPU'))


def conv2d(x, kernel, rate, padding):
    """`tf.nn.conv2d` with a rate and stride 1, with gradients on any device.

    Args:
      x: float [B, h, w, in].
      kernel: float [k, k, in, out]; a tensor or a variable.
      rate: int above 1.
      padding: 'SAME' or 'VALID'.

    Returns:
      float [B, h', w', out].
    """
    if has_native_gradients():
        return tf.nn.conv2d(x, kernel, 1, padding, dilations=rate)
    return _with_gradients_by_phases(x, tf.convert_to_tensor(kernel), rate, padding)


def conv2d_by_phases(x, kernel, rate, padding):
    """The same convolution as plain ones over the phases of x; arguments as `conv2d`'s."""
    margins = [[0, 0], [0, 0]]
    if padding == 'SAME':
        reach = [(size - 1) * rate for size in kernel.shape[:2]]
        margins = [[total // 2, total - total // 2] for total in reach]
    paddings, crops = tf.required_space_to_batch_paddings(tf.shape(x)[1:3], [rate, rate], margins)
    y = tf.nn.conv2d(tf.space_to_batch(x, [rate, rate], paddings), kernel, 1, 'VALID')
    return tf.batch_to_space(y, [rate, rate], crops)


def _with_gradients_by_phases(x, kernel, rate, padding):
    @tf.custom_gradient
    def convolve(x, kernel):
        # The forward kernel knows rates and is up to 2.6 times as fast as the phases.
        y = tf.nn.conv2d(x, kernel, 1, padding, dilations=rate)

        def gradients(upstream):
            with tf.GradientTape() as tape:
                tape.watch((x, kernel))
                again = conv2d_by_phases(x, kernel, rate, padding)
            return tape.gradient(again, (x, kernel), upstream)

        return y, gradients

    return convolve(x, kernel)


def require_gradients(network):
    """Refuses a network whose own Keras layers cannot be trained in this process.

    Networks of this package can, through `conv2d`; somebody's Keras model with a dilated `Conv2D`
    cannot without oneDNN.

    Raises:
      UserError: names the first such layer, and what to do.
    """
    if has_native_gradients():
        return
    for layer in network._flatten_layers():
        rates = getattr(layer, 'dilation_rate', 1)
        dilated = max(rates) > 1 if isinstance(rates, (list, tuple)) else rates > 1
        if type(layer) is tf.keras.layers.Conv2D and dilated and layer.trainable:
            raise UserError(
                f'{network.name}: its layer {layer.name} is a Conv2D with dilation_rate '
                f'{rates}, which TensorFlow cannot train on a CPU without oneDNN; unset '
                'TF_ENABLE_ONEDNN_OPTS, or set it to 1')
