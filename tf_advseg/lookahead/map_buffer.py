"""The label-map aggregation buffer on disk: one folder per slot, read at random by tf.data.

What is kept is decided by `buffer_policy` (Algorithm 1); what is *alive* is decided by the
orchestrator's state, not by the folder. A cycle's end goes

    plan = buffer.plan(result.peak_label, result.end_label)
    for entry in plan.added:
        buffer.write_slot(entry.label, maps_of(entry.label))    # on disk, not yet alive
    buffer.aggregate(result.peak_label, result.end_label)       # alive in memory
    files.write_json(state_path, {..., 'buffer': buffer.to_state()})        # durable
    buffer.collect_garbage()                                    # the old slots go

A process killed anywhere in it finds the older or the newer state, and every slot that state names
whole; `from_state` and `collect_garbage` remove the rest.
"""
import dataclasses
import pathlib
import re
import shutil

import numpy as np

from tf_advseg.core import files
from tf_advseg.core.errors import UserError
from tf_advseg.core.indexed_records import IndexedRecordReader, IndexedRecordWriter
from tf_advseg.lookahead import map_encoding
from tf_advseg.lookahead.buffer_policy import BufferPolicy, Entry

RECORDS = 'maps.tfrecord'
INDEX = 'index.json'
FORMAT = 'tf_advseg map slot'
VERSION = 1
_RECORD_OVERHEAD = 16           # a TFRecord's length and two checksums
_INDEX_BYTES_A_MAP = 256        # id, part, shape, place of a map in the index, as JSON
_SLOT_OVERHEAD = 4096           # manifest and folder


@dataclasses.dataclass(frozen=True)
class SizeEstimate:
    """Upper bounds in bytes: one slot, the buffer when full, and the most on disk at one time."""
    slot: int
    buffer: int
    on_disk: int


class Slot:
    """One map set on disk, opened for reading.

    Attributes:
      label: the model that drew the maps, e.g. 'g1' or 'e01'.
      folder: its Path.
      manifest: the manifest's fields.
      image_ids: the ids of its maps, in the order they were written.
      parts: the part ('train', 'holdout', ...) of each.
      shapes: the shape of each map.
    """

    def __init__(self, folder, kind, checksums=True):
        """Opens a slot and verifies it.

        Raises:
          UserError: a file is missing or damaged, or the slot holds maps of another kind.
        """
        self.folder = pathlib.Path(folder)
        self.kind = kind
        self.manifest = files.check_manifest(self.folder, checksums=checksums)
        if self.manifest.get('format') != FORMAT or self.manifest.get('version') != VERSION:
            raise UserError(f'{self.folder / files.MANIFEST}: is not a {FORMAT} of version '
                            f'{VERSION}; delete the run\'s lookahead folder and start again')
        if self.manifest['kind'] != kind:
            raise UserError(f'{self.folder}: holds {self.manifest["kind"]} maps, expected {kind}; '
                            'the run was made with another configuration')
        self.label = self.manifest['label']
        index = files.read_json(self.folder / INDEX)
        with files.as_written(self.folder / INDEX):
            self.image_ids = tuple(index['image_ids'])
            self.parts = tuple(index['parts'])
            self.shapes = tuple(tuple(shape) for shape in index['shapes'])
            self._position = {image_id: i for i, image_id in enumerate(self.image_ids)}
            self._reader = IndexedRecordReader(self.folder / RECORDS, index['records'])

    def __len__(self):
        return len(self.image_ids)

    def ids_of(self, part):
        """The ids of the maps of one part, in order."""
        return tuple(i for i, p in zip(self.image_ids, self.parts) if p == part)

    def read(self, image_id, decoded=True):
        """The map of one image; safe from several threads.

        Args:
          image_id: str.
          decoded: False gives it as stored (float16 logits, uint8 ids or probabilities); True
            turns float16 and probabilities into float32.
        Raises:
          KeyError: the slot has no map of that image.
          UserError: the record is damaged; names file and record.
        """
        if image_id not in self._position:
            raise KeyError(f'{self.folder}: no map of {image_id}')
        position = self._position[image_id]
        stored = map_encoding.unpack(self._reader.read(position), self.kind,
                                     self.shapes[position], self.folder / RECORDS)
        return map_encoding.decode(stored, self.kind) if decoded else stored

    def bytes(self):
        """Its size on disk."""
        return files.folder_bytes(self.folder)


