"""What is known of a data set besides its images: class names, colours, ids."""
import colorsys
import dataclasses
from typing import Optional, Tuple

import numpy as np

from tf_advseg.core.errors import UserError, require_one_of

IGNORE_LABEL = 255
ABSENT = ('left_out', 'zero')

_BASE_COLOURS = (
    (88, 112, 168), (232, 152, 72), (96, 168, 104), (200, 88, 88), (152, 120, 192),
    (144, 104, 80), (224, 136, 184), (128, 128, 128), (192, 184, 72), (72, 176, 192))


def default_palette(num_classes):
    """Distinct, muted colours for `num_classes` classes: tuple of (r, g, b) in 0..255.

    The first ten are chosen by hand; further ones walk round the hue circle by the golden
    ratio, which keeps neighbours in the list far apart in colour.
    """
    colours = list(_BASE_COLOURS[:num_classes])
    for i in range(len(colours), num_classes):
        saturation, value = ((0.55, 0.85), (0.75, 0.65), (0.4, 0.7))[i % 3]
        red, green, blue = colorsys.hsv_to_rgb(i * 0.61803398875 % 1.0, saturation, value)
        colours.append((round(red * 255), round(green * 255), round(blue * 255)))
    return tuple(colours)


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """Names, colours and ids of a data set's classes; train id i is the i-th class.

    Attributes:
      name: the data set's name, as in `--dataset`.
      class_names: one name per train id.
      palette: one (r, g, b) in 0..255 per train id.
      ignore_label: the label of pixels that count nowhere; 255 in every record.
      official_ids: the data set's own id of each train id, None where they are the same.
      version: changes whenever the same ids would give other images or labels.
      citation: whom to cite for the data.
      categories: the name of each class's category, None where the data set has none.
      instance_classes: train ids of the classes whose objects are separated.
      absent: how the data set's official evaluator averages the IoU of a class that is in neither
        truth nor prediction: 'left_out' of the mean, or as 'zero'.
      numbering: whose ids `official_ids` are, where that is not `name`: several specifications
        may number one data set's classes differently.
      official_ignore: the data set's own id that stands for train id 255.
      official_void: further ids of the data set (-1..255) that count nowhere.

    Raises UserError when the lengths disagree or a number is out of range.
    """
    name: str
    class_names: Tuple[str, ...]
    palette: Tuple[Tuple[int, int, int], ...]
    ignore_label: int = IGNORE_LABEL
    official_ids: Optional[Tuple[int, ...]] = None
    version: str = '1'
    citation: str = ''
    categories: Optional[Tuple[str, ...]] = None
    instance_classes: Tuple[int, ...] = ()
    absent: str = 'left_out'
    numbering: str = ''
    official_ignore: int = IGNORE_LABEL
    official_void: Tuple[int, ...] = ()

    def __post_init__(self):
        try:
            self._as_tuples()
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(f'data set {self.name}: class_names, palette or ids of another kind '
                            f'than expected ({error})') from None
        self._check_classes()
        self._check_numbers()

    def _as_tuples(self):
        """Lists come from gin files and JSON; tuples keep the object hashable and frozen."""
        set_field = lambda name, value: object.__setattr__(self, name, value)
        set_field('name', str(self.name))
        set_field('version', str(self.version))
        set_field('class_names', tuple(str(name) for name in self.class_names))
        set_field('palette', tuple(tuple(int(v) for v in colour) for colour in self.palette))
        if self.official_ids is not None:
            set_field('official_ids', tuple(int(i) for i in self.official_ids))
        if self.categories is not None:
            set_field('categories', tuple(str(name) for name in self.categories))
        set_field('instance_classes', tuple(int(i) for i in self.instance_classes))
        set_field('official_void', tuple(int(i) for i in self.official_void))
        set_field('official_ignore', int(self.official_ignore))

    def _check_classes(self):
        """UserError where what is given once a class is not."""
        count = len(self.class_names)
        if not 1 <= count <= 255:
            raise UserError(f'data set {self.name}: {count} classes, expected 1 to 255 '
                            '(labels are 8-bit and 255 means ignore)')
        twice = sorted({n for n in self.class_names if self.class_names.count(n) > 1})
        if twice:
            raise UserError(f'data set {self.name}: class name "{twice[0]}" is given twice')
        if len(self.palette) != count:
            raise UserError(f'data set {self.name}: {len(self.palette)} colours for {count} '
                            'classes, expected one (r, g, b) for each class')
        for colour in self.palette:
            if len(colour) != 3 or min(colour) < 0 or max(colour) > 255:
                raise UserError(f'data set {self.name}: {colour} in the palette is not '
                                '(r, g, b) in 0..255')
        if self.official_ids is not None and len(self.official_ids) != count:
            raise UserError(f'data set {self.name}: {len(self.official_ids)} official ids for '
                            f'{count} classes, expected one for each class')
        if self.categories is not None and len(self.categories) != count:
            raise UserError(f'data set {self.name}: {len(self.categories)} categories for {count} '
                            'classes, expected one for each class')

    def _check_numbers(self):
        """UserError for ids that are out of range or stand for two things."""
        where = f'data set {self.name}'
        require_one_of(f'{where}: rule for absent classes', self.absent, ABSENT)
        for train_id in self.instance_classes:
            if not 0 <= train_id < self.num_classes:
                raise UserError(f'{where}: {train_id} in instance_classes is no train id; '
                                f'expected 0 to {self.num_classes - 1}')
        official = self._official()
        for ids, low in ((official, 0), ((self.official_ignore,), 0), (self.official_void, -1)):
            outside = [i for i in ids if not low <= i <= 255]
            if outside:
                raise UserError(f'{where}: official id {outside[0]} is out of range; expected '
                                f'{low} to 255 (labels are 8-bit)')
        twice = sorted({i for i in official if official.count(i) > 1})
        if twice:
            raise UserError(f'{where}: official id {twice[0]} is given to two classes')
        both = sorted(set(official) & set(self.official_void))
        if both:
            raise UserError(f'{where}: official id {both[0]} is a class and in official_void')

    @property
    def num_classes(self):
        """The number of classes C; train ids are 0..C-1."""
        return len(self.class_names)

    @property
    def category_names(self):
        """The categories in the order of their first class; () where there are none."""
        return tuple(dict.fromkeys(self.categories or ()))

    def to_official(self, ids):
        """Train ids as the data set's own ids, as its evaluation server wants them.

        Args:
          ids: integers of any shape, 0..C-1 or 255.

        Returns:
          uint8 array of that shape; 255 is `official_ignore`. UserError for another train id.
        """
        ids = np.asarray(ids)
        table = np.full(256, self.official_ignore, np.uint8)
        table[:self.num_classes] = self._official()
        known = np.zeros(256, bool)
        known[:self.num_classes] = known[IGNORE_LABEL] = True
        _require_known(ids, known, f'data set {self.name}: train id',
                       f'0 to {self.num_classes - 1}, or {IGNORE_LABEL} for pixels to ignore')
        return table[ids]

    def from_official(self, ids):
        """The data set's own ids as train ids.

        An id that is both a class's and `official_ignore` (class 0 of the official zoo's ADE20K,
        say) counts nowhere, as in the code that trained such networks.

        Args:
          ids: integers of any shape: official ids, `official_ignore` or one of `official_void`.

        Returns:
          uint8 array of that shape; 255 where the pixel counts nowhere. UserError for an id the
          data set does not have.
        """
        ids = np.asarray(ids)
        # 257 entries, so that -1 (Cityscapes' license plate) finds the last one by itself.
        table, known = np.full(257, IGNORE_LABEL, np.uint8), np.zeros(257, bool)
        official = self._official()
        table[list(official)] = np.arange(self.num_classes)
        table[self.official_ignore] = IGNORE_LABEL
        known[[*official, self.official_ignore, *self.official_void]] = True
        _require_known(ids, known, f'data set {self.name}: official id',
                       f'{min(official)} to {max(official)}, or {self.official_ignore} for pixels '
                       'to ignore')
        return table[ids]

    def translation(self, other):
        """Where our classes are among another specification's of the same data set.

        Args:
          other: DatasetSpec.

        Returns:
          int64 [C]: `other`'s train id of each of ours, by official id, -1 where it has none.
          (A network of ours that says such a class on a labelled pixel is wrong there: a caller
          must not let the pixel out.)

        Raises:
          UserError: they do not number the classes of one data set.
        """
        ours, theirs = self.numbering or self.name, other.numbering or other.name
        if ours != theirs:
            raise UserError(f'classes of data set {self.name} cannot be expressed as those of '
                            f'{other.name}: they are no two numberings of one data set')
        place = {official: i for i, official in enumerate(other._official())}
        result = np.array([place.get(official, -1) for official in self._official()], np.int64)
        for mine, its in zip(self.class_names, result):
            if its >= 0 and mine != other.class_names[its]:
                raise UserError(
                    f'classes of data set {self.name} cannot be expressed as those of '
                    f'{other.name}: "{mine}" has the official id of "{other.class_names[its]}"')
        return result

    def _official(self):
        """The data set's own id of each train id, as a tuple."""
        return tuple(range(self.num_classes)) if self.official_ids is None else self.official_ids

    def to_json(self):
        """The specification as a dict of lists, strings and numbers, for JSON.

        Fields that came with issue 4 are left out at their defaults: what older manifests and
        checksums say of a data set stays as it was.
        """
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)
                  if f.name not in _LATER or getattr(self, f.name) != f.default}
        fields['palette'] = [list(colour) for colour in self.palette]
        return {name: list(value) if isinstance(value, tuple) else value
                for name, value in fields.items()}

    @classmethod
    def from_json(cls, fields, path=None):
        """The inverse of `to_json`.

        Args:
          fields: dict.
          path: the file they are of, for messages.

        Raises:
          UserError: fields are missing, unknown, or of another kind.
        """
        where = '' if path is None else f'{path}: '
        try:
            return cls(**fields)
        except UserError as error:
            raise UserError(f'{where}{error}') from None
        except TypeError as error:
            raise UserError(f'{where}not a data set specification: {error}') from None


_LATER = ('categories', 'instance_classes', 'absent', 'numbering', 'official_ignore',
          'official_void')


def _require_known(ids, known, what, expected):
    """UserError for the first of `ids` that is not marked in `known` (whose last may be -1)."""
    if not np.issubdtype(ids.dtype, np.integer):
        raise UserError(f'{what}s are {ids.dtype}, expected whole numbers')
    if not ids.size:
        return
    lowest, highest = int(ids.min()), int(ids.max())
    if lowest < 256 - len(known) or highest > 255:
        outside = lowest if lowest < 256 - len(known) else highest
    else:
        present = np.unique(ids)
        outside = present[~known[present]]
        if not outside.size:
            return
        outside = int(outside[0])
    raise UserError(f'{what} {outside} is out of range; expected {expected}')


def unnamed(num_classes):
    """The DatasetSpec of classes of which nothing but their number is known."""
    return DatasetSpec('unnamed', [f'class {i}' for i in range(num_classes)],
                       default_palette(num_classes))
