"""The one place where foreign weights are put into a network: strictly, or not at all.

Every reader of this folder turns its file into arrays under official names (`Found`). Here each
variable of the network is given a value exactly once or starts anew with a reason, and each array
of the file is used or listed with a reason. Nothing is assigned unless everything fits.
"""
import dataclasses
import re
from typing import Mapping

import numpy as np
import tensorflow as tf

from tf_advseg.core.errors import UserError, suggest
from tf_advseg.models import layers

# What training leaves beside the weights: slim's and TF1's slots, counters, ranges of
# quantisation-aware training.
_SLOT = re.compile(r'/(Momentum|RMSProp(_1)?|ExponentialMovingAverage|Adam(_1)?|Adagrad(_1)?|'
                   r'Adadelta(_1)?|Ftrl(_1)?)$')
_COUNTER = re.compile(r'^(global_step|beta[12]_power|.*/?local_step|learning_rate)$')
_RANGE = re.compile(r'(^|/)[^/]*_quant(/|$)')
# What stands behind the backbone in a classifier: slim's MobileNetV2 has a layer of 1280 there.
_CLASSIFIER = re.compile(r'^([^/]+/)?(logits|Logits|predictions|Predictions|AuxLogits|Conv_1|'
                         r'fc[678]|fc1000|classifier)(/|$)')
BACKBONE_HINT = ('(import_checkpoint --backbone_only, in train experiment.backbone_only = True, '
                 'takes the backbone alone)')


