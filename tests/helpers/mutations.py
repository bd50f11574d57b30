"""Inputs as no program should write them: strategies of hypothesis, and what they do to bytes.

A damage is data ("flip a bit at 0.31 of the file"), so that the same one fits any file, and a
failing test prints what it did.
"""
import dataclasses
import io
import json
import tarfile
import zipfile

import numpy as np
from hypothesis import strategies as some
from PIL import Image

# Numbers that lengths and offsets are overwritten with: too large, negative, none.
_NUMBERS = (b'\xff\xff\xff\xff', b'\xff\xff\xff\x7f', b'\x00\x00\x00\x80', b'\x00\x00\x00\x00')
_KINDS = ('cut', 'flip', 'zero', 'repeat', 'drop', 'junk', 'number', 'append', 'text')
_TEXTS = (b'\x00', b'\xff\xfe', b'\r\n', b'\n', b'"', b'{', b'[', b'../../x', b'\xc3', b'1e999',
          b'-1', b'%n', b'\x1b[31m', 'é'.encode(), b'NaN', b' ')
# What stands in JSON where something else is expected.
VALUES = (None, True, -1, 0, 1.5, 10 ** 30, 1e308, float('nan'), '', 'x' * 300, '../../x', '/',
          '\x00', '\ud800', [], {}, [[]], [None], {'a': 1}, [1, 2, 3], 'a\nb')
MODES = ('1', 'L', 'P', 'LA', 'PA', 'RGB', 'RGBA', 'CMYK', 'YCbCr', 'LAB', 'HSV', 'I', 'F', 'I;16')
FORMATS = ('PNG', 'JPEG', 'GIF', 'BMP', 'TIFF', 'WEBP', 'PPM', 'TGA', 'PCX', 'ICO', 'DDS', 'SGI',
           'IM', 'MSP', 'EPS', 'PDF', 'JPEG2000', 'SPIDER', 'XBM', 'AVIF')


@dataclasses.dataclass(frozen=True)
class Damage:
    """One thing done to bytes: `kind` at `place` (0..1 of the length), `amount` saying how much."""
    kind: str
    place: float
    amount: int


def damages(most=3):
    """Strategy: a list of `Damage`, at least one."""
    one = some.builds(Damage, some.sampled_from(_KINDS), some.floats(0, 1, exclude_max=True),
                      some.integers(0, 4095))
    return some.lists(one, min_size=1, max_size=most)


def damaged(content, damage):
    """`content` (bytes) after all of `damage`."""
    for each in damage:
        content = _DO[each.kind](content, int(each.place * len(content)), each.amount)
    return content


def _flip(content, at, amount):
    if not content:
        return content
    return content[:at] + bytes([content[at] ^ (1 << amount % 8)]) + content[at + 1:]


def _number(content, at, amount):
    return content[:at] + _NUMBERS[amount % 4] + content[at + 4:]


_DO = {
    'cut': lambda content, at, amount: content[:at],
    'flip': _flip,
    'zero': lambda content, at, amount: (
        content[:at] + bytes(len(content[at:at + amount])) + content[at + amount:]),
    'repeat': lambda content, at, amount: content[:at] + content[at:at + amount] * 2 + content[
        at + amount:],
    'drop': lambda content, at, amount: content[:at] + content[at + 1 + amount:],
    'junk': lambda content, at, amount: (
        content[:at] + np.random.default_rng(amount).bytes(1 + amount % 64) + content[at:]),
    'number': _number,
    'append': lambda content, at, amount: content + content[at:at + amount],
    'text': lambda content, at, amount: (
        content[:at] + _TEXTS[amount % len(_TEXTS)] + content[at:]),
}


def spoils():
    """Strategy: what `spoilt` does to JSON: (which node, what happens to it, the value)."""
    return some.lists(some.tuples(
        some.integers(0, 10 ** 6), some.sampled_from(('replace', 'remove', 'rename', 'twice')),
        some.integers(0, len(VALUES) - 1)), min_size=1, max_size=2)


def spoilt(text, spoil):
    """JSON text whose values are no longer of the kinds, or at the names, that they were."""
    holder = {'top': json.loads(text)}
    for number, what, value in spoil:
        nodes = list(_nodes(holder))
        parent, key = nodes[number % len(nodes)]
        if what == 'remove' and parent is not holder:
            del parent[key]
        elif what == 'rename' and isinstance(parent, dict) and parent is not holder:
            parent[f'{key}_'] = parent.pop(key)
        elif what == 'twice' and isinstance(parent, list):
            parent.append(parent[key])
        else:
            parent[key] = VALUES[value]
    return json.dumps(holder['top'])


def _nodes(value):
    """(container, key) of every value below one."""
    keys = value if isinstance(value, dict) else range(len(value))
    for key in list(keys):
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from _nodes(value[key])


def images():
    """Strategy: bytes of an image file of any mode, format and size that Pillow writes."""
    return some.builds(_image, some.sampled_from(MODES), some.sampled_from(FORMATS),
                       some.tuples(some.integers(1, 60), some.integers(1, 60)),
                       some.integers(0, 255))


