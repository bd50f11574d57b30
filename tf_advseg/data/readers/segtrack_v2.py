"""SegTrack-v2: 14 video sequences with 24 objects (Li et al., ICCV 2013), as label maps."""
import re

import numpy as np

from tf_advseg.core.errors import UserError
from tf_advseg.data import split_files
from tf_advseg.data.readers import base
from tf_advseg.data.spec import DatasetSpec, default_palette

# sequence -> class of each of its objects, in the order of GroundTruth/<sequence>/1, 2, ...
OBJECTS = {
    'bird_of_paradise': ('bird',), 'birdfall': ('bird',), 'bmx': ('rider', 'bike'),
    'cheetah': ('deer', 'cheetah'), 'drift': ('car',) * 2, 'frog': ('frog',),
    'girl': ('girl',), 'hummingbird': ('hummingbird',) * 2, 'monkey': ('monkey',),
    'monkeydog': ('monkey', 'dog'), 'parachute': ('parachute',), 'penguin': ('penguin',) * 6,
    'soldier': ('soldier',), 'worm': ('worm',)}
_NAMES = ('background', *dict.fromkeys(name for names in OBJECTS.values() for name in names))

SPEC = DatasetSpec(
    name='segtrack_v2', class_names=_NAMES, palette=((0, 0, 0), *default_palette(len(_NAMES) - 1)),
    citation='F. Li, T. Kim, A. Humayun, D. Tsai, J. M. Rehg. Video Segmentation by Tracking Many '
             'Figure-Ground Segments. ICCV 2013.')

PICTURES = ('.png', '.jpg', '.jpeg', '.bmp')
MASKS = ('.png', '.bmp')
FRACTIONS = {'train': 0.6, 'val': 0.2, 'test': 0.2}
_THRESHOLD, _FAINT = 128, 16


