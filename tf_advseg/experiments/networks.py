"""Networks by name, and folders that hold a network with all it takes to build it again."""
import hashlib
import inspect
import pathlib

import gin

from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.data import spec as specs
from tf_advseg.models import deeplab
from tf_advseg.models import deeplab_residual
from tf_advseg.models import deeplab_v2
from tf_advseg.models import dilated8
from tf_advseg.models import farabet
from tf_advseg.models import layers
from tf_advseg.models import zoo
from tf_advseg.models.zoo import assignment
from tf_advseg.training import checkpoints

DESCRIPTION = 'model.json'
WEIGHTS = 'weights'
KIND = 'model folder'
NETWORKS = {'deeplab_mobilenet_v2': deeplab.deeplab_mobilenet_v2,
            'deeplab_xception': deeplab.deeplab_xception,
            'deeplab_resnet': deeplab.deeplab_resnet,
            'deeplab_v2_resnet': deeplab_v2.deeplab_v2_resnet,
            'deeplab_residual': deeplab_residual.deeplab_residual,
            'dilated8': dilated8.dilated8,
            'farabet': farabet.farabet}
WHICH = ('best', 'last', 'stage1', 'control')


def describe(network, **given):
    """The complete arguments of a builder: given ones, then gin's, then defaults.

    Returns:
      JSON-able dict {'network': name, 'arguments': {...}}; `build` takes it.
    """
    errors.require_one_of('network', network, NETWORKS)
    builder = NETWORKS[network]
    arguments = {name: parameter.default
                 for name, parameter in inspect.signature(builder).parameters.items()
                 if parameter.default is not inspect.Parameter.empty}
    arguments.update(gin.get_bindings(builder))
    arguments.update(given)
    return {'network': network, 'arguments': arguments}


def build(description, **changes):
    """Builds what `describe` described, with some arguments changed."""
    errors.require_one_of('network', description['network'], NETWORKS)
    return NETWORKS[description['network']](**{**description['arguments'], **changes})


def save(folder, segmentor, description, spec, chief=True, **fields):
    """Writes a segmentor that can be built and used again without its configuration.

    Args:
      folder: where to; replaced if there.
      segmentor: the network.
      description: from `describe`; None for a foreign network, which only `load_weights` can use.
      spec: the DatasetSpec of its classes.
      chief: see `checkpoints.write_state`.
      **fields: JSON-able, kept beside (scores, the stage it comes from).
    """
    folder = pathlib.Path(folder)
    if chief:
        folder.mkdir(parents=True, exist_ok=True)
    checkpoints.write_state(folder / WEIGHTS, chief, network=segmentor)
    if chief:
        files.write_json(folder / DESCRIPTION, {
            'format': 'tf_advseg model', 'version': 1, 'model': description,
            'num_classes': segmentor.num_classes, 'dataset': spec.to_json(),
            'names_sha256': _names_digest(segmentor), **fields})


def find(path, which=None):
    """The model folder that a path means: itself, or one of a run directory's.

    Args:
      path: a model folder, or a run directory.
      which: 'best', 'last', 'stage1' or 'control'; None is the best for a run that has one.

    Returns:
      pathlib.Path of the folder that holds model.json, or None if `path` is of another kind.
    """
    path = pathlib.Path(path)
    if (path / DESCRIPTION).is_file():
        return path
    folder = path / 'checkpoints'
    if not folder.is_dir():
        return None
    names = [which] if which else ['best', 'last', 'stage1']
    for name in names:
        if (folder / name / DESCRIPTION).is_file():
            return folder / name
    there = sorted(p.name for p in folder.iterdir() if (p / DESCRIPTION).is_file())
    raise errors.UserError(f'{path}: has no checkpoint "{which or names[0]}"; there is '
                           f'{", ".join(there) or "none yet"}; choose with --which')


