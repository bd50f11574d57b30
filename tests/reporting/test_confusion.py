"""The confusion matrix as an image."""
import io

import numpy as np
import pytest
from PIL import Image

from tf_advseg.reporting import confusion, curves

MATRIX = np.array([[6, 2, 0], [0, 0, 0], [3, 0, 1]])
NAMES = ('sky', 'sea', 'sand')


def test_rows_are_shares_of_the_truth():
    np.testing.assert_allclose(confusion.shares(MATRIX)[[0, 2]], [[0.75, 0.25, 0], [0.75, 0, 0.25]])
    assert np.isnan(confusion.shares(MATRIX)[1]).all()


def test_numbers_and_names_stand_in_it():
    axes = confusion.confusion_figure(MATRIX, NAMES, 'a title').axes[0]
    numbers = {(text.get_position()): text.get_text() for text in axes.texts}
    assert numbers == {(0, 0): '75', (1, 0): '25', (0, 2): '75', (2, 2): '25'}
    assert [t.get_text() for t in axes.get_yticklabels()] == list(NAMES)
    assert axes.get_title() == 'a title'


def test_predictions_of_no_class_have_a_column():
    wide = np.concatenate([MATRIX, [[2], [0], [0]]], axis=1)
    axes = confusion.confusion_figure(wide, NAMES).axes[0]
    assert [t.get_text() for t in axes.get_xticklabels()] == [*NAMES, 'no class']
    assert (3, 0) in {text.get_position() for text in axes.texts}


def test_many_classes_lose_numbers_and_then_names_but_stay_an_image():
    for count, named in ((24, True), (40, True), (150, False)):
        figure = confusion.confusion_figure(np.eye(count, dtype=int), [f'c{i}' for i in
                                                                       range(count)])
        axes = figure.axes[0]
        assert bool(axes.texts) == (count == 24)
        assert ('c1' in [t.get_text() for t in axes.get_yticklabels()]) == named
        size = Image.open(io.BytesIO(curves.encode(figure))).size
        assert max(size) < 1600


def test_names_must_be_as_many_as_classes():
    with pytest.raises(ValueError, match='2 names for a confusion matrix of 3'):
        confusion.confusion_figure(MATRIX, NAMES[:2])
