"""What is read off a range test, on curves that are known in closed form."""
import numpy as np
import pytest

from tf_advseg.reporting import curves, rate_curve, tables


def rates(steps=81, least=1e-6, most=1e2):
    """Ten a decade."""
    return least * (most / least) ** (np.arange(steps) / (steps - 1))


def read(losses, found=None):
    """The curve of a test that ended with the first loss that had diverged."""
    found = rates(len(losses)) if found is None else found
    for steps in range(1, len(losses) + 1):
        if rate_curve.has_diverged(losses[:steps]):
            return rate_curve.RateCurve(found[:steps], np.array(losses[:steps]), True)
    return rate_curve.RateCurve(found[:len(losses)], np.array(losses), False)


def test_the_steepest_descent_of_a_sigmoid_is_its_middle():
    at = rates()
    curve = read(2.0 - 1.5 / (1.0 + (1e-3 / at) ** 2), at)
    assert curve.steepest == pytest.approx(1e-3, rel=0.15)  # ten steps a decade
    assert curve.divergent is None and curve.lowest > 1e-1


def test_a_descent_on_a_parabola_diverges_where_its_curvature_says():
    """w <- w (1 - 10 r): the loss falls up to r = 0.2 and grows beyond, from nearly nothing."""
    at, weight, losses = rates(161), 1.0, []
    for rate in at:
        losses.append(0.5 * 10.0 * weight ** 2 + 0.01)
        weight *= 1.0 - rate * 10.0
    curve = read(losses, at)
    assert 0.2 < curve.divergent < 10.0
    assert 1e-3 < curve.steepest < 0.2


def test_a_loss_that_is_no_number_ends_it_and_spoils_nothing():
    losses = [3.0, 2.9, 2.5, 1.5, 1.0, 0.9, float('nan')]
    curve = read(losses)
    assert curve.divergent == curve.rates[-1] and len(curve.losses) == 7
    assert curve.lowest == curve.rates[5] and curve.steepest == curve.rates[3]
    many = read([3.0] * 50 + [2.0] * 48 + [float('inf')])
    assert np.isfinite(many.smoothed[:-1]).all() and many.smoothed[-2] == 2.0


def test_one_bad_batch_is_no_divergence():
    losses = [2.0] * 20 + [9.0] + [1.0] * 20
    assert not read(losses).diverged
    assert read([2.0] * 20 + [30.0] * 3).diverged


def test_a_loss_that_never_falls_suggests_nothing():
    curve = read(list(np.linspace(1.0, 3.0, 30)))
    assert curve.steepest is None
    assert 'none: the loss never fell' in tables.to_text(rate_curve.table(curve, 1e-3))


@pytest.mark.parametrize('losses', [[3.0, 2.0, 1.0, 0.5] * 5, [1.0] * 5 + [float('nan')],
                                    list(np.linspace(1.0, 3.0, 30))])
@pytest.mark.parametrize('configured', [1e-4, 0.0, 1e6])
def test_every_curve_has_a_table_and_a_chart(losses, configured):
    curve = read(losses)
    assert len(rate_curve.table(curve, configured).rows) == 4
    assert curves.encode(rate_curve.figure(curve, configured))[:4] == b'\x89PNG'