class MapBuffer:
    """The slots of `buffer_policy` as folders `slot-<serial>-<label>` under `folder`.

    Args:
      folder: made if missing; nothing else may live in it.
      capacity, policy, retain, count_peaks: see `buffer_policy.BufferPolicy` (B_max = capacity).
      kind: 'soft' (float16 logits at the segmentor's own resolution), 'hard' (uint8 class ids) or
        'quantised' (uint8 probabilities, for decoders whose logits are large).
      limit_bytes: refuses to write a slot that might take the folder over this size; None: none.
      compression_level: zlib's; 1 is as good as 6 on logits and several times faster.

    Raises:
      ValueError: an argument out of range.
      UserError: the folder cannot be made.
    """

    def __init__(self, folder, capacity=3, policy='flush', retain=1, count_peaks=True, kind='soft',
                 limit_bytes=None, compression_level=1):
        self.folder = pathlib.Path(folder)
        self.policy = BufferPolicy(capacity, policy, retain, count_peaks)
        self.kind = map_encoding.require_kind(kind)
        self.limit_bytes = limit_bytes
        self.compression_level = compression_level
        self._alive = []        # [(Entry, Slot)], in the buffer's order
        self._pending = {}      # label -> Slot, written and not yet aggregated
        self._next_serial = 0
        with files.disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    # -- Algorithm 1 --------------------------------------------------------------------------

    def plan(self, peak, end):
        """The `buffer_policy.Plan` of `aggregate(peak, end)`: its `added` are the slots to write.

        Args:
          peak: the new peak's label or None; end: the ending's label or None.
        """
        return self.policy.aggregate(self.entries, peak, end)

    def write_slot(self, label, maps, num_maps=None, **fields):
        """Writes a map set as a new slot: whole or not at all, one map in memory at a time.

        The slot waits for `aggregate`; until then it is not alive.

        Args:
          label: the model that draws the maps, 'g1' or 'e01'.
          maps: iterable of (image_id, part, map), see `map_encoding.encode` for the map; image_id
            and part ('train', 'holdout') are str. Ids are unique in a slot; shapes may differ.
          num_maps: how many will come; lets `limit_bytes` refuse before anything is written.
          **fields: JSON-able, kept in the manifest (num_classes, stride, model, ...).
        Returns:
          the `Slot`.
        Raises:
          UserError: the disk is full, or the slot would pass `limit_bytes`; nothing is left behind.
          ValueError: no maps, another number than num_maps, a repeated id, a map of another form,
            or a label the buffer already holds.
        """
        path = self._next_path(label)
        with files.disk_errors(path):
            if path.exists():                   # a killed process wrote it; no state names it
                shutil.rmtree(path)
        try:
            with files.atomic_folder(path) as temporary:
                self._write_files(temporary, path, label, maps, num_maps, fields)
        except UserError as error:
            raise UserError(_without_temporary(str(error), path)) from error
        return self._take(label, path, checksums=False)

    def adopt_slot(self, label):
        """Takes up the slot that another worker's `write_slot(label, ...)` has just written into
        the same folder; every worker makes the same calls in the same order."""
        return self._take(label, self._next_path(label), checksums=True)

    def _next_path(self, label):
        """The folder of the next slot."""
        if label in self.labels or label in self._pending:
            raise ValueError(f'the buffer holds maps of {label} already')
        return self.folder / f'slot-{self._next_serial:06d}-{label}'

    def _take(self, label, path, checksums):
        self._pending[label] = Slot(path, self.kind, checksums)
        self._next_serial += 1
        return self._pending[label]

    def aggregate(self, peak, end):
        """Algorithm 1 with the slots `write_slot` wrote; `aggregate('g0', None)` is B = g_0(X).

        Files of dropped slots stay until `collect_garbage`, so that a state on disk that still
        names them is good.

        Returns:
          the `buffer_policy.Plan` carried out.
        Raises:
          ValueError: a slot that has to be added was not written.
        """
        plan = self.plan(peak, end)
        missing = [entry.label for entry in plan.added if entry.label not in self._pending]
        if missing:
            raise ValueError(f'write_slot has to come first for {missing}')
        slots = dict(self._alive)
        slots.update((entry, self._pending.pop(entry.label)) for entry in plan.added)
        self._alive = [(entry, slots[entry]) for entry in plan.entries]
        return plan

    @property
    def entries(self):
        """The `buffer_policy.Entry` of every alive slot, in the buffer's order."""
        return tuple(entry for entry, _ in self._alive)

    @property
    def labels(self):
        """The names of the alive slots, e.g. ['g1', 'e01', 'e10']."""
        return [entry.label for entry, _ in self._alive]

    @property
    def slots(self):
        """The alive slots, in the buffer's order: B[0], B[1], ..."""
        return tuple(slot for _, slot in self._alive)

    def __len__(self):
        return len(self._alive)

    # -- reading ------------------------------------------------------------------------------

    def read(self, slot, image_id, decoded=True):
        """The map of an image in B[slot] (an index or a label); see `Slot.read`."""
        index = self.labels.index(slot) if isinstance(slot, str) else slot
        return self._alive[index][1].read(image_id, decoded)

    def lookup(self, decoded=True):
        """A function for tf.data's `map`: (slot index, image_id) -> map, or batches of both.

        It serves the slots alive now, also after later calls of `aggregate` and
        `collect_garbage`. Scalars give [h, w(, C)]; vectors [B] give [B, h, w(, C)], where all maps
        have one shape (scalars with num_parallel_calls, batched after, are the faster way). Errors
        within come out of a dataset as tf.errors.UnknownError with the UserError's message in it.

        Args:
          decoded: see `Slot.read`.
        Returns:
          function(int tensor, string tensor) -> tensor, with its static shape set where every map
          of every slot has the same.
        """
        import tensorflow as tf
        slots = self.slots
        dtypes = map_encoding.DECODED_DTYPE if decoded else map_encoding.STORED_DTYPE
        dtype = dtypes[self.kind]
        shapes = {shape for slot in slots for shape in slot.shapes}
        static = shapes.pop() if len(shapes) == 1 else (None,) * map_encoding.RANK[self.kind]

        def read(index, image_id):
            names = np.asarray(image_id, dtype=object)
            found = [slots[i].read(name.decode(), decoded)
                     for i, name in zip(np.ravel(index), np.ravel(names))]
            return np.stack(found) if names.ndim else np.ascontiguousarray(found[0])

        def function(index, image_id):
            found = tf.numpy_function(read, [index, image_id], dtype, stateful=False)
            found.set_shape(image_id.shape.concatenate(static))
            return found

        return function

    def dataset(self, slot, part=None):
        """The maps of B[slot] as a tf.data.Dataset of {'image_id', 'map'}, in the order written.

        Args:
          slot: index or label.
          part: only the maps of this part ('train', 'holdout'); None for all.
        """
        import tensorflow as tf
        index = self.labels.index(slot) if isinstance(slot, str) else slot
        opened = self._alive[index][1]
        ids = opened.image_ids if part is None else opened.ids_of(part)
        lookup = self.lookup()
        return tf.data.Dataset.from_tensor_slices(tf.constant(list(ids), tf.string)).map(
            lambda image_id: {'image_id': image_id, 'map': lookup(index, image_id)})

    # -- what survives the process ------------------------------------------------------------

    def to_state(self):
        """What the orchestrator's state has to keep, JSON-able: the alive slots in order."""
        return {'version': VERSION, 'kind': self.kind, 'next_serial': self._next_serial,
                'slots': [{'label': entry.label, 'role': entry.role, 'folder': slot.folder.name}
                          for entry, slot in self._alive]}

    def from_state(self, state, checksums=True):
        """Opens the slots a state names, verifying each; forgets slots not aggregated.

        Raises:
          UserError: a slot is missing, damaged or of another kind; names the file.
          ValueError: not a state of `to_state`.
        """
        if state.get('version') != VERSION:
            raise ValueError(f'not the state of a map buffer of version {VERSION}')
        self._pending = {}
        self._alive = [(Entry(slot['label'], slot['role']),
                        Slot(self.folder / slot['folder'], self.kind, checksums))
                       for slot in state['slots']]
        self._next_serial = state['next_serial']

    def collect_garbage(self):
        """Removes slots that are not alive and what killed processes left; call it when the state
        that names the alive slots is durable.

        Returns:
          the names removed, sorted.
        """
        removed = files.remove_temporaries(self.folder)
        self._pending = {}
        alive = {slot.folder.name for slot in self.slots}
        with files.disk_errors(self.folder):
            for path in sorted(self.folder.glob('slot-*')):
                if path.name not in alive:
                    shutil.rmtree(path)
                    removed.append(path.name)
        return sorted(removed)

    # -- size ---------------------------------------------------------------------------------

    def bytes(self):
        """The folder's size on disk now, dropped slots that are not yet collected included."""
        return files.folder_bytes(self.folder)

    def estimate_bytes(self, num_maps, shape, kind=None):
        """Upper bounds for a buffer of map sets of `num_maps` maps of `shape`: `SizeEstimate`."""
        slot = _slot_bound(num_maps, shape, kind or self.kind)
        return SizeEstimate(slot=slot, buffer=slot * self.policy.max_slots,
                            on_disk=slot * self.policy.max_slots_on_disk)

    # -- within -------------------------------------------------------------------------------

    def _write_files(self, temporary, path, label, maps, num_maps, fields):
        """Writes records, index and manifest of a slot into the folder `temporary`."""
        ids, parts, shapes, written, before = {}, [], [], 0, self.bytes()
        with IndexedRecordWriter(temporary / RECORDS) as writer:
            for image_id, part, array in maps:
                if image_id in ids:
                    raise ValueError(f'{path.name}: two maps of {image_id}')
                stored = map_encoding.encode(array, self.kind)
                if not ids:
                    self._check_limit(path, before, num_maps or 1, stored.shape)
                payload = map_encoding.pack(stored, self.compression_level)
                written += len(payload) + _RECORD_OVERHEAD + _INDEX_BYTES_A_MAP
                self._check_limit(path, before + written, 0, stored.shape)
                writer.write(payload)
                ids[image_id] = None
                parts.append(part)
                shapes.append(stored.shape)
        if not ids or len(ids) != (num_maps or len(ids)):
            raise ValueError(f'{path.name}: got {len(ids)} maps, expected '
                             f'{num_maps or "at least one"}')
        files.write_json(temporary / INDEX, {'image_ids': list(ids), 'parts': parts,
                                             'shapes': shapes, 'records': writer.index})
        files.write_manifest(
            temporary, **fields, format=FORMAT, version=VERSION, label=label, kind=self.kind,
            dtype=map_encoding.STORED_DTYPE[self.kind].name, num_maps=len(ids),
            shape=shapes[0] if len(set(shapes)) == 1 else None,
            parts={part: parts.count(part) for part in sorted(set(parts))})

    def _check_limit(self, path, before, num_maps, shape):
        """Raises UserError if `num_maps` more maps might take the folder over `limit_bytes`."""
        if self.limit_bytes is None:
            return
        needed = before + (_slot_bound(num_maps, shape, self.kind) if num_maps else 0)
        if needed > self.limit_bytes:
            raise UserError(
                f'{path}: the map buffer may need {needed / 1e6:.1f} MB on disk, its limit is '
                f'{self.limit_bytes / 1e6:.1f} MB; raise limit_bytes, lower the capacity, keep '
                'hard maps or fewer images')


def _slot_bound(num_maps, shape, kind):
    """The most bytes a slot of `num_maps` maps of `shape` takes."""
    return _SLOT_OVERHEAD + num_maps * (map_encoding.packed_bound(shape, kind)
                                        + _RECORD_OVERHEAD + _INDEX_BYTES_A_MAP)


def _without_temporary(message, path):
    """A message that names the temporary folder of `path`, naming `path` instead."""
    return re.sub(re.escape(str(path.parent / files.TEMPORARY)) + r'[^/\s:]*', str(path), message)
