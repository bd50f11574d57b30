"""Miniatures of the official layouts of ADE20K, CMP Facades and SegTrack-v2."""
import numpy as np
from PIL import Image

from data_layouts import draw_pair

CMP_NAMES = ('background', 'facade', 'window', 'door', 'cornice', 'sill', 'balcony', 'blind',
             'deco', 'molding', 'pillar', 'shop')


def save(path, pixels, palette=None, **options):
    """Writes an array as an image, as a palette PNG where a palette is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette is not None:
        image = Image.fromarray(pixels, 'P')
        image.putpalette([int(v) for v in np.asarray(palette).ravel()])
    image.save(path, **options)


def write_ade20k(folder, counts=(3, 2)):
    """ADEChallengeData2016 with ids 1, 51, 101, 150 and 0 where the drawn label is ignored."""
    number = 0
    for (split, short), count in zip((('training', 'train'), ('validation', 'val')), counts):
        for i in range(count):
            image, label = draw_pair(number)
            ids = np.array([1, 51, 101, 150], np.uint8)[np.minimum(label, 3)]
            ids[label == 255] = 0
            name = f'ADE_{short}_{i + 1:08d}'
            save(folder / 'images' / split / f'{name}.jpg', image, quality=90)
            save(folder / 'annotations' / split / f'{name}.png', ids)
            number += 1
    (folder / 'objectInfo150.txt').write_text('Idx\tRatio\tTrain\tVal\tName\n')
    return folder


def write_cmp(folder, base=4, extended=3):
    """base/ and extended/ with palette PNGs of ids 1..12, and label_names.txt beside them."""
    names = [f'base/cmp_b{i + 1:04d}' for i in range(base)]
    names += [f'extended/cmp_x{i + 1:04d}' for i in range(extended)]
    palette = np.random.default_rng(0).integers(0, 256, [256, 3])
    for number, name in enumerate(names):
        image, label = draw_pair(number, classes=12)
        label[label == 255] = 0
        save(folder / f'{name}.jpg', image, quality=90)
        save(folder / f'{name}.png', label + 1, palette)
        (folder / f'{name}.xml').write_text('<object/>')
    lines = [f'{i + 1} {name} {i}' for i, name in enumerate(CMP_NAMES)]
    (folder / 'label_names.txt').write_text('\n'.join(lines) + '\n')
    return folder


def write_segtrack(folder, frames=5, sequences=('bmx', 'frog', 'penguin'), objects=None):
    """JPEGImages and GroundTruth; frames are named as videos are, and not padded with zeros.

    Object k covers rows 5k..5k+6 of the frame, so that neighbours overlap by two rows; its upper
    edge is antialiased (100, then 200, then white).
    """
    objects = objects or {'bmx': 2, 'frog': 1, 'penguin': 6}
    for sequence in sequences:
        for frame in range(frames):
            image = draw_pair(0)[0]
            name = f'{sequence}_{frame + 7}'
            suffix = '.bmp' if sequence == 'penguin' else '.png'
            save(folder / 'JPEGImages' / sequence / (name + suffix), image)
            for k in range(objects[sequence]):
                mask = np.zeros_like(image)
                mask[5 * k:5 * k + 7] = np.array([100, 200, 255, 255, 255, 255, 255])[:, None,
                                                                                     None]
                place = folder / 'GroundTruth' / sequence
                save((place if objects[sequence] == 1 else place / str(k + 1)) / f'{name}.png',
                     mask)
    return folder
