"""Hung et al.'s discriminator in NumPy, float64: section 4.1 as its authors' framework has it.

A convolution of PyTorch (kernel 4, stride 2, padding 1): output (i, j) is the sum over the 4x4
window that begins at (2i - 1, 2j - 1), zeros beyond the map; h // 2 of them along a side of h.
"""
import numpy as np


def convolution(x, kernel, bias):
    """[b, h, w, c] by [4, 4, c, d] -> [b, h // 2, w // 2, d]."""
    batch, height, width, _ = x.shape
    framed = np.zeros((batch, height + 2, width + 2, x.shape[-1]))
    framed[:, 1:-1, 1:-1] = x
    out = np.empty((batch, height // 2, width // 2, kernel.shape[-1]))
    for i in range(height // 2):
        for j in range(width // 2):
            window = framed[:, 2 * i:2 * i + 4, 2 * j:2 * j + 4]
            out[:, i, j] = np.tensordot(window, kernel, 3) + bias
    return out


def bilinear(x, size):
    """Align-corners bilinear: [b, h, w, c] -> [b, *size, c]; corners stay where they are."""
    for axis, (old, new) in enumerate(zip(x.shape[1:3], size), 1):
        at = np.arange(new) * ((old - 1) / (new - 1) if new > 1 else 0.0)
        low = np.minimum(np.floor(at + 1e-9).astype(int), old - 1)
        high, share = np.minimum(low + 1, old - 1), np.clip(at - low, 0.0, 1.0)
        share = share.reshape([-1 if i == axis else 1 for i in range(4)])
        x = np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share
    return x


def logits(maps, weights, kind='pixel'):
    """What the discriminator says.

    Args:
      maps: [b, h, w, C].
      weights: [kernel, bias, kernel, bias, ...] in the layers' order.
      kind: 'pixel', or 'image' whose last layer is fully connected.

    Returns:
      [b, h, w], or [b].
    """
    x, pairs = np.asarray(maps, np.float64), list(zip(weights[::2], weights[1::2]))
    for kernel, bias in pairs[:-1]:
        x = convolution(x, kernel, bias)
        x = np.where(x > 0, x, 0.2 * x)
    kernel, bias = pairs[-1]
    if kind == 'image':
        return x.reshape(len(x), -1) @ kernel.reshape(-1) + bias[0]
    return bilinear(convolution(x, kernel, bias), maps.shape[1:3])[..., 0]
