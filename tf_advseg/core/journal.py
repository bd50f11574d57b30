"""The journal of a run: one JSON object a line, appended, and cut back when a run resumes."""
import json
import os
import pathlib
import time

from tf_advseg.core import files
from tf_advseg.core.errors import UserError


class Journal:
    """An append-only file of events.

    A line is {"event": …, "time": …, **fields}. Floats are written so that they read back
    exactly. A line torn by a kill (no newline at its end) is cut off on opening.
    """

    def __init__(self, path, clock=time.time):
        """Opens or creates the journal.

        Args:
          path: the file; its folder must exist.
          clock: called without arguments for the seconds in "time".

        Raises:
          UserError: the file cannot be written.
        """
        self.path = pathlib.Path(path)
        self._clock = clock
        if not self.path.parent.is_dir():
            raise UserError(f'{self.path}: cannot be written, there is no folder '
                            f'{self.path.parent}')
        with files.disk_errors(self.path):
            self._file = open(self.path, 'ab+')
            self._cut_torn_line()

    def _cut_torn_line(self):
        """Truncates the file behind its last newline."""
        self._file.seek(0)
        data = self._file.read()
        whole = data.rfind(b'\n') + 1
        if whole != len(data):
            self._file.truncate(whole)
        self._file.seek(0, os.SEEK_END)

    def append(self, event, **fields):
        """Writes one line and hands it to the system; `position()` makes it durable.

        Args:
          event: the event's name.
          **fields: anything JSON can hold; NumPy values become plain ones.

        Returns:
          The dict that was written.

        Raises:
          UserError: the disk is full or the file has become unwritable.
        """
        entry = {'event': event, 'time': self._clock(), **fields}
        line = (files.to_json(entry) + '\n').encode('utf-8')
        with files.disk_errors(self.path):
            self._file.write(line)
            self._file.flush()
        return entry

    def position(self):
        """Returns the journal's length in bytes, after everything up to it is on disk."""
        with files.disk_errors(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
            return self._file.seek(0, os.SEEK_END)

    def drop(self, condition):
        """Takes out the lines for which `condition(entry)` holds; the file is whole at any time."""
        entries = self.read(self.path)
        kept = [entry for entry in entries if not condition(entry)]
        if len(kept) == len(entries):
            return
        self._file.close()
        with files.atomic_file(self.path, 'w') as file:
            file.writelines(files.to_json(entry) + '\n' for entry in kept)
        with files.disk_errors(self.path):
            self._file = open(self.path, 'ab+')

    def cut_back(self, position, keep=lambda entry: False):
        """Drops every line behind `position`, a value `position()` returned earlier.

        Args:
          position: see above.
          keep: function(entry) -> whether a line behind it stays, such as one of another stage.

        Raises:
          UserError: the file is shorter than that, so lines it should hold are lost.
        """
        with files.disk_errors(self.path):
            self._file.flush()
            length = self._file.seek(0, os.SEEK_END)
            if position > length:
                raise UserError(f'{self.path}: has {length} bytes, the saved state says at '
                                f'least {position}; the file was cut or replaced, start in a '
                                'new --workdir')
            self._file.seek(position)
            with files.as_written(self.path):
                kept = [line for line in self._file.read().splitlines(keepends=True)
                        if keep(json.loads(line))]
            self._file.truncate(position)
            self._file.seek(0, os.SEEK_END)
            self._file.writelines(kept)
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self):
        """Closes the file; further appends raise ValueError."""
        self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @staticmethod
    def read(path):
        """Returns a journal's entries, a list of dicts; a torn last line is left out.

        Raises:
          UserError: the file is missing or unreadable, or a line before the last is damaged.
        """
        try:
            data = pathlib.Path(path).read_bytes()
        except FileNotFoundError as error:
            raise UserError(f'{path}: no such file') from error
        except OSError as error:
            raise UserError(f'{path}: cannot be read ({error.strerror})') from error
        entries = []
        lines = data.split(b'\n')[:-1]  # behind the last newline: nothing, or a torn line
        for number, line in enumerate(lines, start=1):
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f'{path}: line {number} is damaged ({error})') from error
            if not isinstance(entry, dict):
                raise UserError(f'{path}: line {number} is damaged (no event)')
            entries.append(entry)
        return entries
