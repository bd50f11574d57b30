"""keras-applications .h5 (ImageNet; ResNet-101, VGG-16) -> arrays under official names.

Caffe trained these weights: they take BGR minus the mean colour, so they fit only a network whose
first layer does that. Datasets are read with h5py; nothing is unpickled or executed.
"""
import inspect
import pathlib

import h5py
import numpy as np

from tf_advseg.core.errors import UserError, suggest
from tf_advseg.models import layers
from tf_advseg.models.zoo import assignment

KIND = 'keras-applications weights'
_LIMIT_VALUES = 1 << 28
_DAMAGE = (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, MemoryError,
           UnicodeDecodeError)
_TOP = ('fc1', 'fc2')  # VGG-16's dense layers
_NO_TOP = 'the file was written without the classifier (include_top=False)'
_NORM_LEAVES = ('gamma', 'beta', 'moving_mean', 'moving_variance')


def read(path, segmentor):
    """Reads a keras-applications file for a network that says how its layers are called there.

    The module of the network, or of its backbone, has `keras_names(scope)`: keras' layer names for
    an official scope, (convolution, batch norm) or (convolution,), or None for a layer that keras
    does not have. A dense layer is a convolution as wide as its map. Where a batch norm follows a
    biased convolution, the bias goes into the moving mean: (x + b) - mean = x - (mean - b).

    Args:
      path: of the .h5.
      segmentor: a network of `tf_advseg.models`.

    Returns:
      assignment.Found.

    Raises:
      UserError: damaged or foreign; the network has no such rule, or takes another colour order.
    """
    ours = assignment.official_layers(path, segmentor)
    rule = _rule(path, segmentor, ours)
    found = _weights(path)
    arrays, origins, fresh, taken = {}, {}, {}, set()
    for scope, layer in ours.items():
        names = rule(scope)
        if names is None:
            continue
        convolution, norm = (*names, None)[:2]
        if convolution in _TOP and not set(_TOP) & set(found):
            fresh.update(dict.fromkeys(layer.official_variables(), _NO_TOP))
            continue
        if convolution not in found or (norm is not None and norm not in found):
            missing = convolution if convolution not in found else norm
            raise UserError(f'{path}: no layer {missing} (here {scope}); the file is of another '
                            f'network.{suggest(missing, found)}')
        taken.update(filter(None, (convolution, norm)))
        named = _variables(path, scope, layer, found[convolution], found.get(norm))
        arrays.update(named)
        origins.update({name: f'{convolution} ({scope})' for name in named})
    unused = [(name, 'a layer of the classifier that the network does not have')
              for name in found if name not in taken]
    return assignment.Found(KIND, arrays, origins, tuple(unused), fresh=fresh)


def _rule(path, segmentor, scopes):
    """The network's `keras_names`, after its input layer was checked."""
    parts = (segmentor, getattr(segmentor, 'backbone', None))
    modules = [inspect.getmodule(type(part)) for part in parts if part is not None]
    rules = [module.keras_names for module in modules if hasattr(module, 'keras_names')]
    rule = next((each for each in rules if any(map(each, scopes))), None)
    if rule is None:
        raise UserError(f'{path}: keras weights fit networks with the layers of keras-applications '
                        f'(deeplab_v2_resnet, dilated8), not {segmentor.name}')
    normalisation = getattr(segmentor, 'normalisation', None)
    if not (isinstance(normalisation, layers.MeanSubtraction) and normalisation.bgr):
        raise UserError(f'{path}: these weights take BGR minus the mean colour (caffe), but '
                        f'{segmentor.name} begins with {type(normalisation).__name__}; build it '
                        'with the caffe input layer (layers.MeanSubtraction, bgr=True)')
    return rule


def _variables(path, scope, layer, convolution, norm):
    """The variables of one layer from keras' arrays, by leaf."""
    kernel = convolution.get('kernel')
    if kernel is None:
        raise UserError(f'{path}: {scope}: keras has no kernel there; the file is of another '
                        'network')
    bias = convolution.get('bias')
    if kernel.ndim == 2 and kernel.size == layer.kernel.shape.num_elements():
        kernel = kernel.reshape(layer.kernel.shape)  # rows, columns, channels: the same order
    names = list(layer.official_variables())
    if layer.norm is None:
        zeros = np.zeros(kernel.shape[-1], np.float32)
        return dict(zip(names, (kernel, zeros if bias is None else bias)))
    if norm is None or not set(_NORM_LEAVES) <= set(norm):
        raise UserError(f'{path}: {scope}: keras has no batch norm there; the file is of another '
                        'network')
    values = [norm[leaf] for leaf in _NORM_LEAVES]
    if bias is not None:
        values[2] = values[2] - bias
    return dict(zip(names, (kernel, *values)))


def _weights(path):
    """dict: keras layer name -> dict leaf -> float32 array."""
    path = pathlib.Path(path)
    try:
        with h5py.File(path, 'r') as file:
            root = _hard(file, 'model_weights') if 'model_weights' in file else file
            found, total = {}, 0
            for layer in root:
                group = _hard(root, layer)
                arrays = {}
                for name, dataset in _datasets(group):
                    total += dataset.size
                    if total > _LIMIT_VALUES:
                        raise ValueError(f'more than {_LIMIT_VALUES} values')
                    arrays[_leaf(name, dataset)] = np.asarray(dataset[()], np.float32)
                if arrays:
                    found[layer] = arrays
    except _DAMAGE as error:
        raise UserError(f'{path}: a truncated or damaged .h5 file, or not keras weights ({error}); '
                        'fetch it again') from error
    if not found:
        raise UserError(f'{path}: no layers with weights in this .h5 file')
    return found


def _hard(group, name):
    """A member of a group that lies in this very file; links elsewhere are refused."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f'{name} is a link to somewhere else')
    return group[name]


def _datasets(group, depth=0):
    """(name, dataset) of every float dataset below a group."""
    if isinstance(group, h5py.Dataset):
        if group.external or group.is_virtual:
            raise ValueError(f'{group.name} lies in another file')
        if group.dtype.kind == 'f':
            yield group.name.split('/')[-1], group
    elif isinstance(group, h5py.Group) and depth < 8:
        for name in group:
            yield from _datasets(_hard(group, name), depth + 1)


def _leaf(name, dataset):
    """'kernel', 'bias', 'gamma', ... of 'kernel:0' and of the older 'block1_conv1_W_1:0'."""
    name = name.split(':')[0]
    for leaf in ('kernel', 'bias', *_NORM_LEAVES):
        if name == leaf or name.endswith('_' + leaf):
            return leaf
    older = {'_W': 'kernel', '_b': 'bias', '_beta': 'beta', '_running_mean': 'moving_mean',
             '_running_std': 'moving_variance'}
    for end, leaf in older.items():
        if name.endswith(end) or f'{end}_' in name:
            return leaf
    return 'kernel' if dataset.ndim == 4 else name
