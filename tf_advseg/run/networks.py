"""Networks by name, and folders that hold a network with all it takes to build it again."""
import hashlib
import inspect
import os
import pathlib

import gin
import tensorflow as tf

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
from tf_advseg.models import segmentor as segmentors
from tf_advseg.models import zoo
from tf_advseg.models.zoo import assignment
from tf_advseg.models.zoo import fetching
from tf_advseg.training import checkpoints

DESCRIPTION = 'model.json'
WEIGHTS = 'weights'
KIND = 'model folder'
_BUILT_FROM = '_built_from'
FORMAT = 'tf_advseg model'
NETWORKS = {'deeplab_mobilenet_v2': deeplab.deeplab_mobilenet_v2,
            'deeplab_xception': deeplab.deeplab_xception,
            'deeplab_resnet': deeplab.deeplab_resnet,
            'deeplab_v2_resnet': deeplab_v2.deeplab_v2_resnet,
            'deeplab_residual': deeplab_residual.deeplab_residual,
            'dilated8': dilated8.dilated8,
            'farabet': farabet.farabet}
WHICH = ('best', 'averaged', 'last', 'control_averaged', 'control', 'stage1_averaged', 'stage1')
_EXPORTED = '; a file of export is run as it is where its export.json lies beside it'
_LOAD_STATE = pathlib.PurePath('lookahead', 'state.json')


def describe(network, with_gin=True, **given):
    """The complete arguments of a builder: given ones, then gin's, then defaults.

    Args:
      network: one of NETWORKS.
      with_gin: False leaves gin's out, for what is not of this process alone.
      **given: arguments.

    Returns:
      JSON-able dict {'network': name, 'arguments': {...}}; `build` takes it.
    """
    errors.require_one_of('network', network, NETWORKS)
    builder = NETWORKS[network]
    arguments = {name: parameter.default
                 for name, parameter in inspect.signature(builder).parameters.items()
                 if parameter.default is not inspect.Parameter.empty}
    arguments.update(gin.get_bindings(builder) if with_gin else {})
    arguments.update(given)
    return {'network': network, 'arguments': arguments}


def build(description, **changes):
    """Builds what `describe` described, with some arguments changed.

    Raises:
      UserError: no network can be built of these arguments, which come from gin or model.json.
    """
    errors.require_one_of('network', description['network'], NETWORKS)
    arguments = {**description['arguments'], **changes}
    builder = NETWORKS[description['network']]
    try:
        segmentor = builder(**arguments)
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, MemoryError,
            tf.errors.OpError) as error:
        why = ('out of memory' if isinstance(
            error, (MemoryError, tf.errors.ResourceExhaustedError))
            else f'{type(error).__name__}: {errors.first_line(error)}')
        raise errors.UserError(
            f'network {description["network"]} cannot be built with '
            f'{_own_arguments(builder, arguments)}: {why}') from error
    # Past Keras' __setattr__, which would make it a part of every checkpoint.
    object.__setattr__(segmentor, _BUILT_FROM, {**description, 'arguments': arguments})
    return segmentor


def _own_arguments(builder, arguments):
    """'hidden = 'x', ...' of the arguments that are not a builder's defaults."""
    known = {name: parameter.default
             for name, parameter in inspect.signature(builder).parameters.items()}
    return ', '.join(f'{name} = {str(value)[:60]}' for name, value in arguments.items()
                     if repr(known.get(name)) != repr(value)) or 'its defaults'


def twin(segmentor):
    """A second network of the same architecture and, for now, the same weights.

    Args:
      segmentor: from `build`, or wrapped by `segmentor.as_segmentor` around a functional or
        sequential Keras model. Build the twin in the strategy's scope.

    Returns:
      a segmentor whose variables are in the order of the first one's.

    Raises:
      UserError: a network that cannot be built a second time.
    """
    description = getattr(segmentor, _BUILT_FROM, None)
    if description is not None:
        copy = build(description)
    else:
        copy = segmentors.twin_of_wrapped(segmentor)
    copy.fine_tune_batch_norm = segmentor.fine_tune_batch_norm
    if hasattr(segmentor, 'backbone'):  # a frozen backbone's variables stand behind the others
        copy.backbone.trainable = segmentor.backbone.trainable
    for ours, theirs in zip(copy.variables, segmentor.variables):
        ours.assign(theirs.read_value())
    return copy


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
        with files.disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
    checkpoints.write_state(folder / WEIGHTS, chief, network=segmentor)
    if chief:
        files.write_json(folder / DESCRIPTION, {
            'format': FORMAT, 'version': 1, 'model': description,
            'num_classes': segmentor.num_classes, 'dataset': spec.to_json(),
            'names_sha256': _names_digest(segmentor), **fields})


