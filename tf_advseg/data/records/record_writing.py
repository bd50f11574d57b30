"""Turning a reader's images and labels into a folder of records.

The work is done in `<output>.partial`, shard by shard; each finished shard has an index file
beside it, and a run that was killed goes on after the last one. At the end the folder takes
its name, so a folder called `<output>` is always whole.
"""
import concurrent.futures
import contextlib
import errno
import hashlib
import json
import os
import pathlib
import shutil

from tf_advseg.core import files
from tf_advseg.core import locks
from tf_advseg.core.errors import UserError
from tf_advseg.core.indexed_records import IndexedRecordWriter
from tf_advseg.core.progress import Progress
from tf_advseg.data import splits as splits_lib
from tf_advseg.data.records import record_format
from tf_advseg.data.records import record_workers

KIND = 'tf_advseg records'

_SAME = {'format': 'format of the records', 'reader': 'reader or other options of it',
         'spec': 'class names, colours or version of the data set', 'splits': 'split',
         'sources': 'state of the source files (some have changed since)'}


def write_records(reader, splits, output, shard_size=64, progress=None, workers=None):
    """Writes the images and labels of `splits` as records.

    Args:
      reader: a `readers.base.Reader`.
      splits: dict name -> image ids (an image may be in several), or None for the reader's.
      output: the folder to be made.
      shard_size: images in a file.
      progress: False shows no progress bar.
      workers: how many images are read and encoded at a time, by processes of their own where
        there are enough images; None for one a core.

    Returns:
      The Path `output`. If it holds the same records already (same reader, options, split and
      source files), they are verified and kept.

    Raises:
      UserError: an image or label is bad (named), a split is empty, the disk is full, or
        `output` holds something else. Nothing called `output` is left behind then.
    """
    output = pathlib.Path(os.path.abspath(output))
    workers = workers or record_workers.default_workers()
    splits = {name: list(ids) for name, ids in (splits or reader.splits()).items()}
    _check_splits(splits)
    if shard_size < 1:
        raise UserError(f'shard_size is {shard_size}, expected at least 1')
    ids = list(dict.fromkeys(i for part in splits.values() for i in part))
    sources = _source_digests(reader, ids, workers)
    identity = _identity(reader, splits, sources)
    if _exists_already(output, identity):
        return output
    partial = output.with_name(output.name + '.partial')
    with _locked(output):
        if _exists_already(output, identity):  # another process was quicker
            shutil.rmtree(partial, ignore_errors=True)
            return output
        with files.disk_errors(partial):
            partial.mkdir(exist_ok=True)
        try:
            shards = _write_shards(reader, sources, partial, shard_size, progress, workers)
        except BaseException:
            if not any(partial.glob('*.json')):  # nothing finished: leave no trace
                shutil.rmtree(partial, ignore_errors=True)
            raise
        _finish(partial, output, splits, identity, shards)
    return output


def _check_splits(splits):
    """UserError for no split at all, an empty one, or an id twice in one."""
    if not splits:
        raise UserError('there is no split to write; expected at least one, such as "train"')
    for name, ids in splits.items():
        if not ids:
            raise UserError(f'split "{name}" is empty; give it at least one image or leave '
                            'it out')
        if len(set(ids)) != len(ids):
            twice = next(i for i in ids if ids.count(i) > 1)
            raise UserError(f'split "{name}" lists image "{twice}" twice')


def _identity(reader, splits, sources):
    """What makes two sets of records the same, as plain JSON."""
    description = reader.description or {'reader': type(reader).__name__}
    identity = {'format': record_format.FORMAT_VERSION, 'reader': description,
                'spec': reader.spec.to_json(), 'splits': _digest(splits),
                'sources': _digest(sources)}
    return json.loads(files.to_json(identity))


def _source_digests(reader, ids, workers):
    """dict id -> digest of its source files' bytes; UserError if one is missing.

    Bytes and not times of change: an archive may be unpacked anew for every call.
    """
    def digest(image_id):
        sums = []
        for path in reader.files(image_id):
            try:
                sums.append(files.sha256(path))
            except OSError as error:
                raise UserError(f'{path}: {error.strerror}; it belongs to image '
                                f'"{image_id}"') from None
        return _digest(sums)

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return dict(zip(ids, pool.map(digest, ids)))


def _digest(value):
    return hashlib.sha256(files.to_json(value).encode('utf-8')).hexdigest()


def require_same_reader(output, description):
    """UserError if a folder holds anything but records made by this reader with these options.

    What can be checked before the sources are there; `write_records` compares all else.

    Args:
      output: the folder; it may be missing.
      description: as `readers.base.Reader.description`.
    """
    _is_there(pathlib.Path(output), {'reader': json.loads(files.to_json(description))})


def _exists_already(output, identity):
    """Whether `output` is a whole folder of these records; UserError if it is something else."""
    there = _is_there(output, identity)
    if there:
        files.check_manifest(output, checksums=True)
    return there


