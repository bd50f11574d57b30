"""TFLite DeepLab on MobileNetV2 -> our network.

The files hold each batch norm folded into its convolution. Here it is written as an ordinary batch
norm: gamma 1, beta = bias, mean 0, variance 1 - epsilon. One network serves both origins.
"""
import pathlib

import numpy as np

from tf_advseg.core.errors import UserError, suggest
from tf_advseg.models import layers
from tf_advseg.models.zoo import ImportReport, flatbuffer

LOGITS = 'logits/semantic'
BACKBONE = 'MobilenetV2/'


def load_tflite(path, segmentor, backbone_only=False):
    """Loads a float or quantised TFLite DeepLab into a segmentor.

    Convolutions are matched by the official scope in the kernel's tensor name; in a file without
    such names by their order in the graph. Nothing is assigned unless everything fits. With
    another number of classes the logits layer alone is re-initialised, and the report says so.

    Args:
      path: of the file.
      segmentor: `deeplab.DeepLab` on MobileNetV2 of the same depth multiplier; output stride and
        crop size may differ from the file's.
      backbone_only: take the backbone only and re-initialise the head: for a head (ASPP rates,
        decoder) that the file does not have.

    Returns:
      ImportReport; every variable of the segmentor is in `assigned` or in `reinitialised`.

    Raises:
      UserError: damaged file; no such layer on one side; shapes differ (both are named).
    """
    path = pathlib.Path(path)
    ours = {layer.scope: layer for layer in layers.convolutions(segmentor)}
    if not ours:
        raise UserError(f'{path}: {segmentor.name} has no layers with official names; weights can '
                        'be read into the networks of tf_advseg.models only')
    contents = flatbuffer.read_convolutions(path)
    theirs = _by_scope(path, contents.convolutions, list(ours), backbone_only)
    fresh, unused = {}, list(contents.others)
    if backbone_only:
        reason = 'backbone_only: the head starts anew'
        fresh = {scope: reason for scope in ours if not scope.startswith(BACKBONE)}
        unused += [(c.name, reason) for s, c in theirs.items() if not s.startswith(BACKBONE)]
        theirs = {s: c for s, c in theirs.items() if s.startswith(BACKBONE)}
    elif LOGITS in theirs and theirs[LOGITS].kernel.shape[3] != segmentor.num_classes:
        reason = (f'{theirs[LOGITS].kernel.shape[3]} classes in the file, '
                  f'{segmentor.num_classes} in the network')
        fresh[LOGITS] = reason
        unused.append((theirs.pop(LOGITS).name, reason))
    _require_fit(path, ours, theirs, fresh)
    return _assign(path, segmentor, ours, theirs, fresh, unused)


def _by_scope(path, convolutions, scopes, backbone_only):
    """dict: our scope -> the file's convolution, by its names, in a file without by order."""
    named = [(_scope_of(c.name, scopes), c) for c in convolutions]
    if not any(scope for scope, _ in named):
        if len(convolutions) != len(scopes):
            raise UserError(f'{path}: {len(convolutions)} convolutions without official names, the '
                            f'network has {len(scopes)}: not a DeepLab of this kind')
        return dict(zip(scopes, _pooling_first(convolutions)))
    found = {}
    for scope, convolution in named:
        if scope in found:
            raise UserError(f'{path}: two convolutions claim {scope}: {found[scope].name} and '
                            f'{convolution.name}')
        if scope is None and not backbone_only:
            name = convolution.name.split(';')[0]
            raise UserError(f'{path}: {name} {_shape(convolution.kernel)} has no place in the '
                            f'network.{suggest(name, scopes)}')
        found[scope or convolution.name] = convolution
    return found


def _scope_of(name, scopes):
    """The longest official scope that a part of 'a/b/weights;a/b/weights_quant/…' lies in."""
    inside = [s for s in scopes for part in name.split(';') if part.startswith(s + '/')]
    return max(inside, key=len) if inside else None


def _pooling_first(convolutions):
    """The file's order turned into the official one: image pooling stands before aspp0.

    The quantised files run aspp0 first. Image pooling is the convolution that reads a pool's
    output; aspp0 follows the backbone's last convolution directly.
    """
    pooled = [c for c in convolutions if c.pooled]
    rest = [c for c in convolutions if not c.pooled]
    head = 3  # aspp0, concat_projection, logits
    return rest[:-head] + pooled + rest[-head:]


def _require_fit(path, ours, theirs, fresh):
    """Raises UserError unless file and network have the same layers with the same shapes."""
    for scope, layer in ours.items():
        if scope in fresh:
            continue
        if scope not in theirs:
            raise UserError(f'{path}: no weights for {scope} {_shape(layer.kernel)}, which the '
                            'network has; the file is of a network without it (backbone_only '
                            'takes the backbone alone)')
        kernel, bias = theirs[scope].kernel, theirs[scope].bias
        if kernel.shape != tuple(layer.kernel.shape) or bias.shape != (_width(layer),):
            raise UserError(f'{path}: {scope} is {_shape(kernel)} in the file and '
                            f'{_shape(layer.kernel)} in the network: another depth multiplier or '
                            'head')
        if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
            raise UserError(f'{path}: {scope} holds values that are not finite: a damaged file')


def _assign(path, segmentor, ours, theirs, fresh, unused):
    assigned, reinitialised = [], []
    for scope, layer in ours.items():
        names = list(layer.official_variables())
        if scope in fresh:
            layer.reinitialise()
            reinitialised += [(name, fresh[scope]) for name in names]
            continue
        layer.kernel.assign(theirs[scope].kernel)
        if layer.norm is None:
            layer.bias.assign(theirs[scope].bias)
        else:
            norm, ones = layer.norm, np.ones(_width(layer), np.float32)
            norm.gamma.assign(ones)
            norm.beta.assign(theirs[scope].bias)
            norm.moving_mean.assign(0.0 * ones)
            norm.moving_variance.assign(ones * (1.0 - norm.epsilon))
        assigned += names
    done = assigned + [name for name, _ in reinitialised]
    if len(set(done)) != len(done) or len(done) != len(segmentor.variables):
        raise UserError(f'{path}: {len(done)} variables were given values, {segmentor.name} has '
                        f'{len(segmentor.variables)}: it has variables outside official layers')
    return ImportReport(str(path), tuple(assigned), tuple(reinitialised), tuple(unused))


def _width(layer):
    return int(layer.kernel.shape[2 if layer.depthwise else 3])


def _shape(kernel):
    return '[' + ', '.join(str(int(side)) for side in kernel.shape) + ']'