def find(path, which=None):
    """The model folder that a path means: itself, or one of a run directory's.

    Args:
      path: a model folder, or a run directory.
      which: one of WHICH; None is the best for a run of LoAd. Any other's is the averaged model,
        which is what averaging is for, else the best, else the last; then the control's (where it
        trained that alone), then Stage 1's, each averaged or else as it is.

    Returns:
      pathlib.Path of the folder that holds model.json, or None if `path` is of another kind.

    Raises:
      UserError: `which` for a model folder, no such checkpoint in the run, no permission.
    """
    path = pathlib.Path(path)
    with files.disk_errors(path):
        _require_listable(path)
        if is_model_folder(path):
            if which:
                raise errors.UserError(f'{path}: --which={which} belongs to a run directory, and '
                                       'this is one model folder: leave --which out, or give '
                                       '--checkpoint=RUN_DIRECTORY')
            return path
        folder = path / 'checkpoints'
        if not folder.is_dir():
            return None
        names = [which] if which else _in_order(path)
        for name in names:
            if (folder / name / DESCRIPTION).is_file():
                return folder / name
        there = sorted(p.name for p in folder.iterdir() if (p / DESCRIPTION).is_file())
        if not there and (folder / 'gan').is_dir():
            raise errors.UserError(f'{path}: ended after phase 1 (reconstruction_stage.only): it '
                                   'has a GAN and no segmentor yet; the same command without '
                                   'that setting trains one')
    raise errors.UserError(f'{path}: has no checkpoint "{which or "best"}"; there is '
                           f'{", ".join(there) or "none yet"}; choose with --which')


def _in_order(path):
    """WHICH in the order in which a run directory's are looked for.

    LoAd chooses among its models by the hold-out, and its averaged one is not among them.
    """
    if (path / _LOAD_STATE).is_file():
        return list(WHICH)
    return ['averaged', *(name for name in WHICH if name != 'averaged')]


def is_model_folder(path):
    """Whether a folder holds one model, so that there is no choice among several."""
    return (pathlib.Path(path) / DESCRIPTION).is_file()


def _require_listable(path):
    """Raises PermissionError for a folder that may not be looked into; glob() passes over it."""
    if path.is_dir():
        os.scandir(path).close()
        os.stat(os.path.join(path, os.curdir))


def read_description(folder):
    """What model.json of a model folder says.

    Args:
      folder: Path.

    Returns:
      dict with 'model' (as from `describe`, or None), 'num_classes' and 'dataset', and what else
      was kept there.

    Raises:
      UserError: it is not what `save` wrote.
    """
    path = folder / DESCRIPTION
    content = files.read_json(path)
    if not isinstance(content, dict) or content.get('format') != FORMAT:
        raise errors.UserError(f'{path}: not a description that this package wrote (its "format" '
                               f'is not "{FORMAT}"); copy the whole folder anew from where it was '
                               'made')
    model = content.get('model')
    whole = 'model' in content and isinstance(content.get('dataset'), dict) and (
        model is None or isinstance(model, dict) and isinstance(model.get('arguments'), dict)
        and isinstance(model.get('network'), str))
    if not whole:
        raise errors.UserError(f'{path}: a part is missing ("model", with "network" and '
                               '"arguments", or "dataset"); copy the whole folder anew from where '
                               'it was made')
    specs.DatasetSpec.from_json(content['dataset'], path)  # sound for whoever takes it
    return content


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
                f'--checkpoint=DIR{_EXPORTED if path.suffix == ".tflite" else ""}')
        raise errors.UserError(f'{path}: is neither a run directory nor a model folder (no '
                               f'{DESCRIPTION}); give --checkpoint=RUN_DIRECTORY')
    content = read_description(folder)
    if content['model'] is None:
        raise errors.UserError(f'{folder}: holds the weights of a network that is not of this '
                               'package; build it in Python and restore weights/ there')
    spec = specs.DatasetSpec.from_json(content['dataset'], folder / DESCRIPTION)
    segmentor = build_kept(folder, content['model'], **changes)
    if spec.num_classes != segmentor.num_classes:
        raise errors.UserError(f'{folder / DESCRIPTION}: says {segmentor.num_classes} classes for '
                               f'the network and {spec.num_classes} for its data set '
                               f'({spec.name}); copy the whole folder anew from where it was made')
    if (folder / WEIGHTS).is_dir() and not _same_shapes(folder, segmentor):
        raise errors.UserError(f'{folder}: {DESCRIPTION} describes another network '
                               f'({content["model"]["network"]}, {segmentor.num_classes} classes) '
                               f'than {WEIGHTS}/ holds; copy the whole folder anew from where it '
                               'was made')
    _restore(folder, segmentor)
    return segmentor, spec, content


