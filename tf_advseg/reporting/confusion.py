"""A confusion matrix as a chart: what a class is taken for."""
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from tf_advseg.reporting import curves

_NUMBERS_UP_TO = 24     # classes whose cells still have room for a number
_NAMES_UP_TO = 60
_SHADES = LinearSegmentedColormap.from_list('shares', ['#ffffff', '#2f6db5', '#12305a'])


def shares(matrix):
    """Rows as shares of their sum: float64 of the matrix' shape, nan where a class is absent."""
    matrix = np.asarray(matrix, np.float64)
    total = matrix.sum(axis=1, keepdims=True)
    return np.divide(matrix, total, out=np.full(matrix.shape, np.nan), where=total > 0)


def confusion_figure(matrix, class_names, title=''):
    """What the pixels of each class were predicted as, in percent of the class's pixels.

    Args:
      matrix: int [C, C], row = truth; or [C, C+1], whose last column is predictions of no class.
      class_names: C strings.
      title: over the image.

    Returns:
      A matplotlib Figure. Rows of classes without a pixel are grey. Up to 24 classes have numbers
      in their cells (of half a percent and more), up to 60 their names.
    """
    matrix = np.asarray(matrix)
    count, columns = matrix.shape
    if count != len(class_names):
        raise ValueError(f'{len(class_names)} names for a confusion matrix of {count} classes')
    names = [*map(str, class_names), *['no class'] * (columns - count)]
    percent = 100.0 * shares(matrix)
    cell = 0.46 if count <= _NUMBERS_UP_TO else 0.2 if count <= _NAMES_UP_TO else 0.06
    longest = 0.085 * max(map(len, names))
    side = max(2.6, cell * count)
    figure, axes = curves.new_figure(side + longest + 1.6, side + longest + 1.1)
    axes.grid(False)
    axes.set_facecolor('#d5d8dc')
    image = axes.imshow(np.ma.masked_invalid(percent), cmap=_SHADES, vmin=0, vmax=100,
                        interpolation='nearest')
    if count <= _NAMES_UP_TO:
        size = 9 if count <= _NUMBERS_UP_TO else 7
        axes.set_xticks(range(columns), names, rotation=90, fontsize=size)
        axes.set_yticks(range(count), names[:count], fontsize=size)
    axes.tick_params(length=0)
    axes.set_xlabel('predicted')
    axes.set_ylabel('truth')
    if count <= _NUMBERS_UP_TO:
        _write_numbers(axes, percent)
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    bar.set_label('% of the class\'s pixels', fontsize=9)
    bar.ax.tick_params(labelsize=8)
    if title:
        axes.set_title(title, fontsize=11)
    return figure


def _write_numbers(axes, percent):
    """Whole percentages into the cells that have half a percent or more."""
    for row, column in zip(*np.nonzero(np.nan_to_num(percent) >= 0.5)):
        value = percent[row, column]
        axes.text(column, row, f'{value:.0f}', ha='center', va='center', fontsize=8,
                  color='white' if value > 45 else '#1d2126')
