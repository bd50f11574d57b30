"""How one map is kept in a buffer slot: its kind, its numbers, its bytes. NumPy only.

| kind        | given to `encode`                       | stored             | `decode` gives |
|-------------|-----------------------------------------|--------------------|----------------|
| 'soft'      | logits [h, w, C], float                 | float16 logits     | float32 logits |
| 'hard'      | class ids [h, w], integers in 0..255    | uint8 ids          | uint8 ids      |
| 'quantised' | probabilities [h, w, C], float or uint8 | uint8, 255 times p | float32 p      |

h and w are the segmentor's own resolution, (H-1)//stride+1; of hard maps the image's.
"""
import zlib

import numpy as np

from tf_advseg.core.errors import UserError

STORED_DTYPE = {'soft': np.dtype('<f2'), 'hard': np.dtype('u1'), 'quantised': np.dtype('u1')}
DECODED_DTYPE = {'soft': np.dtype('f4'), 'hard': np.dtype('u1'), 'quantised': np.dtype('f4')}
RANK = {'soft': 3, 'hard': 2, 'quantised': 3}
_LARGEST_HALF = 65504.0


def require_kind(kind):
    """Returns `kind` if there is such a kind of map, else raises ValueError."""
    if kind not in STORED_DTYPE:
        raise ValueError(f'kind must be one of {tuple(STORED_DTYPE)}, got {kind!r}')
    return kind


def encode(array, kind):
    """A map as it is stored; see the module's table.

    Logits beyond float16's range are clipped to it: softmax is as sure at 65504 as beyond.

    Raises:
      ValueError: another rank, a NaN, ids outside 0..255, or numbers that are no probabilities.
    """
    array = np.asarray(array)
    if array.ndim != RANK[kind]:
        raise ValueError(f'a {kind} map has {RANK[kind]} axes, got shape {array.shape}')
    if kind == 'hard':
        if not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f'hard maps are integer class ids, got {array.dtype}')
        if array.size and not (array.min() >= 0 and array.max() <= 255):
            raise ValueError(f'class ids lie in 0..255, got {array.min()}..{array.max()}')
        return array.astype('u1')
    if kind == 'quantised' and array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        array = array.astype('f4')      # bfloat16, which NumPy does not count as floating
    if np.isnan(array).any():
        raise ValueError(f'a {kind} map contains NaN')
    if kind == 'soft':
        return np.clip(array, -_LARGEST_HALF, _LARGEST_HALF).astype('<f2')
    if array.size and not (array.min() >= -1e-3 and array.max() <= 1 + 1e-3):
        raise ValueError('quantised maps are made of probabilities in 0..1, got '
                         f'{array.min()}..{array.max()}')
    return np.rint(np.clip(array, 0, 1) * 255).astype('u1')


def decode(stored, kind):
    """A stored map as float32 logits, uint8 ids or float32 probabilities; see the table."""
    if kind == 'soft':
        return stored.astype('f4')
    if kind == 'quantised':
        return stored.astype('f4') / np.float32(255)
    return stored


def pack(stored, level=1):
    """A stored map as the zlib-compressed bytes of one record; its shape goes to the index."""
    return zlib.compress(np.ascontiguousarray(stored).tobytes(), level)


def unpack(payload, kind, shape, path):
    """The stored map of a record, [h, w] or [h, w, C] as `shape` says; read-only.

    Raises:
      UserError: naming `path`, where the bytes are not such a map.
    """
    dtype = STORED_DTYPE[kind]
    try:
        raw = zlib.decompress(payload)
    except zlib.error as error:
        raise UserError(f'{path}: a map cannot be decompressed ({error}); the slot is damaged, '
                        'delete it and start again') from error
    if len(raw) != dtype.itemsize * int(np.prod(shape, dtype=np.int64)):
        raise UserError(f'{path}: a map has {len(raw)} bytes, expected shape {tuple(shape)} of '
                        f'{dtype}; the slot is damaged, delete it and start again')
    return np.frombuffer(raw, dtype).reshape(shape)


def packed_bound(shape, kind):
    """The most bytes `pack` gives for a map of `shape`: what zlib makes of noise."""
    raw = STORED_DTYPE[kind].itemsize * int(np.prod(shape, dtype=np.int64))
    return raw + 5 * (raw // 8192 + 1) + 16
