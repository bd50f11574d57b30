"""Atrous convolutions that can be trained on every CPU.

TensorFlow's CPU kernels for the gradients of a dilated Conv2D are oneDNN's, for float32; without
them it raises "Current CPU implementations do not yet support dilation rates larger than 1". An
atrous convolution with rate r is r * r plain ones, each over every r-th row and column (Chen et
al., TPAMI 2018, section 3.1), and that is how `tf.nn.convolution` has it.
"""
import tensorflow as tf

from tf_advseg.core import runtime


def conv2d(x, kernel, rate, padding):
    """A convolution with a rate and stride 1 whose gradients this process can take.

    Args:
      x: floating [B, h, w, in].
      kernel: of the same type, [k, k, in, out].
      rate: int above 1.
      padding: 'SAME' or 'VALID'.

    Returns:
      [B, h', w', out].
    """
    if has_native_gradients(x.dtype):
        return tf.nn.conv2d(x, kernel, 1, padding, dilations=rate)
    return tf.nn.convolution(x, kernel, padding=padding, dilations=rate)


def has_native_gradients(dtype=tf.float32):
    """Whether Conv2D's own gradients can be relied on: with oneDNN, in float32 or on a GPU.

    Without oneDNN the answer is False on a machine with a GPU too: which device a step will run on
    is not known here.
    """
    return runtime.onednn_is_on() and (
        dtype == tf.float32 or bool(tf.config.list_logical_devices('GPU')))
