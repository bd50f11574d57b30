"""What is known of a data set besides its pictures: class names, colours, ids."""
import colorsys
import dataclasses
from typing import Optional, Tuple

from tf_advseg.core.errors import UserError

IGNORE_LABEL = 255

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
      version: changes whenever the same ids would give other pictures or labels.
      citation: whom to cite for the data.

    Raises UserError when the lengths disagree or a number is out of range.
    """
    name: str
    class_names: Tuple[str, ...]
    palette: Tuple[Tuple[int, int, int], ...]
    ignore_label: int = IGNORE_LABEL
    official_ids: Optional[Tuple[int, ...]] = None
    version: str = '1'
    citation: str = ''

    def __post_init__(self):
        # Lists come from gin files and JSON; tuples keep the object hashable and frozen.
        set_field = lambda name, value: object.__setattr__(self, name, value)
        set_field('class_names', tuple(str(name) for name in self.class_names))
        set_field('palette', tuple(tuple(int(v) for v in colour) for colour in self.palette))
        if self.official_ids is not None:
            set_field('official_ids', tuple(int(i) for i in self.official_ids))
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

    @property
    def num_classes(self):
        """The number of classes C; train ids are 0..C-1."""
        return len(self.class_names)

    def to_json(self):
        """The specification as a dict of lists, strings and numbers, for JSON."""
        fields = dataclasses.asdict(self)
        fields['class_names'] = list(self.class_names)
        fields['palette'] = [list(colour) for colour in self.palette]
        if self.official_ids is not None:
            fields['official_ids'] = list(self.official_ids)
        return fields

    @classmethod
    def from_json(cls, fields):
        """The inverse of `to_json`; UserError where fields are missing or unknown."""
        try:
            return cls(**fields)
        except TypeError as error:
            raise UserError(f'not a data set specification: {error}') from None
