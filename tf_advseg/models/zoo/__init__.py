"""Published weights in and out: one reader per kind of file, chosen by what the file is.

A reader turns its file into arrays under official names, by rule from the names and the structure
in the file; `assignment` puts them into the network, strictly.
"""
import importlib
import pathlib

from tf_advseg.core.errors import UserError, suggest
from tf_advseg.models.zoo.assignment import ImportReport

__all__ = ['ImportReport', 'KINDS', 'is_source', 'is_weights', 'read', 'require_index']

KINDS = ('a TF1 checkpoint (prefix, as model.ckpt-30000, or its folder), a .tar.gz of the model '
         'zoo, a frozen graph (.pb), a TFLite model (.tflite) or keras weights (.h5)')
TFLITE_MAGIC = b'TFL3'  # at byte 4
HDF5_MAGIC = b'\x89HDF\r\n\x1a\n'
SAVED_MODEL = 'saved_model.pb'


def is_source(path):
    """Whether there is something at a path for `read` to try; a checkpoint's prefix is no file."""
    from tf_advseg.models.zoo import tf1_checkpoint
    path = pathlib.Path(path)
    return path.exists() or tf1_checkpoint.resolve(path) is not None


def require_index(path):
    """Raises UserError where a path means a TF1 checkpoint whose .index is not there."""
    from tf_advseg.models.zoo import tf1_checkpoint
    tf1_checkpoint.require_index(path)


def is_weights(path):
    """Whether what is at a path is of a kind that `read` takes, by name and first bytes."""
    from tf_advseg.models.zoo import archive, tf1_checkpoint
    path = pathlib.Path(path)
    if path.is_dir():
        return (path / SAVED_MODEL).is_file() or bool(archive.inspect(path))
    if tf1_checkpoint.resolve(path) is not None or archive.is_archive(path):
        return True
    return path.is_file() and _kind(path) is not None


def read(path, segmentor, backbone_only=False):
    """Reads published weights into a segmentor, by the kind of file.

    Args:
      path: see `KINDS`; also a folder with one of them, or a SavedModel of this package.
      segmentor: a network of `tf_advseg.models`, built. Output stride and crop size may differ
        from the file's.
      backbone_only: take the backbone only and let the head start anew: for a head (ASPP rates,
        decoder) that the file does not have.

    Returns:
      ImportReport: what was assigned, what starts anew, what of the file is not used.

    Raises:
      UserError: no such file, a foreign or damaged one, or one that does not fit the network;
        nothing has been assigned then.
    """
    from tf_advseg.models.zoo import archive, assignment, tf1_checkpoint
    path = pathlib.Path(path)
    if path.is_file() and archive.is_archive(path):
        with archive.unpacked(path) as contents:
            return _read_best(path, contents, segmentor, backbone_only)
    if path.is_dir():
        if (path / SAVED_MODEL).is_file():
            from tf_advseg.models.zoo import saved_model
            return saved_model.load_saved_model(path, segmentor, backbone_only)
        contents = archive.inspect(path)
        if not contents:
            raise UserError(f'{path}: is a folder without weights in it; expected {KINDS}')
        return _read_best(path, contents, segmentor, backbone_only)
    prefix = tf1_checkpoint.resolve(path)
    if prefix is not None:
        found = tf1_checkpoint.read(prefix)
    else:
        found = _read_file(path, segmentor)
    return assignment.assign(path, segmentor, found, backbone_only)


def _read_best(path, contents, segmentor, backbone_only):
    """Reads the checkpoint of an archive or folder, else its frozen graph, else its TFLite."""
    from tf_advseg.models.zoo import assignment, frozen_graph, tf1_checkpoint, tflite
    try:
        if contents.checkpoint:
            found = tf1_checkpoint.read(contents.checkpoint)
        elif contents.frozen_graph:
            found = frozen_graph.read(contents.frozen_graph, segmentor)
        else:
            found = tflite.read(contents.tflite, segmentor)
    except UserError as error:
        # What was unpacked has no place of its own: the archive is what the user knows.
        raise UserError(error.message.replace(str(contents.folder), str(path))) from error
    return assignment.assign(path, segmentor, found, backbone_only)


def _read_file(path, segmentor):
    """`assignment.Found` of a single file, by its first bytes."""
    require_index(path)
    if not path.is_file():
        near = ''
        if path.parent.is_dir():
            near = suggest(path.name, [p.name for p in path.parent.iterdir()])
        raise UserError(f'{path}: does not exist; expected {KINDS}.{near}')
    kind = _kind(path)
    if kind is None and path.name == SAVED_MODEL:
        raise UserError(f'{path}: is a part of a SavedModel; give its folder, {path.parent}')
    if kind is None:
        raise UserError(f'{path}: not a model file of a known kind, or a truncated one; expected '
                        f'{KINDS}')
    return importlib.import_module(f'{__name__}.{kind}').read(path, segmentor)


def _kind(path):
    """The module that reads a single file, by its first bytes, or None."""
    try:
        with open(path, 'rb') as file:
            head = file.read(8)
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from error
    if head[4:8] == TFLITE_MAGIC:
        return 'tflite'
    if head == HDF5_MAGIC:
        return 'keras_h5'
    return 'frozen_graph' if path.suffix == '.pb' and head[:1] == b'\x0a' else None
