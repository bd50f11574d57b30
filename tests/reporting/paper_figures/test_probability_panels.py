"""Probability panels: grey is probability, a column a class, a row a model, maps below."""
import io

import numpy as np
import pytest
from PIL import Image

from tf_advseg.models import resize
from tf_advseg.reporting import panels
from tf_advseg.reporting.paper_figures import probability_panels

PALETTE = [(200, 20, 20), (20, 200, 20), (20, 20, 200)]
NAMES = ['sky', 'tree', 'road']
IMAGE = np.full((30, 40, 3), 120, np.uint8)
TRUTH = np.zeros((30, 40), np.uint8)


def _flat(*values, size=(30, 40)):
    return np.broadcast_to(np.array(values, float), (*size, len(values)))


def _cells(panel, grey, least=2000):
    """How many large flat areas of one grey a panel has."""
    from scipy import ndimage
    numbered, _ = ndimage.label((panel == grey).all(-1))
    return int((np.bincount(numbered.ravel())[1:] >= least).sum())


def test_grey_is_probability_a_row_a_model():
    panel = probability_panels.probability_panel(
        IMAGE, TRUTH, {'standard': _flat(0.6, 0.4, 0.0), 'Luc': _flat(0.2, 0.8, 0.0)}, PALETTE,
        NAMES)
    assert panel.dtype == np.uint8 and panel.shape[1:] == (1040, 3)
    assert [_cells(panel, grey) for grey in (153, 102, 51, 204)] == [1, 1, 1, 1]
    assert _cells(panel, 0) == 2
    rows = {grey: np.nonzero((panel == grey).all(-1).sum(1) > 100)[0] for grey in (153, 204)}
    assert rows[153].max() < rows[204].min()            # the first model is above


def test_the_last_row_superimposes_what_is_largest():
    truth = TRUTH.copy()
    truth[:15] = panels.IGNORE
    panel = probability_panels.probability_panel(
        IMAGE, truth, {'standard': _flat(0.6, 0.4, 0.0), 'Luc': _flat(0.2, 0.8, 0.0)}, PALETTE,
        NAMES, alpha=0.5)
    over = [panels.overlay(IMAGE[:1, :1], np.full((1, 1), number), PALETTE, 0.5)[0, 0]
            for number in range(3)]
    # Class 0 in half the truth and in the first model, class 1 in the second, class 2 nowhere.
    assert [_cells(panel, colour) for colour in over] == [2, 1, 0]
    assert _cells(panel, 120) == 2                      # the image, the truth's unlabelled half


def test_more_classes_than_a_row_holds_go_on_below():
    probabilities = {'a': _flat(*[0.2] * 5)}
    palette = PALETTE + [(9, 9, 9), (99, 99, 99)]
    names = [*NAMES, 'x', 'y']

    def height(**options):
        return probability_panels.probability_panel(IMAGE, None, probabilities, palette, names,
                                                    **options).shape[0]
    assert height(classes=range(5), per_row=2) > height(classes=range(4), per_row=2)
    assert height(classes=range(4), per_row=2) == height(classes=range(3), per_row=2)
    shown = probability_panels.shown_classes
    truth = np.array([[0, 255, 7]])
    assert shown(truth, [np.array([[3, 0]])], 21) == [0, 3, 7]
    assert shown(None, [np.array([[3, 0]])], 21) == [0, 3]
    assert shown(truth, [], 8) == list(range(8)) and shown(truth, [], 8, [2, 1]) == [2, 1]


def test_maps_are_enlarged_as_the_package_does():
    values = np.random.default_rng(0).random((4, 6, 3)).astype(np.float32)
    for size in ((25, 41), (4, 6), (7, 6), (2, 3)):
        expected = resize.resize_bilinear(values[None], size)[0].numpy()
        np.testing.assert_allclose(probability_panels.corner_resized(values, size), expected,
                                   atol=1e-6)
    one = probability_panels.corner_resized(values[:1, :1], (3, 5))
    assert np.array_equal(one, np.broadcast_to(values[:1, :1], (3, 5, 3)))


def test_small_maps_and_tall_images_are_drawn():
    tall = np.full((200, 20, 3), 120, np.uint8)
    panel = probability_panels.probability_panel(
        tall, None, {'a name far too long for any margin of a panel': _flat(1, 0, 0, size=(3, 2))},
        PALETTE, NAMES)
    assert panel.shape[0] < panel.shape[1]
    Image.open(io.BytesIO(panels.encode_png(panel))).verify()


@pytest.mark.parametrize('change, words', [
    ({'probabilities': {}}, '0 models'),
    ({'image': TRUTH}, 'image of shape'),
    ({'probabilities': {'Luc': _flat(0.5, 0.5)}}, r'Luc have shape \(30, 40, 2\)'),
    ({'probabilities': {'Luc': _flat(3.0, -1.0, 0.0)}}, 'are they logits'),
    ({'probabilities': {'Luc': _flat(np.nan, 0.0, 0.0)}}, 'are they logits'),
    ({'truth': TRUTH + 7}, 'no colour'),
    ({'truth': TRUTH[:5]}, 'shape'),
    ({'classes': [0, 3]}, 'ids from 0 to 2'),
    ({'classes': []}, 'ids from 0 to 2')])
def test_what_is_no_panel_is_refused(change, words):
    given = {'image': IMAGE, 'truth': TRUTH, 'probabilities': {'Luc': _flat(0.2, 0.8, 0.0)},
             'palette': PALETTE, 'class_names': NAMES, **change}
    with pytest.raises(ValueError, match=words):
        probability_panels.probability_panel(**given)