@dataclasses.dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
      source: path of the file.
      assigned: official names of the variables that were given the file's values.
      reinitialised: (official name, reason) of the variables that start anew.
      unused: (name in the file, reason) of the constants that no variable took.
      kind: what the file was, for people.
      remarks: at which sizes of images its own maps are to be had, where that is not at all.
    """
    source: str
    assigned: tuple
    reinitialised: tuple = ()
    unused: tuple = ()
    kind: str = ''
    remarks: tuple = ()

    def to_json(self):
        """JSON-able dict with every name and every reason."""
        return {'source': self.source, 'kind': self.kind, 'assigned': list(self.assigned),
                'reinitialised': [{'name': name, 'reason': reason}
                                  for name, reason in self.reinitialised],
                'unused': [{'name': name, 'reason': reason} for name, reason in self.unused],
                'remarks': list(self.remarks)}

    def text(self):
        """A few lines for people: counts, then every exception with its reason.

        More than four names under one reason are counted and the first one is named; `to_json`
        has them all.
        """
        kind = f' ({self.kind})' if self.kind else ''
        lines = [f'{self.source}{kind}: {len(self.assigned)} variables assigned, '
                 f'{len(self.reinitialised)} re-initialised, '
                 f'{len(self.unused)} constants of the file not used']
        lines += _grouped('re-initialised', self.reinitialised)
        lines += _grouped('not used', self.unused)
        lines += [f'  note: {remark}' for remark in self.remarks]
        return '\n'.join(lines)


@dataclasses.dataclass(frozen=True)
class Found:
    """What a reader found in a file.

    Attributes:
      kind: what the file is, for people.
      arrays: official name -> float array.
      origins: official name -> name in the file, where that differs.
      unused: (name in the file, reason) of what the reader itself set aside.
      epsilons: scope of a convolution -> epsilon of its batch norm, where the file says it.
      fresh: official name -> why no file of this kind has it, so that it starts anew.
      conflicts: (what the file's graph does otherwise than the network, whether the head alone is
        concerned), so that the same weights would give other maps.
      remarks: see `ImportReport`.
    """
    kind: str
    arrays: Mapping
    origins: Mapping = dataclasses.field(default_factory=dict)
    unused: tuple = ()
    epsilons: Mapping = dataclasses.field(default_factory=dict)
    fresh: Mapping = dataclasses.field(default_factory=dict)
    conflicts: tuple = ()
    remarks: tuple = ()

    def origin(self, name):
        """The name in the file of an array."""
        return self.origins.get(name, name)


def enlarged_otherwise(align_corners, half_pixel):
    """What to say of a graph that makes maps larger in another way than the networks do."""
    return (f'it enlarges maps with align_corners={bool(align_corners)}'
            + (', half_pixel_centers=True' if half_pixel else '')
            + ', the networks of this package with align_corners=True')


def training_leftover(name):
    """Why a variable of a training checkpoint is no weight, or None for one that may be."""
    if _COUNTER.match(name):
        return 'a counter of the training'
    if _SLOT.search(name):
        return "an optimizer's slot or a moving average"
    if _RANGE.search(name):
        return 'a range of quantisation-aware training'
    return None


def scope_of(name, scopes):
    """The longest of our official scopes that a name of a file lies in, or None.

    Args:
      name: 'MobilenetV2/Conv/weights', or with the name that Keras layers have here, as our TFLite
        files: 'deeplab/MobilenetV2/MobilenetV2_Conv/Conv2D'. Converters join several with ';', of
        which the first that lies in a scope counts: others are those of equal constants, or of what
        was fused.
      scopes: official scopes.
    """
    layer_names = {scope.replace('/', '_'): scope for scope in scopes}
    for part in name.split(';'):
        inside = [scope for scope in scopes if part.startswith(scope + '/')] or [
            layer_names[folder] for folder in part.split('/')[:-1] if folder in layer_names]
        if inside:
            return max(inside, key=len)
    return None


def official_layers(path, segmentor):
    """dict: official scope -> `layers.Convolution` of a network, in its order.

    Raises:
      UserError: the network has no layers with official names, or variables outside them.
    """
    ours = {layer.scope: layer for layer in layers.convolutions(segmentor)}
    if not ours:
        raise UserError(f'{path}: {segmentor.name} has no layers with official names; weights can '
                        'be read into the networks of tf_advseg.models only')
    count = sum(len(layer.official_variables()) for layer in ours.values())
    if count != len(segmentor.variables):
        raise UserError(f'{path}: {count} variables would be given values, {segmentor.name} has '
                        f'{len(segmentor.variables)}: it has variables outside official layers')
    return ours


def unfolded(layer, kernel, bias):
    """A kernel with its batch norm folded in, as the variables of a layer.

    The batch norm becomes an ordinary one: gamma 1, beta = bias, mean 0, variance 1 - epsilon. So
    one network serves both origins.

    Args:
      layer: `layers.Convolution`.
      kernel, bias: arrays; float32 [width] for the bias.

    Returns:
      dict: official name -> array.
    """
    bias = np.asarray(bias, np.float32).reshape(-1)
    if layer.norm is None:
        values = [kernel, bias]
    else:
        ones = np.ones_like(bias)
        values = [kernel, ones, bias, 0.0 * ones, ones * (1.0 - layer.norm.epsilon)]
    return dict(zip(layer.official_variables(), values))


def assign(path, segmentor, found, backbone_only=False):
    """Gives a network the values of a file.

    With another number of classes the logits alone start anew, and also where the file has all but
    the logits. A file that holds a backbone and nothing of the head (slim's ImageNet checkpoints)
    fills the backbone; the head starts anew.

    Args:
      path: for messages and the report.
      segmentor: a network of `tf_advseg.models`.
      found: `Found`.
      backbone_only: take the backbone, whatever head the file has.

    Returns:
      ImportReport: every variable is in `assigned` or in `reinitialised`.

    Raises:
      UserError: one line that names both sides; nothing has been assigned then.
    """
    ours = official_layers(path, segmentor)
    for text, head in found.conflicts:
        if not (head and backbone_only):
            raise UserError(f'{path}: {text}: its weights would give other maps here'
                            + (f' {BACKBONE_HINT}' if head else '; set the network up as the '
                               'file has it, or start from another file'))
    wanted = {name: (layer, tuple(variable.shape)) for layer in ours.values()
              for name, variable in layer.official_variables().items()}
    arrays, unused, fresh = dict(found.arrays), list(found.unused), dict(found.fresh)
    for name in [n for n in arrays if n not in wanted]:
        reason = training_leftover(name)
        if reason:
            del arrays[name]
            unused.append((found.origin(name), reason))
    reason = _head_reason(segmentor, wanted, {*arrays, *fresh}, backbone_only)
    if reason:
        _leave_head(path, segmentor, wanted, arrays, found, reason, fresh, unused)
    elif not _leave_absent_logits(segmentor, wanted, arrays, fresh):
        _leave_other_classes(segmentor, arrays, found, fresh, unused)
    # Advised where it can help: the file has all of the backbone.
    hint = '' if backbone_only or not backbone_names(segmentor) <= {*arrays, *fresh} else (
        f' {BACKBONE_HINT}')
    _require_fit(path, wanted, arrays, found, fresh, hint)
    for name, (layer, _) in wanted.items():
        if name not in fresh:
            layer.official_variables()[name].assign(np.asarray(arrays[name], np.float32))
    for scope in dict.fromkeys(wanted[name][0].scope for name in fresh):
        ours[scope].reinitialise()
    return ImportReport(str(path), tuple(n for n in wanted if n not in fresh),
                        tuple(fresh.items()), tuple(dict.fromkeys(unused)), found.kind,
                        found.remarks)


def backbone_names(segmentor):
    """Official names of the variables of a network's backbone; an empty set if it has no part."""
    return {name for layer in _backbone(segmentor) for name in layer.official_variables()}


def backbone_scopes(segmentor):
    """Official scopes of a network's backbone; an empty set if it has no such part."""
    return {layer.scope for layer in _backbone(segmentor)}


def _backbone(segmentor):
    backbone = getattr(segmentor, 'backbone', None)
    return layers.convolutions(backbone) if isinstance(backbone, tf.Module) else []


def _head_reason(segmentor, wanted, names, backbone_only):
    """Why the head starts anew, or None where the file shall fill it."""
    if backbone_only:
        return 'backbone_only: the head starts anew'
    backbone = backbone_names(segmentor)
    others = names - backbone
    if backbone and backbone <= names and all(map(_CLASSIFIER.match, others)) and not (
            others & set(wanted)):
        return 'the file holds a backbone and no head for segmentation'
    return None


def _leave_head(path, segmentor, wanted, arrays, found, reason, fresh, unused):
    """Marks our head as fresh and what the file has beside the backbone as unused."""
    backbone = backbone_names(segmentor)
    if not backbone:
        raise UserError(f'{path}: {segmentor.name} has no part that is its backbone; backbone_only '
                        'is not possible')
    roots = {name.split('/')[0] for name in backbone}
    fresh.update({name: reason for name in wanted if name not in backbone})
    for name in [n for n in arrays if n not in backbone]:
        if name.split('/')[0] not in roots:
            unused.append((found.origin(name), reason))
        elif _CLASSIFIER.match(name):
            unused.append((found.origin(name), "the classifier's, behind the backbone"))
        else:
            continue  # in the backbone's own scope: another backbone, which is an error
        del arrays[name]


def _leave_absent_logits(segmentor, wanted, arrays, fresh):
    """Marks the logits as fresh where a file has everything else and nothing beside it.

    Returns whether that is so. A file with other names beside it has its logits under them.
    """
    logits = {name for layer in _logits_layers(segmentor) for name in layer.official_variables()}
    if not logits or set(wanted) - logits != set(arrays) | (set(fresh) - logits):
        return False
    fresh.update({name: 'the file holds everything but the logits' for name in wanted
                  if name in logits})
    return True


def _leave_other_classes(segmentor, arrays, found, fresh, unused):
    """Marks logits of another number of classes as fresh, and nothing else.

    Where they are several layers in a row, inner ones may be as wide as there are classes.
    """
    parts = _logits_layers(segmentor)
    kernels = {layer: arrays.get(next(iter(layer.official_variables()))) for layer in parts}
    if not parts or kernels[parts[-1]] is None:
        return
    theirs, classes = kernels[parts[-1]].shape[-1], parts[-1].kernel.shape[-1]
    same = 3 if len(parts) == 1 else 2
    for layer, kernel in kernels.items():
        ours = tuple(layer.kernel.shape)
        if theirs == classes or kernel is None or kernel.shape == ours or (
                kernel.shape[:same] != ours[:same]):
            continue
        for name in layer.official_variables():
            fresh[name] = f'{theirs} classes in the file, {classes} in the network'
            if name in arrays:
                unused.append((found.origin(name), fresh[name]))
                del arrays[name]


def _logits_layers(segmentor):
    """The convolutions of a network that give class scores."""
    parts = getattr(segmentor, 'logits', None)
    parts = parts if isinstance(parts, (list, tuple)) else [parts]
    return [layer for part in parts if isinstance(part, tf.keras.layers.Layer)
            for layer in layers.convolutions(part)]


def _require_fit(path, wanted, arrays, found, fresh, hint):
    """Raises UserError unless both sides have the same names, shapes and sane values.

    `hint` is what to do about a head that is another.
    """
    expected = [name for name in wanted if name not in fresh]
    extra = [name for name in arrays if name not in wanted]
    missing = [name for name in expected if name not in arrays]
    theirs = [name for name in found.arrays if not training_leftover(name)]
    foreign = [name for name in theirs if name not in wanted]
    if not hint and 2 * len(missing) > len(expected) and 2 * len(foreign) > len(theirs):
        raise UserError(f'{path}: of another architecture: {len(foreign)} of the {len(theirs)} '
                        f'names in the file ({found.origin(foreign[0])}, …) are not in the '
                        f'network, and {len(missing)} of its {len(expected)} ({missing[0]}, …) are '
                        'not in the file; choose the network that the file is of')
    for name in expected:
        if name not in arrays:
            near = suggest(name, [found.origin(n) for n in extra])
            raise UserError(f'{path}: no weights for {name} {_shape(wanted[name][1])}, which the '
                            f'network has; the file is of a network without it{hint}.{near}')
    for name in extra:
        raise UserError(f'{path}: {found.origin(name)} {_shape(arrays[name].shape)} has no place '
                        f'in the network{hint}.{suggest(name, wanted)}')
    for name in expected:
        layer, shape = wanted[name]
        array = arrays[name]
        if tuple(array.shape) != shape:
            raise UserError(f'{path}: {found.origin(name)} is {_shape(array.shape)} in the file '
                            f'and {_shape(shape)} ({name}) in the network: another depth '
                            'multiplier (<network>.depth_multiplier), backbone or head')
        _require_sane(path, name, layer, array)
    for scope, epsilon in found.epsilons.items():
        layer = next((wanted[name][0] for name in expected if wanted[name][0].scope == scope), None)
        if layer is not None and layer.norm is not None and not np.isclose(
                epsilon, layer.norm.epsilon, rtol=1e-3, atol=0.0):
            raise UserError(f'{path}: batch norm of {scope} has epsilon {epsilon:g} in the file '
                            f'and {layer.norm.epsilon:g} in the network: another network')


def _require_sane(path, name, layer, array):
    """Raises UserError for values that no training leaves behind."""
    if array.dtype.kind != 'f':
        raise UserError(f'{path}: {name} holds {array.dtype}, expected floats')
    if not np.isfinite(array).all():
        raise UserError(f'{path}: {name} holds values that are not finite: a damaged file')
    if name.endswith('/moving_variance') and (array + layer.norm.epsilon <= 0.0).any():
        raise UserError(f'{path}: {name} holds variances below zero: a damaged file')


def _grouped(title, pairs):
    by_reason = {}
    for name, reason in pairs:
        by_reason.setdefault(reason, []).append(name)
    lines = []
    for reason, names in by_reason.items():
        if len(names) > 4:
            lines.append(f'  {title}: {len(names)} ({names[0]}, ...): {reason}')
        else:
            lines += [f'  {title}: {name}: {reason}' for name in names]
    return lines


def _shape(shape):
    return '[' + ', '.join(str(int(side)) for side in shape) + ']'
