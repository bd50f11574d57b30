"""Records: a data set in a few checked files that can be read in any order.

A folder of records holds `pictures-*-of-*.tfrecord` (any TensorFlow program reads them), an
index with sizes and class counts beside each, `splits.json`, and `manifest.json` with the
checksum of all of these. It appears under its name only when it is whole.
"""
import collections
import contextlib
import hashlib
import os
import pathlib
import threading
import weakref

import numpy as np
import tensorflow as tf
from absl import logging

from tf_advseg.core import files
from tf_advseg.core.errors import UserError, require_one_of
from tf_advseg.core.indexed_records import IndexedRecordReader
from tf_advseg.data import splits as splits_lib
from tf_advseg.data.records import record_format
from tf_advseg.data.records.record_writing import KIND, write_records
from tf_advseg.data.spec import DatasetSpec

__all__ = ['RecordSet', 'data_errors', 'write_records']

# As many calls at a time as there are cores; no autotuning, see `dataset_options`.
CALLS = os.cpu_count() or 1
DAMAGED = ('refuse', 'skip')
# What is said with damage: how to make the tools go on.
SKIP_HINT = 'dataset.damaged="skip" (train) or --damaged=skip (evaluate) goes on without'
OPEN_FILES = 64  # a process may have 1024 or fewer, and large data sets have more shards


