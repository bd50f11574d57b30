"""States on disk: folders that are whole or not there, with checksums, strictly restored."""
import pathlib
import re
import shutil
import tempfile

import tensorflow as tf

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import tensorflow_paths

PREFIX = 'state'


def write_state(folder, chief=True, **trackables):
    """Writes networks and optimizers as one folder: a TF checkpoint and a manifest.

    A folder of that name that is already there (left by a process that was killed before it wrote
    down that the folder counts) is replaced.

    Args:
      folder: where to; its parent exists.
      chief: False on other workers, which must take part in the save (TF requires it) but whose
        files are thrown away.
      **trackables: name -> Keras model, optimizer or tf.Module.

    Raises:
      UserError: the disk is full or not writable; nothing half-written is left.
    """
    checkpoint = tf.train.Checkpoint(**trackables)
    folder = pathlib.Path(folder)
    if not chief:
        with tempfile.TemporaryDirectory() as scratch:
            checkpoint.write(_prefix(scratch))
        return
    if folder.exists():
        shutil.rmtree(folder)
    with files.atomic_folder(folder) as temporary:
        try:
            checkpoint.write(_prefix(temporary))
        except (tf.errors.OpError, OSError) as error:
            raise errors.UserError(
                f'{files.without_temporary(folder)}: weights could not be written: '
                f'{_reason(error)}') from error
        files.write_manifest(temporary, objects=sorted(trackables))


def read_state(folder, **trackables):
    """Restores what `write_state` wrote; every variable must be found.

    Calls the method `was_restored` of the objects that have one.

    Raises:
      UserError: the folder is missing or damaged, or does not fit the given objects.
    """
    folder = pathlib.Path(folder)
    files.check_manifest(folder)
    try:  # another shape is a ValueError of the reading itself
        status = tf.train.Checkpoint(**trackables).read(_prefix(folder))
        status.assert_existing_objects_matched()
    except tf.errors.OpError as error:
        reason = files.disk_reason(error) or f'damaged ({_first_line(error)})'
        raise errors.UserError(f'{folder}: {reason}') from error
    except (AssertionError, ValueError) as error:
        raise errors.UserError(f'{folder}: does not fit this network ({_first_line(error)}); was '
                               'it made with other settings?') from error
    status.expect_partial()  # an optimizer that is not asked for is left out on purpose
    for restored in trackables.values():
        getattr(restored, 'was_restored', lambda: None)()


def saved_shapes(folder, name):
    """The shapes of the variables of one object that `write_state` wrote, in no order.

    Args:
      folder: the state's.
      name: the object's name there.

    Returns:
      list of tuples.

    Raises:
      UserError: the folder is missing or damaged.
    """
    folder = pathlib.Path(folder)
    files.check_manifest(folder, checksums=False)
    try:
        shapes = reader(folder).get_variable_to_shape_map()
    except (tf.errors.OpError, RuntimeError, ValueError, IndexError) as error:
        raise errors.UserError(f'{folder}: damaged ({_first_line(error)})') from error
    return [tuple(shape) for key, shape in shapes.items()
            if key.startswith(f'{name}/') and key.endswith('/.ATTRIBUTES/VARIABLE_VALUE')]


def reader(folder):
    """TensorFlow's reader of the variables that `write_state` wrote; its errors pass unchanged."""
    return tf.train.load_checkpoint(_prefix(folder))


def _prefix(folder):
    """The name that TensorFlow's checkpoint of a state begins with."""
    return f'{tensorflow_paths.plain_folder(folder)}/{PREFIX}'


def assign(variables, values):
    """Puts NumPy values into variables."""
    for variable, value in zip(variables, values):
        variable.assign(value)


def _reason(error):
    """Why TensorFlow could not write, without its internals and names that nobody has given."""
    said = files.disk_reason(error)
    if said is not None:
        return said
    text = re.sub(r'\{\{.*?\}\}|\[Op:\w+\]', '', ' '.join(str(error).split()))
    text = re.sub(rf'\S*{re.escape(files.TEMPORARY)}\S*', '', text)
    return ' '.join(text.split()).strip(' ;:')[:200] or type(error).__name__


def _first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
