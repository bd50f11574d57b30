"""TFRecord files that can also be read at any place: the index is kept beside the file."""
import os
import pathlib
import zlib

from tf_advseg.core import files
from tf_advseg.core import tensorflow_paths
from tf_advseg.core.errors import UserError

# A TFRecord is: length (8 bytes), its checksum (4), the payload, the payload's checksum (4).
_HEAD, _TAIL = 12, 4


def _tensorflow():
    """TensorFlow, imported only when a file is written."""
    from tf_advseg.core import runtime
    return runtime.import_tensorflow()


class IndexedRecordWriter:
    """Writes a TFRecord file, which tf.data reads as usual, and remembers where records lie.

    A context manager. On leaving, the file is closed and on disk. It does not write to a
    temporary name: put it inside `files.atomic_folder`.
    """

    def __init__(self, path):
        """Creates the file.

        Args:
          path: the file to be written; its folder must exist.
        """
        self.path = pathlib.Path(path)
        self.index = []  # (offset of the payload, its length, its zlib.crc32), one a record
        self._end = 0
        self._writer = None
        with files.disk_errors(self.path):
            # TensorFlow opens lazily and words its errors for programmers: ask the system first.
            open(self.path, 'wb').close()
        self._writer = self._guarded(lambda: _tensorflow().io.TFRecordWriter(self._name()))

    def _name(self):
        """The file's name for TensorFlow."""
        return os.path.join(tensorflow_paths.plain_folder(self.path.parent), self.path.name)

    def _guarded(self, action):
        """Returns action(); TensorFlow's file errors become UserError."""
        try:
            with files.disk_errors(self.path):
                return action()
        except _tensorflow().errors.OpError as error:
            raise UserError(f'{self.path}: cannot be written ({error.message})') from error

    def write(self, payload):
        """Appends one record.

        Args:
          payload: bytes.

        Raises:
          UserError: the disk is full.
        """
        payload = bytes(payload)
        self._guarded(lambda: self._writer.write(payload))
        self.index.append((self._end + _HEAD, len(payload), zlib.crc32(payload)))
        self._end += _HEAD + len(payload) + _TAIL

    def close(self):
        """Closes the file and waits until it is on disk.

        Raises:
          UserError: the disk is full.
        """
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        self._guarded(writer.close)
        with files.disk_errors(self.path):
            files.sync_file(self.path)
        size = self.path.stat().st_size
        if size != self._end:
            raise UserError(f'{self.path}: {size} of {self._end} bytes were written; is the disk '
                            'full?')

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.close()
            return
        writer, self._writer = self._writer, None
        if writer is not None:
            # The block has failed already; a second error must not hide the first.
            try:
                writer.close()
            except _tensorflow().errors.OpError:
                pass


class IndexedRecordReader:
    """Reads any record of a file written by IndexedRecordWriter; safe from several threads."""

    def __init__(self, path, index):
        """Opens the file.

        Args:
          path: the TFRecord file.
          index: the writer's `.index`: (offset, length, crc32) per record; lists will do.

        Raises:
          UserError: the file is missing or cannot be opened.
        """
        self.path = pathlib.Path(path)
        self._index = [(int(offset), int(length), int(crc)) for offset, length, crc in index]
        self._descriptor = None
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise UserError(f'{self.path}: no such file') from error
        except OSError as error:
            raise UserError(f'{self.path}: cannot be read ({error.strerror})') from error

    def __len__(self):
        return len(self._index)

    def read(self, i):
        """Returns the payload of record `i` (0-based) as bytes.

        Raises:
          UserError: the record is cut off or its checksum is wrong; names file and record.
          IndexError: there is no such record.
        """
        if not 0 <= i < len(self._index):
            raise IndexError(f'{self.path}: record {i} of {len(self._index)}')
        offset, length, crc = self._index[i]
        if not 0 <= offset <= offset + length <= os.fstat(self._descriptor).st_size:
            raise UserError(f'{self.path}: record {i} is cut off; the file is damaged, make it '
                            'anew')
        # pread keeps no position, so threads do not disturb one another.
        parts, missing = [], length
        while missing:
            part = os.pread(self._descriptor, missing, offset + length - missing)
            if not part:
                raise UserError(f'{self.path}: record {i} is cut off; the file is damaged, make '
                                'it anew')
            parts.append(part)
            missing -= len(part)
        payload = b''.join(parts)
        if zlib.crc32(payload) != crc:
            raise UserError(f'{self.path}: record {i} has a wrong checksum; the file is damaged, '
                            'make it anew')
        return payload

    def close(self):
        """Closes the file; further reads raise OSError."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        self.close()