class RecordSet:
    """The records of a folder, by image id.

    Only the index is in memory; images are read and decoded when asked for.

    Attributes:
      folder: where they lie.
      spec: the `DatasetSpec`.
      splits: dict split name -> list of image ids.
      ids: every image id, in the order they are stored.
      damaged: [(image id, name of its file)] of the images left out for damage.
      left_out: their ids.
    """

    def __init__(self, folder, verify=True, damaged='refuse'):
        """Opens the folder.

        Args:
          folder: what `write_records` made.
          verify: compare every file's checksum first (reads all bytes once); False compares
            sizes only, and a damaged record is found when it is read.
          damaged: 'refuse' raises for damage; 'skip' reads every record once, leaves those whose
            checksum is wrong out of `ids` and `splits`, and logs how many and which.

        Raises:
          UserError: no records there, or a file is damaged or missing; names it and, where
            they are known, the images. With 'skip': an index is damaged, a file is missing, or a
            split would be empty.
        """
        skip = require_one_of('way with damaged records', damaged, DAMAGED) == 'skip'
        self.folder = pathlib.Path(folder)
        if not (self.folder / files.MANIFEST).is_file():
            raise UserError(f'{self.folder}: no records here ({files.MANIFEST} is missing); make '
                            'them with prepare_data')
        try:
            self.manifest = files.check_manifest(self.folder, verify or skip,
                                                 spared=('.tfrecord',) if skip else ())
        except UserError as error:
            raise UserError(f'{error}{_which_images(self.folder)}') from error
        if self.manifest.get('kind') != KIND:
            raise UserError(f'{self.folder}: not a folder of records; make them with '
                            'prepare_data')
        with files.as_written(self.folder / files.MANIFEST):
            self.spec = self._read_identity()
        self.splits = splits_lib.read_split(self.folder / 'splits.json')
        self._read_index()
        self.damaged = []
        self._left_out_of = {}
        if skip:
            self._leave_out_damaged()
        self._readers = collections.OrderedDict()
        self._lock = threading.Lock()
        # TensorFlow keeps every function given to tf.numpy_function for the process's life.
        # So it gets this one object each time, and files are let go before Python's end.
        self._read = self.read
        weakref.finalize(self, self._readers.clear)

    def _read_identity(self):
        """The DatasetSpec in the manifest, whose other parts are looked at, too."""
        identity = self.manifest['identity']
        version = identity['format']
        if version != record_format.FORMAT_VERSION:
            raise UserError(f'{self.folder}: records of format {version}, this package reads '
                            f'{record_format.FORMAT_VERSION}; make them anew')
        options = identity['reader'].get('options', {})
        if not isinstance(options, dict) or not all(
                isinstance(shard, str) for shard in self.manifest['shards']):
            raise TypeError('the reader\'s options, or the names of shards')
        return DatasetSpec.from_json(identity['spec'], self.folder / files.MANIFEST)

    def _read_index(self):
        """Per image: place, size and class counts, in arrays (small for any data set)."""
        self.ids, places, sizes, counts, self._indices = [], [], [], [], []
        for number, shard in enumerate(self.manifest['shards']):
            path = self.folder / (shard + '.json')
            index = files.read_json(path)
            with files.as_written(path):
                its = [(int(offset), int(length), int(crc))
                       for offset, length, crc in index['index']]
                ids = [str(image_id) for image_id in index['ids']]
                if not len(its) == len(ids) == len(index['sizes']) == len(index['class_counts']):
                    raise ValueError('lists of different lengths')
                sizes.append(np.array(index['sizes'], np.int32).reshape(len(ids), 2))
                counts.append(np.array(index['class_counts'], np.int64).reshape(
                    len(ids), self.spec.num_classes))
            self._indices.append(its)
            self.ids += ids
            places += [(number, i) for i in range(len(ids))]
        self._places = np.array(places, np.int64).reshape(-1, 2)
        self._sizes = np.concatenate(sizes or [np.zeros([0, 2], np.int32)])
        self._counts = np.concatenate(
            counts or [np.zeros([0, self.spec.num_classes], np.int64)])
        self._position = {image_id: i for i, image_id in enumerate(self.ids)}

    def _leave_out_damaged(self):
        """Takes images whose record cannot be read out of everything; says which."""
        hurt = list(find_damaged(self.folder, self.manifest['shards']))
        if not hurt:
            return
        self.damaged = [(image_id, name) for _, image_id, name in hurt]
        positions = [position for position, _, _ in hurt]
        gone = {self.ids[position] for position in positions}
        self.ids = [image_id for image_id in self.ids if image_id not in gone]
        for name in ('_places', '_sizes', '_counts'):
            setattr(self, name, np.delete(getattr(self, name), positions, axis=0))
        self._position = {image_id: i for i, image_id in enumerate(self.ids)}
        self._left_out_of = {name: [i for i in ids if i in gone]
                             for name, ids in self.splits.items()}
        self.splits = {name: [i for i in ids if i not in gone]
                       for name, ids in self.splits.items()}
        for name, ids in self.splits.items():
            if not ids:
                raise UserError(f'{self.folder}: every image of split "{name}" is damaged; make '
                                'the records anew')
        logging.warning('%s: %d damaged of %d images left out: %s', self.folder, len(hurt),
                        len(hurt) + len(self.ids), _listed(self.damaged))

    @property
    def left_out(self):
        """The ids of the images left out for damage, in the order they are stored."""
        return [image_id for image_id, _ in self.damaged]

    def left_out_of(self, split):
        """The ids of a split's images that were left out."""
        return list(self._left_out_of.get(split, ()))

    def __len__(self):
        return len(self.ids)

    def split(self, name):
        """The ids of a split; UserError naming the splits there are."""
        if name not in self.splits:
            raise UserError(f'{self.folder}: no split "{name}"; there are '
                            f'{", ".join(self.splits)} (train takes the names of '
                            'dataset.train_split, dataset.val_split and dataset.test_split)')
        return list(self.splits[name])

    def positions(self, ids):
        """int64 [N]: where the images stand in `self.ids`; UserError for an unknown id."""
        try:
            return np.array([self._position[i] for i in ids], np.int64)
        except KeyError as error:
            raise UserError(f'{self.folder}: no image "{error.args[0]}" in these '
                            'records') from None

    def image_sizes(self, ids):
        """int32 [N, 2]: (height, width) of images."""
        return self._sizes[self.positions(ids)]

    def class_counts(self, image_id):
        """int64 [C]: the number of pixels of each class in an image; ignored pixels not."""
        return self._counts[self.positions([image_id])[0]].copy()

    def average_class_counts(self, ids):
        """float64 [C]: the mean over images of `class_counts` (LoAd, section 4, weighted CE:
        "the average number of pixels per class computed over the entire training dataset")."""
        return self._counts[self.positions(ids)].mean(axis=0)

    def class_presence(self, ids):
        """dict id -> set of the classes an image shows, for `splits.hold_out`."""
        return {image_id: {int(c) for c in np.flatnonzero(counts)}
                for image_id, counts in zip(ids, self._counts[self.positions(ids)])}

    def read(self, position):
        """The serialised record at a position; UserError naming the file if it is damaged."""
        shard, number = (int(v) for v in self._places[int(position)])
        with self._lock:
            reader = self._readers.pop(shard, None)
            if reader is None:
                path = self.folder / (self.manifest['shards'][shard] + '.tfrecord')
                reader = IndexedRecordReader(path, self._indices[shard])
            self._readers[shard] = reader
            # The file closes when the last thread that reads from it lets it go.
            if len(self._readers) > OPEN_FILES:
                self._readers.popitem(last=False)
        try:
            return reader.read(number)
        except UserError as error:
            raise UserError(f'{error} (image "{self.ids[int(position)]}"; {SKIP_HINT} '
                            'it)') from error

    def read_tensor(self, position):
        """`read` as a TensorFlow operation: int64 scalar -> string scalar. It calls Python."""
        payload = tf.numpy_function(self._read, [position], tf.string)
        payload.set_shape([])
        return payload

    def load(self, image_id):
        """(image uint8 [H, W, 3], label uint8 [H, W]) as NumPy, the same numbers as `dataset`."""
        with tf.device('/cpu:0'), data_errors():
            record = record_format.decode(self.read(self.positions([image_id])[0]))
        return record['image'].numpy(), record['label'].numpy()

    def image_digest(self, image_id):
        """SHA-256 of an image's JPEG or PNG bytes: equal for copies of one file."""
        payload = self.read(self.positions([image_id])[0])
        return hashlib.sha256(record_format.encoded_image(payload)).hexdigest()

    def load_instances(self, image_id):
        """int32 [H, W]: the image's objects as `readers.base.Reader.instances` codes them.

        None where the data set, or records made before this, have none.
        """
        with tf.device('/cpu:0'), data_errors():
            ids = record_format.decode_instances(self.read(self.positions([image_id])[0]))
        return None if ids is None else ids.numpy().astype(np.int32)

    def dataset(self, ids, parallel=CALLS):
        """The images in exactly this order (any order, repeats allowed).

        Args:
          ids: image ids.
          parallel: number of images decoded at a time.

        Returns:
          tf.data.Dataset of dicts: 'image' uint8 [H, W, 3], 'label' uint8 [H, W], 'image_id'
          string. Wrap the loop over it in `data_errors()` to get UserError for damage.
        """
        # Two steps: reading calls Python, and under op determinism TensorFlow runs such a map
        # serially. It is cheap; decoding, which is not, stays parallel.
        dataset = tf.data.Dataset.from_tensor_slices(self.positions(ids))
        dataset = dataset.map(self.read_tensor)
        dataset = dataset.map(record_format.decode, num_parallel_calls=parallel,
                              deterministic=True)
        return dataset.with_options(dataset_options())

    def __repr__(self):
        return f'RecordSet({str(self.folder)!r}, {len(self)} images of {self.spec.name})'


