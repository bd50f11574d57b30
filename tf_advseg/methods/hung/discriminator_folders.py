"""Folders that hold a discriminator with all it takes to build it again, beside its segmentor.

    checkpoints/<last|best>/discriminator/{discriminator.json, weights/}

It is the discriminator at the step that the segmentor beside it is of.
"""
import pathlib
import shutil
import tempfile

from tf_advseg.adversaries import fully_convolutional
from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.run import networks
from tf_advseg.training import checkpoints

FOLDER = 'discriminator'  # in a model folder
DESCRIPTION = 'discriminator.json'
WEIGHTS = 'weights'
FORMAT = 'tf_advseg discriminator'
_BUILT_FROM = ('kind', 'num_classes', 'widths', 'initial_values', 'map_size')


def describe(discriminator, map_stride, threshold=0.2, mask_predictions=True):
    """What `save` writes down of a discriminator.

    Args:
      discriminator: from `fully_convolutional.build_fc_discriminator`.
      map_stride: pixels of the image from one point of its maps to the next.
      threshold: T that its points were selected by.
      mask_predictions: whether padding was zero in the maps that it learnt from.

    Returns:
      JSON-able dict: 'kind', 'num_classes', 'widths', 'initial_values', 'map_size' ([h, w] or
      None), 'map_stride', 'threshold', 'mask_predictions'; 'pointwise' where it is.
    """
    return {**discriminator.arguments, 'map_stride': int(map_stride), 'threshold': float(threshold),
            'mask_predictions': bool(mask_predictions)}


def save(folder, discriminator, description, chief=True):
    """Writes a discriminator; the folder is whole or not there, and replaced if it is there.

    Args:
      folder: where to; its parent exists.
      discriminator: the network.
      description: from `describe`.
      chief: see `checkpoints.write_state`.

    Raises:
      UserError: the disk is full or not writable.
    """
    folder = pathlib.Path(folder)
    if not chief:
        with tempfile.TemporaryDirectory() as scratch:
            checkpoints.write_state(pathlib.Path(scratch) / WEIGHTS, chief, network=discriminator)
        return
    with files.disk_errors(folder):
        if folder.exists():
            shutil.rmtree(folder)
    with files.atomic_folder(folder) as temporary:
        checkpoints.write_state(temporary / WEIGHTS, network=discriminator)
        files.write_json(temporary / DESCRIPTION,
                         {'format': FORMAT, 'version': 1, 'discriminator': dict(description)})


def load(folder, num_classes=None):
    """Builds a discriminator from its folder and restores its weights.

    Args:
      folder: as `save` wrote it.
      num_classes: of the segmentor that it shall judge; None for any.

    Returns:
      (discriminator, its description).

    Raises:
      UserError: nothing there, damaged, or a discriminator of another number of classes.
    """
    folder = pathlib.Path(folder)
    if not is_folder(folder):
        raise errors.UserError(f'{folder}: holds no discriminator (no {DESCRIPTION}); give the '
                               'directory of a run of Hung et al.\'s method, or the folder '
                               f'checkpoints/…/{FOLDER} of one')
    description = read(folder)
    found = description['num_classes']
    if num_classes not in (None, found):
        raise errors.UserError(f'{folder}: this discriminator judges maps of {found} classes, and '
                               f'the segmentor has {num_classes}; take one that was trained on '
                               'the same data set')
    try:
        discriminator = fully_convolutional.build_fc_discriminator(
            **{name: description[name] for name in _BUILT_FROM},
            pointwise=description.get('pointwise', False))
    except errors.UserError as error:
        raise errors.UserError(f'{folder / DESCRIPTION}: damaged ({error})') from error
    if not (folder / WEIGHTS).is_dir():
        raise errors.UserError(f'{folder}: has {DESCRIPTION}, but no {WEIGHTS}/ beside it; copy '
                               'the whole folder anew from where it was made')
    checkpoints.read_state(folder / WEIGHTS, network=discriminator)
    return discriminator, description


def restore(model_folder, discriminator):
    """Gives a network the weights of the discriminator beside a model; nothing where none is.

    Args:
      model_folder: Path.
      discriminator: the network that was saved there, or None.

    Raises:
      UserError: damaged, or of another network.
    """
    if discriminator is not None and is_folder(model_folder / FOLDER):
        checkpoints.read_state(model_folder / FOLDER / WEIGHTS, network=discriminator)


def is_folder(path):
    """Whether a path is a folder that `save` wrote.

    Raises:
      UserError: it has the place of one in a model folder, or its weights, and no description.
    """
    path = pathlib.Path(path)
    with files.disk_errors(path):
        there = (path / DESCRIPTION).is_file()
        if not there and path.name == FOLDER and path.exists():
            raise errors.UserError(f'{path}: a discriminator without its {DESCRIPTION}; copy the '
                                   'whole folder anew from where it was made, or delete it')
    return there


def beside(model_folder):
    """The discriminator that belongs to a model folder, or None.

    A teacher's is that of its student, whose folder it lies in. Of averaged weights it is that of
    the end of the same training, where the average is of, too.

    Args:
      model_folder: Path from `networks.find`.
    """
    model_folder = pathlib.Path(model_folder)
    names = [model_folder.name]
    if model_folder.name == 'averaged':
        names += ['last', 'best']
    folders = [model_folder.parent / name / FOLDER for name in names]
    return next((folder for folder in (*folders, model_folder.parent / FOLDER)
                 if is_folder(folder)), None)


def find(path):
    """The discriminator that a user means by a path.

    Args:
      path: its folder, a model folder, or a run directory (whose last one counts, else its best).

    Returns:
      Path.

    Raises:
      UserError: there is no such path, or it holds none.
    """
    given = pathlib.Path(path).expanduser()
    with files.disk_errors(given):
        if not given.exists():
            raise errors.UserError(f'{path}: no such file or folder; give --discriminator='
                                   'RUN_DIRECTORY, or the folder of a discriminator')
    checkpoints_of = given / 'checkpoints'
    candidates = [given, given / FOLDER, *(checkpoints_of / name / FOLDER
                                           for name in ('last', 'best'))]
    for folder in candidates:
        if is_folder(folder):
            return folder
    model = networks.is_model_folder(given)
    raise errors.UserError(
        f'{path}: holds no discriminator{"" if model else " in checkpoints/last or /best"}; only '
        'runs of Hung et al.\'s method keep one (tools/train.py with gin/methods/hung.gin)')


def read(folder):
    """The description in a discriminator's folder.

    Raises:
      UserError: damaged.
    """
    path = folder / DESCRIPTION
    content = files.read_json(path)
    if not isinstance(content, dict) or content.get('format') != FORMAT:
        raise errors.UserError(f'{path}: not a description that this package wrote (its "format" '
                               f'is not "{FORMAT}"); copy the whole folder anew')
    description = content.get('discriminator')
    wanted = (*_BUILT_FROM, 'map_stride', 'threshold', 'mask_predictions')
    missing = [name for name in wanted if name not in description] if isinstance(
        description, dict) else list(wanted)
    if missing:
        raise errors.UserError(f'{path}: a part is missing ("{missing[0]}"); copy the whole folder '
                               'anew')
    if not isinstance(description['map_stride'], int) or description['map_stride'] < 1:
        raise errors.UserError(f'{path}: map_stride is {description["map_stride"]!r}, expected a '
                               'whole number of at least 1; copy the whole folder anew')
    return description
