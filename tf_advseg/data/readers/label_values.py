"""Which class a value in a label of one's own stands for, and what values without a list mean."""
import dataclasses
import math
from typing import Optional, Tuple

import numpy as np

from tf_advseg.core.errors import UserError
from tf_advseg.data.spec import IGNORE_LABEL

_STRETCHED = 10  # a step from one class's value to the next that nobody counts by
_MOST = 32  # values that an option can list


class OnePastTheLastError(UserError):
    """A label whose only foreign value is the number of classes: an id for pixels to ignore?

    Attributes:
      value: that id.
    """

    def __init__(self, message, value):
        super().__init__(message)
        self.value = value


@dataclasses.dataclass(frozen=True)
class LabelValues:
    """How the values of labels are read.

    Attributes:
      ignore_label: the value of pixels that count nowhere; 255 is one, too, unless it is a class.
      values: the values of the classes 0, 1, ...; None where a class's value is its number.
    """
    ignore_label: int = IGNORE_LABEL
    values: Optional[Tuple[int, ...]] = None

    def __post_init__(self):
        values = self.values
        if values is not None and not (
                values and all(isinstance(value, int) and 0 <= value <= 255 for value in values)
                and len(set(values)) == len(values)):
            raise UserError(f'folder: label_values is {list(values)!r}, expected different whole '
                            'numbers from 0 to 255, one a class, as [0,255]')

    def train_ids(self, values, path, num_classes):
        """Train ids uint8 [H, W] of a label's values; UserError, with advice, for one outside."""
        if self.values is not None and len(self.values) != num_classes:
            raise UserError(f'{path}: label_values has {len(self.values)} values, but there are '
                            f'{num_classes} classes; give one a class')
        table = np.full(256, -1, np.int16)
        table[IGNORE_LABEL] = IGNORE_LABEL
        known = range(num_classes) if self.values is None else self.values
        table[list(known)] = np.arange(num_classes)
        if self.values is None or self.ignore_label not in self.values:
            table[[self.ignore_label] if 0 <= self.ignore_label <= 255 else []] = IGNORE_LABEL
        ids = table[values]
        outside = np.unique(values[ids < 0])
        if outside.size:
            expected = (f'0 to {num_classes - 1}' if self.values is None
                        else f'one of {list(self.values)}')
            message = (f'{path}: label id {outside[0]} is out of range; expected {expected}, or '
                       f'{self.ignore_label} for pixels to ignore')
            if self.values is None and outside.tolist() == [num_classes]:
                raise OnePastTheLastError(
                    f'{message}; if {num_classes} means pixels to ignore, add '
                    f'--option=ignore_label={num_classes} (in train: dataset.options), if it is a '
                    'class, name it', num_classes)
            raise UserError(message)
        return ids.astype(np.uint8)

    def num_classes(self, present, where):
        """How many classes there are by the values of all labels.

        Args:
          present: the values that some label has, a set.
          where: the folder of the labels, for messages.

        Returns:
          (number, remark or '').

        Raises:
          UserError: no pixel counts, or the values are masks or stretched ids, not numbers of
            classes; says the option that reads them.
        """
        if self.values is not None:
            return len(self.values), ''
        counted = sorted(present - {self.ignore_label, IGNORE_LABEL})
        if not counted:
            raise UserError(f'{where}: every pixel is ignored, so the number of classes is not '
                            'known; give class_names or num_classes')
        white = IGNORE_LABEL in present
        if counted == [0] and white:
            raise UserError(f'{where}: all labels hold 0 and 255 alone, and 255 is ignored: masks '
                            'of two classes? add --option=label_values=[0,255] (in train: '
                            'dataset.options), or num_classes=1 if there is one class')
        step = math.gcd(*counted) if len(counted) > 1 and counted[0] == 0 else 0
        if step >= _STRETCHED:
            values = counted + ([IGNORE_LABEL] if white and IGNORE_LABEL % step == 0 else [])
            raise UserError(f'{where}: the labels hold the values {_listed(values)}, which would '
                            f'be {counted[-1] + 1} classes; are these {len(values)} classes? add '
                            f'--option=label_values=[{_joined(values)}] (in train: '
                            'dataset.options), else num_classes')
        number, remark = counted[-1] + 1, ''
        if number > 2 * len(counted):
            remark = (f'; only {len(counted)} of these ids are in the labels' + (
                f' (--option=label_values=[{_joined(counted)}] counts them alone)'
                if len(counted) <= _MOST else ''))
        return number, remark

    def void_question(self, present, labels):
        """A question, or '', about a highest id that looks like pixels to ignore.

        An id is asked about that all labels hold, while other ids are in some labels alone, and
        255, the usual value to ignore, in none.

        Args:
          present: dict value -> number of labels that hold it.
          labels: how many labels there are.
        """
        ids = sorted(set(present) - {self.ignore_label, IGNORE_LABEL})
        if (self.values is not None or IGNORE_LABEL in present or len(ids) < 3
                or present[ids[-1]] < labels or all(present[i] == labels for i in ids)):
            return ''
        return (f'; the last of them, {ids[-1]}, is in all {labels} labels: are these pixels to be '
                f'ignored? add --option=ignore_label={ids[-1]} (in train: dataset.options)')


def _joined(values):
    return ','.join(map(str, values))


def _listed(values):
    """'0, 128'; of many the first."""
    return ', '.join(map(str, values[:8])) + (', ...' if len(values) > 8 else '')