def load(path, which=None, **changes):
    """Builds a network from a model folder or run directory and restores its weights.

    Returns:
      (segmentor, DatasetSpec, the description's dict).

    Raises:
      UserError: nothing there, damaged, or a foreign network.
    """
    folder = find(path, which)
    if folder is None:
        if zoo.is_weights(path):
            raise errors.UserError(
                f'{path}: holds weights, but not which network they are of; import them first: '
                f'import_checkpoint --model=ZOO_NAME --source={path} --output=DIR, then '
                '--checkpoint=DIR')
        raise errors.UserError(f'{path}: is neither a run directory nor a model folder (no '
                               f'{DESCRIPTION}); give --checkpoint=RUN_DIRECTORY')
    content = files.read_json(folder / DESCRIPTION)
    if content.get('model') is None:
        raise errors.UserError(f'{folder}: holds the weights of a network that is not of this '
                               'package; build it in Python and restore weights/ there')
    segmentor = build(content['model'], **changes)
    _restore(folder, segmentor)
    return segmentor, specs.DatasetSpec.from_json(content['dataset']), content


def _restore(folder, segmentor):
    """All weights of a model folder, or of a SavedModel of this package."""
    if (folder / zoo.SAVED_MODEL).is_file() and not (folder / WEIGHTS).is_dir():
        zoo.read(folder, segmentor)
    else:
        checkpoints.read_state(folder / WEIGHTS, network=segmentor)


def _names_digest(segmentor):
    """SHA-256 of a network's official variable names in their order."""
    names = '\n'.join(layers.official_variables(segmentor))
    return hashlib.sha256(names.encode()).hexdigest()


def _same_variables(folder, content, segmentor):
    """Whether a model folder holds variables of just the names and shapes that a network has.

    TensorFlow restores by the place in the object graph, which networks of other layers share
    (ResNets that stride elsewhere), and finds another shape only with half of them assigned.
    """
    if not (folder / WEIGHTS).is_dir() or content.get('names_sha256') != _names_digest(segmentor):
        return False
    shapes = checkpoints.saved_shapes(folder / WEIGHTS, 'network')
    return sorted(shapes) == sorted(tuple(v.shape) for v in segmentor.variables)


def find_weights(path):
    """Weights at a path as given, or relative to the checkout's root.

    Args:
      path: run directory, model folder, or what `models.zoo.read` takes; a checkpoint prefix is no
        file, but counts.

    Returns:
      pathlib.Path.

    Raises:
      UserError: there is nothing.
    """
    candidates = [pathlib.Path(path).expanduser(), configuration.gin_root().parent / path]
    for candidate in candidates:
        if zoo.is_source(candidate):
            return candidate
    parent = candidates[0].parent
    there = [p.name for p in parent.iterdir()] if parent.is_dir() else []
    raise errors.UserError(f'{path}: no such checkpoint; give a run directory, a model folder, or '
                           f'{zoo.KINDS} with --checkpoint=PATH.'
                           f'{errors.suggest(candidates[0].name, there)}')


def load_weights(path, segmentor, which=None, backbone_only=False):
    """Starts a network from any weights: a run, a model folder, a file of the model zoo.

    Where the number of classes differs, the last layer keeps its own initial values.

    Args:
      path: run directory, model folder, or a weights file (`models.zoo.read`).
      segmentor: the network to fill.
      which: see `find`.
      backbone_only: take the backbone, whatever head there is; the head starts anew.

    Returns:
      What was loaded and what was not, as text.

    Raises:
      UserError: damaged, or of another network; nothing was assigned then.
    """
    return read_weights(path, segmentor, which, backbone_only).text()


def read_weights(path, segmentor, which=None, backbone_only=False):
    """`load_weights`, and what was loaded as a zoo.ImportReport."""
    path = pathlib.Path(path)
    folder = find(path, which) if path.is_dir() else None
    if folder is None:
        return zoo.read(path, segmentor, backbone_only)
    content = files.read_json(folder / DESCRIPTION)
    if not backbone_only and (content['model'] is None
                              or _same_variables(folder, content, segmentor)):
        _restore(folder, segmentor)
        names = list(layers.official_variables(segmentor)) or [v.name for v in segmentor.variables]
        return zoo.ImportReport(str(folder), tuple(names), kind=KIND)
    source, _, _ = load(folder)
    arrays = {name: v.numpy() for name, v in layers.official_variables(source).items()}
    return assignment.assign(folder, segmentor, assignment.Found(KIND, arrays), backbone_only)