def build_kept(folder, description, **changes):
    """`build` of what model.json of a folder describes, which its errors name."""
    try:
        return build(description, **changes)
    except errors.UserError as error:
        raise errors.UserError(f'{folder / DESCRIPTION}: {error}') from error


def _restore(folder, segmentor):
    """All weights of a model folder, or of a SavedModel of this package."""
    if (folder / WEIGHTS).is_dir():
        checkpoints.read_state(folder / WEIGHTS, network=segmentor)
    elif (folder / zoo.SAVED_MODEL).is_file():
        zoo.read(folder, segmentor)
    else:
        raise errors.UserError(f'{folder}: has {DESCRIPTION}, but no {WEIGHTS}/ beside it; copy '
                               'the whole folder from where it was made, or make it anew '
                               '(import_checkpoint, train)')


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
    return _same_shapes(folder, segmentor)


def _same_shapes(folder, segmentor):
    """Whether the weights of a model folder have just the shapes of a network's."""
    shapes = checkpoints.saved_shapes(folder / WEIGHTS, 'network')
    return sorted(shapes) == sorted(tuple(v.shape) for v in segmentor.variables)


def find_weights(path, flag='--checkpoint'):
    """Weights at a path as given, or relative to the checkout's root.

    Args:
      path: run directory, model folder, or what `models.zoo.read` takes; a checkpoint prefix is no
        file, but counts. 'zoo:NAME' is downloaded, see `models.zoo.fetching`.
      flag: for the message.

    Returns:
      pathlib.Path.

    Raises:
      UserError: there is nothing, or no permission to look.
    """
    if fetching.is_name(path):
        return fetching.fetch(path)
    candidates = [pathlib.Path(path).expanduser(), configuration.gin_root().parent / path]
    with files.disk_errors(path):
        for candidate in candidates:
            if zoo.is_source(candidate):
                _require_listable(candidate)
                return candidate
        zoo.require_index(candidates[0])
        parent = candidates[0].parent
        there = [p.name for p in parent.iterdir()] if parent.is_dir() else []
    raise errors.UserError(f'{path}: no such checkpoint; give a run directory, a model folder, or '
                           f'{zoo.KINDS} with {flag}=PATH.'
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
    with files.disk_errors(path):
        folder = find(path, which) if path.is_dir() else None
        if folder is None:
            return zoo.read(path, segmentor, backbone_only)
    content = read_description(folder)
    if not backbone_only and (content['model'] is None
                              or _same_variables(folder, content, segmentor)):
        _restore(folder, segmentor)
        names = list(layers.official_variables(segmentor)) or [v.name for v in segmentor.variables]
        return zoo.ImportReport(str(folder), tuple(names), kind=KIND)
    source, _, _ = load(folder)
    arrays = {name: v.numpy() for name, v in layers.official_variables(source).items()}
    return assignment.assign(folder, segmentor, assignment.Found(KIND, arrays), backbone_only)
