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

IMAGES = ('.png', '.jpg', '.jpeg', '.bmp')
MASKS = ('.png', '.bmp')
FRACTIONS = {'train': 0.6, 'val': 0.2, 'test': 0.2}
_THRESHOLD, _FAINT = 128, 16


class SegTrackV2Reader(base.FileReader):
    """Reads the official folder: `JPEGImages/<sequence>/<frame>` and `GroundTruth/<sequence>`.

    Masks lie in `GroundTruth/<sequence>/` where the sequence has one object, else in
    `GroundTruth/<sequence>/<number>/`. They go with the frame of the same name, whatever the
    suffix. Image ids are `<sequence>/<frame>`. Where there is `ImageSets/<sequence>.txt` (a frame
    a line, after a first line that names the folder), it says which frames count, and their order.

    *Classes.* Durall et al. (section 4.4) have "16 classes, since we were treating repeated
    classes as one" and do not list them. Here, objects are named after their sequence and equal
    names are one class: bird (bird_of_paradise, birdfall), rider and bike (bmx), deer and cheetah
    (cheetah), car (drift, two), frog, girl, hummingbird (two), monkey (monkey, monkeydog), dog
    (monkeydog), parachute, penguin (six), soldier, worm; with the background 16, as VOC's 21 count
    it. That is our choice: without the background, 16 also come out where the two birds are two
    classes.

    *Masks* are antialiased images: a pixel belongs to an object from half of full white on.
    Where several objects claim a pixel the whiter mask has it, the first one at a tie. No pixel is
    ignored.

    *Splits.* The paper gives none. Frames of one sequence are near-copies of one another, so any
    split by frames tests on what was nearly seen: scores compare methods on known scenes, and
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
        self._split, self._seed = split, seed
        self._fractions = FRACTIONS if fractions is None else fractions
        root = base.find_root(source, ('JPEGImages', 'GroundTruth'), 'the folder SegTrackv2')
        self._images, self._truths = root / 'JPEGImages', root / 'GroundTruth'
        self._paths, self._masks, self._sequences = {}, {}, {}
        for folder in sorted(p for p in self._images.iterdir() if p.is_dir()):
            if not folder.name.startswith('.'):
                self._read_sequence(folder)
        if not self._paths:
            raise UserError(f'{self._images}: no sequence with images in this folder')

    def _read_sequence(self, folder):
        """Finds a sequence's frames and the masks of its objects."""
        name = folder.name
        if name not in OBJECTS:
            raise UserError(f'{folder}: not a sequence of SegTrack-v2; expected one of '
                            f'{", ".join(OBJECTS)}')
        frames = _frame_files(folder, IMAGES)
        truths = base.require_folder(self._truths / name, f'the masks of {name}')
        count = len(OBJECTS[name])
        folders = [truths] if count == 1 and not (truths / '1').is_dir() else [
            base.require_folder(truths / str(i + 1), f'the masks of object {i + 1} of {count}')
            for i in range(count)]
        masks = [_frame_files(where, MASKS) for where in folders]
        there = {*frames, *(i for found in masks for i in found)}
        order = _listed_frames(self._images.parent / 'ImageSets' / f'{name}.txt', there)
        if order is None:
            order = sorted(there, key=_natural)
        for found, where in ((frames, folder), *zip(masks, folders)):
            for frame in order:
                if frame not in found:
                    raise UserError(f'{where}: frame {frame} is missing; complete the data')
        self._sequences[name] = [f'{name}/{frame}' for frame in order]
        for frame in order:
            self._paths[f'{name}/{frame}'] = frames[frame]
            self._masks[f'{name}/{frame}'] = tuple(found[frame] for found in masks)

    def splits(self):
        """The chosen split; every part holds frames of every sequence."""
        if self._split in ('contiguous', 'random'):
            return split_files.frames_split(self._sequences, self._fractions, self._seed,
                                            contiguous=self._split == 'contiguous')
        return split_files.chosen_split(self._split, self._paths, self._images, SPEC.name,
                                        ('contiguous', 'random'))

    def image_path(self, image_id):
        """See `FileReader.image_path`."""
        if image_id not in self._paths:
            raise UserError(f'{self._images}: no frame "{image_id}"')
        return self._paths[image_id]

    def label_path(self, image_id):
        """The first object's mask; `files` names them all."""
        self.image_path(image_id)
        return self._masks[image_id][0]

    def files(self, image_id):
        """See `Reader.files`."""
        return (self.image_path(image_id), *self._masks[image_id])

    def read_label(self, image_id):
        """See `FileReader.read_label`; masks of several sizes are a UserError."""
        first = self.label_path(image_id)
        names = OBJECTS[image_id.split('/')[0]]
        best = label = None
        for name, path in zip(names, self._masks[image_id]):
            white = base.read_image(path).max(axis=-1)
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


def _frame_files(folder, suffixes):
    """dict frame -> file; UserError where there is none, or two of one frame."""
    found = base.files_by_stem(folder, suffixes)
    if not found:
        raise UserError(f'{folder}: no file ({", ".join(suffixes)}) in this folder')
    return found


def _listed_frames(path, there):
    """The frames a list of the data set names, in order; None where there is no such list.

    The first line names the folder; lists without it are read too: it is a frame if it is one of
    those `there`.
    """
    if not path.is_file():
        return None
    lines = [line.strip() for line in path.read_text('utf-8-sig', 'replace').splitlines()]
    if lines and lines[0] not in there:
        del lines[0]
    frames = list(dict.fromkeys(line for line in lines if line))
    if not frames:
        raise UserError(f'{path}: lists no frame; expected the folder, then a frame a line')
    return frames


def _natural(text):
    """Sort key that takes runs of digits as numbers: frame 10 comes after frame 9."""
    return [(int(part), '') if part.isdigit() else (-1, part)
            for part in re.split(r'(\d+)', text) if part]
