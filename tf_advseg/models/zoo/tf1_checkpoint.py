"""TF1 checkpoints with official names: read, and written so that official tools can read them.

A checkpoint is named by its prefix ('model.ckpt-30000'), which is no file: beside it lie
<prefix>.index and <prefix>.data-?????-of-?????. Old ones of slim are one file (format V1).
"""
import contextlib
import os
import pathlib
import re
import tempfile

import numpy as np
import tensorflow as tf

from tf_advseg.core import files
from tf_advseg.core import tensorflow_paths
from tf_advseg.core.errors import UserError
from tf_advseg.models import layers
from tf_advseg.models.zoo import assignment

KIND = 'TF1 checkpoint'
STATE = 'checkpoint'
PLAIN_NAME = 'model.ckpt'  # what TensorFlow sees in place of a prefix that it would misread
TABLE_MAGIC = bytes.fromhex('57fb808b247547db')  # LevelDB's table: the last 8 bytes
_SHARD = re.compile(r'\.(data-\d{5}-of-\d{5}|index|meta)$')
_FOREIGN = (tf.errors.OpError, RuntimeError, ValueError, TypeError, IndexError, KeyError,
            SystemError, MemoryError, OverflowError)


def resolve(path):
    """The prefix that a path means, or None if it means no TF1 checkpoint.

    Args:
      path: a prefix, one of its files, a V1 file, or a folder that holds one checkpoint or says in
        its `checkpoint` file which is the last.

    Returns:
      str or None.

    Raises:
      UserError: a folder with several checkpoints and no word on which.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        return _latest(path)
    if _has_index(path):
        return str(path)
    bare = _SHARD.sub('', path.name)  # empty for a file that is called '.index'
    if bare not in ('', path.name) and _has_index(path.with_name(bare)):
        return str(path.with_name(bare))
    return str(path) if path.is_file() and _is_table(path) else None


def require_index(path):
    """Raises UserError where data files of a checkpoint lie without its .index.

    Args:
      path: a prefix, or one of its files.
    """
    path = pathlib.Path(path)
    prefix = path.with_name(_SHARD.sub('', path.name) or path.name)
    shards = list(prefix.parent.glob(f'{_literal(prefix.name)}.data-*-of-*'))
    if shards and not _has_index(prefix):
        raise UserError(f'{path}: a checkpoint without its index: {prefix.name}.index is missing '
                        f'beside {min(shards).name}; fetch or copy it, too')


def _has_index(prefix):
    return prefix.with_name(f'{prefix.name}.index').is_file()


def _is_table(path):
    try:
        with open(path, 'rb') as file:
            file.seek(-len(TABLE_MAGIC), os.SEEK_END)
            return file.read() == TABLE_MAGIC
    except OSError:
        return False


def _latest(folder):
    """The prefix in a folder, by its state file or because there is no other; or None."""
    there = sorted(p.with_name(p.name[:-len('.index')]) for p in folder.glob('?*.index'))
    state = folder / STATE
    if state.is_file():
        text = state.read_bytes()[:1 << 16].decode('utf-8', 'replace')
        match = re.search(r'^\s*model_checkpoint_path\s*:\s*"([^"]+)"', text, re.M)
        # The path is of the machine that wrote it: only the name can be true here.
        named = folder / re.split(r'[/\\]', match[1])[-1] if match else None
        if named is not None and (named in there or not there):
            return str(named) if named in there else None
    if len(there) > 1:
        raise UserError(f'{folder}: holds {len(there)} checkpoints '
                        f'({", ".join(p.name for p in there[:4])}); name one of them')
    return str(there[0]) if there else None


def read(prefix):
    """Reads a checkpoint's weights; slots and counters are set aside unread.

    Args:
      prefix: see `resolve`.

    Returns:
      assignment.Found.

    Raises:
      UserError: missing, truncated or foreign, or an object-based checkpoint of TensorFlow 2.
    """
    prefix = str(prefix)
    arrays, unused = {}, []
    try:
        with _readable(prefix) as plain:
            reader = tf.train.load_checkpoint(plain)
            shapes, types = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
            _require_plausible(prefix, shapes, types)
            for name in sorted(shapes):
                reason = assignment.training_leftover(name)
                if reason is None and not types[name].is_floating:
                    reason = f'{types[name].name}, not a weight'
                if reason:
                    unused.append((name, reason))
                else:
                    arrays[name] = np.asarray(reader.get_tensor(name), np.float32)
    except _FOREIGN as error:
        raise UserError(f'{prefix}: a truncated or damaged checkpoint, or not one '
                        f'({_first_line(error)}); fetch it again') from error
    return assignment.Found(KIND, arrays, unused=tuple(unused))


@contextlib.contextmanager
def _readable(prefix):
    """Yields a prefix that TensorFlow can read, see `tensorflow_paths`."""
    prefix = pathlib.Path(prefix)
    if tensorflow_paths.is_plain(prefix.name):
        yield f'{tensorflow_paths.plain_folder(prefix.parent)}/{prefix.name}'
        return
    with tempfile.TemporaryDirectory(prefix='tf_advseg-') as scratch:
        for path in prefix.parent.iterdir():
            if path.name == prefix.name or path.name.startswith(f'{prefix.name}.'):
                os.symlink(os.path.abspath(path),
                           os.path.join(scratch, PLAIN_NAME + path.name[len(prefix.name):]))
        yield f'{tensorflow_paths.plain_folder(scratch)}/{PLAIN_NAME}'


def _require_plausible(prefix, shapes, types):
    """Raises unless the index is of TF1 and the data files are as long as it says."""
    if any('.ATTRIBUTES' in name for name in shapes):
        raise UserError(f'{prefix}: an object-based checkpoint of TensorFlow 2, whose names say '
                        'nothing; of this package give the model folder or run directory above it')
    path = pathlib.Path(prefix)
    shards = list(path.parent.glob(f'{_literal(path.name)}.data-*'))
    if _has_index(path):
        _require_shards(path, [shard.name for shard in shards])
    there = sum(shard.stat().st_size for shard in shards)
    said = sum(int(np.prod(shape, dtype=np.float64)) * types[name].size
               for name, shape in shapes.items())
    if _has_index(path) and said > there:
        raise UserError(f'{prefix}: the data files have {there} bytes, the index says at least '
                        f'{said}: a truncated checkpoint, fetch it again')


def _require_shards(prefix, names):
    """Raises UserError unless all data files of a checkpoint are there, as their names count."""
    count = int(max(names)[-5:]) if names and _SHARD.search(max(names)) else 1
    for number in range(count):
        name = f'{prefix.name}.data-{number:05d}-of-{count:05d}'
        if name not in names:
            raise UserError(f'{prefix}: a checkpoint without its data: {name} is missing beside '
                            f'{prefix.name}.index; fetch or copy it, too')


def _literal(name):
    """A name as a glob pattern that matches itself only."""
    return re.sub(r'([*?[])', r'[\1]', name)


def write(prefix, segmentor, global_step=0):
    """Writes a network as a TF1 checkpoint that official DeepLab restores.

    <prefix>.data-00000-of-00001, <prefix>.index and the state file `checkpoint` beside them.
    A checkpoint of that name is replaced; it is never there by halves, since the index comes last.

    Args:
      prefix: path; its folder exists.
      segmentor: a network of `tf_advseg.models`.
      global_step: int64 written beside, as the official training does.

    Returns:
      Names of what was written, sorted.

    Raises:
      UserError: a foreign network, no such folder, a full disk.
    """
    prefix = pathlib.Path(prefix)
    if not prefix.parent.is_dir():
        raise UserError(f'{prefix}: cannot be written, there is no folder {prefix.parent}')
    assignment.official_layers(prefix, segmentor)
    values = {name: variable.numpy()
              for name, variable in layers.official_variables(segmentor).items()}
    values['global_step'] = np.asarray(global_step, np.int64)
    names = sorted(values)
    with files.disk_errors(prefix), tempfile.TemporaryDirectory(
            prefix=files.TEMPORARY, dir=prefix.parent) as scratch:
        temporary = pathlib.Path(scratch) / PLAIN_NAME
        try:
            tf.raw_ops.SaveV2(prefix=f'{tensorflow_paths.plain_folder(scratch)}/{PLAIN_NAME}',
                              tensor_names=names,
                              shape_and_slices=[''] * len(names),
                              tensors=[tf.constant(values[name]) for name in names])
        except tf.errors.OpError as error:
            reason = files.disk_reason(error) or (
                f'could not be written ({_first_line(error)}); free some space or choose another '
                'folder')
            raise UserError(f'{files.without_temporary(prefix)}: {reason}') from error
        _move(temporary, prefix)
    with files.atomic_file(prefix.with_name(STATE), 'w') as file:
        file.write(f'model_checkpoint_path: "{prefix.name}"\n'
                   f'all_model_checkpoint_paths: "{prefix.name}"\n')
    return tuple(names)


def _move(temporary, prefix):
    """Puts the files of a whole checkpoint in their place, the index last."""
    index = prefix.with_name(f'{prefix.name}.index')
    index.unlink(missing_ok=True)
    for old in prefix.parent.glob(f'{_literal(prefix.name)}.data-*'):
        old.unlink()
    for path in sorted(temporary.parent.iterdir()):  # .data-... before .index
        files.sync_file(path)
        os.replace(path, prefix.with_name(prefix.name + path.name[len(PLAIN_NAME):]))
    files.sync_folder(prefix.parent)


def _first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