def _image(mode, kind, size, seed):
    random = np.random.default_rng(seed)
    grey = Image.fromarray(random.integers(0, 256, size[::-1]).astype(np.uint8))
    image, file = grey, io.BytesIO()
    try:
        image = Image.new('I;16', size, seed) if mode == 'I;16' else grey.convert(
            'RGB').convert(mode)
        image.save(file, kind)
    except (OSError, ValueError, KeyError, RuntimeError, SystemError):  # a mode the format lacks
        file = io.BytesIO()
        try:
            image.save(file, 'TIFF')
        except (OSError, ValueError, KeyError):
            file = io.BytesIO()
            grey.save(file, 'PNG')
    return file.getvalue()


def lists_of(ids):
    """Strategy: bytes of a list or class file made of the ids, of others, and of odd lines."""
    lines = some.one_of(
        some.sampled_from([i.encode() for i in ids]),
        some.sampled_from((b'', b' ', b'../../etc/passwd', b'/', b'.', b'..', b'\xff\xfe', b'\x00',
                           b'a/b/c', b'x' * 5000, 'é'.encode(), 'é'.encode(), b'#', b'"',
                           b'[1, 2]', b'\x1b[31m', b'*', b'[', b'p\x0b1', b'p\xe2\x80\xa81')),
        some.binary(max_size=12))
    return some.builds(lambda parts, end: end.join(parts), some.lists(lines, max_size=9),
                       some.sampled_from((b'\n', b'\r\n', b'\r', b'\x00', b'\x85')))


# (name, what it is) of members that an archive may hold beside its data.
MEMBERS = (
    ('../../outside.png', 'file'), ('/tmp/tf_advseg_fuzzing_outside.png', 'file'),
    ('images/../../outside.png', 'file'), ('..\\outside.png', 'file'), ('C:\\x.png', 'file'),
    ('images/p0.png', 'file'), ('images/P0.PNG', 'file'), ('images', 'file'), ('', 'file'),
    ('images/link.png', '../../outside.png'), ('images/link.png', '/etc/passwd'),
    ('images/link.png', 'p0.png'), ('images/ring.png', 'ring.png'), ('labels/more', '../images'),
    ('images/hard.png', 'hard:images/p0.png'), ('images/hard.png', 'hard:../../outside.png'),
    ('images/pipe.png', 'pipe'), ('images/device.png', 'device'), ('images/empty.png', 'empty'),
    ('x' * 300 + '.png', 'file'), ('a/' * 200 + 'x.png', 'file'), ('images/\x00.png', 'file'),
    ('images/caf\udce9.png', 'file'), ('manifest.json', 'file'), ('images/sub', 'folder'),
    ('model.ckpt-1.index', 'file'), ('model.ckpt-1.data-00000-of-00001', 'file'),
    ('checkpoint', 'file'), ('frozen_inference_graph.pb', 'file'), ('m.tflite', 'file'),
    ('splits/train.txt', 'file'), ('classes.json', 'file'), ('images/bomb.png', 'bomb'))


def archives(data, kinds=('zip', 'tar', 'tar.gz', 'tar.xz')):
    """Strategy: (bytes, ending) of an archive of `data` {name: bytes} with odd members or damage.

    Args:
      data: what the archive would rightly hold.
      kinds: endings.
    """
    return some.builds(
        _archive, some.just(data), some.sampled_from(kinds),
        some.lists(some.sampled_from(MEMBERS), max_size=3),
        some.one_of(some.just([]), damages(2)), some.booleans())


def _archive(data, kind, odd, damage, first):
    make = _zip if kind == 'zip' else _tar
    content = make(data, odd, first, kind)
    return damaged(content, damage), kind


def _content(what, data):
    """A member's bytes: those of the data's first file, but of bombs zeros and of others none."""
    if what == 'bomb':
        return bytes(1 << 22)
    return next(iter(data.values())) if what == 'file' else b''


def _zip(data, odd, first, kind):
    del kind
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as made:
        whole = [(name, 'file', content) for name, content in data.items()]
        other = [(name, what, _content(what, data)) for name, what in odd]
        for name, what, content in other + whole if first else whole + other:
            entry = zipfile.ZipInfo('x')
            entry.filename = name.encode('utf-8', 'replace').decode()
            if what not in ('file', 'empty', 'bomb', 'folder'):
                entry.external_attr, content = 0o120777 << 16, what.encode()
            made.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return file.getvalue()


_TYPES = {'pipe': tarfile.FIFOTYPE, 'device': tarfile.CHRTYPE, 'folder': tarfile.DIRTYPE}


def _tar(data, odd, first, kind):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w:' + kind[4:]) as made:
        whole = [(name, 'file', content) for name, content in data.items()]
        other = [(name, what, _content(what, data)) for name, what in odd]
        for name, what, content in other + whole if first else whole + other:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            if what in _TYPES:
                entry.type = _TYPES[what]
            elif what.startswith('hard:'):
                entry.type, entry.linkname = tarfile.LNKTYPE, what[5:]
            elif what not in ('file', 'empty', 'bomb'):
                entry.type, entry.linkname = tarfile.SYMTYPE, what
            made.addfile(entry, io.BytesIO(content))
    return file.getvalue()
