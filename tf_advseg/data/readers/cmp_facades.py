"""CMP Facades: 606 rectified facades in 12 classes (Tyleček and Šára, GCPR 2013)."""
from tf_advseg.core.errors import UserError
from tf_advseg.data import split_files
from tf_advseg.data.readers import base
from tf_advseg.data.readers import resizing
from tf_advseg.data.spec import DatasetSpec

# In the order of the official ids 1..12 (label_names.txt); Zhu et al., section 4.1.1, subtract 1.
# The colours are those of the published palette PNGs.
SPEC = DatasetSpec(
    name='cmp_facades',
    class_names=('background', 'facade', 'window', 'door', 'cornice', 'sill', 'balcony', 'blind',
                 'deco', 'molding', 'pillar', 'shop'),
    palette=((0, 0, 170), (0, 0, 255), (0, 85, 255), (0, 170, 255), (0, 255, 255),
             (85, 255, 170), (170, 255, 85), (255, 255, 0), (255, 170, 0), (255, 85, 0),
             (255, 0, 0), (170, 0, 0)),
    official_ids=range(1, 13),
    citation='R. Tyleček, R. Šára. Spatial Pattern Templates for Recognition of Objects with '
             'Regular Structure. GCPR 2013.')

_PARTS = ('base', 'extended')
_NAMES = 'label_names.txt'


class CmpFacadesReader(base.FileReader):
    """Reads the official folders: `base/cmp_b*.jpg|png` and `extended/cmp_x*.jpg|png`.

    Args:
      source: a folder that both lie in or below.
      split: a list of data/split_files.py, or a split file of your own. There is no official
        split, and Zhu et al. (section 4.1.1) give neither sizes nor lists. 'cmp' (400 train, 100
        val, 106 test of both folders) has the sizes pix2pix made usual for this data;
        'base_extended' trains and chooses on `base` (302 train, 76 val) and tests on `extended`
        (228), whose facades are more varied. Both lists are ours, drawn at random with seed 0.
      longest_side: images (bilinear) and labels (nearest) are resized when they are read, see
        `resizing`, so that the longer side has this many pixels; the shape stays, and smaller ones
        stay as they are. Zhu et al. (section 4.2) train on a "fix-size input image" by "crop,
        flip or resize" and print no size; ours is for runs that cannot afford 1024 pixels. Scores
        are then of labels at this size. None: as published.

    Raises:
      UserError: a missing folder, images and labels that do not pair up, a label_names.txt with
        other classes, a split that does not fit, a bad longest_side.
    """

    def __init__(self, source, split='cmp', longest_side=None):
        self.spec = SPEC
        self._longest_side = resizing.require_longest_side(SPEC.name, longest_side)
        self._folders, self._part, files = {}, {}, {}
        for part in _PARTS:
            root = base.find_root(source, (part,), f'CMP_facade_DB_{part} with the folder {part}')
            self._folders[part] = folder = root / part
            _check_names(root / _NAMES)
            _check_names(folder / _NAMES)
            files[part] = found = {suffix: base.files_by_stem(folder, (suffix,))
                                   for suffix in ('.jpg', '.png')}
            if not found['.jpg']:
                raise UserError(f'{folder}: no image *.jpg in this folder')
            for image_id in (*found['.jpg'], *found['.png']):
                if self._part.setdefault(image_id, part) != part:
                    raise UserError(f'{folder / image_id}: lies in both {" and ".join(_PARTS)}')
        self._files = {suffix: {**files['base'][suffix], **files['extended'][suffix]}
                       for suffix in ('.jpg', '.png')}
        for found in files.values():
            base.pair_up(found['.jpg'], found['.png'], self.image_path, self.label_path)
        self._split = split

    def splits(self):
        """The splits of the chosen list; UserError if it does not fit the images."""
        return split_files.chosen_split(self._split, self._part, self._folders['base'].parent,
                                        SPEC.name)

    def image_path(self, image_id):
        """See `FileReader.image_path`."""
        return self._path(image_id, '.jpg')

    def label_path(self, image_id):
        """See `FileReader.label_path`."""
        return self._path(image_id, '.png')

    def load(self, image_id):
        """See `FileReader.load`; no longer than asked for."""
        image, label = super().load(image_id)
        size = resizing.within(label.shape, self._longest_side)
        if size == label.shape:
            return image, label
        return resizing.bilinear(image, size), resizing.nearest(label, size)

    def encoded_image(self, image_id):
        """See `FileReader.encoded_image`; none with longest_side: the bytes may be of more."""
        return super().encoded_image(image_id) if self._longest_side is None else None

    def read_label(self, image_id):
        """See `FileReader.read_label`, of the size in the file; an id outside 1..12 is a
        UserError, there is no ignore.
        """
        path = self.label_path(image_id)
        ids = base.read_id_png(path)
        if ids.size and not 1 <= ids.min() <= ids.max() <= SPEC.num_classes:
            outside = ids.min() if ids.min() < 1 else ids.max()
            raise UserError(f'{path}: label id {outside} is out of range; expected 1 to '
                            f'{SPEC.num_classes}')
        return SPEC.from_official(ids)

    def _path(self, image_id, suffix):
        """The file of an image with this suffix."""
        if image_id not in self._part:
            raise UserError(f'{self._folders["base"].parent}: no image "{image_id}"')
        place = self._folders[self._part[image_id]]
        return self._files[suffix].get(image_id, place / (image_id + suffix))


def _check_names(path):
    """UserError if there is a label_names.txt (lines of id, name, drawing order) with others."""
    if not path.is_file():
        return
    lines = [line.split() for line in path.read_text('utf-8-sig', 'replace').splitlines()]
    named = {words[0]: words[1] for words in lines if len(words) >= 2}
    expected = {str(number): name for number, name in zip(SPEC.official_ids, SPEC.class_names)}
    if named != expected:
        differs = next(number for number in (*expected, *named)
                       if named.get(number) != expected.get(number))
        raise UserError(f'{path}: class {differs} is "{named.get(differs, "missing")}", expected '
                        f'"{expected.get(differs, "none")}"; this is another version of the data')
