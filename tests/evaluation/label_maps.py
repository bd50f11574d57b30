"""Label maps to measure on: random ones of several kinds, and real ones."""
import io
import tarfile

import numpy as np
from PIL import Image

KINDS = ('noise', 'regions', 'torn')


def regions(rng, size, classes, seeds=8):
    """int [H,W]: every pixel has the class of the nearest of some random points."""
    points = rng.integers(0, size, [seeds, 2])
    grid = np.indices(size).transpose(1, 2, 0)[:, :, None]
    nearest = ((grid - points) ** 2).sum(axis=-1).argmin(axis=-1)
    return rng.integers(0, classes, seeds)[nearest]


def torn(rng, label, classes):
    """A prediction like `label`: moved by some pixels, with patches and specks of other classes."""
    out = np.roll(label, rng.integers(-3, 4, 2), axis=(0, 1))
    for _ in range(3):
        y, x = rng.integers(0, label.shape)
        out[y:y + rng.integers(1, 9), x:x + rng.integers(1, 9)] = rng.integers(classes)
    specks = rng.random(label.shape) < 0.01
    return np.where(specks, rng.integers(0, classes, label.shape), out)


def with_ignored(rng, label, share=0.1):
    """`label` as uint8 with a block and some pixels of 255."""
    out = label.astype(np.uint8)
    y, x = rng.integers(0, label.shape)
    out[y:y + rng.integers(1, 12), x:x + rng.integers(1, 12)] = 255
    out[rng.random(label.shape) < share / 4] = 255
    return out


def pair(seed, classes=4, size=None, ignored=True):
    """(label uint8 [H,W] with 255, prediction uint8 [H,W]); seeds go round the KINDS."""
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(5, 40, 2)) if size is None else size
    kind = KINDS[seed % len(KINDS)]
    if kind == 'noise':
        label, prediction = rng.integers(0, classes, [2, *size])
    else:
        label = regions(rng, size, classes)
        prediction = (torn(rng, label, classes) if kind == 'torn'
                      else regions(rng, size, classes))
    label = with_ignored(rng, label) if ignored and seed % 4 else label.astype(np.uint8)
    return label, prediction.astype(np.uint8)


def _ids(tar, name):
    return np.asarray(Image.open(io.BytesIO(tar.extractfile(name).read())))


def real_pairs(shared):
    """Real labels as [(classes, label, another map of its size)]: CMP Facades and PASCAL VOC.

    The second map is the label of another image, cut or padded to the size, or the label torn.
    """
    pairs, rng = [], np.random.default_rng(0)
    with tarfile.open(shared / 'data' / 'cmp_facades.tar') as tar:
        names = sorted(n for n in tar.getnames() if n.startswith('base/') and n.endswith('.png'))
        labels = [_ids(tar, name) - 1 for name in names[:4]]
    for label, other in zip(labels, labels[1:] + labels[:1]):
        fitted = np.zeros_like(label)
        part = other[:label.shape[0], :label.shape[1]]
        fitted[:part.shape[0], :part.shape[1]] = part
        pairs += [(12, label, fitted), (12, label, torn(rng, label, 12).astype(np.uint8))]
    with tarfile.open(shared / 'data' / 'format_samples.tar.xz') as tar:
        for name in sorted(n for n in tar.getnames() if '/SegmentationClass/' in n):
            label = _ids(tar, name)
            prediction = torn(rng, np.where(label == 255, 0, label), 21)
            pairs.append((21, label, prediction.astype(np.uint8)))
    return pairs


def real_cityscapes(shared):
    """(labelIds, instanceIds) of the real frame among the samples, uint8 and int32 [128,256]."""
    with tarfile.open(shared / 'data' / 'format_samples.tar.xz') as tar:
        name = next(n for n in tar.getnames() if n.endswith('_gtFine_labelIds.png'))
        instances = _ids(tar, name.replace('labelIds', 'instanceIds')).astype(np.int32)
        return _ids(tar, name), instances
