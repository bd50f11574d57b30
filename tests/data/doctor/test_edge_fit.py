"""Labels of the right image, of another one and mirrored ones are told apart."""
import numpy as np
import pytest

from tf_advseg.data.doctor import edge_fit
from tf_advseg.data.readers import make_reader
from tf_advseg.data.spec import IGNORE_LABEL


@pytest.fixture(scope='module')
def pairs():
    """Twelve generated scenes of one size."""
    reader = make_reader('shapes', None, num_train=12, num_val=1, num_test=0, size=(120, 160),
                         smallest=(120, 160))
    return [reader.load(image_id) for image_id in reader.splits()['train']]


def fits_of(images, labels):
    return [edge_fit.edge_fit(image, np.ascontiguousarray(label))
            for image, label in zip(images, labels)]


def test_labels_of_the_right_image_fit_and_others_do_not(pairs):
    images, labels = zip(*pairs)
    right, wrong = fits_of(images, labels), fits_of(images, labels[1:] + labels[:1])
    assert not any(fit.misses for fit in right)
    assert sum(fit.misses for fit in wrong) >= len(wrong) // 2
    assert np.median([f.surplus for f in wrong]) < 0.5 < np.median([f.surplus for f in right]) - 1


@pytest.mark.parametrize('number, back', [
    (0, lambda label: label[:, ::-1]), (1, lambda label: label[::-1]),
    (2, lambda label: label[::-1, ::-1])])
def test_the_right_way_round_is_found(pairs, number, back):
    images, labels = zip(*pairs)
    fits = fits_of(images, [back(label) for label in labels])
    for fit, right in zip(fits, fits_of(images, labels)):
        assert fit.arranged[number] == pytest.approx(right.own)
    assert np.argmax(np.median([fit.arranged for fit in fits], axis=0)) == number


def test_large_images_give_what_small_ones_do(pairs):
    for image, label in pairs[:3]:
        small = edge_fit.edge_fit(image, label)
        large = edge_fit.edge_fit(np.kron(image, np.ones((6, 6, 1), np.uint8)),
                                  np.kron(label, np.ones((6, 6), np.uint8)))
        assert large.own == pytest.approx(small.own, abs=0.05)


def test_a_plain_image_is_all_chance():
    label = np.kron(np.arange(16).reshape(4, 4), np.ones((20, 20), int)).astype(np.uint8)
    fit = edge_fit.edge_fit(np.full((80, 80, 3), 7, np.uint8), label)
    assert fit.own == pytest.approx(fit.chance) and fit.surplus == pytest.approx(0, abs=1e-3)
    assert fit.misses


@pytest.mark.parametrize('size', [(80, 80), (1, 300), (3, 2)])
def test_without_borders_nothing_is_said(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    assert edge_fit.edge_fit(image, np.zeros(size, np.uint8)) is None
    half = np.zeros(size, np.uint8)
    half[:, size[1] // 2:] = IGNORE_LABEL
    assert edge_fit.edge_fit(image, half) is None
