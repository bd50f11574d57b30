"""Checks of what a network's builder was given: one line that names builder and argument."""
import math
import numbers
import os

from tf_advseg.core.errors import UserError


def require(builder, good, argument, value, expected):
    """Raises UserError '<builder>: <argument> is <value>, expected <expected>' unless `good`."""
    if not good:
        raise UserError(f'{builder}: {argument} is {value!r}, expected {expected}')


def is_count(value):
    """Whether `value` is an integer of at least 1."""
    return isinstance(value, numbers.Integral) and value >= 1


def require_number(where, argument, value, least=None, above=None, most=None, whole=False,
                   hint='', below=None):
    """Raises UserError '<where>.<argument> = <value>: expected …' unless it is such a number.

    Infinity is none.

    Args:
      where, argument: what the setting is called in gin.
      value: what was given; True and False are no numbers here.
      least, above, most, below: bounds, or None.
      whole: only whole numbers will do.
      hint: what is added, in brackets.
    """
    kind = numbers.Integral if whole else numbers.Real
    good = isinstance(value, kind) and not isinstance(value, bool) and _is_finite(value)
    bounds = []
    for bound, words, holds in ((least, 'of at least', lambda: value >= least),
                                (above, 'above', lambda: value > above),
                                (most, 'at most', lambda: value <= most),
                                (below, 'below', lambda: value < below)):
        if bound is not None:
            bounds.append(f'{words} {bound}')
            good = good and holds()
    if not good:
        text = ' '.join(['a whole number' if whole else 'a number', ' and '.join(bounds)]).strip()
        raise UserError(f'{where}.{argument} = {value!r}: expected {text}'
                        + (f' ({hint})' if hint else ''))


def require_path(where, argument, value):
    """Raises UserError unless `value` is None or can be the path of a file or folder."""
    if value is not None and not isinstance(value, (str, os.PathLike)):
        raise UserError(f"{where}.{argument} = {value!r}: expected a path in quotes, as 'runs/a'")


def _is_finite(value):
    """Whether a number is one that computers count in: Python's integers go on for ever."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def require_flag(where, argument, value):
    """Raises UserError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise UserError(f'{where}.{argument} = {value!r}: expected True or False')


def require_classes(builder, num_classes):
    """Raises UserError unless `num_classes` is an integer of at least 1."""
    require(builder, is_count(num_classes), 'num_classes', num_classes, 'an integer of at least 1')


def require_rates(builder, atrous_rates):
    """Raises UserError unless `atrous_rates` is a sequence of integers of at least 1."""
    require(builder, isinstance(atrous_rates, (list, tuple)) and all(map(is_count, atrous_rates)),
            'atrous_rates', atrous_rates, 'integers of at least 1, such as (6, 12, 18)')


def require_dropout(builder, dropout_rate):
    """Raises UserError unless 0 <= dropout_rate < 1."""
    require(builder, isinstance(dropout_rate, numbers.Real) and 0.0 <= dropout_rate < 1.0,
            'dropout_rate', dropout_rate, '0 <= rate < 1')


def as_grid(builder, multi_grid, units):
    """The factors of the rates in a backbone's last block, one for each unit; None is all ones.

    Returns:
      tuple of `units` ints.

    Raises:
      UserError: anything but `units` integers of at least 1, or None.
    """
    good = multi_grid is None or (isinstance(multi_grid, (list, tuple)) and
                                  len(multi_grid) == units and all(map(is_count, multi_grid)))
    example = ', '.join(str(2 ** unit) for unit in range(units))
    require(builder, good, 'multi_grid', multi_grid,
            f'{units} integers of at least 1, one for each unit of the last block, such as '
            f'({example}), or None')
    return (1,) * units if multi_grid is None else tuple(multi_grid)


def as_pair(builder, crop_size):
    """(height, width) in pixels from an int, a pair or None; None stays None.

    Raises:
      UserError: anything else.
    """
    if isinstance(crop_size, numbers.Integral):
        crop_size = (crop_size, crop_size)
    require(builder, crop_size is None or (isinstance(crop_size, (list, tuple)) and
                                           len(crop_size) == 2 and all(map(is_count, crop_size))),
            'crop_size', crop_size, 'a number of pixels, (height, width) or None')
    return None if crop_size is None else tuple(crop_size)