def _is_there(output, identity):
    """`_exists_already` without a look at the files; `identity` may be a part of one."""
    if not output.exists():
        return False
    if output.is_dir() and not any(output.iterdir()):
        return False
    if not (output / files.MANIFEST).is_file():
        raise UserError(f'{output}: exists and is no folder of records; choose another output')
    manifest = files.read_json(output / files.MANIFEST)
    if not isinstance(manifest, dict) or manifest.get('kind') != KIND:
        raise UserError(f'{output}: exists and is no folder of records; choose another output')
    with files.as_written(output / files.MANIFEST):
        there = dict(manifest['identity'])
    for name, words in _SAME.items():
        if name in identity and there.get(name) != identity[name]:
            raise UserError(f'{output}: holds records made with another {words}; choose another '
                            'output or remove this folder')
    return True


@contextlib.contextmanager
def _locked(output):
    """Keeps other processes from writing the records `output`."""
    with files.disk_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
    with locks.writing(output, busy='another process is writing these records; wait for it'):
        yield


def _write_shards(reader, sources, folder, shard_size, progress, workers):
    """Writes every shard that is not there yet; returns the shards' names."""
    files.remove_temporaries(folder)
    ids = list(sources)
    count = -(-len(ids) // shard_size)
    names = [f'pictures-{i:05d}-of-{count:05d}' for i in range(count)]
    for path in list(folder.iterdir()):
        if path.stem not in names:  # of an earlier attempt with other images
            path.unlink()
    shards = []
    for number, name in enumerate(names):
        part = ids[number * shard_size:(number + 1) * shard_size]
        shards.append((name, part, _digest([
            record_format.FORMAT_VERSION, reader.description, reader.spec.to_json(), part,
            [sources[i] for i in part]])))
    missing = [shard for shard in shards if not _is_finished(folder, shard[0], shard[2])]
    count = sum(len(part) for _, part, _ in missing)
    with Progress(len(ids), f'records of {reader.spec.name}', enabled=progress) as bar, \
            record_workers.part_source(reader, workers, count) as read, \
            concurrent.futures.ThreadPoolExecutor(workers) as pool:
        if count < len(ids):
            bar.update(len(ids) - count)
        for name, part, plan in missing:
            _write_shard(read, part, folder, name, plan, pool, bar)
    return names


def _is_finished(folder, name, plan):
    """Whether a shard was written whole from the same images by an earlier run."""
    index_path, path = folder / (name + '.json'), folder / (name + '.tfrecord')
    if not index_path.is_file() or not path.is_file():
        return False
    try:
        index = files.read_json(index_path)
    except UserError:
        return False
    return (isinstance(index, dict) and index.get('plan') == plan
            and index.get('sha256') == files.sha256(path))


def _write_shard(read, ids, folder, name, plan, pool, bar):
    """Writes one shard under a temporary name, renames it, then writes its index."""
    path = folder / (name + '.tfrecord')
    temporary = folder / (files.TEMPORARY + path.name)
    sizes, counts = [], []
    try:
        with files.disk_errors(path):
            with IndexedRecordWriter(temporary) as writer:
                for payload, size, count in pool.map(lambda i: _encode(read, i), ids):
                    writer.write(payload)
                    sizes.append(size)
                    counts.append(count)
                    bar.update()
            os.replace(temporary, path)
            files.sync_folder(folder)
    except UserError as error:
        raise UserError(str(error).replace(str(temporary), str(path))) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    # The index is the shard's done-marker, so it comes last.
    with files.atomic_file(folder / (name + '.json'), 'w') as file:
        file.write(files.to_json({
            'plan': plan, 'sha256': files.sha256(path), 'ids': ids, 'sizes': sizes,
            'class_counts': counts, 'index': writer.index}) + '\n')


def _encode(read, image_id):
    """(record bytes, [height, width], pixels of each class) of one image."""
    try:
        parts = read(image_id)
    except UserError as error:  # the first of perhaps many
        raise UserError(f'{error}; tools/doctor.py names all such images at once') from error
    if parts.published and not record_format.decodes(parts.image, parts.size):
        parts = read(image_id, published=False)
    return record_format.encode(parts), list(parts.size), parts.class_counts


def _finish(partial, output, splits, identity, shards):
    """Writes splits and manifest, then gives the folder its name."""
    splits_lib.write_split(partial / 'splits.json', splits, dataset=identity['spec']['name'],
                           reader=identity['reader'])
    files.write_manifest(partial, kind=KIND, identity=identity, shards=shards,
                         splits={name: len(ids) for name, ids in splits.items()})
    with files.disk_errors(output):
        try:
            os.rename(partial, output)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise UserError(f'{output}: something else has been written there meanwhile; '
                                'choose another output') from error
            raise
        files.sync_folder(output.parent)
