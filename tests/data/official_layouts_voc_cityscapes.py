"""Miniatures of the official layouts of PASCAL VOC 2012, SBD and Cityscapes; the real samples."""
import shutil
import tarfile

import numpy as np
from PIL import Image
from scipy.io import savemat

from data_layouts import draw_pair
from tf_advseg.data.official_specs import SPECS

TRAIN = ('2007_000001', '2007_000002', '2008_000003')
VAL = ('2007_000010', '2008_000011')
UNLABELLED = '2008_000099'
# SBD's lists are not VOC's: an image of VOC's val is in SBD's train, one of train in its val.
SBD_TRAIN = ('2008_000011', '2009_000021')
SBD_VAL = ('2009_000022', '2008_000003')
NUMBERS = {name: i for i, name in enumerate(
    TRAIN + VAL + (UNLABELLED,) + tuple(i for i in SBD_TRAIN + SBD_VAL if i.startswith('2009')))}

CITIES = {'train': ('aachen', 'ulm'), 'val': ('frankfurt',), 'test': ('berlin',)}


def voc_pair(name):
    """(image, label) of an image of the miniature as VOC labels it."""
    return draw_pair(NUMBERS[name], classes=21)


def sbd_label(name):
    """The label SBD gives the same image: other classes, and nothing ignored."""
    return (np.where(voc_pair(name)[1] == 255, 0, voc_pair(name)[1]) + 1).astype(np.uint8) % 21


def write_voc(folder):
    """VOC2012 with 3 images to train, 2 to validate, and more without a label."""
    for name in ('JPEGImages', 'SegmentationClass', 'SegmentationObject', 'ImageSets/Segmentation'):
        (folder / name).mkdir(parents=True)
    palette = np.array(SPECS['pascal_voc_2012'].palette, np.uint8).ravel().tolist()
    for name in NUMBERS:
        image, label = voc_pair(name)
        Image.fromarray(image).save(folder / 'JPEGImages' / f'{name}.jpg', quality=90)
        if name in TRAIN + VAL:
            png = Image.fromarray(label, 'P')
            png.putpalette(palette)
            png.save(folder / 'SegmentationClass' / f'{name}.png')
    for split, names in (('train', TRAIN), ('val', VAL), ('trainval', TRAIN + VAL)):
        (folder / 'ImageSets/Segmentation' / f'{split}.txt').write_text('\n'.join(names) + '\n')
    return folder


def write_sbd(folder):
    """benchmark_RELEASE/dataset: structs of Boundaries, Segmentation and CategoriesPresent."""
    (folder / 'cls').mkdir(parents=True)
    (folder / 'img').mkdir()
    for name in SBD_TRAIN + SBD_VAL:
        image, label = voc_pair(name)[0], sbd_label(name)
        boundaries = np.empty([20, 1], object)
        boundaries[:] = [[label == i] for i in range(1, 21)]
        savemat(folder / 'cls' / f'{name}.mat', {'GTcls': {
            'Boundaries': boundaries, 'Segmentation': label,
            'CategoriesPresent': np.unique(label[label > 0])[:, None]}}, do_compression=True)
        Image.fromarray(image).save(folder / 'img' / f'{name}.jpg', quality=90)
    for split, names in (('train', SBD_TRAIN), ('val', SBD_VAL)):
        (folder / f'{split}.txt').write_text('\n'.join(names) + '\n')
    return folder


def write_aug(folder):
    """SegmentationClassAug: grey PNGs of SBD's classes, and VOC's own for the images of val."""
    folder.mkdir(parents=True)
    for name in dict.fromkeys(SBD_TRAIN + SBD_VAL + TRAIN + VAL):
        label = voc_pair(name)[1] if name in VAL else sbd_label(name)
        Image.fromarray(label).save(folder / f'{name}.png')
    return folder


def city_maps(number):
    """(image, labelIds, instanceIds): all 34 ids; two objects a class that has objects."""
    image, drawn = draw_pair(number, classes=34)
    ids = np.where(drawn == 255, 0, drawn).astype(np.uint8)
    right = np.arange(ids.shape[1])[None] >= ids.shape[1] // 2
    objects = np.isin(ids, range(24, 34))
    return image, ids, np.where(objects, ids.astype(np.int32) * 1000 + right, ids)


def write_cityscapes(folder, images=2, only=('labelIds', 'instanceIds', 'labelTrainIds')):
    """leftImg8bit and gtFine with `images` a city; test has dummy labels, as published."""
    number = 0
    for split, cities in CITIES.items():
        for city in cities:
            for frame in range(images):
                image, ids, instances = city_maps(number)
                number += 1
                if split == 'test':
                    ids, instances = np.zeros_like(ids), np.zeros_like(instances)
                name = f'{city}_{frame:06d}_000019'
                maps = {'labelIds': ids, 'instanceIds': instances.astype(np.uint16),
                        'labelTrainIds': SPECS['cityscapes'].from_official(ids)}
                for kind in ('leftImg8bit', 'gtFine'):
                    (folder / kind / split / city).mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(
                    folder / 'leftImg8bit' / split / city / f'{name}_leftImg8bit.png')
                for kind in only:
                    Image.fromarray(maps[kind]).save(
                        folder / 'gtFine' / split / city / f'{name}_gtFine_{kind}.png')
    return folder


def unpack_samples(shared, folder, part):
    """A part of the shared archive of real files; returns its folder."""
    with tarfile.open(shared / 'data' / 'format_samples.tar.xz') as tar:
        members = [m for m in tar.getmembers() if f'/{part}/' in m.name]
        tar.extractall(folder, members=members, filter='data')
    return folder / 'format_samples' / part


def arrange_cityscapes(flat, folder):
    """The flat sample of one frame of Frankfurt, moved into the official layout of val."""
    for kind in ('leftImg8bit', 'gtFine'):
        (folder / kind / 'val' / 'frankfurt').mkdir(parents=True)
        for path in (flat / kind).glob('*.png'):
            shutil.copy(path, folder / kind / 'val' / 'frankfurt' / path.name)
    return folder