class SegTrackV2Reader(base.FileReader):
    """Reads the official folder: `JPEGImages/<sequence>/<frame>` and `GroundTruth/<sequence>`.

    Masks lie in `GroundTruth/<sequence>/` where the sequence has one object, else in
    `GroundTruth/<sequence>/<number>/`. They go with the frame of the same name, whatever the
    suffix. Image ids are `<sequence>/<frame>`. Where there is `ImageSets/<sequence>.txt` (first
    line the folder, then a frame a line), it says which frames count, and their order.

    *Classes.* Durall et al. (section 4.4) have "16 classes, since we were treating repeated
    classes as one" and do not list them. Here, objects are named after their sequence and equal
    names are one class: bird (bird_of_paradise, birdfall), rider and bike (bmx), deer and cheetah
    (cheetah), car (drift, two), frog, girl, hummingbird (two), monkey (monkey, monkeydog), dog
    (monkeydog), parachute, penguin (six), soldier, worm; with the background 16, as VOC's 21 count
    it. That is our choice: without the background, 16 also come out where the two birds are told
    apart.

    *Masks* are antialiased pictures: a pixel belongs to an object from half of full white on.
    Where several objects claim a pixel the whiter mask has it, the first one at a tie. No pixel is
    ignored.

    *Splits.* The paper gives none. Frames of one sequence are near-copies of one another, so any
    split by frames tests on what was nearly seen: scores tell methods apart on known scenes, and
    say nothing of new ones. (A split by sequences is none: most classes have one sequence.)

    Args:
      source: the folder with JPEGImages and GroundTruth, or one above it.
      split: 'contiguous': each sequence's first frames are train, the next val, the last test, so
        that only the frames at the two cuts have neighbours across; 'random': frames drawn from
        each sequence by `seed`, which leaks most and may be what papers do; or a split file of
        your own.
      fractions: dict split -> share of each sequence's frames.
      seed: of the random split.

    Raises UserError for a missing folder, an unknown sequence, a frame without mask or the
    reverse, a split that does not fit.
    """

    def __init__(self, source, split='contiguous', fractions=None, seed=0):
        self.spec = SPEC
        self._split, self._fractions, self._seed = split, fractions or FRACTIONS, seed
        root = base.find_root(source, ('JPEGImages', 'GroundTruth'), 'the folder SegTrackv2')
        self._images, self._truths = root / 'JPEGImages', root / 'GroundTruth'
        self._pictures, self._masks, self._sequences = {}, {}, {}
        for folder in sorted(p for p in self._images.iterdir() if p.is_dir()):
            if not folder.name.startswith('.'):
                self._read_sequence(folder)
        if not self._pictures:
            raise UserError(f'{self._images}: no sequence with pictures in this folder')

    def _read_sequence(self, folder):
        """Finds a sequence's frames and the masks of its objects."""
        name = folder.name
        if name not in OBJECTS:
            raise UserError(f'{folder}: not a sequence of SegTrack-v2; expected one of '
                            f'{", ".join(OBJECTS)}')
        frames = _by_stem(folder, PICTURES)
        truths = base.require_folder(self._truths / name, f'the masks of {name}')
        count = len(OBJECTS[name])
        folders = [truths] if count == 1 and not (truths / '1').is_dir() else [
            base.require_folder(truths / str(i + 1), f'the masks of object {i + 1} of {count}')
            for i in range(count)]
        masks = [_by_stem(where, MASKS) for where in folders]
        order = _listed_frames(self._images.parent / 'ImageSets' / f'{name}.txt')
        if order is None:
            order = sorted({*frames, *(i for found in masks for i in found)}, key=_natural)
        for found, where in ((frames, folder), *zip(masks, folders)):
            for frame in order:
                if frame not in found:
                    raise UserError(f'{where}: frame {frame} is missing; complete the data')
        self._sequences[name] = [f'{name}/{frame}' for frame in order]
        for frame in order:
            self._pictures[f'{name}/{frame}'] = frames[frame]
            self._masks[f'{name}/{frame}'] = tuple(found[frame] for found in masks)

    def splits(self):
        """The chosen split; every part holds frames of every sequence."""
        if self._split in ('contiguous', 'random'):
            return split_files.frames_split(self._sequences, self._fractions, self._seed,
                                            contiguous=self._split == 'contiguous')
        return split_files.chosen_split(self._split, self._pictures, self._images, SPEC.name,
                                        ('contiguous', 'random'))

    def picture_path(self, image_id):
        """See `FileReader.picture_path`."""
        if image_id not in self._pictures:
            raise UserError(f'{self._images}: no frame "{image_id}"')
        return self._pictures[image_id]

    def label_path(self, image_id):
        """The first object's mask; `files` names them all."""
        self.picture_path(image_id)
        return self._masks[image_id][0]

    def files(self, image_id):
        """See `Reader.files`."""
        return (self.picture_path(image_id), *self._masks[image_id])

    def read_label(self, image_id):
        """See `FileReader.read_label`; masks of several sizes are a UserError."""
        first = self.label_path(image_id)
        names = OBJECTS[image_id.split('/')[0]]
        best = label = None
        for name, path in zip(names, self._masks[image_id]):
            white = base.read_picture(path).max(axis=-1)
            if 0 < white.max() < _FAINT:
                raise UserError(f'{path}: the highest value is {white.max()}, expected a mask '
                                'whose objects are white (255), not ids')
            if best is None:
                best, label = np.zeros_like(white), np.zeros_like(white)
            if white.shape != best.shape:
                raise UserError(f'{path}: mask is {white.shape[1]}x{white.shape[0]}, but {first} '
                                f'is {best.shape[1]}x{best.shape[0]}; expected one size')
            ours = (white >= _THRESHOLD) & (white > best)
            label[ours] = _NAMES.index(name)
            best = np.maximum(best, white)
        return label


def _by_stem(folder, suffixes):
    """dict name without suffix -> file; UserError where two files have one name."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in suffixes and not path.name.startswith('.'):
            if path.stem in found:
                raise UserError(f'{path}: has the same name as {found[path.stem].name}; keep one '
                                'file a frame')
            found[path.stem] = path
    if not found:
        raise UserError(f'{folder}: no file ({", ".join(suffixes)}) in this folder')
    return found


def _listed_frames(path):
    """The frames a list of the data set names, in order; None where there is no such list."""
    if not path.is_file():
        return None
    lines = [line.strip() for line in path.read_text('utf-8', 'replace').splitlines()]
    frames = list(dict.fromkeys(line for line in lines[1:] if line))
    if not frames:
        raise UserError(f'{path}: lists no frame; expected the folder, then a frame a line')
    return frames


def _natural(text):
    """Sort key that takes runs of digits as numbers: frame 10 comes after frame 9."""
    return [(int(part), '') if part.isdigit() else (-1, part)
            for part in re.split(r'(\d+)', text) if part]