def find_damaged(folder, shards):
    """The images whose record cannot be read as it was written.

    Args:
      folder: the records; their index files have to be whole.
      shards: the shards' names, as in the manifest.

    Yields:
      (position among all records, image id, name of the file). Reads every byte once.
    """
    position = 0
    for shard in shards:
        index = files.read_json(folder / (shard + '.json'))
        with files.as_written(folder / (shard + '.json')):
            ids, places = list(index['ids']), [tuple(map(int, place)) for place in index['index']]
        with IndexedRecordReader(folder / (shard + '.tfrecord'), places) as reader:
            for number, image_id in enumerate(ids):
                try:
                    reader.read(number)
                except UserError:
                    yield position, image_id, reader.path.name
                position += 1


def _which_images(folder):
    """'; damaged images: …' for a folder whose files are not as written, '' if not known.

    They are known where the manifest and all index files are whole.
    """
    try:
        manifest = files.check_manifest(folder, spared=('.tfrecord',))
        hurt = [entry[1:] for entry in find_damaged(folder, manifest['shards'])]
    except (UserError, KeyError, TypeError):
        return ''
    if not hurt:
        return ''
    return (f'; {len(hurt)} damaged image{"s" if len(hurt) > 1 else ""}: {_listed(hurt)} '
            f'({SKIP_HINT})')


def _listed(damaged, most=10):
    """'"p5" in pictures-….tfrecord, …' of (image id, file) pairs, a few of them."""
    text = ', '.join(f'"{image_id}" in {name}' for image_id, name in damaged[:most])
    return text + (f' and {len(damaged) - most} more' if len(damaged) > most else '')


def dataset_options():
    """Options of every data set here: elements in order, workers share by element, no autotuning.

    Autotuning's thread sleeps for twice as long each time, up to a minute, and who frees an
    iterator waits for it: LoAd frees many. Numbers of calls are given (`CALLS`).
    """
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options


@contextlib.contextmanager
def data_errors():
    """Gives back the UserError that tf.data has wrapped in an error of its own.

    tf.data turns an exception raised in Python code inside it into tf.errors.UnknownError whose
    message holds the original's traceback; put the loop over batches in this block.
    """
    try:
        yield
    except tf.errors.OpError as error:
        message = error.message or ''
        if 'UserError: ' not in message:
            raise
        line = message.split('UserError: ', 1)[1].splitlines()[0]
        raise UserError(line.split(' Traceback (most recent call')[0]) from error
