"""Networks by name, and folders that hold a network with all it takes to build it again."""
import inspect
import pathlib

import gin

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.data import spec as specs
from tf_advseg.models import deeplab
from tf_advseg.models import zoo
from tf_advseg.training import checkpoints

DESCRIPTION = 'model.json'
NETWORKS = {'deeplab_mobilenet_v2': deeplab.deeplab_mobilenet_v2}
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
    checkpoints.write_state(folder / 'weights', chief, network=segmentor)
    if chief:
        files.write_json(folder / DESCRIPTION, {
            'format': 'tf_advseg model', 'version': 1, 'model': description,
            'num_classes': segmentor.num_classes, 'dataset': spec.to_json(), **fields})


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
        raise errors.UserError(f'{path}: is neither a run directory nor a model folder (no '
                               f'{DESCRIPTION}); give --checkpoint=RUN_DIRECTORY')
    content = files.read_json(folder / DESCRIPTION)
    if content.get('model') is None:
        raise errors.UserError(f'{folder}: holds the weights of a network that is not of this '
                               'package; build it in Python and restore weights/ there')
    segmentor = build(content['model'], **changes)
    checkpoints.read_state(folder / 'weights', network=segmentor)
    return segmentor, specs.DatasetSpec.from_json(content['dataset']), content


def load_weights(path, segmentor, which=None):
    """Starts a network from any weights: a run, a model folder, a file of the model zoo.

    Where the number of classes differs, the last layer keeps its own initial values.

    Args:
      path: run directory, model folder, or a weights file (`models.zoo.read`).
      segmentor: the network to fill.
      which: see `find`.

    Returns:
      One sentence: what was loaded and what was not.
    """
    path = pathlib.Path(path)
    folder = find(path, which) if path.is_dir() else None
    if folder is None:
        return zoo.read(path, segmentor).text()
    content = files.read_json(folder / DESCRIPTION)
    if content['num_classes'] == segmentor.num_classes:
        checkpoints.read_state(folder / 'weights', network=segmentor)
        return f'{folder}: all weights'
    source, _, _ = load(folder)
    taken = 0
    for ours, theirs in zip(segmentor.variables, source.variables):
        if ours.shape == theirs.shape:
            ours.assign(theirs.value())
            taken += 1
    return (f'{folder}: {taken} of {len(segmentor.variables)} variables; the last layer starts '
            f'anew ({content["num_classes"]} classes there, {segmentor.num_classes} here)')
